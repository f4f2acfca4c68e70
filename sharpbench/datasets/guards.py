"""Checks of files of the user before they are read: links that loop, files that are not plain, content too large."""

from __future__ import annotations

import lzma
import os
import tokenize
import zipfile
import zlib
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from sharpbench.environment import free_bytes
from sharpbench.errors import InvalidInput
from sharpbench.files import check_plain_file

BYTES_PER_IMAGE_VALUE = 15
"""Memory per channel and pixel while images become inputs: the image, two arrays of bytes and three of float32."""
BYTES_PER_ARRAY_VALUE = 12
"""Memory per value, in addition to the array itself, while an array becomes inputs: three of float32."""
READ_ERRORS = (
    *(OSError, ValueError, EOFError, KeyError, NotImplementedError, RuntimeError, OverflowError, MemoryError),
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, tokenize.TokenError),
)
"""The errors that numpy and zipfile raise for damaged files."""


def check_links(folder: Path, suffixes: Collection[str]) -> None:
    """Raise InvalidInput where a link below the folder leads back to a folder above it, so that files would repeat.

    So do files with one of the suffixes, in lower case, that are not plain files. Raises OSError for a folder that
    cannot be read.
    """
    _check_links(folder, frozenset(suffixes), (os.path.realpath(folder),))


def _check_links(folder: Path, suffixes: frozenset[str], above: tuple[str, ...]) -> None:
    with os.scandir(folder) as found:
        entries = list(found)
    for entry in entries:
        path = Path(entry.path)
        if entry.is_dir():
            target = os.path.realpath(path)
            if target in above:
                raise InvalidInput(f"'{path}' is a link back to '{target}', so images would repeat; remove the link")
            _check_links(path, suffixes, (*above, target))
        elif path.suffix.lower() in suffixes:
            check_plain_file(path)


def check_image_memory(paths: Sequence[Path]) -> None:
    """Raise InvalidInput where the images, decoded together, need more memory than is free.

    Only the headers are read. Files that cannot be opened pass: decoding them tells why.
    """
    needed, largest = 0, (0, Path())
    for path in paths:
        try:
            with Image.open(path) as image:
                channels = 1 if image.mode in ("1", "L") else 3
                count = image.size[0] * image.size[1] * channels * BYTES_PER_IMAGE_VALUE
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError, Image.DecompressionBombWarning):
            continue
        needed, largest = needed + count, max(largest, (count, path))
    _check_memory(needed, f"{len(paths):,} images, the largest '{largest[1]}',", "use fewer or smaller images")


def check_archive_memory(path: Path) -> None:
    """Raise InvalidInput where the arrays of an .npz file need more memory than is free; other files pass."""
    if not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            needed = sum(_array_bytes(archive, member) for member in archive.infolist())
    except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile):
        return
    _check_memory(needed, f"file '{path}'", "use fewer examples")


def _array_bytes(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> int:
    """The memory that an array needs while it becomes inputs."""
    try:
        width = max(1, read_array_type(archive, member.filename).itemsize)
    except Exception:  # of a damaged member, which reading reports
        width = 1
    return member.file_size + BYTES_PER_ARRAY_VALUE * (member.file_size // width)


def read_array_type(archive: zipfile.ZipFile, name: str) -> np.dtype[Any]:
    """The type of the values of an array in an .npz file. Raises whatever zipfile and numpy raise for other content."""
    with archive.open(name) as content:
        version = np.lib.format.read_magic(content)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        found: np.dtype[Any] = read_header(content)[2]
    return found


def _check_memory(needed: int, what: str, remedy: str) -> None:
    free = free_bytes(torch.device("cpu"))
    if free is not None and needed > free:
        raise InvalidInput(f"{what} need {needed / 2**30:,.1f} GiB where {free / 2**30:,.1f} GiB are free; {remedy}")
