"""Examination: one measure, the cases it is tried on, and how near two of its values have to be."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from sharpbench.core.evaluate import measure
from sharpbench.core.measure import Estimate, Measure, NotApplicable
from sharpbench.core.subject import Subject
from sharpbench.errors import one_line
from sharpbench.testing.cases import Case

# Check: one line of the report on a measure.

Outcome = Literal["ok", "failed", "skipped"]


@dataclass(frozen=True, slots=True)
class Check:
    """What was checked, how it came out, and in a line what was seen: figures, the cause of a failure, a finding."""

    name: str
    outcome: Outcome
    detail: str = ""


class Failed(Exception):
    """Raised by a check that the measure does not pass; the message says what was seen."""


class Skipped(Exception):
    """Raised by a check that has nothing to look at; the message says why."""


# Witness: calls a measure, and keeps what it did beside returning an estimate.

T = TypeVar("T")
State = dict[str, tuple[Tensor, bool]]


@dataclass(frozen=True, slots=True)
class SideEffectMonitor:
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


RARE = 1e-6
"""Sampled values are held to differ where chance makes a difference this large no more often."""
TINY = 1e-14
"""Below this, values are rounding."""


@dataclass(frozen=True, slots=True)
class Examination:
    """estimates: of each case to which the measure is applicable; refused, raised: why it has none on the others."""

    chosen: Measure
    seed: int
    rtol: float
    witness: SideEffectMonitor
    estimates: tuple[tuple[Case, Estimate], ...]
    refused: dict[str, str] = field(default_factory=dict)
    raised: dict[str, str] = field(default_factory=dict)

    @staticmethod
    def of(chosen: Measure, cases: Sequence[Case], *, seed: int, rtol: float) -> Examination:
        """The measure evaluated once on every case."""
        witness = SideEffectMonitor(chosen)
        estimates: list[tuple[Case, Estimate]] = []
        refused: dict[str, str] = {}
        raised: dict[str, str] = {}
        for case in cases:
            try:
                estimates.append((case, witness.estimate(case.subject, seed=seed)))
            except NotApplicable as error:
                refused[case.name] = str(error).strip()
            except Exception as error:  # whatever it raises is the finding
                raised[case.name] = cause(error)
        return Examination(chosen, seed, rtol, witness, tuple(estimates), refused, raised)

    def estimate(
        self, subject: Subject, *, seed: int | None = None, elsewhere: int = 0, prepared: bool = False
    ) -> Estimate:
        """What the measure says of `subject`, under the examination's own seed where no other is named."""
        chosen = self.seed if seed is None else seed
        return self.witness.estimate(subject, seed=chosen, elsewhere=elsewhere, prepared=prepared)

    def compare(self, before: Estimate, subject: Subject, where: str) -> bool:
        """Hold the value on `subject` against an earlier one; False where chance, of unknown size, may explain it.

        Raises Failed with both values where they differ by more than rounding and chance.
        """
        after = self.estimate(subject)
        if agree(before, after, self.rtol):
            return True
        if sampled_blindly(before) or sampled_blindly(after):
            return False
        raise Failed(f"{where}: {before.value:.8g} becomes {after.value:.8g}")

    def compare_all(self, pairs: Sequence[tuple[Estimate, Subject, str]]) -> str:
        """`compare` for each; says of how many. Raises Skipped where chance of unknown size may explain them all."""
        if not pairs:
            raise Skipped("no subject to try it on")
        seen = [self.compare(*pair) for pair in pairs]
        if not any(seen):
            raise Skipped("values differ, and the measure samples with an error that it says is unknown")
        return f"{sum(seen)} comparisons"


def agree(one: Estimate, other: Estimate, rtol: float) -> bool:
    """Whether two estimates differ by no more than rounding, and chance as their standard errors tell it."""
    return abs(one.value - other.value) <= rounding(one.value, other.value, rtol) + chance(one, other)


def rounding(one: float, other: float, rtol: float) -> float:
    """The difference that is no difference."""
    return TINY + rtol * max(abs(one), abs(other))


def chance(*estimates: Estimate) -> float:
    """The difference beyond which chance alone goes no more often than RARE: Student's t, few probes, wide tails."""
    spread = math.hypot(*(each.stderr or 0.0 for each in estimates))
    if spread == 0:
        return 0.0
    freedom = max(1, min(each.probes for each in estimates if each.stderr) - 1)
    return spread * float(stats.t.isf(RARE / 2, freedom))


def sampled_blindly(estimate: Estimate) -> bool:
    """Whether it was drawn and its error is unknown."""
    return estimate.stderr is None and estimate.probes > 0


def single(subject: Subject) -> Subject:
    """The subject in float32."""
    return subject.to(dtype=torch.float32)


def cause(error: BaseException) -> str:
    """The error's type and text, on one line."""
    return one_line(" ".join(f"{type(error).__name__}: {error}".split()))[:300]
