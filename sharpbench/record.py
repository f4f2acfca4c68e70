"""Record: one row of results, and the JSON lines file that holds them."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Protocol, Self, get_args

from sharpbench.contract import Scalar, is_scalar
from sharpbench.errors import InvalidInput
from sharpbench.migration import SCHEMA, migrated

if TYPE_CHECKING:
    import pandas as pd

RECORDS = "records.jsonl"
"""The name of the file in an output folder."""
Status = Literal["ok", "failed", "skipped", "timeout", "oom"]
Scalars = Mapping[str, Scalar]
BLOCK = 2**16
PATIENCE = 0.5
"""Seconds for which a lock is asked for: whoever looks whether a run is alive holds it for an instant."""
LONGEST_REASON, LONGEST_CAUSE = 2000, 1900
"""Characters of a reason, and of what was raised; the difference is for what engines say behind it."""
REPEATED = ("configuration", "recipe", "truth", "data", "environment")
"""The fields of which many records hold the same."""
KEY = re.compile(rb'\{"key":"([0-9a-zA-Z]+)",')
# Once in a line, it is the field: quotes inside of texts are escaped, and a mapping that holds the same makes it twice.
STATUS = re.compile(rb'"device":"[^"\\]*","status":"(ok|failed|skipped|timeout|oom)","reason":')
END = f',"schema":{SCHEMA}}}\n'.encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One measure on one trained network: everything a leaderboard needs, and nothing that it must look up.

    key: content hash of the cell (measure and its version, recipe, data, dtype, device kind, seed).
    measure: its name; label: name and hyperparameters that differ from their defaults; configuration: all.
    recipe: how the network was trained; truth: what came out (losses, accuracies, gap, fitted, ...).
    value, stderr, low, high: the estimate and its 95 % interval. status other than ok: reason says why.
    shared_seconds: what the cell took beside the others of its network, shared work charged to the first.
    seconds, gradients, peak_bytes: one standalone call on a fresh subject; seconds over the time of one
        full-data forward and backward in the same process; growth of the peak memory. None: not timed.
    invariance: kind of rewrite of the same function -> the largest factor by which the value changed, see
        `invariance`; empty where that was not looked into.
    exact, oracle: what the value should be and how that was found; None where it was not checked.
    contended: the standalone call was timed while other work took processors from it, so that no table shows its
        seconds. pieces: among how many processes the batches were divided. printed: the end of what the measure
        printed, where that was caught.
    Raises ValueError for a field of another type, a nested mapping, a number that is not finite: what could
    be written and then not be read again.
    """

    key: str
    measure: str
    label: str
    configuration: Scalars
    recipe: Scalars
    truth: Scalars
    data: Scalars
    seed: int
    dtype: str
    device: str
    status: Status
    reason: str | None = None
    value: float | None = None
    stderr: float | None = None
    low: float | None = None
    high: float | None = None
    probes: int = 0
    converged: bool = True
    details: Scalars = field(default_factory=dict)
    parts: Mapping[str, float] = field(default_factory=dict)
    shared_seconds: float | None = None
    seconds: float | None = None
    gradients: float | None = None
    peak_bytes: int | None = None
    exact: float | None = None
    oracle: str | None = None
    invariance: Mapping[str, float | None] = field(default_factory=dict)
    contended: bool = False
    pieces: int = 1
    printed: str | None = None
    environment: Scalars = field(default_factory=dict)
    time: str = ""
    schema: int = SCHEMA

    def __post_init__(self) -> None:
        for item in fields(self):
            _check(item.name, getattr(self, item.name))
        if self.status not in get_args(Status):
            raise ValueError(f"status {self.status!r:.80} is none of {', '.join(get_args(Status))}")
        if self.status == "ok" and self.value is None:
            raise ValueError("status ok without a value")

    def to_json(self) -> str:
        """One line of JSON, keys in the order of the fields."""
        return json.dumps(asdict(self), allow_nan=False, ensure_ascii=False, separators=(",", ":"))

    @staticmethod
    def from_json(line: str, *, where: str) -> Record:
        """The record on `line`, migrated where an earlier version wrote it; `where` names it in errors."""
        try:
            row = json.loads(line, parse_constant=_refuse_constant)
        except (ValueError, RecursionError) as error:
            raise InvalidInput(f"{where}: not a JSON record ({error}); delete the line or restore the file") from None
        try:
            row = migrated(row)
        except ValueError as error:
            raise InvalidInput(f"{where}: {error}") from None
        expected = {item.name for item in fields(Record)}
        if set(row) != expected:
            odd = ", ".join(sorted(set(row) ^ expected))
            raise InvalidInput(f"{where}: missing or unknown fields: {odd}; delete the line or restore the file")
        try:
            return Record(**row)
        except ValueError as error:
            raise InvalidInput(f"{where}: {error}; delete the line or restore the file") from None


