"""Arrays of one's own."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sharpbench.core.spec import format_spec, parse_spec
from sharpbench.datasets import Npz
from sharpbench.errors import InvalidInput

FLOATS = np.arange(12, dtype=np.float64).reshape(4, 3)
TARGETS = np.array([0, 2, 1, 2])


def saved(folder: Path, **arrays: Any) -> Path:
    path = folder / "mine.npz"
    np.savez(path, **arrays)
    return path


def test_floats_are_taken_as_they_are(tmp_path: Path) -> None:
    path = saved(tmp_path, inputs=FLOATS, targets=TARGETS)
    data = Npz(str(path)).load(None)
    assert torch.equal(data.train_inputs, torch.from_numpy(FLOATS).float())
    assert data.train_targets.tolist() == [0, 2, 1, 2]
    assert data.train_targets.dtype == torch.int64
    assert (data.classes, data.images, len(data.test_inputs)) == (3, False, 0)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((4, 8, 8), (4, 1, 8, 8)),
        ((4, 3, 8, 8), (4, 3, 8, 8)),
        ((4, 8, 8, 3), (4, 3, 8, 8)),
        ((4, 8, 8, 1), (4, 1, 8, 8)),
    ],
)
def test_bytes_are_images_scaled_to_minus_one_to_one(
    tmp_path: Path, shape: tuple[int, ...], expected: tuple[int, ...]
) -> None:
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    images.flat[:2] = 0, 255
    data = Npz(str(saved(tmp_path, x_train=images, y_train=TARGETS[:, None]))).load(None)
    assert data.images
    assert data.train_inputs.shape == expected
    assert (float(data.train_inputs.min()), float(data.train_inputs.max())) == (-1.0, 1.0)
    if shape == (4, 8, 8, 3):
        assert float(data.train_inputs[2, 1, 5, 6]) == pytest.approx(images[2, 5, 6, 1] / 127.5 - 1, abs=1e-6)


def test_a_test_split_and_the_number_of_classes_are_taken(tmp_path: Path) -> None:
    path = saved(tmp_path, train_inputs=FLOATS, train_targets=TARGETS, test_inputs=FLOATS[:2], test_targets=[1, 3])
    data = Npz(str(path)).load(None)
    assert (len(data.test_inputs), data.classes) == (2, 4)
    assert Npz(str(path), classes=10).load(None).classes == 10


def test_the_word_is_the_path(tmp_path: Path) -> None:
    chosen = parse_spec("npz:some/mine.npz[classes=4]", {"npz": Npz}, kind="dataset")
    assert chosen == Npz("some/mine.npz", classes=4)
    assert format_spec(chosen) == "npz:some/mine.npz[classes=4]"


@pytest.mark.parametrize(
    ("arrays", "line"),
    [
        ({"a": FLOATS}, "holds a; name its arrays train_inputs and train_targets"),
        ({"inputs": FLOATS[:0], "targets": TARGETS[:0]}, r"inputs have shape \[0, 3\]; expected .* at least 1 example"),
        ({"inputs": FLOATS[:, 0], "targets": TARGETS}, r"inputs have shape \[4\]; expected \[n, ...\]"),
        ({"inputs": FLOATS > 1, "targets": TARGETS}, "inputs are of type bool; expected floats, uint8"),
        ({"inputs": FLOATS * np.nan, "targets": TARGETS}, "inputs hold 12 NaN or infinite of 12 entries"),
        ({"inputs": FLOATS * 1e300, "targets": TARGETS}, "inputs hold 11 NaN or infinite of 12 entries"),
        ({"inputs": FLOATS, "targets": TARGETS[:3]}, r"targets have shape \[3\] and type int64; expected 4 whole"),
        ({"inputs": FLOATS, "targets": TARGETS + 0.5}, "and type float64; expected 4 whole numbers"),
        ({"inputs": FLOATS, "targets": TARGETS - 1}, "targets hold -1; classes are numbered from 0"),
        ({"inputs": np.zeros((4, 5, 6, 7), np.uint8), "targets": TARGETS}, r"\[4, 5, 6, 7\]; images are"),
        (
            {"x_train": FLOATS, "y_train": TARGETS, "x_test": FLOATS[:, :2], "y_test": TARGETS},
            r"x_train have shape \[3\] each, x_test \[2\]; give both the same",
        ),
        (
            {"inputs": np.array([[{}], [[]]], dtype=object), "targets": TARGETS[:2]},
            r"holds targets and objects, which are not read \(inputs\)",
        ),
    ],
)
def test_what_cannot_be_used_is_said_in_a_line(tmp_path: Path, arrays: dict[str, Any], line: str) -> None:
    with pytest.raises(InvalidInput, match=line) as caught, np.errstate(over="ignore"):
        Npz(str(saved(tmp_path, **arrays))).load(None)
    assert "\n" not in str(caught.value)


def test_too_few_classes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="holds the target 2 where classes=2 allows 0 to 1"):
        Npz(str(saved(tmp_path, inputs=FLOATS, targets=TARGETS)), classes=2).load(None)
    with pytest.raises(InvalidInput, match="classes=0 must be at least 1"):
        Npz("x", classes=0)


def test_both_splits_are_of_one_type(tmp_path: Path) -> None:
    images = np.zeros((4, 8, 8), np.uint8)
    path = saved(tmp_path, x_train=images, y_train=TARGETS, x_test=images / 255, y_test=TARGETS)
    with pytest.raises(InvalidInput, match="x_train are of type uint8, x_test of float64; give both in one type"):
        Npz(str(path)).load(None)


@pytest.mark.parametrize("target", [10**6, 2**62, 2**63 + 5])
def test_targets_that_can_be_no_classes(tmp_path: Path, target: int) -> None:
    path = saved(tmp_path, inputs=FLOATS[:1], targets=np.array([target], np.uint64))
    with pytest.raises(InvalidInput, match=f"targets hold {target}; classes go from 0 to 999999"):
        Npz(str(path)).load(None)


@pytest.mark.parametrize("seed", range(40))
def test_damaged_bytes_never_end_in_a_traceback(tmp_path: Path, seed: int) -> None:
    path = saved(tmp_path, inputs=FLOATS, targets=TARGETS)
    rng = np.random.default_rng(seed)
    content = bytearray(path.read_bytes())
    for place in rng.integers(0, len(content), 6):
        content[place] = rng.integers(0, 256)
    path.write_bytes(bytes(content))
    with contextlib.suppress(InvalidInput):
        Npz(str(path)).load(None)


def test_files_that_are_missing_cut_or_none(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="there is no file"):
        Npz(str(tmp_path / "none.npz")).load(None)
    path = saved(tmp_path, inputs=FLOATS, targets=TARGETS)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(InvalidInput, match=r"is not an intact \.npz"):
        Npz(str(path)).load(None)
    path.write_bytes(b"not an archive")
    with pytest.raises(InvalidInput, match=r"is not an intact \.npz"):
        Npz(str(path)).load(None)
    np.save(tmp_path / "one.npy", FLOATS)
    with pytest.raises(InvalidInput, match=r"is one array and not an \.npz of several"):
        Npz(str(tmp_path / "one.npy")).load(None)
    with pytest.raises(InvalidInput, match="is not a file; name one that"):
        Npz(str(tmp_path)).load(None)


def test_arrays_of_objects_are_left_out_and_named(tmp_path: Path) -> None:
    names = np.array(["a", None, "b"], dtype=object)
    np.savez(tmp_path / "x.npz", x=np.zeros((3, 2), np.float32), y=np.arange(3), names=names)
    dataset = Npz(str(tmp_path / "x.npz"))
    assert len(dataset.load(None).train_inputs) == 3
    assert dataset.notes(None)[0].endswith("are not read, as pickle could execute code (names)")
    np.savez(tmp_path / "y.npz", x=np.zeros((3, 2), np.float32), y=names)
    with pytest.raises(InvalidInput, match=r"holds x and objects, which are not read \(y\); name its arrays"):
        Npz(str(tmp_path / "y.npz")).load(None)


@pytest.mark.parametrize("kind", [np.int32, np.int64])
def test_whole_numbers_are_tokens(tmp_path: Path, kind: type) -> None:
    tokens = np.array([[0, 5, 2], [1, 1, 7]], kind)
    np.savez(tmp_path / "x.npz", x=tokens, y=np.arange(2))
    data = Npz(str(tmp_path / "x.npz")).load(None)
    assert data.train_inputs.dtype == torch.int64
    assert data.train_inputs.tolist() == tokens.tolist()
    assert not data.images
    np.savez(tmp_path / "x.npz", x=tokens - 1, y=np.arange(2))
    with pytest.raises(InvalidInput, match="x hold -1; tokens are numbered from 0"):
        Npz(str(tmp_path / "x.npz")).load(None)


def test_classes_without_examples_and_arrays_without_partners_are_noted(tmp_path: Path) -> None:
    path, x = tmp_path / "odd.npz", np.zeros((4, 3), np.float32)
    np.savez(path, x_train=x, y_train=np.array([1, 2, 1, 9], np.uint8), x_test=x)
    assert Npz(str(path)).notes(None) == (
        f"file '{path}': x_test is left out, since there is no y_test",
        f"file '{path}': 7 of the classes 0 to 9 have no training example (0, 3, 4, 5, 6, ...); classes are numbered "
        "from 0, and each number is one",
    )
    assert len(Npz(str(path), classes=12).notes(None)) == 1
    np.savez(path, x=x, y=np.array([0, 1, 2, 1]))
    assert Npz(str(path)).notes(None) == ()
    np.savez(path, x=x, y=np.array([0.5, 1, 2, 1]))  # `load` refuses it
    assert Npz(str(path)).notes(None) == ()
