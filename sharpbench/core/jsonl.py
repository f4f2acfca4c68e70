"""Append-only files of JSON lines with one writer at a time, and strict JSON."""

from __future__ import annotations

import errno
import fcntl
import json
import lzma
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from io import BytesIO, FileIO
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from sharpbench.errors import InvalidInput, shorten
from sharpbench.files import check_plain_file

READ_BLOCK_BYTES = 2**16
"""Bytes that are read at once when the end of a file is searched for its last whole line."""
COMPRESSED = ".xz"
"""The end of the name of a file that is compressed by xz; such a file is read, never written to."""
MAX_CONTENT_BYTES = 2**30
"""The largest content of a compressed file."""
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
        raise ValueError(f"the key '{shorten(next(key for key in row if keys.count(key) > 1))}' is there twice")
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

    Before each row the file is compared with what was written. Where an editor or a sync has put another file in its
    place, rows go on in that one, and those of this writer that it lacks are written again. A file that was deleted is
    written again as it was. `moved` tells how many rows that took, and None where it was not needed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.torn = 0
        self.moved: int | None = None
        self._file: FileIO | None = None
        self._begin = self._end = 0

    def __enter__(self) -> Self:
        self._file = self._open()
        self._begin = self._end
        return self

    def _open(self) -> FileIO:
        """The file at the path, locked and with whole lines; `_end` is its size."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            check_plain_file(self.path)
            file = self.path.open("a+b", buffering=0)
            locked = _try_lock(file)
        except OSError as error:
            raise self._refused(error) from None
        if not locked:
            file.close()
            raise InvalidInput(
                f"{self.path} is being written by another run; wait for it, or choose another --output"
            ) from None
        self._cut_torn_line(file)
        return file

    def _cut_torn_line(self, file: FileIO) -> None:
        size = os.fstat(file.fileno()).st_size
        self._end = _whole_lines_bytes(file, size)
        self.torn = size - self._end
        if self.torn:
            os.ftruncate(file.fileno(), self._end)

    def append(self, *records: JsonRow) -> None:
        """Write each of `records` as one line; returns when all are on disk.

        Raises InvalidInput where they cannot be written, for example on a full disk; then none of them is kept. Raises
        it also where the file was replaced and another run writes into its successor.
        """
        if self._file is None:
            raise RuntimeError("append outside of the with block")
        file = self._follow(self._file)
        # half a surrogate pair, as in a file name, becomes its JSON escape, so it is read unchanged
        self._write(file, (f"{record.to_json()}\n".encode("utf-8", errors="backslashreplace") for record in records))

    def _write(self, file: FileIO, lines: Iterable[bytes]) -> None:
        before = self._end
        try:
            for line in lines:
                self._end += len(line)
                while line:
                    line = line[file.write(line) :]
            os.fsync(file.fileno())
        except OSError as error:
            with suppress(OSError):
                os.ftruncate(file.fileno(), before)
            self._end = before
            raise self._refused(error) from None

    def _follow(self, file: FileIO) -> FileIO:
        """The file that is at the path now, with the rows of this writer in it."""
        held = os.fstat(file.fileno())
        try:
            there = os.stat(self.path)
        except OSError:
            there = None
        if there is not None and os.path.samestat(there, held):
            if held.st_size != self._end:  # written to in place
                self._cut_torn_line(file)
                self._begin = min(self._begin, self._end)
                self.moved = 0
            return file
        begin, end = 0 if there is None else self._begin, self._end
        self._file = self._open()
        self._begin = self._end
        present = {hash(line) for line in _lines_between(self._file, 0, self._end)}
        lost = [line for line in _lines_between(file, begin, end) if hash(line) not in present]
        self._write(self._file, lost)
        file.close()
        self.moved = (self.moved or 0) + len(lost)
        return self._file

    def _refused(self, error: OSError) -> InvalidInput:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        remedy = "make room and give the same command again" if full else "choose another folder with --output"
        return InvalidInput(f"cannot write {self.path}: {error.strerror}; {remedy}")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is None:
            return
        try:
            if error is None:
                self._follow(self._file)
        finally:
            self._file.close()
            self._file = None


def _lines_between(file: FileIO, begin: int, end: int) -> Iterator[bytes]:
    """The lines of an open file from one place to another, whether or not it has a name still."""
    with os.fdopen(os.dup(file.fileno()), "rb") as reader:
        reader.seek(begin)
        for line in reader:
            if begin >= end:
                return
            begin += len(line)
            yield line


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
        check_plain_file(path)
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _whole_lines_bytes(file: FileIO, size: int) -> int:
    """The number of bytes up to the end of the last whole line of a file of `size` bytes."""
    end = size
    while end > 0:
        start = max(0, end - READ_BLOCK_BYTES)
        found = os.pread(file.fileno(), end - start, start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0


def read_lines(path: Path, *, whole: bool = False) -> Iterator[tuple[int, bytes]]:
    """The lines of the file that are not empty, with their numbers; of a compressed file those of its content.

    whole: omit a last line without an end, as a killed run may leave it; the next run cuts it off.
    """
    try:
        check_plain_file(path)
        with BytesIO(read_compressed(path)) if path.suffix == COMPRESSED else path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if line.rstrip(b"\n") and (line.endswith(b"\n") or not whole):
                    yield number, line
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise unreadable_file(path, error) from None


def read_compressed(path: Path) -> bytes:
    """The content of a file that is compressed by xz. Raises OSError where the file cannot be opened.

    Raises:
        InvalidInput: for a file that is not intact, or holds more than MAX_CONTENT_BYTES.
    """
    try:
        with lzma.open(path) as file:
            content = file.read(MAX_CONTENT_BYTES + 1)
    except (lzma.LZMAError, EOFError) as error:
        raise InvalidInput(f"{path} is not an intact xz file ({shorten(str(error))}); restore it") from None
    if len(content) > MAX_CONTENT_BYTES:
        raise InvalidInput(f"{path} holds more than {MAX_CONTENT_BYTES:,} bytes; divide it into several files")
    return content


def unreadable_file(path: Path, error: Exception) -> InvalidInput:
    """The error for a file that exists and cannot be read."""
    return InvalidInput(f"cannot read {path}: {error}; restore it, or choose another folder with --output")
