"""Reading, selecting and merging the records of files of JSON lines."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sharpbench.core.jsonl import JsonlFile, read_lines, unreadable_file
from sharpbench.core.record import CHECKS, Record, Scalars, Status, is_redefined
from sharpbench.errors import InvalidInput

if TYPE_CHECKING:
    import pandas as pd

RECORDS = "records.jsonl"
"""The name of the file in an output folder."""
REPEATED_FIELDS = (
    *("configuration", "recipe", "truth", "data", "timed_environment", "training_curve", "outcomes", "environment"),
)
"""Fields that have the same value in many records."""
KEY_PATTERN = re.compile(rb'\{"key":"([0-9a-zA-Z]+)",')
# A single match in a line is the field: quotes within texts are escaped, and the same text in a mapping matches twice.
STATUS_PATTERN = re.compile(rb'"device":"[^"\\]*","status":"(ok|failed|skipped|timeout|oom)","reason":')
CHECKS_PATTERN = re.compile(rb'"checks":\{((?:"[a-z]+":null,?)*)\},"timed_environment":')
"""The checks of a line, where none of them has a reason."""
OUTCOMES_PATTERN = re.compile(rb'"outcomes":\{((?:"[a-z0-9-]+":[^,"{}]+,?)*)\},"environment":')
"""The outcomes of a line, names and numbers."""
NAME_PATTERN = re.compile(rb'"([a-z0-9-]+)":')
LINE_END = re.compile(rb',"schema":([678])\}\n$')
"""The end of a line that is not parsed, of a schema that has the fields above in the order of these patterns."""


def _parse_line(path: Path, number: int, line: bytes) -> Record:
    try:
        text = line.decode("utf-8").rstrip("\n")
    except UnicodeDecodeError as error:
        raise unreadable_file(path, error) from None
    return Record.from_json(text, where=f"{path}:{number}")


def iterate_records(path: Path, *, whole: bool = False) -> Iterator[Record]:
    """The records of a file of JSON lines, in order; what many records repeat is held in memory once.

    Args:
        whole: omit a last line without an end, as a killed run may leave it; the next run cuts it off.
    Raises:
        InvalidInput: for a line that is not a record, with its number.
    """
    held: dict[str, Scalars] = {}
    for number, line in read_lines(path, whole=whole):
        yield _share_values(_parse_line(path, number, line), held)


def _share_values(record: Record, held: dict[str, Scalars]) -> Record:
    """The same record, sharing mappings and texts with earlier ones."""
    for name in REPEATED_FIELDS:
        mapping = getattr(record, name)
        object.__setattr__(record, name, held.setdefault(repr(mapping), mapping))
    for name in ("measure", "label", "dtype", "device", "status", "time"):
        object.__setattr__(record, name, sys.intern(getattr(record, name)))
    for name in ("details", "parts"):
        mapping = getattr(record, name)
        object.__setattr__(record, name, {sys.intern(key): value for key, value in mapping.items()})
    return record


@dataclass(frozen=True, slots=True)
class CellEnd:
    """How a cell ended, by its last record: its status, the checks that were tried, and those that failed.

    outcomes: the names of the outcomes of its network that the record holds.
    """

    status: Status
    tried: frozenset[str] = frozenset()
    failed: frozenset[str] = frozenset()
    outcomes: frozenset[str] = frozenset()

    @staticmethod
    def of_record(record: Record) -> CellEnd:
        """The end that the record states."""
        return CellEnd(record.status, record.tried, frozenset(record.failed_checks), frozenset(record.outcomes))


def read_cell_ends(path: Path) -> dict[str, CellEnd]:
    """The end of each cell by its last record, from the whole lines of a file; much faster than reading the records.

    A line of schema 6 and later is not parsed unless a check has a reason; any other line is.
    """
    last: dict[str, CellEnd] = {}
    known: dict[tuple[bytes, bytes, bytes, tuple[bytes, ...]], CellEnd] = {}
    for number, line in read_lines(path, whole=True):
        key, status, checks = KEY_PATTERN.match(line), STATUS_PATTERN.findall(line), CHECKS_PATTERN.findall(line)
        outcomes, end = OUTCOMES_PATTERN.findall(line), LINE_END.search(line)
        single = len(status) == len(checks) == len(outcomes) == 1
        if key is None or end is None or not single:
            record = _parse_line(path, number, line)
            last[record.key] = CellEnd.of_record(record)
            continue
        found = status[0], checks[0], end[1], tuple(NAME_PATTERN.findall(outcomes[0]))
        if found not in known:
            tried = frozenset(name for name in CHECKS if f'"{name}":'.encode() in found[1])
            names = frozenset(name.decode() for name in found[3])
            names = frozenset(name for name in names if not is_redefined(name, int(found[2])))
            known[found] = CellEnd(found[0].decode(), tried, outcomes=names)
        last[key[1].decode()] = known[found]
    return last


def read_records(path: str | Path) -> pd.DataFrame:
    """A table with one row per record under `path`.

    Mappings become columns with dotted names: `recipe.model`, `truth.gap`, `details.method`. The training curve is one
    column of lists of pairs, epoch and loss. Records of earlier versions are converted.

    Args:
        path: a file of JSON lines, also compressed (.xz) as the published ones, or the output folder of a run.

    Raises:
        InvalidInput: where there is no such file, and for a line that is not a record, with its number.

    >>> sharpbench.read_records("no/such/folder")
    Traceback (most recent call last):
    sharpbench.errors.InvalidInput: no records at no/such/folder; run `sharpbench run --output no/such/folder` first
    """
    import pandas as pd

    return pd.json_normalize([_table_row(record) for record in iterate_records(locate_records(path))])


def _table_row(record: Record) -> dict[str, Any]:
    curve = [(int(epoch), loss) for epoch, loss in record.training_curve.items()]
    return {**record.row(), "training_curve": curve}


def locate_records(path: str | Path) -> Path:
    """The file of records at `path`, a file or the output folder of a run. Raises InvalidInput where there is none."""
    place = Path(path)
    file = place / RECORDS if place.is_dir() else place
    if not file.exists():
        raise InvalidInput(f"no records at {file}; run `sharpbench run --output {place}` first")
    return file


def read_last_records(path: Path) -> list[Record]:
    """The last record of each cell, in the order of the first ones; a torn last line is omitted."""
    return list({record.key: record for record in iterate_records(path, whole=True)}.values())


FINISHED = ("ok", "skipped")
"""Statuses of a cell that is not run again."""


@dataclass(frozen=True, slots=True)
class Merged:
    """What a merge did: records read, records added to the output, and cells that it holds now, with their records."""

    read: int
    added: int
    cells: int
    records: tuple[Record, ...] = field(default=(), repr=False, compare=False)


def merge_records(sources: Sequence[Path], output: Path) -> Merged:
    """Add the records of `sources`, which are not changed, to those that the folder `output` may hold already.

    A source is an output folder of a run, or a file of records, also compressed.

    Of several records of one cell a finished one precedes a failed one, then the one with the most checks, then
    with the most outcomes, then the latest one. Records of earlier versions are converted; a torn last line is omitted.

    Raises:
        InvalidInput: for a source without records, and for one that is that of `output` itself.
    """
    path = output / RECORDS
    files = {source: source if source.is_file() else source / RECORDS for source in sources}
    for source, there in files.items():
        if not there.is_file():
            raise InvalidInput(f"no records at {there}; name folders that `sharpbench run` wrote, or files of records")
        if there.resolve() == path.resolve():
            raise InvalidInput(f"{source} is merged into itself; name another --output")
    with JsonlFile(path) as file:
        held = {record.key: record for record in iterate_records(path)}
        best, read = dict(held), 0
        for source in files.values():
            last = {record.key: record for record in iterate_records(source, whole=True)}
            read += len(last)
            for key, record in last.items():
                if key not in best or _precedence(record) > _precedence(best[key]):
                    best[key] = record
        added = [record for key, record in best.items() if record is not held.get(key)]
        file.append(*added)
    return Merged(read, len(added), len(best), tuple(best.values()))


def _precedence(record: Record) -> tuple[bool, int, int, str]:
    """Finished above failed, then more checks above fewer, then more outcomes, then later above earlier.

    Times are UTC in ISO format.
    """
    return record.status in FINISHED, len(record.tried), len(record.outcomes), record.time
