"""Confident networks: every measure in float32 against float64 at the same weights, down to losses of 1e-12."""

from __future__ import annotations

import functools

import pytest
import torch
from torch import nn

from sharpbench import Subject, measure

MEASURES = (
    *("trace", "trace[method=hutchinson]", "ggn-trace", "fisher-trace", "fisher-trace[fisher=empirical]"),
    *("fisher-trace[fisher=monte-carlo]", "fisher-rao", "fisher-rao[fisher=empirical]", "top-eigenvalue"),
    *("top-eigenvalue[matrix=gauss-newton]", "hessian-frobenius[method=exact]", "hessian-frobenius", "minimum"),
    *("minimum[scope=unit]", "normalized", "relative-flatness", "relative-flatness[layer=0]", "adaptive-spectral"),
    *("adaptive-trace", "quotient-norm", "igs", "gradient-norm", "sam", "asam", "average"),
)
LOSSES = (1e-6, 1e-12, *(pytest.param(goal, marks=pytest.mark.slow) for goal in (1e-2, 1e-9)))
RTOL = 2e-3


@functools.cache
def confident(smooth: bool, goal: float) -> Subject:
    """A float32 network that is right on every example, its last layer scaled so that the mean loss is `goal`."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(4, 6), nn.Tanh() if smooth else nn.ReLU(), nn.Linear(6, 3))
    inputs = torch.randn(16, 4)
    targets = module(inputs).argmax(1)
    with torch.no_grad():
        logits = module(inputs).double()
        margins = logits.topk(2, 1).values
        keep = (margins[:, 0] - margins[:, 1]) > margins[:, 0].std() / 4
    inputs, targets = inputs[keep], targets[keep]
    low, high = 1.0, 1e4

    def loss(factor: float) -> float:
        scaled = factor * logits[keep]
        others = (scaled - scaled.gather(1, targets[:, None])).exp().scatter(1, targets[:, None], 0.0)
        return float(others.sum(1).log1p().mean())

    for _ in range(60):
        middle = (low * high) ** 0.5
        low, high = (middle, high) if loss(middle) > goal else (low, middle)
    with torch.no_grad():
        module[2].weight *= low
        module[2].bias *= low
    return Subject.from_module(module, inputs, targets)


@pytest.mark.parametrize("goal", LOSSES)
@pytest.mark.parametrize("smooth", [False, True])
def test_float32_gives_the_numbers_of_float64(smooth: bool, goal: float) -> None:
    single = confident(smooth, goal)
    double = single.to(dtype=torch.float64)
    assert float(double.loss(double.params)) == pytest.approx(goal, rel=0.5)
    wrong = {}
    for word in MEASURES:
        one, other = measure(word, single).value, measure(word, double).value
        if abs(one - other) > RTOL * abs(other):
            wrong[word] = one, other
    assert not wrong
