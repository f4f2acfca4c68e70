"""Average sharpness under Gaussian noise: unbiased, with error bars that cover, and (sigma^2 / 2) tr H in the limit."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from sharpbench import InvalidInput, Subject, measure
from sharpbench.core.evaluate import parse_measure
from sharpbench.curvature import dense_hessian
from sharpbench.runner.invariance import invariance_factors

Tiny = Callable[..., Subject]


def naive(subject: Subject, sigma: float, samples: int, seed: int) -> torch.Tensor:
    """(L(theta + sigma z) + L(theta - sigma z)) / 2 - L(theta) for each z, in loops over draws and examples."""
    generator = torch.Generator().manual_seed(seed)

    def loss(noise: torch.Tensor, factor: float) -> float:
        pieces = noise.split([value.numel() for value in subject.params.values()])
        params = {
            name: value + factor * piece.reshape(value.shape)
            for (name, value), piece in zip(subject.params.items(), pieces, strict=True)
        }
        losses = [
            nn.functional.cross_entropy(torch.func.functional_call(subject.module, params, (x[None],)), y[None])
            for x, y in zip(subject.inputs, subject.targets, strict=True)
        ]
        return float(sum(losses)) / len(losses)

    found = []
    for _ in range(samples):
        z = torch.randn((1, subject.size), generator=generator, dtype=torch.float64)[0]
        found.append((loss(z, sigma) + loss(z, -sigma)) / 2 - loss(z, 0.0))
    return torch.tensor(found, dtype=torch.float64)


@pytest.mark.parametrize("kind", ["mlp", "conv", "attention", "gelu"])
def test_it_is_the_mean_over_antithetic_pairs(tiny: Tiny, kind: str) -> None:
    subject = tiny(kind)
    draws = naive(subject, 0.2, 6, seed=3)
    found = measure("average[sigma=0.2,samples=6]", subject, seed=3)
    assert found.value == pytest.approx(float(draws.mean()), rel=1e-10)
    assert found.stderr == pytest.approx(float(draws.std()) / 6**0.5, rel=1e-10)
    assert found.probes == 6
    assert found.interval is None  # too few to state one
    assert parse_measure("average").exact(subject) is None


def test_its_intervals_cover(tiny: Tiny) -> None:
    """What 4,000 pairs say lies in the stated 95 % interval of 100 others of 20 pairs each in 93 % or so."""
    subject = tiny()
    truth = measure("average[sigma=0.3,samples=4000]", subject, seed=10**6)
    covered = 0
    for seed in range(100):
        found = measure("average[sigma=0.3,samples=20]", subject, seed=seed)
        assert found.interval is not None
        covered += found.interval[0] <= truth.value <= found.interval[1]
    assert covered >= 87  # of 100 at 93 %, less two and a half standard deviations


def test_small_noise_sees_the_trace(tiny: Tiny) -> None:
    subject = tiny("gelu")  # without kinks
    trace = float(dense_hessian(subject).trace())
    found = measure("average[sigma=1e-4,samples=3000]", subject)
    assert found.stderr is not None
    assert abs(found.value / (1e-8 / 2) - trace) < 4 * found.stderr / (1e-8 / 2)
    assert found.stderr / (1e-8 / 2) < 0.1 * trace


def test_least_squares_have_a_closed_form() -> None:
    """The mean over C outputs of E (sigma z . x)^2 = sigma^2 (|x|^2 + 1), wherever the weights are."""
    torch.manual_seed(0)
    inputs = torch.randn(10, 3, dtype=torch.float64)
    subject = Subject.from_module(nn.Linear(3, 2).double(), inputs, torch.randn(10, 2, dtype=torch.float64), loss="mse")
    truth = 0.5**2 * float((inputs.square().sum(1) + 1).mean())
    found = measure("average[sigma=0.5,samples=2000]", subject)
    assert found.stderr is not None
    assert abs(found.value - truth) < 4 * found.stderr < 0.2 * truth


def test_seeds_batch_sizes_and_order(tiny: Tiny) -> None:
    value = measure("average", tiny("conv"), seed=1).value
    assert measure("average", tiny("conv"), seed=1).value == value
    assert measure("average", tiny("conv"), seed=2).value != value
    for size in (1, 9):
        assert measure("average", tiny("conv", batch_size=size), seed=1).value == pytest.approx(value, rel=1e-9)
    subject = tiny("conv")
    other = Subject.from_module(subject.module, subject.inputs.flip(0), subject.targets.flip(0))
    assert measure("average", other, seed=1).value == pytest.approx(value, rel=1e-9)
    assert measure("average", subject.to(dtype=torch.float32), seed=1).value == pytest.approx(value, rel=1e-3)


@pytest.mark.parametrize("kind", ["mlp", "attention"])
def test_every_rewrite_is_seen(rewritable: Tiny, kind: str) -> None:
    assert parse_measure("average").invariances() == frozenset()
    for rewrite, factor in invariance_factors(parse_measure("average[sigma=0.1]"), rewritable(kind)).items():
        assert factor is None or factor > 1 + 1e-6, rewrite


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("average[sigma=0]", r"sigma=0\.0 must be above 0 and finite; it is a standard deviation"),
        ("average[samples=1]", "samples=1 must be at least 2"),
    ],
)
def test_hyperparameters_have_bounds(word: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        parse_measure(word)
