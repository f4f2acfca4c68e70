"""Columns of exactness, standard errors, cost and invariance. The terminal, Markdown and the site take them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from sharpbench.analysis.scores import Score
from sharpbench.analysis.value_errors import GAUSS_NEWTON
from sharpbench.core.measure import REWRITE_KINDS
from sharpbench.report.columns import NAME, Column, matrices_in_words
from sharpbench.report.format import (
    MISSING,
    format_error,
    format_factor,
    format_largest_error,
    format_memory,
    format_number,
    format_percentage,
    plain_text,
)

MAX_KIND_CHARS = 30
ORACLE_FOOTNOTE = "* against the float64 engine, not the definition"
CHANGE_FOOTNOTE = (
    "change: factor by which the measure changes when layers (first) or single units (second) are rescaled without "
    "changing the function"
)
INVARIANT_FOOTNOTE = "invariant: under rescaling of units (and so of layers), of layers only, or no"
GRADIENTS_FOOTNOTE = "grads: time in forward and backward passes over the data"
STDERR_FOOTNOTE = (
    "stderr: standard error in percent of the value over random vectors (first; 0: exact on these examples) and over "
    "the draw of the examples (second; all: not stated, and no example was left out)"
)


def _contention_mark(row: Score) -> str:
    """'!' behind seconds and gradients of calls next to other work, which may have taken longer than they need."""
    return "!" if row.only_contended else ""


def _error(row: Score) -> str:
    """The largest relative error, and the median where there are several."""
    if row.exactness is None:
        return MISSING
    mark = "" if row.exactness.oracle == "definition" else "*"
    median = f" (median {format_error(row.exactness.median)})" if row.exactness.networks > 1 else ""
    return f"{format_error(row.exactness.largest)}{mark}{median}"


ERROR: Column[Score] = Column(
    heading="relative error",
    text=_error,
    value=lambda row: None if row.exactness is None else row.exactness.largest,
    short_heading="error",
    short_text=format_largest_error,
    footnote=ORACLE_FOOTNOTE,
    help="the largest against the oracle",
)
LARGEST_ERROR = replace(
    ERROR, text=lambda row: MISSING if row.exactness is None else format_error(row.exactness.largest)
)
MEDIAN_ERROR: Column[Score] = Column(
    heading="median",
    text=lambda row: MISSING if row.exactness is None else format_error(row.exactness.median),
    value=lambda row: None if row.exactness is None else row.exactness.median,
    help="of the relative errors",
)
COMPARED_NETWORKS: Column[Score] = Column(
    heading="networks",
    text=lambda row: MISSING if row.exactness is None else str(row.exactness.networks),
    value=lambda row: None if row.exactness is None else float(row.exactness.networks),
    help="on which it was compared",
    descending=True,
)
ORACLE: Column[Score] = Column(
    heading="oracle",
    text=lambda row: MISSING if row.exactness is None else row.exactness.oracle,
    help="what the value was compared with",
    number=False,
)


def _probe_stderr(row: Score) -> float | None:
    return None if row.value_errors is None else row.value_errors.probes


def _example_stderr(row: Score) -> float | None:
    return None if row.value_errors is None else row.value_errors.examples


def _format_example_stderr(row: Score) -> str:
    found = row.value_errors
    if found is not None and found.examples is None and found.on_all_examples:
        return "all"
    return format_percentage(_example_stderr(row))


PROBE_STDERR: Column[Score] = Column(
    heading="stderr over probes",
    text=lambda row: format_percentage(_probe_stderr(row)),
    value=_probe_stderr,
    help="standard error over random vectors as a share of the value, median over networks; 0: exact on these examples",
)
EXAMPLE_STDERR: Column[Score] = Column(
    heading="stderr over examples",
    text=_format_example_stderr,
    value=_example_stderr,
    help="the same over the draw of the examples; all: not stated, and measured on all the examples that there are",
)
STDERR: Column[Score] = Column(
    heading="stderr",
    text=lambda row: f"{PROBE_STDERR.text(row)}/{EXAMPLE_STDERR.text(row)}",
    footnote=STDERR_FOOTNOTE,
)
NO_STDERR = f"{MISSING}/{MISSING}"
"""The cell of STDERR where no network states an error."""
MATRIX: Column[Score] = Column(
    heading="matrix",
    text=lambda row: ", ".join(matrices_in_words(row)) or MISSING,
    help="the matrix that the values are of, where the measure states it",
    number=False,
)
GRADIENTS: Column[Score] = Column(
    heading="gradients",
    text=lambda row: format_number(row.gradients) + _contention_mark(row),
    value=lambda row: row.gradients,
    short_heading="grads",
    help="seconds over those of one forward and backward pass over the data",
)


def _rounded_gradients(row: Score) -> str:
    if row.gradients is None:
        return MISSING
    value = max(row.gradients, LEAST_GRADIENTS)
    digits = 2 if value < 10 else 1 if value < 100 else 0
    return f"{'<' if row.gradients < LEAST_GRADIENTS else ''}{value:,.{digits}f}{_contention_mark(row)}"


LEAST_GRADIENTS = 0.01
"""The least cost in gradients that the short board states as a number."""
ROUNDED_GRADIENTS = replace(GRADIENTS, short_text=_rounded_gradients, footnote=GRADIENTS_FOOTNOTE)
"""The cost in at most six characters up to 9,999 gradients."""
MEMORY: Column[Score] = Column(
    heading="peak memory",
    text=lambda row: format_memory(row.peak_bytes),
    value=lambda row: row.peak_bytes,
    short_heading="memory",
    help="growth of the peak during the call",
)


def _seconds(row: Score) -> str:
    """The seconds of one environment; those of several cannot be compared."""
    if not row.timings:
        return MISSING
    return format_number(row.timings[0].seconds) + _contention_mark(row) if len(row.timings) == 1 else "differ"


def _change(row: Score) -> str:
    return "/".join(format_factor(row.invariance, kind) for kind in ("layer", "unit")) if row.invariance else MISSING


def _invariant(row: Score) -> str:
    """The largest group of rescalings that left the value unchanged."""
    if not {"layer", "unit"} & row.invariance.keys():
        return MISSING
    kept = [kind for kind in ("unit", "layer") if format_factor(row.invariance, kind) == "1"]
    return f"{kept[0]}s" if kept else "no"


SECONDS: Column[Score] = Column(heading="seconds", text=_seconds)
CHANGE: Column[Score] = Column(heading="change", text=_change, footnote=CHANGE_FOOTNOTE)
INVARIANT: Column[Score] = Column(
    heading="invariant",
    text=_invariant,
    footnote=INVARIANT_FOOTNOTE,
    help="under which rescalings that keep the function",
    number=False,
)
TERMINAL_COSTS = (NAME, ERROR, STDERR, SECONDS, CHANGE, GRADIENTS, MEMORY)
"""The terminal's table of exactness, standard errors, cost and invariance."""


