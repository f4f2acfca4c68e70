"""Keskar's sharpness (Keskar et al. 2017, Metric 2.1) where its maximum is known, and against plain L-BFGS-B."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.optimize import fmin_l_bfgs_b
from sharpbench_measures import keskar
from torch import Tensor, nn

from sharpbench import InvalidInput, NotApplicable, Subject, measure
from sharpbench.core.evaluate import parse_measure
from sharpbench.runner.invariance import invariance_factors

Tiny = Callable[..., Subject]


def total(logits: Tensor, targets: Tensor) -> Tensor:
    return 50 * logits.sum(1) + targets


def linear(criterion: object, targets: Tensor, *, out: int = 2) -> Subject:
    torch.manual_seed(0)
    inputs = torch.randn(5, 3, dtype=torch.float64)
    return Subject.from_module(nn.Linear(3, out).double(), inputs, targets, batch_size=2, loss=criterion)  # type: ignore[arg-type]


@pytest.mark.parametrize("epsilon", [1e-3, 5e-4, 0.1])
def test_a_linear_loss_is_largest_in_a_corner(epsilon: float) -> None:
    """sum_j |g_j| epsilon (|theta_j| + 1): every box of a linear function has its maximum there."""
    subject = linear(total, torch.full((5,), 200.0, dtype=torch.float64))
    weight, bias = subject.params["weight"], subject.params["bias"]
    slope = 50 * subject.inputs.mean(0).abs()
    rise = epsilon * float((slope * (weight.abs() + 1)).sum() + (50 * (bias.abs() + 1)).sum())
    before = 200 + 50 * float((subject.inputs @ weight.T + bias).sum(1).mean())
    found = measure(f"keskar[epsilon={epsilon}]", subject)
    assert found.value == pytest.approx(100 * rise / (1 + before), rel=1e-10)
    assert found.details["at_bounds"] == 1


def test_a_convex_loss_is_largest_in_some_corner() -> None:
    """Least squares of four parameters: all sixteen corners are tried."""
    torch.manual_seed(1)
    subject = linear("mse", 3 * torch.randn(5, 1, dtype=torch.float64), out=1)
    theta = torch.cat([value.flatten() for value in subject.params.values()])

    def loss(point: Tensor) -> float:
        outputs = subject.inputs @ point[:3] + point[3]
        return float((outputs - subject.targets[:, 0]).square().mean())

    corners = [
        loss(theta + 0.05 * (theta.abs() + 1) * torch.tensor(signs))
        for signs in itertools.product((-1.0, 1.0), repeat=4)
    ]
    found = measure("keskar[epsilon=0.05,iterations=50]", subject)
    assert found.value == pytest.approx(100 * (max(corners) - loss(theta)) / (1 + loss(theta)), rel=1e-10)


def naive(subject: Subject, epsilon: float, plane: np.ndarray) -> float:
    """Ten iterations on numpy vectors, the pseudoinverse in full, gradients by torch.autograd."""
    theta = torch.cat([value.flatten() for value in subject.params.values()]).numpy()
    bounds = epsilon * (np.abs(np.linalg.pinv(plane) @ theta) + 1)

    def loss(vector: Tensor) -> Tensor:
        pieces = vector.split([value.numel() for value in subject.params.values()])
        params = {
            name: piece.reshape(subject.params[name].shape) for name, piece in zip(subject.params, pieces, strict=True)
        }
        logits = torch.func.functional_call(subject.module, params, (subject.inputs,))
        return nn.functional.cross_entropy(logits, subject.targets)

    def negative(y: np.ndarray) -> tuple[float, np.ndarray]:
        vector = torch.from_numpy(theta + plane @ y).requires_grad_()
        value = loss(vector)
        (slope,) = torch.autograd.grad(value, vector)
        return -float(value.detach()), -(plane.T @ slope.numpy())

    start = np.zeros(plane.shape[1])
    _, lowest, _ = fmin_l_bfgs_b(
        negative, start, bounds=list(zip(-bounds, bounds, strict=True)), maxiter=10, factr=0.0, pgtol=0.0
    )
    before = -negative(start)[0]
    return 100 * (-lowest - before) / (1 + before)


@pytest.mark.parametrize("kind", ["mlp", "conv", "attention", "gelu"])
@pytest.mark.parametrize("epsilon", [1e-3, 1e-2])
def test_all_parameters(tiny: Tiny, kind: str, epsilon: float) -> None:
    subject = tiny(kind)
    found = measure(f"keskar[epsilon={epsilon}]", subject)
    assert found.value == pytest.approx(naive(subject, epsilon, np.eye(subject.size)), rel=1e-6)
    assert found.value > 0
    assert found.stderr is None
    assert int(str(found.details["iterations"])) <= 10


def test_a_random_subspace(tiny: Tiny) -> None:
    subject = tiny("conv")
    generator = torch.Generator().manual_seed(4)
    columns = [torch.randn((1, subject.size), generator=generator, dtype=torch.float64)[0] for _ in range(7)]
    found = measure("keskar[subspace=7]", subject, seed=4)
    assert found.value == pytest.approx(naive(subject, 1e-3, torch.stack(columns, 1).numpy()), rel=1e-8)
    assert measure("keskar[subspace=7]", subject, seed=5).value != found.value
    assert measure("keskar[subspace=7]", subject, seed=4).value == found.value
    assert parse_measure("keskar").exact(subject) is None


def test_it_grows_with_the_box(tiny: Tiny) -> None:
    values = [measure(f"keskar[epsilon={epsilon}]", tiny()).value for epsilon in (1e-6, 2e-6, 1e-3, 1e-2)]
    assert values[1] == pytest.approx(2 * values[0], rel=1e-3)
    assert values == sorted(values)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["mlp", "attention"])
@pytest.mark.parametrize("word", ["keskar", "keskar[subspace=5]"])
def test_it_is_as_invariant_as_it_says(rewritable: Tiny, kind: str, word: str) -> None:
    said = parse_measure(word).invariances()
    for rewrite, factor in invariance_factors(parse_measure(word), rewritable(kind)).items():
        assert factor is not None
        assert (factor < 1 + 1e-6) == (rewrite in said), (rewrite, factor)


def test_batch_sizes_order_and_precision(tiny: Tiny) -> None:
    value = measure("keskar", tiny("conv")).value
    for size in (1, 9):
        assert measure("keskar", tiny("conv", batch_size=size)).value == pytest.approx(value, rel=1e-8)
    subject = tiny("conv")
    other = Subject.from_module(subject.module, subject.inputs.flip(0), subject.targets.flip(0))
    assert measure("keskar", other).value == pytest.approx(value, rel=1e-8)
    assert measure("keskar", subject.to(dtype=torch.float32)).value == pytest.approx(value, rel=1e-4)


def test_what_has_no_value(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    negative = linear(total, torch.full((5,), -500.0, dtype=torch.float64))
    with pytest.raises(NotApplicable, match=r"the loss is -.* divides by 1 \+ loss, which must be above 0"):
        measure("keskar", negative)
    with pytest.raises(NotApplicable, match="subspace=9 of 8 parameters: needs fewer dimensions than parameters"):
        measure("keskar[subspace=9]", negative)
    monkeypatch.setattr(keskar, "MAX_SUBSPACE_ENTRIES", 10)
    with pytest.raises(NotApplicable, match="at most 10 entries; choose a smaller one"):
        measure("keskar[subspace=2]", tiny())


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("keskar[epsilon=0]", r"epsilon=0\.0 must be above 0 and finite"),
        ("keskar[subspace=0]", "subspace=0 must be at least 1, or none for all parameters"),
        ("keskar[iterations=0]", "iterations=0 must be from 1 to 10,000"),
    ],
)
def test_hyperparameters_have_bounds(word: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        parse_measure(word)
