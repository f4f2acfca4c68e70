"""Tolerance: how far a value may lie from the one found here, and when two trainings gave the same network.

Training in float32 amplifies rounding: on another processor, or beside other networks, the same recipe gives the same
network to about 1e-6 where it fits in a few hundred steps, and another one where it takes a thousand
(docs/submissions.md has the figures). So values are compared one by one where the networks are the same, and in order
of magnitude alone where they parted.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from scipy import stats

from sharpbench.core.fields import Scalar
from sharpbench.core.measure import Estimate
from sharpbench.core.record import Record

SAME_NETWORK = 1e-5
"""Relative difference of training loss and parameter norm up to which, after equally many steps, networks are one."""
ROUNDING = {"float32": 2e-4, "float64": 1e-9}
"""Relative, of the same weights by precision of the evaluation: ten times the largest seen in float32, 1.6e-5. In
float64 1e-14 was seen, but iterations may stop elsewhere."""
RETRAINED = 1e-3
"""Relative, of networks that are one up to SAME: ten times the largest seen."""
FACTOR_ROUNDING = 1e-6
"""Relative, of factors of change at the same weights: those within it of 1 are shown as 1."""
MAX_MAGNITUDE_FACTOR = 1000.0
"""Factor between values of fitted networks that parted: fifty times the largest seen."""
MAX_FLIPPED_EXAMPLES = 2
"""Examples of each split whose class may hang on rounding."""
FALSE_ALARM_RATE = 1e-3
"""How often noise that is normal takes a stochastic value out of its bound, at most."""
MAX_STDERR_FACTOR = 5.0
"""A stated standard error counts up to so many times the one found here: it cannot buy slack."""
RETRAINED_GAP_SPREAD = 0.05
"""Of the gaps of fitted networks of one recipe that parted, beside four standard errors of their test accuracies."""
EXACT_FIELDS = ("steps", "fitted")


def network_difference(claimed: Mapping[str, Scalar], found: Mapping[str, Scalar]) -> float:
    """The larger relative difference of training loss and parameter norm; infinite where the steps differ."""
    if any(claimed.get(name) != found.get(name) for name in EXACT_FIELDS):
        return math.inf
    pairs = [(claimed.get(name), found.get(name)) for name in ("train_loss", "parameter_norm")]
    return max(_relative_difference(one, other) for one, other in pairs)


def value_bound(record: Record, found: Estimate, apart: float, *, torch: str) -> float:
    """The largest difference between the record's value and the one found on a network that far `apart`.

    torch: its version here. The seed is the record's, so that the same version draws the same numbers and nothing
    but rounding is left; where they may be others (another version, another number of them) noise comes on top.
    """
    noise = 0.0 if draws_alike(record, found, torch=torch) else noise_bound(record.stderr, found)
    return rounding_bound(record, found, apart) + noise


def rounding_bound(record: Record, found: Estimate, apart: float) -> float:
    """The part of that which rounding has, of standard errors and ends of intervals, too: they are of its size."""
    assert record.value is not None
    return relative_bound(record.dtype, apart) * max(abs(record.value), abs(found.value))


def draws_alike(record: Record, found: Estimate, *, torch: str) -> bool:
    """Whether the random numbers behind both are the same."""
    return record.environment.get("torch") == torch and record.probes == found.probes


def relative_bound(dtype: str, apart: float) -> float:
    """By how much a value may differ relatively, on networks that are one."""
    return ROUNDING[dtype] if apart == 0 else RETRAINED


def factor_bound(claimed: float, found: float, apart: float) -> float:
    """The largest difference of two factors of change; a factor is a ratio of two values in float64."""
    return (FACTOR_ROUNDING if apart == 0 else 2 * RETRAINED) * max(abs(claimed), abs(found))


def truth_bounds(
    claimed: Mapping[str, Scalar], found: Mapping[str, Scalar], *, train: int, test: int
) -> dict[str, float]:
    """The largest difference of each number of the truth that both hold, beside those that tell networks apart."""
    losses = [value for truth in (claimed, found) if isinstance(value := truth.get("test_loss"), int | float)]
    loss = max(map(abs, losses), default=0.0)
    bounds = {
        "train_accuracy": MAX_FLIPPED_EXAMPLES / train,
        "test_accuracy": MAX_FLIPPED_EXAMPLES / test,
        "test_loss": RETRAINED * loss,
    }
    return {name: bound for name, bound in {**bounds, "epochs": 0, "diverged": 0}.items() if name in claimed}


def noise_bound(claimed: float | None, found: Estimate) -> float:
    """Student's t at RATE times the joint standard error; `claimed` is the stated one."""
    if not found.stderr:
        return 0.0
    stated = min(claimed or 0.0, MAX_STDERR_FACTOR * found.stderr)
    quantile = float(stats.t.ppf(1 - FALSE_ALARM_RATE / 2, max(1, found.probes - 1)))
    return quantile * math.hypot(found.stderr, stated)


def gap_bound(apart: float, train: int, test: int) -> float:
    """The largest difference of gaps, with so many examples in each split."""
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
