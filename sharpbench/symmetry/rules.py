"""Rules: what each ATen operator says about the log-scales of the tensors at it.

A rescaling multiplies each tensor of the network by exp(s). A rule is given an operator's node and returns
linear constraints on the scales of its tensors under which scaling the arguments scales the result, for
whatever values: each constraint is a mapping from nodes to coefficients whose weighted sum of scales is 0.
An operator without a rule pins everything at it to scale 0: the group can only come out smaller, never wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import torch
from torch import fx

aten = torch.ops.aten
Constraint = Mapping[fx.Node, float]
Rule = Callable[[fx.Node], Iterator[Constraint]]


def tensors(node: fx.Node) -> list[fx.Node]:
    """The tensor arguments of an operator."""
    return [argument for argument in node.all_input_nodes if _is_tensor(argument)]


def equal(one: fx.Node, other: fx.Node) -> Constraint:
    """Both have the same scale."""
    return {one: 1.0, other: -1.0} if one is not other else {}


def passes(node: fx.Node) -> Iterator[Constraint]:
    """A positively homogeneous operator of one tensor: the result is scaled like the argument."""
    (argument,) = tensors(node)
    yield equal(node, argument)


def affine(node: fx.Node) -> Iterator[Constraint]:
    """Linear and convolution: input times weight, and a bias that scales like the output."""
    data, weight, *bias = node.args[:3]
    total: dict[fx.Node, float] = {node: 1.0}
    for factor in (data, weight):
        if isinstance(factor, fx.Node):
            total[factor] = total.get(factor, 0.0) - 1.0
    yield total
    for term in bias:
        if isinstance(term, fx.Node):
            yield equal(node, term)


def pinned(node: fx.Node) -> Iterator[Constraint]:
    """Everything at the operator keeps its scale: the rule of what is unknown."""
    for each in (node, *tensors(node)):
        yield {each: 1.0}


RULES: dict[object, Rule] = {
    aten.linear.default: affine,
    aten.conv1d.default: affine,
    aten.conv2d.default: affine,
    aten.conv3d.default: affine,
    aten.relu.default: passes,
    aten.max_pool2d.default: passes,
    aten.avg_pool2d.default: passes,
    aten.flatten.using_ints: passes,
    aten.view.default: passes,
    aten.reshape.default: passes,
    aten.dropout.default: passes,
}


def _is_tensor(node: fx.Node) -> bool:
    return isinstance(node.meta.get("val"), torch.Tensor)
