"""The packaged archive: its bytes, that every column is explained, and that a changed file is refused."""

from __future__ import annotations

import hashlib
from importlib.resources import files
from pathlib import Path

import pytest

from sharpbench.errors import InvalidInput
from sharpbench.replays.minimum_sharpness_2021 import archive as module
from sharpbench.replays.minimum_sharpness_2021.archive import COLUMNS, FILE_NAME, SHA256, read_archive

DATA = files("sharpbench.replays.minimum_sharpness_2021") / "data"


def test_the_packaged_bytes_are_those_that_are_documented() -> None:
    content = (DATA / FILE_NAME).read_bytes()
    assert hashlib.sha256(content).hexdigest() == SHA256
    assert f"`{SHA256}`" in (DATA / "README.md").read_text(encoding="utf-8")


def test_every_column_is_explained_twice_in_the_order_of_the_file() -> None:
    header = (DATA / FILE_NAME).read_text(encoding="utf-8").partition("\n")[0].split(",")
    assert list(COLUMNS) == header
    page = (DATA / "README.md").read_text(encoding="utf-8")
    rows = [line.split("|")[1].strip() for line in page.splitlines() if line.startswith("| `")]
    assert rows == [f"`{name}`" for name in header]


def test_it_is_the_design_of_the_paper_with_nothing_missing() -> None:
    table = read_archive()
    assert set(COLUMNS) | {"gap", "fitted"} == set(table.columns)
    assert not table.isna().any().any()
    assert table.groupby("model").size().to_dict() == {"lenet": 110, "mlp": 110}
    cells = table.groupby(["model", "label_noise"])["trial"].agg(list)
    assert len(cells) == 22
    assert all(sorted(trials) == list(range(10)) for trials in cells)
    assert (table["gap"] == table["train_accuracy"] - table["test_accuracy"]).all()


def test_three_perceptrons_never_left_chance() -> None:
    left = read_archive().query("not fitted")
    assert list(zip(left["model"], left["trial"], left["label_noise"], strict=True)) == [
        ("mlp", 1, 0.1),
        ("mlp", 4, 0.0),
        ("mlp", 9, 0.0),
    ]
    assert (left["train_accuracy"] < 0.12).all()


def test_a_changed_file_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / FILE_NAME).write_text("model\nMLP\n", encoding="utf-8")
    monkeypatch.setattr(module, "files", lambda package: tmp_path)
    with pytest.raises(InvalidInput, match=f"{FILE_NAME} of this installation has SHA-256 .* install sharpbench again"):
        read_archive()
