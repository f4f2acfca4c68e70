"""Weight norm: torch's fused operator has a wrong second derivative; what is measured is its definition's."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, weight_norm

from sharpbench import Subject
from sharpbench.curvature import hvp, reference_traces

STEP = 1e-5


def old(layer: nn.Module, dim: int | None = 0) -> nn.Module:
    with pytest.warns(FutureWarning):
        return weight_norm(layer, dim=dim)


def differences(subject: Subject, name: str) -> float:
    """The trace of a parameter's block from differences of the gradient, entry by entry."""
    slope = torch.func.grad(subject.loss)
    flat = subject.params[name].flatten()

    def moved(index: int, step: float) -> Tensor:
        there = flat.clone()
        there[index] += step
        return slope({**subject.params, name: there.view_as(subject.params[name])})[name].flatten()[index]

    return sum(float(moved(index, STEP) - moved(index, -STEP)) / (2 * STEP) for index in range(flat.numel()))


@pytest.mark.parametrize("norm", [parametrizations.weight_norm, old])
@pytest.mark.parametrize("dim", [0, 1, None])
def test_second_derivatives_through_weight_norm_are_those_of_its_definition(
    norm: Callable[..., nn.Module], dim: int | None
) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(norm(nn.Linear(4, 5), dim=dim), nn.Tanh(), norm(nn.Linear(5, 3))).double()
    inputs, targets = torch.randn(7, 4, dtype=torch.float64), torch.randint(0, 3, (7,))
    subject = Subject.from_module(model, inputs, targets)
    with torch.no_grad():
        assert torch.equal(model(inputs[:1]).argmax(1), subject.apply(subject.params, inputs[:1]).argmax(1))
        torch.testing.assert_close(subject.apply(subject.params, inputs), model(inputs), rtol=1e-12, atol=1e-14)
    traces = reference_traces(subject)
    for name in subject.params:
        assert traces[name] == pytest.approx(differences(subject, name), rel=1e-6, abs=1e-9)
    one, other = ({key: torch.randn_like(value) for key, value in subject.params.items()} for _ in range(2))
    there, back = (
        sum(float((left[key] * right[key]).sum()) for key in left)
        for left, right in ((hvp(subject, one), other), (hvp(subject, other), one))
    )
    assert there == pytest.approx(back, rel=1e-9)
