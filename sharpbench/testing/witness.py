"""Witness: calls a measure, and keeps what it did beside returning an estimate."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from sharpbench.core.evaluate import measure
from sharpbench.core.measure import Estimate, Measure
from sharpbench.core.subject import Subject

T = TypeVar("T")
State = dict[str, tuple[Tensor, bool]]


@dataclass(frozen=True, slots=True)
class Witness:
    """written: names of tensors that calls wrote to. drawn: generators of the whole process that they drew from.

    Each call gets a copy of its subject; the module and the process's generators are put back afterwards, so that
    what one call leaves behind no other sees.
    """

    chosen: Measure
    written: set[str] = field(default_factory=set)
    drawn: set[str] = field(default_factory=set)

    def estimate(self, subject: Subject, *, seed: int = 0, elsewhere: int = 0, prepared: bool = False) -> Estimate:
        """What the measure says; `elsewhere` seeds all randomness that it must not need."""

        def call(copy: Subject) -> Estimate:
            if prepared:
                self.chosen.prepare(copy)
            return measure(self.chosen, copy, seed=seed)

        return self._watched(subject, call, elsewhere)

    def exact(self, subject: Subject) -> float | None:
        """What its oracle says."""
        return self._watched(subject, self.chosen.exact, 0)

    def _watched(self, subject: Subject, call: Callable[[Subject], T], elsewhere: int) -> T:
        copy = _copied(subject)
        before, attributes = _state(copy), dict(vars(self.chosen))
        with self._randomness(elsewhere):
            try:
                return call(copy)
            finally:
                self.written.update(_changed(before, _state(copy)))
                if vars(self.chosen) != attributes:
                    self.written.add("the measure itself")
                _restore(copy, before)

    @contextmanager
    def _randomness(self, seed: int) -> Iterator[None]:
        kept = _generators()
        random.seed(seed)
        np.random.seed(seed)
        torch.random.set_rng_state(torch.Generator().manual_seed(seed).get_state())
        seeded = _generators()
        try:
            yield
        finally:
            self.drawn.update(name for name, state in _generators().items() if not _same(state, seeded[name]))
            random.setstate(kept["random"])
            np.random.set_state(kept["numpy.random"])
            torch.random.set_rng_state(kept["torch.random"])


def _copied(subject: Subject) -> Subject:
    """The same subject on tensors of its own, with nothing shared yet."""

    def clone(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: value.clone() for name, value in tensors.items()}

    return replace(
        subject,
        params=clone(subject.params),
        constants=clone(subject.constants),
        inputs=subject.inputs.clone(),
        targets=subject.targets.clone(),
        initial=None if subject.initial is None else clone(subject.initial),
    )


def _state(subject: Subject) -> State:
    """All that a measure might write to: the tensors' values, and whether they require gradients."""
    tensors = {
        **{f"params[{name}]": value for name, value in subject.params.items()},
        **{f"constants[{name}]": value for name, value in subject.constants.items()},
        **{f"initial[{name}]": value for name, value in (subject.initial or {}).items()},
        **{f"module.{name}": value for name, value in _held(subject).items()},
        "inputs": subject.inputs,
        "targets": subject.targets,
    }
    return {name: (value.detach().clone(), value.requires_grad) for name, value in tensors.items()}


def _held(subject: Subject) -> dict[str, Tensor]:
    return {**dict(subject.module.named_parameters()), **dict(subject.module.named_buffers())}


def _changed(before: State, after: State) -> set[str]:
    moved = {
        name
        for name in before.keys() & after.keys()
        if before[name][1] != after[name][1] or not torch.equal(before[name][0], after[name][0])
    }
    return moved | (before.keys() ^ after.keys())


def _restore(subject: Subject, before: State) -> None:
    with torch.no_grad():
        for name, value in _held(subject).items():
            kept, gradients = before[f"module.{name}"]
            value.copy_(kept)
            value.requires_grad_(gradients)


def _generators() -> dict[str, Any]:
    return {
        "random": random.getstate(),
        "numpy.random": np.random.get_state(),
        "torch.random": torch.random.get_rng_state(),
    }


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, Tensor):
        return torch.equal(one, other)
    return bool(np.array_equal(one, other))
