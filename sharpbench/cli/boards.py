"""The boards of records, printed and written into a folder, as several commands do."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import typer

from sharpbench.cli.exits import unwritable

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from sharpbench.core.record import Record
    from sharpbench.report.scored_boards import ScoredBoards
    from sharpbench.runner.cell import Cell
    from sharpbench.runner.run import RunPlan


def chosen_outcomes(given: str, run_plan: RunPlan) -> list[str]:
    """The names of the outcomes of a run that was planned with `given`, in the order of the catalogue."""
    from sharpbench.training.outcomes import OUTCOMES

    named = {name.strip() for name in given.split(",")}
    found = {name for cell in run_plan.cells[:1] for name in cell.outcomes}
    return [name for name, each in OUTCOMES.items() if name in named | found or ("all" in named and each.in_truth)]


def stated_outcomes(records: Sequence[Record]) -> list[str]:
    """The gap, and the names of the outcomes that the records state, in the order of the catalogue."""
    from sharpbench.training.outcomes import OUTCOMES

    stated = {name for record in records for name in record.outcomes}
    return [name for name in OUTCOMES if name == "gap" or name in stated]


def last_records(cells: Sequence[Cell], path: Path, *, parts: bool = True) -> list[Record]:
    """The last record of each cell, in the order of the plan, with the population that the plan assigns to it.

    parts: keep what each parameter contributes, which is most of a record and which no leaderboard shows.
    """
    from sharpbench.core.records import iterate_records
    from sharpbench.runner.cell_record import with_plan

    planned = {cell.key: cell for cell in cells}
    last: dict[str, Record] = {}
    for record in iterate_records(path):
        if record.key in planned:
            latest = with_plan(record, planned[record.key])
            last[record.key] = latest if parts or not latest.parts else replace(latest, parts={})
    return [last[key] for key in planned if key in last]


def write_outcomes(records: Sequence[Record], output: Path, names: Sequence[str], *, full: bool) -> None:
    """Write and print the leaderboard of each outcome; of several, also a page with one table for all.

    The headline scores are written where one of the populations enters them.
    """
    from sharpbench.files import atomic_write
    from sharpbench.report.headline_json import HEADLINE, headline_json
    from sharpbench.report.outcome_table import OUTCOMES_PAGE, outcome_page

    boards = [write_leaderboard(records, output, full=full, outcome=name) for name in names]
    headline = headline_json(boards[0].populations)
    try:
        if len(boards) > 1:
            path = output / OUTCOMES_PAGE
            atomic_write(path, outcome_page(boards))
            typer.echo(f"all outcomes: {path}")
        if headline is None:
            (output / HEADLINE).unlink(missing_ok=True)  # of fewer records, by which a population entered
        else:
            atomic_write(output / HEADLINE, headline)
            typer.echo(f"headline scores: {output / HEADLINE}")
    except OSError as error:
        raise unwritable(output, error) from None


def write_leaderboard(records: Sequence[Record], output: Path, *, full: bool, outcome: str = "gap") -> ScoredBoards:
    """Write the leaderboard and its plots into the output folder, print it, and return it.

    outcome: what measures are judged by; one other than the gap has its own folder and one figure.
    """
    from sharpbench.cli.bars import announce_step
    from sharpbench.report.format import OutcomeLabel
    from sharpbench.report.scored_boards import ScoredBoards
    from sharpbench.training.outcomes import OUTCOMES

    label = OutcomeLabel(outcome, OUTCOMES[outcome].meaning)
    folder = output if outcome == "gap" else output / outcome
    with announce_step(f"scoring by {outcome}"):
        boards = ScoredBoards.from_records(records, label)
    write_boards(boards, folder, full=full, overview_only=outcome != "gap")
    return boards


def write_boards(boards: ScoredBoards, output: Path, *, full: bool, overview_only: bool = False) -> None:
    """Write the boards and their plots into the output folder, and print them.

    Args:
        full: print all tables.
        overview_only: one figure of all measures, and none of each.
    """
    from rich.console import Console

    from sharpbench.cli.bars import announce_step
    from sharpbench.report.scored_boards import PAGE, PLOTS

    try:
        with announce_step("writing the leaderboard"):
            boards.write(output, overview_only=overview_only)
    except OSError as error:
        raise unwritable(output, error) from None
    boards.show(Console(), full=full)
    if not full:
        typer.echo("more columns: --full; what a measure is: sharpbench info MEASURE")
    typer.echo(f"{output / PAGE}, plots in {output / PLOTS}")
