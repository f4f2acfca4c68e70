"""What has no finite value, or none at all, is not applicable, and its oracle has none."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import nn

from sharpbench import Measure, NotApplicable, Subject, measure
from sharpbench.core.evaluate import parse_measure

Tiny = Callable[..., Subject]


@pytest.mark.parametrize(
    "word",
    [
        "sam[rho=1e300]",
        "sam[rho=1e300,steps=3]",
        "asam[eta=1e300]",
        "adaptive[rho=1e300]",
        "adaptive[case=average,rho=1e200]",
        "adaptive[case=average-closed,rho=1e200]",
        "average[sigma=1e300]",
        "average[sigma=1e60]",
        "keskar[epsilon=1e300]",
    ],
)
def test_radii_that_lead_beyond_all_numbers(word: str, tiny: Tiny) -> None:
    with pytest.raises(NotApplicable, match="at the displaced weights; choose a smaller displacement"):
        measure(word, tiny())


def test_paths_beyond_all_numbers(chain: Subject) -> None:
    large = chain.with_params({name: value * 1e100 for name, value in chain.params.items()})
    with pytest.raises(NotApplicable, match="the sum over paths is inf: the weights are too large"):
        measure("path-norm", large)


@pytest.mark.parametrize("outputs", [1, 2])
@pytest.mark.parametrize("case", ["worst", "average", "average-closed"])
def test_normalised_logits_of_two_outputs_are_constant(case: str, outputs: int) -> None:
    torch.manual_seed(0)
    x = torch.randn(6, 4, dtype=torch.float64)
    module = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, outputs)).double()
    subject = Subject.from_module(module, x, torch.randn(6, outputs, dtype=torch.float64), loss="mse")
    chosen = parse_measure(f"adaptive[case={case},logits=normalised]")
    with pytest.raises(NotApplicable, match=f"normalised logits of {outputs} outputs are constant but for their sign"):
        measure(chosen, subject)
    assert chosen.exact(subject) is None


def without_values(chain: Subject) -> list[tuple[Measure, Subject]]:
    """Measures, and subjects that have none."""
    zero = chain.with_params({name: 0 * value for name, value in chain.params.items()})
    flat = Subject.from_module(chain.module, chain.inputs, chain.targets, loss=lambda f, y: 0 * f.sum(1))
    single = Subject.from_module(
        nn.Linear(2, 1).double(), torch.ones(3, 2, dtype=torch.float64), torch.zeros(3, dtype=torch.int64)
    )
    products = [(parse_measure(name), zero) for name in ("spectral-product", "frobenius-product")]
    return [*products, (parse_measure("spectral-density"), flat), (parse_measure("margin"), single)]


def test_oracles_of_what_has_no_value(chain: Subject) -> None:
    for chosen, subject in without_values(chain):
        with pytest.raises(NotApplicable):
            measure(chosen, subject)
        assert chosen.exact(subject) is None


def test_oracles_have_the_logarithm_otherwise(chain: Subject) -> None:
    for name in ("spectral-product", "frobenius-product"):
        assert math.isfinite(parse_measure(name).exact(chain) or math.nan)
