"""Reductions: rules of operators that work along axes, and of norms."""

from __future__ import annotations

from torch import Tensor

from sharpbench.symmetry.rules import propagation
from sharpbench.symmetry.rules.elementwise import added
from sharpbench.symmetry.rules.operation import Operation, Result, Rule, alike, each, pinned
from sharpbench.symmetry.rules.propagation import GROUND, IndexArray, times


def reduced(degree: float = 1.0) -> Rule:
    """mean, sum, amax: alike along the axes that go, homogeneous of that degree."""

    def rule(op: Operation) -> Result:
        gone = op.axes()
        if op.get("ord") == 0 or op.get("p") == 0:
            return pinned(op)  # counts
        scale = times(degree, op.flow.constant(op.scale(op.first), gone))
        if op.get("keepdim"):
            return scale
        return each(
            scale, lambda places: places.reshape([n for axis, n in enumerate(places.shape) if axis not in gone])
        )

    return rule


def extreme(op: Operation) -> Result:
    """max and min: of two tensors, over everything, or along an axis with the places as a second result."""
    if op.get("other") is not None:
        return added(op)
    result = reduced()(op)
    return result if isinstance(op.node.meta["val"], Tensor) or isinstance(result, list) else [result, GROUND]


def over(count: int) -> Rule:
    """Pools, interpolation, unfolding: alike along the last axes."""

    def rule(op: Operation) -> Result:
        axes = len(op.size(op.first))
        scale = op.flow.constant(op.scale(op.first), range(axes - count, axes))
        return scale if isinstance(op.node.meta["val"], Tensor) else [scale, GROUND]

    return rule


def along(op: Operation) -> Result:
    """cumsum, index_select: alike along the axis that is worked on, which stays."""
    return op.flow.constant(op.scale(op.first), op.axes())


def uniform(op: Operation) -> Result:
    """Linear in the first argument, in ways not looked into: alike everywhere."""
    scale = op.flow.constant(op.scale(op.first), range(len(op.size(op.first))))
    return each(scale, lambda places: places.reshape([1] * len(op.shape)))


def normalised(op: Operation) -> Result:
    """Norm layers: the input and running statistics keep their scale, the result has that of weight and bias.

    Weight and bias lie along axis 1, or along the last axes (layer norm).
    """
    trailing = op.get("normalized_shape") is not None
    affine = ["weight"] if op.get("bias") is None else ["weight", "bias"]
    axes = len(op.shape)

    def placed(places: IndexArray) -> IndexArray:
        return propagation.lift(places if trailing else places.reshape(-1, *[1] * (axes - 2)), axes)

    result = alike(op, [each(op.scale(name), placed) for name in affine])
    value = op.node.meta["val"]
    return result if isinstance(value, Tensor) else [result, *(GROUND for _ in value[1:])]
