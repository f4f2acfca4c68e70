"""Standard errors over examples: against an explicit loop, against the spread of subsets, in parts and in batches."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import TypeVar, cast

import pytest
import torch
from scipy.stats import binom
from torch import Tensor, nn

from sharpbench import Subject, measure
from sharpbench.curvature import (
    dense_ggn,
    dense_hessian,
    exact_diagonal,
    exact_traces,
    example_stderr,
    flatten,
    gradient_traces_by_example,
    mean_traces,
    traces_by_example,
    weighted_traces_by_example,
)
from sharpbench.curvature.example_forms import forms_by_example, interaction
from sharpbench.curvature.trace_estimators import draw_signs, sampled_example_stderr

T = TypeVar("T")
CLASSES = 3


class Convolutions(nn.Module):
    """Grouped, transposed and plain convolutions, a norm's loose parameters, a linear layer; `activation` between."""

    def __init__(self, activation: nn.Module) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(2, 4, 3, groups=2), nn.ConvTranspose2d(4, 2, 2, groups=2)
        self.norm, self.head, self.activation = nn.GroupNorm(1, 2), nn.Linear(18, CLASSES), activation

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.activation(self.norm(self.two(self.activation(self.one(inputs)))))
        logits: Tensor = self.head(hidden.flatten(1))
        return logits


def chain(activation: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Linear(4, 5), activation, nn.Linear(5, CLASSES))


def subject_of(module: nn.Module, *shape: int, count: int = 7, batch: int = 3, squared: bool = False) -> Subject:
    generator = torch.Generator().manual_seed(2)
    inputs = torch.randn(count, *shape, generator=generator, dtype=torch.float64)
    labels = torch.randint(CLASSES, (count,), generator=generator)
    targets = torch.randn(count, CLASSES, generator=generator, dtype=torch.float64) if squared else labels
    criterion = "mse" if squared else "cross_entropy"
    return Subject.from_module(module.double(), inputs, targets, batch_size=batch, loss=criterion)


@cache
def built(name: str, **options: object) -> Subject:
    """Captured once; nothing changes it."""
    torch.manual_seed(0)
    modules: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
        "relu": (lambda: chain(nn.ReLU()), (4,)),
        "tanh": (lambda: chain(nn.Tanh()), (4,)),
        "convolutions": (lambda: Convolutions(nn.ReLU()), (2, 4, 4)),
        "smooth convolutions": (lambda: Convolutions(nn.GELU()), (2, 4, 4)),
    }
    build, shape = modules[name]
    return subject_of(build(), *shape, **options)  # type: ignore[arg-type]  # options by name


def each(subject: Subject) -> list[Subject]:
    """A subject for each example."""
    pairs = zip(subject.inputs.split(1), subject.targets.split(1), strict=True)
    return [replace(subject, inputs=example, targets=target, batch_size=1) for example, target in pairs]


def diagonals(subject: Subject, matrix: Callable[[Subject], Tensor]) -> Tensor:
    """The diagonals of the examples' dense matrices, [n, P]."""
    return torch.stack([matrix(alone).diagonal() for alone in each(subject)])


def stderr(values: Tensor) -> float:
    return float(values.std() / math.sqrt(len(values)))


@pytest.mark.parametrize("squared", [False, True])
@pytest.mark.parametrize("name", ["relu", "tanh", "convolutions"])
def test_traces_by_example_are_those_of_an_explicit_loop(name: str, squared: bool) -> None:
    subject = built(name, squared=squared)
    dense = diagonals(subject, dense_ggn)
    sizes = [value.numel() for value in subject.params.values()]
    expected = torch.stack([block.sum(1) for block in dense.split(sizes, 1)], 1)
    found = traces_by_example(subject)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-14)
    assert exact_traces(subject) == pytest.approx(mean_traces(subject, found), rel=1e-14)
    estimate = measure("ggn-trace", subject)
    assert estimate.stderr_examples == pytest.approx(stderr(dense.sum(1)), rel=1e-10)


