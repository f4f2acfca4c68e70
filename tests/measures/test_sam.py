"""SAM sharpness (Foret et al. 2021) against its formula, its limits, and its dependence on micro-batches."""

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
KINDS = ["mlp", "conv", "attention", "gelu"]


def naive(subject: Subject, rho: float, size: int) -> float:
    """mean over micro-batches of L_M(theta + rho g / |g|) - L_M(theta), by torch.autograd on whole micro-batches."""
    total, count = 0.0, len(subject.inputs)
    for start in range(0, count, size):
        x, y = subject.inputs[start : start + size], subject.targets[start : start + size]
        params = {name: value.clone().requires_grad_() for name, value in subject.params.items()}
        loss = nn.functional.cross_entropy(torch.func.functional_call(subject.module, params, (x,)), y)
        loss.backward()
        norm = torch.cat([value.grad.flatten() for value in params.values() if value.grad is not None]).norm()
        moved = {name: (value + rho * value.grad / norm).detach() for name, value in params.items()}
        after = nn.functional.cross_entropy(torch.func.functional_call(subject.module, moved, (x,)), y)
        total += float(after - loss.detach()) * len(x) / count
    return total


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [None, 1, 4, 9])
def test_one_step_is_the_formula(tiny: Tiny, kind: str, size: int | None) -> None:
    subject = tiny(kind)
    word = f"sam[rho=0.3,micro_batch={str(size).lower()}]"
    wanted = naive(subject, 0.3, size or 9)
    assert measure(word, subject).value == pytest.approx(wanted, rel=1e-11)
    assert parse_measure(word).exact(subject) == pytest.approx(wanted, rel=1e-11)
    assert measure(word, subject).details["groups"] == -(-9 // (size or 9))


def test_small_balls_see_the_gradient(tiny: Tiny) -> None:
    subject = tiny()
    slope = torch.func.grad(subject.loss)(subject.params)
    norm = float(torch.cat([value.flatten() for value in slope.values()]).norm())
    for steps in (1, 20):
        assert measure(f"sam[rho=1e-6,steps={steps}]", subject).value == pytest.approx(1e-6 * norm, rel=1e-4)


def test_small_balls_see_the_largest_curvature_at_a_minimum() -> None:
    """(rho^2 / 2) lambda_max for least squares at its solution, where the gradient is 0 up to rounding."""
    torch.manual_seed(0)
    inputs = torch.randn(20, 3, dtype=torch.float64)
    targets = torch.randn(20, 2, dtype=torch.float64)
    extended = torch.cat((inputs, torch.ones(20, 1, dtype=torch.float64)), 1)
    solved = torch.linalg.lstsq(extended, targets).solution
    subject = Subject.from_module(nn.Linear(3, 2).double(), inputs, targets, loss="mse")
    slightly = solved + 1e-9 * torch.randn(4, 2, dtype=torch.float64)
    at = subject.with_params({"weight": slightly[:3].T.contiguous(), "bias": slightly[3]})
    top = float(torch.linalg.eigvalsh(dense_hessian(at))[-1])
    assert measure("sam[rho=0.1,steps=200]", at).value == pytest.approx(0.1**2 / 2 * top, rel=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_more_steps_find_at_least_as_much_as_random_points(tiny: Tiny, kind: str) -> None:
    """Never below 0, above one step here, and above 100 random points of the sphere."""
    subject = tiny(kind)
    found = measure("sam[rho=0.5,steps=20]", subject)
    assert found.value >= measure("sam[rho=0.5]", subject).value > 0
    assert found.stderr is None
    before = float(subject.loss(subject.params))
    for _ in range(100):
        noise = {name: torch.randn_like(value) for name, value in subject.params.items()}
        norm = torch.cat([value.flatten() for value in noise.values()]).norm()
        moved = {name: value + 0.5 * noise[name] / norm for name, value in subject.params.items()}
        assert float(subject.loss(moved)) - before < found.value
    assert parse_measure("sam[steps=2]").exact(subject) is None


def test_micro_batches_have_steps_of_their_own(tiny: Tiny) -> None:
    """The maximum of a mean is at most the mean of the maxima; each is that of only its micro-batch."""
    subject = tiny(n=8)
    whole = measure("sam[rho=0.2,steps=30]", subject).value
    parts = measure("sam[rho=0.2,steps=30,micro_batch=4]", subject).value
    halves = [
        measure("sam[rho=0.2,steps=30]", Subject.from_module(subject.module, x, y)).value
        for x, y in zip(subject.inputs.split(4), subject.targets.split(4), strict=True)
    ]
    assert parts == pytest.approx(sum(halves) / 2, rel=1e-12)
    assert parts > whole


@pytest.mark.parametrize("word", ["sam", "sam[steps=10]", "sam[micro_batch=4]", "sam[micro_batch=4,steps=5]"])
def test_batch_sizes_do_not_enter(tiny: Tiny, word: str) -> None:
    values = [measure(word, tiny("conv", batch_size=size)).value for size in (2, 4, 9)]
    assert values == pytest.approx([values[0]] * 3, rel=1e-9)


@pytest.mark.parametrize("word", ["sam", "sam[steps=5]"])
def test_the_order_of_the_examples_enters_micro_batches_alone(tiny: Tiny, word: str) -> None:
    subject = tiny()
    other = Subject.from_module(subject.module, subject.inputs.flip(0), subject.targets.flip(0))
    assert measure(word, other).value == pytest.approx(measure(word, subject).value, rel=1e-9)
    grouped = word.replace("sam", "sam[micro_batch=4]") if "[" not in word else "sam[steps=5,micro_batch=4]"
    assert abs(measure(grouped, other).value / measure(grouped, subject).value - 1) > 1e-3
    assert parse_measure(word).depends == {"micro-batches"}


@pytest.mark.parametrize("kind", ["mlp", "attention"])
@pytest.mark.parametrize("word", ["sam", "sam[steps=5]"])
def test_it_is_as_invariant_as_it_says(rewritable: Tiny, kind: str, word: str) -> None:
    said = parse_measure(word).invariances()
    for rewrite, factor in invariance_factors(parse_measure(word), rewritable(kind)).items():
        assert factor is not None
        assert (factor < 1 + 1e-6) == (rewrite in said), (rewrite, factor)


def test_a_network_without_a_slope_has_no_step() -> None:
    subject = Subject.from_module(
        nn.Linear(3, 2, bias=False).double(), torch.zeros(4, 3, dtype=torch.float64), torch.tensor([0, 1, 1, 1])
    )
    for word in ("sam", "sam[steps=3]"):
        assert measure(word, subject).value == 0
    assert parse_measure("sam").exact(subject) == 0


def test_single_precision_agrees(tiny: Tiny) -> None:
    subject = tiny("conv")
    for word in ("sam", "sam[steps=10]"):
        single = measure(word, subject.to(dtype=torch.float32)).value
        assert single == pytest.approx(measure(word, subject).value, rel=1e-4)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("sam[rho=0]", r"rho=0\.0 must be above 0 and finite"),
        ("sam[rho=-1]", r"rho=-1\.0 must be above 0"),
        ("sam[steps=0]", "steps=0 must be from 1 to 10,000"),
        ("sam[steps=10001]", "steps=10001 must be from 1 to 10,000"),
        ("sam[micro_batch=0]", "micro_batch=0 must be at least 1, or none for all examples together"),
    ],
)
def test_hyperparameters_have_bounds(word: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        parse_measure(word)
