"""MNIST: the real files where they are, and a small set of the same make for everything that can go wrong."""

import errno
import gzip
import os
import re
from pathlib import Path

import pytest
import torch

from sharpbench.datasets import Mnist, mnist
from sharpbench.datasets.mnist import FILES, idx_header
from sharpbench.errors import InvalidInput

REAL = Path(os.environ.get("SHARPBENCH_DATA") or Path(__file__).parents[3] / "shared/data/mnist")
TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS = (file.name for file in FILES)
REMEDY = "; restore the file, or delete it to have it downloaded$"


@pytest.fixture
def folder(tmp_path, small_mnist, mirror) -> Path:
    """The small set in torchvision's layout: images plain, labels gzip. The mirror has nothing to give."""
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name, content in small_mnist.items():
        if "labels" in name:
            (raw / f"{name}.gz").write_bytes(gzip.compress(content, compresslevel=1))
        else:
            (raw / name).write_bytes(content)
    return tmp_path


def _raw(folder: Path, name: str) -> Path:
    return folder / "MNIST" / "raw" / name


@pytest.mark.skipif(not (REAL / "MNIST").is_dir(), reason=f"MNIST is not at $SHARPBENCH_DATA ({REAL})")
def test_the_real_files():
    data = Mnist().load(REAL)
    assert data.train_inputs.shape == (60_000, 1, 28, 28)
    assert data.test_inputs.shape == (10_000, 1, 28, 28)
    assert data.train_targets[:5].tolist() == [5, 0, 4, 1, 9]
    assert data.test_targets.bincount().tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert (data.train_inputs.double().mean() / 2 + 0.5).item() == pytest.approx(0.1307, abs=5e-5)
    assert data.sha256() == "3c3080a7226e077f137b5efe5ec9a54b9bb72bc546290a1b51c1d07dc331e118"


def test_types_shapes_and_scaling(folder, small_mnist):
    data = Mnist().load(folder)
    assert (data.train_inputs.dtype, data.train_targets.dtype) == (torch.float32, torch.int64)
    assert (data.shape, data.classes) == ((1, 28, 28), 10)
    images = torch.tensor(list(small_mnist[TRAIN_IMAGES][16:])).reshape(-1, 1, 28, 28)
    torch.testing.assert_close(data.train_inputs.double(), 2 * images.double() / 255 - 1, rtol=0, atol=2e-7)
    assert data.test_targets.tolist() == list(small_mnist[TEST_LABELS][8:])


def test_files_that_are_there_need_no_network(folder, mirror):
    Mnist().load(folder)
    assert mirror.asked == []


def test_the_content_hash_does_not_hang_on_the_packing(folder, small_mnist):
    packed = Mnist().load(folder).sha256()
    _raw(folder, f"{TRAIN_LABELS}.gz").unlink()
    _raw(folder, TRAIN_LABELS).write_bytes(small_mnist[TRAIN_LABELS])
    assert Mnist().load(folder).sha256() == packed


def test_the_plain_file_is_taken_where_both_lie_there(folder):
    _raw(folder, f"{TRAIN_IMAGES}.gz").write_bytes(b"never read")
    Mnist().load(folder)


def test_a_flipped_bit(folder, small_mnist):
    content = bytearray(small_mnist[TRAIN_IMAGES])
    content[1000] ^= 1
    _raw(folder, TRAIN_IMAGES).write_bytes(content)
    line = (
        f"^file '{re.escape(str(_raw(folder, TRAIN_IMAGES)))}' is not MNIST's: the sha256 of its content is "
        f"[0-9a-f]{{64}} where {mnist.FILES[0].sha256} is expected{REMEDY}"
    )
    with pytest.raises(InvalidInput, match=line):
        Mnist().load(folder)


def test_a_damaged_gzip_file(folder):
    path = _raw(folder, f"{TEST_LABELS}.gz")
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(InvalidInput, match=r"labels-idx1-ubyte\.gz' is a damaged gzip file \(.*\); replace it"):
        Mnist().load(folder)


def test_fewer_images_than_mnist_has(folder):
    _raw(folder, TRAIN_IMAGES).write_bytes(idx_header((12, 28, 28)) + bytes(12 * 784))
    line = f"holds 12 images of 28x28 where MNIST has 30 images of 28x28{REMEDY}"
    with pytest.raises(InvalidInput, match=line):
        Mnist().load(folder)


def test_images_of_another_size(folder):
    _raw(folder, TEST_IMAGES).write_bytes(idx_header((20, 8, 8)) + bytes(20 * 64))
    line = f"holds 20 images of 8x8 where MNIST has 20 images of 28x28{REMEDY}"
    with pytest.raises(InvalidInput, match=line):
        Mnist().load(folder)


def test_more_labels_than_images(folder):
    _raw(folder, f"{TEST_LABELS}.gz").write_bytes(gzip.compress(idx_header((21,)) + bytes(21)))
    with pytest.raises(InvalidInput, match=f"holds 21 labels where MNIST has 20 labels{REMEDY}"):
        Mnist().load(folder)


def test_a_label_out_of_range(folder, small_mnist):
    content = bytearray(small_mnist[TRAIN_LABELS])
    content[8 + 3] = 11
    _raw(folder, f"{TRAIN_LABELS}.gz").write_bytes(gzip.compress(content))
    with pytest.raises(InvalidInput, match=rf"holds the label 11 at 3 where 0\.\.9 are expected{REMEDY}"):
        Mnist().load(folder)


