"""Files in the IDX format: a header of sizes, then unsigned bytes; plain or gzip.

Source: LeCun, Cortes and Burges, "The MNIST database of handwritten digits", 1998, section "File formats".
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from collections.abc import Sequence
from io import BufferedIOBase
from pathlib import Path

import torch
from torch import Tensor

from sharpbench.errors import InvalidInput

_GZIP = b"\x1f\x8b"
_UNSIGNED_BYTES = 0x800  # the type of the elements, left of the number of dimensions
_LARGEST = 2**30  # bytes; MNIST takes 47 MB, so a header that asks for more is damage
_REMEDY = "replace it by an intact copy"


def idx_header(sizes: Sequence[int]) -> bytes:
    """The header of an IDX file of unsigned bytes: magic number, then the sizes, each 4 bytes, big-endian."""
    return struct.pack(f">{1 + len(sizes)}I", _UNSIGNED_BYTES + len(sizes), *sizes)


def read_idx(path: Path, *, dimensions: int) -> Tensor:
    """What an IDX file of unsigned bytes holds: uint8, shaped as its header says.

    Gzip is recognised by its first two bytes, whatever the file is called. Never more is decompressed
    than the header declares and one byte, and a header may declare at most 1 GiB.

    Raises InvalidInput, one line, where the file cannot be read, the gzip stream is cut short or damaged,
    the magic number is not that of unsigned bytes in so many dimensions, or the length is not the one
    declared.
    """
    try:
        with _opened(path) as stream:
            sizes = _sizes(stream, path, dimensions)
            return _elements(stream, path, sizes)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InvalidInput(f"file '{path}' is a damaged gzip file ({error}); {_REMEDY}") from error
    except OSError as error:
        raise InvalidInput(f"file '{path}' cannot be read ({error.strerror}); make it readable") from error


def _opened(path: Path) -> BufferedIOBase:
    with path.open("rb") as file:
        compressed = file.read(2) == _GZIP
    return gzip.open(path, "rb") if compressed else path.open("rb")


def _sizes(stream: BufferedIOBase, path: Path, dimensions: int) -> tuple[int, ...]:
    length = 4 + 4 * dimensions
    header = stream.read(length)
    expected = _UNSIGNED_BYTES + dimensions
    if len(header) >= 4 and (magic := int.from_bytes(header[:4], "big")) != expected:
        raise InvalidInput(
            f"file '{path}' begins with the magic number 0x{magic:08X} where 0x{expected:08X} "
            f"(unsigned bytes, dimensions: {dimensions}) is expected; {_REMEDY}"
        )
    if len(header) < length:
        raise InvalidInput(f"file '{path}' ends after {len(header)} of its header's {length} bytes; {_REMEDY}")
    sizes = struct.unpack(f">{dimensions}I", header[4:])
    if not 0 < math.prod(sizes) <= _LARGEST:
        raise InvalidInput(
            f"file '{path}' declares the sizes {_times(sizes)} where 1 to {_LARGEST} bytes are expected; {_REMEDY}"
        )
    return sizes


def _elements(stream: BufferedIOBase, path: Path, sizes: tuple[int, ...]) -> Tensor:
    expected = math.prod(sizes)
    content = stream.read(expected + 1)  # the one byte shows what trails, and lets gzip check its CRC
    if len(content) != expected:
        found = "more bytes" if len(content) > expected else f"{len(content)} bytes"
        raise InvalidInput(f"file '{path}' holds {found} after its header where it declares {expected}; {_REMEDY}")
    return torch.frombuffer(bytearray(content), dtype=torch.uint8).reshape(sizes)


def _times(sizes: Sequence[int]) -> str:
    return "x".join(map(str, sizes))
