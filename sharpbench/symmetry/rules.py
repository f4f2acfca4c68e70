"""Rules: what each ATen operator says about the log-scales of the tensors at it.

A rescaling multiplies each tensor of the network, entry by entry, by exp(s). A rule is given an operator and
returns the scale of its result (a list of them for several results), having put into the flow the equations
under which scaling the arguments so scales the result so, whatever the values. An operator without a rule pins
everything at it to s = 0: the group can only come out smaller, never wrong.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx

from sharpbench.graph import Graph
from sharpbench.symmetry import layout
from sharpbench.symmetry.flow import GROUND, Axes, Blocks, Flow, Scale, times
from sharpbench.symmetry.layout import Places

Result = Scale | list[Scale]
Rule = Callable[["Operation"], Result]


@dataclass(frozen=True, slots=True, eq=False)
class Operation:
    """One operator of the graph, its arguments by the names of its schema."""

    flow: Flow
    node: fx.Node

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the result, or of the first of several."""
        value = self.node.meta["val"]
        return tuple((value if isinstance(value, Tensor) else value[0]).shape)

    @property
    def first(self) -> str:
        """The name of the first argument."""
        return str(self.node.target._schema.arguments[0].name)  # type: ignore[union-attr]  # an ATen operator

    def get(self, name: str) -> Any:
        """The argument of that name, or the default that the schema gives it; None where there is none."""
        for position, argument in enumerate(self.node.target._schema.arguments):  # type: ignore[union-attr]
            if argument.name == name:
                given = self.node.args
                return given[position] if position < len(given) else self.node.kwargs.get(name, argument.default_value)
        return None

    def scale(self, name: str) -> Scale:
        """The scale of a tensor argument."""
        return self.flow.of(self.get(name))

    def size(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor argument."""
        return _shape(self.get(name))

    def axes(self, name: str = "dim") -> list[int]:
        """An argument that names axes of the first argument; all of them where it is None or empty."""
        given, count = self.get(name), len(self.size(self.first))
        listed = [given] if isinstance(given, int) else list(given or range(count))
        return [axis % count for axis in listed] if count else []


def _shape(node: Any) -> tuple[int, ...]:
    return tuple(node.meta["val"].shape) if isinstance(node, fx.Node) else ()


def walk(flow: Flow, node: fx.Node, rules: Mapping[str, Rule] | None = None) -> None:
    """Carry the flow through one node, by its rule in `rules`; None: RULES."""
    if node.target is operator.getitem:
        source, index = node.args
        held = flow.scales.get(source, GROUND)  # type: ignore[arg-type]  # the node of a tuple
        flow.scales[node] = held[index] if isinstance(held, list) else GROUND  # type: ignore[index]
        return
    if not any(flow.scales.get(source) for source in node.all_input_nodes):
        flow.scales[node] = GROUND  # a function of what nothing rescales
        return
    value = node.meta.get("val")
    rule = (RULES if rules is None else rules).get(_name(node))
    if rule is None:
        flow.unknown[str(node.target)] = None
    if rule is None or (isinstance(value, Tensor) and not value.is_floating_point()):
        rule = pinned  # whole numbers and truth values are no homogeneous functions
    result = rule(Operation(flow, node))
    if isinstance(result, tuple) and isinstance(value, Tensor):
        result = _each(result, lambda places: layout.lift(places, value.ndim))
    flow.scales[node] = result


def flow_of(
    graph: Graph, names: Mapping[fx.Node, str], unknowns: Axes | Blocks, rules: Mapping[str, Rule] | None = None
) -> Flow:
    """The graph walked through, from the tensors in `names` to its outputs, which keep their scale."""
    flow = Flow(names)
    for node, name in names.items():
        if name not in flow.parameters:
            flow.parameters[name] = unknowns(flow, node, _shape(node))
        flow.scales[node] = flow.parameters[name]
    for node in graph.nodes:
        walk(flow, node, rules)
    for output in graph.outputs:
        flow.vanish(flow.of(output))
    flow.settle()
    return flow


def convolutions(graph: Graph) -> dict[fx.Node, int]:
    """Placeholder of a weight -> the groups of the convolution that reads it."""
    found = {}
    for node in graph.nodes:
        if RULES.get(_name(node)) is convolved and isinstance(weight := node.args[1], fx.Node):
            found[weight] = Operation(Flow({}), node).get("groups")
    return found


def _name(node: fx.Node) -> str:
    packet = getattr(node.target, "overloadpacket", None)
    return str(packet.__name__ if packet is not None else node.target)


def _each(scale: Scale, change: Callable[[Places], Places]) -> Scale:
    return tuple((factor, change(places)) for factor, places in scale)


# Elementwise


def passes(op: Operation) -> Result:
    """Positively homogeneous in the first argument, entry by entry."""
    return op.scale(op.first)


def power(exponent: float) -> Rule:
    """Homogeneous of that degree."""
    return lambda op: times(exponent, op.scale(op.first))


def raised(op: Operation) -> Result:
    """pow: of the degree of a number; pinned for a tensor."""
    exponent = op.get("exponent")
    return times(float(exponent), op.scale("self")) if isinstance(exponent, int | float) else pinned(op)


def pinned(op: Operation) -> Result:
    """Everything keeps its scale: smooth functions, and the rule of what is unknown."""
    for source in op.node.all_input_nodes:
        held = op.flow.scales.get(source, GROUND)
        for scale in held if isinstance(held, list) else [held]:
            op.flow.vanish(scale)
    return GROUND


def clamped(op: Operation) -> Result:
    """Bounds at 0 or none are crossed by no rescaling; any other pins."""
    bounds = [op.get(name) for name in ("min", "max", "threshold", "value")]
    return passes(op) if all(bound is None or bound == 0 for bound in bounds) else pinned(op)


def added(op: Operation) -> Result:
    """A sum, maximum or choice: all tensors alike; a number that is added pins."""
    names = [name for name in ("self", "input", "other") if op.get(name) is not None]
    given = [(op.get(name), op.scale(name)) for name in names]
    if any(not isinstance(value, fx.Node) and value != 0 for value, _ in given):
        return pinned(op)
    return alike(op, [scale for value, scale in given if isinstance(value, fx.Node)])


def alike(op: Operation, scales: Iterable[Scale]) -> Scale:
    """All of the same scale, which is the result's: the one that is shortest to write."""
    lifted = [_each(scale, lambda places: layout.lift(places, len(op.shape))) for scale in scales]
    best = min(lifted, key=lambda scale: sum(places.size for _, places in scale))
    for scale in lifted:
        op.flow.equal(best, scale)
    return best


def multiplied(op: Operation) -> Result:
    """A product: log-scales add."""
    return op.flow.sum((*op.scale("self"), *op.scale("other")))  # a number is on the ground


def divided(op: Operation) -> Result:
    """A quotient: log-scales subtract; rounding pins."""
    if op.get("rounding_mode") is not None:
        return pinned(op)
    return op.flow.sum((*op.scale("self"), *times(-1.0, op.scale("other"))))


def added_product(degree: float) -> Rule:
    """addcmul and addcdiv: a product or quotient, and what it is added to."""

    def rule(op: Operation) -> Result:
        product = op.flow.sum((*op.scale("tensor1"), *times(degree, op.scale("tensor2"))))
        return alike(op, [product, op.scale("self")])

    return rule


def chosen(op: Operation) -> Result:
    """where: both alternatives alike."""
    op.flow.vanish(op.scale("condition"))
    return alike(op, [op.flow.of(op.get(name)) for name in ("self", "other")])


def filled(op: Operation) -> Result:
    """masked_fill: with 0 or an infinity, which no rescaling changes; anything else pins."""
    value = op.get("value")
    op.flow.vanish(op.scale("mask"))
    return passes(op) if isinstance(value, int | float) and value in (0, math.inf, -math.inf) else pinned(op)


def sloped(op: Operation) -> Result:
    """prelu: homogeneous in the input, the slope keeps its scale."""
    op.flow.vanish(op.scale("weight"))
    return passes(op)


# Along axes


def reduced(degree: float = 1.0) -> Rule:
    """mean, sum, amax: alike along the axes that go, homogeneous of that degree."""

    def rule(op: Operation) -> Result:
        gone = op.axes()
        if op.get("ord") == 0 or op.get("p") == 0:
            return pinned(op)  # counts
        scale = times(degree, op.flow.constant(op.scale(op.first), gone))
        if op.get("keepdim"):
            return scale
        return _each(
            scale, lambda places: places.reshape([n for axis, n in enumerate(places.shape) if axis not in gone])
        )

    return rule


def extreme(op: Operation) -> Result:
    """max and min: of two tensors, over everything, or along an axis with the places as a second result."""
    if op.get("other") is not None:
        return added(op)
    result = reduced()(op)
    return result if isinstance(op.node.meta["val"], Tensor) or isinstance(result, list) else [result, GROUND]


def over(count: int) -> Rule:
    """Pools, interpolation, unfolding: alike along the last axes."""

    def rule(op: Operation) -> Result:
        axes = len(op.size(op.first))
        scale = op.flow.constant(op.scale(op.first), range(axes - count, axes))
        return scale if isinstance(op.node.meta["val"], Tensor) else [scale, GROUND]

    return rule


def along(op: Operation) -> Result:
    """cumsum, index_select: alike along the axis that is worked on, which stays."""
    return op.flow.constant(op.scale(op.first), op.axes())


def uniform(op: Operation) -> Result:
    """Linear in the first argument, in ways not looked into: alike everywhere."""
    scale = op.flow.constant(op.scale(op.first), range(len(op.size(op.first))))
    return _each(scale, lambda places: places.reshape([1] * len(op.shape)))


def normalised(op: Operation) -> Result:
    """Norm layers: the input keeps its scale, the result has that of weight and bias.

    Running statistics are buffers. Weight and bias lie along axis 1, or along the last axes (layer norm).
    """
    op.flow.vanish(op.scale("input"))
    trailing = op.get("normalized_shape") is not None
    affine = [op.get(name) for name in ("weight", "bias")]
    axes = len(op.shape)

    def placed(places: Places) -> Places:
        return layout.lift(places if trailing else places.reshape(-1, *[1] * (axes - 2)), axes)

    weight, *bias = [_each(op.flow.of(node), placed) for node in affine[: 2 if affine[1] is not None else 1]]
    result = alike(op, [weight, *bias])
    value = op.node.meta["val"]
    return result if isinstance(value, Tensor) else [result, *(GROUND for _ in value[1:])]


# Products over an axis


def contracted(flow: Flow, data: Scale, weight: Scale, node: object = None) -> Scale:
    """The sum over the last axis of data times weight: all products along it alike; the axis stays, of size 1.

    A weight that is met for the first time is free in how it splits its scale between rows and columns: columns
    take up the scale of the data, and rows are the result's.
    """
    axes = max((places.ndim for _, places in (*data, *weight)), default=1)
    data, weight = (_each(scale, lambda places: layout.lift(places, axes)) for scale in (data, weight))
    name = flow.names.get(node, "") if isinstance(node, fx.Node) else ""
    if name in flow.loose and len(weight) == 2:
        for rows, columns in (weight, weight[::-1]):
            inner, outer = columns[1], rows[1]
            fits = all(n in (1, m) for _, places in data for n, m in zip(places.shape, inner.shape, strict=True))
            if outer.shape[-1] == 1 and inner.shape[-2] == 1 and fits:
                del flow.loose[name]
                flow.equal((columns,), times(-1.0, data))
                flow.outputs.append(outer)
                return (rows,)
    flow.products.append((data, weight))
    first = flow.constant((*data, *weight), [axes - 1])
    return flow.sum(first)


def linear(op: Operation) -> Result:
    """x W^T + b."""
    if len(op.size("weight")) != 2:
        return pinned(op)
    data = _each(op.scale("input"), lambda places: places[..., None, :])
    scale = contracted(op.flow, data, op.scale("weight"), op.get("weight"))
    weight, bias = (op.flow.names.get(op.get(name)) for name in ("weight", "bias"))
    if weight and bias:
        op.flow.biases[weight] = bias
    return _biased(op, _each(scale, lambda places: places[..., 0]), "bias")


def _biased(op: Operation, scale: Scale, name: str, axis: int = -1) -> Scale:
    if not isinstance(op.get(name), fx.Node):
        return scale
    bias = op.scale(name)
    if axis != -1:
        bias = _each(bias, lambda places: places.reshape(-1, *[1] * (len(op.shape) - axis - 1)))
    return alike(op, [scale, bias])


def convolved(op: Operation) -> Result:
    """Convolutions, by group: [groups, outputs, inputs]; kernel and image positions alike."""
    flow, groups = op.flow, op.get("groups")
    transposed = bool(op.get("transposed")) or "transpose" in _name(op.node)
    spatial = len(op.size("weight")) - 2
    lead = len(op.shape) - spatial - 1  # the channels' axis: 1, or 0 without a batch
    positions = range(lead + 1, lead + 1 + spatial)
    data = flow.constant(op.scale("input"), [*range(lead), *positions])
    weight = flow.constant(op.scale("weight"), range(2, 2 + spatial))

    def inputs(places: Places) -> Places:
        channels = op.size("input")[lead]
        return layout.reshape(places.reshape(-1), (channels,), (groups, 1, channels // groups))

    def kernels(places: Places) -> Places:
        rows, columns = op.size("weight")[:2]
        split = layout.reshape(places.reshape(places.shape[:2]), (rows, columns), (groups, rows // groups, columns))
        return split.transpose(0, 2, 1) if transposed else split

    def outputs(places: Places) -> Places:
        outs = op.shape[lead]
        flat = layout.reshape(places, (groups, outs // groups, 1), (outs,))
        return flat.reshape(*[1] * lead, -1, *[1] * spatial)

    scale = contracted(flow, _each(data, inputs), _each(weight, kernels), op.get("weight"))
    return _biased(op, _each(scale, outputs), "bias", axis=lead)


def matrix_product(one: str = "self", other: str = "other", plus: str | None = None) -> Rule:
    """A B over the last axis of A and the last but one of B, and what is added to it."""

    def rule(op: Operation) -> Result:
        if min(len(op.size(one)), len(op.size(other))) < 2:
            return pinned(op)
        left = _each(op.scale(one), lambda places: places[..., :, None, :])
        right = _each(op.scale(other), lambda places: np.swapaxes(places, -1, -2)[..., None, :, :])
        scale = _each(contracted(op.flow, left, right, op.get(other)), lambda places: places[..., 0])
        return alike(op, [scale, op.scale(plus)]) if plus else scale

    return rule


def summed_product(op: Operation) -> Result:
    """einsum: log-scales add, alike along every index that is summed over."""
    operands, _, result = op.get("equation").replace(" ", "").partition("->")
    words = operands.split(",")
    if "." in operands or not result.isalpha() or any(len(set(word)) < len(word) for word in [*words, result]):
        return pinned(op)
    summed = sorted(set(operands) - set(result) - {","})
    letters = [*result, *summed]

    def placed(places: Places, word: str) -> Places:
        order = sorted(range(len(word)), key=lambda axis: letters.index(word[axis]))
        sizes = {letter: places.shape[axis] for axis, letter in enumerate(word)}
        return places.transpose(order).reshape([sizes.get(letter, 1) for letter in letters])

    terms = [
        (factor, placed(places, word))
        for word, node in zip(words, op.get("tensors"), strict=True)
        for factor, places in op.flow.of(node)
    ]
    kept = op.flow.constant(tuple(terms), range(len(result), len(letters)))
    return op.flow.sum(_each(kept, lambda places: places.reshape(places.shape[: len(result)])))


def attention(op: Operation) -> Result:
    """softmax(Q K^T) V: query against key at every index that they are summed over; the values' is the result's."""
    query, key, value, mask = (op.scale(name) for name in ("query", "key", "value", "attn_mask"))
    if op.size("query")[:-2] != op.size("key")[:-2] or op.size("key")[:-2] != op.size("value")[:-2]:
        return pinned(op)
    op.flow.vanish(mask)
    left = _each(query, lambda places: places[..., :, None, :])
    right = _each(key, lambda places: places[..., None, :, :])
    op.flow.products.append((left, right))
    op.flow.vanish((*left, *right))
    return op.flow.constant(value, [len(op.shape) - 2])


def embedded(op: Operation) -> Result:
    """A table's rows, whichever are looked up: alike."""
    return _each(op.flow.constant(op.scale("weight"), [0]), lambda places: layout.lift(places, len(op.shape)))


# Arrangement


def reshaped(op: Operation) -> Result:
    """view, flatten, squeeze, unsqueeze: the entries keep their order."""
    if op.get("dtype") is not None:
        return pinned(op)  # bits under another name
    before, after = op.size(op.first), op.shape
    return op.flow.sum(_each(op.scale(op.first), lambda places: layout.reshape(places, before, after)))


def expanded(op: Operation) -> Result:
    """Axes in front, and copies along axes of size 1."""
    return _each(op.scale(op.first), lambda places: layout.lift(places, len(op.shape)))


def permuted(op: Operation) -> Result:
    """permute, by `dims`; transpose, by two axes; t."""
    order = list(range(len(op.shape)))
    if op.get("dims") is not None:
        order = op.axes("dims")
    elif order[1:]:
        one, other = op.axes("dim0")[0], op.axes("dim1")[0]
        if op.get("dim0") is None:
            one, other = 0, 1
        order[one], order[other] = order[other], order[one]
    return _each(op.scale(op.first), lambda places: places.transpose(order))


def sliced(op: Operation) -> Result:
    """slice and narrow: a run of indices of one axis."""
    (axis,) = op.axes()
    size = op.size(op.first)[axis]
    start = op.get("start") or 0
    stop = start + op.get("length") if op.get("length") is not None else op.get("end")
    return _pieces(op, axis, [np.arange(size)[start : stop : op.get("step") or 1]])[0]


def split(op: Operation) -> Result:
    """split, chunk: runs of indices of one axis, whose lengths the results show."""
    (axis,) = op.axes()
    lengths = [value.shape[axis] for value in op.node.meta["val"]]
    return _pieces(op, axis, np.split(np.arange(sum(lengths)), np.cumsum(lengths)[:-1]))


def selected(op: Operation) -> Result:
    """select: one index of one axis, which goes."""
    (axis,) = op.axes()
    (piece,) = _pieces(op, axis, [np.array([op.get("index")])])
    return _each(piece, lambda places: places.squeeze(axis))


def unbound(op: Operation) -> Result:
    """unbind: every index of one axis, which goes."""
    (axis,) = op.axes()
    pieces = _pieces(op, axis, [np.array([index]) for index in range(op.size(op.first)[axis])])
    return [_each(piece, lambda places: places.squeeze(axis)) for piece in pieces]


def _pieces(op: Operation, axis: int, indices: Sequence[Any]) -> list[Scale]:
    """The scale at these runs of indices of an axis; where they differ, the flow notes a cut."""

    def piece(places: Places, run: Any) -> Places:
        return places if places.shape[axis] == 1 else layout.compact(places.take(run, axis))

    scale = op.scale(op.first)
    pieces = [tuple((factor, piece(places, run)) for factor, places in scale) for run in indices]
    if any(places.shape[axis] > 1 for _, places in scale):
        op.flow.cuts.append([np.concatenate([places.ravel() for _, places in each]) for each in pieces])
    return pieces


def joined(op: Operation) -> Result:
    """cat: one after the other along an axis."""
    nodes = [node for node in op.get("tensors") if len(_shape(node)) == len(op.shape)]
    axis = (op.get("dim") or 0) % len(op.shape)
    places = [op.flow.single(op.flow.of(node), len(op.shape)) for node in nodes]
    return ((1.0, layout.concatenate(places, [_shape(node)[axis] for node in nodes], axis)),)


def stacked(op: Operation) -> Result:
    """stack: one after the other along a new axis."""
    axis = (op.get("dim") or 0) % len(op.shape)
    places = [np.expand_dims(op.flow.single(op.flow.of(node), len(_shape(node))), axis) for node in op.get("tensors")]
    return ((1.0, layout.concatenate(places, [1] * len(places), axis)),)


def rolled(op: Operation) -> Result:
    """roll and flip: the same indices in another order."""
    axes = op.axes("dims")
    shifts = op.get("shifts")

    def moved(places: Places) -> Places:
        return np.flip(places, tuple(axes)) if shifts is None else np.roll(places, tuple(shifts), axes)

    return _each(op.scale(op.first), moved) if op.get("dims") or shifts is None else uniform(op)


def padded(op: Operation) -> Result:
    """Zeros around, which may have any scale; other modes repeat what is there, along the last axes."""
    widths, axes = list(op.get("pad") or op.get("padding")), len(op.shape)
    padding = [(0, 0)] * (axes - len(widths) // 2) + list(zip(widths[::2], widths[1::2], strict=True))[::-1]
    mode = op.get("mode") or ("constant" if _name(op.node) == "constant_pad_nd" else "other")
    if mode == "constant" and (op.get("value") or 0) not in (0, -math.inf):
        return pinned(op)
    if mode != "constant":
        return over(len(widths) // 2)(op)

    def around(places: Places) -> Places:
        for axis, (before, after) in enumerate(padding):
            if places.shape[axis] > 1:
                run = places.take(range(max(0, -before), places.shape[axis] - max(0, -after)), axis)
                sizes = [max(0, before), run.shape[axis], max(0, after)]
                rims = [op.flow.fresh([n if at == axis else 1 for at in range(axes)]) for n in sizes]
                parts = [(part, n) for part, n in zip((rims[0], run, rims[2]), sizes, strict=True) if n]
                places = layout.concatenate([part for part, _ in parts], [n for _, n in parts], axis)
        return places

    return _each(op.scale(op.first), around)


def repeated(op: Operation) -> Result:
    """repeat: copies one after the other along each axis."""

    def copies(places: Places) -> Places:
        wide = layout.lift(places, len(op.shape))
        return np.tile(wide, [n if size > 1 else 1 for n, size in zip(op.get("repeats"), wide.shape, strict=True)])

    return _each(op.scale(op.first), copies)


def interleaved(op: Operation) -> Result:
    """repeat_interleave: every index of one axis so many times."""
    count, axis = op.get("repeats"), op.get("dim")
    if not isinstance(count, int) or axis is None:
        return uniform(op)
    return _each(op.scale("self"), lambda p: p.repeat(count, axis) if p.shape[axis] > 1 else p)


def indexed(op: Operation) -> Result:
    """x[i, :, j]: alike along the axes that are indexed by tensors, whichever entries those name."""
    indices = list(op.get("indices"))
    if any(index is not None and index.meta["val"].dtype == torch.bool for index in indices):
        return pinned(op)
    at = [axis for axis, index in enumerate(indices) if index is not None]
    scale = op.flow.constant(op.scale("self"), at)
    rest = [axis for axis in range(len(op.size("self"))) if axis not in at]
    new = len(op.shape) - len(rest)
    front = at[0] if at == list(range(at[0], at[-1] + 1)) else 0

    def arranged(places: Places) -> Places:
        kept = [places.shape[axis] for axis in rest]
        return places.reshape([*kept[:front], *[1] * new, *kept[front:]])

    return _each(scale, arranged)


def shuffled(op: Operation) -> Result:
    """pixel_shuffle and pixel_unshuffle: channels into positions and back."""
    factor = op.get("upscale_factor")
    lead = len(op.shape) - 3
    first, last = op.size("self"), op.shape

    def into(places: Places) -> Places:
        channels, height, width = last[lead:][0], *first[lead + 1 :]
        split = (*first[:lead], channels, factor, factor, height, width)
        order = [*range(lead), *(lead + axis for axis in (0, 3, 1, 4, 2))]
        moved = tuple(split[axis] for axis in order)
        return layout.reshape(layout.reshape(places, first, split).transpose(order), moved, last)

    def back(places: Places) -> Places:
        down = op.get("downscale_factor")
        split = (*first[: lead + 1], last[-2], down, last[-1], down)
        order = [*range(lead), *(lead + axis for axis in (0, 2, 4, 1, 3))]
        moved = tuple(split[axis] for axis in order)
        return layout.reshape(layout.reshape(places, first, split).transpose(order), moved, last)

    return op.flow.sum(_each(op.scale("self"), into if factor else back))


def mixed_channels(op: Operation) -> Result:
    """channel_shuffle: [groups, channels] of axis 1, transposed."""
    shape, groups = op.shape, op.get("groups")
    split = (shape[0], groups, shape[1] // groups, *shape[2:])
    order = [0, 2, 1, *range(3, len(split))]
    moved = tuple(split[axis] for axis in order)
    return _each(
        op.scale(op.first),
        lambda places: layout.reshape(layout.reshape(places, shape, split).transpose(order), moved, shape),
    )


def _table(rules: Mapping[str, Rule]) -> dict[str, Rule]:
    """Operator -> rule, for keys of several names."""
    return {name: rule for names, rule in rules.items() for name in names.split()}


RULES: dict[str, Rule] = _table(
    {
        # elementwise
        "relu leaky_relu neg abs clone contiguous to _to_copy type_as detach alias lift_fresh_copy positive": passes,
        "dropout alpha_dropout feature_dropout identity": passes,
        "clamp clamp_min clamp_max threshold": clamped,
        "add sub rsub maximum minimum": added,
        "mul": multiplied,
        "div true_divide": divided,
        "addcmul": added_product(1.0),
        "addcdiv": added_product(-1.0),
        "pow": raised,
        "copy": lambda op: op.scale("src"),
        "zeros_like ones_like full_like empty_like new_zeros new_ones new_full new_empty": lambda op: GROUND,
        "square": power(2.0),
        "sqrt": power(0.5),
        "rsqrt": power(-0.5),
        "reciprocal": power(-1.0),
        "where": chosen,
        "masked_fill": filled,
        "prelu _prelu_kernel": sloped,
        "gelu silu sigmoid tanh softplus elu selu celu mish hardswish hardsigmoid relu6 hardtanh exp log": pinned,
        "log_sigmoid sin cos erf exp2 expm1 log1p atan arctan softmax _softmax log_softmax _log_softmax": pinned,
        "softsign eq ne lt le gt ge isnan isinf round floor ceil sign argmax argmin topk sort": pinned,
        # along axes
        "mean sum amax amin nansum linalg_vector_norm norm std": reduced(),
        "var": reduced(2.0),
        "max min": extreme,
        "max_pool1d avg_pool1d adaptive_avg_pool1d adaptive_max_pool1d upsample_linear1d upsample_nearest1d": over(1),
        "max_pool2d avg_pool2d adaptive_avg_pool2d _adaptive_avg_pool2d adaptive_max_pool2d": over(2),
        "max_pool2d_with_indices upsample_nearest2d upsample_bilinear2d upsample_bicubic2d": over(2),
        "_upsample_bilinear2d_aa _upsample_bicubic2d_aa _upsample_nearest_exact2d": over(2),
        "max_pool3d avg_pool3d adaptive_avg_pool3d _adaptive_avg_pool3d upsample_trilinear3d": over(3),
        "upsample_nearest3d max_pool3d_with_indices adaptive_max_pool3d": over(3),
        "cumsum index_select": along,
        "unfold im2col col2im as_strided diagonal tril triu unfold_copy": uniform,
        "batch_norm _native_batch_norm_legit_no_training _native_batch_norm_legit native_batch_norm": normalised,
        "instance_norm layer_norm native_layer_norm group_norm native_group_norm rms_norm": normalised,
        # products over an axis
        "linear": linear,
        "conv1d conv2d conv3d convolution": convolved,
        "conv_transpose1d conv_transpose2d conv_transpose3d": convolved,
        "matmul": matrix_product(),
        "mm bmm": matrix_product(other="mat2"),
        "addmm": matrix_product("mat1", "mat2", plus="self"),
        "baddbmm": matrix_product("batch1", "batch2", plus="self"),
        "einsum": summed_product,
        "scaled_dot_product_attention": attention,
        "embedding": embedded,
        # arrangement
        "view reshape _unsafe_view flatten unflatten squeeze unsqueeze view_as": reshaped,
        "expand expand_as broadcast_to": expanded,
        "permute transpose t": permuted,
        "slice narrow": sliced,
        "split split_with_sizes chunk tensor_split": split,
        "select": selected,
        "unbind": unbound,
        "cat concat concatenate": joined,
        "stack": stacked,
        "roll flip": rolled,
        "pad constant_pad_nd reflection_pad1d reflection_pad2d replication_pad1d replication_pad2d": padded,
        "repeat": repeated,
        "repeat_interleave": interleaved,
        "index _unsafe_index": indexed,
        "pixel_shuffle pixel_unshuffle": shuffled,
        "channel_shuffle native_channel_shuffle": mixed_channels,
        "_assert_tensor_metadata sym_size": lambda op: GROUND,
    }
)