def test_a_small_well_formed_set_is_not_mnist(tmp_path, folder, monkeypatch):
    monkeypatch.setattr(mnist, "FILES", FILES)
    line = "holds 30 images of 28x28 where MNIST has 60000 images of 28x28"
    with pytest.raises(InvalidInput, match=line):
        Mnist().load(folder)


def test_missing_files_are_downloaded_and_kept(tmp_path, small_mnist, mirror):
    mirror.offer(small_mnist)
    first = Mnist().load(tmp_path / "new")
    assert mirror.asked == [f"{name}.gz" for name in small_mnist]
    assert Mnist().load(tmp_path / "new").sha256() == first.sha256()
    assert len(mirror.asked) == 4
    raw = tmp_path / "new" / "MNIST" / "raw"
    assert sorted(path.name for path in raw.iterdir()) == sorted(mirror.asked)


def test_only_what_is_missing_is_downloaded(folder, small_mnist, mirror):
    mirror.offer(small_mnist)
    _raw(folder, f"{TEST_LABELS}.gz").unlink()
    Mnist().load(folder)
    assert mirror.asked == [f"{TEST_LABELS}.gz"]


def test_without_a_folder_the_cache_is_used(tmp_path, small_mnist, mirror, monkeypatch):
    monkeypatch.setattr(mnist, "user_cache_folder", lambda: tmp_path / "cache")
    mirror.offer(small_mnist)
    Mnist().load(None)
    assert (tmp_path / "cache" / "data" / "MNIST" / "raw" / f"{TEST_IMAGES}.gz").is_file()


def test_a_closed_network_gives_one_line_and_leaves_nothing(tmp_path, small_mnist, mirror):
    raw = re.escape(str(tmp_path / "x" / "MNIST" / "raw"))
    line = (
        rf"^dataset 'mnist': missing in '{raw}': {TRAIN_IMAGES}, {TRAIN_LABELS}, {TEST_IMAGES}, "
        rf"{TEST_LABELS}; the download failed \(127\.0\.0\.1:\d+: HTTP Error 404: Not Found\); put the files "
        r"there, plain or \.gz, or name the folder that holds MNIST/raw by "
        r"--data-dir or \$SHARPBENCH_DATA$"
    )
    with pytest.raises(InvalidInput, match=line):
        Mnist().load(tmp_path / "x")
    assert mirror.asked == [f"{TRAIN_IMAGES}.gz"]  # one refusal is enough
    assert list(tmp_path.iterdir()) == []


def test_the_line_names_only_what_is_missing(folder, mirror):
    _raw(folder, f"{TRAIN_LABELS}.gz").unlink()
    _raw(folder, TEST_IMAGES).unlink()
    with pytest.raises(InvalidInput, match=f"raw': {TRAIN_LABELS}, {TEST_IMAGES}; the download failed"):
        Mnist().load(folder)


def test_a_download_of_another_checksum_is_not_kept(tmp_path, small_mnist, mirror):
    mirror.offer(small_mnist | {TRAIN_LABELS: small_mnist[TRAIN_LABELS][:-1] + b"\x0a"})
    with pytest.raises(InvalidInput, match=rf"raw': {TRAIN_LABELS}, .*the download failed \(.* sent "):
        Mnist().load(tmp_path)
    assert [path.name for path in _raw(tmp_path, "").iterdir()] == [f"{TRAIN_IMAGES}.gz"]


def test_a_download_that_breaks_off_is_not_kept(tmp_path, small_mnist, mirror):
    mirror.offer(small_mnist)
    mirror.answers[f"{TRAIN_IMAGES}.gz"] = mirror.answers[f"{TRAIN_IMAGES}.gz"][:100]
    mirror.promised = lambda body: 100_000
    with pytest.raises(InvalidInput, match=r"sent 100 bytes where \d+ are expected"):
        Mnist().load(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("interruption", [KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left on device")])
def test_a_write_that_breaks_off_leaves_nothing(tmp_path, small_mnist, mirror, monkeypatch, interruption):
    write_bytes = Path.write_bytes

    def half(self, content):
        write_bytes(self, content[: len(content) // 2])
        raise interruption

    mirror.offer(small_mnist)
    monkeypatch.setattr(Path, "write_bytes", half)
    with pytest.raises((KeyboardInterrupt, InvalidInput)):
        Mnist().load(tmp_path)
    assert list(_raw(tmp_path, "").iterdir()) == []


def test_a_folder_that_cannot_be_written(tmp_path, small_mnist, mirror):
    (tmp_path / "MNIST").write_text("a file where a folder is needed")
    mirror.offer(small_mnist)
    line = r"^dataset 'mnist': '.*\.gz' was downloaded but cannot be written \(.*\); name a folder"
    with pytest.raises(InvalidInput, match=line):
        Mnist().load(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may read everything")
def test_a_folder_without_permission_is_not_taken_for_an_empty_one(folder, mirror):
    _raw(folder, "").chmod(0)
    try:
        with pytest.raises(InvalidInput, match=r"cannot be read \(Permission denied\)"):
            Mnist().load(folder)
    finally:
        _raw(folder, "").chmod(0o700)
    assert mirror.asked == []
