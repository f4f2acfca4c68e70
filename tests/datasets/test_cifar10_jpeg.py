"""CIFAR-10 as JPEG: the real file where it is, and a small one of the same make for everything that can go wrong."""

from __future__ import annotations

import hashlib
import io
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sharpbench.datasets import Cifar10Jpeg, cifar10_jpeg
from sharpbench.datasets.cifar10_jpeg import ARCHIVE, CLASSES
from sharpbench.errors import InvalidInput

GIVEN = Path(os.environ.get("SHARPBENCH_DATA") or ".")
PLACES = (
    GIVEN / ARCHIVE,
    GIVEN / "cifar10-jpeg" / ARCHIVE,
    Path(__file__).parents[3] / "shared/data/cifar10-jpeg" / ARCHIVE,
)
REAL = next((path.parent for path in PLACES if path.is_file()), None)
TRAIN, TEST = 3, 2
"""Images of each class of the small file."""
LAST = f"test/truck/{TEST - 1:04d}.jpg"


def jpeg(index: int, size: tuple[int, int] = (32, 32)) -> bytes:
    level = np.random.default_rng(index).integers(0, 256, (1, 1, 3), dtype=np.uint8)
    content = io.BytesIO()
    Image.fromarray(np.broadcast_to(level, (*size, 3)).copy()).save(content, "JPEG")
    return content.getvalue()


def small_files() -> dict[str, bytes]:
    names = [
        f"{split}/{label}/{number:04d}.jpg"
        for split, count in (("train", TRAIN), ("test", TEST))
        for label in CLASSES
        for number in range(count)
    ]
    return {name: jpeg(index) for index, name in enumerate(names)}


