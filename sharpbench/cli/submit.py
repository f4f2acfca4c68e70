"""`sharpbench submit`: packs the records of a run into one file for a pull request."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sharpbench.cli.options import PluginOption
from sharpbench.errors import InvalidInput
from sharpbench.files import atomic_write

FOLDER = Path("leaderboard") / "submissions"


def submit(
    results: Annotated[Path, typer.Argument(help="Folder that --output of `run` named, or its records.jsonl.")],
    name: Annotated[
        str,
        typer.Option(help="Name of the submission: lower-case letters, digits and hyphens; the file is NAME.jsonl."),
    ],
    output: Annotated[
        Path | None, typer.Option(help="File to write.", show_default="leaderboard/submissions/NAME.jsonl")
    ] = None,
    author: Annotated[str, typer.Option(help="Who submits; shown on the page.")] = "",
    contact: Annotated[str, typer.Option(help="How to reach the author; public.")] = "",
    url: Annotated[str, typer.Option(help="Address of a paper or of code, http or https.")] = "",
    note: Annotated[str, typer.Option(help="One line about the submission.")] = "",
    plugin: PluginOption = None,
) -> None:
    """Pack the records of a run into one file for a pull request.

    The last record of each cell is packed. A record that no leaderboard accepts is refused, with its file and line.
    Then open a pull request with the file; `sharpbench verify` shows what others will find.
    """
    from sharpbench.leaderboard.submissions import SUFFIX, pack_submission, read_submission
    from sharpbench.leaderboard.submissions.manifest import check_name

    check_name(name)
    path = output or FOLDER / (name + SUFFIX)
    if path.name != name + SUFFIX:
        raise InvalidInput(f"output '{path}' must be called {name}{SUFFIX}, after the submission")
    texts = {"author": author, "contact": contact, "url": url, "note": note}
    from sharpbench.cli.bars import announce_step

    with announce_step("packing the records"):
        text = pack_submission(results, name=name, texts=texts, plugins=tuple(plugin or ()))
        _write(path, text)
        found = read_submission(path)
    measures, records = len(found.manifest.measures), len(found.records)
    typer.echo(f"{path}: {records} records of {measures} measures; next: sharpbench verify {path}")


def _write(path: Path, text: str) -> None:
    try:
        atomic_write(path, text)
    except OSError as error:
        raise InvalidInput(f"cannot write {path}: {error.strerror}; choose another --output") from None
