"""Network: a subject's network as a function of shifts of its layers' outputs, and its pullbacks."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from sharpbench.core.batch import Inputs, as_batch, split_examples, take_examples, unbind_examples
from sharpbench.core.graph import Graph, agreeing_graph, run_graph
from sharpbench.core.measure import NotApplicable
from sharpbench.core.precision import sum_type
from sharpbench.core.requirements import MAX_ALONE, are_close, is_out_of_memory
from sharpbench.core.subject import Params, Subject
from sharpbench.curvature.all_examples import agrees_on_all_examples, check_batches
from sharpbench.curvature.buffer_sizes import BufferSizes, count_buffers, guess_buffers
from sharpbench.curvature.gradient_check import agrees_with_module, graph_agrees_with_module
from sharpbench.curvature.layers import Layer, plan_layers, run_layer
from sharpbench.curvature.plain import as_leaves, plain_vjp
from sharpbench.curvature.surrogates import gradient_kind, survey_operators
from sharpbench.errors import InvalidInput

Aids = Tensor | tuple[Tensor, ...]
"""What a root is given of each example, examples first."""
Root = Callable[[Tensor, Any, slice], tuple[Tensor, Tensor]]
"""Of one example: its outputs [...], its target or what else is given, and which columns -> those columns S [..., K] of
its root and their weights [K]."""

Form = tuple[object, ...]
_plans: weakref.WeakKeyDictionary[Graph, dict[Form, tuple[tuple[Layer, ...], BufferSizes]]] = (
    weakref.WeakKeyDictionary()
)
"""What depends on a graph, the measured parameters' names, their type and device only: kept with the graph."""
_proven: weakref.WeakKeyDictionary[Graph, set[Form]] = weakref.WeakKeyDictionary()
"""Those whose pullback has agreed with a module."""


@dataclass(frozen=True, slots=True, eq=False)
class LayerVjps:
    """A chunk of B examples and K columns, pulled back.

    data: the layers' inputs [B, 1, ...]. deltas: the derivatives [B, K, 1, ...] by their outputs. rows: the loose
    parameters' gradients [B, K, ...]. weights: the columns' [B, K]. first: the place of the first column.
    """

    layers: tuple[Layer, ...]
    data: list[Tensor]
    deltas: list[Tensor]
    rows: Params
    weights: Tensor
    first: int

    def columns(self, start: int, stop: int) -> LayerVjps:
        """Those of its columns that lie between two places of the whole root."""
        some = slice(max(0, start - self.first), max(0, stop - self.first))
        deltas = [delta[:, some] for delta in self.deltas]
        rows = {name: value[:, some] for name, value in self.rows.items()}
        return LayerVjps(self.layers, self.data, deltas, rows, self.weights[:, some], max(start, self.first))

    def sums(
        self, of_layer: Callable[[Layer, Tensor, Tensor], Params], of_rows: Callable[[str, Tensor], Params]
    ) -> Params:
        """By parameter, sums of squared gradients over columns, and as the two functions have it over examples.

        of_layer(layer, inputs, deltas) gives those of a layer's parameters, of_rows(name, gradients [B, K, ...])
        those of a loose one. Columns of negative weight (an indefinite custom criterion) are subtracted.
        """
        total: Params = {}
        for sign, kept in _by_sign(self.weights):
            for layer, given, delta in zip(self.layers, self.data, self.deltas, strict=True):
                add_trees(total, of_layer(layer, given, kept(delta)), sign)
            for name, value in self.rows.items():
                add_trees(total, of_rows(name, kept(value)), sign)
        return total


def add_trees(total: Params, part: Params, factor: float = 1) -> None:
    """total += factor * part, by name, in place and in the shapes of the total; takes what is new as its own."""
    for name, value in part.items():
        if name in total:
            total[name].add_(value.reshape(total[name].shape), alpha=factor)
        else:
            total[name] = value if factor == 1 else factor * value


def start_sums(params: Params) -> Params:
    """Zeros of the parameters' shapes, in the type in which sums over many examples are taken."""
    return {name: torch.zeros_like(value, dtype=sum_type(value.dtype)) for name, value in params.items()}


