"""Published data sets, from files of their layout and none of their content."""

from __future__ import annotations

import hashlib
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io

from sharpbench.datasets import Cifar10, Cifar100, FashionMnist, Svhn
from sharpbench.environment import import_torchvision
from sharpbench.errors import InvalidInput

IMAGES = np.random.default_rng(0).integers(0, 256, (5, 3, 32, 32), dtype=np.uint8)


def packed(path: Path, content: Any) -> list[str]:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(content))
    return [path.name, hashlib.md5(path.read_bytes()).hexdigest()]


@pytest.mark.parametrize(
    ("dataset", "cls", "key"), [(Cifar10(), "CIFAR10", "labels"), (Cifar100(), "CIFAR100", "fine_labels")]
)
def test_cifar_is_read_in_its_layout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dataset: Any, cls: str, key: str
) -> None:
    reader = getattr(import_torchvision().datasets, cls)
    folder = tmp_path / reader.base_folder
    rows = {"data": IMAGES.reshape(5, -1), key: [3, 1, 4, 1, 5]}
    monkeypatch.setattr(reader, "train_list", [packed(folder / "train", rows)])
    monkeypatch.setattr(reader, "test_list", [packed(folder / "test", rows)])
    names = packed(folder / "meta", {reader.meta["key"]: list("abcdefghij")})
    monkeypatch.setattr(reader, "meta", {**reader.meta, "filename": names[0], "md5": names[1]})
    data = dataset.load(tmp_path)
    assert data.train_inputs.shape == (5, 3, 32, 32)
    assert data.train_targets.tolist() == [3, 1, 4, 1, 5]
    assert float(data.train_inputs[2, 1, 7, 9]) == pytest.approx(IMAGES[2, 1, 7, 9] / 127.5 - 1, abs=1e-6)
    assert (data.classes, data.images) == (100 if cls == "CIFAR100" else 10, True)


def test_a_pickle_that_is_not_the_published_one_is_not_opened(tmp_path: Path) -> None:
    class Attack:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "executed",))

    folder = tmp_path / "cifar-10-batches-py"
    for name in [f"data_batch_{number}" for number in range(1, 6)] + ["test_batch", "batches.meta"]:
        packed(folder / name, Attack())
    with pytest.raises(
        InvalidInput, match=r"dataset 'cifar10' is missing or damaged in .*; put its cifar-10-batches-py"
    ):
        Cifar10().load(tmp_path)
    assert not (tmp_path / "executed").exists()


def test_fashion_mnist_is_read_in_its_layout(tmp_path: Path) -> None:
    raw = tmp_path / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for part in ("train", "t10k"):
        images = IMAGES[:, 0, :28, :28]
        (raw / f"{part}-images-idx3-ubyte").write_bytes(struct.pack(">4I", 0x803, 5, 28, 28) + images.tobytes())
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(struct.pack(">2I", 0x801, 5) + bytes([3, 1, 4, 1, 5]))
    data = FashionMnist().load(tmp_path)
    assert data.test_inputs.shape == (5, 1, 28, 28)
    assert data.test_targets.tolist() == [3, 1, 4, 1, 5]
    assert float(data.test_inputs[4, 0, 3, 2]) == pytest.approx(IMAGES[4, 0, 3, 2] / 127.5 - 1, abs=1e-6)
    (raw / "t10k-labels-idx1-ubyte").write_bytes(b"\0\0\10")
    with pytest.raises(InvalidInput, match="dataset 'fashion-mnist' is missing or damaged"):
        FashionMnist().load(tmp_path)


def test_svhn_is_read_in_its_layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = import_torchvision().datasets.SVHN
    files = {}
    for part in ("train", "test"):
        path = tmp_path / f"{part}_32x32.mat"
        scipy.io.savemat(path, {"X": IMAGES.transpose(2, 3, 1, 0), "y": np.array([[10], [1], [4], [1], [5]])})
        files[part] = ["", path.name, hashlib.md5(path.read_bytes()).hexdigest()]
    monkeypatch.setattr(reader, "split_list", files)
    data = Svhn().load(tmp_path)
    assert data.train_targets.tolist() == [0, 1, 4, 1, 5]
    assert float(data.train_inputs[2, 1, 7, 9]) == pytest.approx(IMAGES[2, 1, 7, 9] / 127.5 - 1, abs=1e-6)


@pytest.mark.parametrize("dataset", [Cifar10(), Cifar100(), FashionMnist(), Svhn()], ids=lambda each: each.name)
def test_missing_files_are_named(tmp_path: Path, dataset: Any) -> None:
    with pytest.raises(InvalidInput, match=f"dataset '{dataset.name}' is missing or damaged in .*--data-dir"):
        dataset.load(tmp_path)
