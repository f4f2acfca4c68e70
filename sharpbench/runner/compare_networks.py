"""Networks compared by several measures on the same examples: `sharpbench.compare_networks`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import torch
from scipy.special import stdtrit

from sharpbench.analysis.statistics import Interval
from sharpbench.core.evaluate import estimate_with, parse_measure
from sharpbench.core.example_groups import GroupJackknife, check_groups, jackknife_groups
from sharpbench.core.measure import Estimate, Measure, NotApplicable
from sharpbench.core.random_state import random_state_kept
from sharpbench.core.registry import available
from sharpbench.core.spec import format_spec, parse_specs
from sharpbench.core.subject import Subject
from sharpbench.errors import InvalidInput, shorten
from sharpbench.report.network_comparison import NetworkComparison, NetworkDifference, PairedValues
from sharpbench.runner.invariance import move_to_state
from sharpbench.runner.network_subject import fit_fields
from sharpbench.symmetry import balance

MAX_NETWORKS = 10
"""Networks that one comparison takes; all pairs of them are compared."""
GROUPS = 20
ROUNDING = {torch.float32: 1e-4, torch.float64: 1e-8}
"""The relative difference of two values that rounding, or the search for the balanced networks, may make."""
LEVEL = 0.975


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkComparisonOptions:
    """How networks are compared.

    Args:
        seed: Of the random probes, the same at all networks.
        groups: Groups of examples that are left out in turn; more are dearer, and the intervals a little shorter.
        scope: Of the rescalings whose share is taken out: 'layer', one scale per tensor, or 'unit', one per unit.

    Raises InvalidInput for values out of range.
    """

    seed: int = 0
    groups: int = GROUPS
    scope: Literal["layer", "unit"] = "layer"

    def __post_init__(self) -> None:
        check_groups(self.groups, name="groups")
        if self.scope not in ("layer", "unit"):
            raise InvalidInput(f"scope '{shorten(str(self.scope))}' is unknown; use layer or unit")


def compare_networks(
    measures: str | Measure | Sequence[str | Measure],
    subjects: Mapping[str, Subject],
    *,
    options: NetworkComparisonOptions | None = None,
) -> NetworkComparison:
    """Which of several networks is flatter by each measure, with intervals over the examples, which all share.

    A group of the examples is left out at all networks at once, so what the networks have in common cancels in the
    differences (paired delete-a-group jackknife, Student's t). Each pair is compared again at the two networks of least
    trace that compute the same functions (`symmetry.balance`): what is gone there is due to the scale of the weights.
    Measures that claim not to change under the rescalings are not evaluated again.

    Args:
        measures: Names separated by commas, or measures.
        subjects: The networks by name, 2 to 10, on the same examples in the same order.
        options: Seed, groups and scope.

    Returns:
        The values, differences and 95 % intervals of each measure and pair, with a verdict; prints as tables.

    Raises:
        InvalidInput: for an unknown measure, too few or too many networks, and networks with different numbers of
            examples or different targets. Inputs are not compared: each network may have its own preparation.

    Cost: for each measure and network that of groups + 1 evaluations, and as many at the balanced network.

    >>> examples, labels = torch.randn(60, 3, dtype=torch.float64), torch.arange(60) % 2
    >>> networks = {"zeros": model, "other": torch.nn.Linear(3, 2, dtype=torch.float64)}
    >>> subject_of = sharpbench.Subject.from_module
    >>> subjects = {name: subject_of(each, examples, labels) for name, each in networks.items()}
    >>> found = sharpbench.compare_networks("trace", subjects)
    >>> len(found.to_frame()), found.verdict.startswith("zeros and other: ")
    (1, True)
    """
    if isinstance(measures, str):
        chosen: Sequence[Measure] = parse_specs(measures, available("measures").classes, kind="measure")
    else:
        several = [measures] if isinstance(measures, Measure) else measures
        chosen = [parse_measure(each) if isinstance(each, str) else each for each in several]
    *_, found = iterate_comparison(chosen, subjects, options or NetworkComparisonOptions())
    assert isinstance(found, NetworkComparison)
    return found


def iterate_comparison(
    measures: Sequence[Measure], subjects: Mapping[str, Subject], options: NetworkComparisonOptions
) -> Iterator[str | NetworkComparison]:
    """What is done next, in words, and at the end the comparison; see `compare_networks`."""
    _check_subjects(subjects, options.groups)
    moved: dict[str, Subject | str] = {}
    if any(options.scope not in each.invariances() for each in measures):
        for name, subject in subjects.items():
            yield f"balancing '{name}'"
            moved[name] = _balance(subject, options)
    differences: list[NetworkDifference] = []
    for each in measures:
        label = format_spec(each)
        given: dict[str, _Found | str] = {}
        balanced: dict[str, _Found | str] = {}
        for name, subject in subjects.items():
            yield f"{label} at '{name}'"
            given[name] = _evaluate(each, subject, options)
            if options.scope in each.invariances():
                continue
            yield f"{label} at '{name}', balanced"
            other = moved[name]
            balanced[name] = _evaluate(each, other, options) if isinstance(other, Subject) else other
        differences += [
            NetworkDifference(
                label,
                one,
                two,
                _pair(given[one], given[two]),
                _pair(balanced[one], balanced[two]) if balanced else None,
            )
            for one, two in combinations(subjects, 2)
        ]
    first = next(iter(subjects.values()))
    fits = {
        name: {key: value for key, value in fit_fields(subject).items() if isinstance(value, float | None)}
        for name, subject in subjects.items()
    }
    yield NetworkComparison(fits, tuple(differences), first.n, options.groups, options.scope)


@dataclass(frozen=True, slots=True)
class _Found:
    """A value with those without groups of examples, the half width of its interval over random vectors, and its
    rounding."""

    values: GroupJackknife
    probes: float
    rounding: float


def _check_subjects(subjects: Mapping[str, Subject], groups: int) -> None:
    if not 2 <= len(subjects) <= MAX_NETWORKS:
        raise InvalidInput(f"{len(subjects)} networks; give 2 to {MAX_NETWORKS}, each by another name")
    (first_name, first), *others = subjects.items()
    for name, subject in others:
        if subject.n != first.n or not torch.equal(subject.targets.cpu(), first.targets.cpu()):
            raise InvalidInput(
                f"'{shorten(name)}' has other examples than '{shorten(first_name)}': {subject.n:,} and {first.n:,}, or "
                "other targets; give both the same examples in the same order"
            )
    check_groups(groups, first.n, name="groups")


def _balance(subject: Subject, options: NetworkComparisonOptions) -> Subject | str:
    """The subject at the balanced weights, or why there is none."""
    try:
        return move_to_state(subject, balance(subject, scope=options.scope))
    except (InvalidInput, NotApplicable) as reason:
        return f"no balanced network: {reason}"


def _evaluate(chosen: Measure, subject: Subject, options: NetworkComparisonOptions) -> _Found | str:
    """The values of a measure, or why it has none; a measure that raises costs its own values only."""
    try:
        with random_state_kept(subject.module):
            found = estimate_with(chosen, subject, seed=options.seed)
            values = jackknife_groups(
                found.value,
                subject,
                options.groups,
                lambda left: estimate_with(chosen, left, seed=options.seed).value,
            )
    except NotApplicable as reason:
        return str(reason)
    except Exception as error:
        return f"failed: {type(error).__name__}: {shorten(' '.join(str(error).split()))}"
    held = next(iter(subject.params.values())).dtype
    return _Found(values, _probe_width(found), ROUNDING.get(held, ROUNDING[torch.float32]) * abs(found.value))


def _probe_width(found: Estimate) -> float:
    """The half width of the interval over random vectors; 0 where none are drawn."""
    if found.interval is not None:
        return (found.interval[1] - found.interval[0]) / 2
    return 0.0 if found.stderr is None else 1.96 * found.stderr


def _pair(one: _Found | str, two: _Found | str) -> PairedValues:
    """The difference of two values with its interval."""
    first, second = (each.values.value if isinstance(each, _Found) else None for each in (one, two))
    if isinstance(one, str) or isinstance(two, str):
        return PairedValues(first, second, None, one if isinstance(one, str) else str(two))
    difference = one.values.minus(two.values)
    drawn = float(stdtrit(len(difference.without) - 1, LEVEL)) * difference.stderr
    half = math.hypot(drawn, one.probes, two.probes) + max(one.rounding, two.rounding)
    return PairedValues(first, second, Interval(difference.value - half, difference.value + half))
