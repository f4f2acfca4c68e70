"""Networks compared measure by measure on the same examples: which is flatter, and what a rescaling explains."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from sharpbench.analysis.statistics import Interval
from sharpbench.report.escape import escape_cell, markdown_table
from sharpbench.report.fitted_table import FittedColumn, fitted_tables
from sharpbench.report.format import MISSING, plain_text
from sharpbench.report.rendered import render_html, render_latex, render_text

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

WIDTH = 80
"""Characters of the tables outside a terminal."""
MAX_NAME_CHARS = 60
"""Of a network or a measure that a table or a sentence shows."""

MIN_SHOWN_SHARE = 1e-2
"""Of the width of the interval: smaller differences are shown as 0."""


@dataclass(frozen=True, slots=True)
class PairedValues:
    """The values of one measure at two networks on the same examples.

    Args:
        interval: The 95 % interval of first - second over the draw of the examples and over random vectors.
        reason: Why a value or the interval is missing.
    """

    first: float | None
    second: float | None
    interval: Interval | None
    reason: str | None = None

    @property
    def difference(self) -> float | None:
        """first - second."""
        return None if self.first is None or self.second is None else self.first - self.second

    @property
    def sign(self) -> int | None:
        """1 or -1 where the first or the second is larger, 0 where noise explains the difference; None: not known."""
        if self.interval is None:
            return None
        return 0 if 0.0 in self.interval else 1 if self.interval.low > 0 else -1


@dataclass(frozen=True, slots=True)
class NetworkDifference:
    """One measure at two networks.

    Args:
        first, second: The names of the networks.
        given: The values at the networks as they are.
        balanced: The values at the two networks of least trace that compute the same functions. None where the measure
            claims that a rescaling does not change it.
    """

    measure: str
    first: str
    second: str
    given: PairedValues
    balanced: PairedValues | None

    @property
    def flatter(self) -> str | None:
        """The network with the smaller value; None where noise explains the difference or it is not known."""
        return {1: self.second, -1: self.first}.get(self.given.sign or 0)

    @property
    def explained(self) -> bool | None:
        """Whether a rescaling explains the difference: it is gone, or reversed, at the balanced networks.

        None where the two cannot be told apart in the first place, or the balanced values are not known.
        """
        if not self.given.sign:
            return None
        if self.balanced is None:
            return False
        return None if self.balanced.sign is None else self.balanced.sign != self.given.sign


@dataclass(frozen=True, slots=True)
class NetworkComparison:
    """Networks compared by several measures; prints as tables and a verdict.

    Args:
        fits: The name of each network -> its loss and, of a classifier, its accuracy on the examples.
        examples, groups: The number of examples, and of the groups that the jackknife leaves out.
        scope: Of the rescalings of the balanced networks: 'layer' or 'unit'.
    """

    fits: Mapping[str, Mapping[str, float | None]]
    differences: tuple[NetworkDifference, ...]
    examples: int
    groups: int
    scope: str

    @property
    def verdict(self) -> str:
        """What the intervals say, one sentence for each pair of networks."""
        pairs: dict[tuple[str, str], list[NetworkDifference]] = {}
        for each in self.differences:
            pairs.setdefault((each.first, each.second), []).append(each)
        return " ".join(_describe_pair(*pair, rows) for pair, rows in pairs.items())

    def to_frame(self) -> pd.DataFrame:
        """One row per measure and pair of networks; at the balanced networks the columns begin with 'balanced'."""
        import pandas as pd

        return pd.DataFrame(list(self._rows()))

    def to_json(self) -> str:
        """One JSON object: networks, examples, differences and the verdict."""
        found = {
            "networks": {name: dict(fit) for name, fit in self.fits.items()},
            "examples": self.examples,
            "groups": self.groups,
            "scope": self.scope,
            "differences": list(self._rows()),
            "verdict": self.verdict,
        }
        return json.dumps(found, allow_nan=False, indent=1)

    def to_markdown(self) -> str:
        """The tables and the verdict as Markdown; names are escaped."""
        columns = [self._network_columns(), *self._value_columns()]
        notes = [str(escape_cell(note, 400)) for note in (*self._notes(), self.verdict)]
        return "\n\n".join([*map(_markdown, columns), *notes]) + "\n"

    def show(self, console: Console) -> None:
        """Print the networks, the tables, notes and the verdict."""
        from rich.text import Text

        for columns in (self._network_columns(), *self._value_columns()):
            for table in fitted_tables(columns, console.width):
                console.print(table, crop=False)
        for note in (*self._notes(), self.verdict):
            console.print(Text(note))

    def to_latex(self) -> str:
        """The columns of `to_frame` without the reasons as LaTeX for the package booktabs; names are escaped."""
        frame = self.to_frame()
        return render_latex(frame.drop(columns=["reason", "balanced reason"]).dropna(axis=1, how="all"))

    def __str__(self) -> str:
        return render_text(self.show, WIDTH)

    def _repr_html_(self) -> str:
        return render_html(self.show, WIDTH)

    def _rows(self) -> Iterator[dict[str, object]]:
        for each in self.differences:
            row: dict[str, object] = {"measure": each.measure, "first": each.first, "second": each.second}
            for prefix, values in (("", each.given), ("balanced ", each.balanced)):
                found = {} if values is None else asdict(values)
                interval = None if values is None else values.interval
                row |= {
                    f"{prefix}first value": found.get("first"),
                    f"{prefix}second value": found.get("second"),
                    f"{prefix}difference": None if values is None else values.difference,
                    f"{prefix}low": None if interval is None else interval.low,
                    f"{prefix}high": None if interval is None else interval.high,
                    f"{prefix}reason": found.get("reason"),
                }
            yield {**row, "flatter": each.flatter, "explained": each.explained}

    def _network_columns(self) -> list[FittedColumn]:
        fits = list(self.fits.values())
        columns = [
            FittedColumn("", [str(number) for number in range(1, len(fits) + 1)]),
            FittedColumn("network", [plain_text(name, MAX_NAME_CHARS) for name in self.fits], "name"),
            FittedColumn("loss", [_format_value(fit.get("loss")) for fit in fits]),
        ]
        if any("accuracy" in fit for fit in fits):
            accuracies = [fit.get("accuracy") for fit in fits]
            columns.append(FittedColumn("accuracy", [MISSING if a is None else f"{a:.1%}" for a in accuracies]))
        return columns

    def _value_columns(self) -> list[list[FittedColumn]]:
        """The columns of the table of values, and of that at the balanced networks, where a measure has these."""
        numbers = {name: str(number) for number, name in enumerate(self.fits, start=1)}
        given = self.differences
        found = [
            [
                *_paired_columns(given, [each.given for each in given], numbers),
                FittedColumn("flatter", [_flatter(each, numbers) for each in given]),
            ]
        ]
        moved = [(each, each.balanced) for each in given if each.balanced is not None]
        if moved:
            explained = [{True: "yes", False: "no", None: MISSING}[each.explained] for each, _ in moved]
            rows, values = [each for each, _ in moved], [values for _, values in moved]
            columns = _paired_columns(rows, values, numbers, "balanced ")
            found.append([*columns, FittedColumn("explained", explained)])
        return found

    def _notes(self) -> list[str]:
        notes = [
            f"difference: of the two values on the same {self.examples:,} examples, with its 95 % interval over the "
            f"draw of examples ({self.groups} groups left out in turn); each interval is for one comparison",
            "flatter: the network with the smaller value; a dash where the interval holds 0",
        ]
        if any(each.balanced is not None for each in self.differences):
            notes.append(
                f"balanced: at the networks of the same functions and least trace over rescalings ({self.scope}); "
                "explained: whether the difference is then gone or reversed"
            )
        reasons = dict.fromkeys(
            f"{plain_text(each.measure, MAX_NAME_CHARS)}: {plain_text(values.reason, 300)}"
            for each in self.differences
            for values in (each.given, each.balanced)
            if values is not None and values.reason is not None
        )
        return [*notes, *reasons]


def _paired_columns(
    differences: Sequence[NetworkDifference],
    values: Sequence[PairedValues],
    numbers: Mapping[str, str],
    prefix: str = "",
) -> list[FittedColumn]:
    """The columns of the measure, of the two networks by their numbers, their values and the difference."""
    columns = [FittedColumn("measure", [plain_text(each.measure, MAX_NAME_CHARS) for each in differences], "name")]
    if len(numbers) > 2:
        columns.append(FittedColumn("pair", [f"{numbers[each.first]}, {numbers[each.second]}" for each in differences]))
        headings = ("first", "second")
    else:
        headings = ("1", "2")
    return [
        *columns,
        FittedColumn(f"{prefix}{headings[0]}", [_format_value(each.first) for each in values]),
        FittedColumn(f"{prefix}{headings[1]}", [_format_value(each.second) for each in values]),
        FittedColumn("difference", [_format_difference(each) for each in values]),
    ]


def _describe_pair(first: str, second: str, rows: Sequence[NetworkDifference]) -> str:
    """One sentence about two networks."""
    one, other = (plain_text(name, MAX_NAME_CHARS) for name in (first, second))
    parts = []
    for name, shown in ((first, one), (second, other)):
        measures = [each for each in rows if each.flatter == name]
        if measures:
            parts.append(f"{shown} is flatter by {_list_measures(measures)}")
    same = [each for each in rows if each.given.sign == 0]
    if same:
        parts.append(f"noise explains the difference by {_list_measures(same)}")
    explained = [each for each in rows if each.explained]
    if explained:
        parts.append(f"a rescaling explains that by {_list_measures(explained)}")
    return f"{one} and {other}: {'; '.join(parts) if parts else 'no measure has an interval'}."


def _list_measures(rows: Sequence[NetworkDifference]) -> str:
    return ", ".join(plain_text(each.measure, MAX_NAME_CHARS) for each in rows)


def _flatter(each: NetworkDifference, numbers: Mapping[str, str]) -> str:
    return MISSING if each.flatter is None else numbers[each.flatter]


def _format_value(value: float | None) -> str:
    return MISSING if value is None else f"{value:.4g}"


def _format_difference(values: PairedValues) -> str:
    if values.interval is None:
        return _format_value(values.difference)
    low, high = values.interval.low, values.interval.high
    middle = (low + high) / 2
    shown = 0.0 if abs(middle) < MIN_SHOWN_SHARE * (high - low) else middle
    return f"{shown:.3g} [{low:.3g},{high:.3g}]"


def _markdown(columns: Sequence[FittedColumn]) -> str:
    cells = [[str(escape_cell(cell)) for cell in column.cells] for column in columns]
    right = {index for index, column in enumerate(columns) if column.kind == "number"}
    rows = [list(row) for row in zip(*cells, strict=True)]
    return str(markdown_table([column.heading for column in columns], rows, right))
