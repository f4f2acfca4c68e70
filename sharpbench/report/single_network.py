"""The report of `sharpbench measure`: one network at one state of its weights, or along a training."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.console import Console
from rich.text import Text

from sharpbench.analysis.costs import format_environment, relative_error
from sharpbench.analysis.value_errors import GAUSS_NEWTON, combined_interval, is_draw, matrix_in_words
from sharpbench.core.fields import Scalar
from sharpbench.core.record import Record
from sharpbench.files import form_series
from sharpbench.report.columns import CONTENTION_NOTE
from sharpbench.report.cost_columns import CHANGE, ERROR
from sharpbench.report.fitted_table import FittedColumn, fitted_tables
from sharpbench.report.format import MISSING, format_error, format_factor, format_memory, format_number, plain_text
from sharpbench.report.plots import FIGURE_STYLE, drawable_text, save_figure

States = Mapping[str, Mapping[str, Record]]
"""Source of the weights -> label of the measure -> record."""
MAX_ROWS = 30
"""Parameters that a table or figure shows; one more row sums up the others."""
NOTED_DETAILS = ("matrix", "method", "certified", "attained", "pinned", "dropped", "negative")
"""Details of an estimate that the table shows."""
REST_NAME = "all others"
EXAMPLES_HEADING = "over examples"
"""Of the column of standard errors over the draw of the examples."""
MAX_HEADING_CHARS = 40
"""Of the label of a measure that heads a column."""
MAX_SOURCE_CHARS = 60
"""Of a file's name that a row shows."""
MIN_FILE_WIDTH = 120
"""Characters of tables that go to a file."""


def show_network(states: States, console: Console) -> None:
    """Print the measures of one network with their parts; for several states, one row per state."""
    if not console.is_terminal:
        console = Console(file=console.file, width=max(MIN_FILE_WIDTH, console.width))
    first = next(iter(next(iter(states.values())).values()))
    _print(_heading(first, len(states)), console)
    if len(states) > 1:
        _print_columns(_curve_columns(states), console)
    else:
        records = list(next(iter(states.values())).values())
        _print_columns(_value_columns(records), console)
        parts = _collect_parts(records)
        if parts:
            _print_columns(_part_columns(parts), console)
    for line in _reasons(states):
        _print(line, console)
    _print(f"environment: {format_environment(first.environment)}", console)


def _print_columns(columns: Sequence[FittedColumn], console: Console) -> None:
    for table in fitted_tables(columns, console.width):
        console.print(table, crop=False)


def draw_network(states: States, folder: Path) -> list[Path]:
    """Write the picture as SVG and PNG: shares of the parameters, or curves over several states; their paths."""
    with style.context(["default", FIGURE_STYLE]):
        if len(states) > 1:
            return save_figure(_draw_curves(states, joined=form_series(list(states))), folder / "curve")
        parts = _collect_parts(list(next(iter(states.values())).values()))
        return save_figure(_draw_bars(parts), folder / "parts") if parts else []


def _heading(record: Record, states: int) -> str:
    data, truth = record.data, record.truth
    weights = f"weights {record.recipe['weights']}" if states == 1 else f"{states} states of its weights"
    drawn = f" drawn from {data['available']:,} with seed {data['subset_seed']}" if is_draw(record) else ""
    every = "all " if is_draw(record) is False else ""
    classes = f" ({data['classes']} classes)" if "classes" in data and "accuracy" in truth else ""
    where = (
        f"{record.recipe['model']}, {weights}, on {every}{data['examples']:,} {data['split']} examples of "
        f"{data['dataset']}{classes}"
    )
    if inputs := record.recipe.get("inputs"):
        drawn = f"{drawn}, inputs {inputs}"
    if states > 1:
        return where + drawn
    loss = f"loss {_format_loss(_to_float(truth.get('loss')))}"
    accuracy = f", accuracy {_format_accuracy(_to_float(truth['accuracy']))}" if "accuracy" in truth else ""
    return f"{where}{drawn}: {loss}{accuracy}"


