"""Merging: the records of several folders in one, each cell once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sharpbench.errors import InvalidInput
from sharpbench.journal import Journal
from sharpbench.reading import RECORDS, iterate_records
from sharpbench.record import Record

FINISHED = ("ok", "skipped")


@dataclass(frozen=True, slots=True)
class Merged:
    """What a merge did: records read in all, those added to the output, and how many cells it holds now."""

    read: int
    added: int
    cells: int


def merge(folders: Sequence[Path], output: Path) -> Merged:
    """Bring the records of `folders`, which stay as they are, into `output`, which may hold some already.

    Of several records of one cell a finished one is taken before a failed one, and then the latest. Records of
    earlier versions are migrated; a torn last line is left out. Raises InvalidInput for a folder without records.
    """
    for folder in folders:
        if not (folder / RECORDS).is_file():
            raise InvalidInput(f"no records at {folder / RECORDS}; name folders that `sharpbench run` wrote")
        if folder.resolve() == output.resolve():
            raise InvalidInput(f"{folder} is merged into itself; name another --output")
    path = output / RECORDS
    with Journal(path) as file:
        there = {record.key: record for record in iterate_records(path)}
        best, read = dict(there), 0
        for folder in folders:
            last = {record.key: record for record in iterate_records(folder / RECORDS, whole=True)}
            read += len(last)
            for key, record in last.items():
                if key not in best or _worth(record) > _worth(best[key]):
                    best[key] = record
        added = [record for key, record in best.items() if record is not there.get(key)]
        file.append(*added)
    return Merged(read, len(added), len(best))


def _worth(record: Record) -> tuple[bool, str]:
    """Finished before failed, and the later before the earlier: times are UTC in ISO form."""
    return record.status in FINISHED, record.time