@pytest.mark.parametrize("name", ["relu", "convolutions"])
def test_weighted_traces_by_example_are_those_of_an_explicit_loop(name: str) -> None:
    subject = built(name)
    weighted = diagonals(subject, dense_ggn) * flatten(subject.params).square()
    found = weighted_traces_by_example(subject, subject.params).sum(1)
    torch.testing.assert_close(found, weighted.sum(1), rtol=1e-10, atol=1e-14)
    closed = measure("adaptive[case=average-closed,rho=1]", subject)  # half of the Gauss-Newton matrix's
    assert closed.stderr_examples == pytest.approx(stderr(weighted.sum(1)) / 2, rel=1e-10)
    diagonal = flatten(exact_diagonal(subject))
    assert float(found.mean()) == pytest.approx(float(diagonal @ flatten(subject.params).square()), rel=1e-12)


def gradients(subject: Subject) -> Tensor:
    """Of each example's loss, [n, P]."""
    return torch.stack([flatten(torch.func.grad(alone.loss)(alone.params)) for alone in each(subject)])


@pytest.mark.parametrize("squared", [False, True])
def test_empirical_fisher_traces_by_example_are_those_of_an_explicit_loop(squared: bool) -> None:
    subject = built("convolutions", squared=squared)
    expected = gradients(subject).square().sum(1)
    torch.testing.assert_close(gradient_traces_by_example(subject).sum(1), expected, rtol=1e-10, atol=1e-14)
    found = measure("fisher-trace[fisher=empirical]", subject)
    assert found.stderr_examples == pytest.approx(stderr(expected), rel=1e-10)


def test_fisher_rao_by_example_is_that_of_an_explicit_loop() -> None:
    subject = built("tanh")
    theta = flatten(subject.params)
    expected = torch.stack([theta @ dense_ggn(alone) @ theta for alone in each(subject)])
    found, root = measure("fisher-rao", subject), measure("fisher-rao[root=true]", subject)
    assert found.stderr_examples == pytest.approx(stderr(expected), rel=1e-10)
    assert root.stderr_examples == pytest.approx(stderr(expected) / (2 * root.value), rel=1e-10)


def test_forms_by_example_are_those_of_an_explicit_loop() -> None:
    subject = built("smooth convolutions")
    vectors = draw_signs(torch.empty(subject.size, dtype=torch.float64), 5, torch.Generator().manual_seed(0))
    for kind, matrix in (("hessian", dense_hessian), ("gauss-newton", dense_ggn)):
        expected = torch.stack([((vectors @ matrix(alone)) * vectors).sum(1) for alone in each(subject)])
        found = forms_by_example(subject, vectors, kind)  # type: ignore[arg-type]  # one of the two
        assert found is not None
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


SPECS = ("trace", "ggn-trace", "fisher-trace", "fisher-rao", "adaptive-trace", "minimum", "average")


@pytest.mark.parametrize("spec", SPECS)
def test_batches_and_chunks_do_not_change_it(spec: str) -> None:
    subject = built("convolutions")
    found = [measure(spec, replace(subject, batch_size=size)).stderr_examples for size in (1, 3, 7)]
    assert found[0]
    assert found == pytest.approx([found[0]] * 3, rel=1e-9)


@dataclass
class Half:
    """One of two processes; what both would have is added up by calling the other's part."""

    rank: int
    parts: dict[int, Tensor]
    size: int = 2
    broken: bool = False

    def total(self, tree: T) -> T:
        self.parts[self.rank] = cast(Tensor, tree)
        return cast(T, torch.stack(list(self.parts.values())).sum(0))

    def finish(self) -> None: ...