def _refuse_constant(text: str) -> float:
    raise ValueError(f"{text} is no number")


# The JSON types of each field; a bool is no number here although Python says so.
_STRING, _NUMBER, _MAPPING = (str,), (int, float), (dict,)
_TYPES: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("key", "measure", "label", "dtype", "device", "status", "time"), _STRING),
    **dict.fromkeys(("configuration", "recipe", "truth", "data", "details", "environment"), _MAPPING),
    **dict.fromkeys(("parts", "invariance"), _MAPPING),
    **dict.fromkeys(("reason", "oracle", "printed"), (str, type(None))),
    **dict.fromkeys(
        ("value", "stderr", "low", "high", "shared_seconds", "seconds", "gradients", "peak_bytes", "exact"),
        (*_NUMBER, type(None)),
    ),
    **dict.fromkeys(("seed", "probes", "pieces", "schema"), (int,)),
    **dict.fromkeys(("converged", "contended"), (bool,)),
}


def _check(name: str, value: object) -> None:
    """Raise ValueError unless `value` is what the field `name` of a Record may hold."""
    allowed = _TYPES[name]
    if not isinstance(value, allowed) or (isinstance(value, bool) and bool not in allowed):
        raise ValueError(f"field '{name}' holds {value!r:.80}; expected {' or '.join(t.__name__ for t in allowed)}")
    if not isinstance(value, dict):
        if not is_scalar(value):
            raise ValueError(f"field '{name}' holds {value!r}; expected a finite number")
        return
    for key, held in value.items():
        number = isinstance(held, _NUMBER) and not isinstance(held, bool)
        wrong = (name == "parts" and not number) or (name == "invariance" and not (number or held is None))
        if not isinstance(key, str) or not is_scalar(held) or wrong:
            expected = "numbers" if name in ("parts", "invariance") else "JSON scalars"
            raise ValueError(f"field '{name}' holds {key!s:.80}={held!r:.80}; expected finite {expected} by name")


class Line(Protocol):
    """What a line of JSON is made of: a Record, or another row."""

    def to_json(self) -> str:
        """One line of JSON."""


class RecordFile:
    """The append-only file of a run: one JSON line a record, each on disk before the next begins.

    Entering opens and locks it (a second writer is refused; the lock dies with its process) and cuts off a
    torn last line, which a killed process may have left. `torn` says how many bytes that were.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.torn = 0
        self._file: FileIO | None = None

    def __enter__(self) -> Self:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            file = self.path.open("ab", buffering=0)
            locked = _locked(file)
        except OSError as error:
            raise self._refused(error) from None
        if not locked:
            file.close()
            raise InvalidInput(
                f"{self.path} is being written by another run; wait for it, or choose another --output"
            ) from None
        self._file = file
        self._cut_torn_line()
        return self

    def _cut_torn_line(self) -> None:
        size = self.path.stat().st_size
        whole = _whole(self.path, size)
        self.torn = size - whole
        if self.torn:
            os.truncate(self.path, whole)

    def append(self, *records: Line) -> None:
        """Write each of `records` as one line and return when all are on disk.

        Raises InvalidInput where they cannot be written, a disk that is full among others; no part of them stays then.
        """
        if self._file is None:
            raise RuntimeError("append outside of the with block")
        before = os.fstat(self._file.fileno()).st_size
        try:
            for record in records:
                # half a surrogate pair, as a file name may hold, becomes its JSON escape: it is read as it was
                line = (record.to_json() + "\n").encode("utf-8", errors="backslashreplace")
                while line:
                    line = line[self._file.write(line) :]
            os.fsync(self._file.fileno())
        except OSError as error:
            with suppress(OSError):
                os.ftruncate(self._file.fileno(), before)
            raise self._refused(error) from None

    def _refused(self, error: OSError) -> InvalidInput:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        remedy = "make room and give the same command again" if full else "choose another folder with --output"
        return InvalidInput(f"cannot write {self.path}: {error.strerror}; {remedy}")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def _locked(file: FileIO) -> bool:
    """Lock the file for us alone; False where another run holds it, and not only a reader who asks, for an instant."""
    until = time.monotonic() + PATIENCE
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > until:
                return False
            time.sleep(PATIENCE / 20)
        else:
            return True


def being_written(path: Path) -> bool:
    """Whether a run that is alive holds the file."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _whole(path: Path, size: int) -> int:
    """Up to where the file of so many bytes consists of whole lines."""
    with path.open("rb") as file:
        end = size
        while end > 0:
            start = max(0, end - BLOCK)
            file.seek(start)
            found = file.read(end - start).rfind(b"\n")
            if found >= 0:
                return start + found + 1
            end = start
    return 0


