"""Data: what the site's script shows, as plain values of JSON: tables of texts with their sort values, and points."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from sharpbench.analysis.scores import Score
from sharpbench.leaderboard.board import Board, Leaderboard
from sharpbench.leaderboard.pages.exactness import coverage
from sharpbench.leaderboard.pages.headline import heading, judged, lines, ranking_tau, standing_text, summary
from sharpbench.report.format import (
    KINDS,
    MISSING,
    format_error,
    format_factor,
    information_text,
    interval_text,
    format_memory,
    format_number,
    plain_text,
    rank_text,
    format_share,
    tau_text,
)
from sharpbench.report.markdown import letters_of
from collections.abc import Sequence
from typing import Any
from sharpbench.analysis.correlations import varied_hyperparameters
from sharpbench.core.fields import Scalar
from sharpbench.leaderboard.pages.links import page_of
from sharpbench.report.format import plain_text


# Tables: the site's, as texts with the values by which they are sorted; the texts are those of the pages.

Cell = tuple[str, float | None]
"""A text, and the number by which it is sorted; None: by the text, and a dash last."""


@dataclass(frozen=True, slots=True)
class Column:
    """A heading. number: set to the right; down: sorted from the largest first; heat: coloured, -1 to 1.

    board: the number of the board that the column is about, None where it is about all.
    """

    title: str
    tip: str = ""
    number: bool = True
    down: bool = False
    heat: bool = False
    board: int | None = None


@dataclass(frozen=True, slots=True)
class TableRow:
    """A row: its name, its measure (None: a baseline), the boards that it is about, a cell a column behind the name.

    mark: a word about its entry, shown beside the name.
    """

    name: str
    measure: str | None
    mark: str | None
    boards: tuple[int, ...]
    cells: tuple[Cell, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """One view of the site."""

    id: str
    title: str
    note: str
    columns: tuple[Column, ...]
    lines: tuple[TableRow, ...]


POPULATION = Column("population", "collection: model on data set", number=False)


def overview(leaderboard: Leaderboard) -> Table:
    """The headline table, with a column for every board."""
    shown = judged(leaderboard)
    boards = [_about(leaderboard.boards[index], index) for index in shown]
    further = (
        Column("worst sign error", "the worst single change of a hyperparameter anywhere; 0.5 is chance"),
        Column("relative error", "the largest against the oracle anywhere"),
        Column("gradients", "cost, in forward and backward passes over the data"),
        Column("unchanged by", "rewrites of the same function that changed nothing", number=False),
    )
    rows = []
    for row in lines(leaderboard):
        found = summary(row.counted)
        values = (found.worst, found.error, found.costs[0] if found.costs else None, None)
        taus = [(index, row.scores.get(index)) for index in shown]
        cells: list[Cell] = [
            (standing_text(leaderboard, index, score), None if score is None else ranking_tau(score))
            for index, score in taus
        ]
        cells += zip(found.texts, values, strict=True)
        rows.append(TableRow(row.name, row.measure, row.mark, tuple(sorted(row.scores)), tuple(cells)))
    note = (
        "Kendall's tau of each measure with the generalization gap, a column a population: within cells of fixed "
        "hyperparameters, or, where a heading says marginal, over all networks, which flatters. In brackets the rank, "
        "shared where measures cannot be told apart. What others submitted stands in columns of its own and enters no "
        "summary of a measure that we measured."
    )
    return Table("overview", "Overview", note, (*boards, *further), tuple(rows))


def _about(board: Board, index: int) -> Column:
    """The column of one board in the headline table."""
    tip = f"tau by which {board.title} ranks, and the rank"
    return Column(heading(board), tip, down=True, heat=True, board=index)


def correlations(leaderboard: Leaderboard) -> Table:
    """Every number of the protocol, a row a measure or baseline on a board."""
    columns = (
        POPULATION,
        Column("rank", "shared where measures cannot be told apart"),
        Column("n", "networks that enter tau", down=True),
        Column("tau", "Kendall's, over all networks", down=True, heat=True),
        Column("within cells", "tau among networks of equal hyperparameters", down=True, heat=True),
        Column("Psi", "tau along one hyperparameter at a time", down=True, heat=True),
        Column("information", "what is left when two hyperparameters are known", down=True),
        Column("worst sign error", "0.5 is chance"),
        Column("mean", "mean sign error"),
        Column("Spearman", "", down=True, heat=True),
        Column("coverage", "networks with a value, of all", down=True),
    )
    note = "Every number of the protocol with its 95 % interval; each population is judged by itself."
    return Table("correlation", "Correlation", note, columns, _lines(leaderboard, _correlation, baselines=True))


def _correlation(board: Board, score: Score) -> list[Cell] | None:
    if not board.judged:
        return None
    judged = score.judgement
    known, signs = judged.information, judged.signs
    taus = (score.marginal, score.within, judged.granulated.overall)
    done = (f"{score.ok}/{score.total}", score.ok / score.total) if score.kind == "measure" else ("", None)
    return [
        ("partial" if score.partial else rank_text(score), None if score.rank is None else float(score.rank)),
        (str(score.networks), float(score.networks)),
        *((tau_text(tau), tau.value) for tau in taus),
        (information_text(known) + interval_text(known.interval), known.value),
        (format_share(signs.worst) + interval_text(signs.worst_interval), signs.worst),
        (format_share(signs.mean) + interval_text(signs.mean_interval), signs.mean),
        (tau_text(judged.spearman), judged.spearman.value),
        done,
    ]


def errors(leaderboard: Leaderboard) -> Table:
    """Values against oracles."""
    columns = (
        POPULATION,
        Column("relative error", "the largest"),
        Column("median", "of the relative errors"),
        Column("networks", "on which it was compared", down=True),
        Column("oracle", "what the value was compared with", number=False),
        Column("intervals held", "of those stated where the truth is known", down=True),
    )
    note = (
        "|value - exact| / |exact|, against the measure's own oracle in float64, on a few networks of each population."
    )
    return Table("exactness", "Exactness", note, columns, _lines(leaderboard, _errors))


def _errors(board: Board, score: Score) -> list[Cell] | None:
    found, held = score.exactness, coverage(board.row(score).records.values())
    stated = (f"{held.held} of {held.stated}", held.held / held.stated) if held.stated else (MISSING, None)
    if found is None:
        return None
    shown = [(format_error(found.largest), found.largest), (format_error(found.median), found.median)]
    return [*shown, (str(found.networks), float(found.networks)), (found.oracle, None), stated]


def costs(leaderboard: Leaderboard) -> Table:
    """Gradients and memory, and a column of seconds an environment."""
    letters = letters_of(record for board in leaderboard.boards for record in board.records)
    timed = {timing.environment for board in leaderboard.boards for row in board.measured for timing in row.timings}
    places = sorted(timed)
    columns = (
        POPULATION,
        Column("gradients", "seconds over those of one forward and backward pass over the data"),
        *(Column(f"seconds {letters.get(place, '')}".strip(), place) for place in places),
        Column("peak memory", "growth of the peak during the call"),
    )

    def cells(board: Board, score: Score) -> list[Cell] | None:
        if not score.timings:
            return None
        seconds = {timing.environment: timing.seconds for timing in score.timings}
        gradients, memories = (format_number(score.gradients), score.gradients), (format_memory(score.peak_bytes), score.peak_bytes)
        return [gradients, *((format_number(seconds.get(place)), seconds.get(place)) for place in places), memories]

    note = "Medians of one standalone call. Gradients travel between machines; seconds do not: "
    note += "; ".join(f"{letters.get(place, '')}: {plain_text(place, 400)}" for place in places)
    return Table("speed", "Speed", note, columns, _lines(leaderboard, cells))


def changes(leaderboard: Leaderboard) -> Table:
    """Factors of change under rewrites of the same function."""
    present = {kind for board in leaderboard.boards for score in board.measured for kind in score.invariance}
    kinds = [kind for kind in KINDS if kind in present]
    columns = (POPULATION, *(Column(f"{kind} ×", "the largest factor of change; 1: invariant") for kind in kinds))

    def cells(board: Board, score: Score) -> list[Cell] | None:
        if not score.invariance:
            return None
        return [(format_factor(score.invariance, kind), score.invariance.get(kind)) for kind in kinds]

    note = "By how much the value changed when the weights were rewritten at random and the function stayed."
    return Table("invariance", "Invariance", note, columns, _lines(leaderboard, cells))


def _lines(
    leaderboard: Leaderboard, cells: Callable[[Board, Score], list[Cell] | None], *, baselines: bool = False
) -> tuple[TableRow, ...]:
    """A line for each score of which `cells` has any."""

    def found() -> Iterator[TableRow]:
        for index, board in enumerate(leaderboard.boards):
            for score in board.scores if baselines else board.measured:
                made = cells(board, score)
                if made is None:
                    continue
                measure = None if score.kind == "baseline" else board.measure(score)
                mark = None if measure is None else leaderboard.mark([(board, score)])
                yield TableRow(score.name, measure, mark, (index,), ((board.title, None), *made))

    return tuple(found())


TABLES = (overview, correlations, errors, costs, changes)
"""Views of the site, the headline first."""

NAME, TITLE = 80, 160
DIGITS = 6
"""Significant digits of points and sort values."""

ROW = ("name", "page", "mark", "point", "boards", "cells")
"""Fields of a row; without a page it is a baseline."""
PAGE, POINT = ROW.index("page"), ROW.index("point")

Json = dict[str, Any]


def board_data(leaderboard: Leaderboard) -> Json:
    """All that the script of the board needs.

    boards: their networks, with gap, reason of exclusion, hyperparameters. tables: columns, and rows of cells, each a
    text or [text, sort value]; row: the fields of a row. points: of a row on a board, a value a network (null where it
    has none), and its cost and error. What came from records is on one line and cut, but not escaped.
    """
    chosen = [(index, board, score) for index, board in enumerate(leaderboard.boards) for score in board.measured]
    points = {(index, score.name): place for place, (index, _, score) in enumerate(chosen)}
    return {
        "boards": [_board(board) for board in leaderboard.boards],
        "points": [_points(index, board, score) for index, board, score in chosen],
        "row": ROW,
        "tables": [_table(make(leaderboard), points) for make in TABLES],
    }


def board_part(whole: Json, page: str) -> Json:
    """Of all `board_data`, what the page of one measure needs: all tables but the headline, and null for other boards."""
    chosen = [place for place, point in enumerate(whole["points"]) if point["page"] == page]
    places = {old: new for new, old in enumerate(chosen)}
    points = [whole["points"][place] for place in chosen]
    used = {point["board"] for point in points}
    tables = [
        table | {"rows": [_pointing(row, places) for row in table["rows"] if row[PAGE] == page]}
        for table in whole["tables"][1:]
    ]
    boards = [board if index in used else None for index, board in enumerate(whole["boards"])]
    return {"boards": boards, "points": points, "row": ROW, "tables": tables}


def _board(board: Board) -> Json:
    networks = board.population.networks
    axes = {name: values for name, values in varied_hyperparameters(networks).items() if len(set(map(str, values))) > 1}
    return {
        "title": plain_text(board.title, TITLE),
        "gaps": [_rounded(network.gap) for network in networks],
        "out": [network.exclusion for network in networks],
        "seeds": [_short(network.recipe.get("seed")) for network in networks],
        "axes": {plain_text(name, NAME): [_short(value) for value in values] for name, values in axes.items()},
    }


def _points(index: int, board: Board, score: Score) -> Json:
    row = board.row(score)
    checked = score.gradients is not None and score.exactness is not None
    return {
        "board": index,
        "label": plain_text(score.name, NAME),
        "page": page_of(board.measure(score)),
        "values": [_rounded(row.value(network)) for network in board.population.networks],
        "cost": [_rounded(score.gradients), _rounded(score.exactness.largest)] if checked and score.exactness else None,
    }


def _table(table: Table, points: dict[tuple[int, str], int]) -> Json:
    return {
        "id": table.id,
        "title": table.title,
        "note": table.note,
        "columns": [_column(column) for column in table.columns],
        "rows": [_row(line, points) for line in table.lines],
    }


def _column(column: Column) -> Json:
    return {
        "title": plain_text(column.title, TITLE),
        "tip": column.tip,
        "number": column.number,
        "down": column.down,
        "heat": column.heat,
        "board": column.board,
    }


def _row(line: TableRow, points: dict[tuple[int, str], int]) -> list[Any]:
    """As `ROW` names them: there are many rows, so their fields are not named in each."""
    place = next((points[index, line.name] for index in line.boards if (index, line.name) in points), None)
    page = None if line.measure is None else page_of(line.measure)
    mark = None if line.mark is None else plain_text(line.mark, 20)
    return [plain_text(line.name, NAME), page, mark, place, list(line.boards), [_cell(*cell) for cell in line.cells]]


def _pointing(row: list[Any], places: dict[int, int]) -> list[Any]:
    return [*row[:POINT], places.get(row[POINT]), *row[POINT + 1 :]]


def _cell(text: str, sort: float | None) -> str | Sequence[str | float | None]:
    shown = plain_text(text, TITLE)
    return shown if sort is None else [shown, _rounded(sort)]


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.{DIGITS}g}")


def _short(value: Scalar) -> Scalar:
    return plain_text(value, NAME) if isinstance(value, str) else value
