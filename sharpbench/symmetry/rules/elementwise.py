"""Rules of operators that act entry by entry."""

from __future__ import annotations

import math

from torch import fx

from sharpbench.symmetry.rules.operation import Operation, Result, Rule, equate_scales, homogeneous_rule, pin_rule
from sharpbench.symmetry.rules.propagation import multiply_scale


def power_rule(exponent: float) -> Rule:
    """The rule of operators that are homogeneous of degree `exponent`."""
    return lambda op: multiply_scale(exponent, op.scale(op.first))


def pow_rule(op: Operation) -> Result:
    """pow: homogeneous of a constant degree; a tensor as exponent pins."""
    exponent = op.get("exponent")
    return multiply_scale(float(exponent), op.scale("self")) if isinstance(exponent, int | float) else pin_rule(op)


def clamp_rule(op: Operation) -> Result:
    """clamp: a rescaling crosses no bound at 0; any other bound pins."""
    bounds = [op.get(name) for name in ("min", "max", "threshold", "value")]
    return homogeneous_rule(op) if all(bound is None or bound == 0 for bound in bounds) else pin_rule(op)


def sum_rule(op: Operation) -> Result:
    """Sums and maxima: all tensors have equal scales; adding a number pins."""
    names = [name for name in ("self", "input", "other") if op.get(name) is not None]
    given = [(op.get(name), op.scale(name)) for name in names]
    if any(not isinstance(value, fx.Node) and value != 0 for value, _ in given):
        return pin_rule(op)
    return equate_scales(op, [scale for value, scale in given if isinstance(value, fx.Node)])


def product_rule(op: Operation) -> Result:
    """Products: log-scales add."""
    return op.flow.merge_terms((*op.scale("self"), *op.scale("other")))  # a number is unscaled


def quotient_rule(op: Operation) -> Result:
    """Quotients: log-scales subtract; rounding pins."""
    if op.get("rounding_mode") is not None:
        return pin_rule(op)
    return op.flow.merge_terms((*op.scale("self"), *multiply_scale(-1.0, op.scale("other"))))


def added_product_rule(degree: float) -> Rule:
    """The rule of addcmul and addcdiv: a product or quotient is added to a tensor of equal scale."""

    def rule(op: Operation) -> Result:
        product = op.flow.merge_terms((*op.scale("tensor1"), *multiply_scale(degree, op.scale("tensor2"))))
        return equate_scales(op, [product, op.scale("self")])

    return rule


def where_rule(op: Operation) -> Result:
    """where: both alternatives have equal scales."""
    return equate_scales(op, [op.scale(name) for name in ("self", "other")])


def masked_fill_rule(op: Operation) -> Result:
    """masked_fill: no rescaling changes 0 or an infinity; any other value pins."""
    value = op.get("value")
    return (
        homogeneous_rule(op) if isinstance(value, int | float) and value in (0, math.inf, -math.inf) else pin_rule(op)
    )


def prelu_rule(op: Operation) -> Result:
    """prelu: homogeneous in the input; the slope keeps its scale."""
    return homogeneous_rule(op)
