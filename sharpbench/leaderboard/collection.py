"""Collection: the records of one file of published results, read whole and checked before anything is made of them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sharpbench.core.record import Record
from sharpbench.errors import InvalidInput, short
from sharpbench.leaderboard.integrity import Witness

SUFFIX = ".jsonl"
NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
LONGEST = 60


@dataclass(frozen=True, slots=True)
class Collection:
    """The records of NAME.jsonl.

    left_out: how many of its lines are not for a leaderboard (`data.leaderboard` false).
    """

    name: str
    records: tuple[Record, ...]
    left_out: int


def read(folder: Path) -> tuple[Collection, ...]:
    """The collections in `folder`, by name; those without a record for a leaderboard hold none.

    Raises InvalidInput, one line with file and line number, for a line that is not whole, no record, of another
    schema, stands twice, or does not agree with itself or with others.
    """
    paths = sorted(folder.glob(f"*{SUFFIX}")) if folder.is_dir() else []
    if not paths:
        raise InvalidInput(f"no record files in {folder}; put *{SUFFIX} there, or name their folder with --results")
    found = tuple(_collection(path) for path in paths)
    if not any(each.records for each in found):
        raise InvalidInput(f"no records for a leaderboard in {folder}; those of `sharpbench run` are")
    return found


def _collection(path: Path) -> Collection:
    if not NAME.fullmatch(path.stem) or len(path.stem) > LONGEST:
        raise InvalidInput(
            f"{path}: '{short(path.stem)}' is no name of a collection; use words of a-z and 0-9 with hyphens between, "
            f"at most {LONGEST} characters"
        )
    witness, records, left_out, seen = Witness(), list[Record](), 0, dict[str, str]()
    for where, line in _lines(path):
        record = Record.from_json(line, where=where)
        if record.data.get("leaderboard") is False:
            left_out += 1
            continue
        if record.key in seen:
            raise InvalidInput(
                f"{where}: the cell of this line stands already at {seen[record.key]}, as where it was run "
                "again; `sharpbench merge` into a new folder keeps one record of each"
            )
        seen[record.key] = where
        witness.check(record, where)
        records.append(record)
    return Collection(path.stem, tuple(records), left_out)


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    """Each line with its place; a last one that does not end is refused."""
    try:
        lines = path.read_bytes().decode("utf-8").split("\n")
    except UnicodeDecodeError as error:
        before = path.read_bytes()[: error.start].count(b"\n") + 1
        raise InvalidInput(f"{path}:{before}: not UTF-8 ({error.reason}); restore the file") from None
    except OSError as error:
        raise InvalidInput(f"cannot read {path}: {error.strerror}; restore it") from None
    for number, line in enumerate(lines[:-1], start=1):
        if not line.strip():
            raise InvalidInput(f"{path}:{number}: an empty line; delete it")
        yield f"{path}:{number}", line
    if lines[-1]:
        raise InvalidInput(f"{path}:{len(lines)}: the line does not end: it is truncated; restore the file")
