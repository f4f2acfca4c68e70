"""Geodesic sharpness (da Silva et al. 2025) against the geometry that it is defined by, and on networks."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest
import torch
from torch import Tensor, nn

from sharpbench import NotApplicable, Subject, measure
from sharpbench.core.evaluate import parse_measure
from sharpbench.symmetry import Geodesics, Metric, full_group
from tests.symmetry.test_linear_blocks import WIDTH, Attention, Chain, MultiQuery

METRICS: tuple[Metric, ...] = ("inv", "mix")
N, M, H = 4, 5, 2


@cache
def subject_of(kind: Callable[[], nn.Module]) -> Subject:
    """Made once, with its graph."""
    torch.manual_seed(0)
    module = kind().double().eval()
    return Subject.from_module(module, torch.randn(9, 5, WIDTH, dtype=torch.float64), torch.arange(9) % 3)


def pair(metric: Metric) -> tuple[Tensor, Tensor, Callable[[Tensor], Tensor]]:
    """G and H of x -> H G^T x without biases, and its geodesics as a function of coordinates [G, H]."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(N, H, bias=False), nn.Linear(H, M, bias=False)).double()
    inputs = torch.randn(3, N, dtype=torch.float64)
    group = full_group(module, inputs, generator=torch.Generator().manual_seed(0))
    weights = {name: value.detach() for name, value in module.named_parameters()}
    return weights["0.weight"].T, weights["1.weight"], Geodesics.of(weights, group.blocks, metric)


def split(vector: Tensor) -> tuple[Tensor, Tensor]:
    """Tangents by G [n, h] and H [m, h] from a vector in the order of the parameters."""
    first, second = vector.split([N * H, M * H])
    return first.reshape(H, N).T, second.reshape(M, H)


def squared_length(metric: Metric, g: Tensor, h: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Equations 9 and 10."""
    if metric == "inv":
        return torch.trace((g.T @ g).inverse() @ x.T @ x) + torch.trace((h.T @ h).inverse() @ y.T @ y)
    return torch.trace(h.T @ h @ x.T @ x) + torch.trace(g.T @ g @ y.T @ y)


@pytest.mark.parametrize("metric", METRICS)
def test_velocities_are_horizontal_parts_of_vectors_of_that_length(metric: Metric) -> None:
    g, h, geodesics = pair(metric)
    u = torch.randn((N + M) * H, dtype=torch.float64)
    xi, eta = split((geodesics(u) - geodesics(-u)) / 2)  # the even part is of second order
    grams = g.T @ g, h.T @ h
    if metric == "inv":
        assert torch.allclose(xi.T @ g @ grams[1], grams[0] @ h.T @ eta)
    else:
        assert torch.allclose(g.T @ xi @ grams[1], grams[0] @ eta.T @ h)
    point = u.clone().requires_grad_()
    ends = torch.autograd.functional.jacobian(lambda v: (geodesics(v) - geodesics(-v)) / 2, point)
    values = torch.linalg.eigvalsh(gram(metric, g, h, ends))
    assert torch.allclose(values, torch.tensor([0.0] * H**2 + [1.0] * (len(u) - H**2), dtype=torch.float64))


def gram(metric: Metric, g: Tensor, h: Tensor, ends: Tensor) -> Tensor:
    """Inner products of the velocities of all coordinates: a projection of rank (n + m) h - h^2."""

    def form(velocity: Tensor) -> Tensor:
        return squared_length(metric, g, h, *split(velocity)) / 2

    product = torch.autograd.functional.hessian(form, torch.zeros(len(ends), dtype=torch.float64))
    return ends.T @ product @ ends


@pytest.mark.parametrize("metric", METRICS)
def test_the_second_order_is_that_of_the_equation_of_the_metrics_geodesics(metric: Metric) -> None:
    """d/dt dL/dv = dL/dx with L(x, v) the squared length of v at x, solved for the second derivative."""
    g, h, geodesics = pair(metric)
    start = torch.cat([g.T.flatten(), h.flatten()])
    u = torch.randn(len(start), dtype=torch.float64)
    velocity, acceleration = (geodesics(u) - geodesics(-u)) / 2, geodesics(u) + geodesics(-u)

    def lagrangian(place: Tensor, speed: Tensor) -> Tensor:
        return squared_length(metric, *split(place), *split(speed))

    slope = torch.autograd.functional.jacobian(lagrangian, (start, velocity))[0]
    second = torch.autograd.functional.hessian(lagrangian, (start, velocity))
    wanted = torch.linalg.solve(second[1][1], slope - second[1][0] @ velocity)
    assert torch.allclose(acceleration, wanted, atol=1e-10)


@pytest.mark.parametrize(("kind", "metric"), [(Attention, "inv"), (MultiQuery, "mix")])
def test_one_step_equals_the_papers_formulas(kind: Callable[[], nn.Module], metric: Metric) -> None:
    chosen = parse_measure(f"geodesic[metric={metric},steps=1,rho=0.2,micro_batch=4]")
    subject = subject_of(kind)
    assert chosen.exact(subject) == pytest.approx(measure(chosen, subject).value, rel=1e-9)


@pytest.mark.parametrize("metric", [pytest.param("inv", marks=pytest.mark.slow), "mix"])
def test_more_steps_rise_higher_and_do_not_change_under_attention_gl(metric: Metric) -> None:
    subject = subject_of(Attention)
    group = full_group(subject.module, subject.inputs, generator=torch.Generator().manual_seed(0))
    words = f"geodesic[metric={metric},rho=0.3]"
    found = measure(words, subject)
    assert found.details["blocks"] == "4 x GL(4)"
    assert found.value > measure(f"geodesic[metric={metric},rho=0.3,steps=1]", subject).value > 0
    moved = subject.params
    for block in group.blocks:
        moved = block(moved, generator=torch.Generator().manual_seed(1))
    assert measure(words, subject.with_params(moved)).value == pytest.approx(found.value, rel=1e-6)
    assert measure("adaptive[rho=0.3]", subject.with_params(moved)).value != pytest.approx(
        measure("adaptive[rho=0.3]", subject).value, rel=1e-2
    )


def test_without_pairs_it_is_adaptive_sharpness(chain: Subject) -> None:
    assert measure("geodesic", chain).value == pytest.approx(measure("adaptive", chain).value, rel=1e-12)


class Wide(nn.Sequential):
    """More units between two linear layers than inputs."""

    def __init__(self) -> None:
        super().__init__(nn.Flatten(), nn.Linear(40, 50), nn.Linear(50, 3))


def test_chains_and_pairs_without_full_rank_are_refused() -> None:
    with pytest.raises(NotApplicable, match=r"no geodesics: .*: entries are in two blocks, as in a chain"):
        measure("geodesic", subject_of(Chain))
    with pytest.raises(NotApplicable, match=r"no geodesics: .* have a rank below 50, their number of units"):
        measure("geodesic", subject_of(Wide))
