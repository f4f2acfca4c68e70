"""IDX files: round trips, and one clear line for each way in which a file can be damaged."""

import gzip
import os
import re
import struct
from pathlib import Path

import pytest
import torch

from sharpbench.datasets.mnist import idx_header, read_idx
from sharpbench.errors import InvalidInput

IMAGES = torch.arange(2 * 3 * 4, dtype=torch.uint8).reshape(2, 3, 4)
CONTENT = idx_header(IMAGES.shape) + IMAGES.numpy().tobytes()


def _file(folder: Path, content: bytes) -> Path:
    path = folder / "images-idx3-ubyte"
    path.write_bytes(content)
    return path


def _refused(path: Path, reason: str, dimensions: int = 3) -> None:
    """The error is one line that begins with the file and ends with the remedy."""
    line = f"^file '{re.escape(str(path))}' {reason}; replace it by an intact copy$"
    with pytest.raises(InvalidInput, match=line):
        read_idx(path, dimensions=dimensions)


def test_the_headers_of_mnist():
    assert idx_header((60_000, 28, 28)) == bytes.fromhex("00000803 0000ea60 0000001c 0000001c")
    assert idx_header((10_000,)) == bytes.fromhex("00000801 00002710")


def test_a_plain_file_gives_what_was_written(tmp_path):
    images = read_idx(_file(tmp_path, CONTENT), dimensions=3)
    assert images.dtype == torch.uint8
    assert torch.equal(images, IMAGES)


def test_gzip_is_recognised_whatever_the_name(tmp_path):
    assert torch.equal(read_idx(_file(tmp_path, gzip.compress(CONTENT)), dimensions=3), IMAGES)


def test_a_plain_file_may_be_called_gz(tmp_path):
    path = _file(tmp_path, CONTENT).rename(tmp_path / "images.gz")
    assert torch.equal(read_idx(path, dimensions=3), IMAGES)


def test_one_dimension(tmp_path):
    labels = torch.tensor([3, 1, 4], dtype=torch.uint8)
    path = _file(tmp_path, idx_header((3,)) + labels.numpy().tobytes())
    assert torch.equal(read_idx(path, dimensions=1), labels)


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
class TestDamagedContent:
    def test_labels_where_images_are_expected(self, tmp_path, pack):
        path = _file(tmp_path, pack(idx_header((24,)) + bytes(24)))
        _refused(
            path,
            r"begins with the magic number 0x00000801 where 0x00000803 "
            r"\(unsigned bytes, dimensions: 3\) is expected",
        )

    def test_elements_of_another_type(self, tmp_path, pack):
        path = _file(tmp_path, pack(struct.pack(">4I", 0xD03, 2, 3, 4) + bytes(4 * 24)))
        _refused(path, "begins with the magic number 0x00000D03 where 0x00000803 .* is expected")

    def test_no_idx_file_at_all(self, tmp_path, pack):
        path = _file(tmp_path, pack(b"<!DOCTYPE html><html>Not found</html>"))
        _refused(path, "begins with the magic number 0x3C21444F where 0x00000803 .* is expected")

    def test_too_few_bytes(self, tmp_path, pack):
        path = _file(tmp_path, pack(CONTENT[:-1]))
        _refused(path, "holds 23 bytes after its header where it declares 24")

    def test_too_many_bytes(self, tmp_path, pack):
        path = _file(tmp_path, pack(CONTENT + b"\0"))
        _refused(path, "holds more bytes after its header where it declares 24")

    @pytest.mark.parametrize("length", [0, 3, 4, 15])
    def test_an_unfinished_header(self, tmp_path, pack, length):
        path = _file(tmp_path, pack(CONTENT[:length]))
        _refused(path, f"ends after {length} of its header's 16 bytes")

    @pytest.mark.parametrize("sizes", [(0, 28, 28), (2**20, 2**10, 2), (2**32 - 1,) * 3])
    def test_absurd_sizes(self, tmp_path, pack, sizes):
        path = _file(tmp_path, pack(idx_header(sizes) + bytes(24)))
        _refused(
            path,
            f"declares the sizes {'x'.join(map(str, sizes))} where 1 to 1073741824 bytes are expected",
        )


def test_every_truncation_of_a_gzip_file_is_refused(tmp_path):
    packed = gzip.compress(CONTENT)
    for length in range(len(packed)):
        with pytest.raises(InvalidInput, match=r"damaged gzip file \(.*\); replace|ends after|begins with"):
            read_idx(_file(tmp_path, packed[:length]), dimensions=3)


def test_a_gzip_file_cut_short(tmp_path):
    _refused(_file(tmp_path, gzip.compress(CONTENT)[:-9]), r"is a damaged gzip file \(Compressed file ended .*\)")


def test_every_damaged_byte_of_compressed_data_is_refused(tmp_path):
    """Each byte after gzip's own header, deflated data, checksum and length alike; never a silent change."""
    packed = gzip.compress(CONTENT)
    for index in range(10, len(packed)):
        damaged = bytearray(packed)
        damaged[index] ^= 0xFF
        path = _file(tmp_path, bytes(damaged))
        with pytest.raises(InvalidInput, match=r"; replace it by an intact copy$") as caught:
            read_idx(path, dimensions=3)
        assert "\n" not in str(caught.value)


def test_a_wrong_checksum(tmp_path):
    damaged = bytearray(gzip.compress(CONTENT))
    damaged[-8] ^= 1
    _refused(_file(tmp_path, bytes(damaged)), r"is a damaged gzip file \(CRC check failed .*\)")


def test_what_trails_the_gzip_stream(tmp_path):
    path = _file(tmp_path, gzip.compress(CONTENT) + b"rubbish")
    _refused(path, r"is a damaged gzip file \(Not a gzipped file .*\)")


def test_a_bomb_is_not_unpacked(tmp_path, monkeypatch):
    """A gigabyte behind a header that declares 24 bytes: no more than those and one are requested."""
    asked = []
    read = gzip.GzipFile.read

    def counted(self, size=-1):
        asked.append(size)
        return read(self, size)

    monkeypatch.setattr(gzip.GzipFile, "read", counted)
    _refused(_file(tmp_path, gzip.compress(CONTENT + bytes(2**24))), "holds more bytes after its header .*")
    assert asked == [16, 25]


def test_a_missing_file(tmp_path):
    path = tmp_path / "nothing"
    with pytest.raises(InvalidInput, match=r"nothing' cannot be read \(No such file or directory\); make it readable$"):
        read_idx(path, dimensions=3)


def test_a_folder(tmp_path):
    with pytest.raises(InvalidInput, match=r"cannot be read \(Is a directory\); make it readable$"):
        read_idx(tmp_path, dimensions=3)


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may read everything")
def test_a_file_without_permission(tmp_path):
    path = _file(tmp_path, CONTENT)
    path.chmod(0)
    with pytest.raises(InvalidInput, match=r"cannot be read \(Permission denied\); make it readable$"):
        read_idx(path, dimensions=3)
