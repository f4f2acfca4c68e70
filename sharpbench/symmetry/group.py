"""The rescaling group of a network: the scales of its parameters that keep its function."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import orth
from scipy.sparse import csr_array
from torch import Tensor, fx, nn

from sharpbench.core.batch import Inputs, take_examples
from sharpbench.core.functional import Forward
from sharpbench.core.graph import Graph, current_graph
from sharpbench.core.requirements import COMPARED
from sharpbench.errors import InvalidInput
from sharpbench.symmetry.float64_check import relative_change, rounding_bound
from sharpbench.symmetry.free_parameters import first_names, free_parameters
from sharpbench.symmetry.linear_system import merge_equal_unknowns, solve_homogeneous
from sharpbench.symmetry.rules.propagation import Axes, Blocks, IndexArray, Scale, ScalePropagation, compact
from sharpbench.symmetry.rules.table import find_convolutions, propagate_scales

Array = NDArray[np.float64]
Scope = Literal["layer", "unit"]
SCOPES: tuple[Scope, ...] = ("layer", "unit")
RANK_TOLERANCE = 1e-10
"""Singular values below this share of the largest one are rounding."""

_groups: weakref.WeakKeyDictionary[Graph, dict[tuple[object, ...], RescalingGroup]] = weakref.WeakKeyDictionary()
"""Graph -> its groups, which depend only on the graph and on names."""


@dataclass(frozen=True, slots=True, eq=False)
class RescalingGroup:
    """The rescalings of a network's parameters, linear in the logarithm, that keep its function.

    scope: 'layer', one scale per parameter tensor, or one for each block of rows where later operators split the output
    of
        a weight (fused query, key and value); 'unit', one scale per channel or hidden unit.
    basis: float64 [rows, dimension], one row per parameter or slice of one. Orthonormal for layers; a sparse matrix of
        scipy for units.
    basis_rows: parameter -> arrays of rows of the basis, broadcastable to its shape; an entry's log-scale is the sum of
        (basis u) over the arrays. One array for layers; for units, two for a weight: outputs and inputs.
    unknown_operators: the operators without a rule; everything they read or write keeps its scale.
    tied: every name of a tensor of the network -> the first one, under which the group lists it.
    """

    scope: Scope
    basis: Array | csr_array
    basis_rows: Mapping[str, tuple[IndexArray, ...]] = field(repr=False)
    unknown_operators: tuple[str, ...]
    tied: Mapping[str, str] = field(repr=False)

    @property
    def dimension(self) -> int:
        """The number of independent rescalings."""
        return int(self.basis.shape[1])

    @property
    def parameters(self) -> tuple[str, ...]:
        """The parameters that might be rescaled: those that are used and were not excluded."""
        return tuple(self.basis_rows)

    @property
    def names(self) -> tuple[str, ...]:
        """The rows of the basis in words: 'fc.weight', 'qkv.weight[0:192]'; for units 'fc.weight[3]', '[:, 5]'."""
        named = [""] * self.basis.shape[0]
        for name, arrays in self.basis_rows.items():
            for rows in arrays:
                for row, words in _words(name, rows, units=self.scope == "unit"):
                    named[row] = words
        return tuple(named)

    def log_scales(self, u: Array | Tensor) -> dict[str, Array]:
        """The log-scales by parameter, broadcastable to its shape. Raises InvalidInput where u is not [dimension]."""
        element = np.asarray(u, dtype=np.float64)
        if element.shape != (self.dimension,):
            raise InvalidInput(f"u has shape {list(element.shape)}; expected [{self.dimension}], a number a dimension")
        rows = np.asarray(self.basis @ element)
        return {name: sum((rows[array] for array in arrays), np.zeros(())) for name, arrays in self.basis_rows.items()}

    def apply(self, params: Mapping[str, Tensor], u: Array | Tensor) -> dict[str, Tensor]:
        """`params` rescaled by the element u [dimension], with the same keys, dtypes and devices.

        A parameter under several names is rescaled under each. Raises InvalidInput where a scale overflows the dtype.
        """
        logs = self.log_scales(u)
        first = {name: self.tied.get(name, name) for name in params}
        return {name: _rescale(name, value, logs.get(first[name])) for name, value in params.items()}

    def verify(
        self,
        function: Callable[[dict[str, Tensor]], Tensor],
        params: Mapping[str, Tensor],
        *,
        generator: torch.Generator,
        elements: int = 1,
        spread: float = 1.0,
    ) -> float:
        """The largest relative change of `function(params)` under `elements` random elements of the group."""
        drawn = [self.random_element(generator, spread=spread) for _ in range(elements)]
        return self.largest_change(function, params, drawn)

    def largest_change(
        self, function: Callable[[dict[str, Tensor]], Tensor], params: Mapping[str, Tensor], elements: Sequence[Array]
    ) -> float:
        """The largest relative change of `function(params)` under these elements."""
        if self.dimension == 0:
            return 0.0
        with torch.no_grad():
            before = function(dict(params))
            return max(relative_change(before, function(self.apply(params, element))) for element in elements)

    def verify_elements(
        self, function: Callable[[dict[str, Tensor]], Tensor], params: Mapping[str, Tensor], elements: Sequence[Array]
    ) -> float:
        """`largest_change` under these elements. Raises InvalidInput where it exceeds rounding."""
        change, bound = self.largest_change(function, params, elements), rounding_bound(params.values())
        if not change <= bound:
            raise InvalidInput(
                f"rescalings of scope={self.scope} change the outputs by {change:.1e} of their size, above "
                f"{bound:.1e}: on these inputs the network does not compute what its graph for one example states, or "
                "its weights leave the range of their dtype; it must treat all examples of a batch alike, for any size"
            )
        return change

    def random_element(self, generator: torch.Generator, *, spread: float = 1.0) -> Array:
        """A random u [dimension]; the log-scales of the parameters are of the size of `spread`."""
        drawn = torch.randn(self.dimension, generator=generator, dtype=torch.float64).numpy()
        return np.asarray(drawn * spread, dtype=np.float64)


def rescaling_group(
    model: nn.Module,
    inputs: Inputs,
    *,
    scope: Scope = "layer",
    parameters: Collection[str] | None = None,
    forward: Forward | None = None,
) -> RescalingGroup:
    """The rescaling group of `model` in eval mode, for inputs [B, ...] of this shape, a tensor or a tree of tensors.

    It is read off the ATen graph with one rule per operator (see `rules`). Network inputs and outputs, buffers and
    constants keep their scale, and so do tensors that share memory, unless they are one parameter under several names.
    The group is not verified numerically; `describe` and `RescalingGroup.verify` do that.

    Args:
        scope: 'layer' or 'unit'.
        parameters: the names of those that may be rescaled; None for all that require gradients.
        forward: how the model is called, as in `Subject.from_module`.
    Raises:
        InvalidInput: where torch.export cannot follow the network, and for an unknown scope or parameter.

    Cost: torch.export, then milliseconds to seconds.

    >>> group = symmetry.rescaling_group(model, inputs)
    >>> group.names, group.dimension
    (('0.weight', '2.weight'), 1)
    """
    graph = graph_of(model, inputs, forward)
    return group_of(graph, free_parameters(model, graph, parameters), scope=scope)


def graph_of(model: nn.Module, inputs: Inputs, forward: Forward | None = None) -> Graph:
    """The graph of `model` on the first of these inputs; it agrees with the model on COMPARED of them."""
    few = take_examples(inputs, slice(COMPARED))
    return current_graph(model, take_examples(inputs, slice(1)), few, forward=forward)


def group_of(graph: Graph, parameters: Collection[str] | None = None, *, scope: Scope = "layer") -> RescalingGroup:
    """The rescaling group read off a captured graph, which keeps it for each choice of parameters.

    Args:
        parameters: the names of those that may be rescaled; None for all.
        scope: 'layer' or 'unit'.
    Raises:
        InvalidInput: for an unknown scope or parameter.

    >>> subject = Subject.from_module(model, inputs, targets)
    >>> symmetry.group_of(subject.graph, scope="unit").dimension  # one per hidden unit
    4
    """
    if scope not in SCOPES:
        raise InvalidInput(f"scope='{scope}' is not a scope; use 'layer' or 'unit'")
    chosen = set(graph.parameters.values()) if parameters is None else first_names(graph, parameters)
    names = {node: name for node, name in graph.parameters.items() if name in chosen}
    kept = _groups.setdefault(graph, {})
    key = (scope, frozenset(names.values()))
    if key not in kept:
        kept[key] = _unit_group(graph, names) if scope == "unit" else _layer_group(graph, names)
    return kept[key]


def _unit_group(graph: Graph, names: Mapping[fx.Node, str]) -> RescalingGroup:
    flow = propagate_scales(graph, names, Axes(find_convolutions(graph)))
    solved = solve_homogeneous(flow.unknown_count, flow.equations)
    rows, places = _parameter_rows(flow)
    basis = solved[rows]
    moved = np.unique(basis.indices)  # drop solutions that rescale no parameter
    return RescalingGroup("unit", csr_array(basis[:, moved]), places, tuple(flow.unknown_operators), graph.tied)


def _layer_group(graph: Graph, names: Mapping[fx.Node, str]) -> RescalingGroup:
    flow = propagate_scales(graph, names, Blocks(_row_blocks(graph, names)))
    rows, places = _parameter_rows(flow)
    basis = solve_homogeneous(flow.unknown_count, flow.equations)[rows].toarray()
    moved = orth(basis, rcond=RANK_TOLERANCE) if basis.size else np.zeros((len(rows), 0))
    return RescalingGroup("layer", moved, places, tuple(flow.unknown_operators), graph.tied)


def _parameter_rows(flow: ScalePropagation) -> tuple[NDArray[np.int64], dict[str, tuple[IndexArray, ...]]]:
    """The unknowns of all parameters, and for each parameter the positions of its own in this list."""
    used = [places.ravel() for scale in flow.parameters.values() for _, places in scale]
    unknowns = np.unique(np.concatenate(used)) if used else np.zeros(0, dtype=np.int64)
    return unknowns, {
        name: tuple(np.searchsorted(unknowns, places) for _, places in scale) for name, scale in flow.parameters.items()
    }


def _row_blocks(graph: Graph, names: Mapping[fx.Node, str]) -> dict[str, IndexArray]:
    """The block of each row, for parameters whose rows are split downstream before an operator mixes them.

    Found with the scales of single units: where a tensor is split, units of different pieces get different labels.
    """
    flow = propagate_scales(graph, names, Axes(find_convolutions(graph)))
    if not flow.cuts:
        return {}
    classes = _equality_classes(flow)
    draw = np.random.default_rng(0)
    label = np.zeros(classes.max() + 1, dtype=np.uint64)
    for pieces in flow.cuts:
        for piece in pieces:
            label[np.unique(classes[piece])] += draw.integers(2**63, dtype=np.uint64)
    outputs = np.zeros(flow.unknown_count, dtype=bool)
    for places in flow.outputs:
        outputs[places] = True
    found = {}
    for name, scale in flow.parameters.items():
        rows = _row_unknowns(scale, outputs)
        if rows is not None:
            block = np.unique(label[classes[rows]], return_inverse=True)[1]
            if block.max() > 0:
                found[name] = _renumber_in_order(block)
    return found


def _equality_classes(flow: ScalePropagation) -> NDArray[np.int64]:
    """A number for each unknown, the same for equal ones; those of x and -x differ."""
    merged, _ = merge_equal_unknowns(flow.unknown_count, flow.equations)
    classes = np.zeros(flow.unknown_count, dtype=np.int64)
    held = np.diff(merged.indptr) > 0
    classes[held] = 1 + 2 * merged.indices + (merged.data > 0)
    return classes


def _row_unknowns(scale: Scale, outputs: NDArray[np.bool_]) -> IndexArray | None:
    """The unknowns of a parameter's rows, if the rows are its outputs."""
    (_, places), *more = scale
    if places.ndim == 0 or places.shape[0] != places.size or (more and not outputs[places].all()):
        return None
    return places.ravel()


