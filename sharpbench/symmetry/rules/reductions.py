"""Rules of operators that reduce or act along axes, and of norm layers."""

from __future__ import annotations

from torch import Tensor

from sharpbench.symmetry.rules import propagation
from sharpbench.symmetry.rules.elementwise import sum_rule
from sharpbench.symmetry.rules.operation import Operation, Result, Rule, equate_scales, map_indices, pin_rule
from sharpbench.symmetry.rules.propagation import UNSCALED, IndexArray, multiply_scale


def reduction_rule(degree: float = 1.0) -> Rule:
    """The rule of mean, sum, amax: the scale is constant along the reduced axes; homogeneous of that degree."""

    def rule(op: Operation) -> Result:
        gone = op.axes()
        if op.get("ord") == 0 or op.get("p") == 0:
            return pin_rule(op)  # counts
        scale = multiply_scale(degree, op.flow.require_constant(op.scale(op.first), gone))
        if op.get("keepdim"):
            return scale
        return map_indices(
            scale, lambda places: places.reshape([n for axis, n in enumerate(places.shape) if axis not in gone])
        )

    return rule


def extremum_rule(op: Operation) -> Result:
    """max and min: of two tensors, over all entries, or along an axis with the indices as a second result."""
    if op.get("other") is not None:
        return sum_rule(op)
    result = reduction_rule()(op)
    return result if isinstance(op.node.meta["val"], Tensor) or isinstance(result, list) else [result, UNSCALED]


def window_rule(count: int) -> Rule:
    """The rule of pools and interpolation: the scale is constant along the last `count` axes."""

    def rule(op: Operation) -> Result:
        axes = len(op.size(op.first))
        scale = op.flow.require_constant(op.scale(op.first), range(axes - count, axes))
        return scale if isinstance(op.node.meta["val"], Tensor) else [scale, UNSCALED]

    return rule


def along_axis_rule(op: Operation) -> Result:
    """cumsum, index_select: the scale is constant along the axis of the operator, which stays."""
    return op.flow.require_constant(op.scale(op.first), op.axes())


def uniform_rule(op: Operation) -> Result:
    """Other operators that are linear in the first argument: one scale for all its entries."""
    scale = op.flow.require_constant(op.scale(op.first), range(len(op.size(op.first))))
    return map_indices(scale, lambda places: places.reshape([1] * len(op.shape)))


def norm_rule(op: Operation) -> Result:
    """Norm layers: the input and running statistics keep their scale, the result has that of weight and bias.

    Weight and bias lie along axis 1, or along the last axes (layer norm).
    """
    trailing = op.get("normalized_shape") is not None
    affine = ["weight"] if op.get("bias") is None else ["weight", "bias"]
    axes = len(op.shape)

    def placed(places: IndexArray) -> IndexArray:
        return propagation.lift(places if trailing else places.reshape(-1, *[1] * (axes - 2)), axes)

    result = equate_scales(op, [map_indices(op.scale(name), placed) for name in affine])
    value = op.node.meta["val"]
    return result if isinstance(value, Tensor) else [result, *(UNSCALED for _ in value[1:])]