def lines(path: Path, *, whole: bool = False) -> Iterator[tuple[int, bytes]]:
    """The lines of the file that hold something, with their numbers; see `iterate_records`."""
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if line.rstrip(b"\n") and (line.endswith(b"\n") or not whole):
                    yield number, line
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: Exception) -> InvalidInput:
    return InvalidInput(f"cannot read {path}: {error}; restore it, or choose another folder with --output")


def _parsed(path: Path, number: int, line: bytes) -> Record:
    try:
        text = line.decode("utf-8").rstrip("\n")
    except UnicodeDecodeError as error:
        raise _unreadable(path, error) from None
    return Record.from_json(text, where=f"{path}:{number}")


def iterate_records(path: Path, *, whole: bool = False) -> Iterator[Record]:
    """The records of one JSON lines file, in order; a line that is no record raises InvalidInput with its number.

    whole: without a last line that does not end, as a killed run may have left it; the next one cuts it off.
    What many records repeat is held once.
    """
    held: dict[str, Scalars] = {}
    for number, line in lines(path, whole=whole):
        yield _lean(_parsed(path, number, line), held)


def _lean(record: Record, held: dict[str, Scalars]) -> Record:
    """The same record, with the mappings and texts that others hold too."""
    for name in REPEATED:
        mapping = getattr(record, name)
        object.__setattr__(record, name, held.setdefault(repr(mapping), mapping))
    for name in ("measure", "label", "dtype", "device", "status", "time"):
        object.__setattr__(record, name, sys.intern(getattr(record, name)))
    for name in ("details", "parts"):
        mapping = getattr(record, name)
        object.__setattr__(record, name, {sys.intern(key): value for key, value in mapping.items()})
    return record


def statuses(path: Path) -> dict[str, Status]:
    """The status of the last record of every key, of the whole lines of a file; much faster than reading them.

    A line that this version wrote is believed without being read to its end; any other is read.
    """
    last: dict[str, Status] = {}
    for number, line in lines(path, whole=True):
        key, status = KEY.match(line), STATUS.findall(line)
        if key is not None and len(status) == 1 and line.endswith(END):
            last[key[1].decode()] = status[0].decode()
        else:
            record = _parsed(path, number, line)
            last[record.key] = record.status
    return last


def read_records(path: str | Path) -> pd.DataFrame:
    """A table of all records under `path`, a JSON lines file or a run's folder.

    One row a record; the mappings become columns with dotted names (`recipe.model`, `truth.gap`,
    `details.method`). Raises InvalidInput with file and line for a line that is no record.
    """
    import pandas as pd

    place = Path(path)
    file = place / "records.jsonl" if place.is_dir() else place
    if not file.exists():
        raise InvalidInput(f"no records at {file}; run `sharpbench run --output {place}` first")
    return pd.json_normalize([asdict(record) for record in iterate_records(file)])
