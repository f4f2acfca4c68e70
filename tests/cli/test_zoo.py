"""`sharpbench zoo` through the front door."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import sharpbench
from sharpbench import Record
from sharpbench.training.zoo import FORMAT, RESULT, WEIGHTS, Origin, Zoo
from tests.commands import given, imported, refused

AXES = "axes=width+optimizer,width=5+20,optimizer=sgd+sgd[momentum=0.5]"
COHORT = f"hyperparameters[{AXES},seeds=2,train_size=8,max_epochs=80]"


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> str:
    """8 networks of small-mlp and 2 of small-cnn, most of which their budget leaves unfitted."""
    folder = tmp_path_factory.mktemp("zoo")
    unfitted = "label-noise[ratios=2,seeds=1,train_size=8,max_epochs=1]"
    for model, cohort in (("small-mlp", COHORT), ("small-cnn", unfitted)):
        found = measured(model, cohort, folder / "cache")
        assert {record.status for record in found} == {"ok"}
        (folder / model).write_text(json.dumps([record.value for record in found]))
    return str(folder / "cache")


def measured(model: str, cohort: str, folder: Path) -> list[Record]:
    """The records of a run, whose networks are in the cache afterwards."""
    asked = {"timing": 0, "oracle": 0, "invariance": 0}
    cells = sharpbench.plan("parameter-norm", model, cohort=cohort, device="cpu", **asked)
    return list(sharpbench.run(cells, cache_dir=folder, threads=1))


def rows(*words: str) -> list[dict[str, Any]]:
    done = given("zoo", "list", "--json", *words)
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def test_list_counts_networks_by_population(cache: str) -> None:
    small_cnn, small_mlp = rows("--cache-dir", cache)
    assert (small_mlp["model"], small_mlp["networks"], small_mlp["configurations"]) == ("small-mlp", 8, 4)
    assert (small_cnn["model"], small_cnn["networks"], small_cnn["configurations"]) == ("small-cnn", 2, 2)
    entries, _ = Zoo(Path(cache)).entries()
    assert small_mlp["size"] + small_cnn["size"] == sum(entry.size for entry in entries)
    assert small_mlp["fitted"] + sum(small_mlp["exclusions"].values()) == 8
    shown = given("zoo", "list", "--cache-dir", cache)
    assert "10 networks, " in shown.stdout


def test_filters(cache: str) -> None:
    every = ("--cache-dir", cache, "--networks")
    assert len(rows(*every)) == 10
    assert len(rows(*every, "--models", "small-mlp")) == 8
    assert len(rows(*every, "--models", "small-mlp[width=5]")) == 4
    assert len(rows(*every, "--models", "small-mlp[width=5],small-cnn")) == 6
    assert len(rows(*every, "--dataset", "mnist")) == 0
    part = COHORT.replace("seeds=2", "seeds=1")
    assert len(rows(*every, "--cohort", part, "--models", "small-mlp", "--dataset", "digits")) == 4
    fitted = rows(*every, "--fitted")
    assert 0 < len(fitted) <= 8
    assert all(row["truth"]["fitted"] for row in fitted)
    assert len(fitted) == sum(row["truth"]["fitted"] for row in rows(*every))
    refused(given("zoo", "list", "--cohort", COHORT), "also give --models and --dataset")


def test_show_names_one_network_by_the_beginning_of_its_key(cache: str) -> None:
    row = rows("--cache-dir", cache, "--networks")[0]
    done = given("zoo", "show", row["key"][:12], "--cache-dir", cache)
    assert done.returncode == 0
    for word in (row["key"], "weights", "sound", row["origin"]["recipe"]["optimizer"], "train_accuracy"):
        assert word in done.stdout
    told = json.loads(given("zoo", "show", row["key"], "--json", "--cache-dir", cache).stdout)
    assert told == {**row, "sound": True}
    refused(given("zoo", "show", "small-mlp", "--cache-dir", cache), "names 8 networks", "give more of one key")
    refused(given("zoo", "show", "smal-mlp", "--cache-dir", cache), "no trained network", "did you mean")


def test_export_and_import(cache: str, tmp_path: Path) -> None:
    out, other = tmp_path / "out", str(tmp_path / "other")
    done = given("zoo", "export", str(out), "--models", "small-mlp", "--cache-dir", cache)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("8 networks in ")
    table = json.loads((out / "networks.json").read_text())
    assert table["command"] == "sharpbench zoo export FOLDER --models small-mlp"
    done = given("zoo", "import", str(out), "--cache-dir", other)
    assert (done.returncode, done.stdout) == (0, "8 networks imported, 0 were there already\n")
    assert rows("--cache-dir", other, "--networks") == rows("--cache-dir", cache, "--networks", "--models", "small-mlp")
    refused(given("zoo", "export", str(out), "--cache-dir", cache), "already exists and is not empty")
    refused(given("zoo", "import", str(tmp_path), "--cache-dir", other), "there is no ", "zoo export")
    table["networks"][0]["file"] = "../x"
    (out / "networks.json").write_text(json.dumps(table))
    refused(given("zoo", "import", str(out), "--cache-dir", str(tmp_path / "third")), "networks[0]", "'../x'")
    assert not (tmp_path / "third").exists()


def test_imported_networks_are_not_trained_again(cache: str, tmp_path: Path) -> None:
    """What measures say of them is what they said where they were trained."""
    assert given("zoo", "export", str(tmp_path / "out"), "--cache-dir", cache).returncode == 0
    other = str(tmp_path / "other")
    assert given("zoo", "import", str(tmp_path / "out"), "--cache-dir", other).returncode == 0
    before = {path: path.stat().st_mtime_ns for path in Path(other).rglob(WEIGHTS)}
    again = measured("small-mlp", COHORT, Path(other))
    assert {path: path.stat().st_mtime_ns for path in Path(other).rglob(WEIGHTS)} == before
    assert [record.value for record in again] == json.loads((Path(cache).parent / "small-mlp").read_text())


def test_a_list_reads_no_weights_and_needs_no_torch(tmp_path: Path) -> None:
    origin = Origin({"model": "small-mlp", "dataset": "digits", "seed": 0}, "ab" * 32, "cpu").row()
    for index in range(300):
        entry = tmp_path / "networks" / f"{index:064x}"
        entry.mkdir(parents=True)
        (entry / WEIGHTS).mkdir()  # has a size, but cannot be read
        (entry / RESULT).write_text(json.dumps({"format": FORMAT, "sha256": "", "origin": origin, "result": {}}))
    assert len(Zoo(tmp_path).entries()[0]) == 300
    done, heavy = imported("zoo", "list", "--cache-dir", tmp_path)
    assert "300 networks, 0 fitted" in done.stdout, done.stderr
    assert not {"torch", "scipy", "pandas", "matplotlib"} & heavy