def _renumber_in_order(block: IndexArray) -> IndexArray:
    """Blocks renumbered in the order of their first appearance."""
    _, index, inverse = np.unique(block, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(index))[inverse]


def _words(name: str, rows: IndexArray, *, units: bool) -> Iterator[tuple[int, str]]:
    """Rows of the basis and what they scale."""
    rows = compact(rows)
    if rows.size == 1:
        yield int(rows.ravel()[0]), name
        return
    if units:
        places = {int(row): place for place, row in reversed(list(np.ndenumerate(rows)))}
        for row, place in places.items():
            index = [str(at) if size > 1 else ":" for at, size in zip(place, rows.shape, strict=True)]
            while index[-1] == ":":
                index.pop()
            yield row, f"{name}[{', '.join(index)}]"
        return
    flat = rows.ravel()
    for row in np.unique(flat).tolist():
        yield row, f"{name}[{', '.join(_runs(np.flatnonzero(flat == row)))}]"


def _runs(indices: Sequence[int] | NDArray[np.int64]) -> Iterator[str]:
    """Runs of successive indices."""
    for run in np.split(np.asarray(indices), np.flatnonzero(np.diff(indices) != 1) + 1):
        yield f"{run[0]}:{run[-1] + 1}"


def _rescale(name: str, value: Tensor, logs: Array | None) -> Tensor:
    """`value` times exp(logs); unchanged for None."""
    if logs is None:
        return value
    with np.errstate(over="ignore"):
        factor = torch.from_numpy(np.asarray(np.exp(logs)))
    scaled = value * factor.to(device=value.device, dtype=value.dtype)
    if not bool(scaled.isfinite().all()) and bool(value.isfinite().all()):
        raise InvalidInput(f"{name} times exp({float(np.max(logs)):.0f}) overflows {value.dtype}; use a smaller u")
    return scaled
