"""Folders of trained networks: what goes out comes in again, and nothing that was tampered with does."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from sharpbench.datasets import Digits
from sharpbench.errors import InvalidInput
from sharpbench.models import SmallMlp
from sharpbench.training import zoo_transfer
from sharpbench.training.cohorts import LabelNoise
from sharpbench.training.network import TrainingResult
from sharpbench.training.recipe import network_key
from sharpbench.training.zoo import FORMAT, Origin, Zoo
from sharpbench.training.zoo_transfer import README_FILE, TABLE_FILE, export_networks, import_networks

DATA = "ab" * 32
RECIPES = LabelNoise(ratios=2, seeds=2).recipes((SmallMlp(width=3),), Digits())
TRUTH = TrainingResult(
    train_loss=None,
    train_accuracy=1.0,
    test_loss=0.5,
    test_accuracy=0.75,
    gap=0.25,
    fitted=True,
    diverged=False,
    steps=10,
    epochs=2,
    seconds=0.5,
    parameter_norm=3.0,
)
KEYS = [network_key(recipe, DATA, "cpu") for recipe in RECIPES]


def weights(seed: int) -> dict[str, torch.Tensor]:
    torch.manual_seed(seed)
    return dict(SmallMlp(width=3).build((1, 28, 28), 10).state_dict())


def filled(folder: Path) -> Zoo:
    zoo = Zoo(folder)
    for seed, (key, recipe) in enumerate(zip(KEYS, RECIPES, strict=True)):
        zoo.save(key, weights(seed), TRUTH.row(), origin=Origin(recipe.row(), DATA, "cpu"))
    return zoo


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    zoo = filled(tmp_path / "from")
    export_networks(zoo, zoo.entries()[0], tmp_path / "out", command="sharpbench zoo export FOLDER")
    return tmp_path / "out"


def changed(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    table = json.loads((folder / TABLE_FILE).read_text())
    change(table)
    (folder / TABLE_FILE).write_text(json.dumps(table))


def refused(folder: Path, *said: str) -> None:
    """One line with these words, and nothing in the zoo."""
    zoo = Zoo(folder.parent / "into")
    with pytest.raises(InvalidInput) as raised:
        import_networks(zoo, folder)
    line = str(raised.value)
    assert "\n" not in line
    assert str(folder) in line
    for words in said:
        assert words in line
    assert not zoo.folder.exists()


def test_networks_go_out_and_come_in_bit_by_bit(folder: Path, tmp_path: Path) -> None:
    zoo = Zoo(tmp_path / "into")
    done = import_networks(zoo, folder)
    assert (done.added, done.present) == (4, 0)
    for seed, (key, recipe) in enumerate(zip(KEYS, RECIPES, strict=True)):
        loaded = zoo.load(key)
        assert loaded is not None
        assert loaded[1] == TRUTH.row()
        assert {name: value.tolist() for name, value in loaded[0].items()} == {
            name: value.tolist() for name, value in weights(seed).items()
        }
        assert next(entry for entry in zoo.entries()[0] if entry.key == key).origin == Origin(recipe.row(), DATA, "cpu")
    again = import_networks(zoo, folder)
    assert (again.added, again.present) == (0, 4)


def test_a_damaged_entry_is_replaced_by_an_import_and_a_sound_one_is_not(folder: Path, tmp_path: Path) -> None:
    zoo = filled(tmp_path / "into")
    (zoo.folder / KEYS[0] / "weights.safetensors").write_bytes(b"")
    zoo.save(KEYS[1], weights(7), TRUTH.row(), origin=Origin(RECIPES[1].row(), DATA, "cpu"))
    done = import_networks(zoo, folder)
    assert (done.added, done.present) == (1, 3)
    first, second = zoo.load(KEYS[0]), zoo.load(KEYS[1])
    assert first is not None
    assert second is not None
    assert torch.equal(first[0]["layer0.weight"], weights(0)["layer0.weight"])
    assert torch.equal(second[0]["layer0.weight"], weights(7)["layer0.weight"])


def test_the_folder_is_the_table_a_file_each_and_a_page(folder: Path) -> None:
    table = json.loads((folder / TABLE_FILE).read_text())
    assert set(table) == {"format", "zoo_format", "sharpbench", "command", "networks"}
    assert len(table["networks"]) == 4
    assert {path.name for path in folder.iterdir()} == {
        TABLE_FILE,
        README_FILE,
        *(row["file"] for row in table["networks"]),
    }
    for row in table["networks"]:
        content = (folder / row["file"]).read_bytes()
        assert (hashlib.sha256(content).hexdigest(), len(content)) == (row["sha256"], row["bytes"])
        assert row["recipe"] in [recipe.row() for recipe in RECIPES]
        assert row["truth"] == TRUTH.row()


def test_the_page_of_the_folder_loads_it_without_us(folder: Path) -> None:
    """The lines that the README shows are executed, where sharpbench cannot be imported."""
    (block,) = re.findall(r"```python\n(.*?)```", (folder / README_FILE).read_text(), flags=re.DOTALL)
    assert len(block.splitlines()) <= 10
    code = "import sys\nsys.modules['sharpbench'] = None\n" + block
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=folder, timeout=60)
    assert done.returncode == 0, done.stderr
    size = 785 * 3 + 4 * 3 + 4 * 10
    assert sorted(done.stdout.splitlines()) == sorted(
        f"small-mlp[width=3] {recipe.label_noise} 0.25 {size}" for recipe in RECIPES
    )


@pytest.mark.parametrize(
    "name",
    [
        *("../x.safetensors", "/etc/passwd", "a/b.safetensors", "a\\b.safetensors", "..", ".x.safetensors"),
        *("x.pt", "x.safetensors\n", "x" * 200 + ".safetensors", "", 5, None, ["a.safetensors"]),
    ],
)
def test_names_of_files_are_no_paths(folder: Path, name: object) -> None:
    (folder.parent / "x.safetensors").write_bytes(next(folder.glob("*.safetensors")).read_bytes())
    changed(folder, lambda table: table["networks"][2].update(file=name))
    refused(folder, "networks[2]", "is not the name of a safetensors file in this folder", "nothing was imported")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda row: row.update(sha256="0" * 64), "has the hash"),
        (lambda row: row.update(sha256="0" * 63), "is not a SHA-256"),
        (lambda row: row.update(sha256=None), "is not a SHA-256"),
        (lambda row: row.update(data_sha256="../.."), "data_sha256 '../..' is not a SHA-256"),
        (lambda row: row.update(device="../x"), "device '../x' is none of cpu, cuda"),
        (lambda row: row.update(device=["cpu"]), "is none of cpu, cuda"),
        (lambda row: row.update(bytes=1), "but the table states 1; fetch it again"),
        (lambda row: row.update(extra=1), "missing or unknown fields: extra"),
        (lambda row: row.pop("truth"), "missing or unknown fields: truth"),
        (lambda row: row["recipe"].update(model="smal-mlp"), "unknown model 'smal-mlp'; did you mean 'small-mlp'"),
        (lambda row: row["recipe"].update(model="net.py:make"), "unknown model 'net.py'"),
        (lambda row: row["recipe"].update(optimizer="sgd[momentum=2]"), "momentum=2.0 must be from 0 to below 1"),
        (lambda row: row["recipe"].update(optimizer="sgd[momentum=0.90]"), "must be written sgd"),
        (lambda row: row["recipe"].update(learning_rate=-1.0), "learning_rate=-1.0 must be above 0"),
        (lambda row: row["recipe"].update(batch_size="64"), "batch_size=64 is not a whole number"),
        (lambda row: row["recipe"].update(seed=True), "seed=True is not a whole number"),
        (lambda row: row["recipe"].update(momentum=0.9), "a recipe has no 'momentum'"),
        (lambda row: row["recipe"].pop("decay"), "a recipe without decay; it is of another version"),
        (lambda row: row.update(recipe=[]), "recipe [] is not an object"),
        (lambda row: row.update(truth=None), "truth None is not an object"),
        (lambda row: row["truth"].update(gap="0.1"), "truth: gap=0.1 is not a number"),
        (lambda row: row["truth"].update(fitted=1), "truth: fitted=1 is neither true nor false"),
        (
            lambda row: row["truth"].update(gap=0.9),
            "truth: gap=0.9 is not the training accuracy minus the test accuracy; do not",
        ),
        (lambda row: row["truth"].update(train_accuracy=-7), "truth: train_accuracy=-7 is not from 0 to 1"),
        (lambda row: row["truth"].update(steps=-4), "truth: steps=-4 is below 0"),
        (
            lambda row: row["truth"].update(fitted=True, diverged=True),
            "the network is both fitted and diverged",
        ),
        (lambda row: row["truth"].update(gapp=1), "truth has no 'gapp'; did you mean 'gap'?"),
        (lambda row: row["truth"].pop("gap"), "truth lacks 'gap'; it is of another version"),
    ],
)
def test_a_row_that_was_tampered_with_is_refused_whole(
    folder: Path, change: Callable[[dict[str, Any]], object], said: str
) -> None:
    changed(folder, lambda table: change(table["networks"][3]))
    refused(folder, "networks[3]", said, "nothing was imported")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda table: table.update(format=2), "format 2, written by sharpbench 0."),
        (lambda table: table.update(format=True), "format True"),
        (lambda table: table.update(zoo_format=FORMAT + 1), "use the version that wrote it"),
        (lambda table: table.pop("zoo_format"), "zoo_format None"),
        (lambda table: table.update(networks={}), "is not a table of networks"),
        (lambda table: table.update(networks=[]), "holds no network"),
        (lambda table: table.update(networks=[5]), "missing or unknown fields: int"),
        (lambda table: table["networks"].append(table["networks"][0]), "occurs twice"),
    ],
)
def test_a_table_of_another_kind_is_refused(
    folder: Path, change: Callable[[dict[str, Any]], object], said: str
) -> None:
    changed(folder, change)
    refused(folder, said)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"null", b"[]", b"\xff\xfe", b"[" * 100_000, b'{"format": NaN}'], ids=lambda each: each[:8]
)
def test_damaged_tables_are_one_line(folder: Path, content: bytes) -> None:
    (folder / TABLE_FILE).write_bytes(content)
    refused(folder, "is not a table of networks")


@pytest.mark.parametrize("size", [0, 7, 100, -1])
def test_truncated_weights_are_refused(folder: Path, size: int) -> None:
    path = sorted(folder.glob("*.safetensors"))[3]
    path.write_bytes(path.read_bytes()[:size])
    refused(folder, "networks[", path.name, "bytes but the table states", "nothing was imported")


def test_every_flipped_byte_is_found(folder: Path) -> None:
    path = sorted(folder.glob("*.safetensors"))[0]
    content = path.read_bytes()
    for place in range(0, len(content), 997):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        refused(folder, path.name, "has the hash")


def test_what_is_no_safetensors_is_refused_although_its_hash_is_right(folder: Path) -> None:
    path = sorted(folder.glob("*.safetensors"))[0]
    for content in (b"\x80\x04}\x94.", safetensors.torch.save({})):
        path.write_bytes(content)
        right = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}

        def mend(table: dict[str, Any], right: dict[str, Any] = right) -> None:
            next(row for row in table["networks"] if row["file"] == path.name).update(right)

        changed(folder, mend)
        refused(folder, path.name)


def test_links_and_pipes_are_no_files(folder: Path) -> None:
    path = sorted(folder.glob("*.safetensors"))[0]
    path.rename(folder.parent / "elsewhere")
    path.symlink_to(folder.parent / "elsewhere")
    refused(folder, path.name, "is not a plain file")
    path.unlink()
    os.mkfifo(path)
    refused(folder, path.name, "is not a plain file")
    path.unlink()
    refused(folder, f"there is no '{path.name}'")
    (folder / TABLE_FILE).unlink()
    os.mkfifo(folder / TABLE_FILE)
    zoo = Zoo(folder.parent / "into")
    with pytest.raises(InvalidInput, match="is not a plain file"):
        import_networks(zoo, folder)


def test_a_file_that_changes_between_check_and_import_is_refused_and_what_stays_is_said(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    zoo, save = Zoo(tmp_path / "into"), Zoo.save

    def saved(self: Zoo, *given: Any, **options: Any) -> None:
        save(self, *given, **options)
        for path in folder.glob("*.safetensors"):
            path.write_bytes(b"")

    monkeypatch.setattr(Zoo, "save", saved)
    with pytest.raises(
        InvalidInput, match="changed while it was read; 1 of 4 networks were imported before it and remain"
    ):
        import_networks(zoo, folder)
    assert len(zoo.entries()[0]) == 1


def test_export_refuses_what_it_cannot_do_and_leaves_nothing(tmp_path: Path) -> None:
    zoo = filled(tmp_path / "from")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("")
    with pytest.raises(InvalidInput, match="already exists and is not empty; name a new folder"):
        export_networks(zoo, zoo.entries()[0], tmp_path / "full", command="")
    with pytest.raises(InvalidInput, match="no network in the cache matches"):
        export_networks(zoo, [], tmp_path / "out", command="")
    (zoo.folder / KEYS[0] / "weights.safetensors").write_bytes(b"")
    with pytest.raises(InvalidInput, match=f"network {KEYS[0][:16]} is damaged; train it again"):
        export_networks(zoo, zoo.entries()[0], tmp_path / "out", command="")
    Zoo(tmp_path / "old").save("k", weights(0), TRUTH.row())
    with pytest.raises(InvalidInput, match="network k was stored without its recipe; train it again"):
        export_networks(Zoo(tmp_path / "old"), Zoo(tmp_path / "old").entries()[0], tmp_path / "out", command="")
    assert {path.name for path in tmp_path.iterdir()} == {"from", "full", "old"}


def test_a_table_that_import_would_refuse_is_not_exported(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hostile tables of 256 MiB took 7 GiB of memory before they were refused; both sides have one bound."""
    monkeypatch.setattr(zoo_transfer, "MAX_TABLE_BYTES", 1000)
    zoo = Zoo(tmp_path / "from")
    with pytest.raises(InvalidInput, match=rf"table of {len(KEYS)} networks takes .* bytes, over .*--models"):
        export_networks(zoo, zoo.entries()[0], tmp_path / "again", command="")
    refused(folder, "it is not a table of networks")


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    zoo = filled(tmp_path / "from")
    (tmp_path / "out").mkdir()
    export_networks(zoo, zoo.entries()[0], tmp_path / "out", command="")
    assert len(list((tmp_path / "out").iterdir())) == 6


def test_the_folder_one_stands_in_is_a_folder_like_any_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    zoo, here = filled(tmp_path / "from"), tmp_path / "here"
    here.mkdir()
    (here / "mine").touch()
    monkeypatch.chdir(here)
    with pytest.raises(
        InvalidInput, match=f"^'{re.escape(str(here))}' already exists and is not empty; name a new folder$"
    ):
        export_networks(zoo, zoo.entries()[0], Path("."), command="c")
    (here / "mine").unlink()
    export_networks(zoo, zoo.entries()[0], Path("."), command="c")
    assert (here / TABLE_FILE).is_file()
    assert [each.name for each in tmp_path.iterdir() if each.name.startswith(".")] == []