@pytest.mark.parametrize("batch", [1, 2, 3])
def test_processes_divide_the_batches_and_have_all_values(batch: int) -> None:
    subject = built("tanh", batch=batch)

    def squares(inputs: Tensor, targets: Tensor) -> Tensor:
        return torch.stack((inputs.square().sum(1), targets.double()), 1)

    parts: dict[int, Tensor] = {}
    replace(subject, process_group=Half(0, parts)).by_example(squares)
    found = replace(subject, process_group=Half(1, parts)).by_example(squares)
    assert bool((parts[0] * parts[1] == 0).all())
    torch.testing.assert_close(found, squares(subject.inputs, subject.targets), rtol=0, atol=0)
    torch.testing.assert_close(subject.by_example(squares), found, rtol=0, atol=0)


def population(module: nn.Module, count: int) -> Subject:
    """Examples of two kinds, so that a subset is uncertain; labels that the network does not always give."""
    generator = torch.Generator().manual_seed(3)
    inputs = torch.randn(count, 4, generator=generator) * (1 + 2 * torch.rand(count, 1, generator=generator))
    labels = torch.randint(CLASSES, (count,), generator=generator)
    return Subject.from_module(module, inputs, labels, batch_size=1024)


def drawn(whole: Subject, count: int, generator: torch.Generator) -> Subject:
    places = torch.randint(len(whole.inputs), (count,), generator=generator)
    return replace(whole, inputs=whole.inputs[places], targets=whole.targets[places])


@pytest.mark.parametrize(
    ("spec", "activation", "subsets"),
    [
        ("trace", nn.ReLU(), 100),
        ("trace", nn.GELU(), 50),
        *(
            pytest.param(spec, nn.ReLU(), 500, marks=pytest.mark.slow)
            for spec in ("trace", "minimum", "fisher-rao", "adaptive-trace")
        ),
        pytest.param("trace", nn.GELU(), 200, marks=pytest.mark.slow),
    ],
)
def test_intervals_hold_the_population_s_value_as_often_as_they_say(
    spec: str, activation: nn.Module, subsets: int
) -> None:
    torch.manual_seed(1)
    whole = population(chain(activation), 4096)
    truth = measure(spec if isinstance(activation, nn.ReLU) else "trace[method=naive]", whole).value
    generator = torch.Generator().manual_seed(4)
    held, values, stated = 0, [], []
    for seed in range(subsets):
        found = measure(spec, drawn(whole, 256, generator), seed=seed)
        assert found.stderr is not None
        assert found.stderr_examples is not None
        reach = 1.97 * math.hypot(found.stderr, found.stderr_examples)  # Student's, 255 degrees of freedom
        held += abs(found.value - truth) <= reach
        values.append(found.value)
        stated.append(found.stderr_examples**2 + found.stderr**2)
    assert held >= binom.ppf(0.01, subsets, 0.95)
    spread = float(torch.tensor(values).double().std())
    assert math.sqrt(sum(stated) / subsets) == pytest.approx(spread, rel=0.15 * math.sqrt(max(1, 200 / subsets)))


def test_noise_that_examples_draw_is_taken_out() -> None:
    generator = torch.Generator().manual_seed(0)
    true = torch.randn(4000, generator=generator).double()
    noise = 2 * torch.randn(4000, 16, generator=generator).double() + torch.randn(1, 16, generator=generator).double()
    values = true[:, None] + noise
    assert interaction(values) == pytest.approx(4 / 16, rel=0.05)
    found = example_stderr(values.mean(1), noise=math.sqrt(interaction(values) / 4000))
    assert found == pytest.approx(float(true.std()) / math.sqrt(4000), rel=0.03)


@pytest.mark.parametrize(
    "spec",
    ["fisher-trace[fisher=monte-carlo,draws=64]", "ggn-trace[method=hutchinson,samples=700]"],
)
def test_sampled_values_state_about_the_spread_of_the_exact_ones(spec: str) -> None:
    torch.manual_seed(1)
    whole = population(chain(nn.ReLU()), 1024)
    exact = measure("trace", whole).stderr_examples
    assert measure(spec, whole).stderr_examples == pytest.approx(exact, rel=0.25)


WEIGHTS = torch.tensor([1.0, 4.0, 0.25], dtype=torch.float64)


