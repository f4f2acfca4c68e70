"""Checks of files of the user before they are read: links that loop, files that are not plain, content too large."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Collection, Sequence
from pathlib import Path

import torch
from PIL import Image

from sharpbench.environment import free_bytes
from sharpbench.errors import InvalidInput
from sharpbench.files import check_plain_file

BYTES_PER_IMAGE_VALUE = 15
"""Memory per channel and pixel while images become inputs: the image, two arrays of bytes and three of float32."""
BYTES_PER_ARRAY_BYTE = 3
"""Memory per byte of an array while it becomes inputs: the array, and two of float32."""


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
            size = sum(member.file_size for member in archive.infolist())
    except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile):
        return
    _check_memory(BYTES_PER_ARRAY_BYTE * size, f"file '{path}'", "use fewer examples")


def _check_memory(needed: int, what: str, remedy: str) -> None:
    free = free_bytes(torch.device("cpu"))
    if free is not None and needed > free:
        raise InvalidInput(f"{what} need {needed / 2**30:,.1f} GiB where {free / 2**30:,.1f} GiB are free; {remedy}")
