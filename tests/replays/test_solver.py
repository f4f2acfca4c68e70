"""The solver of the paper, reimplemented: against torch's own SGD and schedule, and against the minimum."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from sharpbench.replays.minimum_sharpness_2021.solver import run_paper_solver

Array = NDArray[np.float64]


def by_torch(weights: Array, biases: Array, *, rate: float, steps: int) -> float:
    """One network, the objective written out and differentiated by torch."""
    scale = float(weights.sum() + biases.sum())
    w, c = torch.tensor(weights / scale), torch.tensor(biases / scale)
    e = torch.zeros(len(w) - 1, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.SGD([e], lr=rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + 1e-3 * step))
    value = 0.0
    for _ in range(steps):
        factors = e.exp()
        reached = factors.cumprod(0)
        loss = (w[:-1] / factors**2 + c[:-1] / reached**2).sum() + w[-1] * reached[-1] ** 2 + c[-1]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        value = float(loss.detach())
    return value * scale


def test_it_takes_the_steps_of_torchs_sgd_on_several_networks_at_once() -> None:
    generator = np.random.default_rng(0)
    weights, biases = generator.uniform(0.1, 9, (4, 5)), generator.uniform(0, 2, (4, 5))
    found = run_paper_solver(weights, biases, rate=0.05, steps=200)
    for row, value in enumerate(found):
        assert value == pytest.approx(by_torch(weights[row], biases[row], rate=0.05, steps=200), rel=1e-13)


def test_it_stops_above_the_minimum_at_the_papers_rate_and_reaches_it_at_a_larger_one() -> None:
    weights, biases = np.array([[100.0, 1.0, 1.0, 1.0]]), np.zeros((1, 4))
    minimum = 4 * 100.0**0.25  # Theorem 1
    assert minimum == pytest.approx(12.65, abs=5e-3)
    assert run_paper_solver(weights, biases)[0] == pytest.approx(19.60, abs=5e-3)
    assert run_paper_solver(weights, biases, rate=0.1)[0] == pytest.approx(minimum, rel=1e-6)


def test_without_a_step_it_is_the_trace_and_a_single_layer_cannot_move() -> None:
    weights, biases = np.array([[3.0, 5.0]]), np.array([[1.0, 2.0]])
    assert run_paper_solver(weights, biases, steps=1)[0] == pytest.approx(11.0)
    assert run_paper_solver(np.array([[3.0]]), np.array([[1.0]]))[0] == pytest.approx(4.0)
