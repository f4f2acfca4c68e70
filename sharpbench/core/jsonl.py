"""Append-only files of JSON lines with one writer at a time, and strict JSON."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from sharpbench.errors import InvalidInput, short

READ_BLOCK_BYTES = 2**16
"""Bytes that are read at once when the end of a file is searched for its last whole line."""
LOCK_TIMEOUT_SECONDS = 0.5
"""A lock is tried for this long: a process that tests whether a run is alive holds it for an instant."""


def parse_json(text: str) -> Any:
    """The value of the JSON `text`.

    Raises ValueError for text that is not JSON, and for what Python would accept: NaN and infinities, keys that an
    object has twice. Raises it also where the text is nested too deeply.
    """
    try:
        return json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_unique_keys)
    except RecursionError as error:
        raise ValueError(str(error)) from None


def _refuse_constant(text: str) -> float:
    raise ValueError(f"{text} is not a number")


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key '{short(next(key for key in row if keys.count(key) > 1))}' is there twice")
    return row


def format_json(row: Mapping[str, Any]) -> str:
    """One line of JSON without spaces, keys in the order of `row`. Raises ValueError for NaN and infinities."""
    return json.dumps(row, allow_nan=False, ensure_ascii=False, separators=(",", ":"))


class JsonRow(Protocol):
    """A row of a file of JSON lines, such as a Record."""

    def to_json(self) -> str:
        """One line of JSON."""


class JsonlFile:
    """An append-only file with one JSON line per row, each on disk before the next begins.

    Entering opens and locks it and cuts off a torn last line, which a killed process may have left; `torn` is the
    number of bytes cut. A second writer is refused; the lock ends with its process.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.torn = 0
        self._file: FileIO | None = None

    def __enter__(self) -> Self:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            file = self.path.open("ab", buffering=0)
            locked = _try_lock(file)
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
        whole = _whole_lines_bytes(self.path, size)
        self.torn = size - whole
        if self.torn:
            os.truncate(self.path, whole)

    def append(self, *records: JsonRow) -> None:
        """Write each of `records` as one line; returns when all are on disk.

        Raises InvalidInput where they cannot be written, for example on a full disk; then none of them is kept.
        """
        if self._file is None:
            raise RuntimeError("append outside of the with block")
        before = os.fstat(self._file.fileno()).st_size
        try:
            for record in records:
                # half a surrogate pair, as in a file name, becomes its JSON escape, so it is read unchanged
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


def _try_lock(file: FileIO) -> bool:
    """Lock the file for this process; False where another run holds the lock, not only a reader for an instant."""
    until = time.monotonic() + LOCK_TIMEOUT_SECONDS
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > until:
                return False
            time.sleep(LOCK_TIMEOUT_SECONDS / 20)
        else:
            return True


def is_being_written(path: Path) -> bool:
    """Whether a live run has locked the file."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _whole_lines_bytes(path: Path, size: int) -> int:
    """The number of bytes up to the end of the last whole line of a file of `size` bytes."""
    with path.open("rb") as file:
        end = size
        while end > 0:
            start = max(0, end - READ_BLOCK_BYTES)
            file.seek(start)
            found = file.read(end - start).rfind(b"\n")
            if found >= 0:
                return start + found + 1
            end = start
    return 0


def read_lines(path: Path, *, whole: bool = False) -> Iterator[tuple[int, bytes]]:
    """The lines of the file that are not empty, with their numbers.

    whole: omit a last line without an end, as a killed run may leave it; the next run cuts it off.
    """
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if line.rstrip(b"\n") and (line.endswith(b"\n") or not whole):
                    yield number, line
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise unreadable_file(path, error) from None


def unreadable_file(path: Path, error: Exception) -> InvalidInput:
    """The error for a file that exists and cannot be read."""
    return InvalidInput(f"cannot read {path}: {error}; restore it, or choose another folder with --output")
