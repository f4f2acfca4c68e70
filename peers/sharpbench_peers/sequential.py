"""Conversion of a network to nn.Sequential from its graph."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn

from sharpbench import NotApplicable, Subject

DIMENSIONS = (1, 2, 3)
LAYER_MODULES: Mapping[str, type[nn.Module]] = {
    "aten.linear.default": nn.Linear,
    **{f"aten.conv{d}d.{form}": getattr(nn, f"Conv{d}d") for d in DIMENSIONS for form in ("default", "padding")},
}
PLAIN_MODULES: Mapping[str, tuple[type[nn.Module], tuple[str, ...]]] = {
    "aten.relu.default": (nn.ReLU, ()),
    "aten.tanh.default": (nn.Tanh, ()),
    "aten.sigmoid.default": (nn.Sigmoid, ()),
    "aten.leaky_relu.default": (nn.LeakyReLU, ("negative_slope",)),
    "aten.elu.default": (nn.ELU, ("alpha",)),
    **{
        f"aten.max_pool{d}d.default": (
            getattr(nn, f"MaxPool{d}d"),
            ("kernel_size", "stride", "padding", "dilation", "ceil_mode"),
        )
        for d in DIMENSIONS
    },
    **{
        f"aten.avg_pool{d}d.default": (
            getattr(nn, f"AvgPool{d}d"),
            ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad"),
        )
        for d in DIMENSIONS
    },
    **{
        f"aten.adaptive_avg_pool{d}d.default": (getattr(nn, f"AdaptiveAvgPool{d}d"), ("output_size",))
        for d in DIMENSIONS
    },
}
FLATTENING = {"aten.view.default", "aten.reshape.default", "aten._unsafe_view.default"}
IDENTITIES = {"aten.clone.default", "aten.alias.default", "aten.contiguous.default"}
"""Operators that dropout and Identity leave in the graph in eval mode."""


def to_sequential(subject: Subject) -> tuple[nn.Sequential, dict[str, nn.Parameter]]:
    """The subject's network as nn.Sequential, and its parameters under measurement by their names in the subject.

    Raises:
        NotApplicable: unless the graph is a chain of linear layers, convolutions, activations, pools and flattenings
            in which each parameter is used once; the message names the operator.
    """
    graph = subject.graph
    names = dict(graph.parameters)
    held = {**subject.params, **subject.constants}
    parameters = {name: nn.Parameter(held[name].clone(), name in subject.params) for name in names.values()}
    row: list[nn.Module] = []
    if len(graph.inputs) != 1:
        raise NotApplicable(f"no row of modules: the network has {len(graph.inputs)} inputs")
    (flow,) = graph.inputs
    for node in graph.nodes:
        _check_chain(node, flow)
        operator = str(node.target)
        if operator in LAYER_MODULES:
            weight, bias = (names.pop(place, None) if place is not None else "" for place in _parameter_nodes(node))
            if weight is None or bias is None:
                raise NotApplicable(f"no row of modules: {operator} shares its parameters, or computes them")
            row.append(_make_layer(LAYER_MODULES[operator], node, parameters[weight], parameters.get(bias)))
        elif operator in PLAIN_MODULES:
            cls, words = PLAIN_MODULES[operator]
            row.append(cls(**_module_arguments(node, words)))
        elif operator in FLATTENING:
            row += _flatten_modules(node)
        elif operator not in IDENTITIES:
            raise NotApplicable(f"no row of modules: {operator} stands in it")
        flow = node
    if graph.outputs != (flow,):
        raise NotApplicable("no row of modules: the output is not its last operator's")
    return nn.Sequential(*row).eval(), {name: value for name, value in parameters.items() if value.requires_grad}


def _check_chain(node: fx.Node, flow: fx.Node) -> None:
    """Raises NotApplicable unless `node` reads the output of the previous node, and no other node does."""
    if node.args[:1] != (flow,) or len(flow.users) != 1:
        raise NotApplicable(f"no row of modules: {node.target} makes a branch")


def _parameter_nodes(node: fx.Node) -> tuple[Any, Any]:
    """The placeholders of weight and bias; None without a bias."""
    return node.args[1], node.args[2] if len(node.args) > 2 else None


def _make_layer(cls: type[nn.Module], node: fx.Node, weight: nn.Parameter, bias: nn.Parameter | None) -> nn.Module:
    """A linear layer or convolution that holds these parameters; no random numbers are drawn for it."""
    words: dict[str, Any] = {"bias": bias is not None, "device": "meta"}
    if cls is nn.Linear:
        layer: nn.Module = nn.Linear(weight.shape[1], weight.shape[0], **words)
    else:
        given = dict(zip(("stride", "padding", "dilation", "groups"), node.args[3:], strict=False))
        words |= {key: tuple(value) if isinstance(value, list) else value for key, value in given.items()}
        inside = weight.shape[1] * words.get("groups", 1)
        make: Callable[..., nn.Module] = cls
        layer = make(inside, weight.shape[0], tuple(weight.shape[2:]), **words)
    layer.weight, layer.bias = weight, bias  # type: ignore[assignment]
    return layer


def _module_arguments(node: fx.Node, words: tuple[str, ...]) -> dict[str, Any]:
    """The arguments after the first one, by the names of the module's arguments."""
    given = zip(words, node.args[1:], strict=False)
    if len(node.args) > 1 + len(words) or node.kwargs:
        raise NotApplicable(f"no row of modules: {node.target} is called with {node.args[1:]}")
    return {word: tuple(value) if isinstance(value, list) else value for word, value in given if value != []}


def _flatten_modules(node: fx.Node) -> list[nn.Module]:
    """The module that flattens all dimensions but the batch; empty if nothing is to be flattened."""
    before: Tensor = node.args[0].meta["val"]  # type: ignore[union-attr]
    after: Tensor = node.meta["val"]
    if before.shape == after.shape:
        return []
    if after.shape != torch.Size((1, math.prod(before.shape))):
        raise NotApplicable(f"no row of modules: {node.target} to {list(after.shape)}")
    return [nn.Flatten()]
