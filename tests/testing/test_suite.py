"""The contract suite: sound measures pass, and each check catches the measure that breaks just what it checks."""

from __future__ import annotations

import itertools
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np
import pytest
import torch

from sharpbench import Estimate, InvalidInput, Measure, NotApplicable, Subject
from sharpbench.testing import Check, check_measure, examine, suite
from sharpbench.testing.cases import make_cases
from sharpbench.testing.module_state import ModuleState
from sharpbench.testing.suite import CHECKS

KEPT = "no initial weights, a layer under two names"


@dataclass(frozen=True)
class Loss(Measure):
    """The training loss: it changes with nothing but the function."""

    name: ClassVar[str] = "loss"
    title: ClassVar[str] = "the loss"
    source: ClassVar[str] = "tests"

    def __call__(self, subject: Subject, *, generator: torch.Generator) -> Estimate:
        return Estimate(self.value(subject, generator))

    def value(self, subject: Subject, generator: torch.Generator) -> float:
        return float(subject.loss(subject.params))

    def exact(self, subject: Subject) -> float | None:
        each = [
            float(subject.criterion(subject.apply(subject.params, example), target))
            for example, target in zip(subject.inputs.split(1), subject.targets.split(1), strict=True)
        ]
        return sum(each) / len(each)

    def invariances(self) -> frozenset[Any]:
        return frozenset({"layer", "unit", "element", "permutation", "attention-rotation", "attention-gl"})


@dataclass(frozen=True)
class Noisy(Loss):
    """The mean of 30 draws around the loss, with its standard error."""

    claims: ClassVar[frozenset[str]] = frozenset()
    samples: int = 30
    understated: float = 1.0
    narrowed: float = 1.0
    oracle: bool = True

    def __call__(self, subject: Subject, *, generator: torch.Generator) -> Estimate:
        drawn = float(subject.loss(subject.params)) * (
            1 + 0.1 * torch.randn(self.samples, generator=generator, dtype=torch.float64)
        )
        value, stderr = float(drawn.mean()), float(drawn.std()) / self.samples**0.5
        reach = 2 * stderr / self.narrowed
        return Estimate(
            value, stderr=stderr / self.understated, interval=(value - reach, value + reach), probes=self.samples
        )

    def exact(self, subject: Subject) -> float | None:
        return super().exact(subject) if self.oracle else None


def failures(report: list[Check]) -> dict[str, str]:
    return {check.name: check.detail for check in report if check.outcome == "failed"}


def outcome(report: list[Check], name: str) -> Check:
    (found,) = [check for check in report if check.name == name]
    return found


