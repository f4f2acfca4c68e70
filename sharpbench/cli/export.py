"""`sharpbench export`: the boards of a run's records as LaTeX, CSV or JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

JSON_DIGITS = 15
"""Decimals of the numbers of JSON, the most that pandas writes."""


def export(
    source: Annotated[Path, typer.Argument(help="Folder that --output of `run` named, or a file of records.")] = Path(
        "sharpbench-results"
    ),
    format: Annotated[
        Literal["latex", "csv", "json"],
        typer.Option(help="latex: values with intervals, for booktabs; csv and json: numbers of all digits."),
    ] = "latex",
    output: Annotated[Path | None, typer.Option(help="File to write.", show_default="standard output")] = None,
) -> int:
    """Export the boards of a run: the first table of each, for a paper or another program.

    Exit status: 0 exported, 2 no records, or a file that cannot be written.
    """
    from sharpbench.cli.bars import announce_step
    from sharpbench.cli.exits import unwritable
    from sharpbench.core.records import locate_records, read_last_records
    from sharpbench.errors import InvalidInput
    from sharpbench.files import atomic_write
    from sharpbench.report.escape import guard_formula
    from sharpbench.report.scored_boards import ScoredBoards

    path = locate_records(source)
    with announce_step(f"scoring the records of '{path}'"):
        boards = ScoredBoards.from_records(read_last_records(path))
        if not boards.scores:
            raise InvalidInput(f"no board can be made from {path}: it has no record of a trained network")
        frame = boards.to_frame()
        if format == "latex":
            text = boards.to_latex()
        elif format == "csv":
            guarded = frame.map(lambda cell: guard_formula(cell) if isinstance(cell, str) else cell)
            text = guarded.to_csv(index=False)
        else:
            text = frame.to_json(orient="records", indent=1, double_precision=JSON_DIGITS) + "\n"
    if output is None:
        typer.echo(text, nl=False)
        return 0
    try:
        atomic_write(output, text)
    except OSError as error:
        raise unwritable(output, error) from None
    typer.echo(f"{output} written")
    return 0
