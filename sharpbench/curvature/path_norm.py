"""Paths: a positively homogeneous network as its layers, and the sum over its paths of the squared weights on them.

A batch norm in eval mode is an affine layer; where it follows a linear or convolution it is folded into that.
"""
# ruff: noqa: SIM905 - words between blanks read better than a column of quoted names

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, fx

from sharpbench.core.batch import Inputs, list_tensors, map_tensors, named_tensors, take_examples
from sharpbench.core.graph import Graph
from sharpbench.core.subject import Subject
from sharpbench.curvature.layers import CONVOLUTIONS
from sharpbench.errors import InvalidInput

aten = torch.ops.aten
NORM = aten._native_batch_norm_legit_no_training.default
PASSING = frozenset(
    """relu relu_ leaky_relu leaky_relu_ view reshape _unsafe_view permute transpose t squeeze unsqueeze flatten
    expand clone contiguous alias slice select narrow split split_with_sizes chunk unbind getitem cat stack dropout
    max_pool1d max_pool2d max_pool3d max_pool2d_with_indices max_pool3d_with_indices adaptive_max_pool1d
    adaptive_max_pool2d adaptive_max_pool3d avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d
    adaptive_avg_pool3d _adaptive_avg_pool2d _adaptive_avg_pool3d mean sum add pad constant_pad_nd""".split()
)
"""Operators that on numbers that are not negative are homogeneous, and are run as they are."""


@dataclass(frozen=True, slots=True, eq=False)
class AffineLayer:
    """A linear or convolution: its node, its weight's name, its weight and bias with a batch norm folded in, float64.

    norm: the batch norm that is folded in.
    """

    node: fx.Node
    name: str
    weight: Tensor
    bias: Tensor | None
    norm: fx.Node | None


def path_sum(subject: Subject) -> float:
    """The sum over all paths, from an input or bias to a logit, of the product of the squared weights on the path.

    It is the sum of the logits for inputs of ones and squared weights. Max pools take the largest of their inputs,
    average pools the mean. A batch norm that follows no layer counts with its own squared scale and shift.

    Raises:
        InvalidInput: where an operator is not homogeneous.

    Cost: one forward pass on one example.

    >>> curvature.path_sum(subject.with_params({name: torch.ones_like(w) for name, w in subject.params.items()}))
    8.0
    """
    graph, values = subject.graph, _values(subject)
    layers = {layer.node: layer for layer in _layers(graph, values)}
    folded = {layer.norm for layer in layers.values()}
    held = {place: values[place].square() for place in graph.parameters}
    ones = list_tensors(input_ones(subject))
    held.update(zip(graph.inputs, ones, strict=True))
    for node in graph.nodes:
        if node in layers:
            held[node] = _squared(layers[node], held)
        elif node.target == NORM:
            given = held[node.all_input_nodes[0]]
            held[node] = cast(Tensor, (given if node in folded else _normed(node, given, values),))
        else:
            _check(node, held)
            arguments, options = fx.node.map_arg((node.args, node.kwargs), held.__getitem__)
            held[node] = cast(Callable[..., Any], node.target)(*arguments, **options)
    return float(held[graph.outputs[0]].sum())


def input_ones(subject: Subject) -> Inputs:
    """One example of ones, in the form of the subject's inputs, float64.

    Raises InvalidInput where inputs are integers or truth values, such as tokens or masks.

    >>> curvature.input_ones(subject)
    tensor([[1., 1., 1.]], dtype=torch.float64)
    """
    for path, leaf in named_tensors(subject.inputs).items():
        if not leaf.is_floating_point():
            raise InvalidInput(f"{path} are of {leaf.dtype}; paths start at real numbers")
    return map_tensors(lambda leaf: torch.ones_like(leaf, dtype=torch.float64), take_examples(subject.inputs, slice(1)))


def chain(subject: Subject) -> tuple[AffineLayer, ...]:
    """The layers of a network that is a single chain of them, in order, with batch norms folded in.

    Raises:
        InvalidInput: where two branches meet, or an operator is not homogeneous.

    >>> [layer.name for layer in curvature.chain(subject)]
    ['weight']
    """
    graph = subject.graph
    layers = _layers(graph, _values(subject))
    nodes, norms = {layer.node for layer in layers}, {layer.norm for layer in layers}
    depends = set(graph.inputs)
    for node in graph.nodes:
        depending = [source for source in node.all_input_nodes if source in depends]
        if len(depending) > 1:
            raise InvalidInput(f"two branches meet in {node.target}; the layers are not a chain")
        if node.target == NORM and node not in norms:
            raise InvalidInput("a batch norm follows no linear or convolution that it could be folded into")
        if node not in nodes | norms:
            _check(node, depends)
        depends.add(node)
    return layers


