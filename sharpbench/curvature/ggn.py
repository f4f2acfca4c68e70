"""Exact traces and diagonals of the Gauss-Newton matrix of any network, by pulling back the output root.

With Lambda_i = S_i S_i^T the Hessian of example i's loss by its logits, the diagonal is
(1/n) sum_i sum_k (J_i^T s_ik)^2: never negative, C - 1 backward passes for cross entropy, C for mean squared
error. It is that of the Hessian of the mean loss where the network is piecewise affine in each parameter.
(Ibayashi, Hamaguchi, Imaizumi 2021, Proposition 1 and appendix H, who subtract; here a factor, see `output`.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

import torch
from torch import Tensor

from sharpbench.core.subject import Params, Subject
from sharpbench.curvature import chunking, squared_gradients
from sharpbench.curvature.layers import Layer
from sharpbench.curvature.output_hessian import columns_of, output_root
from sharpbench.curvature.vjp import LayerVjps, LayerwiseNetwork, Root, add_trees, is_out_of_memory, layerwise_network

T = TypeVar("T")


def exact_traces(subject: Subject) -> dict[str, float]:
    """The trace of each parameter's diagonal block of the Gauss-Newton matrix, exact up to rounding.

    Raises:
        MemoryError: before it starts, where one example does not fit into memory.

    Cost: C - 1 backward passes for cross entropy, C for mean squared error. The gradient by a weight that only a linear
    layer or convolution reads is never formed.

    >>> {name: round(trace, 9) for name, trace in curvature.exact_traces(subject).items()}
    {'weight': 4.5, 'bias': 0.5}
    """
    traces = _mean(subject, sum_traces)
    return {name: float(traces[name].sum()) for name in subject.params}


def exact_diagonal(subject: Subject) -> dict[str, Tensor]:
    """The diagonal of the Gauss-Newton matrix by parameter, shaped like it, exact up to rounding.

    Raises and cost: as `exact_traces`.

    >>> curvature.exact_diagonal(subject)["weight"]
    tensor([[0.2500, 1.0000, 1.0000],
            [0.2500, 1.0000, 1.0000]], dtype=torch.float64)
    """
    diagonals = _mean(subject, sum_diagonal)
    return {name: diagonals[name].reshape(value.shape) for name, value in subject.params.items()}


def sum_traces(pulled: LayerVjps) -> Params:
    """Scalars by parameter: the sums of the squared gradients of a chunk."""

    def of_layer(layer: Layer, inputs: Tensor, deltas: Tensor) -> Params:
        if layer.weight is None:
            return {str(layer.bias): squared_gradients.bias_trace(layer.outputs(deltas))}
        factors = layer.factors(inputs, deltas)
        if layer.bias is None:
            return {layer.weight: squared_gradients.weight_trace(*factors)}
        if layer.transposed:
            bias = squared_gradients.bias_trace(layer.outputs(deltas))
            return {layer.weight: squared_gradients.weight_trace(*factors), layer.bias: bias}
        weight, bias = squared_gradients.traces(*factors)
        return {layer.weight: weight, layer.bias: bias}

    return pulled.sums(of_layer, lambda rows: rows.square().sum())


def sum_diagonal(pulled: LayerVjps) -> Params:
    """Tensors by parameter, of as many elements: the same, element by element."""

    def of_layer(layer: Layer, inputs: Tensor, deltas: Tensor) -> Params:
        diagonals = {}
        if layer.weight:
            diagonals[layer.weight] = layer.shaped(squared_gradients.weight_diagonal(*layer.factors(inputs, deltas)))
        if layer.bias:
            diagonals[layer.bias] = squared_gradients.bias_diagonal(layer.outputs(deltas))
        return diagonals

    return pulled.sums(of_layer, lambda rows: rows.square().sum((0, 1)))


def predicted_bytes(subject: Subject) -> int:
    """The peak memory in bytes, above the subject's, that `exact_traces` and `exact_diagonal` are predicted to use.

    >>> curvature.predicted_bytes(subject) > 0
    True
    """
    columns = columns_of(subject.criterion, subject.once(layerwise_network).classes)
    return chunking.choose_chunk(subject.once(layerwise_network), max(1, columns)).bytes


def chunked_columns(
    subject: Subject, root: Root, columns: int, of: Callable[[LayerVjps], T], aids: Tensor | None = None
) -> Iterator[T]:
    """of(pulled) of every chunk of the examples and of the root's columns.

    aids [n, ...]: what the root is given of each example beside its logits; the targets by default. A chunk that
    does not fit into memory is halved, examples first; columns are split only where one example goes alone.
    """
    whole: LayerwiseNetwork = subject.once(layerwise_network)
    given = subject.targets if aids is None else aids
    chunk = chunking.choose_chunk(whole, columns)
    start = first = 0
    while start < len(subject.inputs):
        examples, some = slice(start, start + chunk.examples), slice(first, min(first + chunk.columns, columns))
        try:
            part = of(whole.pull(subject.inputs[examples], given[examples], root, some))
        except RuntimeError as error:
            smaller = chunk.halved()
            if smaller is None or not is_out_of_memory(error):
                raise
            chunk = smaller
            continue
        yield part
        first = some.stop
        if first == columns:
            start, first = examples.stop, 0


def _mean(subject: Subject, of: Callable[[LayerVjps], Params]) -> Params:
    """The mean over examples, by parameter, over all columns of the exact output root."""

    def root(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        return output_root(subject.criterion, logits, target)

    total: Params = {}
    columns = columns_of(subject.criterion, subject.once(layerwise_network).classes)
    if columns == 0:  # one class is certain
        return {name: torch.zeros_like(value) for name, value in subject.params.items()}
    for part in chunked_columns(subject, root, columns, of):
        add_trees(total, part)
    return {name: value.div_(len(subject.inputs)) for name, value in total.items()}
