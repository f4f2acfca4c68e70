"""Exact traces and diagonals of the Gauss-Newton matrix of any network, by pulling back the output root.

With Lambda_i = S_i S_i^T the Hessian of example i's loss by its logits, the diagonal is
(1/n) sum_i sum_k (J_i^T s_ik)^2: never negative, C - 1 backward passes for cross entropy, C for mean squared
error. It is that of the Hessian of the mean loss where the network is piecewise affine in each parameter.
(Ibayashi, Hamaguchi, Imaizumi 2021, Proposition 1 and appendix H, who subtract; here a factor, see `output`.)
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from sharpbench.curvature import squares
from sharpbench.curvature.layers import Layer, plan, run
from sharpbench.curvature.output import output_root
from sharpbench.errors import InvalidInput
from sharpbench.graph import Graph
from sharpbench.subject import Params, Subject

CHUNK_BYTES = 40 * 2**20
"""What a chunk of examples holds at once is kept near this: larger chunks leave the caches and are slower."""


_plans: weakref.WeakKeyDictionary[Graph, dict[tuple[object, ...], tuple[Layer, ...] | None]] = (
    weakref.WeakKeyDictionary()
)
"""What depends on a graph, the measured parameters' names and their type alone: kept with the graph."""


def exact_traces(subject: Subject) -> dict[str, float]:
    """The trace of each parameter's diagonal block of the Gauss-Newton matrix, mean over examples."""

    def of_layer(layer: Layer, patches: Tensor, slopes: Tensor) -> Params:
        if layer.weight is None:
            return {str(layer.bias): squares.bias_trace(slopes)}
        weight, bias = squares.traces(patches, slopes)
        return {layer.weight: weight, layer.bias: bias} if layer.bias else {layer.weight: weight}

    traces = _mean(subject, of_layer, lambda rows: rows.square().sum())
    return {name: float(traces[name]) for name in subject.params}


def exact_diagonal(subject: Subject) -> dict[str, Tensor]:
    """The diagonal of the Gauss-Newton matrix, mean over examples, by parameter and shaped like it."""

    def of_layer(layer: Layer, patches: Tensor, slopes: Tensor) -> Params:
        diagonals = {}
        if layer.weight:
            shape = subject.params[layer.weight].shape
            diagonals[layer.weight] = squares.weight_diagonal(patches, slopes).reshape(shape)
        if layer.bias:
            diagonals[layer.bias] = squares.bias_diagonal(slopes).flatten()
        return diagonals

    diagonals = _mean(subject, of_layer, lambda rows: rows.square().sum((0, 1)))
    return {name: diagonals[name] for name in subject.params}


@dataclass(frozen=True, slots=True, eq=False)
class _Network:
    """A subject's network as a function of shifts of its layers' outputs and of its loose parameters."""

    subject: Subject
    graph: Graph | None
    layers: tuple[Layer, ...]
    loose: tuple[str, ...]

    def pull(self, example: Tensor, target: Tensor) -> tuple[list[Tensor], list[Tensor], Params, Tensor]:
        """Of one example: the layers' inputs [1, ...], their outputs' derivatives [K, 1, ...], the loose
        parameters' gradients [K, ...], all for the K columns of the output root, and the columns' weights."""
        shifts = [self._zeros(layer) for layer in self.layers]
        loose = {name: self.subject.params[name] for name in self.loose}

        def network(shifts: list[Tensor], loose: Params) -> tuple[Tensor, list[Tensor]]:
            if self.graph is None:
                return self.subject.apply(loose, example[None])[0], []
            values = {**self.subject.constants, **self.subject.params, **loose}
            logits, data = run(self.graph, values, example[None], self.layers, shifts)
            return logits[0], data

        pulled = torch.func.vjp(network, shifts, loose, has_aux=True)
        root, weights = output_root(self.subject.criterion, pulled[0], target)
        deltas, rows = torch.func.vmap(pulled[1])(root.T)
        data = cast(list[Tensor], pulled[-1])  # the auxiliary output, which torch does not type
        return data, deltas, rows, weights

    def pulls(self, inputs: Tensor, targets: Tensor) -> tuple[list[Tensor], list[Tensor], Params, Tensor]:
        """The same of a chunk of examples, stacked; one by one where torch cannot vmap the network (recurrent)."""
        try:
            every: tuple[list[Tensor], list[Tensor], Params, Tensor] = torch.func.vmap(self.pull)(inputs, targets)
        except RuntimeError as error:
            if self.graph is not None or _is_out_of_memory(error):
                raise
            single = [self.pull(example, target) for example, target in zip(inputs, targets, strict=True)]
            every = pytree.tree_map(lambda *values: torch.stack(values), *single)
        return every

    def _zeros(self, layer: Layer) -> Tensor:
        like = next(iter(self.subject.params.values()))
        return like.new_zeros(layer.node.meta["val"].shape)

    def held(self) -> int:
        """Bytes that one example holds, about: activations for every column, gradients of loose parameters."""
        columns = self.subject.classes if self.graph is None else self.graph.outputs[0].meta["val"].shape[-1]
        itemsize = self.subject.inputs.element_size()
        loose = sum(self.subject.params[name].numel() for name in self.loose)
        nodes = self.graph.nodes if self.graph is not None else ()
        outputs = [node.meta.get("val") for node in nodes]
        activations = sum(value.numel() for value in outputs if isinstance(value, Tensor))
        return itemsize * columns * (activations + loose + 1)