@dataclass(frozen=True, slots=True, eq=False)
class LayerwiseNetwork:
    """A subject's network as a function of shifts of its layers' outputs and of its loose parameters.

    graph: None where it cannot be captured or its gradients are not the module's, for the reason given; then all
    parameters are loose. outputs: the shape of one example's outputs. sizes: guessed from the inputs where there is no
    graph. vmapped: over examples and columns; otherwise plain backward passes.
    """

    subject: Subject
    graph: Graph | None
    layers: tuple[Layer, ...]
    loose: tuple[str, ...]
    outputs: torch.Size
    sizes: BufferSizes
    reason: str = ""
    vmapped: bool = True

    def pull(self, inputs: Inputs, aids: Aids, root: Root, columns: slice) -> LayerVjps:
        """A chunk of examples and those columns of the root; one by one where torch cannot vmap them (recurrent
        networks, criteria that read their targets)."""
        if not self.vmapped:
            return self._pull_plainly(inputs, aids, root, columns)

        try:
            return self.pull_vmapped(inputs, aids, root, columns)
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise
            single = [
                self._one(each, _aid_of(aids, place), root, columns)
                for place, each in enumerate(unbind_examples(inputs))
            ]
            data, deltas, rows, weights = pytree.tree_map(lambda *values: torch.stack(values), *single)
            return LayerVjps(self.layers, data, deltas, rows, weights, columns.start)

    def logits(self, subject: Subject, inputs: Inputs) -> Tensor:
        """The outputs [B, ...] of examples [B, ...], each by itself, through the graph, which is not None.

        subject: this network's, or the same one in another type.
        """
        graph, values = self.graph, {**subject.constants, **as_leaves(subject.params)}
        assert graph is not None

        def one(example: Inputs) -> Tensor:
            return run_graph(graph, values, as_batch(example))[graph.outputs[0]][0]

        with torch.enable_grad():  # as where it is differentiated: torch has other kernels without gradients
            try:
                return torch.func.vmap(one)(inputs).detach()
            except RuntimeError as error:
                if is_out_of_memory(error):
                    raise
                return torch.stack([one(each).detach() for each in unbind_examples(inputs)])

    def pull_vmapped(self, inputs: Inputs, aids: Aids, root: Root, columns: slice) -> LayerVjps:
        """The same, all examples together; raises RuntimeError where torch cannot vmap them."""

        def one(example: Inputs, aid: Aids) -> tuple[list[Tensor], list[Tensor], Params, Tensor]:
            return self._one(example, aid, root, columns)

        every: tuple[list[Tensor], list[Tensor], Params, Tensor] = torch.func.vmap(one)(inputs, aids)
        return LayerVjps(self.layers, *every, first=columns.start)

    def _pull_plainly(self, inputs: Inputs, aids: Aids, root: Root, columns: slice) -> LayerVjps:
        """The same by plain backward passes, one for each example and column."""
        rows, weights = [], []
        for place, example in enumerate(unbind_examples(inputs)):
            leaves = {name: self.subject.params[name].detach().requires_grad_() for name in self.loose}
            with torch.enable_grad():
                logits = self.subject.apply(leaves, as_batch(example))[0]
            vectors, each = root(logits.detach(), _aid_of(aids, place), columns)
            pulled = [plain_vjp(logits, leaves, vector) for vector in vectors.movedim(-1, 0)]
            rows.append({name: torch.stack([one[name] for one in pulled]) for name in leaves})
            weights.append(each)
        stacked = {name: torch.stack([one[name] for one in rows]) for name in self.loose}
        return LayerVjps((), [], [], stacked, torch.stack(weights), first=columns.start)

    def _one(
        self, example: Inputs, aid: Aids, root: Root, columns: slice
    ) -> tuple[list[Tensor], list[Tensor], Params, Tensor]:
        """Of one example: the layers' inputs, their outputs' derivatives, the loose parameters' gradients, weights."""
        shifts = [self._zeros(layer) for layer in self.layers]
        loose = {name: self.subject.params[name] for name in self.loose}

        def network(shifts: list[Tensor], loose: Params) -> tuple[Tensor, list[Tensor]]:
            if self.graph is None:
                return self.subject.apply(loose, as_batch(example))[0], []
            values = {**self.subject.constants, **self.subject.params, **loose}
            logits, data = run_layer(self.graph, values, as_batch(example), self.layers, shifts)
            return logits.squeeze(0), data  # whose derivative copies nothing, as that of an index does

        pulled = torch.func.vjp(network, shifts, loose, has_aux=True)
        vectors, weights = root(pulled[0], aid, columns)
        deltas, rows = torch.func.vmap(pulled[1])(vectors.movedim(-1, 0))
        data = cast(list[Tensor], pulled[-1])  # the auxiliary output, which torch does not type
        return data, deltas, rows, weights

    def _zeros(self, layer: Layer) -> Tensor:
        dtypes = {value.dtype for value in self.subject.params.values()}
        output = layer.node.meta["val"]
        like = next(iter(self.subject.params.values()))
        return like.new_zeros(output.shape, dtype=output.dtype if len(dtypes) > 1 else None)


