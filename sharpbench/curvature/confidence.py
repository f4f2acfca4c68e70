"""Interval: a mean of samples, or a sum of such means, with its standard error and a 95 % confidence interval.

Samples of quadratic forms are skewed, as chi-squared is; Student's interval then covers some 91 % at 30 samples.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import torch
from scipy.special import stdtrit
from torch import Tensor

from sharpbench.errors import InvalidInput

LEAST = 30
"""Samples before a precision may stop the sampling: earlier, a small standard error is luck."""
FEW = 16
"""Samples below which no interval is stated: it would cover too seldom."""
PILOT = 8
"""Samples of every stratum in the first round."""
MOST = 1_000_000
"""The largest number of samples."""
LIMIT = 50_000
"""Samples after which a precision that was not reached is given up."""


@dataclass(frozen=True, slots=True)
class MeanEstimate:
    """value; stderr, its standard error; interval, of 95 %, None from so few samples that it would not be."""

    value: float
    stderr: float
    interval: tuple[float, float] | None

    def within(self, precision: float) -> bool:
        """Whether neither end of the interval is further away than this share of the value."""
        if self.interval is None:
            return False
        low, high = self.interval
        return max(self.value - low, high - self.value) <= precision * abs(self.value)


class RunningMoments:
    """The mean [...] and the variance of samples [...] that come one by one, so that not all of them are held.

    Source: Welford 1962, Note on a method for calculating corrected sums of squares and products.
    """

    def __init__(self, like: Tensor) -> None:
        self.count = 0
        self.mean, self._squares = (torch.zeros_like(like, dtype=torch.float64) for _ in range(2))

    @property
    def variance(self) -> Tensor:
        """Of one sample, unbiased."""
        return self._squares / (self.count - 1)

    def add(self, sample: Tensor) -> None:
        """Count one sample more."""
        self.count += 1
        gap = sample - self.mean
        self.mean.add_(gap, alpha=1 / self.count)
        self._squares.addcmul_(gap, sample - self.mean)


def mean_of(groups: Collection[Tensor], exact: float = 0.0) -> MeanEstimate:
    """The sum of the means of independent groups of samples, plus a known part: value, standard error, 95 % interval.

    Args:
        groups: one tensor [m] of independent samples per group, m >= 2.
        exact: the part of the value that is not sampled.

    The interval is Student's with Welch's degrees of freedom, after Hall's transformation, which removes the skewness
    of the samples. It is None where there are too few degrees of freedom for it.

    Source: Hall 1992, On the removal of skewness by transformation.

    >>> estimate = curvature.mean_of([torch.tensor([1.0, 2.0, 3.0, 4.0])], exact=10.0)
    >>> estimate.value, round(estimate.stderr, 4)
    (12.5, 0.6455)
    """
    samples = [group.double() for group in groups]
    value = exact + sum(float(each.mean()) for each in samples)
    variances = [(float(each.var()) / len(each), len(each) - 1) for each in samples]
    variance = sum(each for each, _ in variances)
    if variance <= 0:
        return MeanEstimate(value, 0.0, (value, value))
    stderr = math.sqrt(variance)
    freedom = variance**2 / sum(each**2 / degrees for each, degrees in variances)
    if freedom < FEW - 1.5:  # Welch's of equal groups may be a rounding below a whole number
        return MeanEstimate(value, stderr, None)
    cubes = sum(float((each - each.mean()).pow(3).mean()) / len(each) ** 2 for each in samples)
    skewness, quantile = cubes / stderr**3, float(stdtrit(freedom, 0.975))
    return MeanEstimate(
        value, stderr, (value - stderr * _unskewed(quantile, skewness), value - stderr * _unskewed(-quantile, skewness))
    )


MAX_NOISE_SHARE = 0.6
"""Of the variance between examples: where random vectors make up more of it, what is left is not known."""


def example_stderr(values: Tensor, *, noise: float = 0.0, shares: Tensor | None = None) -> float | None:
    """The standard error, over the draw of the examples, of the mean of one value per example.

    Args:
        values: a value for each example [n].
        noise: the standard error of that mean over random vectors which act on each example differently. It is part of
            the spread of the values, and is taken out of it.
        shares: by how much each example counts [n], as `Subject.shares`. The mean is then that of a ratio of two means,
            and its standard error is taken to first order. Times m for a value in which the divisor has the power m.

    Returns: None for a single example, and where noise makes up most of the spread.

    >>> curvature.example_stderr(torch.tensor([1.0, 2.0, 3.0, 4.0]))
    0.6454972243679028
    """
    if len(values) < 2:
        return None
    wide = values.double()
    if shares is not None:
        wide = wide - wide.mean() * shares.to(wide)
    variance = float(wide.var()) / len(values)
    if noise**2 > MAX_NOISE_SHARE * variance:
        return None
    return math.sqrt(variance - noise**2)


def next_round(first: int, drawn: int) -> int:
    """How many samples more before the interval is looked at again: a quarter, so that luck has few chances."""
    return max(first, drawn) // 4 or 1


def check_budget(samples: int, precision: float | None = None, *, least: int = 2) -> None:
    """Raise InvalidInput for a number of samples that allows no standard error, or no stopping at `precision`.

    >>> curvature.check_samples(30, 0.1)
    """
    if not least <= samples <= MOST:
        raise InvalidInput(
            f"samples={samples} must be at least {least}, or there is no standard error, and at most {MOST:,}"
        )
    if precision is not None and not (precision > 0 and samples >= LEAST):
        raise InvalidInput(
            f"precision={precision} with samples={samples}: needs precision > 0 and samples >= {LEAST}, the first round"
        )


def check_precision(precision: float, budget: int = PILOT) -> None:
    """Raise InvalidInput for a relative precision, or for a budget of products, that is out of range.

    >>> curvature.check_precision(0.01)
    """
    if not precision > 0:
        raise InvalidInput(f"precision={precision} must be above 0: the half width of the interval over the value")
    if not PILOT <= budget <= MOST:
        raise InvalidInput(f"budget={budget} must be from {PILOT}, the first round, to {MOST:,} products")


def _unskewed(quantile: float, skewness: float) -> float:
    """The inverse of Hall's transformation t + a t^2 / 3 + a^2 t^3 / 27 + a / 6, a the skewness of the mean."""
    if abs(skewness) < 1e-8:
        return quantile
    return 3 / skewness * (float(np.cbrt(1 + skewness * (quantile - skewness / 6))) - 1)
