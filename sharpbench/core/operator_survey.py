"""Operators whose forward and second derivatives the tests have compared with plain backward passes.

A network that is made of them only, seen in the autograd graph of one forward pass, needs no comparison. An
operator that is not in the table, or that another release of torch calls otherwise, is compared once a subject.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import Node
from torch.overrides import TorchFunctionMode

VERIFIED = frozenset(
    (
        *(
            "AccumulateGrad",
            "AddBackward0",
            "SubBackward0",
            "RsubBackward1",
            "MulBackward0",
            "MulBackward1",
            "DivBackward0",
        ),
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
            "SafeSoftmaxBackward0",
            "NativeLayerNormBackward0",
            "NativeBatchNormBackward0",
        ),
    )
)
"""Names of autograd's nodes; convolutions in two dimensions only (see `_verified`). None that is singular somewhere."""

MAX_COMPARED = 256
"""Examples that are compared at most: a derivative that is wrong on one of them changes their mean by 0.4 %."""


@dataclass(frozen=True, slots=True)
class OperatorSurvey:
    """What one forward pass of a network consists of.

    verified: all operators are in VERIFIED, and nothing cuts off, redefines or reads values that are differentiated.
    redefined: something may give gradients that are not those of the loss: an autograd.Function, a hook, a detached
    tensor. reads_values: the network's code reads numbers out of tensors, so that it may branch on them.
    """

    verified: bool
    redefined: bool
    reads_values: bool

    def count_compared(self, usual: int, batch_size: int) -> int:
        """How many examples a comparison takes: `usual`, or a batch where few examples may take another branch."""
        return max(usual, min(batch_size, MAX_COMPARED)) if self.redefined or self.reads_values else usual


class SurveyMode(TorchFunctionMode):
    """Records what is called inside; `result` then says what a value that was computed inside consists of."""

    def __init__(self) -> None:
        super().__init__()
        self.redefined = self.reads_values = self.packed = False

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        name = getattr(func, "__name__", "")
        self.redefined = self.redefined or func in REDEFINING
        self.reads_values = self.reads_values or name in VALUE_READS
        self.packed = self.packed or name in PACKING
        return func(*args, **(kwargs or {}))

    def result(self, value: Tensor) -> OperatorSurvey:
        """The survey of a value that was computed inside, with its autograd graph."""
        nodes = autograd_nodes(value)
        own = any(
            isinstance(node, torch.autograd.function.BackwardCFunction) or "Fake" in node.name() for node in nodes
        )
        cut = self.redefined or self.reads_values or self.packed
        return OperatorSurvey(not cut and all(map(_verified, nodes)), self.redefined or own, self.reads_values)


def survey_function(function: Callable[[dict[str, Tensor]], Tensor], params: Mapping[str, Tensor]) -> OperatorSurvey:
    """The survey of function(params), which runs once."""
    leaves = {name: value.detach().requires_grad_() for name, value in params.items()}
    survey = SurveyMode()
    with torch.enable_grad(), survey:
        value = function(leaves)
    return survey.result(value)


def autograd_nodes(value: Tensor) -> list[Node]:
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


REDEFINING = frozenset(
    (
        *(torch.detach, Tensor.detach, Tensor.detach_, Tensor.register_hook, torch._C._set_grad_enabled),
        Tensor.data.__get__,  # type: ignore[attr-defined]
    )
)
"""Functions after which gradients may be others than those of the loss."""

VALUE_READS = frozenset(
    (
        *("item", "tolist", "numpy", "data_ptr", "__array__", "__bool__", "__float__", "__int__", "__index__"),
        *("__contains__", "__format__", "equal", "allclose"),
    )
)
"""Names of functions that give a tensor's numbers to Python code."""
PACKING = frozenset(("_pack_padded_sequence", "_pad_packed_sequence"))
"""Names of functions that read values inside, which vmap cannot."""
