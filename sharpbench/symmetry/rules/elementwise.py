"""Entrywise: rules of operators that treat every entry by itself."""

from __future__ import annotations

import math

from torch import fx

from sharpbench.symmetry.rules.operation import Operation, Result, Rule, alike, passes, pinned
from sharpbench.symmetry.rules.propagation import times


def power(exponent: float) -> Rule:
    """Homogeneous of that degree."""
    return lambda op: times(exponent, op.scale(op.first))


def raised(op: Operation) -> Result:
    """pow: of the degree of a number; pinned for a tensor."""
    exponent = op.get("exponent")
    return times(float(exponent), op.scale("self")) if isinstance(exponent, int | float) else pinned(op)


def clamped(op: Operation) -> Result:
    """Bounds at 0 or none are crossed by no rescaling; any other pins."""
    bounds = [op.get(name) for name in ("min", "max", "threshold", "value")]
    return passes(op) if all(bound is None or bound == 0 for bound in bounds) else pinned(op)


def added(op: Operation) -> Result:
    """A sum, maximum or choice: all tensors alike; a number that is added pins."""
    names = [name for name in ("self", "input", "other") if op.get(name) is not None]
    given = [(op.get(name), op.scale(name)) for name in names]
    if any(not isinstance(value, fx.Node) and value != 0 for value, _ in given):
        return pinned(op)
    return alike(op, [scale for value, scale in given if isinstance(value, fx.Node)])


def multiplied(op: Operation) -> Result:
    """A product: log-scales add."""
    return op.flow.sum((*op.scale("self"), *op.scale("other")))  # a number is on the ground


def divided(op: Operation) -> Result:
    """A quotient: log-scales subtract; rounding pins."""
    if op.get("rounding_mode") is not None:
        return pinned(op)
    return op.flow.sum((*op.scale("self"), *times(-1.0, op.scale("other"))))


def added_product(degree: float) -> Rule:
    """addcmul and addcdiv: a product or quotient, and what it is added to."""

    def rule(op: Operation) -> Result:
        product = op.flow.sum((*op.scale("tensor1"), *times(degree, op.scale("tensor2"))))
        return alike(op, [product, op.scale("self")])

    return rule


def chosen(op: Operation) -> Result:
    """where: both alternatives alike."""
    return alike(op, [op.scale(name) for name in ("self", "other")])


def filled(op: Operation) -> Result:
    """masked_fill: with 0 or an infinity, which no rescaling changes; anything else pins."""
    value = op.get("value")
    return passes(op) if isinstance(value, int | float) and value in (0, math.inf, -math.inf) else pinned(op)


def sloped(op: Operation) -> Result:
    """prelu: homogeneous in the input, the slope keeps its scale."""
    return passes(op)
