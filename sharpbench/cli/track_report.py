"""`sharpbench track-report`: the table and the figure of a tracker's file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sharpbench.version import __version__

PAGE = "TRACK.md"


def track_report(
    file: Annotated[Path, typer.Argument(help="A .jsonl or .csv file that a sharpbench.Tracker wrote.")],
    output: Annotated[Path, typer.Option(help=f"Folder of {PAGE} and the figure.")] = Path("sharpbench-results/track"),
) -> int:
    """Report how sharpness changed while a network was trained, from the file of a tracker.

    Exit status: 0 reported, 2 bad usage or a file that is not a tracker's.
    """
    from rich.console import Console

    from sharpbench.files import user_path
    from sharpbench.report.page import show_page, write_page
    from sharpbench.tracking.report import describe_rows
    from sharpbench.tracking.rows import read_rows

    path = user_path(file)
    page = describe_rows(read_rows(path), path.name)
    written = write_page(page, output, name=PAGE, version=__version__, command="sharpbench track-report")
    show_page(page, Console())
    typer.echo(", ".join(str(each) for each in written if each.suffix != ".png"))
    return 0
