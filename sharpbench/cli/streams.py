"""Standard output and error that do not fail: on text that cannot be encoded, a closed pipe or a full disk."""

from __future__ import annotations

import contextlib
import io
import json
import os
import select
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

STANDARD_DESCRIPTORS = (0, 1, 2)


class OutputStream(io.RawIOBase):
    """Bytes to a file descriptor. After the first write that fails, later bytes are dropped.

    Attributes:
        failure: the error of that write; None as long as all bytes were written.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.failure: OSError | None = None

    def writable(self) -> bool:
        """True."""
        return True

    def fileno(self) -> int:
        """The file descriptor."""
        return self._descriptor

    def isatty(self) -> bool:
        """Whether the descriptor is a terminal."""
        return os.isatty(self._descriptor)

    def write(self, data: ReadableBuffer, /) -> int:
        """Write some of the bytes and return how many, or all of them where they are dropped."""
        while self.failure is None:
            try:
                return os.write(self._descriptor, data)
            except BlockingIOError:  # another program has set the terminal to non-blocking
                select.select([], [self._descriptor], [])
            except OSError as error:
                self.failure = error
        return memoryview(data).nbytes


@contextlib.contextmanager
def guarded_streams() -> Iterator[list[OutputStream]]:
    """Replace sys.stdout and sys.stderr by streams that do not raise, and restore them at the end.

    A character that the encoding lacks becomes `?` on stdout and an escape on stderr. A stream that is not a file, as
    a test may set it, stays as it is.

    Yields:
        The stream of stdout, in a list that is empty where stdout is not a file.
    """
    _open_closed_descriptors()
    kept = sys.stdout, sys.stderr
    stdout, stderr = _guard(sys.stdout, "replace"), _guard(sys.stderr, "backslashreplace")
    sys.stdout, sys.stderr = stdout or kept[0], stderr or kept[1]
    try:
        yield [stdout.buffer.raw] if stdout else []  # type: ignore[attr-defined]  # the raw stream of `_guard`
    finally:
        for stream in (stdout, stderr):
            if stream is not None:
                stream.flush()
        sys.stdout, sys.stderr = kept


def escape_json(text: str) -> str:
    r"""The same JSON in ASCII, so that every terminal and pipe gets it whole.

    >>> print(escape_json('{"dataset": "npz:daté.npz"}'))
    {"dataset": "npz:dat\u00e9.npz"}
    """
    return text if text.isascii() else "".join(c if c.isascii() else json.dumps(c)[1:-1] for c in text)


def _open_closed_descriptors() -> None:
    """Open the standard descriptors that the caller has closed, so that no file of results gets their numbers."""
    for descriptor in STANDARD_DESCRIPTORS:
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the smallest free number, which is this one


def _guard(stream: TextIO | None, errors: str) -> io.TextIOWrapper | None:
    """A text stream to the file of `stream`; None where it has no file."""
    if not isinstance(stream, io.TextIOWrapper):
        return None
    try:
        descriptor = stream.fileno()
    except OSError:  # a wrapper around memory
        return None
    stream.flush()
    return io.TextIOWrapper(
        io.BufferedWriter(OutputStream(descriptor)),
        encoding=stream.encoding,
        errors=errors,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )
