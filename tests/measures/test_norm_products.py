"""Products of layers' norms against singular values taken one by one."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sharpbench import NotApplicable, Subject, measure
from sharpbench.core.evaluate import parse_measure

NAMES = ("spectral-product", "frobenius-product")


def by_definition(weights: list[Tensor]) -> dict[str, float]:
    singular = [np.linalg.svd(weight.reshape(len(weight), -1).numpy(), compute_uv=False) for weight in weights]
    return {
        "spectral-product": sum(2 * math.log(values[0]) for values in singular),
        "frobenius-product": sum(math.log((values**2).sum()) for values in singular),
    }


def test_of_a_perceptron(chain: Subject) -> None:
    truth = by_definition([chain.params[f"{place}.weight"] for place in (0, 2, 4)])
    for name in NAMES:
        estimate = measure(name, chain)
        assert estimate.value == pytest.approx(truth[name], rel=1e-10)
        assert parse_measure(name).exact(chain) == pytest.approx(truth[name], rel=1e-10)
        assert set(estimate.parts) == {"0.weight", "2.weight", "4.weight"}
        assert estimate.details["layers"] == 3


def test_batch_norms_are_folded(conv: Subject) -> None:
    norm = {**conv.params, **conv.constants}
    scale = norm["1.weight"] / (norm["1.running_var"] + 1e-5).sqrt()
    folded = conv.params["0.weight"] * scale[:, None, None, None]
    truth = by_definition([folded, conv.params["4.weight"], conv.params["7.weight"]])
    for name in NAMES:
        assert measure(name, conv).value == pytest.approx(truth[name], rel=1e-10)


def test_scale_laws(chain: Subject) -> None:
    """A factor on every weight adds its logarithm, twice, for each layer; biases do not count."""
    scaled = {name: value * (3 if name.endswith("weight") else 7) for name, value in chain.params.items()}
    for name in NAMES:
        difference = measure(name, chain.with_params(scaled)).value - measure(name, chain).value
        assert difference == pytest.approx(6 * math.log(3), rel=1e-12)


def test_frozen_layers_count(chain: Subject) -> None:
    head = Subject.from_module(chain.module, chain.inputs, chain.targets, parameters=["4.bias"])
    assert measure("spectral-product", head).value == measure("spectral-product", chain).value


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.layer(self.layer(x).relu())
        return logits


def test_a_layer_that_is_used_twice_counts_twice() -> None:
    subject = Subject.from_module(Twice().double(), torch.randn(3, 4, dtype=torch.float64), torch.arange(3))
    truth = by_definition([subject.params["layer.weight"]] * 2)
    for name in NAMES:
        estimate = measure(name, subject)
        assert estimate.value == pytest.approx(truth[name], rel=1e-12)
        assert estimate.parts == {"layer.weight": pytest.approx(truth[name], rel=1e-12)}


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inside, self.head = nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(x + self.inside(x).relu())
        return logits


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (Residual(), r"two branches meet in aten\.add\.Tensor"),
        (nn.Sequential(nn.Linear(4, 4), nn.GELU(), nn.Linear(4, 3)), r"aten\.gelu\.default is neither a layer nor"),
        (nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.BatchNorm1d(4), nn.Linear(4, 3)), "a batch norm follows no"),
    ],
)
def test_what_is_no_chain_is_refused(module: nn.Module, message: str) -> None:
    subject = Subject.from_module(module, torch.randn(3, 4), torch.arange(3))
    for name in NAMES:
        with pytest.raises(NotApplicable, match=f"no product over layers: {message}"):
            measure(name, subject)


def test_a_layer_of_zeros_has_no_logarithm(chain: Subject) -> None:
    zero = chain.with_params({**chain.params, "2.weight": torch.zeros(4, 6, dtype=torch.float64)})
    for name in NAMES:
        with pytest.raises(NotApplicable, match=r"2\.weight is 0: its norm has no logarithm"):
            measure(name, zero)


@pytest.mark.parametrize("name", NAMES)
def test_invariances(name: str, chain: Subject, conv: Subject, invariances_are_true) -> None:  # type: ignore[no-untyped-def]
    invariances_are_true(parse_measure(name), chain, conv)


@pytest.mark.parametrize("name", NAMES)
def test_examples_do_not_matter(name: str, conv: Subject, examples_do_not_matter) -> None:  # type: ignore[no-untyped-def]
    examples_do_not_matter(parse_measure(name), conv)
