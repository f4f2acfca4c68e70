"""Operators whose forward and second derivatives the tests have compared with plain backward passes.

A network that is made of them only, seen in the autograd graph of one forward pass, needs no comparison. An
operator that is not in the table, or that another release of torch calls otherwise, is compared once a subject.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import Node
from torch.overrides import TorchFunctionMode

from sharpbench.core.requirements import spread_places
from sharpbench.core.subject import Subject
from sharpbench.curvature.plain import as_leaves

VERIFIED = frozenset(
    (
        *("AccumulateGrad", "AddBackward0", "SubBackward0", "RsubBackward1", "MulBackward0", "DivBackward0"),
        *("NegBackward0", "SumBackward0", "SumBackward1", "MeanBackward0", "MeanBackward1", "CatBackward0"),
        *("ViewBackward0", "UnsafeViewBackward0", "ReshapeAliasBackward0", "TransposeBackward0", "TBackward0"),
        *("PermuteBackward0", "ExpandBackward0", "SqueezeBackward1", "UnsqueezeBackward0", "SliceBackward0"),
        *(
            "SelectBackward0",
            "CloneBackward0",
            "UnbindBackward0",
            "SplitBackward0",
            "SplitWithSizesBackward0",
            "StackBackward0",
        ),
        *("AddmmBackward0", "MmBackward0", "BmmBackward0", "ConvolutionBackward0", "MaxPool2DWithIndicesBackward0"),
        *("AvgPool2DBackward0", "ReluBackward0", "TanhBackward0", "SigmoidBackward0", "GeluBackward0", "SiluBackward0"),
        *("ExpBackward0", "Log1PBackward0", "WhereBackward0"),
        *(
            "GatherBackward0",
            "SplitWithSizesBackward0",
            "SoftmaxBackward0",
            "NativeLayerNormBackward0",
            "NativeBatchNormBackward0",
        ),
    )
)
"""Names of autograd's nodes; convolutions in two dimensions only (see `_verified`). None that is singular somewhere."""


def only_verified_operators(subject: Subject) -> bool:
    """Whether the network and its loss consist of verified operators, and cut off or redefine no derivative."""
    if subject.criterion.kind == "custom":
        return False
    places = spread_places(len(subject.inputs), 1)
    recorder = _Recorder()
    leaves = as_leaves(subject.params)
    with torch.enable_grad():
        with recorder:
            logits = subject.apply(leaves, subject.inputs[places])
        value = subject.criterion(logits, subject.targets[places]).mean()
    return not recorder.cut and all(map(_verified, _nodes(value)))


def _nodes(value: Tensor) -> list[Node]:
    """All nodes of the autograd graph of a tensor."""
    found: dict[Node, None] = {}
    waiting = [value.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is not None and node not in found:
            found[node] = None
            waiting.extend(before for before, _ in node.next_functions)
    return list(found)


def _verified(node: Node) -> bool:
    name = node.name().rpartition("::")[2]
    if name == "ConvolutionBackward0":  # oneDNN's in one dimension have no forward derivative under vmap
        return len(getattr(node, "_saved_stride", ())) == 2
    return name in VERIFIED


CUTTING = frozenset(
    (
        *(torch.detach, Tensor.detach, Tensor.detach_, Tensor.register_hook, torch._C._set_grad_enabled),
        Tensor.data.__get__,  # type: ignore[attr-defined]
    )
)

OUTSIDE = frozenset(("_pack_padded_sequence", "_pad_packed_sequence", "item", "tolist", "numpy", "data_ptr"))
"""Names of functions that read values, which vmap cannot."""


class _Recorder(TorchFunctionMode):
    """cut: whether something was called that cuts off derivatives, changes them, or reads values."""

    def __init__(self) -> None:
        super().__init__()
        self.cut = False

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        self.cut = self.cut or func in CUTTING or getattr(func, "__name__", "") in OUTSIDE
        return func(*args, **(kwargs or {}))
