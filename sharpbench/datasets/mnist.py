"""MNIST from its four IDX files, which are downloaded if they are missing.

Source: LeCun, Bottou, Bengio and Haffner, "Gradient-based learning applied to document recognition",
Proceedings of the IEEE 86(11), 1998.
"""

from __future__ import annotations

import gzip
import hashlib
import math
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from io import BufferedIOBase
from pathlib import Path
from typing import ClassVar, final

import torch
from torch import Tensor

from sharpbench.datasets.dataset import Data, Dataset, scale_pixels
from sharpbench.datasets.download import DownloadFailed, download
from sharpbench.errors import InvalidInput
from sharpbench.files import atomic_write, check_plain_file, user_cache_folder

# The IDX format is described in LeCun, Cortes and Burges, "The MNIST database of handwritten digits", 1998,
# section "File formats": a header of sizes, then unsigned bytes; here plain or compressed by gzip.
_GZIP_MAGIC = b"\x1f\x8b"
_UNSIGNED_BYTES = 0x800  # the type of the elements, left of the number of dimensions
_MAX_CONTENT_BYTES = 2**30  # MNIST takes 47 MB, so a header that declares more is damaged
_REMEDY = "replace it by an intact copy"


def idx_header(sizes: Sequence[int]) -> bytes:
    """The header of an IDX file of unsigned bytes: magic number, then the sizes, each 4 bytes, big-endian."""
    return struct.pack(f">{1 + len(sizes)}I", _UNSIGNED_BYTES + len(sizes), *sizes)


def read_idx(path: Path, *, dimensions: int) -> Tensor:
    """The content of an IDX file of unsigned bytes: uint8, shaped as its header states.

    Gzip is recognised by its first two bytes and not by the file's name. At most one byte more than the header
    declares is decompressed, and a header may declare at most 1 GiB.

    Raises:
        InvalidInput: where the file cannot be read, the gzip stream is cut short or damaged, the magic number is not
            that of unsigned bytes with this number of dimensions, or the length differs from the declared one.
    """
    try:
        with _open_idx(path) as stream:
            sizes = _read_sizes(stream, path, dimensions)
            return _read_elements(stream, path, sizes)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InvalidInput(f"file '{path}' is a damaged gzip file ({error}); {_REMEDY}") from error
    except OSError as error:
        raise InvalidInput(f"file '{path}' cannot be read ({error.strerror}); make it readable") from error


def _open_idx(path: Path) -> BufferedIOBase:
    check_plain_file(path)
    with path.open("rb") as file:
        compressed = file.read(2) == _GZIP_MAGIC
    return gzip.open(path, "rb") if compressed else path.open("rb")


def _read_sizes(stream: BufferedIOBase, path: Path, dimensions: int) -> tuple[int, ...]:
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
    if not 0 < math.prod(sizes) <= _MAX_CONTENT_BYTES:
        raise InvalidInput(
            f"file '{path}' declares the sizes {_join_sizes(sizes)} where 1 to {_MAX_CONTENT_BYTES} bytes "
            f"are expected; {_REMEDY}"
        )
    return sizes


def _read_elements(stream: BufferedIOBase, path: Path, sizes: tuple[int, ...]) -> Tensor:
    expected = math.prod(sizes)
    content = stream.read(expected + 1)  # one byte more finds trailing data, and makes gzip check its CRC
    if len(content) != expected:
        found = "more bytes" if len(content) > expected else f"{len(content)} bytes"
        raise InvalidInput(f"file '{path}' holds {found} after its header where it declares {expected}; {_REMEDY}")
    return torch.frombuffer(bytearray(content), dtype=torch.uint8).reshape(sizes)


def _join_sizes(sizes: Sequence[int]) -> str:
    return "x".join(map(str, sizes))


MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)


@dataclass(frozen=True, slots=True)
class MnistFile:
    """One of MNIST's files, and its required content.

    Attributes:
        name: the name of the uncompressed file.
        sizes: the shape of its content.
        sha256: the hash of the uncompressed file, header included.
        gzip_bytes: the size of the .gz file on the mirrors. A .gz file from elsewhere may be compressed differently.
        gzip_sha256: the hash of the .gz file on the mirrors.
    """

    name: str
    sizes: tuple[int, ...]
    sha256: str
    gzip_bytes: int
    gzip_sha256: str


