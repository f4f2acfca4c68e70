"""Networks of one architecture at several weights, moved to the balanced networks of the same functions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sharpbench.core.measure import NotApplicable
from sharpbench.core.subject import Params, Subject
from sharpbench.curvature import flatten
from sharpbench.errors import InvalidInput
from sharpbench.landscapes.options import LandscapeOptions
from sharpbench.symmetry import balanced_params


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoints:
    """The same network and examples at one or more weights, by name.

    Buffers of floats that differ between the checkpoints, as running statistics do, are `moved`: they change along the
    slice as the weights do.
    """

    names: tuple[str, ...]
    subjects: tuple[Subject, ...]

    @property
    def moved(self) -> tuple[str, ...]:
        """The constants that differ between checkpoints."""
        first, *others = (subject.constants for subject in self.subjects)
        return tuple(
            name
            for name, value in first.items()
            if value.is_floating_point() and not all(torch.equal(value, other[name]) for other in others)
        )

    def movable(self, place: int) -> Subject:
        """The subject whose parameters are all tensors that a slice moves: the measured weights, then the buffers."""
        subject, moved = self.subjects[place], self.moved
        buffers = {name: subject.constants[name] for name in moved}
        left = {name: value for name, value in subject.constants.items() if name not in buffers}
        return replace(subject, params={**subject.params, **buffers}, constants=left)

    def flat(self, place: int) -> Tensor:
        """The moved tensors of one checkpoint as one vector, float64."""
        return flatten(self.movable(place).params).double()


def make_checkpoints(subjects: Mapping[str, Subject]) -> Checkpoints:
    """The checkpoints. Raises InvalidInput where they are of other networks or examples."""
    (name, first), *others = subjects.items()
    for other_name, other in others:
        shapes = [{key: value.shape for key, value in each.params.items()} for each in (first, other)]
        if shapes[0] != shapes[1]:
            raise InvalidInput(f"'{other_name}' has other parameters than '{name}'; give checkpoints of one network")
        if other.n != first.n or not torch.equal(other.targets, first.targets):
            raise InvalidInput(f"'{other_name}' has other examples than '{name}'; give both the same")
    return Checkpoints(tuple(subjects), tuple(subjects.values()))


def balance_checkpoints(given: Checkpoints, options: LandscapeOptions) -> Iterator[str | Checkpoints]:
    """What is done next, in words, and at the end the checkpoints at their balanced weights.

    The scales are found in float64, so that rescaled copies in float32 differ by the rounding of their weights only.
    Raises InvalidInput where there is no balanced network.
    """
    if options.balance == "none":
        yield given
        return
    moved = []
    for name, subject in zip(given.names, given.subjects, strict=True):
        yield f"balancing '{name}'"
        try:
            params: Params = balanced_params(subject.to(dtype=torch.float64), scope=options.balance)
        except (InvalidInput, NotApplicable) as error:
            raise InvalidInput(f"no balanced network at '{name}': {error}; or draw with balance=none") from None
        moved.append(subject.with_params({key: params[key].to(held) for key, held in subject.params.items()}))
    yield Checkpoints(given.names, tuple(moved))


def read_states(
    subject: Subject, states: Mapping[str, Mapping[str, Tensor]] | Sequence[Mapping[str, Tensor]]
) -> dict[str, Subject]:
    """The subject at each of several state dicts, by name: of a mapping, or numbered from 1.

    Raises InvalidInput for a state that lacks a tensor, or has one of another shape.
    """
    named = states if isinstance(states, Mapping) else {str(place): state for place, state in enumerate(states, 1)}
    found = {}
    for name, state in named.items():
        tensors = {**subject.params, **subject.constants}
        for key, held in tensors.items():
            if key not in state or state[key].shape != held.shape:
                raise InvalidInput(f"checkpoint '{name}' has no tensor '{key}' of shape {list(held.shape)}")
            if held.is_floating_point() and not bool(state[key].isfinite().all()):
                raise InvalidInput(f"checkpoint '{name}': {key} has values that are not finite")
        found[name] = replace(
            subject,
            params={key: state[key].detach().clone().to(held) for key, held in subject.params.items()},
            constants={key: state[key].detach().clone().to(held) for key, held in subject.constants.items()},
        )
    return found