class Examining:
    """Examinations that take part of the time."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self._patch = patch

    def on(self, *names: str) -> None:
        """Only on the networks of these names."""
        cases = tuple(case for case in make_cases() if case.name in names)
        assert len(cases) == len(names)
        self._patch.setattr(suite, "make_cases", lambda: cases)

    def by(self, name: str) -> None:
        """Only by the check of this name."""
        self._patch.setattr(suite, "CHECKS", {name: CHECKS[name]})


@pytest.fixture
def examining(monkeypatch: pytest.MonkeyPatch) -> Examining:
    return Examining(monkeypatch)


@pytest.mark.parametrize("measure", [Loss(), Noisy()], ids=repr)
def test_sound_measures_pass(measure: Measure) -> None:
    """On all networks."""
    seen: list[Check] = []
    report = check_measure(measure, progress=seen.append)
    assert [check.name for check in report] == list(CHECKS)
    assert seen == report


@pytest.mark.parametrize("measure", [Noisy(oracle=False), Noisy(samples=2)], ids=repr)
def test_few_draws_or_no_oracle_are_no_fault(measure: Measure, examining: Examining) -> None:
    examining.on("biases", "one example", "mean squared error")
    assert check_measure(measure)


# One bad measure per check, and the message of that check.


@dataclass(frozen=True)
class Unversioned(Loss):
    version: ClassVar[int] = 0


@dataclass(frozen=True)
class Titled(Loss):
    title: ClassVar[str] = "two\nlines"


@dataclass(frozen=True)
class Numbered(Loss):
    cost: ClassVar[str] = 3  # type: ignore[assignment]


@dataclass(frozen=True)
class Upper(Loss):
    name: ClassVar[str] = "Upper"


@dataclass(frozen=True)
class Listed(Loss):
    def invariances(self) -> Any:
        return ["layer"]


@dataclass(frozen=True)
class Layers(Loss):
    def invariances(self) -> Any:
        return super().invariances() | {"layers"}


@dataclass(frozen=True)
class Weather(Loss):
    depends: ClassVar[frozenset[Any]] = frozenset({"the weather"})


@dataclass(frozen=True)
class Unpicklable(Loss):
    def __reduce__(self) -> Any:
        raise TypeError("stays where it is")


@dataclass(frozen=True, eq=False)
class Unequal(Loss):
    def __eq__(self, other: object) -> bool:
        return self is other

    __hash__ = object.__hash__


class Assignable(Loss):
    """Without its own decorator."""


@dataclass(frozen=True)
class Several(Loss):
    powers: tuple[int, ...] = (1, 2)


@dataclass(frozen=True)
class Spaced(Loss):
    text: str = "plain"
    mode: Literal["a", " b"] = "a"


@dataclass(frozen=True)
class Crashes(Loss):
    def value(self, subject: Subject, generator: torch.Generator) -> float:
        return {"cross_entropy": super().value(subject, generator)}[subject.criterion.kind]


@dataclass(frozen=True)
class Mute(Loss):
    def value(self, subject: Subject, generator: torch.Generator) -> float:
        if len(subject.inputs) == 1:
            raise NotApplicable(" ")
        return super().value(subject, generator)


@dataclass(frozen=True)
class Picky(Loss):
    def value(self, subject: Subject, generator: torch.Generator) -> float:
        raise NotApplicable("not on a Sunday")


@dataclass(frozen=True)
class Tensors(Loss):
    def __call__(self, subject: Subject, *, generator: torch.Generator) -> Estimate:
        return Estimate(subject.loss(subject.params))  # type: ignore[arg-type]


@dataclass(frozen=True)
class Indexed(Loss):
    def __call__(self, subject: Subject, *, generator: torch.Generator) -> Estimate:
        value = self.value(subject, generator)
        return Estimate(value, parts={0: value})  # type: ignore[dict-item]


@dataclass(frozen=True)
class Arrays(Loss):
    def __call__(self, subject: Subject, *, generator: torch.Generator) -> Estimate:
        value = self.value(subject, generator)
        return Estimate(value, parts={"all": np.float32(value)})  # type: ignore[dict-item]


@dataclass(frozen=True)
class Spoils(Loss):
    """Another value once it has prepared itself."""

    def value(self, subject: Subject, generator: torch.Generator) -> float:
        return super().value(subject, generator) * subject.once(_factor)

    def prepare(self, subject: Subject) -> None:
        subject._shared[_factor] = 1.001, {}


def _factor(subject: Subject) -> float:
    return 1.0


COUNT = itertools.count()


@dataclass(frozen=True)
class Counts(Loss):
    def value(self, subject: Subject, generator: torch.Generator) -> float:
        return super().value(subject, generator) * (1 + 1e-9 * next(COUNT))


@dataclass(frozen=True)
class Ragged(Loss):
    """The mean of the batches' means: the last batch counts as much as the others."""

    def value(self, subject: Subject, generator: torch.Generator) -> float:
        means = [subject.criterion(subject.apply(subject.params, x), y).mean() for x, y in subject.batches]
        return float(torch.stack(means).mean())

    def exact(self, subject: Subject) -> float | None:
        return None


@dataclass(frozen=True)
class First(Loss):
    """The loss of the first example."""

    def value(self, subject: Subject, generator: torch.Generator) -> float:
        return float(subject.criterion(subject.apply(subject.params, subject.inputs[:1]), subject.targets[:1]))

    def exact(self, subject: Subject) -> float | None:
        return None


@dataclass(frozen=True)
class Total(Loss):
    """The sum over examples."""

    def value(self, subject: Subject, generator: torch.Generator) -> float:
        return len(subject.inputs) * super().value(subject, generator)

    def exact(self, subject: Subject) -> float | None:
        return None


@dataclass(frozen=True)
class Sized(Loss):
    depends: ClassVar[frozenset[Any]] = frozenset({"dataset-size"})


@dataclass(frozen=True)
class Wrong(Loss):
    def exact(self, subject: Subject) -> float | None:
        return 1.001 * (super().exact(subject) or 0)


@dataclass(frozen=True)
class Endless(Loss):
    def exact(self, subject: Subject) -> float | None:
        return float("inf")


