"""Standard errors of a measure's values: over random vectors, and over the draw of the examples; and their matrix.

A value that is exact on its examples has no error over random vectors. It still has one over examples where these are
a draw: fewer than the network was trained on, or than the split of the data set holds.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from scipy.special import stdtrit

from sharpbench.analysis.costs import median_or_none
from sharpbench.core.record import Record

HESSIAN, GAUSS_NEWTON = "Hessian", "Gauss-Newton"
MATRICES = {"hessian": HESSIAN, "gauss-newton": GAUSS_NEWTON}
"""Values of `details.matrix` -> the words that tables show."""


@dataclass(frozen=True, slots=True)
class ValueErrors:
    """The standard errors of the values of one row, relative to the values: medians over the networks.

    Args:
        probes: Over random vectors, on the same examples; 0: exact on these examples. None: no network states one.
        examples: Over the draw of the examples. None: no network states one.
        measured: The smallest and the largest number of examples that a network was measured on.
        available: The smallest and the largest number of examples that there are; None where a record lacks it.
        drawn: The number of networks whose examples are a draw of those that there are.
        networks: The number of networks with a value.
        matrices: The matrices that the values are of, in words, where the measure states them.
    """

    probes: float | None
    examples: float | None
    measured: tuple[int, int] | None
    available: tuple[int, int] | None
    drawn: int
    networks: int
    matrices: tuple[str, ...]

    @property
    def on_all_examples(self) -> bool:
        """Whether every network was measured on all the examples that there are."""
        return self.available is not None and self.measured is not None and self.drawn == 0


def summarize_value_errors(done: Sequence[Record]) -> ValueErrors | None:
    """The standard errors of the records of one row; None where there are none."""
    if not done:
        return None
    counts = [(_count(each.data.get("examples")), available_examples(each)) for each in done]
    known = [(count, available) for count, available in counts if count is not None and available is not None]
    return ValueErrors(
        probes=median_or_none(_relative(each, each.stderr) for each in done),
        examples=median_or_none(_relative(each, each.stderr_examples) for each in done),
        measured=_span(count for count, _ in counts),
        available=_span(available for _, available in counts),
        drawn=sum(count < available for count, available in known),
        networks=len(done),
        matrices=tuple(sorted({matrix for each in done if (matrix := matrix_in_words(each)) is not None})),
    )


def available_examples(record: Record) -> int | None:
    """The number of examples that a record's are all or a part of.

    Those that the network was trained on; of `sharpbench measure` those in the split of the data set. None where the
    record does not state it.
    """
    stated = _count(record.data.get("available"))
    return _count(record.recipe.get("train_size")) if stated is None else stated


def is_draw(record: Record) -> bool | None:
    """Whether the examples of a record are a part of those that there are; None where that is not known."""
    count, available = _count(record.data.get("examples")), available_examples(record)
    return None if count is None or available is None else count < available


def drawn_errors(records: Mapping[str, Record]) -> dict[str, float]:
    """The standard errors over examples of the records whose examples are a draw and that state one, by their keys."""
    return {
        key: record.stderr_examples
        for key, record in records.items()
        if record.status == "ok" and record.stderr_examples is not None and is_draw(record)
    }


def matrix_in_words(record: Record) -> str | None:
    """The matrix that the value is of, 'Hessian' or 'Gauss-Newton'; None where the measure does not state it."""
    return MATRICES.get(str(record.details.get("matrix", record.configuration.get("matrix"))))


def combined_interval(record: Record) -> tuple[float, float] | None:
    """The 95 % interval of the value over random vectors and, where the examples are a draw, over this draw as well.

    The two errors are independent: half-widths add in squares, Student's t times the standard error for the examples.
    None where nothing is random, or no error is known.
    """
    if record.value is None:
        return None
    low, high = (0.0, 0.0) if record.low is None or record.high is None else (record.low, record.high)
    below, above = (0.0, 0.0) if low == high else (record.value - low, high - record.value)
    drawn, count = record.stderr_examples if is_draw(record) else None, _count(record.data.get("examples"))
    further = 0.0 if drawn is None or count is None or count < 2 else float(stdtrit(count - 1, 0.975)) * drawn
    if not (below or above or further):
        return None
    return record.value - math.hypot(below, further), record.value + math.hypot(above, further)


def _relative(record: Record, error: float | None) -> float | None:
    """`error` as a share of the value; None where it has none."""
    if error is None or not record.value:
        return 0.0 if error == 0 else None
    return error / abs(record.value)


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def _span(counts: Iterable[int | None]) -> tuple[int, int] | None:
    """The least and the largest; None where one is not known."""
    found = list(counts)
    known = [count for count in found if count is not None]
    return (min(known), max(known)) if known and len(known) == len(found) else None