def _values(subject: Subject) -> dict[fx.Node, Tensor]:
    """The values of parameters and buffers by their place, float64."""
    known = {**subject.constants, **subject.params}
    places = {**subject.graph.parameters, **subject.graph.buffers}
    return {place: known[name].double() for place, name in places.items() if known[name].is_floating_point()}


def _layers(graph: Graph, values: Mapping[fx.Node, Tensor]) -> tuple[AffineLayer, ...]:
    found = []
    for node in graph.nodes:
        if node.target == aten.linear.default or node.target in CONVOLUTIONS:
            found.append(_affine(graph, node, values))
    return tuple(found)


def _affine(graph: Graph, node: fx.Node, values: Mapping[fx.Node, Tensor]) -> AffineLayer:
    kernel, shift = (*node.args[1:3], None)[:2]
    if not isinstance(kernel, fx.Node) or kernel not in graph.parameters:
        raise InvalidInput(f"the weight of {node.target} is not a parameter but computed")
    if shift is not None and shift not in graph.parameters:
        raise InvalidInput(f"the bias of {node.target} is not a parameter but computed")
    weight, bias = values[kernel], values[shift] if isinstance(shift, fx.Node) else None
    user = next(iter(node.users), None)
    norm = user if user is not None and len(node.users) == 1 and user.target == NORM else None
    if weight.ndim == 2 and node.meta["val"].ndim > 2:
        norm = None  # the channels of the batch norm are not the outputs of the linear
    if norm is not None:
        scale, offset = _scale_and_shift(norm, values)
        weight = weight * scale.reshape(-1, *[1] * (weight.ndim - 1))
        bias = offset if bias is None else scale * bias + offset
    return AffineLayer(node, graph.parameters[kernel], weight, bias, norm)


def _squared(layer: AffineLayer, held: Mapping[fx.Node, Tensor]) -> Tensor:
    """The layer with squared weights, on what it is given."""
    bias = None if layer.bias is None else layer.bias.square()
    data, rest = layer.node.args[0], layer.node.args[3:]
    if not isinstance(data, fx.Node) or data not in held:
        raise InvalidInput(f"{layer.node.target} reads a constant")
    result: Tensor = cast(Callable[..., Tensor], layer.node.target)(held[data], layer.weight.square(), bias, *rest)
    return result


def _normed(node: fx.Node, given: Tensor, values: Mapping[fx.Node, Tensor]) -> Tensor:
    """A batch norm as a separate layer, with squared scale and shift."""
    shape = (-1, *[1] * (given.ndim - 2))
    scale, shift = _scale_and_shift(node, values)
    return given * scale.square().reshape(shape) + shift.square().reshape(shape)


def _scale_and_shift(norm: fx.Node, values: Mapping[fx.Node, Tensor]) -> tuple[Tensor, Tensor]:
    """s, t [channels] of a batch norm in eval mode, s x + t."""
    weight, bias, mean, variance = (values[place] if isinstance(place, fx.Node) else None for place in norm.args[1:5])
    if mean is None or variance is None:
        raise InvalidInput("a batch norm has no running statistics")
    epsilon = norm.args[6]
    assert isinstance(epsilon, float)
    scale = (variance + epsilon).rsqrt() * (1 if weight is None else weight)
    return scale, (0 if bias is None else bias) - mean * scale


def _check(node: fx.Node, known: Mapping[fx.Node, Tensor] | set[fx.Node]) -> None:
    """Raises InvalidInput unless the operator is homogeneous on what the network is given."""
    packet = getattr(node.target, "overloadpacket", None)
    name = "getitem" if node.target is operator.getitem else str(getattr(packet, "__name__", node.target))
    if name not in PASSING:
        raise InvalidInput(f"{node.target} is neither a layer nor positively homogeneous")
    numbers = [each for each in (*node.args, *node.kwargs.values()) if not isinstance(each, fx.Node)]
    padded = name in ("pad", "constant_pad_nd") and any(each not in ("constant", None, 0) for each in node.args[2:])
    if padded or (name == "add" and numbers):
        raise InvalidInput(f"{node.target} adds or multiplies a constant, {numbers}")
    constants = [source.name for source in node.all_input_nodes if source not in known]
    if constants:
        raise InvalidInput(f"{node.target} reads a constant, {', '.join(constants)}")
