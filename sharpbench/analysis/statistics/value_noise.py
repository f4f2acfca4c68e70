"""How much a rank correlation varies when each value is measured again on other examples.

The jackknife draws networks again. Errors that are independent from network to network are among the differences that
it sees. Networks of a cohort share their examples, so that another draw moves all values together, which no network
tells. The variance found here, with errors that are independent and as large as stated, is added for that: an upper
estimate in the populations that were tried (docs/protocol.md).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

import numpy as np

from sharpbench.analysis.statistics.interval import widen_interval
from sharpbench.analysis.statistics.jackknife import Floats
from sharpbench.analysis.statistics.rank_correlation import Tau

DRAWS = 100
"""A variance from them is known to 14 %, an interval to half of what it adds."""
SEED = 0


def draw_values(x: Floats, errors: Floats) -> Iterator[Floats]:
    """The values [n] of a measure, DRAWS times with normal errors of the standard errors given [n]; always the same."""
    generator = np.random.default_rng(SEED)
    for _ in range(DRAWS):
        yield x + errors * generator.standard_normal(len(x))


def noise_variance(statistic: Callable[[Floats], float | None], x: Floats, errors: Floats) -> float:
    """The variance of a statistic of the values x [n] under their errors [n]; 0 where it is undefined."""
    return known_variance(map(statistic, draw_values(x, errors)))


def known_variance(values: Iterable[float | None]) -> float:
    """The variance of the values that are not None; 0 of fewer than two."""
    known = [value for value in values if value is not None]
    return float(np.var(known, ddof=1)) if len(known) > 1 else 0.0


def widen_tau(tau: Tau, variance: float) -> Tau:
    """The same correlation, its interval wider by a further variance."""
    if tau.value is None or tau.interval is None or not variance:
        return tau
    return replace(tau, interval=widen_interval(tau.value, tau.interval, variance))
