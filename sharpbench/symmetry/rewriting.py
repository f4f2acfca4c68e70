"""Rewrites: random other weights of the same function, for finding out what a measure depends on.

    layer, unit          random elements of the rescaling groups
    permutation          hidden units in another order
    attention-rotation   queries and keys of each head turned by the same rotation

Each is found on the captured graph and then tried out in float64 at perturbed weights; what changes the function is
left out. So a rewrite may leave out units or heads, and never changes the function.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from scipy.sparse.csgraph import connected_components
from torch import Tensor, fx, nn

from sharpbench.graph import Graph, capture
from sharpbench.symmetry import layout
from sharpbench.symmetry.contractions import attention as scaled_attention
from sharpbench.symmetry.contractions import convolved as scaled_convolution
from sharpbench.symmetry.elimination import merge
from sharpbench.symmetry.flow import GROUND, Axes, Flow, Scale
from sharpbench.symmetry.group import SCOPES, RescalingGroup, Scope, group_of
from sharpbench.symmetry.layout import Places
from sharpbench.symmetry.operation import Operation, Result, Rule, alike, passes, pinned
from sharpbench.symmetry.rules import RULES, convolutions, flow_of
from sharpbench.symmetry.trial import Trial, evaluating

Kind = Literal["layer", "unit", "permutation", "attention-rotation"]
State = Mapping[str, Tensor]
BOUND = 1e-9


@dataclass(frozen=True, slots=True, eq=False)
class Rescaling:
    """A random element of a rescaling group; log-scales of single potentials are of the size of `spread`."""

    group: RescalingGroup
    spread: float = 1.0

    def __call__(self, state: State, *, generator: torch.Generator) -> dict[str, Tensor]:
        """`state` rescaled."""
        return self.group.apply(state, self.group.random_element(generator, spread=self.spread))


@dataclass(frozen=True, slots=True, eq=False)
class Permutation:
    """Hidden units in another order: everywhere a unit occurs, its entries change places with another's.

    Of one set of units that may change places: (tensor, axis) -> indices [units, entries of each]. Tensors are
    parameters, and running statistics.
    """

    occurrences: Mapping[tuple[str, int], Places]

    def __call__(self, state: State, *, generator: torch.Generator) -> dict[str, Tensor]:
        """`state` permuted."""
        moved = dict(state)
        count = len(next(iter(self.occurrences.values())))
        order = torch.randperm(count, generator=generator).numpy()
        for (name, axis), indices in self.occurrences.items():
            if name in moved:
                target = np.arange(moved[name].shape[axis])
                target[indices.ravel()] = indices[order].ravel()
                moved[name] = moved[name].index_select(axis, torch.from_numpy(target).to(moved[name].device))
        return moved


@dataclass(frozen=True, slots=True, eq=False)
class Rotation:
    """Queries and keys of each head turned by a random rotation of their space, which leaves their products.

    query, key: (weight, rows [heads, width]); biases: weight -> bias.
    """

    query: tuple[str, Places]
    key: tuple[str, Places]
    biases: Mapping[str, str]

    def __call__(self, state: State, *, generator: torch.Generator) -> dict[str, Tensor]:
        """`state` rotated."""
        moved = dict(state)
        for query, key in zip(self.query[1], self.key[1], strict=True):
            drawn = torch.randn(len(query), len(query), generator=generator, dtype=torch.float64)
            turn = torch.linalg.qr(drawn)[0]
            for weight, rows in ((self.query[0], query), (self.key[0], key)):
                for name in (weight, self.biases.get(weight)):
                    if name in moved:
                        value = moved[name].clone()
                        value[rows] = turn.to(value) @ value[rows]
                        moved[name] = value
        return moved


@dataclass(frozen=True, slots=True, eq=False)
class Rewrites:
    """Rewrites of one kind, applied one after the other; none at all leaves everything as it is."""

    kind: Kind
    parts: Sequence[Callable[..., dict[str, Tensor]]]

    @property
    def trivial(self) -> bool:
        """Whether the network has no rewrite of this kind."""
        return not any(not isinstance(part, Rescaling) or part.group.dimension for part in self.parts)

    def __call__(self, state: State, *, generator: torch.Generator) -> dict[str, Tensor]:
        """`state`, parameters and buffers by name, rewritten at random: same keys, types and devices."""
        moved = dict(state)
        for part in self.parts:
            moved = part(moved, generator=generator)
        return moved


def rewrites(
    model: nn.Module, inputs: Tensor, kind: Kind, *, generator: torch.Generator, spread: float = 1.0
) -> Rewrites:
    """The random rewrites of that kind that leave the function of `model` as it is, for inputs [B, ...].

    Cost: a capture, and evaluations of `inputs`: two, or one for each set of units or heads if those together
    change the function. Raises InvalidInput as `rescaling_group` does.
    """
    with evaluating(model):
        graph = capture(model, inputs[:1])
    trial = Trial.of(model, inputs, generator=generator)
    scope: Scope | None = next((scope for scope in SCOPES if scope == kind), None)
    found: list[Callable[..., dict[str, Tensor]]]
    if scope is not None:
        found = [Rescaling(group_of(graph, scope=scope), spread)]
    else:
        found = list(_permutations(graph) if kind == "permutation" else _rotations(graph))
    together = Rewrites(kind, found)
    if trial.change(together(trial.state, generator=generator)) <= BOUND:
        return together
    return Rewrites(kind, [part for part in found if trial.change(part(trial.state, generator=generator)) <= BOUND])


def _permutations(graph: Graph) -> Iterator[Permutation]:
    """Sets of units that occur at the same tensors and are cut apart nowhere.

    The flow of log-scales serves to follow units: with rules under which every operator that treats entries alike
    hands them on, unknowns that any equation holds together are one unit.
    """
    stats = {node: name for node, name in graph.buffers.items() if node.meta["val"].is_floating_point()}
    names = {**graph.parameters, **stats}
    flow = flow_of(graph, names, Axes(convolutions(graph)), _FOLLOWED)
    unit = _units(flow)
    label = np.zeros(unit.max(initial=0) + 2, dtype=np.uint64)
    draw = np.random.default_rng(0)
    for piece in (piece for pieces in flow.cuts for piece in pieces):
        label[np.unique(unit[piece])] += draw.integers(2**63, dtype=np.uint64)
    held: dict[int, dict[tuple[str, int], list[int]]] = {}
    for name, scale in flow.parameters.items():
        for _, places in scale:
            for axis, index, each in _entries(layout.compact(unit[places])):
                held.setdefault(each, {}).setdefault((name, axis), []).append(index)
    alike: dict[tuple[object, ...], list[int]] = {}
    for each, at in held.items():
        pattern = tuple(sorted((place, len(indices)) for place, indices in at.items()))
        alike.setdefault((int(label[each]), pattern), []).append(each)
    for units in alike.values():
        if len(units) > 1:
            yield Permutation({place: np.array([held[each][place] for each in units]) for place in held[units[0]]})


def _units(flow: Flow) -> Places:
    """The unit of each unknown; -1 where it may not move."""
    merged, left = merge(flow.unknowns, flow.equations)
    _, part = connected_components(abs(left.T) @ abs(left), directed=False)
    unit = np.full(flow.unknowns, -1, dtype=np.int64)
    held = np.diff(merged.indptr) > 0
    unit[held] = part[merged.indices]
    return unit


def _entries(units: Places) -> Iterator[tuple[int, int, int]]:
    """(axis, index, unit) of an array that lies along one axis, where units may move."""
    axes = [axis for axis, size in enumerate(units.shape) if size > 1]
    if len(axes) == 1:
        for index, unit in enumerate(units.ravel().tolist()):
            if unit >= 0:
                yield axes[0], index, unit


def _rotations(graph: Graph) -> Iterator[Rotation]:
    """Products of two activations over an axis whose entries are rows of two weights."""
    flow = flow_of(graph, graph.parameters, Axes(convolutions(graph)))
    owner = np.full(flow.unknowns, -1, dtype=np.int64)
    row = np.zeros(flow.unknowns, dtype=np.int64)
    listed = list(flow.parameters)
    for index, name in enumerate(listed):
        places = flow.parameters[name][0][1]
        if places.ndim == 2:
            owner[places.ravel()], row[places.ravel()] = index, np.arange(places.size)

    def rows(side: Scale) -> tuple[str, Places] | None:
        if len(side) != 1 or side[0][0] != 1.0 or side[0][1].ndim < 3 or max(side[0][1].shape[-3:-1]) > 1:
            return None
        places = side[0][1].reshape(-1, side[0][1].shape[-1])
        held = np.unique(owner[places])
        distinct = len(np.unique(places)) == places.size
        return (listed[held[0]], row[places]) if len(held) == 1 and held[0] >= 0 and distinct else None

    for left, right in flow.products:
        query, key = rows(left), rows(right)
        if query is not None and key is not None and query[1].shape == key[1].shape and query[1].shape[1] > 1:
            yield Rotation(query, key, flow.biases)


def _normed(op: Operation) -> Result:
    """Norms over channels, or of each: statistics and affine part move with the input."""
    trailing = op.get("normalized_shape") is not None
    parts = [op.get(name) for name in ("weight", "bias", "running_mean", "running_var")]
    scales = [op.scale("input")]
    for node in parts:
        if isinstance(node, fx.Node):
            axes = [-1] if trailing else [-1, *[1] * (len(op.shape) - 2)]
            places = op.flow.of(node)
            scales.append(places if trailing else tuple((factor, each.reshape(axes)) for factor, each in places))
    result = alike(op, scales)
    return result if isinstance(op.node.meta["val"], Tensor) else [result, GROUND, GROUND]


def _together(op: Operation) -> Result:
    """Entry by entry, of one or several tensors: units at the same place are one; single numbers are no matter."""
    nodes = [node for node in op.node.all_input_nodes if node.meta["val"].numel() > 1]
    return alike(op, [op.flow.of(node) for node in nodes])


def _attended(op: Operation) -> Result:
    """Units of different heads do not change places."""
    for name in ("query", "key", "value"):
        for _, places in op.scale(name):
            if places.ndim > 2 and places.shape[-3] > 1:
                heads = np.moveaxis(places, -3, 0)
                op.flow.cuts.append([head.ravel() for head in heads])
    return scaled_attention(op)


def _convolved(op: Operation) -> Result:
    """Depthwise: entry by entry along the channels. Otherwise grouped: units stay."""
    groups, weight = op.get("groups"), op.size("weight")
    if groups == 1:
        return scaled_convolution(op)
    if not (groups == weight[0] and weight[1] == 1 and len(op.size("input")) == len(weight)):
        return pinned(op)
    spatial = len(weight) - 2
    data = op.flow.constant(op.scale("input"), range(2, 2 + spatial))
    scales = [data]
    for name in ("weight", "bias"):
        if isinstance(op.get(name), fx.Node):
            ((factor, places), *_) = op.scale(name) or ((1.0, np.zeros(1, dtype=np.int64)),)
            scales.append(((factor, places.reshape(-1, *[1] * spatial)),))
    return alike(op, scales)


_FOLLOWED: dict[str, Rule] = {
    **{name: passes if rule is pinned else rule for name, rule in RULES.items()},
    **dict.fromkeys(("pow", "clamp", "clamp_min", "clamp_max", "threshold", "masked_fill", "sqrt", "square"), passes),
    **dict.fromkeys(
        ("add", "sub", "rsub", "mul", "div", "maximum", "minimum", "where", "addcmul", "addcdiv"), _together
    ),
    **dict.fromkeys(("argmax", "argmin", "topk", "sort", "group_norm", "native_group_norm", "instance_norm"), pinned),
    **dict.fromkeys(
        ("batch_norm", "_native_batch_norm_legit_no_training", "layer_norm", "native_layer_norm", "rms_norm"), _normed
    ),
    **dict.fromkeys(("conv1d", "conv2d", "conv3d"), _convolved),
    "scaled_dot_product_attention": _attended,
}
"""Rules under which units are followed: what treats all entries alike hands them on."""
