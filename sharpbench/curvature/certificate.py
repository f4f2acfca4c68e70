"""Certificate: for which parameters the Gauss-Newton block provably equals the Hessian's diagonal block.

It does where the logits are piecewise affine in the parameter with all others fixed. That is read off the
captured graph: a parameter is followed from where it enters, and every operator that it reaches must be
piecewise affine in what depends on it. Whatever is not known to be so stands in the way: the certificate is
conservative.
"""

from __future__ import annotations

import operator

import torch
from torch import fx

from sharpbench.errors import InvalidInput
from sharpbench.graph import Graph
from sharpbench.subject import Subject

aten = torch.ops.aten

PIECEWISE_AFFINE: frozenset[object] = frozenset(
    {
        *(aten.relu.default, aten.leaky_relu.default, aten.hardtanh.default, aten.relu6.default, aten.abs.default),
        *(aten.threshold.default, aten.clamp.default, aten.clamp_min.default, aten.maximum.default),
        *(aten.max_pool1d.default, aten.max_pool2d.default, aten.max_pool3d.default),
        *(aten.avg_pool1d.default, aten.avg_pool2d.default, aten.avg_pool3d.default),
        *(aten.adaptive_avg_pool1d.default, aten.adaptive_avg_pool2d.default, aten.adaptive_max_pool2d.default),
        *(aten.mean.dim, aten.mean.default, aten.sum.dim_IntList, aten.sum.default, aten.neg.default),
        *(aten.add.Tensor, aten.sub.Tensor, aten.cat.default, aten.stack.default, aten.dropout.default),
        *(aten.flatten.using_ints, aten.view.default, aten.reshape.default, aten.unflatten.int),
        *(aten.permute.default, aten.transpose.int, aten.t.default, aten.unsqueeze.default, aten.squeeze.dim),
        *(aten.expand.default, aten.slice.Tensor, aten.select.int, aten.split.Tensor, aten.chunk.default),
        *(aten.clone.default, aten.contiguous.default, aten.alias.default, aten.pad.default),
        *(aten.constant_pad_nd.default, operator.getitem),
    }
)
"""Operators that are piecewise affine in all their tensor arguments together."""

PRODUCTS: frozenset[object] = frozenset(
    {
        *(aten.linear.default, aten.conv1d.default, aten.conv2d.default, aten.conv3d.default),
        *(aten.conv1d.padding, aten.conv2d.padding, aten.conv3d.padding),
        *(aten.conv_transpose1d.default, aten.conv_transpose2d.input, aten.conv_transpose3d.input),
        *(aten.mul.Tensor, aten.matmul.default, aten.mm.default, aten.bmm.default, aten.prelu.default),
        *(aten.batch_norm.default, aten._native_batch_norm_legit_no_training.default, aten.embedding.default),
    }
)
"""Operators that are piecewise affine in each of their first two arguments with the other fixed."""


def certificate(subject: Subject) -> dict[str, tuple[str, ...]]:
    """The operators that stand in the way, for every parameter under measurement; none: it is certified.

    A network whose graph cannot be captured has no certificate, and the reason stands in each place.
    """
    try:
        graph = subject.graph
    except InvalidInput as error:
        return dict.fromkeys(subject.params, (str(error),))
    return {name: _obstacles(graph, name) for name in subject.params}


def _obstacles(graph: Graph, name: str) -> tuple[str, ...]:
    reached = {node for node, owner in graph.parameters.items() if owner == name}
    found: dict[str, None] = {}
    for node in graph.nodes:
        if reached.isdisjoint(node.all_input_nodes):
            continue
        reached.add(node)
        if not _is_piecewise_affine(node, reached):
            found[str(node.target)] = None
    return tuple(found)


def _is_piecewise_affine(node: fx.Node, reached: set[fx.Node]) -> bool:
    """Whether the operator is piecewise affine in those of its arguments that depend on the parameter."""
    if node.target in PIECEWISE_AFFINE:
        return True
    if node.target == aten.div.Tensor:
        return node.args[1] not in reached
    if node.target not in PRODUCTS or (node.target == aten.batch_norm.default and node.args[5] is not False):
        return False
    one, other = node.args[:2]
    return not (one in reached and other in reached)
