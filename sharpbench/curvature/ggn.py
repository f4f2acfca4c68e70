"""Exact traces and diagonals of the Gauss-Newton matrix of any network, by pulling back the output root.

With Lambda_i = S_i S_i^T the Hessian of example i's loss by its logits, the diagonal is
(1/n) sum_i sum_k (J_i^T s_ik)^2: never negative, C - 1 backward passes for cross entropy, C for mean squared
error. It is that of the Hessian of the mean loss where the network is piecewise affine in each parameter.
(Ibayashi, Hamaguchi, Imaizumi 2021, Proposition 1 and appendix H, who subtract; here a factor, see `output`.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from sharpbench.core.batch import take_examples
from sharpbench.core.fields import Scalar
from sharpbench.core.measure import Estimate
from sharpbench.core.requirements import is_out_of_memory
from sharpbench.core.subject import Params, Subject
from sharpbench.curvature import chunking, squared_gradients
from sharpbench.curvature.confidence import example_stderr
from sharpbench.curvature.layers import Layer
from sharpbench.curvature.output_hessian import columns_of, needed_columns, output_root
from sharpbench.curvature.vjp import (
    Aids,
    LayerVjps,
    LayerwiseNetwork,
    Root,
    add_trees,
    layerwise_network,
    start_sums,
)

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
    return mean_traces(subject, traces_by_example(subject))


def traces_by_example(subject: Subject) -> Tensor:
    """The traces of the blocks of each example's Gauss-Newton matrix [n, parameters], float64, on the CPU.

    `exact_traces` is their mean, at the same cost: what a mean is worth beyond its examples is read off their spread.

    >>> curvature.traces_by_example(subject).round(decimals=9)
    tensor([[4.5000, 0.5000]], dtype=torch.float64)
    """
    found = pull_by_example(subject, exact_columns(subject), squared_norms)
    return add_penalty_by_example(subject, found, [value.numel() for value in subject.params.values()])


def weighted_traces_by_example(subject: Subject, scale: Params) -> Tensor:
    """sum_j scale_j^2 G_jj over each block of each example's Gauss-Newton matrix G, [n, parameters], likewise.

    scale: a tensor for each parameter, of its shape. Cost: about that of the exact diagonal.

    >>> twice = {name: torch.full_like(value, 2.0) for name, value in subject.params.items()}
    >>> curvature.weighted_traces_by_example(subject, twice).round(decimals=9)
    tensor([[18.,  2.]], dtype=torch.float64)
    """
    weights = {name: scale[name].square() for name in subject.params}
    found = pull_by_example(subject, exact_columns(subject), lambda pulled: weighted_norms(pulled, weights))
    return add_penalty_by_example(subject, found, [float(each.sum()) for each in weights.values()])


def add_penalty_by_example(subject: Subject, values: Tensor, traces: Sequence[float]) -> Tensor:
    """values [n, m] plus the penalty's part, weight_decay times the traces [m] that the identity has in their place.

    Each example has its share of it, so that standard errors of weighted means do not change.
    """
    decay, shares = subject.criterion.weight_decay, subject.shares
    if decay == 0:
        return values
    added = decay * torch.tensor(traces, dtype=torch.float64)
    return values + (added if shares is None else shares.double()[:, None] * added)


def mean_traces(subject: Subject, by_example: Tensor) -> dict[str, float]:
    """The means over examples of values [n, parameters], by parameter.

    >>> curvature.mean_traces(subject, torch.tensor([[1.0, 4.0], [3.0, 6.0]]))
    {'weight': 2.0, 'bias': 5.0}
    """
    return dict(zip(subject.params, by_example.mean(0).tolist(), strict=True))


def exact_diagonal(subject: Subject) -> dict[str, Tensor]:
    """The diagonal of the Gauss-Newton matrix by parameter, shaped like it, exact up to rounding.

    Raises and cost: as `exact_traces`.

    >>> curvature.exact_diagonal(subject)["weight"]
    tensor([[0.2500, 1.0000, 1.0000],
            [0.2500, 1.0000, 1.0000]], dtype=torch.float64)
    """
    columns, decay = exact_columns(subject), subject.criterion.weight_decay
    if columns.count == 0:  # one class is certain
        return {name: torch.full_like(value, decay) for name, value in subject.params.items()}
    total = start_sums(subject.params)
    for _, part in chunked_columns(subject, columns, sum_diagonal):
        add_trees(total, part)
    means = {name: total[name].div_(subject.n) for name in subject.params}
    return {name: (means[name] + decay).to(value.dtype) for name, value in subject.params.items()}


def mean_estimate(subject: Subject, by_example: Tensor, **details: Scalar) -> Estimate:
    """The sum of these means as an estimate, with its standard error over examples and its parts.

    >>> estimate = curvature.mean_estimate(subject, curvature.traces_by_example(subject), method="exact")
    >>> round(estimate.value, 9), estimate.details
    (5.0, {'method': 'exact'})
    """
    parts = mean_traces(subject, by_example)
    error = example_stderr(by_example.sum(1), shares=subject.shares)
    return Estimate(sum(parts.values()), parts=parts, details=details, stderr_examples=error)


def squared_norms(pulled: LayerVjps) -> Params:
    """By parameter, for each example of a chunk, the sum over columns of its squared gradients [B]."""

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

    return pulled.sums(of_layer, lambda name, rows: {name: rows.square().flatten(1).sum(1)})


def weighted_norms(pulled: LayerVjps, weights: Params) -> Params:
    """`squared_norms`, in which the square of entry j of a gradient counts weights_j times."""

    def of_layer(layer: Layer, inputs: Tensor, deltas: Tensor) -> Params:
        found = {}
        if layer.weight:
            patches, slopes = layer.factors(inputs, deltas)
            given = layer.by_group(weights[layer.weight], (slopes.shape[1], slopes.shape[3], patches.shape[2]))
            found[layer.weight] = squared_gradients.weighted_trace(patches, slopes, given)
        if layer.bias:
            squares = squared_gradients.bias_squares(layer.outputs(deltas))
            found[layer.bias] = squares.flatten(1) @ weights[layer.bias].flatten()
        return found

    def of_rows(name: str, rows: Tensor) -> Params:
        return {name: rows.square().sum(1).reshape(len(rows), -1) @ weights[name].flatten()}

    return pulled.sums(of_layer, of_rows)


def sum_diagonal(pulled: LayerVjps) -> Params:
    """Tensors by parameter, of as many elements: the same, element by element."""

    def of_layer(layer: Layer, inputs: Tensor, deltas: Tensor) -> Params:
        diagonals = {}
        if layer.weight:
            diagonals[layer.weight] = layer.shaped(squared_gradients.weight_diagonal(*layer.factors(inputs, deltas)))
        if layer.bias:
            diagonals[layer.bias] = squared_gradients.bias_diagonal(layer.outputs(deltas))
        return diagonals

    return pulled.sums(of_layer, lambda name, rows: {name: rows.square().sum((0, 1))})


def predicted_bytes(subject: Subject) -> int:
    """The peak memory in bytes, above the subject's, that `exact_traces` and `exact_diagonal` are predicted to use.

    >>> curvature.predicted_bytes(subject) > 0
    True
    """
    columns = columns_of(subject.criterion, layerwise_network(subject).outputs)
    return chunking.choose_chunk(layerwise_network(subject), max(1, columns)).bytes


@dataclass(frozen=True, slots=True, eq=False)
class Columns:
    """What is pulled back: `count` columns of a root of each example's outputs.

    root(outputs [...], aid, columns) gives the columns of one example, for that slice of them. aids: what it is given
    of the examples of a slice. needed: how many of the first columns of each example [n] are not 0; None for all.
    """

    root: Root
    count: int
    aids: Callable[[slice], Aids]
    needed: Tensor | None = None

    def of(self, examples: slice) -> int:
        """How many columns some examples need."""
        return self.count if self.needed is None else int(self.needed[examples].max())


def chunked_columns(subject: Subject, columns: Columns, of: Callable[[LayerVjps], T]) -> Iterator[tuple[slice, T]]:
    """of(pulled) of every chunk of the examples and of the root's columns, and which examples these are.

    A chunk that does not fit into memory is halved, examples first; columns are split only where a chunk has one
    example. Examples that need no column are left out.
    """
    whole: LayerwiseNetwork = layerwise_network(subject)
    chunk = chunking.choose_chunk(whole, columns.count)
    start = first = 0
    while start < subject.n:
        examples = slice(start, start + chunk.examples)
        count = columns.of(examples)
        some = slice(first, min(first + chunk.columns, count))
        if count:
            try:
                part = of(
                    whole.pull(take_examples(subject.inputs, examples), columns.aids(examples), columns.root, some)
                )
            except RuntimeError as error:
                smaller = chunk.halved()
                if smaller is None or not is_out_of_memory(error):
                    raise
                chunk = smaller
                continue
            yield examples, part
        first = some.stop
        if first == count:
            start, first = examples.stop, 0


def pull_by_example(subject: Subject, columns: Columns, of: Callable[[LayerVjps], Params]) -> Tensor:
    """of(pulled)'s values [B] by parameter, summed over the root's columns: [n, parameters], float64, on the CPU."""
    like = next(iter(subject.params.values()))
    found = like.new_zeros((len(subject.params), subject.n))
    if columns.count:  # without any, one class is certain
        for examples, part in chunked_columns(subject, columns, of):
            for row, name in zip(found, subject.params, strict=True):
                row[examples].add_(part[name])
    return found.cpu().double().T


def count_columns(subject: Subject) -> int:
    """The columns of the exact output root of one example: the backward passes that an exact trace takes.

    >>> curvature.count_columns(subject)
    1
    """
    return columns_of(subject.criterion, subject.outputs)


def exact_columns(subject: Subject) -> Columns:
    """The columns of the exact output root."""

    def root(outputs: Tensor, target: Tensor, some: slice) -> tuple[Tensor, Tensor]:
        return output_root(subject.criterion, outputs, target, some)

    shape = layerwise_network(subject).outputs
    return Columns(
        root,
        columns_of(subject.criterion, shape),
        lambda some: subject.targets[some],
        needed_columns(subject.criterion, shape, subject.targets),
    )