@dataclass(frozen=True)
class Certain(Noisy):
    """Draws, and says that it is exact."""

    def __call__(self, subject: Subject, *, generator: torch.Generator) -> Estimate:
        return Estimate(super().__call__(subject, generator=generator).value)

    def exact(self, subject: Subject) -> float | None:
        return None

    def invariances(self) -> frozenset[Any]:
        return frozenset()


@dataclass(frozen=True)
class Seeded(Noisy):
    """Its own generator: the same whatever the seed."""

    def __call__(self, subject: Subject, *, generator: torch.Generator) -> Estimate:
        return super().__call__(subject, generator=torch.Generator().manual_seed(3))


@dataclass(frozen=True)
class Narrow(Loss):
    def value(self, subject: Subject, generator: torch.Generator) -> float:
        wide = subject.inputs.dtype == torch.float64
        return super().value(subject, generator) * (1 if wide else 1.01)


@dataclass(frozen=True)
class WritesParams(Loss):
    def value(self, subject: Subject, generator: torch.Generator) -> float:
        value = super().value(subject, generator)
        next(iter(subject.params.values())).mul_(2)
        return value


@dataclass(frozen=True)
class WritesModule(Loss):
    def value(self, subject: Subject, generator: torch.Generator) -> float:
        with torch.no_grad():
            next(subject.module.parameters()).zero_()
        return super().value(subject, generator)


@dataclass(frozen=True)
class WantsGradients(Loss):
    def value(self, subject: Subject, generator: torch.Generator) -> float:
        loss = super().value(subject, generator)
        for value in subject.params.values():
            value.requires_grad_()
        return loss


@dataclass(frozen=True)
class Adds(Loss):
    def value(self, subject: Subject, generator: torch.Generator) -> float:
        value = super().value(subject, generator)
        subject.constants["extra"] = torch.zeros(1)
        return value


@dataclass(frozen=True)
class Remembers(Loss):
    def value(self, subject: Subject, generator: torch.Generator) -> float:
        object.__setattr__(self, "last", super().value(subject, generator))
        return float(vars(self)["last"])

    def __getstate__(self) -> dict[str, object]:
        return {}


@dataclass(frozen=True)
class Draws(Loss):
    def value(self, subject: Subject, generator: torch.Generator) -> float:
        torch.rand(1), np.random.rand(), random.random()
        return super().value(subject, generator)


@dataclass(frozen=True)
class Initial(Loss):
    """Says what the process's seed is, without drawing."""

    def value(self, subject: Subject, generator: torch.Generator) -> float:
        return super().value(subject, generator) + torch.initial_seed() % 7

    def exact(self, subject: Subject) -> float | None:
        return None


BAD: list[tuple[Any, str, str]] = [
    (Unversioned, "declarations", "version must be a whole number from 1, got 0"),
    (Titled, "declarations", "title must be one line of text, got 'two\\nlines'"),
    (Numbered, "declarations", "cost must be text, got 3"),
    (Upper, "declarations", "names are lower-case letters, digits and hyphens"),
    (Listed, "declarations", "invariances() must be a frozenset, got ['layer']"),
    (Layers, "declarations", "invariances() has layers; the words are layer, unit"),
    (Weather, "declarations", "depends has the weather; the words are dataset-size, micro-batches"),
    (Unpicklable, "frozen value", "cannot be pickled: TypeError: stays where it is"),
    (Unequal, "frozen value", "a pickled copy is not equal to it"),
    (Assignable, "frozen value", "its attributes can be assigned to"),
    (Several, "words", "powers=(1, 2) is not a JSON scalar"),
    (Spaced, "words", "mode=b is none of a, "),
    (Spaced(text=" a"), "words", "loss[text= a] is read back as Spaced(text='a', mode='a')"),
    (Crashes, "subjects", "mean squared error: raised KeyError: 'mse'"),
    (Mute, "subjects", "one example: NotApplicable without a reason"),
    (Picky, "subjects", "applicable to no subject, give one in subjects=: biases: not on a Sunday"),
    (Tensors, "estimates", "biases: value is tensor("),
    (Indexed, "estimates", "their keys must be text"),
    (Arrays, "estimates", "biases: TypeError: Object of type float32 is not JSON serializable"),
    (Counts, "seed", "under the same seed"),
    (Spoils, "preparation", "where it was prepared"),
    (Ragged, "batch size", "biases, 1 examples a batch: "),
    (First, "order", "biases, in another order: "),
    (Total, "duplicated data", "biases, with every example twice: "),
    (Sized, "duplicated data", "declares that it depends on dataset-size, but never changes"),
    (Wrong, "oracle", "exact() says"),
    (Endless, "oracle", "biases: exact() returns inf"),
    (Certain, "error bars", "says stderr=0.0, exact up to rounding"),
    (Seeded, "error bars", "and is the same under 24 seeds"),
    (Noisy(understated=5.0), "error bars", "value +- 1.96 stderr holds exact() = "),
    (Noisy(narrowed=5.0), "error bars", "biases: interval holds exact() = "),
    (Noisy(understated=5.0, oracle=False), "error bars", "stderr says"),
    (Narrow, "float32", "in float64"),
    (WritesParams, "writes nothing", "writes to params[0.weight]"),
    (WritesModule, "writes nothing", "module.0.weight"),
    (WantsGradients, "writes nothing", "params[0.bias]"),
    (Adds, "writes nothing", "constants[extra]"),
    (Remembers, "writes nothing", "the measure itself"),
    (Draws, "no other randomness", "draws from numpy.random, random, torch.random"),
    (Initial, "no other randomness", "when the process has another seed"),
]

