"""`sharpbench zoo` through the front door."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sharpbench.training.zoo import FORMAT, RESULT, WEIGHTS, Origin, Zoo
from tests.commands import given, imported, refused

COHORT = "hyperparameters[axes=width+optimizer,width=5+20,optimizer=sgd+sgd[momentum=0.5],seeds=2,train_size=32]"


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> str:
    """8 networks of small-mlp and 4 of small-cnn; what the cohort's budget leaves unfitted is among them."""
    folder = tmp_path_factory.mktemp("zoo")
    for model, cohort in (("small-mlp", COHORT), ("small-cnn", "label-noise[ratios=2,seeds=2,train_size=32]")):
        words = ("--models", model, "--cohort", cohort, "--measures", "parameter-norm", "--threads", "1")
        words += ("--timing", "0", "--oracle", "0", "--invariance", "0", "--output", str(folder / model))
        words += ("--engine", "inline")
        done = given("run", *words, "--cache-dir", str(folder / "cache"))
        assert done.returncode == 0, done.stderr
    return str(folder / "cache")


def rows(*words: str) -> list[dict[str, Any]]:
    done = given("zoo", "list", "--json", *words)
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def test_list_counts_networks_by_population(cache: str) -> None:
    small_cnn, small_mlp = rows("--cache-dir", cache)
    assert (small_mlp["model"], small_mlp["networks"], small_mlp["configurations"]) == ("small-mlp", 8, 4)
    assert (small_cnn["model"], small_cnn["networks"], small_cnn["configurations"]) == ("small-cnn", 4, 2)
    entries, _ = Zoo(Path(cache)).entries()
    assert small_mlp["size"] + small_cnn["size"] == sum(entry.size for entry in entries)
    assert small_mlp["fitted"] + sum(small_mlp["exclusions"].values()) == 8
    shown = given("zoo", "list", "--cache-dir", cache)
    assert "12 networks, " in shown.stdout


def test_filters(cache: str) -> None:
    every = ("--cache-dir", cache, "--networks")
    assert len(rows(*every)) == 12
    assert len(rows(*every, "--models", "small-mlp")) == 8
    assert len(rows(*every, "--models", "small-mlp[width=5]")) == 4
    assert len(rows(*every, "--models", "small-mlp[width=5],small-cnn")) == 8
    assert len(rows(*every, "--dataset", "mnist")) == 0
    part = COHORT.replace("seeds=2", "seeds=1")
    assert len(rows(*every, "--cohort", part, "--models", "small-mlp", "--dataset", "digits")) == 4
    fitted = rows(*every, "--fitted")
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
    words = ["--models", "small-mlp", "--cohort", COHORT, "--measures", "parameter-norm", "--threads", "1"]
    words += ["--timing", "0", "--oracle", "0", "--invariance", "0", "--engine", "inline"]
    done = given("run", *words, "--output", str(tmp_path / "run"), "--cache-dir", other)
    assert done.returncode == 0, done.stderr
    assert {path: path.stat().st_mtime_ns for path in Path(other).rglob(WEIGHTS)} == before
    original = (Path(cache).parent / "small-mlp" / "records.jsonl").read_text().splitlines()
    values = [json.loads(line)["value"] for line in original]
    assert [
        json.loads(line)["value"] for line in (tmp_path / "run" / "records.jsonl").read_text().splitlines()
    ] == values


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
