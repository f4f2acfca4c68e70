"""What `run --population` refuses, and what it says about networks that were trained elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from sharpbench.cli.options import given_options
from sharpbench.errors import InvalidInput, one_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sharpbench.core.record import Record
    from sharpbench.runner.cell import Cell

MAX_NOTES = 3
"""Lines about the choice of weights from files."""
DESCRIBED = ("models", "dataset", "cohort", "outcomes")
"""Options that a description answers."""


def refuse_recipe_options(context: typer.Context) -> None:
    """Raise InvalidInput where options say how networks are trained next to --population, which says where they are."""
    given = given_options(context)
    if named := [given[name] for name in DESCRIBED if name in given]:
        raise InvalidInput(f"--population says what {', '.join(named)} would say; leave out {' and '.join(named)}")


def echo_choices(cells: Sequence[Cell]) -> None:
    """Print on stderr what was chosen from the files of networks that were trained elsewhere."""
    networks = dict.fromkeys(cell.recipe for cell in cells)
    notes = [note for network in networks for note in getattr(network, "notes", ())]
    for note in notes[:MAX_NOTES]:
        typer.echo(one_line(note), err=True)
    if len(notes) > MAX_NOTES:
        typer.echo(f"{len(notes) - MAX_NOTES} more such lines", err=True)


def echo_shortfalls(records: Sequence[Record]) -> None:
    """Print a warning on stderr where networks are less accurate on the examples than their table claims."""
    from sharpbench.runner.foreign.claims import describe_shortfalls

    if warning := describe_shortfalls(records):
        typer.echo(one_line(warning), err=True)
