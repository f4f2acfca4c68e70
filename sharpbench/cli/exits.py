"""How commands end: exit statuses, and the lines that several commands end with."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from sharpbench.errors import InvalidInput

if TYPE_CHECKING:
    from sharpbench.core.record import Record

EXIT_FAILED, EXIT_INVALID, EXIT_CLAIMED, EXIT_REFUTED, EXIT_UNFINISHED, EXIT_INTERRUPTED = 1, 2, 3, 4, 5, 130


class Interrupted(Exception):
    """Ctrl-C, with what the user can do next; the command ends in one line on stderr and exit status 130."""

    def __init__(self, remedy: str = "; give the same command again to go on") -> None:
        super().__init__(f"interrupted{remedy}")


def failure_status(statuses: Iterable[str]) -> int:
    """The exit status for records with these statuses: 0 if all are ok or skipped, else 1."""
    return EXIT_FAILED if any(status not in ("ok", "skipped") for status in statuses) else 0


def records_status(records: Iterable[Record]) -> int:
    """The exit status for records: 0 if all are ok or skipped and no check failed, else 1."""
    return EXIT_FAILED if any(record.failed_checks or failure_status([record.status]) for record in records) else 0


def unwritable(output: Path, error: OSError) -> InvalidInput:
    """The error of an --output that cannot be written into."""
    return InvalidInput(f"cannot write into '{output}' ({error.strerror}); make room, or choose another --output")