def matrix_columns(rows: Iterable[Score]) -> list[Column[Score]]:
    """The column of matrices where a row is of the Gauss-Newton matrix; else none, as all are of the Hessian."""
    return [MATRIX] if any(GAUSS_NEWTON in matrices_in_words(row) for row in rows) else []


def seconds_columns(environments: Sequence[str], letters: Mapping[str, str]) -> list[Column[Score]]:
    """The median seconds in each environment, which its letter names."""
    return [_seconds_column(environment, letters.get(environment, "")) for environment in environments]


def _seconds_column(environment: str, letter: str) -> Column[Score]:
    def value(row: Score) -> float | None:
        return next((timing.seconds for timing in row.timings if timing.environment == environment), None)

    return Column(
        heading=f"seconds {letter}".strip(),
        text=lambda row: MISSING if value(row) is None else format_number(value(row)) + _contention_mark(row),
        value=value,
        help=environment,
    )


def has_costs(row: Score) -> bool:
    """Whether any column of this module has a value for the row; a table of others' networks has none."""
    known = row.value_errors
    stated = known is not None and (known.matrices or any(each is not None for each in (known.probes, known.examples)))
    return bool(stated or row.exactness or row.invariance or row.timings or row.gradients or row.peak_bytes)


def list_environments(rows: Iterable[Score]) -> list[str]:
    """The environments in which the rows were timed, in order."""
    return sorted({timing.environment for row in rows for timing in row.timings})


def factor_columns(rows: Iterable[Score], *, unknown: bool = False) -> list[Column[Score]]:
    """The largest factor of change under each kind of rewrite that the rows hold; unknown: also of other kinds."""
    present = {kind for row in rows for kind in row.invariance}
    others = sorted(present.difference(REWRITE_KINDS)) if unknown else []
    return [_factor_column(kind) for kind in (*(kind for kind in REWRITE_KINDS if kind in present), *others)]


def _factor_column(kind: str) -> Column[Score]:
    return Column(
        heading=f"{plain_text(kind, MAX_KIND_CHARS)} ×",
        text=lambda row: format_factor(row.invariance, kind),
        value=lambda row: row.invariance.get(kind),
        help="the largest factor of change; 1: invariant",
    )