def _format_loss(value: float) -> str:
    return "not finite" if math.isnan(value) else format_number(value)


def _format_accuracy(value: float) -> str:
    return "not finite" if math.isnan(value) else f"{value:.1%}"


def _to_float(value: Scalar) -> float:
    return float(value) if isinstance(value, int | float) else float("nan")


def _value_columns(records: Sequence[Record]) -> list[FittedColumn]:
    named = _name_matrices(records)
    optional = {
        EXAMPLES_HEADING: any(is_draw(record) or record.stderr_examples is not None for record in records),
        "error": any(record.exact is not None for record in records),
        "alone": any(record.seconds is not None for record in records),
        "grads": any(record.gradients is not None for record in records),
        "memory": any(record.peak_bytes is not None for record in records),
        "change": any(record.invariance for record in records),
    }
    cells: dict[str, Callable[[Record], str]] = {
        "value": lambda record: _value(record, named=named),
        "95 % interval": _interval,
        EXAMPLES_HEADING: _example_stderr,
        "error": lambda record: _error(record.value, record.exact, record),
        "alone": lambda record: format_number(record.seconds) + ("!" if record.contended else ""),
        "grads": lambda record: format_number(record.gradients) + ("!" if record.contended else ""),
        "memory": lambda record: format_memory(record.peak_bytes),
        "change": lambda record: "/".join(format_factor(record.invariance, kind) for kind in ("layer", "unit")),
        "seconds": lambda record: format_number(record.shared_seconds),
    }
    shown = {heading: cell for heading, cell in cells.items() if optional.get(heading, True)}
    return [
        FittedColumn("measure", [plain_text(record.label, 60) for record in records], "name"),
        *(FittedColumn(heading, list(map(cell, records))) for heading, cell in shown.items()),
        FittedColumn("what it is", [_notes(record, named=named) for record in records], "text"),
    ]


def _name_matrices(records: Iterable[Record]) -> bool:
    """Whether values show their matrix: some are of the Gauss-Newton matrix, where others may be of the Hessian."""
    return any(matrix_in_words(record) == GAUSS_NEWTON for record in records)


def _value(record: Record, *, named: bool) -> str:
    """The value; named: with the matrix that it is of, where the measure states it."""
    if record.value is None:
        return record.status
    matrix = matrix_in_words(record) if named else None
    return f"{record.value:.6g}" + (f" ({matrix})" if matrix else "")


def _example_stderr(record: Record) -> str:
    if record.value is None:
        return MISSING
    return "unknown" if record.stderr_examples is None else f"± {record.stderr_examples:.2g}"


def _interval(record: Record) -> str:
    if record.value is None or record.stderr == 0.0:
        return MISSING
    if record.low is not None and record.high is not None:
        return f"{record.low:.4g} to {record.high:.4g}"
    return "unknown" if record.stderr is None else f"stderr {record.stderr:.2g}"


def _error(value: float | None, exact: float | None, record: Record) -> str:
    if value is None or exact is None:
        return MISSING
    error = relative_error(value, exact)
    text = format_error(abs(value) if error is None else error)
    return text if record.oracle == "definition" else f"{text}*"


def _notes(record: Record, *, named: bool) -> str:
    """What kind of number the value is; named: the value already shows its matrix."""
    shown = [key for key in NOTED_DETAILS if key != "matrix" or not named]
    known = {key: record.details[key] for key in shown if record.details.get(key) not in (None, "", 0)}
    words = [f"{key} {_format_detail(value)}" for key, value in known.items() if (key, value) != ("attained", True)]
    return plain_text(", ".join(words + ([] if record.converged else ["not converged"])), 160)


def _format_detail(value: Scalar) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value).lower() if isinstance(value, bool) else str(value)


