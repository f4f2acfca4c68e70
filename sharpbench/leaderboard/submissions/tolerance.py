"""How far a claimed number may be from the one found here, and when two trainings gave the same network.

Training in float32 amplifies rounding. On another processor, or in a group with other networks, the same recipe gives
the same network to about 1e-6 if training takes a few hundred steps, and another network if it takes a thousand
(docs/submissions.md has the figures). Values are therefore compared one by one where the networks are the same, and
only in order of magnitude where training led to another network.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from scipy import stats

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
FALSE_ALARM_RATE = 1e-3
"""The largest probability that normal noise takes a stochastic value out of its bound."""
MAX_STDERR_FACTOR = 5.0
"""A claimed standard error counts up to this multiple of the one found here, so that it cannot widen the bound."""
RETRAINED_GAP_SPREAD = 0.05
"""Difference of the gaps of different fitted networks of one recipe, in addition to four standard errors."""
EXACT_FIELDS = ("steps", "fitted")


def network_difference(claimed: Mapping[str, Scalar], found: Mapping[str, Scalar]) -> float:
    """The larger relative difference of training loss and parameter norm; infinite if the steps differ."""
    if any(claimed.get(name) != found.get(name) for name in EXACT_FIELDS):
        return math.inf
    pairs = [(claimed.get(name), found.get(name)) for name in ("train_loss", "parameter_norm")]
    return max(_relative_difference(one, other) for one, other in pairs)


def value_bound(record: Record, found: Estimate, apart: float, *, torch: str) -> float:
    """The largest difference between the record's value and the one found here.

    With the record's seed the same version of torch draws the same random numbers, and only rounding is left. For
    another version, or another number of probes, a bound of the noise is added.

    Args:
        apart: The difference of the networks.
        torch: The version of torch here.
    """
    noise = 0.0 if draws_alike(record, found, torch=torch) else noise_bound(record.stderr, found)
    return rounding_bound(record, found, apart) + noise


def rounding_bound(record: Record, found: Estimate, apart: float) -> float:
    """The part of the bound for rounding; it also holds for standard errors and ends of intervals."""
    assert record.value is not None
    return relative_bound(record.dtype, apart) * max(abs(record.value), abs(found.value))


def draws_alike(record: Record, found: Estimate, *, torch: str) -> bool:
    """Whether both were computed from the same random numbers."""
    return record.environment.get("torch") == torch and record.probes == found.probes


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


def noise_bound(claimed: float | None, found: Estimate) -> float:
    """Student's t at FALSE_ALARM_RATE times the joint standard error; claimed: the record's standard error."""
    if not found.stderr:
        return 0.0
    stated = min(claimed or 0.0, MAX_STDERR_FACTOR * found.stderr)
    quantile = float(stats.t.ppf(1 - FALSE_ALARM_RATE / 2, max(1, found.probes - 1)))
    return quantile * math.hypot(found.stderr, stated)


def gap_bound(apart: float, train: int, test: int) -> float:
    """The largest difference of gaps, for numbers of training and test examples."""
    if apart <= SAME_NETWORK:
        return MAX_FLIPPED_EXAMPLES / train + MAX_FLIPPED_EXAMPLES / test
    return RETRAINED_GAP_SPREAD + 4 * math.sqrt(2 * 0.25 / test)


def magnitudes_differ(claimed: float, found: float) -> bool:
    """Whether two values differ by more than MAGNITUDE; signs do not matter."""
    small, large = sorted((abs(claimed), abs(found)))
    return large > MAX_MAGNITUDE_FACTOR * small


def _relative_difference(one: Scalar, other: Scalar) -> float:
    if not isinstance(one, int | float) or not isinstance(other, int | float):
        return 0.0 if one is other is None else math.inf
    return abs(one - other) / max(abs(one), abs(other)) if one != other else 0.0
