"""What a child process sends and prints, taken in as it comes."""

from __future__ import annotations

import os

MAX_OUTPUT_BYTES = 1000
"""Bytes that are kept of the beginning, and of the end, of what a child printed."""
READ_BYTES = 2**16
MAX_MESSAGE_BYTES = 2**30
MESSAGE_STARTS = (b"\x80", b"{")  # the first byte of a pickle, or of a JSON object


class UnreadableMessage(Exception):
    """A child that sent bytes that are not a message; nothing after them can be read."""


class Frame:
    """The message that a child is sending, read without waiting for the rest of it.

    multiprocessing sends the size of a message in 4 bytes before it, and its own reading waits for as many bytes, which
    never come where something else wrote the size. Here the first byte tells: it begins a pickle or a JSON object.
    """

    def __init__(self) -> None:
        self._held, self._size = bytearray(), 0

    def read(self, descriptor: int) -> bytes | None:
        """Read what the file holds of the message; the message if it is whole then.

        Raises:
            EOFError: at the end of the file.
            UnreadableMessage: where something else came.
        """
        some = os.read(descriptor, min(4 + self._size - len(self._held), READ_BYTES))
        self._held += some
        if not some:
            raise EOFError
        if len(self._held) < 4:
            return None
        self._size = int.from_bytes(self._held[:4], "big", signed=True)
        if not 0 < self._size <= MAX_MESSAGE_BYTES or self._held[4:5] not in (b"", *MESSAGE_STARTS):
            raise UnreadableMessage("the process sent bytes that are not a message")
        if len(self._held) < 4 + self._size:
            return None
        message = bytes(self._held[4:])
        self._held, self._size = bytearray(), 0
        return message


class CapturedOutput:
    """The beginning and the end of what a process printed, MAX_OUTPUT_BYTES of each."""

    def __init__(self) -> None:
        self.first, self.last, self.count = b"", b"", 0

    def add(self, some: bytes) -> None:
        """Take in the next bytes."""
        room = MAX_OUTPUT_BYTES - len(self.first)
        self.first += some[:room]
        self.last = (self.last + some[room:])[-MAX_OUTPUT_BYTES:]
        self.count += len(some)

    def text(self) -> str | None:
        """The kept bytes as text, with the number of bytes left out between; None where nothing was printed."""
        left_out = self.count - len(self.first) - len(self.last)
        between = f"\n[{left_out} bytes left out]\n".encode() if left_out else b""
        text = (self.first + between + self.last).decode("utf-8", errors="replace")
        return "".join(each if each.isprintable() or each in "\n\t" else "\ufffd" for each in text) or None