def _aid_of(aids: Aids, place: int) -> Aids:
    return aids[place] if isinstance(aids, Tensor) else tuple(each[place] for each in aids)


def layerwise_network(subject: Subject) -> LayerwiseNetwork:
    """The network with all the layers that its graph shows, where its gradients are those of the module.

    They are not where the module has its own derivatives (straight-through estimators), where it switches them off,
    where it computes in another precision, and where torch cannot vmap the graph's operators. All parameters are then
    loose, and the module itself is called; by plain backward passes where vmap does not give the module's gradients.
    Raises NotApplicable where the gradient is that of no function, see `surrogates`.
    """
    gradient_kind(subject)
    check_batches(subject)
    return subject.settled(_choose_network)


def results_of_one(subject: Subject) -> int:
    """How many numbers the network's operators make of one example; guessed where it cannot be differentiated."""
    try:
        return subject.settled(_choose_network).sizes.results
    except NotApplicable:
        return guess_buffers(subject.inputs).results


def _choose_network(subject: Subject) -> LayerwiseNetwork:
    try:
        graph, agrees = agreeing_graph(
            subject.module,
            subject.examples(1),
            lambda graph: _agrees(_planned_network(subject, graph)),
            subject.forward,
        )
        planned = _planned_network(subject, graph)
        if agrees and agrees_on_all_examples(subject, planned.logits):
            subject.settle_graph(graph)
            return planned
        reason = f"the captured graph of {subject.name} is not differentiated as the module is"
    except InvalidInput as error:
        reason = str(error)
        _check_examples_alone(subject)
    sizes = guess_buffers(subject.inputs)
    loose = LayerwiseNetwork(subject, None, (), tuple(subject.params), subject.outputs, sizes, reason)
    return loose if agrees_with_module(loose) else replace(loose, vmapped=False)


def _agrees(network: LayerwiseNetwork) -> bool:
    """Whether the network's logits and gradients are those of the module.

    That its layers are pulled back rightly, and that torch vmaps its operators rightly, is found once a graph, where
    all operators are verified: of later subjects the graph itself is compared with the module.
    """
    graph, form = network.graph, _form(network.subject)
    assert graph is not None
    proven = _proven.setdefault(graph, set())
    if form in proven and survey_operators(network.subject).verified:
        return graph_agrees_with_module(network.subject, graph)
    good = agrees_with_module(network)
    if good:
        proven.add(form)
    return good


def _form(subject: Subject) -> Form:
    like = next(iter(subject.params.values()))
    return tuple(subject.params), like.dtype, like.device


def _check_examples_alone(subject: Subject) -> None:
    """Raise NotApplicable where an example by itself has other logits than in its batch.

    What cannot be captured often branches on values, which a few examples need not show.
    """
    inputs = take_examples(subject.inputs, slice(min(subject.batch_size, MAX_ALONE)))
    with torch.enable_grad():
        whole = subject.apply(subject.params, inputs).detach()
        apart = torch.cat([subject.apply(subject.params, each).detach() for each in split_examples(inputs)])
    if not are_close(whole, apart):
        raise NotApplicable(
            "the network mixes the examples of a batch: an example by itself has other outputs than in it"
        )


def _planned_network(subject: Subject, graph: Graph) -> LayerwiseNetwork:
    form = _form(subject)
    plans = _plans.setdefault(graph, {})
    if form not in plans:
        layers = plan_layers(graph, subject.params)
        plans[form] = layers, count_buffers(graph, layers)
    layers, sizes = plans[form]
    known = {name for layer in layers for name in (layer.weight, layer.bias)}
    loose = tuple(name for name in subject.params if name not in known)
    return LayerwiseNetwork(subject, graph, layers, loose, graph.outputs[0].meta["val"].shape[1:], sizes)


def faithful_graph(subject: Subject) -> Graph:
    """The subject's graph, if logits and their derivatives by it are the module's; raises InvalidInput otherwise."""
    network = layerwise_network(subject)
    if network.graph is None:
        raise InvalidInput(network.reason)
    return network.graph


def _by_sign(weights: Tensor) -> Iterator[tuple[int, Callable[[Tensor], Tensor]]]:
    """For columns of weight 1, and those of weight -1 if there are any: what sets the others [B, K, ...] to 0."""
    if bool((weights > 0).all()):
        yield 1, lambda values: values
        return
    for sign in (1, -1):

        def kept(values: Tensor, mask: Tensor = weights == sign) -> Tensor:
            return values * mask.reshape(mask.shape + (1,) * (values.ndim - 2))

        yield sign, kept
