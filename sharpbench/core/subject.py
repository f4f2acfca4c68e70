"""Subject: all that a measure may look at - a network, its loss and its data, as pure functions."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from copy import copy
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn

from sharpbench.core import loss as criteria
from sharpbench.core.batch import Inputs, map_tensors, named_tensors, split_examples, take_examples
from sharpbench.core.functional import Forward, call_module
from sharpbench.core.graph import Graph
from sharpbench.core.loader import LABELS, read_loader
from sharpbench.core.loss import Losses, PerExampleLoss
from sharpbench.core.measure import NotApplicable
from sharpbench.core.network_facts import capture_subject, find_output_shape, survey_subject
from sharpbench.core.operator_survey import OperatorSurvey
from sharpbench.core.output_losses import SoftmaxLoss
from sharpbench.core.parameters import Parameters, check_finite, read_weights
from sharpbench.core.precision import held_type, hold, hold_all, own_types
from sharpbench.core.process_group import ProcessGroup, join_batches, sum_batches
from sharpbench.core.random_state import random_state_kept
from sharpbench.core.requirements import (
    check_arguments,
    check_network,
    check_not_random,
    check_nothing_kept,
    check_unwritten,
    choose_batch_size,
    choose_examples,
    run_first_pass,
    runs_on,
)
from sharpbench.core.wrappers import unwrap_module, unwrap_names
from sharpbench.errors import InvalidInput

Params = dict[str, Tensor]
T = TypeVar("T")


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Subject:
    """A network, its loss and its data. n examples, C outputs, batches of B.

    The loss is L(params) = (1/n) sum_i criterion(apply(params, x_i), y_i): the mean over examples, natural log, the
    network in eval mode. `from_module` and `from_loader` make one. Weights and buffers are detached copies; the module
    gives only its structure and is never written to. Tensors of half precision are held and computed as float32.

    Attributes:
        name: of the network, in messages and tables.
        module: the network, at whose structure `apply` runs.
        params: the parameters under measurement, by name; tied ones once, under their first name.
        constants: buffers, and the parameters left out of measurement.
        inputs: all n examples, a tensor [n, ...] or a tree of such tensors, also nested.
        targets: [n, ...].
        criterion: the loss of each example.
        batch_size: examples at a time; it never changes a value beyond rounding.
        forward: how the module is called, None for the usual way.
        initial: the parameters before training, where known.
        train_size: the number of examples trained on, where known.
        frozen: the names of the parameters left out because they do not require gradients.
        process_group: the processes among which `mean` divides the batches, where there are several.
        half: the names of the types of half precision that the weights had, '' where they had none.
        notes: how a measure got its value, where not in the usual way; they become details of its estimate. Shared
            with the subjects that are derived from this one.

    >>> subject.n, subject.size, subject.classes
    (1, 8, 2)
    >>> round(float(subject.loss(subject.params)), 6)  # of two equal logits: log 2
    0.693147
    """

    name: str
    module: nn.Module = field(repr=False)
    params: Params = field(repr=False)
    constants: Params = field(repr=False)
    inputs: Inputs = field(repr=False)
    targets: Tensor = field(repr=False)
    criterion: PerExampleLoss
    batch_size: int
    forward: Forward | None = field(default=None, repr=False)
    initial: Params | None = field(default=None, repr=False)
    train_size: int | None = None
    frozen: tuple[str, ...] = ()
    process_group: ProcessGroup | None = field(default=None, repr=False)
    half: str = ""
    notes: dict[str, str] = field(default_factory=dict, repr=False)
    _shared: dict[Callable[[Subject], Any], Any] = field(default_factory=dict, repr=False, init=False)
    _settled: dict[Callable[[Subject], Any], Any] = field(default_factory=dict, repr=False, init=False)

    @staticmethod
    @own_types()
    def from_module(
        model: nn.Module,
        inputs: object,
        targets: Tensor,
        *,
        batch_size: int | None = None,
        loss: str | Losses | PerExampleLoss | None = "cross_entropy",
        forward: Forward | None = None,
        weight_decay: float = 0.0,
        parameters: Parameters | None = None,
        initial: Mapping[str, Tensor] | None = None,
        train_size: int | None = None,
        name: str | None = None,
    ) -> Subject:
        """The subject that measures `model` on the examples `inputs` [n, ...] and `targets` [n, ...].

        Args:
            model: the network; also inside DistributedDataParallel or torch.compile. It is left as it is.
            inputs: a tensor, or a tuple, dictionary or other mapping of tensors, also nested; examples first in each.
            targets: classes, int64 [n, ...], or what the loss takes.
            batch_size: examples at a time; by default chosen from the memory that one example's activations take.
            loss: 'cross_entropy', 'mse', a loss of torch.nn, or a callable (outputs [B, ...], targets) -> losses [B].
            forward: (model, inputs) -> outputs, a tensor. By default `model(inputs)` for a tensor, `model(*inputs)`
                for a tuple and `model(**inputs)` for a dictionary.
            weight_decay: lambda of the penalty (lambda / 2) |theta|^2 over the measured parameters, as part of the
                loss.
            parameters: names of the parameters to measure, or patterns such as '*lora*'; by default all that require
                gradients.
            initial: the state before training, by name, for the measures that need it.
            train_size: the number of examples trained on, for the measures that need it; by default n.
            name: in messages and tables; by default that of the class of `model`.

        Returns:
            A Subject, checked: the network runs on the examples, alone and in batches, and gives the same again.

        Raises:
            InvalidInput: one line, for anything that does not fit together: an empty data set, targets out of range,
                a reducing criterion, weights or inputs that are not finite, an unknown parameter.

        Cost: a few forward passes of a few examples.

        >>> model = torch.nn.Linear(2, 2)
        >>> made = sharpbench.Subject.from_module(model, torch.ones(4, 2), torch.tensor([0, 1, 0, 1]))
        >>> made.n, list(made.params)
        (4, ['weight', 'bias'])
        """
        model = unwrap_module(model) if isinstance(model, nn.Module) else model
        tree = check_arguments(model, inputs, targets, batch_size)
        weights = read_weights(model, parameters)
        tree, targets = map_tensors(hold, tree), hold(targets)
        check_finite("inputs", named_tensors(tree))
        subject = Subject(
            name=name or type(model).__name__,
            module=model,
            params=weights.params,
            constants=weights.constants,
            inputs=tree,
            targets=targets if targets.is_floating_point() else targets.long(),
            criterion=replace(criteria.to_per_example_loss(loss), weight_decay=weight_decay),
            batch_size=batch_size or 1,
            forward=forward,
            initial=None if initial is None else hold_all(unwrap_names(initial, weights.all)),
            train_size=train_size,
            frozen=weights.frozen,
            half=weights.half,
        )
        with random_state_kept(model):
            return subject._checked(choose_size=batch_size is None)

    def _checked(self, *, choose_size: bool) -> Subject:
        """This subject, whose network, loss and examples fit together, with a batch size from memory if asked for."""
        example = take_examples(self.inputs, slice(1))
        first = run_first_pass(self.apply, self.params, example, self.half)
        check_nothing_kept(first)
        check_not_random(first, partial(self.apply, self.params, example))
        criterion = self.criterion.fitted(first.logits, self.targets)
        check_unwritten(self.module, self.params)
        size = choose_batch_size(first, self.inputs, self.params) if choose_size else self.batch_size
        subject = replace(self, criterion=criterion, batch_size=size)
        if first.operators is not None and criterion.kind != "custom":
            subject._settled[survey_subject] = first.operators
        network = partial(self.apply, self.params)
        some, alone = choose_examples(first, self.n, size)
        if size == 1 and not runs_on(network, self.pick(some)[0]):
            some = some[:1]
        batch = self.pick(some)
        check_network(network, criterion, *batch, first=first.logits, alone=alone)
        return subject

    @staticmethod
    def from_loader(
        model: nn.Module,
        loader: Iterable[object],
        *,
        limit: int | None = None,
        labels: str = LABELS,
        batch_size: int | None = None,
        loss: str | Losses | PerExampleLoss | None = "cross_entropy",
        forward: Forward | None = None,
        weight_decay: float = 0.0,
        parameters: Parameters | None = None,
        name: str | None = None,
    ) -> Subject:
        """The subject on what `loader` gives, a DataLoader or any iterable of (inputs [B, ...], targets [B, ...]).

        Goes through it once and holds all of it, or the first `limit` examples. The loader's batches do not matter
        afterwards; random augmentation in it does, as its one outcome is what is measured.

        Args:
            model: as in `from_module`.
            loader: its batches are (inputs, targets), or dictionaries that hold both.
            limit: the number of examples to hold at most; by default all.
            labels: the key of the targets in batches that are dictionaries.
            batch_size: as in `from_module`; that of the loader does not matter.
            loss: as in `from_module`.
            forward: as in `from_module`.
            weight_decay: as in `from_module`.
            parameters: as in `from_module`.
            name: as in `from_module`.

        Raises:
            InvalidInput: for an empty loader and for batches of another form; otherwise as `from_module`.

        >>> batches = [(torch.ones(2, 2), torch.tensor([0, 1])), (torch.zeros(1, 2), torch.tensor([1]))]
        >>> sharpbench.Subject.from_loader(torch.nn.Linear(2, 2), batches).n
        3
        """
        inputs, targets = read_loader(loader, limit, labels)
        return Subject.from_module(
            model,
            inputs,
            targets,
            batch_size=batch_size,
            loss=loss,
            forward=forward,
            weight_decay=weight_decay,
            parameters=parameters,
            name=name,
        )

    def apply(self, params: Params, inputs: Inputs) -> Tensor:
        """The outputs of `inputs` [B, ...] under `params`, such as logits [B, C]: pure, differentiable, vmappable."""
        held = {key: value.clone() for key, value in self.constants.items()}  # some networks write into their buffers
        given = map_tensors(Tensor.clone, inputs)
        return cast(Tensor, call_module(self.module, {**held, **params}, given, self.forward))

    def loss(self, params: Params) -> Tensor:
        """L(params), a scalar: the mean of the criterion over all n examples, and the penalty of weight decay."""
        mean = self.mean(lambda inputs, targets: self.criterion(self.apply(params, inputs), targets).mean())
        return self.criterion.add_penalty(mean, params)

    def mean(self, of: Callable[[Any, Tensor], T]) -> T:
        """The mean over all examples of a quantity that is linear in the loss.

        The only loop over batches. In a group of n processes each takes every n-th batch, and the results are summed;
        what is differentiated from outside is not divided.

        Args:
            of: `of(inputs, targets)` returns the mean over one batch, a tensor or a tree of tensors; batches count by
                their size, the ragged last one included.
        """
        return sum_batches(list(self.batches), of, self.process_group)

    def by_example(self, of: Callable[[Any, Tensor], Tensor]) -> Tensor:
        """`of(inputs, targets)`, a value [B, ...] for each example of a batch, for all examples: [n, ...].

        Batches are divided among processes as in `mean`. Nothing may differentiate through it.
        """
        return join_batches(list(self.batches), of, self.process_group)

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
        weights that are not part of a timed call, as its graph and whether its derivatives are right.

        That there is none is a fact as well: the InvalidInput or NotApplicable that says why is raised again.
        """
        if function not in self._settled:
            try:
                self._settled[function] = function(self)
            except (InvalidInput, NotApplicable) as error:
                self._settled[function] = copy(error)  # without the frames that it passed, and what they hold
                raise
        found = self._settled[function]
        if isinstance(found, InvalidInput | NotApplicable):
            raise copy(found)
        return cast(T, found)

    def settle_graph(self, graph: Graph) -> None:
        """Take a graph that agrees with the module for `graph`, which then compares nothing."""
        self._settled[capture_subject] = graph

    def shared_results(self) -> list[tuple[Callable[[Subject], Any], Any]]:
        """What `once` and `settled` keep: each function with its result."""
        return [*self._shared.items(), *self._settled.items()]

    def fresh(self) -> Subject:
        """The same subject with nothing shared yet but what is settled: what a timed call is given."""
        other = replace(self)
        object.__setattr__(other, "_settled", self._settled)
        return other

    def with_params(self, params: Params) -> Subject:
        """The same network and data at the weights `params`, detached."""
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
            inputs=map_tensors(move, self.inputs),
            targets=move(self.targets),
            initial=None if self.initial is None else {key: move(value) for key, value in self.initial.items()},
        )

    @property
    def graph(self) -> Graph:
        """The network's computation on one example; captured at first use, kept with the module.

        Compared once with the module's outputs for a few examples, and captured again where they differ.
        """
        return self.settled(capture_subject)

    @property
    def operators(self) -> OperatorSurvey:
        """What the network and its loss consist of, seen once on one example; what they raise is raised."""
        return self.settled(survey_subject)

    def examples(self, count: int) -> Inputs:
        """The first `count` inputs, on the module's device, in its weights' type or float32 for half precision."""
        weight = next((value for value in self.module.parameters() if value.is_floating_point()), None)
        some = take_examples(self.inputs, slice(count))
        if weight is None:
            return some
        device, dtype = weight.device, held_type(weight.dtype)
        return map_tensors(lambda leaf: leaf.to(device, dtype if leaf.is_floating_point() else None), some)

    def take(self, places: slice | Tensor) -> Subject:
        """The same network on the examples at `places`, as of `pick`; the loss is again what torch computes on them."""
        inputs, targets = self.pick(places)
        return replace(self, inputs=inputs, targets=targets, criterion=self.criterion.resized(self.outputs, targets))

    def pick(self, places: slice | Tensor) -> tuple[Inputs, Tensor]:
        """Inputs and targets of some of the examples, by a slice or by their places [m]."""
        return take_examples(self.inputs, places), cast(Tensor, take_examples(self.targets, places))

    def restrict(self, names: Collection[str]) -> Subject:
        """The same network with only the parameters `names` under measurement; the others are constant."""
        left = {name: value for name, value in self.params.items() if name not in names}
        kept = {name: value for name, value in self.params.items() if name in names}
        return replace(self, params=kept, constants={**self.constants, **left})

    def split(self, size: int = 1) -> Iterator[tuple[Inputs, Tensor]]:
        """Inputs and targets, `size` examples at a time in their order; the last batch may be smaller."""
        yield from zip(split_examples(self.inputs, size), self.targets.split(size), strict=True)

    @property
    def batches(self) -> Iterator[tuple[Inputs, Tensor]]:
        """The examples, `batch_size` at a time."""
        yield from self.split(self.batch_size)

    @property
    def n(self) -> int:
        """The number of examples."""
        return len(self.targets)

    @property
    def device(self) -> torch.device:
        """The device of the examples."""
        return self.targets.device

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
        return self.settled(find_output_shape)

    @property
    def shares(self) -> Tensor | None:
        """By how much each example counts in the loss [n], in the mean 1; None where all count the same.

        They differ under class weights and ignored targets: a mean over examples is then a ratio of two means.
        """
        return self.criterion.shares(self.outputs, self.targets)