ALSO = {Counts: {"no other randomness"}, Ragged: {"order", "duplicated data"}, Unequal: {"words"}}
"""What fails with it, being the same fault seen elsewhere."""


@pytest.mark.parametrize(
    ("measure", "name", "said"), BAD, ids=lambda each: each if isinstance(each, str) else repr(each)
)
def test_each_check_catches_its_fault_and_no_other_does(
    measure: Any, name: str, said: str, examining: Examining
) -> None:
    examining.on("biases", "one example", "mean squared error")
    failed = failures(examine(measure))
    assert said in failed[name]
    assert set(failed) == {name} | ALSO.get(measure if isinstance(measure, type) else type(measure), set())


@dataclass(frozen=True)
class Weighted(Loss):
    """Sum of the weights, each times its place: every rewrite changes it."""

    claims: str = "layer"
    invariant: bool = False

    def value(self, subject: Subject, generator: torch.Generator) -> float:
        places = [value.flatten() @ torch.arange(value.numel()).to(value) for value in subject.params.values()]
        return float(torch.stack(places).sum())

    def exact(self, subject: Subject) -> float | None:
        return None

    def invariances(self) -> frozenset[Any]:
        return frozenset({self.claims})


KINDS = ["layer", "unit", "element", "permutation", "attention-rotation", "attention-gl", "logit-scale"]


@pytest.mark.parametrize("kind", KINDS)
def test_claims_that_do_not_hold_are_caught(kind: str, examining: Examining) -> None:
    examining.on("biases", "padding alone", "attention")
    failed = failures(examine(Weighted(claims=kind)))
    assert set(failed) == {f"invariance: {kind}"}
    assert f", {kind}: " in failed[f"invariance: {kind}"]


@dataclass(frozen=True)
class Units(Loss):
    """Invariant to units and not to the single entries that no example reads."""

    def value(self, subject: Subject, generator: torch.Generator) -> float:
        total = super().value(subject, generator)
        kernel = subject.params.get("one.weight")
        return total if kernel is None else total + float((kernel[..., 0, 0] / kernel[..., -1, -1]).abs().sum())

    def exact(self, subject: Subject) -> float | None:
        return None


def test_elements_are_more_than_units(examining: Examining) -> None:
    examining.on("biases", "convolution", "padding alone")
    assert set(failures(examine(Units()))) == {"invariance: element"}


def test_a_claim_that_no_subject_tries_is_skipped_and_so_is_what_is_not_claimed(examining: Examining) -> None:
    examining.on("biases", "attention")
    report = examine(Picky())
    assert outcome(report, "invariance: layer") == Check("invariance: layer", "skipped", "no subject to try it on")
    assert outcome(report, "invariance: logit-scale").detail == "not claimed"


@dataclass(frozen=True)
class Modest(Loss):
    def invariances(self) -> frozenset[Any]:
        return frozenset({"layer"})


def test_what_might_be_claimed_is_a_finding_and_no_failure(examining: Examining) -> None:
    examining.on("biases", "padding alone", "attention")
    report = check_measure(Modest)
    assert outcome(report, "not claimed").outcome == "ok"
    assert outcome(report, "not claimed").detail == (
        "never changes under unit, element, permutation, attention-rotation, attention-gl; invariances() might say so"
    )
    assert outcome(check_measure(Loss), "not claimed").detail == ""


