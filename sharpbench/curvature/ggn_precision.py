"""The trace of the Gauss-Newton matrix to a precision: by a sketch of the output root where that takes fewer passes."""

from __future__ import annotations

import math
from dataclasses import replace

import torch

from sharpbench.core.measure import Estimate
from sharpbench.core.requirements import spread_places
from sharpbench.core.subject import Subject
from sharpbench.curvature.confidence import MeanEstimate
from sharpbench.curvature.ggn import count_columns, mean_estimate, traces_by_example
from sharpbench.curvature.ggn_sketch import count_exact, has_sketch, sketched_traces

PILOT_COLUMNS = 4
"""Random columns of the pilot, which measures how much one of them leaves uncertain."""
PILOT_EXAMPLES = 16, 64
"""The smallest and the largest number of examples of the pilot."""
PILOT_SHARE = 0.1
"""Of the exact passes, which a pilot may take; where that is too few examples, the trace is exact."""
MANY_CLASSES = 30
"""From this number of classes on the ten most probable ones are taken exactly, below it the first."""
MARGIN = 1.3
"""Columns are planned for a variance that is larger by this factor than the pilot's."""
QUANTILE = 1.96
"""Half the width of a 95 % interval, in standard errors."""

MAX_EXACT_COLUMNS = 1024
"""Columns of the output root, and backward passes, an example up to which traces are exact unless asked otherwise."""


def has_many_columns(subject: Subject) -> bool:
    """Whether outputs at several positions have more than MAX_EXACT_COLUMNS columns, and a sketch.

    >>> curvature.has_many_columns(subject)
    False
    """
    return len(subject.outputs) > 1 and count_columns(subject) > MAX_EXACT_COLUMNS and has_sketch(subject)


def ggn_trace_estimate(subject: Subject, *, generator: torch.Generator, precision: float | None = None) -> Estimate:
    """The trace of the Gauss-Newton matrix, by a sketch that reaches the precision or exactly, whichever is cheaper.

    Args:
        generator: the only source of randomness.
        precision: both ends of the 95 % interval are to be within this share of the value; None for the exact trace.
    Returns:
        An Estimate. `details.columns` counts backward passes over all examples, those of a pilot on at most 64 examples
        left out. A sketch that misses the precision after all gives way to the exact trace.

    Cost: `details.columns` backward passes.

    >>> found = curvature.ggn_trace_estimate(subject, generator=torch.Generator().manual_seed(0), precision=0.1)
    >>> round(found.value, 9), found.details["method"]
    (5.0, 'exact')
    """
    exact = count_columns(subject)
    spent = 0
    if precision is not None and has_sketch(subject):
        top = count_exact(subject, 10 if subject.classes >= MANY_CLASSES else 1)
        columns = _plan(subject, top, precision, generator)
        if columns is not None and top + columns < exact:
            found = sketched_traces(subject, generator=generator, top=top, columns=columns)
            spent = top + columns
            assert found.stderr is not None
            if MeanEstimate(found.value, found.stderr, found.interval).within(precision):
                return replace(found, details={**found.details, "columns": spent})
    return mean_estimate(subject, subject.once(traces_by_example), method="exact", columns=exact + spent)


def _plan(subject: Subject, top: int, precision: float, generator: torch.Generator) -> int | None:
    """Random columns that reach the precision by a pilot on a few examples; None where a pilot does not pay."""
    least, most = PILOT_EXAMPLES
    fitting = int(PILOT_SHARE * subject.n * count_columns(subject) / (top + PILOT_COLUMNS))
    if fitting < least or (subject.classes < top + 2 and subject.criterion.kind == "cross_entropy"):
        return None
    pilot = subject.take(spread_places(subject.n, min(most, fitting)))
    found = sketched_traces(pilot, generator=generator, top=top, columns=PILOT_COLUMNS)
    assert found.stderr is not None
    if not found.value > 0:
        return 2
    relative = QUANTILE * found.stderr / (precision * found.value)
    return max(2, math.ceil(MARGIN * PILOT_COLUMNS * relative**2 * pilot.n / subject.n))