def weighted(count: int, decay: float = 0.0) -> tuple[Subject, float]:
    """A smooth network under class weights, and the standard error of its trace by the definition: to first order the
    ratio of the means of w_i tr H_i and of w_i."""
    torch.manual_seed(1)
    plain = subject_of(chain(nn.Tanh()), 4, count=count, batch=count)
    loss = nn.CrossEntropyLoss(weight=WEIGHTS)
    subject = Subject.from_module(plain.module, plain.inputs, plain.targets, loss=loss, weight_decay=decay)
    traces = torch.stack([dense_hessian(alone).trace() for alone in each(plain)])
    counted = WEIGHTS[plain.targets]
    ratio = (counted @ traces) / counted.sum()
    return subject, stderr(counted * (traces - ratio) / counted.mean())


@pytest.mark.parametrize("decay", [0.0, 0.5])
def test_of_a_naive_trace_it_is_that_of_an_explicit_loop(decay: float) -> None:
    subject, expected = weighted(40, decay)
    assert measure("trace[method=naive]", subject).stderr_examples == pytest.approx(expected, rel=1e-9)


def test_of_a_naive_trace_of_many_examples_it_is_from_some() -> None:
    subject, expected = weighted(400)
    assert measure("trace[method=naive]", subject).stderr_examples == pytest.approx(expected, rel=0.25)


@pytest.mark.parametrize("decay", [0.0, 0.5])
def test_sampled_traces_of_weighted_examples_state_that_of_a_ratio(decay: float) -> None:
    subject, expected = weighted(40, decay)
    probes = draw_signs(torch.empty(subject.size, dtype=torch.float64), 4000, torch.Generator().manual_seed(0))
    samples = ((probes @ dense_hessian(subject)) * probes).sum(1)
    found = sampled_example_stderr(subject, probes, samples, 4000, "hessian")
    assert found == pytest.approx(expected, rel=0.05)
    assert measure("trace", subject).stderr_examples == pytest.approx(expected, rel=0.25)


def test_a_spread_that_is_mostly_noise_is_unknown() -> None:
    values = torch.randn(100, generator=torch.Generator().manual_seed(0))
    whole = example_stderr(values)
    assert whole is not None
    assert example_stderr(values, noise=0.7 * whole) == pytest.approx(whole * math.sqrt(1 - 0.49))
    assert example_stderr(values, noise=0.8 * whole) is None


def test_one_example_has_no_spread() -> None:
    subject = built("relu", count=1, batch=1)
    for spec in SPECS:
        assert measure(spec, subject).stderr_examples is None


class NoForward(torch.autograd.Function):
    """A square without a rule for forward mode."""

    @staticmethod
    def forward(inputs: Tensor) -> Tensor:
        return inputs.square()

    @staticmethod
    def setup_context(context, inputs, output) -> None:  # type: ignore[no-untyped-def]
        context.save_for_backward(*inputs)

    @staticmethod
    def backward(context, slope: Tensor) -> Tensor:  # type: ignore[no-untyped-def]
        return 2 * context.saved_tensors[0] * slope


class Square(nn.Module):
    def forward(self, inputs: Tensor) -> Tensor:
        squares: Tensor = NoForward.apply(inputs)  # type: ignore[no-untyped-call]
        return squares


def test_forms_of_layer_norms_are_right() -> None:
    """torch's own second forward derivative of layer_norm is wrong."""
    torch.manual_seed(0)
    subject = subject_of(chain(nn.Sequential(nn.LayerNorm(5), nn.GELU(), nn.LayerNorm(5, bias=False))), 4)
    vectors = draw_signs(torch.empty(subject.size, dtype=torch.float64), 3, torch.Generator().manual_seed(0))
    expected = torch.stack([((vectors @ dense_hessian(alone)) * vectors).sum(1) for alone in each(subject)])
    found = forms_by_example(subject, vectors)
    assert found is not None
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


def test_where_torch_cannot_tell_it_is_unknown() -> None:
    vectors = torch.ones(2, 43, dtype=torch.float64)
    assert forms_by_example(subject_of(chain(Square()), 4), vectors) is None
