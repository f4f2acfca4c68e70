"""Operators whose forward and second derivatives the tests have compared with plain backward passes.

A network that is made of them only, seen in the autograd graph of one forward pass, needs no comparison. An
operator that is not in the table, or that another release of torch calls otherwise, is compared once a subject.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import Node
from torch.nn import Parameter
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from sharpbench.core.random_draws import DRAWS
from sharpbench.errors import InvalidInput

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

FINITE = frozenset(
    (
        *("AddBackward1", "DivBackward1", "LogBackward0", "MkldnnRnnLayerBackward0", "ReciprocalBackward0"),
        *("RsqrtBackward0", "SubBackward1", "TransposeBackward1", "VarBackward0", "VarMeanBackward0"),
        *("AbsBackward0", "AliasBackward0", "AmaxBackward0", "AminBackward0", "AsStridedBackward0", "CopySlices"),
        *("BaddbmmBackward0", "ClampBackward0", "ClampBackward1", "ClampMinBackward0", "ClampMaxBackward0"),
        *("ConstantPadNdBackward0", "ConvolutionBackward0", "CopyBackwards", "CosBackward0", "CumsumBackward0"),
        *("DotBackward0", "EluBackward0", "ErfBackward0", "FlipBackward0", "HardswishBackward0", "HardtanhBackward0"),
        *("IndexBackward0", "IndexPutBackward0", "IndexSelectBackward0", "LeakyReluBackward0", "LogSigmoidBackward0"),
        *("LogSoftmaxBackward0", "LogsumexpBackward0", "MaskedFillBackward0", "MaxBackward0", "MaximumBackward0"),
        *("MinBackward0", "MinimumBackward0", "MishBackward0", "MvBackward0", "NativeGroupNormBackward0"),
        *("NllLossBackward0", "RepeatBackward0", "RollBackward0", "SinBackward0", "SoftplusBackward0"),
        *("SortBackward0", "SqueezeBackward0", "ToCopyBackward0", "TopkBackward0", "UnfoldBackward0"),
        *("UnsafeSplitBackward0", "UpsampleBilinear2DBackward0", "UpsampleNearest2DBackward0"),
    )
)
"""Other names of nodes whose first and second derivatives are finite where their values are."""

MAX_COMPARED = 256
"""Examples that are compared at most: a derivative that is wrong on one of them changes their mean by 0.4 %."""


@dataclass(frozen=True, slots=True)
class OperatorSurvey:
    """What one forward pass of a network consists of.

    verified: all operators are in VERIFIED, and nothing cuts off, redefines or reads values that are differentiated.
    redefined: something may give gradients that are not those of the loss: an autograd.Function, a hook, a detached
    tensor. own_rules: some derivatives are those of the network's code, an autograd.Function or a hook, which may
    differ from the graph's on single examples. reads_values: its code reads numbers out of tensors, so that it may
    branch on them. decides: it compares, sorts or rounds, so that single examples may be treated otherwise.
    finite: all operators are in VERIFIED or FINITE; others, as a norm or a root, may have no derivative at 0.
    """

    verified: bool
    redefined: bool
    reads_values: bool
    own_rules: bool = False
    decides: bool = True
    finite: bool = False

    @property
    def uniform(self) -> bool:
        """Whether what holds for a few examples holds for all: no code of the network treats single ones otherwise."""
        return self.verified and not self.decides

    def count_compared(self, usual: int, batch_size: int) -> int:
        """How many examples a comparison takes: `usual`, or a batch where few examples may take another branch."""
        return max(usual, min(batch_size, MAX_COMPARED)) if self.redefined or self.reads_values else usual


class SurveyMode(TorchFunctionMode):
    """Records what is called inside; `result` then says what a value that was computed inside consists of."""

    def __init__(self, *given: Tensor) -> None:
        """Args: given: tensors from which `results` were computed."""
        super().__init__()
        self._given = given
        self._derived: dict[int, weakref.ref[Tensor]] = {id(value): weakref.ref(value) for value in given}
        self.redefined = self.reads_values = self.packed = self.hooked = self.decides = self.draws = False

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        name = getattr(func, "__name__", "")
        self.redefined = self.redefined or func in REDEFINING
        self.reads_values = self.reads_values or name in VALUE_READS or (name == "__getitem__" and _by_mask(args))
        self.hooked = self.hooked or func is Tensor.register_hook
        self.decides = self.decides or name.strip("_") in DECISIONS
        self.packed = self.packed or name in PACKING
        self.draws = self.draws or name in DRAWS
        result = func(*args, **(kwargs or {}))
        if self._given and any(self._is_derived(each) for each in pytree.tree_leaves((args, kwargs))):
            for value in pytree.tree_leaves(result):
                if isinstance(value, Tensor):
                    self._derived[id(value)] = weakref.ref(value)
        return result

    def _is_derived(self, value: object) -> bool:
        known = self._derived.get(id(value))
        return known is not None and known() is value

    def results(self) -> list[weakref.ref[Tensor]]:
        """What was computed from the given tensors: references that do not keep it."""
        own = {id(value) for value in self._given}
        return [known for key, known in self._derived.items() if key not in own]

    def result(self, value: Tensor) -> OperatorSurvey:
        """The survey of a value that was computed inside, with its autograd graph.

        Raises InvalidInput where that leads to a parameter which could not be replaced by a copy.
        """
        nodes = autograd_nodes(value)
        _check_no_other_parameters(nodes)
        own = any(
            isinstance(node, torch.autograd.function.BackwardCFunction) or "Fake" in node.name() for node in nodes
        )
        cut = self.redefined or self.reads_values or self.packed
        verified = not cut and all(map(_verified, nodes))
        finite = not own and all(map(_is_finite, nodes))
        return OperatorSurvey(
            verified, self.redefined or own, self.reads_values, own or self.hooked, self.decides, finite
        )


def survey_function(function: Callable[[dict[str, Tensor]], Tensor], params: Mapping[str, Tensor]) -> OperatorSurvey:
    """The survey of function(params), which runs once."""
    leaves = {name: value.detach().requires_grad_() for name, value in params.items()}
    survey = SurveyMode()
    with torch.enable_grad(), survey:
        value = function(leaves)
    return survey.result(value)


def _by_mask(arguments: Sequence[Any]) -> bool:
    """Whether a tensor is indexed by truth values, so that the shape of the result depends on them."""
    index = arguments[1] if len(arguments) > 1 else None
    parts = index if isinstance(index, tuple | list) else (index,)
    return any(isinstance(part, Tensor) and part.dtype in (torch.bool, torch.uint8) for part in parts)


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


def _check_no_other_parameters(nodes: Sequence[Node]) -> None:
    """Raise InvalidInput where one of the nodes is a Parameter: the network was given copies of those that it holds.

    It then read another one: from a closure or a default argument, or of the network that it was copied from.
    """
    for node in nodes:
        if isinstance(found := getattr(node, "variable", None), Parameter):
            raise InvalidInput(
                f"the network computes with a parameter of shape {list(found.shape)} that it does not read from itself "
                "but from a closure, an argument, a tensor computed before or another network (that which it is a copy "
                "of); read it as self.NAME in forward, or set requires_grad_(False) where it is constant"
            )


def _is_finite(node: Node) -> bool:
    """Whether an operator's first and second derivatives are finite where its value is."""
    name = _short_name(node)
    if name == "PowBackward0":
        exponent = getattr(node, "_saved_exponent", 0)
        return exponent == 1 or (exponent >= 2 and exponent == int(exponent))
    return name in VERIFIED or name in FINITE


def _short_name(node: Node) -> str:
    return node.name().rpartition("::")[2]


def _verified(node: Node) -> bool:
    name = _short_name(node)
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
        *("__contains__", "__format__", "equal", "allclose", "is_nonzero"),
        *("nonzero", "argwhere", "masked_select", "unique", "unique_consecutive", "bincount"),
    )
)
"""Names of functions that give a tensor's numbers to Python code, or a shape that depends on them."""
DECISIONS = frozenset(
    (
        *("gt", "lt", "ge", "le", "eq", "ne", "greater", "less", "greater_equal", "less_equal", "not_equal"),
        *("argmax", "argmin", "argsort", "sort", "topk", "kthvalue", "median", "mode", "searchsorted", "bucketize"),
        *("round", "floor", "ceil", "trunc", "fix", "sign", "heaviside", "long", "int", "bool", "any", "all"),
        *("isnan", "isinf", "isfinite", "isclose", "logical_and", "logical_or", "logical_not"),
    )
)
"""Names of functions, without underscores around them, whose results are steps of what they are given."""
PACKING = frozenset(("_pack_padded_sequence", "_pad_packed_sequence"))
"""Names of functions that read values inside, which vmap cannot."""
