"""How commands end: exit statuses, and the lines that several commands end with."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import typer

from sharpbench.errors import InvalidInput

EXIT_FAILED, EXIT_INVALID, EXIT_CLAIMED, EXIT_REFUTED, EXIT_INTERRUPTED = 1, 2, 3, 4, 130


def failure_status(statuses: Iterable[str]) -> int:
    """The exit status for records with these statuses: 0 if all are ok or skipped, else 1."""
    return EXIT_FAILED if any(status not in ("ok", "skipped") for status in statuses) else 0


def report_interrupt(remedy: str = "; give the same command again to go on") -> int:
    """Print one line on stderr that the command was interrupted, and return the exit status for it."""
    typer.echo(f"interrupted{remedy}", err=True)
    return EXIT_INTERRUPTED


def unwritable(output: Path, error: OSError) -> InvalidInput:
    """The error of an --output that cannot be written into."""
    return InvalidInput(f"cannot write into '{output}' ({error.strerror}); make room, or choose another --output")
