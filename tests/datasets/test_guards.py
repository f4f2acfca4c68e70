"""Bombs, links that loop and pipes are refused in one line before anything is decoded."""

from __future__ import annotations

import os
import struct
import zipfile
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sharpbench.datasets import ImageFolder, Npz, guards
from sharpbench.datasets.mnist import read_idx
from sharpbench.errors import InvalidInput


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for name in ("a", "b"):
        (tmp_path / "photos" / "train" / name).mkdir(parents=True)
        for number in range(2):
            Image.new("L", (8, 8), number).save(tmp_path / "photos" / "train" / name / f"{number}.png")
    return tmp_path / "photos"


def write_png_bomb(path: Path, edge: int) -> None:
    """A grey PNG of edge x edge pixels, all zero."""
    packer, row = zlib.compressobj(9), bytes(1 + edge)
    content = b"".join(packer.compress(row) for _ in range(edge)) + packer.flush()

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", edge, edge, 8, 0, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", content) + chunk(b"IEND", b""))


def test_images_that_need_more_memory_than_is_free_are_not_decoded(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_png_bomb(photos / "train" / "a" / "big.png", 4000)
    assert (photos / "train" / "a" / "big.png").stat().st_size < 2**15
    monkeypatch.setattr(guards, "free_bytes", lambda device: 2**27)
    monkeypatch.setattr("sharpbench.datasets.image_folder.decode_image", lambda path: pytest.fail("decoded"))
    with pytest.raises(InvalidInput, match=r"5 images, .*big.png', need 0.2 GiB where 0.1 GiB are free; use"):
        ImageFolder(str(photos)).load(None)


@pytest.mark.parametrize("kind", ["u1", "f2", "f4", "damaged"])
def test_an_archive_that_needs_more_memory_than_is_free_is_not_unpacked(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An array of bytes becomes thirteen times as many: it and three of float32 are there at once."""
    path, values = tmp_path / "bomb.npz", 2**22
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        if kind == "damaged":
            archive.writestr("x.npy", bytes(values))
        else:
            content = BytesIO()
            np.save(content, np.zeros((values, 1), kind))
            archive.writestr("x.npy", content.getvalue())
    width = 1 if kind == "damaged" else np.dtype(kind).itemsize
    needed = values * (width + 12)
    monkeypatch.setattr(guards, "free_bytes", lambda device: needed - 1)
    with pytest.raises(InvalidInput, match=r"bomb.npz' need 0.\d GiB where 0.\d GiB are free; use fewer examples"):
        Npz(str(path)).load(None)
    monkeypatch.setattr(guards, "free_bytes", lambda device: needed + 2**12)
    guards.check_archive_memory(path)


def test_a_link_back_is_refused(photos: Path) -> None:
    (photos / "train" / "a" / "loop").symlink_to(".")
    with pytest.raises(InvalidInput, match=r"loop' is a link back to .*a', so images would repeat; remove the link"):
        ImageFolder(str(photos)).load(None)


def test_links_between_classes_are_refused_and_other_links_are_followed(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    Image.new("L", (8, 8), 9).save(tmp_path / "more" / "9.png")
    (photos / "train" / "a" / "more").symlink_to(tmp_path / "more")
    assert len(ImageFolder(str(photos)).load(None).train_inputs) == 5
    (photos / "train" / "a" / "other").symlink_to(photos / "train" / "b")
    (photos / "train" / "b" / "other").symlink_to(photos / "train" / "a")
    with pytest.raises(InvalidInput, match="is a link back to"):
        ImageFolder(str(photos)).load(None)


def test_pipes_are_refused(photos: Path, tmp_path: Path) -> None:
    os.mkfifo(photos / "train" / "a" / "x.png")
    with pytest.raises(InvalidInput, match=r"x.png' is not a plain file; replace it by one, or remove it"):
        ImageFolder(str(photos)).load(None)
    os.mkfifo(tmp_path / "train-images-idx3-ubyte")
    with pytest.raises(InvalidInput, match="is not a plain file"):
        read_idx(tmp_path / "train-images-idx3-ubyte", dimensions=3)