@dataclass(frozen=True)
class Elsewhere(Loss):
    """Has no value at other weights than those of the case."""

    weights: ClassVar[Mapping[int, float]] = {}

    def value(self, subject: Subject, generator: torch.Generator) -> float:
        total = float(sum(value.double().abs().sum() for value in subject.params.values()))
        if abs(Elsewhere.weights.setdefault(id(subject.module), total) - total) > 1e-3 * total:  # type: ignore[attr-defined]
            raise NotApplicable("not there")
        return super().value(subject, generator)

    def invariances(self) -> frozenset[Any]:
        return frozenset({"layer"})


def test_a_value_that_is_lost_breaks_the_claim(examining: Examining) -> None:
    examining.on("biases", "no biases", "convolution")
    failed = failures(examine(Elsewhere()))
    assert failed == {"invariance: layer": "has no value where it had one before: not there"}


@dataclass(frozen=True)
class Blind(Noisy):
    """Draws for each batch anew, with an error that it does not know."""

    def __call__(self, subject: Subject, *, generator: torch.Generator) -> Estimate:
        noise = sum(float(torch.randn((), generator=generator)) for _ in subject.batches)
        noise += float(subject.inputs[0].sum())
        return Estimate(self.value(subject, generator) * (2 + noise), stderr=None, probes=1)


def test_chance_of_unknown_size_is_no_failure(examining: Examining) -> None:
    examining.on("biases", "one example", "convolution")
    report = check_measure(Blind())
    skipped = {check.name: check.detail for check in report if check.outcome == "skipped"}
    assert "the error of its sampling is unknown" in skipped["batch size"]
    assert "declared unknown" in skipped["oracle"]


@dataclass(frozen=True)
class Sampled(Total):
    depends: ClassVar[frozenset[Any]] = frozenset({"dataset-size", "micro-batches"})


@dataclass(frozen=True)
class Micro(First):
    depends: ClassVar[frozenset[Any]] = frozenset({"micro-batches"})


def test_what_is_declared_is_not_held_against_a_measure(examining: Examining) -> None:
    examining.on("biases", "one example", "convolution")
    report = check_measure(Sampled)
    assert outcome(report, "duplicated data").detail.startswith("depends on the data set's size, as declared: ")
    assert outcome(report, "order").outcome == "skipped"
    report = check_measure(Micro)
    assert "which the order changes" in outcome(report, "order").detail
    assert "which duplicates may change" in outcome(report, "duplicated data").detail


@dataclass(frozen=True)
class CallsModule(Loss):
    def value(self, subject: Subject, generator: torch.Generator) -> float:
        subject.module(subject.inputs)  # instead of subject.apply
        return super().value(subject, generator)


@dataclass(frozen=True)
class Hooks(Loss):
    def value(self, subject: Subject, generator: torch.Generator) -> float:
        subject.module.register_forward_hook(lambda module, inputs, output: None)
        return super().value(subject, generator)


@dataclass(frozen=True)
class Trains(Loss):
    def value(self, subject: Subject, generator: torch.Generator) -> float:
        subject.module.train()
        return super().value(subject, generator)


@dataclass(frozen=True)
class Backward(Loss):
    def value(self, subject: Subject, generator: torch.Generator) -> float:
        logits = torch.func.functional_call(subject.module, dict(subject.constants), subject.inputs)
        subject.criterion(logits, subject.targets).mean().backward()
        return super().value(subject, generator)


@pytest.mark.parametrize(
    ("measure", "named"),
    [
        (CallsModule(), ("module.last", "module.seen")),
        (Hooks(), ("module._forward_hooks",)),
        (Trains(), ("module.training", "module.one.training")),
        (Backward(), ("module.0.weight.grad",)),
    ],
)
def test_all_that_is_left_behind_in_a_module_is_named_and_put_back(
    measure: Measure, named: tuple[str, ...], examining: Examining
) -> None:
    examining.on("biases", KEPT, "convolution")
    before = [ModuleState.of(case.subject.module) for case in make_cases()]
    detail = failures(examine(measure))["writes nothing"]
    for name in named:
        assert name in detail.replace(",", "").replace(";", "").split()
    assert not any(state.changes() for state in before)


