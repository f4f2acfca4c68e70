"""Captures are shortened: their graphs are those of torch.export as it is, and torch is left as it was."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._export import utils
from torch.export import exported_program

from sharpbench.core import graph as graph_module
from sharpbench.core.graph import agreeing_graph
from sharpbench.core.quick_export import quick_export


class Mixed(nn.Module):
    """Operators that are kept whole, that are taken apart, that alias, and that write in place."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 3)
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)

    def forward(self, images: Tensor) -> Tensor:
        x = F.max_pool2d(self.norm(self.conv(images)), 2).relu_()
        tokens = F.dropout(x.flatten(2).transpose(1, 2), 0.5, self.training)
        tokens = F.layer_norm(tokens, (4,)) + self.attention(tokens, tokens, tokens, need_weights=False)[0]
        tokens += torch.einsum("btc,bsc->bts", tokens, tokens).softmax(-1) @ tokens
        logits: Tensor = self.head(F.silu(tokens).reshape(len(x), -1, 4).mean(1))
        return logits


def captured() -> list[tuple[object, ...]]:
    """Operators and arguments of a graph captured just now."""
    module = Mixed().eval()
    graph, _ = agreeing_graph(module, torch.zeros(1, 2, 8, 8), lambda graph: True)
    return [(node.target, str(node.args), str(node.kwargs)) for node in graph.nodes]


def test_the_graph_is_that_of_torch_export_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    quick = captured()
    monkeypatch.setattr(graph_module, "quick_export", lambda devices: nullcontext())
    assert captured() == quick
    assert torch.ops.aten.linear.default in [target for target, *_ in quick]


def test_fewer_kinds_of_device_inside_and_all_of_them_outside() -> None:
    search, keys = utils._materialize_cpp_cia_ops, exported_program._BACKEND_KEYS_TO_OVERRIDE

    def fail_inside() -> None:
        with quick_export({"cpu", "cuda"}):
            assert {"CPU", "CUDA", "Meta"} <= {key.name for key in exported_program._BACKEND_KEYS_TO_OVERRIDE}
            assert len(exported_program._BACKEND_KEYS_TO_OVERRIDE) < len(keys)
            assert utils._materialize_cpp_cia_ops is not search
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_inside()
    assert exported_program._BACKEND_KEYS_TO_OVERRIDE is keys
    assert utils._materialize_cpp_cia_ops is search
    with quick_export({"vulkan"}):  # which torch does not prepare by itself
        assert exported_program._BACKEND_KEYS_TO_OVERRIDE is keys


def test_a_torch_with_other_names_captures_as_it_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(exported_program, "_BACKEND_KEYS_TO_OVERRIDE")
    with quick_export({"cpu"}):
        assert not hasattr(exported_program, "_BACKEND_KEYS_TO_OVERRIDE")
    assert not hasattr(exported_program, "_BACKEND_KEYS_TO_OVERRIDE")