def _network(subject: Subject) -> _Network:
    """The network with all the layers that its graph shows; all parameters loose where there is no graph, or
    where the graph does not compute what the module does (in another precision, say)."""
    try:
        graph = subject.graph
    except InvalidInput:
        return _Network(subject, None, (), tuple(subject.params))
    form = (tuple(subject.params), next(iter(subject.params.values())).dtype)
    plans = _plans.setdefault(graph, {})
    if form not in plans:
        plans[form] = plan(graph, subject.params) if _agrees(subject, graph) else None
    layers = plans[form]
    if layers is None:
        return _Network(subject, None, (), tuple(subject.params))
    planned = {name for layer in layers for name in (layer.weight, layer.bias)}
    return _Network(subject, graph, layers, tuple(name for name in subject.params if name not in planned))


def _agrees(subject: Subject, graph: Graph) -> bool:
    """Whether the graph computes the logits of the first example as the module does."""
    try:
        with torch.no_grad():
            seen = run(graph, {**subject.constants, **subject.params}, subject.inputs[:1], (), ())[0]
            wanted = subject.apply(subject.params, subject.inputs[:1])
    except (RuntimeError, TypeError):
        return False
    return torch.allclose(seen, wanted, rtol=1e-3 * wanted.element_size() ** -4, atol=0.0)


def _mean(
    subject: Subject, of_layer: Callable[[Layer, Tensor, Tensor], Params], of_rows: Callable[[Tensor], Tensor]
) -> Params:
    """The mean over examples, by parameter, of sums of squares.

    of_layer(layer, patches, slopes) gives those of a layer's parameters, of_rows(gradients [B, K, ...]) those
    of a loose one. Columns of negative weight (an indefinite custom criterion) are subtracted.
    """
    network = subject.once(_network)

    def of_chunk(inputs: Tensor, targets: Tensor) -> Params:
        part: Params = {}
        data, deltas, rows, weights = network.pulls(inputs, targets)
        for sign, kept in _by_sign(weights):
            for layer, given, delta in zip(network.layers, data, deltas, strict=True):
                _add(part, of_layer(layer, layer.patches(given), layer.slopes(kept(delta))), sign)
            _add(part, {name: of_rows(kept(value)) for name, value in rows.items()}, sign)
        return part

    total: Params = {}
    start, size = 0, chunk_size(subject, network)
    while start < len(subject.inputs):
        try:
            part = of_chunk(subject.inputs[start : start + size], subject.targets[start : start + size])
        except RuntimeError as error:
            if size == 1 or not _is_out_of_memory(error):
                raise
            size = math.ceil(size / 2)
            continue
        _add(total, part, 1)
        start += size
    return {name: value / len(subject.inputs) for name, value in total.items()}


def _is_out_of_memory(error: RuntimeError) -> bool:
    """Whether a chunk did not fit; the CPU's allocator raises a plain RuntimeError."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def _by_sign(weights: Tensor) -> Iterator[tuple[int, Callable[[Tensor], Tensor]]]:
    """For columns of weight 1, and those of weight -1 if there are any: what sets the others [B, K, ...] to 0."""
    if bool((weights > 0).all()):
        yield 1, lambda values: values
        return
    for sign in (1, -1):

        def kept(values: Tensor, mask: Tensor = weights == sign) -> Tensor:
            return values * mask.reshape(mask.shape + (1,) * (values.ndim - 2))

        yield sign, kept


def _add(total: Params, part: Params, sign: int) -> None:
    for name, value in part.items():
        total[name] = sign * value if name not in total else total[name] + sign * value


def chunk_size(subject: Subject, network: _Network) -> int:
    """How many examples go through together: equal chunks, each of about CHUNK_BYTES."""
    chunks = math.ceil(len(subject.inputs) * network.held() / CHUNK_BYTES)
    return math.ceil(len(subject.inputs) / chunks)