def _collect_parts(records: Sequence[Record]) -> dict[str, dict[str, float]]:
    """Parameter -> measure -> part, for measures with several parts; the largest shares, in the network's order."""
    shown = [record for record in records if len(record.parts) > 1]
    names = list(dict.fromkeys(name for record in shown for name in record.parts))
    if len(names) > MAX_ROWS:
        share = {name: max(_share(record, name) for record in shown) for name in names}
        kept = set(sorted(names, key=lambda name: -share[name])[: MAX_ROWS - 1])
        names = [name for name in names if name in kept]
    table = {name: {record.label: record.parts[name] for record in shown if name in record.parts} for name in names}
    left = {record.label: sum(part for name, part in record.parts.items() if name not in table) for record in shown}
    return {**table, REST_NAME: left} if any(set(record.parts) - set(table) for record in shown) else table


def _share(record: Record, name: str) -> float:
    total = sum(abs(part) for part in record.parts.values())
    return abs(record.parts.get(name, 0.0)) / total if total else 0.0


def _distinct_headings(labels: Sequence[str]) -> dict[str, str]:
    """A heading for each label: cut to MAX_HEADING_CHARS, or whole where labels would otherwise read the same."""
    cut = {label: plain_text(label, MAX_HEADING_CHARS) for label in labels}
    return {label: text if list(cut.values()).count(text) == 1 else label for label, text in cut.items()}


def _part_columns(parts: Mapping[str, Mapping[str, float]]) -> list[FittedColumn]:
    measures = list(dict.fromkeys(label for row in parts.values() for label in row))
    headings = _distinct_headings(measures)
    return [
        FittedColumn("part of", [plain_text(name, 60) for name in parts], "name"),
        *(FittedColumn(headings[each], [format_number(row.get(each)) for row in parts.values()]) for each in measures),
    ]


def _curve_columns(states: States) -> list[FittedColumn]:
    measures = list(dict.fromkeys(label for records in states.values() for label in records))
    named = _name_matrices(record for records in states.values() for record in records.values())
    truths = [next(iter(records.values())).truth for records in states.values()]
    ends = [  # names differ at their ends
        source if len(source) <= MAX_SOURCE_CHARS else f"…{source[1 - MAX_SOURCE_CHARS :]}" for source in states
    ]
    values = {
        label: [_value(each[label], named=named) if label in each else MISSING for each in states.values()]
        for label in measures
    }
    headings = _distinct_headings(measures)
    return [
        FittedColumn("weights", [plain_text(end, MAX_SOURCE_CHARS) for end in ends], "name"),
        FittedColumn("loss", [_format_loss(_to_float(truth.get("loss"))) for truth in truths]),
        FittedColumn("accuracy", [_format_accuracy(_to_float(truth.get("accuracy"))) for truth in truths]),
        *(FittedColumn(headings[label], cells) for label, cells in values.items()),
    ]


def _reasons(states: States) -> list[str]:
    """What the intervals are of, the measures without a value with their reasons, and the footnotes of the columns."""
    records = [record for table in states.values() for record in table.values()]
    lines: dict[str, None] = dict.fromkeys(_explain_errors(records) if len(states) == 1 else ())
    lines |= {
        f"{plain_text(r.label, 60)}, {r.status}: {plain_text(r.reason or '', 300)}": None
        for r in records
        if r.value is None
    }
    lines |= {
        f"{plain_text(r.label, 60)} without {check}: {plain_text(reason, 300)}": None
        for r in records
        for check, reason in r.failed_checks.items()
    }
    if len(states) > 1 and not form_series(list(states)):
        lines["the names of the weights do not differ in one growing number only: rows in the order of names"] = None
    frozen = max((count for r in records if isinstance(count := r.recipe.get("frozen"), int)), default=0)
    if frozen:
        lines[f"{frozen} tensors of the network do not require gradients and are left out"] = None
    if any(record.exact is not None and record.oracle != "definition" for record in records):
        lines[ERROR.footnote] = None
    if any(record.invariance for record in records):
        lines[CHANGE.footnote] = None
    if any(record.contended for record in records):
        lines[CONTENTION_NOTE] = None
    return list(lines)


