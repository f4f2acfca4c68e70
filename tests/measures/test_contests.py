"""What the built-in measures compute, in which ways they take part in comparisons, and their diagonals."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from sharpbench_measures import MEASURES
from sharpbench_measures.ggn_trace import GgnTrace
from sharpbench_measures.trace import Trace
from torch import nn

from sharpbench import Measure, NotApplicable, Subject
from sharpbench.core.registry import available
from sharpbench.core.spec import parse_spec
from sharpbench.curvature import exact_diagonal, reference_diagonal


def subject(activation: nn.Module) -> Subject:
    return perceptron(type(activation)).fresh()


@cache
def perceptron(activation: type[nn.Module]) -> Subject:
    """Made once, with its graph."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(5, 4), activation(), nn.Linear(4, 3)).double()
    return Subject.from_module(network, torch.randn(11, 5).double(), torch.randint(0, 3, (11,)), batch_size=4)


def entries(measure: Measure, given: Subject, seed: int = 0) -> torch.Tensor:
    found = measure.diagonal_entries(given, generator=torch.Generator().manual_seed(seed))
    assert {name: value.shape for name, value in found.items()} == {k: v.shape for k, v in given.params.items()}
    return torch.cat([value.flatten() for value in found.values()])


def flat(blocks: dict[str, torch.Tensor]) -> torch.Tensor:
    return torch.cat([value.flatten() for value in blocks.values()])


def test_contests_are_measures_of_their_quantity() -> None:
    offered = available("measures").classes
    found = {cls.name: cls for cls in MEASURES if cls.quantity is not None}
    assert set(found) == {"trace", "ggn-trace", "top-eigenvalue"}
    for name, cls in found.items():
        ways = [parse_spec(f"{name}[{way}]" if way else name, offered, kind="measure") for way in cls.contests]
        assert len(set(ways)) == len(ways) >= 2
        assert ways[0] == cls()


@pytest.mark.parametrize("activation", [nn.ReLU(), nn.Tanh()])
@pytest.mark.parametrize("method", ["auto", "exact", "naive"])
def test_the_diagonal_is_the_hessians_also_where_gauss_newton_is_another(activation: nn.Module, method: str) -> None:
    given = subject(activation)
    measure = Trace(method=method)  # type: ignore[arg-type]
    assert torch.allclose(entries(measure, given), flat(reference_diagonal(given)), atol=1e-12)


def test_gauss_newtons_diagonal_is_its_own() -> None:
    given = subject(nn.Tanh())
    assert torch.allclose(entries(GgnTrace(), given), flat(exact_diagonal(given)), atol=1e-12)
    assert not torch.allclose(entries(GgnTrace(), given), flat(reference_diagonal(given)), atol=1e-3)


@pytest.mark.parametrize(
    ("measure", "true"),
    [
        (Trace(method="hutchinson", samples=500), reference_diagonal),
        (GgnTrace(method="hutchinson", samples=500), exact_diagonal),
    ],
)
def test_sampled_diagonals_come_near(measure: Measure, true: object) -> None:
    given = subject(nn.Tanh())
    right = flat(true(given))  # type: ignore[operator]
    first = entries(measure, given)
    assert float((first - right).norm() / right.norm()) < 0.2
    assert torch.equal(first, entries(measure, given))
    assert not torch.equal(first, entries(measure, given, seed=1))


def test_large_uncertified_networks_are_sampled_or_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    given = subject(nn.Tanh())
    monkeypatch.setattr("sharpbench_measures.trace.DENSE_LIMIT", 1)
    assert not torch.equal(entries(Trace(samples=10), given), entries(Trace(samples=10), given, seed=1))
    with pytest.raises(NotApplicable, match="not piecewise affine through aten"):
        entries(Trace(method="exact"), given)
    with pytest.raises(NotApplicable, match="too many for one Hessian-vector product each"):
        entries(Trace(method="naive"), given)


@pytest.mark.parametrize("measure", [Trace(method="xtrace"), GgnTrace(method="hutchpp", samples=99)])
def test_what_estimates_a_sum_has_no_diagonal(measure: Measure) -> None:
    with pytest.raises(NotApplicable, match="estimates only a sum"):
        entries(measure, subject(nn.ReLU()))


def test_few_classes_have_no_sketch_of_the_diagonal() -> None:
    with pytest.raises(NotApplicable, match=r"no sketch of 3 outputs: needs at least top \+ 2 = 12 classes"):
        entries(GgnTrace(method="sketch"), subject(nn.ReLU()))
