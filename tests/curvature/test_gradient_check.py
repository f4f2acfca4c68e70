"""Whether a captured graph is seen to have other gradients than its module."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sharpbench.core.subject import Subject
from sharpbench.curvature import gradient_check

CHANGES: dict[str, Callable[[Tensor], Tensor]] = {
    "none": torch.zeros_like,
    "values": torch.ones_like,
    "slopes": lambda bias: bias - bias.detach(),
    "slopes that are no numbers": lambda bias: 0 * (0 * bias).sqrt(),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_graph_with_other_logits_or_gradients_does_not_agree(change: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where only the gradient by the last parameter is other."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()
    subject = Subject.from_module(model, torch.randn(4, 4, dtype=torch.float64), torch.arange(4) % 3)
    original = gradient_check.run_graph

    def changed(graph: Any, values: Any, example: Any) -> Any:
        found = original(graph, values, example)
        output = graph.outputs[0]
        return {**found, output: found[output] + CHANGES[change](values["2.bias"].abs())}

    monkeypatch.setattr(gradient_check, "run_graph", changed)
    assert gradient_check.graph_agrees_with_module(subject, subject.graph) is (change == "none")