@dataclass(frozen=True)
class Stated(Loss):
    """The loss with a standard error over examples, times a factor."""

    factor: float = 1.0

    def __call__(self, subject: Subject, *, generator: torch.Generator) -> Estimate:
        losses = subject.criterion(subject.apply(subject.params, subject.inputs), subject.targets)
        error = float(losses.std()) / len(losses) ** 0.5 if len(losses) > 1 else None
        return Estimate(
            float(subject.loss(subject.params)), stderr_examples=None if error is None else error * self.factor
        )


@dataclass(frozen=True)
class OfOne(Loss):
    def __call__(self, subject: Subject, *, generator: torch.Generator) -> Estimate:
        return Estimate(float(subject.loss(subject.params)), stderr_examples=0.1 if len(subject.inputs) == 1 else None)


@dataclass(frozen=True)
class Largest(Loss):
    """The largest loss, which is no mean, with some standard error."""

    def __call__(self, subject: Subject, *, generator: torch.Generator) -> Estimate:
        losses = subject.criterion(subject.apply(subject.params, subject.inputs), subject.targets)
        return Estimate(float(losses.max()), stderr_examples=0.1 if len(losses) > 1 else None)


def test_errors_over_examples_are_those_of_single_examples(examining: Examining) -> None:
    name = "errors over examples"
    examining.by(name)
    assert outcome(examine(Loss), name) == Check(name, "skipped", "states no standard error over examples")
    found = outcome(examine(Stated), name)
    assert (found.outcome, found.detail) == ("ok", "stated on 9 subjects; that of single examples on 2")
    assert "have a standard error of" in failures(examine(Stated(factor=1.5)))[name]
    assert "no dependence on the examples" in failures(examine(Stated(factor=0.0)))[name]
    assert "of a single example" in failures(examine(OfOne))[name]
    assert "is no mean over examples, so it is not compared" in outcome(examine(Largest), name).detail


def test_coupled_examples_never_reach_a_measure(examining: Examining) -> None:
    examining.by("coupled examples")
    found = outcome(examine(Loss), "coupled examples")
    assert found.outcome == "ok"
    assert "the network mixes the examples of a batch" in found.detail


@dataclass(frozen=True)
class Small(Loss):
    def value(self, subject: Subject, generator: torch.Generator) -> float:
        if len(subject.inputs) > 8:
            raise RuntimeError("too many examples")
        return super().value(subject, generator)


def test_subjects_of_the_author_are_tried_too(examining: Examining) -> None:
    examining.on("biases")
    assert "raised RuntimeError: too many examples" in failures(examine(Small))["duplicated data"]
    own = Subject.from_module(torch.nn.Linear(3, 2), torch.randn(9, 3), torch.zeros(9).long(), name="mine")
    failed = failures(examine(Small, subjects=[own]))
    assert failed["subjects"].startswith("mine: raised RuntimeError: too many examples")


def test_all_failures_are_named_in_one_assertion(examining: Examining) -> None:
    examining.on("biases", "convolution")
    with pytest.raises(AssertionError, match=r"measure 'loss' fails 1 of 25 checks\noracle: .*exact\(\) says"):
        check_measure(Wrong)
    assert check_measure(Wrong, rtol=0.01)


@dataclass(frozen=True)
class Needs(Loss):
    what: int = field(kw_only=True)


def test_what_cannot_be_made_is_a_failure_and_what_is_no_measure_bad_input() -> None:
    (check,) = examine(Needs)
    assert check.outcome == "failed"
    assert "cannot be made from its defaults: TypeError" in check.detail
    for given in (int, "loss", None):
        with pytest.raises(InvalidInput, match="is not a measure; give a Measure or its class"):
            examine(given)  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", [-1, 2**63])
def test_a_seed_has_bounds(seed: int) -> None:
    with pytest.raises(InvalidInput, match=f"seed={seed} must be from 0 to 9223372036854775807"):
        examine(Loss, seed=seed)


def test_examining_leaves_the_process_as_it_was(examining: Examining) -> None:
    examining.on("biases", "convolution")
    state, numbers, python = torch.random.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    before = [value.clone() for value in _weights()]
    examine(Draws)
    examine(WritesModule)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert np.array_equal(np.random.get_state()[1], numbers)
    assert random.getstate() == python
    assert all(torch.equal(one, other) for one, other in zip(before, _weights(), strict=True))


def _weights() -> list[torch.Tensor]:
    return [value for case in make_cases() for value in case.subject.module.parameters()]