def write_archive(path: Path, files: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that keeps the pixels, in an empty cache."""
    monkeypatch.setenv("SHARPBENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "data" / "cifar10-jpeg.pixels"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a small file, which `cifar10-jpeg` means now: 3 + 2 images of each class, of one colour each."""
    files = small_files()
    pixels = b"".join(np.asarray(Image.open(io.BytesIO(content))).tobytes() for content in files.values())
    monkeypatch.setattr(cifar10_jpeg, "TRAIN_PER_CLASS", TRAIN)
    monkeypatch.setattr(cifar10_jpeg, "TEST_PER_CLASS", TEST)
    monkeypatch.setattr(cifar10_jpeg, "PIXELS_SHA256", hashlib.sha256(pixels).hexdigest())
    write_archive(tmp_path / ARCHIVE, dict(reversed(files.items())))
    return tmp_path


def load(folder: Path, train_size: int = TRAIN * 10, test_size: int = TEST * 10) -> torch.Tensor:
    return Cifar10Jpeg(train_size=train_size, test_size=test_size).load(folder).train_inputs


@pytest.mark.slow
@pytest.mark.skipif(REAL is None, reason=f"{ARCHIVE} is not below $SHARPBENCH_DATA")
def test_the_real_file() -> None:
    data = Cifar10Jpeg().load(REAL)
    assert (data.train_inputs.shape, data.test_inputs.shape) == ((50_000, 3, 32, 32), (10_000, 3, 32, 32))
    assert data.sha256() == "755394e7151481ccbe2f6563fd9a2d27ec04558b03fd2fa82ed2ddc5993173b8"
    assert data.test_targets.bincount().tolist() == [1000] * 10
    assert (data.test_inputs.double().mean() / 2 + 0.5).item() == pytest.approx(0.473, abs=5e-3)
    again = Cifar10Jpeg(train_size=10, test_size=10).load(None)  # from the cache
    assert torch.equal(again.train_inputs, data.train_inputs[::5000])


def test_images_are_scaled_and_in_the_order_of_classes_whatever_that_of_the_zip(folder: Path) -> None:
    data = Cifar10Jpeg(train_size=30, test_size=20).load(folder)
    assert (data.train_inputs.dtype, data.train_targets.dtype) == (torch.float32, torch.int64)
    assert (data.train_inputs.shape, data.test_inputs.shape) == ((30, 3, 32, 32), (20, 3, 32, 32))
    assert (data.classes, data.images) == (10, True)
    assert data.train_targets.tolist() == [label for label in range(10) for _ in range(TRAIN)]
    assert data.test_targets.tolist() == [label for label in range(10) for _ in range(TEST)]
    for inputs, name in ((data.train_inputs[4], "train/automobile/0001.jpg"), (data.test_inputs[-1], LAST)):
        pixels = np.asarray(Image.open(io.BytesIO(small_files()[name]))).astype(np.float64)
        expected = torch.from_numpy(2 * pixels / 255 - 1).permute(2, 0, 1)
        torch.testing.assert_close(inputs.double(), expected, rtol=0, atol=2e-7)


def test_sizes_take_the_first_images_of_each_class(folder: Path) -> None:
    whole, part = Cifar10Jpeg(train_size=30, test_size=20).load(folder), Cifar10Jpeg(train_size=20, test_size=10)
    assert torch.equal(part.load(folder).train_inputs, whole.train_inputs[[n for n in range(30) if n % 3 < 2]])
    assert torch.equal(part.load(folder).test_inputs, whole.test_inputs[::2])
    assert part.load(folder).test_targets.tolist() == list(range(10))


def test_pixels_are_decoded_once_and_a_damaged_cache_is_not_believed(
    folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = load(folder)
    assert cache.stat().st_size == 50 * 32 * 32 * 3
    with monkeypatch.context() as patch:
        patch.setattr(cifar10_jpeg, "decode_image", lambda *given, **options: pytest.fail("decoded again"))
        assert torch.equal(load(folder), first)
    for damaged in (b"\0" * cache.stat().st_size, cache.read_bytes()[:-1]):
        cache.write_bytes(damaged)
        assert torch.equal(load(folder), first)
        assert hashlib.sha256(cache.read_bytes()).hexdigest() == cifar10_jpeg.PIXELS_SHA256


def test_a_cache_that_cannot_be_written_costs_time_only(folder: Path, cache: Path) -> None:
    cache.parent.parent.write_text("a file where the folder belongs")
    assert load(folder).shape == (30, 3, 32, 32)


def test_the_file_may_lie_one_folder_deeper(folder: Path, cache: Path) -> None:
    first = load(folder)
    cache.unlink()
    (folder / "cifar10-jpeg").mkdir()
    (folder / ARCHIVE).rename(folder / "cifar10-jpeg" / ARCHIVE)
    assert torch.equal(load(folder), first)


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"there is no '.*jpeg\.zip' and no .*; put the file there, or name .*DATA$"):
        Cifar10Jpeg().load(tmp_path)


BOMB = jpeg(0)[:-2].replace(b"\x00\x20\x00\x20", b"\xff\xff\xff\xff", 1) + b"\xff\xd9"
"""A JPEG whose header declares 65,535 x 65,535 pixels."""
WRONG = {
    "of another size": (jpeg(0, (32, 33)), r"0001\.jpg' is 33x32 where 32x32 is expected; replace it"),
    "a bomb by its header": (BOMB, r"0001\.jpg' cannot be decoded \(.*; replace or delete it"),
    "not an image": (b"text", r"0001\.jpg' cannot be decoded \(cannot identify image file it\)"),
    "large when unpacked": (bytes(2**16 + 1), "has 65,537 bytes where at most 65,536 are expected"),
    "another image": (jpeg(99), r"have the hash .*\.\.\. where .*\.\.\. is expected; replace the file .* pillow"),
}


@pytest.mark.parametrize("fault", WRONG)
def test_images_that_are_wrong_are_refused_in_one_line(folder: Path, cache: Path, fault: str) -> None:
    content, message = WRONG[fault]
    write_archive(folder / ARCHIVE, {**small_files(), LAST: content}, zipfile.ZIP_DEFLATED)
    with pytest.raises(InvalidInput, match=message) as raised:
        load(folder)
    assert "\n" not in str(raised.value)
    assert not cache.exists()


def test_members_that_unpack_to_more_than_they_state_are_refused_unread(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zipfile.ZipFile, "read", lambda *given: pytest.fail("unpacked"))
    path = folder / ARCHIVE
    with zipfile.ZipFile(path, "a") as archive:
        member = archive.getinfo(LAST)
        member.compress_size = 2**16 + 1
        archive.writestr("more", b"")  # so that the table of contents is written again
    with pytest.raises(InvalidInput, match=r"0001\.jpg' has 65,537 bytes where at most 65,536 are expected"):
        load(folder)
    write_archive(path, small_files(), zipfile.ZIP_LZMA)
    with pytest.raises(InvalidInput, match=r"0000\.jpg' is compressed by method 14 where 0 or 8 is expected"):
        load(folder)


def test_a_pipe_in_place_of_the_cache_is_not_read(folder: Path, cache: Path) -> None:
    first = load(folder)
    cache.unlink()
    os.mkfifo(cache)
    assert torch.equal(load(folder), first)
    assert cache.is_file()


def test_archives_that_are_wrong_are_refused_in_one_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = folder / ARCHIVE
    intact = path.read_bytes()
    place = intact.index(jpeg(0)) + 300
    damaged = {
        r"is not an intact zip file \(Bad CRC-32": intact[:place] + bytes([intact[place] ^ 1]) + intact[place + 1 :],
        r"is not an intact zip file \(File is not a zip file\); replace it": intact[:5000],
    }
    for message, content in damaged.items():
        path.write_bytes(content)
        with pytest.raises(InvalidInput, match=message):
            load(folder)
    files = small_files()
    write_archive(path, {name: content for name, content in files.items() if name not in (LAST, "test/ship/0000.jpg")})
    with pytest.raises(InvalidInput, match=r"lacks 2 of 50 images, such as 'test/ship/0000\.jpg'; replace it"):
        load(folder)
    monkeypatch.setattr(cifar10_jpeg, "MAX_ARCHIVE_BYTES", 100)
    with pytest.raises(InvalidInput, match=r"bytes where at most 100 are expected; replace it by an intact copy"):
        load(folder)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(InvalidInput, match="is not a plain file"):
        load(folder)


@pytest.mark.parametrize("given", ["train_size=5", "train_size=0", "train_size=50010", "test_size=15", "test_size=-10"])
def test_sizes_have_bounds(given: str) -> None:
    name, _, value = given.partition("=")
    most = {"train_size": "50,000", "test_size": "10,000"}[name]
    with pytest.raises(InvalidInput, match=rf"{given} must be a multiple of 10 from 10 to {most}"):
        Cifar10Jpeg(**{name: int(value)})
