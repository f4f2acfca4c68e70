"""Ascent in a ball: steps and projections by their definitions, Auto-PGD against a literal transcription."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from sharpbench.curvature.worst_case import (
    Norm,
    ascend_once,
    checkpoints,
    is_stalled,
    maximize_loss,
    project_to_ball,
    steepest_direction,
)

NORMS: tuple[Norm, ...] = ("l2", "linf")


def size(point: Tensor, norm: Norm) -> float:
    return float(torch.linalg.vector_norm(point, ord=2 if norm == "l2" else math.inf))


@pytest.mark.parametrize("norm", NORMS)
def test_no_vector_of_norm_one_rises_more(norm: Norm) -> None:
    torch.manual_seed(0)
    gradient = torch.randn(7, dtype=torch.float64)
    best = steepest_direction(gradient, norm)
    assert size(best, norm) == pytest.approx(1, rel=1e-12)
    for _ in range(200):
        other = torch.randn(7, dtype=torch.float64)
        assert float(gradient @ other) / size(other, norm) <= float(gradient @ best)


@pytest.mark.parametrize("norm", NORMS)
def test_directions_where_there_is_none_or_a_tiny_one(norm: Norm) -> None:
    assert torch.equal(steepest_direction(torch.zeros(3), norm), torch.zeros(3))
    tiny = torch.tensor([3e-30, -4e-30])  # whose squares are 0 in float32
    expected = torch.tensor([0.6, -0.8]) if norm == "l2" else torch.tensor([1.0, -1.0])
    torch.testing.assert_close(steepest_direction(tiny, norm), expected)


@pytest.mark.parametrize("norm", NORMS)
def test_a_projection_is_the_nearest_point_of_the_ball(norm: Norm) -> None:
    torch.manual_seed(0)
    inside = torch.tensor([0.1, -0.2], dtype=torch.float64)
    assert torch.equal(project_to_ball(inside, 0.5, norm), inside)
    outside = torch.tensor([0.9, -1.7], dtype=torch.float64)
    nearest = project_to_ball(outside, 0.5, norm)
    assert size(nearest, norm) == pytest.approx(0.5, rel=1e-12)
    for _ in range(500):
        other = torch.randn(2, dtype=torch.float64)
        other *= 0.5 / max(0.5, size(other, norm))
        assert (outside - nearest).norm() <= (outside - other).norm() + 1e-12


def test_checkpoints_come_ever_more_often() -> None:
    """p = 0.22, 0.41, 0.57, 0.70, 0.80, 0.87, 0.93, 0.99."""
    assert checkpoints(100) == (22, 41, 57, 70, 80, 87, 93, 99)
    assert checkpoints(20) == (5, 9, 12, 14, 16, 18, 19, 20)


def test_a_step_is_too_long_where_it_does_not_rise() -> None:
    assert not is_stalled([0, 1, 2, 3, 2], 0, kept=True)  # three of four rose
    assert is_stalled([0, 1, 0, 1, 0], 0, kept=True)  # two of four
    assert is_stalled([0, 5, 1, 2, 3, 4], 1, kept=True)  # no new maximum though the step was kept
    assert not is_stalled([0, 5, 1, 2, 3, 4], 2, kept=False)


def quadratic(*, indefinite: bool) -> tuple[Tensor, Tensor]:
    torch.manual_seed(3)
    root = torch.randn(6, 6, dtype=torch.float64)
    return root + root.T if indefinite else root @ root.T, torch.randn(6, dtype=torch.float64) * 0.1


@pytest.mark.parametrize("indefinite", [False, True])
@pytest.mark.parametrize("steps", [2, 7, 20, 50])
@pytest.mark.parametrize("norm", NORMS)
def test_auto_pgd_is_that_of_the_paper(norm: Norm, steps: int, indefinite: bool) -> None:
    """Algorithm 1 of Croce and Hein 2020, line by line, with every iterate kept."""
    matrix, slope = quadratic(indefinite=indefinite)

    def function(x: Tensor) -> Tensor:
        return x @ matrix @ x / 2 + slope @ x

    def direction(x: Tensor) -> Tensor:
        g = matrix @ x + slope
        return g.sign() if norm == "linf" else g / g.norm()

    def into(x: Tensor) -> Tensor:
        return x.clamp(-0.7, 0.7) if norm == "linf" else x * min(1.0, 0.7 / float(x.norm()))

    p, W = [0.0, 0.22], []
    while math.ceil(p[-1] * steps - 1e-9) <= steps and p[-1] < 1:
        W.append(math.ceil(p[-1] * steps - 1e-9))
        p.append(p[-1] + max(p[-1] - p[-2] - 0.03, 0.06))
    eta = 1.4
    x = [torch.zeros(6, dtype=torch.float64)]
    x.append(into(x[0] + eta * direction(x[0])))
    f = [float(function(each)) for each in x]
    x_max, f_max = (x[1], f[1]) if f[1] > f[0] else (x[0], f[0])
    etas, maxima, values = {0: eta}, {0: f[0]}, list(f)
    current, previous, last = x[1], x[0], 0
    for k in range(1, steps):
        z = into(current + eta * direction(current))
        new = into(current + 0.75 * (z - current) + 0.25 * (current - previous))
        value = float(function(new))
        values.append(value)
        best_before = max(values[: k + 1])
        if value > f_max:
            x_max, f_max = new, value
        previous, current = current, new
        if k in W:
            rises = sum(values[i + 1] > values[i] for i in range(last, k))
            if rises < 0.75 * (k - last) or (etas[last] == eta and maxima[last] == best_before):
                etas[k] = eta / 2
                current = x_max
            else:
                etas[k] = eta
            maxima[k], last = best_before, k
            eta = etas[k]
    found = maximize_loss(function, torch.zeros(6, dtype=torch.float64), radius=0.7, norm=norm, steps=steps)
    assert found.gain == pytest.approx(f_max - f[0], rel=1e-12)
    torch.testing.assert_close(found.point, x_max, rtol=1e-6, atol=1e-6)  # of the highest of equals


def test_the_maximum_of_a_quadratic_is_its_largest_eigenvalue() -> None:
    matrix, slope = quadratic(indefinite=False)
    top = float(torch.linalg.eigvalsh(matrix)[-1])
    zero = torch.zeros(6, dtype=torch.float64)
    found = ascend_once(lambda x: x @ matrix @ x / 2 + 1e-6 * slope @ x, zero, radius=0.3, norm="l2", steps=100)
    assert found.gain == pytest.approx(0.3**2 / 2 * top, rel=1e-6)
    assert size(found.point, "l2") <= 0.3 * (1 + 1e-14)


def test_one_step_may_go_down_and_more_never_do() -> None:
    zero = torch.zeros(1, dtype=torch.float64)

    def function(x: Tensor) -> Tensor:
        return (x - 5 * x**2).sum()

    assert ascend_once(function, zero, radius=1.0, norm="l2", steps=1).gain == pytest.approx(-4)
    assert 0 < ascend_once(function, zero, radius=1.0, norm="l2", steps=30).gain <= 0.05
    assert ascend_once(lambda x: -(x**2).sum(), zero, radius=1.0, norm="l2", steps=3).gain == 0
