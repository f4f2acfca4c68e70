"""How far a claimed number may be from the one found here, and when two trainings gave the same network.

Training in float32 amplifies rounding. On another processor, or in a group with other networks, the same recipe gives
the same network to about 1e-6 if training takes a few hundred steps, and another network if it takes a thousand
(docs/submissions.md has the figures). Values are therefore compared one by one where the networks are the same, and
only in order of magnitude where training led to another network.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from sharpbench.core.fields import Scalar
from sharpbench.core.measure import Estimate
from sharpbench.core.record import Record

SAME_NETWORK = 1e-5
"""Relative difference of training loss and parameter norm up to which networks with equal steps are the same."""
ROUNDING = {"float32": 2e-4, "float64": 1e-9}
"""Relative, for the same weights, by precision of the evaluation. In float32 it is ten times the largest seen, 1.6e-5;
in float64 1e-14 was seen, but iterations may end at another step."""
RETRAINED = 1e-3
"""Relative, for networks that are the same up to SAME_NETWORK: ten times the largest seen."""
FACTOR_ROUNDING = 1e-6
"""Relative, of factors of change at the same weights; a factor this close to 1 is shown as 1."""
MAX_MAGNITUDE_FACTOR = 1000.0
"""Factor between values of different fitted networks of one recipe: fifty times the largest seen."""
MAX_FLIPPED_EXAMPLES = 2
"""Examples of each split whose class may depend on rounding."""
GAP_ROUNDING = 1e-9
"""Difference of two accuracies in float64; one example of 10^8 would be more."""
MAX_NOISE_STDERRS = 10.0
"""Standard errors of a difference that noise explains: with MIN_NOISE_PROBES normal probes all but 2e-5 of the
differences, with exponential ones, which are very skewed, all but 2e-3. A refutation is final, and a value within the
bound is not verified either, so the bound is wide."""
MIN_NOISE_PROBES = 8
"""The standard error of fewer probes is too uncertain to refute anything."""
MAX_FRACTION_OF_EXAMPLE = 1e-3
"""The largest distance of accuracy x examples from a whole number that rounding explains."""
RETRAINED_GAP_SPREAD = 0.05
"""Difference of the gaps of different fitted networks of one recipe, in addition to four standard errors."""
EXACT_FIELDS = ("steps", "fitted")


def network_difference(claimed: Mapping[str, Scalar], found: Mapping[str, Scalar]) -> float:
    """The larger relative difference of training loss and parameter norm; infinite if the steps differ."""
    if any(claimed.get(name) != found.get(name) for name in EXACT_FIELDS):
        return math.inf
    pairs = [(claimed.get(name), found.get(name)) for name in ("train_loss", "parameter_norm")]
    return max(_relative_difference(one, other) for one, other in pairs)


def rounding_bound(record: Record, found: Estimate, apart: float) -> float:
    """The part of the bound for rounding; it also holds for standard errors and ends of intervals."""
    assert record.value is not None
    return relative_bound(record.dtype, apart) * max(abs(record.value), abs(found.value))


def draws_alike(record: Record, found: Estimate, apart: float, *, torch: str) -> bool:
    """Whether both were computed from the same random numbers on the same network, as far as can be known.

    That is so where nothing is drawn here. Otherwise the numbers of probes must be equal, and either the versions of
    torch are, or the values are up to rounding: then the other version drew the same numbers.

    Args:
        apart: the difference of the networks.
        torch: the version of torch here.
    """
    assert record.value is not None
    if found.probes == 0:
        return True
    equal = abs(record.value - found.value) <= rounding_bound(record, found, apart)
    return record.probes == found.probes and (record.environment.get("torch") == torch or equal)


def relative_bound(dtype: str, apart: float) -> float:
    """The relative difference that two values on the same network may have."""
    return ROUNDING[dtype] if apart == 0 else RETRAINED


def factor_bound(claimed: float, found: float, apart: float) -> float:
    """The largest difference of two factors of change; a factor is a ratio of two values in float64."""
    return (FACTOR_ROUNDING if apart == 0 else 2 * RETRAINED) * max(abs(claimed), abs(found))


def truth_bounds(
    claimed: Mapping[str, Scalar], found: Mapping[str, Scalar], *, train: int, test: int
) -> dict[str, float]:
    """The largest difference of each number of the truth, except those that distinguish networks."""
    losses = [value for truth in (claimed, found) if isinstance(value := truth.get("test_loss"), int | float)]
    loss = max(map(abs, losses), default=0.0)
    bounds = {
        "train_accuracy": MAX_FLIPPED_EXAMPLES / train,
        "test_accuracy": MAX_FLIPPED_EXAMPLES / test,
        "test_loss": RETRAINED * loss,
    }
    return {name: bound for name, bound in {**bounds, "epochs": 0, "diverged": 0}.items() if name in claimed}


def noise_bound(found: Estimate) -> float:
    """The largest difference that noise explains between the value found here and one of other random numbers.

    Nothing that a record claims enters it. Infinite where nothing can be refuted: without a standard error here, and
    for fewer than MIN_NOISE_PROBES probes.
    """
    if found.stderr is None or found.probes < MIN_NOISE_PROBES:
        return math.inf
    return MAX_NOISE_STDERRS * math.sqrt(2) * found.stderr


def is_whole_count(accuracy: float, examples: int) -> bool:
    """Whether an accuracy is that of a whole number of the examples.

    >>> is_whole_count(0.9, 360), is_whole_count(0.9 - 0.5 / 360, 360)
    (True, False)
    """
    count = accuracy * examples
    return abs(count - round(count)) <= MAX_FRACTION_OF_EXAMPLE


def gap_bound(apart: float, train: int, test: int) -> float:
    """The largest difference of gaps, for numbers of training and test examples."""
    if apart <= SAME_NETWORK:
        return MAX_FLIPPED_EXAMPLES / train + MAX_FLIPPED_EXAMPLES / test
    return RETRAINED_GAP_SPREAD + 4 * math.sqrt(2 * 0.25 / test)


def gaps_equal(claimed: Mapping[str, Scalar], found: Mapping[str, Scalar]) -> bool:
    """Whether two gaps are the same difference of whole numbers of examples.

    Gaps that differ within `gap_bound` refute nothing, since rounding may decide the class of an example. They verify
    nothing either: two examples a network are enough to reorder the networks of a cell.
    """
    return abs(float(str(claimed["gap"])) - float(str(found["gap"]))) <= GAP_ROUNDING


def magnitudes_differ(claimed: float, found: float) -> bool:
    """Whether two values differ by more than MAGNITUDE; signs do not matter."""
    small, large = sorted((abs(claimed), abs(found)))
    return large > MAX_MAGNITUDE_FACTOR * small


def _relative_difference(one: Scalar, other: Scalar) -> float:
    if not isinstance(one, int | float) or not isinstance(other, int | float):
        return 0.0 if one is other is None else math.inf
    return abs(one - other) / max(abs(one), abs(other)) if one != other else 0.0