def _explain_errors(records: Sequence[Record]) -> list[str]:
    """What the columns of errors mean on these examples; nothing where no measure has a value."""
    done = [record for record in records if record.value is not None]
    if not done or is_draw(done[0]) is None:
        return []
    exact = "95 % interval: over random vectors; a dash: none were drawn, so the value is exact on these examples"
    if is_draw(done[0]):
        return [exact, f"{EXAMPLES_HEADING}: the standard error for another draw of as many examples"]
    whole = f"{exact}, which are all there are"
    if all(record.stderr_examples is None for record in done):
        return [whole]
    return [whole, f"{EXAMPLES_HEADING}: the standard error for as many other examples of the same distribution"]


def _print(text: str, console: Console) -> None:
    """Print one paragraph; outside a terminal, one line."""
    console.print(Text(plain_text(text, 1000)), soft_wrap=not console.is_terminal)


def _draw_bars(parts: Mapping[str, Mapping[str, float]]) -> Figure:
    """One panel per measure: the share of each parameter in the sum of all parts, in the network's order."""
    measures = list(dict.fromkeys(label for row in parts.values() for label in row))
    height = 1.1 + 0.2 * len(parts)
    figure = Figure(figsize=(2.2 + 2.3 * len(measures), height), dpi=150, layout="constrained")
    grid = figure.subplots(1, len(measures), squeeze=False, sharey=True)[0]
    for measure, axes in zip(measures, grid, strict=True):
        values = [row.get(measure, 0.0) for row in parts.values()]
        total = sum(abs(value) for value in values) or 1.0
        axes.barh(range(len(parts)), [100 * value / total for value in values], color="#31688e")
        axes.set_title(drawable_text(measure, 40), fontsize=8, parse_math=False)
        axes.set_xlabel("% of the sum", fontsize=8)
        _style_axes(axes)
    grid[0].set_yticks(range(len(parts)), [drawable_text(name, 40) for name in parts], fontsize=7, parse_math=False)
    grid[0].invert_yaxis()
    return figure


def _draw_curves(states: States, *, joined: bool) -> Figure:
    """One panel per measure over the states in their order, with its interval where there is one.

    joined: whether the states are points of one curve; otherwise they are points without a line.
    """
    measures = list(dict.fromkeys(label for records in states.values() for label in records))
    figure = Figure(figsize=(5.2, 0.6 + 1.7 * len(measures)), dpi=150, layout="constrained")
    grid = figure.subplots(len(measures), 1, squeeze=False, sharex=True)[:, 0]
    barred = False
    for label, axes in zip(measures, grid, strict=True):
        found = [(at, records[label]) for at, records in enumerate(states.values()) if label in records]
        known = [(at, record, record.value) for at, record in found if record.value is not None]
        axes.plot(
            [at for at, _, _ in known],
            [value for _, _, value in known],
            marker="o",
            markersize=3,
            linestyle="-" if joined else "none",
            color="#31688e",
        )
        spread = [(at, interval) for at, record, _ in known if (interval := combined_interval(record)) is not None]
        axes.vlines(
            [at for at, _ in spread],
            [low for _, (low, _) in spread],
            [high for _, (_, high) in spread],
            color="#31688e",
            alpha=0.5,
        )
        barred = barred or bool(spread)
        values = [value for _, _, value in known]
        if values and min(values) > 0 and max(values) > 10 * min(values):
            axes.set_yscale("log")
        axes.set_title(drawable_text(label, 60), fontsize=8, parse_math=False)
        _style_axes(axes)
    if barred:
        figure.supxlabel("bars: 95 % intervals over random vectors and the draw of the examples", fontsize=7)
    names = [drawable_text(Path(source).name, 24) for source in states]
    step = max(1, len(names) // 12)
    grid[-1].set_xticks(
        range(0, len(names), step), names[::step], rotation=45, ha="right", fontsize=7, parse_math=False
    )
    return figure


def _style_axes(axes: Axes) -> None:
    axes.tick_params(labelsize=7)
    axes.grid(visible=True, color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
