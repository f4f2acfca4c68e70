"""Subject: all that a measure may look at - a network, its loss and its data, as pure functions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Protocol, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from sharpbench.core import loss as criteria
from sharpbench.core.functional import call_module
from sharpbench.core.graph import Graph, current_graph
from sharpbench.core.loss import Losses, PerExampleLoss
from sharpbench.core.operator_survey import OperatorSurvey, survey_function
from sharpbench.core.output_losses import SoftmaxLoss
from sharpbench.core.precision import half_types, held_type, hold, hold_all, sum_trees
from sharpbench.core.requirements import (
    COMPARED,
    check_arguments,
    check_finite,
    check_network,
    check_unwritten,
    choose_batch_size,
    choose_examples,
    choose_parameters,
    random_state_kept,
    run_first_pass,
    spread_places,
)
from sharpbench.errors import InvalidInput

Params = dict[str, Tensor]
T = TypeVar("T")


class ProcessGroup(Protocol):
    """Processes that evaluate the same measure at the same time and divide the batches among them."""

    rank: int
    size: int
    broken: bool

    def total(self, tree: T) -> T:
        """The sum of a tree of tensors over all processes, the same bits in each."""

    def finish(self) -> None:
        """A measure has come to its end; raises RuntimeError where others are not at theirs."""


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Subject:
    """A network, its loss and its data. n examples, C outputs, batches of B.

    The loss is L(params) = (1/n) sum_i criterion(apply(params, x_i), y_i): the mean over examples, natural
    log, no weight decay, the network in eval mode. Weights and buffers are detached copies made at
    construction; the module gives only its structure and is never written to. Tensors of half precision are held and
    computed as float32.

    params: the parameters under measurement, by name; tied ones once, under their first name.
    constants: buffers, and the parameters left out of measurement.
    inputs, targets: all n examples. `batch_size` never changes a value beyond rounding.
    initial: the parameters before training, where known. train_size: examples trained on, where known.
    frozen: the names of the parameters left out because they do not require gradients.
    process_group: the processes among which `mean` divides the batches, where there are several.
    half: the names of the types of half precision that the weights had, '' where they had none.
    notes: how a measure got its value, where not in the usual way; they become details of its estimate. Shared with
    the subjects that are derived from this one.
    """

    name: str
    module: nn.Module = field(repr=False)
    params: Params = field(repr=False)
    constants: Params = field(repr=False)
    inputs: Tensor = field(repr=False)
    targets: Tensor = field(repr=False)
    criterion: PerExampleLoss
    batch_size: int
    initial: Params | None = field(default=None, repr=False)
    train_size: int | None = None
    frozen: tuple[str, ...] = ()
    process_group: ProcessGroup | None = field(default=None, repr=False)
    half: str = ""
    notes: dict[str, str] = field(default_factory=dict, repr=False)
    _shared: dict[Callable[[Subject], Any], Any] = field(default_factory=dict, repr=False, init=False)
    _settled: dict[Callable[[Subject], Any], Any] = field(default_factory=dict, repr=False, init=False)

    @staticmethod
    def from_module(
        model: nn.Module,
        inputs: Tensor,
        targets: Tensor,
        *,
        batch_size: int | None = None,
        loss: str | Losses | PerExampleLoss | None = "cross_entropy",
        parameters: Iterable[str] | None = None,
        initial: Mapping[str, Tensor] | None = None,
        train_size: int | None = None,
        name: str | None = None,
    ) -> Subject:
        """The subject that measures `model` on the examples `inputs` [n, ...] and `targets` [n] or [n, C].

        loss: 'cross_entropy', 'mse', or a callable (logits [B, C], targets) -> losses [B].
        parameters: names of the parameters to measure; by default all that require gradients.
        batch_size: by default chosen from the memory that one example's activations take.
        Raises InvalidInput, one line, for anything that does not fit together: an empty data set, targets
        out of range, a reducing criterion, weights or inputs that are not finite, an unknown parameter.
        """
        check_arguments(model, inputs, targets, batch_size)
        model = model.module if isinstance(model, nn.DataParallel) else model
        weights = hold_all(dict(model.named_parameters()))
        inputs, targets = hold(inputs), hold(targets)
        check_finite("weights", weights)
        check_finite("inputs", {"inputs": inputs})
        trainable = [key for key, value in model.named_parameters() if value.requires_grad]
        chosen = choose_parameters(parameters, weights, trainable)
        buffers = hold_all(dict(model.named_buffers()))
        subject = Subject(
            name=name or type(model).__name__,
            module=model,
            params={key: weights[key] for key in weights if key in chosen},
            constants={**{key: weights[key] for key in weights if key not in chosen}, **buffers},
            inputs=inputs,
            targets=targets if targets.is_floating_point() else targets.long(),
            criterion=criteria.to_per_example_loss(loss),
            batch_size=batch_size or 1,
            initial=None if initial is None else hold_all(initial),
            train_size=train_size,
            frozen=tuple(key for key in weights if key not in trainable),
            half=half_types(model.parameters()),
        )
        with random_state_kept():
            first = run_first_pass(subject.apply, subject.params, subject.inputs[:1], subject.half)
            subject = replace(subject, criterion=subject.criterion.fitted(first.logits, subject.targets))
            check_unwritten(model, subject.params)
            if batch_size is None:
                subject = replace(subject, batch_size=choose_batch_size(first, subject.inputs, subject.params))
            if first.operators is not None and subject.criterion.kind != "custom":
                subject._settled[_operators] = first.operators
            some, alone = choose_examples(first, len(subject.inputs), subject.batch_size)
            network = partial(subject.apply, subject.params)
            batch = subject.inputs[some.to(inputs.device)], subject.targets[some.to(inputs.device)]
            check_network(network, subject.criterion, *batch, first=first.logits, alone=alone)
        return subject

    @staticmethod
    def from_loader(
        model: nn.Module,
        loader: Iterable[Sequence[Tensor]],
        *,
        limit: int | None = None,
        batch_size: int | None = None,
        loss: str | Losses | PerExampleLoss | None = "cross_entropy",
        parameters: Iterable[str] | None = None,
        name: str | None = None,
    ) -> Subject:
        """The subject on what `loader` gives, a DataLoader or any iterable of (inputs [B, ...], targets [B, ...]).

        Goes through it once and holds all of it, or the first `limit` examples. The loader's batches do not matter
        afterwards; random augmentation in it does, as its one outcome is what is measured. The rest is as in
        `from_module`. Raises InvalidInput for an empty loader and for batches of another form.
        """
        if limit is not None and limit < 1:
            raise InvalidInput(f"limit={limit} must be at least 1")
        inputs, targets, held = [], [], 0
        for batch in loader:
            pair = isinstance(batch, Sequence) and len(batch) == 2
            if not pair or not all(isinstance(part, Tensor) and part.ndim for part in batch):
                raise InvalidInput(f"the loader gives a {type(batch).__name__}; expected inputs [B, ...], targets [B]")
            inputs.append(batch[0])
            targets.append(batch[1])
            held += len(batch[0])
            if batch[0].shape[1:] != inputs[0].shape[1:] or batch[1].shape[1:] != targets[0].shape[1:]:
                shapes = f"{list(inputs[0].shape[1:])} and {list(batch[0].shape[1:])}"
                raise InvalidInput(f"the loader's batches hold examples of different shapes, {shapes}; make them alike")
            if limit is not None and held >= limit:
                break
        if not inputs:
            raise InvalidInput("the loader gives no batch; a loss is a mean over at least 1 example")
        return Subject.from_module(
            model,
            torch.cat(inputs)[:limit],
            torch.cat(targets)[:limit],
            batch_size=batch_size,
            loss=loss,
            parameters=parameters,
            name=name,
        )

    def apply(self, params: Params, inputs: Tensor) -> Tensor:
        """Logits [B, C] of `inputs` [B, ...] under `params`: pure, differentiable, vmappable."""
        held = {key: value.clone() for key, value in self.constants.items()}  # some networks write into their buffers
        return cast(Tensor, call_module(self.module, {**held, **params}, inputs.clone()))

    def loss(self, params: Params) -> Tensor:
        """L(params), a scalar: the mean of the criterion over all n examples."""
        return self.mean(lambda inputs, targets: self.criterion(self.apply(params, inputs), targets).mean())

    def mean(self, of: Callable[[Tensor, Tensor], T]) -> T:
        """The mean over all examples of a quantity that is linear in the loss.

        `of(inputs, targets)` returns the mean over one batch, a tensor or a tree of tensors; batches count
        by their size, the ragged last one included. The only loop over batches. In a group of n processes each takes
        every n-th batch, and the results are summed; what is differentiated from outside is not divided.
        """
        group = self.process_group
        if group is None or len(self.inputs) <= self.batch_size * (group.size - 1):  # as every process finds
            return self._sum(of, list(self.batches))
        mine = list(self.batches)[group.rank :: group.size]
        part = self._sum(of, mine)
        if any(_traced(leaf) for leaf in pytree.tree_leaves(part)):
            return self._sum(of, list(self.batches))
        return group.total(part)

    def by_example(self, of: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """`of(inputs, targets)`, a value [B, ...] for each example of a batch, for all examples: [n, ...].

        Batches are divided among processes as in `mean`. Nothing may differentiate through it.
        """
        batches, group = list(self.batches), self.process_group
        if group is None or len(self.inputs) <= self.batch_size * (group.size - 1):
            return torch.cat([of(*batch) for batch in batches])
        found = {place: of(*batches[place]) for place in range(group.rank, len(batches), group.size)}
        like = found[group.rank]
        blank = [like.new_zeros((len(inputs), *like.shape[1:])) for inputs, _ in batches]
        return group.total(torch.cat([found.get(place, zeros) for place, zeros in enumerate(blank)]))

    def _sum(self, of: Callable[[Tensor, Tensor], T], batches: Sequence[tuple[Tensor, Tensor]]) -> T:
        """The share of these batches in the mean, added up in float64."""

        def part(inputs: Tensor, targets: Tensor) -> T:
            share = len(inputs) / len(self.inputs)
            return cast(T, pytree.tree_map(lambda tensor: tensor * share, of(inputs, targets)))

        return sum_trees(part(*batch) for batch in batches)

    def once(self, function: Callable[[Subject], T]) -> T:
        """`function(self)`, computed at the first call and shared by all later ones, with the notes that it makes."""
        if function not in self._shared:
            before = self.notes.copy()
            self.notes.clear()
            self._shared[function] = function(self), self.notes.copy()
            self.notes.update(before)
        value, notes = self._shared[function]
        self.notes.update(notes)
        return cast(T, value)

    def settled(self, function: Callable[[Subject], T]) -> T:
        """`function(self)`, computed once and shared also with `fresh` subjects: facts about the network at these
        weights that are not part of a timed call, as its graph and whether its derivatives are right."""
        if function not in self._settled:
            self._settled[function] = function(self)
        return cast(T, self._settled[function])

    def settle_graph(self, graph: Graph) -> None:
        """Take a graph that agrees with the module for `graph`, which then compares nothing."""
        self._settled[_graph] = graph

    def shared_results(self) -> list[tuple[Callable[[Subject], Any], Any]]:
        """What `once` and `settled` keep: each function with its result."""
        return [*self._shared.items(), *self._settled.items()]

    def fresh(self) -> Subject:
        """The same subject with nothing shared yet but what is settled: what a timed call is given."""
        other = replace(self)
        object.__setattr__(other, "_settled", self._settled)
        return other

    def with_params(self, params: Params) -> Subject:
        """The same network and data at other weights, detached."""
        return replace(self, params={key: value.detach() for key, value in params.items()})

    def to(self, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> Subject:
        """This subject with its floats in `dtype` (half precision is held as float32), and all tensors on `device`."""

        def move(tensor: Tensor) -> Tensor:
            return hold(tensor.to(device=device, dtype=dtype if tensor.is_floating_point() else None))

        rounded = dtype is not None and held_type(dtype) != dtype
        return replace(
            self,
            half=str(dtype).removeprefix("torch.") if rounded else self.half,
            params={key: move(value) for key, value in self.params.items()},
            constants={key: move(value) for key, value in self.constants.items()},
            inputs=move(self.inputs),
            targets=move(self.targets),
            initial=None if self.initial is None else {key: move(value) for key, value in self.initial.items()},
        )

    @property
    def graph(self) -> Graph:
        """The network's computation on one example; captured at first use, kept with the module.

        Compared once with the module's outputs for a few examples, and captured again where they differ.
        """
        return self.settled(_graph)

    @property
    def operators(self) -> OperatorSurvey:
        """What the network and its loss consist of, seen once on one example; what they raise is raised."""
        return self.settled(_operators)

    def examples(self, count: int) -> Tensor:
        """The first inputs, on the device and in the type of the module's own weights, float32 for half precision."""
        weight = next((value for value in self.module.parameters() if value.is_floating_point()), None)
        some = self.inputs[:count]
        if weight is None:
            return some
        return some.to(device=weight.device, dtype=held_type(weight.dtype) if some.is_floating_point() else None)

    @property
    def batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """The examples in their order, `batch_size` at a time; the last batch may be smaller."""
        yield from zip(self.inputs.split(self.batch_size), self.targets.split(self.batch_size), strict=True)

    @property
    def size(self) -> int:
        """The number of scalar parameters under measurement."""
        return sum(value.numel() for value in self.params.values())

    @property
    def classes(self) -> int:
        """C, the number of outputs at each position."""
        axis = self.criterion.form.axis if isinstance(self.criterion.form, SoftmaxLoss) else 1
        return self.outputs[-1 if axis == -1 else 0] if self.outputs else 1

    @property
    def outputs(self) -> torch.Size:
        """The shape of the outputs of one example: [C] for logits [B, C]."""
        return self.settled(_output_shape)

    @property
    def shares(self) -> Tensor | None:
        """By how much each example counts in the loss [n], in the mean 1; None where all count the same.

        They differ under class weights and ignored targets: a mean over examples is then a ratio of two means.
        """
        return self.criterion.shares(self.outputs, self.targets)

    def with_examples(self, places: Tensor) -> Subject:
        """The same network and loss on some of the examples; the loss is again what torch computes on them."""
        targets = self.targets[places]
        criterion = self.criterion.resized(self.outputs, targets)
        return replace(self, inputs=self.inputs[places], targets=targets, criterion=criterion)


def _output_shape(subject: Subject) -> torch.Size:
    with torch.enable_grad():  # some networks differentiate inside
        return subject.apply(subject.params, subject.inputs[:1]).shape[1:]


def _graph(subject: Subject) -> Graph:
    places = spread_places(len(subject.inputs), COMPARED).to(subject.inputs.device)
    values = {**subject.constants, **subject.params}
    return current_graph(subject.module, subject.examples(1), subject.inputs[places], values)


def _operators(subject: Subject) -> OperatorSurvey:
    def loss(params: Params) -> Tensor:
        logits = subject.apply(params, subject.inputs[:1])
        return subject.criterion(logits, subject.targets[:1]) if subject.criterion.kind == "custom" else logits

    found = survey_function(loss, subject.params)
    return replace(found, verified=found.verified and subject.criterion.kind != "custom")  # ours are verified


def _traced(value: object) -> bool:
    """Whether a derivative is being taken of the tensor, or it stands for several."""
    wrapped = torch._C._functorch.is_functorch_wrapped_tensor
    return isinstance(value, Tensor) and (value.requires_grad or wrapped(value))