FILES = (
    MnistFile(
        name="train-images-idx3-ubyte",
        sizes=(60_000, 28, 28),
        sha256="ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        gzip_bytes=9_912_422,
        gzip_sha256="440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    ),
    MnistFile(
        name="train-labels-idx1-ubyte",
        sizes=(60_000,),
        sha256="65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        gzip_bytes=28_881,
        gzip_sha256="3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    ),
    MnistFile(
        name="t10k-images-idx3-ubyte",
        sizes=(10_000, 28, 28),
        sha256="0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        gzip_bytes=1_648_877,
        gzip_sha256="8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    ),
    MnistFile(
        name="t10k-labels-idx1-ubyte",
        sizes=(10_000,),
        sha256="ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        gzip_bytes=4_542,
        gzip_sha256="f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
    ),
)


@final
@dataclass(frozen=True)
class Mnist(Dataset):
    """70,000 handwritten digits: inputs [60,000 + 10,000, 1, 28, 28], pixels scaled to -1..1; ten classes."""

    name: ClassVar[str] = "mnist"
    title: ClassVar[str] = "MNIST: 60,000 + 10,000 handwritten digits, 1x28x28, from files or downloaded"
    source: ClassVar[str] = "LeCun, Bottou, Bengio and Haffner, Proceedings of the IEEE 86(11), 1998"

    def load(self, folder: Path | None) -> Data:
        """MNIST from `folder`/MNIST/raw (torchvision's layout), or from the user's cache if `folder` is None.

        Each file may be plain or gzip; if both exist, the plain one is read. Missing files are downloaded to the
        same folder; the network is used only if a file is missing. The content must be MNIST bit by bit, so that a
        number published for `mnist` is about MNIST.

        Raises:
            InvalidInput: for files that are damaged, not MNIST's, or missing where the download fails.
        """
        raw = (folder or user_cache_folder() / "data") / "MNIST" / "raw"
        _download_missing(raw)
        train_images, train_labels, test_images, test_labels = (_read_checked(raw, file) for file in FILES)
        return Data(
            train_inputs=_to_inputs(train_images),
            train_targets=train_labels.long(),
            test_inputs=_to_inputs(test_images),
            test_targets=test_labels.long(),
            classes=10,
            images=True,
        )


def _to_inputs(images: Tensor) -> Tensor:
    return scale_pixels(images.unsqueeze(1).to(torch.float32) / 255)  # [n, 1, 28, 28]


def _find_file(raw: Path, file: MnistFile) -> Path | None:
    candidates = (raw / file.name, raw / f"{file.name}.gz")
    return next((path for path in candidates if _exists(path)), None)


def _exists(path: Path) -> bool:
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        pass  # the file may exist but be out of reach; reading it raises the reason
    return True


def _download_missing(raw: Path) -> None:
    """Download the missing files. Raises InvalidInput, one line, that names all files that are still missing."""
    for file in FILES:
        if _find_file(raw, file) is not None:
            continue
        name = f"{file.name}.gz"
        try:
            content = download(name, mirrors=MIRRORS, size=file.gzip_bytes, sha256=file.gzip_sha256)
        except DownloadFailed as error:
            missing = ", ".join(file.name for file in FILES if _find_file(raw, file) is None)
            raise InvalidInput(
                f"dataset 'mnist': missing in '{raw}': {missing}; the download failed ({error}); put the "
                "files there, plain or .gz, or name the folder that holds MNIST/raw by --data-dir or "
                "$SHARPBENCH_DATA"
            ) from error
        _store_download(raw / name, content)


def _store_download(path: Path, content: bytes) -> None:
    try:
        atomic_write(path, content)
    except OSError as error:
        raise InvalidInput(
            f"dataset 'mnist': '{path}' was downloaded but cannot be written ({error.strerror}); name a "
            "folder that can be by --data-dir or $SHARPBENCH_DATA"
        ) from error


def _read_checked(raw: Path, file: MnistFile) -> Tensor:
    """The content of one file, checked by sizes, range of labels and hash, in the order of the clearest message."""
    path = _find_file(raw, file) or raw / file.name
    content = read_idx(path, dimensions=len(file.sizes))
    remedy = "restore the file, or delete it to have it downloaded"
    if tuple(content.shape) != file.sizes:
        raise InvalidInput(
            f"file '{path}' holds {_describe_sizes(tuple(content.shape))} where MNIST has "
            f"{_describe_sizes(file.sizes)}; {remedy}"
        )
    if content.dim() == 1 and content.max() > 9:
        index = int((content > 9).nonzero()[0])
        raise InvalidInput(
            f"file '{path}' holds the label {content[index]} at {index} where 0..9 are expected; {remedy}"
        )
    found = hashlib.sha256(idx_header(content.shape) + content.numpy().tobytes()).hexdigest()
    if found != file.sha256:
        raise InvalidInput(
            f"file '{path}' is not MNIST's: the sha256 of its content is {found} where {file.sha256} is "
            f"expected; {remedy}"
        )
    return content


def _describe_sizes(sizes: tuple[int, ...]) -> str:
    if len(sizes) == 1:
        return f"{sizes[0]} labels"
    return f"{sizes[0]} images of {'x'.join(map(str, sizes[1:]))}"
