"""Partial traces of the Gauss-Newton matrix over a few entries of one axis of a parameter, with its diagonal.

For h entries along an axis, as the rows that belong to one attention head, and each index r of the other axes, the
matrix sum_{i,k} g_(a,r) g_(b,r) [h, h] over examples i and columns k of the output root, divided by n. Its diagonal is
that of the Gauss-Newton matrix; a linear map of the h entries acts on it as on the weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sharpbench.core.subject import Params, Subject
from sharpbench.curvature import squared_gradients
from sharpbench.curvature.ggn import chunked_columns, exact_columns
from sharpbench.curvature.layers import Layer
from sharpbench.curvature.reference import dense_ggn, parameter_blocks
from sharpbench.curvature.vjp import LayerVjps, add_trees, start_sums


@dataclass(frozen=True, slots=True, eq=False)
class Section:
    """h entries along one axis of a parameter. indices: [h]."""

    parameter: str
    axis: int
    indices: NDArray[np.int64]


def partial_traces(subject: Subject, sections: Sequence[Section]) -> tuple[Params, list[Tensor]]:
    """The diagonal of the Gauss-Newton matrix by parameter, and of each section its matrices [rest, h, h].

    rest: the indices of the other axes, flattened; 1 for a parameter of one axis. In the type in which sums over
    examples are taken.

    Raises:
        MemoryError: before it starts, where one example does not fit into memory.

    Cost: that of `exact_diagonal`, and h multiplications for each entry of a section's gradient.

    >>> import numpy as np
    >>> section = curvature.Section("weight", 0, np.array([0, 1]))
    >>> diagonal, (matrices,) = curvature.partial_traces(subject, [section])
    >>> matrices.shape  # 3 inputs, 2 outputs
    torch.Size([3, 2, 2])
    >>> bool((matrices.diagonal(dim1=1, dim2=2) == diagonal["weight"].T).all())
    True
    """
    total = start_sums(subject.params)
    by_parameter: dict[str, list[tuple[str, Section]]] = {}
    for number, section in enumerate(sections):
        key = f"section {number}"  # no parameter's name holds a space
        by_parameter.setdefault(section.parameter, []).append((key, section))
        shape = subject.params[section.parameter].shape
        units = len(section.indices)
        total[key] = total[section.parameter].new_zeros(shape.numel() // shape[section.axis], units, units)
    columns = exact_columns(subject)
    if columns.count:  # otherwise one class is certain
        for _, part in chunked_columns(subject, columns, lambda pulled: _sums(subject, pulled, by_parameter)):
            add_trees(total, part)
    means = {name: value.div_(subject.n) for name, value in total.items()}
    return {name: means[name] for name in subject.params}, [means[f"section {at}"] for at in range(len(sections))]


def reference_partial_traces(subject: Subject, sections: Sequence[Section]) -> tuple[Params, list[Tensor]]:
    """The same by the definition, from the dense Gauss-Newton matrix.

    Raises:
        InvalidInput: above MATRIX_LIMIT parameters.

    >>> import numpy as np
    >>> section = curvature.Section("weight", 0, np.array([0, 1]))
    >>> _, (slow,) = curvature.reference_partial_traces(subject, [section])
    >>> _, (fast,) = curvature.partial_traces(subject, [section])
    >>> torch.allclose(slow, fast)
    True
    """
    matrix, blocks = dense_ggn(subject), parameter_blocks(subject)
    diagonal = {name: matrix.diagonal()[blocks[name]].reshape(value.shape) for name, value in subject.params.items()}
    found = []
    for section in sections:
        block, shape = blocks[section.parameter], subject.params[section.parameter].shape
        places = np.moveaxis(np.arange(shape.numel()).reshape(shape), section.axis, 0)[section.indices]
        rest = torch.from_numpy(places.reshape(len(places), -1).T.copy())  # [rest, h]
        found.append(matrix[block, block][rest[:, :, None], rest[:, None, :]])
    return diagonal, found


def _sums(subject: Subject, pulled: LayerVjps, sections: dict[str, list[tuple[str, Section]]]) -> Params:
    """By parameter the sums of squared gradients, by section those of their products."""

    def of_layer(layer: Layer, inputs: Tensor, deltas: Tensor) -> Params:
        found: Params = {}
        if layer.weight and layer.weight in sections:
            patches, slopes = layer.factors(inputs, deltas)
            shape = subject.params[layer.weight].shape
            together = max(len(section.indices) for _, section in sections[layer.weight])
            for _, formed in squared_gradients.gradients(patches, slopes, together=together):
                by_column = formed.unflatten(2, (-1, slopes.shape[3])).movedim(2, 1).flatten(0, 1)  # [N, G, O, P]
                stored = torch.func.vmap(layer.shaped)(by_column)
                add_trees(found, _products(layer.weight, stored.reshape(-1, *shape), sections))
        elif layer.weight:
            found[layer.weight] = layer.shaped(squared_gradients.weight_diagonal(*layer.factors(inputs, deltas)))
        if layer.bias:
            slopes = layer.outputs(deltas)  # [B, G, K, O, T]
            rows = slopes.sum(4).movedim(2, 1).flatten(0, 1).flatten(1)
            add_trees(found, _products(layer.bias, rows, sections))
        return found

    def of_rows(name: str, rows: Tensor) -> Params:
        return _products(name, rows.flatten(0, 1), sections)

    return pulled.sums(of_layer, of_rows)


def _products(name: str, rows: Tensor, sections: dict[str, list[tuple[str, Section]]]) -> Params:
    """Of gradients [N, *shape] of one parameter: the sum of their squares, and of their products in each section."""
    found = {name: rows.square().sum(0)}
    if name not in sections:
        return found
    turned = rows.flatten(1).T.contiguous().unflatten(0, rows.shape[1:])  # [*shape, N]: products are over the last axis
    for key, section in sections[name]:
        chosen = torch.from_numpy(np.ascontiguousarray(section.indices)).to(rows.device)
        moved = turned.movedim(section.axis, 0)[_as_slice(chosen)]
        picked = moved.reshape(len(chosen), -1, len(rows)).movedim(1, 0)  # [rest, h, N]
        found[key] = picked @ picked.transpose(1, 2)
    return found


def _as_slice(chosen: Tensor) -> Tensor | slice:
    """Successive indices as a slice, which copies nothing."""
    first, count = int(chosen[0]), len(chosen)
    successive = bool((chosen == torch.arange(first, first + count, device=chosen.device)).all())
    return slice(first, first + count) if successive else chosen
