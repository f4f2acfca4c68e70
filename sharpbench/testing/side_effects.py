"""Evaluates a measure and records its side effects: what it wrote to, and the generators that it drew from."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from sharpbench.core.batch import map_tensors, named_tensors
from sharpbench.core.evaluate import estimate_with
from sharpbench.core.measure import Estimate, Measure
from sharpbench.core.subject import Subject
from sharpbench.testing.module_state import ModuleState

T = TypeVar("T")
TensorStates = dict[str, tuple[Tensor, bool]]
"""The value of each tensor, and whether it requires gradients."""


@dataclass(frozen=True, slots=True)
class SideEffectMonitor:
    """Evaluates a measure and records what it did in addition to returning an estimate.

    Each call gets a copy of its subject. The module and the generators of the process are restored afterwards, so that
    no call sees the side effects of another.

    Args:
        chosen: the measure.
        written: names of the tensors, and of the attributes and gradients of the module, that calls changed.
        drawn: generators of the process that calls drew from.
    """

    chosen: Measure
    written: set[str] = field(default_factory=set)
    drawn: set[str] = field(default_factory=set)

    def estimate(self, subject: Subject, *, seed: int = 0, global_seed: int = 0, prepared: bool = False) -> Estimate:
        """The estimate on a copy of `subject`.

        Args:
            subject: the network and its examples.
            seed: the seed of the generator that the measure is given.
            global_seed: the seed of the process's generators, on which the estimate must not depend.
            prepared: whether `Measure.prepare` is called first.
        """

        def evaluate(copy: Subject) -> Estimate:
            if prepared:
                self.chosen.prepare(copy)
            return estimate_with(self.chosen, copy, seed=seed)

        return self._monitor(subject, evaluate, global_seed)

    def exact(self, subject: Subject) -> float | None:
        """The value of the measure's oracle."""
        return self._monitor(subject, self.chosen.exact, 0)

    def _monitor(self, subject: Subject, call: Callable[[Subject], T], global_seed: int) -> T:
        copy = _copy_subject(subject)
        before, attributes, module = _tensor_states(copy), dict(vars(self.chosen)), ModuleState.of(copy.module)
        with self._seeded_generators(global_seed):
            try:
                return call(copy)
            finally:
                self.written.update(module.changes())
                module.restore()  # the tensors below are found through its attributes
                self.written.update(_changed_names(before, _tensor_states(copy)))
                if vars(self.chosen) != attributes:
                    self.written.add("the measure itself")
                _restore_module(copy, before)

    @contextmanager
    def _seeded_generators(self, seed: int) -> Iterator[None]:
        original = _generator_states()
        random.seed(seed)
        np.random.seed(seed)
        torch.random.set_rng_state(torch.Generator().manual_seed(seed).get_state())
        seeded = _generator_states()
        try:
            yield
        finally:
            after = _generator_states()
            self.drawn.update(name for name, state in after.items() if not _states_equal(state, seeded[name]))
            random.setstate(original["random"])
            np.random.set_state(original["numpy.random"])
            torch.random.set_rng_state(original["torch.random"])


def _copy_subject(subject: Subject) -> Subject:
    """The same subject on its own tensors, without results that the original has cached."""

    def clone(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: value.clone() for name, value in tensors.items()}

    return replace(
        subject,
        params=clone(subject.params),
        constants=clone(subject.constants),
        inputs=map_tensors(Tensor.clone, subject.inputs),
        targets=subject.targets.clone(),
        initial=None if subject.initial is None else clone(subject.initial),
    )


def _tensor_states(subject: Subject) -> TensorStates:
    """All tensors that a measure might write to."""
    tensors = {
        **{f"params[{name}]": value for name, value in subject.params.items()},
        **{f"constants[{name}]": value for name, value in subject.constants.items()},
        **{f"initial[{name}]": value for name, value in (subject.initial or {}).items()},
        **{f"module.{name}": value for name, value in _module_tensors(subject).items()},
        **named_tensors(subject.inputs),
        "targets": subject.targets,
    }
    return {name: (value.detach().clone(), value.requires_grad) for name, value in tensors.items()}


def _module_tensors(subject: Subject) -> dict[str, Tensor]:
    return {**dict(subject.module.named_parameters()), **dict(subject.module.named_buffers())}


def _changed_names(before: TensorStates, after: TensorStates) -> set[str]:
    changed = {
        name
        for name in before.keys() & after.keys()
        if before[name][1] != after[name][1] or not torch.equal(before[name][0], after[name][0])
    }
    return changed | (before.keys() ^ after.keys())


def _restore_module(subject: Subject, before: TensorStates) -> None:
    with torch.no_grad():
        for name, value in _module_tensors(subject).items():
            original, requires_grad = before[f"module.{name}"]
            value.copy_(original)
            value.requires_grad_(requires_grad)


def _generator_states() -> dict[str, Any]:
    return {
        "random": random.getstate(),
        "numpy.random": np.random.get_state(),
        "torch.random": torch.random.get_rng_state(),
    }


def _states_equal(one: Any, other: Any) -> bool:
    if isinstance(one, tuple):
        return len(one) == len(other) and all(map(_states_equal, one, other))
    if isinstance(one, Tensor):
        return torch.equal(one, other)
    if isinstance(one, np.ndarray):
        return np.array_equal(one, other)
    return bool(one == other)
