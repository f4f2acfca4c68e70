"""Exact traces and diagonals of the Gauss-Newton matrix of any network, by pulling back the output root.

With Lambda_i = S_i S_i^T the Hessian of example i's loss by its logits, the diagonal is
(1/n) sum_i sum_k (J_i^T s_ik)^2: never negative, C - 1 backward passes for cross entropy, C for mean squared
error. It is that of the Hessian of the mean loss where the network is piecewise affine in each parameter.
(Ibayashi, Hamaguchi, Imaizumi 2021, Proposition 1 and appendix H, who subtract; here a factor, see `output`.)
"""

from __future__ import annotations

import math
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


def exact_traces(subject: Subject) -> dict[str, float]:
    """The trace of each parameter's diagonal block of the Gauss-Newton matrix, mean over examples."""

    def of_layer(layer: Layer, patches: Tensor, slopes: Tensor) -> Params:
        traces = {}
        if layer.weight:
            traces[layer.weight] = squares.weight_trace(patches, slopes)
        if layer.bias:
            traces[layer.bias] = squares.bias_trace(slopes)
        return traces

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
            if self.graph is not None or isinstance(error, torch.OutOfMemoryError):
                raise
            single = [self.pull(example, target) for example, target in zip(inputs, targets, strict=True)]
            every = pytree.tree_map(lambda *values: torch.stack(values), *single)
        return every

    def _zeros(self, layer: Layer) -> Tensor:
        like = next(iter(self.subject.params.values()))
        return like.new_zeros(layer.node.meta["val"].shape)

    def held(self) -> int:
        """Bytes that one example holds, about: activations for every column, gradients of loose parameters."""
        columns = self.subject.classes
        itemsize = self.subject.inputs.element_size()
        loose = sum(self.subject.params[name].numel() for name in self.loose)
        nodes = self.graph.nodes if self.graph is not None else ()
        outputs = [node.meta.get("val") for node in nodes]
        activations = sum(value.numel() for value in outputs if isinstance(value, Tensor))
        return itemsize * columns * (activations + loose + 1)


def _network(subject: Subject) -> _Network:
    """The network with all the layers that its graph shows; all parameters loose where there is no graph, or
    where the graph does not compute what the module does (in another precision, say)."""
    loose = tuple(subject.params)
    try:
        graph = subject.graph
        values = {**subject.constants, **subject.params}
        with torch.no_grad():
            seen = run(graph, values, subject.inputs[:1], (), ())[0]
            wanted = subject.apply(subject.params, subject.inputs[:1])
        if not torch.allclose(seen, wanted, rtol=1e-3 * wanted.element_size() ** -4, atol=0.0):
            return _Network(subject, None, (), loose)
    except (InvalidInput, RuntimeError, TypeError):
        return _Network(subject, None, (), loose)
    layers = plan(graph, subject.params)
    planned = {name for layer in layers for name in (layer.weight, layer.bias)}
    return _Network(subject, graph, layers, tuple(name for name in loose if name not in planned))


def _mean(
    subject: Subject, of_layer: Callable[[Layer, Tensor, Tensor], Params], of_rows: Callable[[Tensor], Tensor]
) -> Params:
    """The mean over examples, by parameter, of sums of squares.

    of_layer(layer, patches, slopes) gives those of a layer's parameters, of_rows(gradients [B, K, ...]) those
    of a loose one. Columns of negative weight (an indefinite custom criterion) are subtracted.
    """
    network = subject.once(_network)
    total: Params = {}
    for inputs, targets in _chunks(subject, network):
        data, deltas, rows, weights = network.pulls(inputs, targets)
        for sign, kept in _by_sign(weights):
            for layer, given, delta in zip(network.layers, data, deltas, strict=True):
                _add(total, of_layer(layer, layer.patches(given), layer.slopes(kept(delta))), sign)
            _add(total, {name: of_rows(kept(value)) for name, value in rows.items()}, sign)
    return {name: value / len(subject.inputs) for name, value in total.items()}


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


def _chunks(subject: Subject, network: _Network) -> Iterator[tuple[Tensor, Tensor]]:
    size = chunk_size(subject, network)
    yield from zip(subject.inputs.split(size), subject.targets.split(size), strict=True)


def chunk_size(subject: Subject, network: _Network) -> int:
    """How many examples go through together: equal chunks, each of about CHUNK_BYTES."""
    chunks = math.ceil(len(subject.inputs) * network.held() / CHUNK_BYTES)
    return math.ceil(len(subject.inputs) / chunks)
