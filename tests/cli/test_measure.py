"""`sharpbench measure` and `sharpbench doctor` through the front door."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from sharpbench.core.records import iterate_records
from sharpbench.models import SmallMlp
from tests.commands import given, refused

FEW = ("--limit", "8", "--threads", "1", "--measures", "trace,minimum")
QUICK = ("--limit", "8", "--threads", "1", "--measures", "sam,fisher-rao")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "net.safetensors"
    torch.manual_seed(0)
    safetensors.torch.save_file(SmallMlp().build((1, 28, 28), 10).state_dict(), path)
    return path


def test_a_checkpoint_to_its_numbers_with_pictures(weights: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = given("measure", "--model", "small-mlp", "--weights", str(weights), *FEW, "--output", str(out))
    assert done.returncode == 0, done.stderr
    assert "small-mlp, weights" in done.stdout
    assert "layer2.bias" in done.stdout
    assert {path.name for path in out.iterdir()} == {"records.jsonl", "parts.svg", "parts.png"}
    assert [record.label for record in iterate_records(out / "records.jsonl")] == ["trace", "minimum"]


def test_json_is_one_array_and_nothing_else(weights: Path, tmp_path: Path) -> None:
    words = ("--model", "small-mlp", "--weights", str(weights), *FEW, "--json", "--output", str(tmp_path / "o"))
    done = given("measure", *words)
    rows: list[dict[str, Any]] = json.loads(done.stdout)
    assert [row["measure"] for row in rows] == ["trace", "minimum"]
    assert rows[1]["value"] <= rows[0]["value"] * (1 + 1e-6)
    assert sum(rows[0]["parts"].values()) == pytest.approx(rows[0]["value"])


def test_a_network_of_ones_own_on_data_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text("from torch import nn\ndef make(): return nn.Sequential(nn.Linear(6, 3))\n")
    rng = np.random.default_rng(0)
    inputs = rng.standard_normal((20, 6)).astype(np.float32)
    np.savez(tmp_path / "x.npz", inputs=inputs, targets=rng.integers(0, 3, 20))
    state = {"0.weight": torch.zeros(3, 6), "0.bias": torch.zeros(3)}
    torch.save({"state_dict": state}, tmp_path / "net.pt")
    done = given(
        *("measure", "--model", f"{tmp_path / 'net.py'}:make", "--weights", str(tmp_path / "net.pt")),
        *("--dataset", f"npz:{tmp_path / 'x.npz'}", "--measures", "trace", "--json", "--threads", "1"),
    )
    assert done.returncode == 0, done.stderr
    # with all logits equal: (1 - 1/C) of the mean squared length of the input with its 1 for the bias
    expected = (1 - 1 / 3) * float((inputs.astype(np.float64) ** 2).sum(1).mean() + 1)
    assert json.loads(done.stdout)[0]["value"] == pytest.approx(expected, rel=1e-6)


def test_a_pattern_of_files_is_a_curve(weights: Path, tmp_path: Path) -> None:
    for number in range(2):
        (tmp_path / f"epoch{number}.safetensors").write_bytes(weights.read_bytes())
    out = tmp_path / "out"
    pattern = str(tmp_path / "*.safetensors")
    done = given("measure", "--model", "small-mlp", "--weights", pattern, *QUICK, "--output", str(out))
    assert done.returncode == 0, done.stderr
    assert "epoch0.safetensors" in done.stdout
    assert (out / "curve.png").stat().st_size > 0


GELU_NETWORK = """
import torch
from torch import nn

def make():
    network = nn.Sequential(nn.Linear(2, 4), nn.GELU(), nn.Linear(4, 3))
    for parameter in network.parameters():
        parameter.data = (2.0 * torch.sin(3.0 * torch.arange(parameter.numel()))).reshape(parameter.shape)
    return network
"""


def test_a_trace_below_its_minimum_shows_that_they_are_of_two_matrices(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(GELU_NETWORK)
    np.savez(tmp_path / "x.npz", inputs=np.sin(np.arange(40.0)).reshape(20, 2), targets=np.arange(20) % 3)
    words = (
        *("measure", "--model", f"{tmp_path / 'net.py'}:make", "--dataset", f"npz:{tmp_path / 'x.npz'}"),
        *("--measures", "trace[method=exact],minimum", "--dtype", "float64", "--threads", "1"),
    )
    rows = json.loads(given(*words, "--json").stdout)
    trace, minimum = (row["value"] for row in rows)
    assert [row["details"]["matrix"] for row in rows] == ["hessian", "gauss-newton"]
    assert trace < minimum
    shown = given(*words).stdout
    assert f"{trace:.6g} (Hessian)" in shown
    assert f"{minimum:.6g} (Gauss-Newton)" in shown


def test_a_jackknife_gives_every_measure_an_error_over_examples(weights: Path, tmp_path: Path) -> None:
    words = ("measure", "--model", "small-mlp", "--weights", str(weights), "--limit", "16", "--threads", "1")
    done = given(*words, "--measures", "trace,sam", "--jackknife", "4", "--output", str(tmp_path / "o"))
    assert "over examples: the standard error for another draw of as many examples" in done.stdout
    assert "unknown" not in done.stdout
    trace, sam = iterate_records(tmp_path / "o" / "records.jsonl")
    assert sam.stderr_examples is not None
    assert "stderr_examples" not in trace.details  # it states its own error
    assert sam.details["stderr_examples"] == "jackknife of 4 groups"
    done = given(*words, "--measures", "trace,sam", "--output", str(tmp_path / "o"))  # another cell, measured anew
    assert "unknown" in done.stdout
    refused(given(*words, "--jackknife", "17"), "jackknife=17 exceeds the 16 examples")


class Attack:
    """Touches a file when unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


@pytest.mark.parametrize(
    "kind", ["attack", "cut", "shapes", "classes", "nan", "labels", "empty", "nan-inputs", "missing"]
)
def test_bad_input_ends_in_one_line_and_status_2(weights: Path, tmp_path: Path, kind: str) -> None:
    file, data = str(weights), "digits"
    limit = FEW
    if kind == "attack":
        torch.save(Attack(tmp_path / "executed"), tmp_path / "w.pt")
        file = str(tmp_path / "w.pt")
    elif kind == "cut":
        (tmp_path / "w.safetensors").write_bytes(weights.read_bytes()[:1000])
        file = str(tmp_path / "w.safetensors")
    elif kind in ("shapes", "nan"):
        state = safetensors.torch.load_file(weights)
        if kind == "shapes":
            state["layer1.weight"] = torch.zeros(3, 3)
        else:
            state["layer1.weight"][0, 0] = float("nan")
        safetensors.torch.save_file(state, tmp_path / "w.safetensors")
        file = str(tmp_path / "w.safetensors")
    elif kind in ("labels", "empty", "nan-inputs"):
        count = 0 if kind == "empty" else 4
        inputs = np.full((count, 784), np.nan if kind == "nan-inputs" else 0.0, np.float32)
        np.savez(tmp_path / "x.npz", inputs=inputs, targets=np.full(count, 10 if kind == "labels" else 0))
        data, limit = f"npz:{tmp_path / 'x.npz'}[classes=20]", FEW[2:]
    elif kind == "missing":
        file = str(tmp_path / "none.safetensors")
    words = ["measure", "--model", "small-mlp", "--weights", file, "--dataset", data, *limit]
    refused(given(*words, "--classes", "11" if kind == "classes" else "10"))
    assert not (tmp_path / "executed").exists()


def test_a_failing_measure_ends_in_status_1(weights: Path, tmp_path: Path) -> None:
    (tmp_path / "plug.py").write_text(
        "from dataclasses import dataclass\nfrom sharpbench import Measure\n"
        "@dataclass(frozen=True)\nclass Bad(Measure):\n    name, title, source = 'bad', 'raises', 'tests'\n"
        "    def __call__(self, subject, *, generator): raise RuntimeError('out of luck')\n"
        "    def exact(self, subject): return None\n    def invariances(self): return frozenset()\n"
        "MEASURES = (Bad,)\n"
    )
    words = ("--model", "small-mlp", "--limit", "8", "--measures", "bad,sam", "--plugin", str(tmp_path / "plug.py"))
    done = given("measure", *words)
    assert done.returncode == 1
    assert "bad, failed: RuntimeError: out of luck" in done.stdout


def test_an_interrupt_keeps_what_was_measured(tmp_path: Path) -> None:
    (tmp_path / "stops.py").write_text(
        "from dataclasses import dataclass\nfrom sharpbench import Estimate, Measure\n"
        "@dataclass(frozen=True)\nclass Stops(Measure):\n    name, title, source = 'stops', 'Ctrl-C', 'tests'\n"
        "    def __call__(self, subject, *, generator): raise KeyboardInterrupt\n"
        "    def exact(self, subject): return None\n    def invariances(self): return frozenset()\n"
        "MEASURES = (Stops,)\n"
    )
    words = ("measure", "--model", "small-mlp", "--limit", "8", "--plugin", tmp_path / "stops.py", "--threads", "1")
    done = given(*words, "--measures", "parameter-norm,trace,stops", "--output", tmp_path / "out")
    assert done.returncode == 130
    remedy = "; what was measured before is shown; give the same command again to go on\n"
    assert done.stderr == f"interrupted{remedy}"
    assert "parameter-norm" in done.stdout
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"records.jsonl", "parts.svg", "parts.png"}
    first = given(*words, "--measures", "stops,trace")
    assert (first.returncode, first.stdout, first.stderr) == (130, "", "interrupted\n")


def test_doctor_looks_at_the_machine() -> None:
    done = given("doctor", "--json")
    facts = json.loads(done.stdout)["environment"]
    assert facts["torch"] == torch.__version__
    assert facts["attention"] == "math back end, differentiated twice"
    assert "timm" in facts


def test_doctor_without_a_network_refuses_what_is_about_one() -> None:
    refused(given("doctor", "--limit", "3", "--measures", "trace"), "--measures, --limit are about a network; also")
    refused(given("doctor", "--model", "mlp", "--seconds", "0"), "seconds=0.0 must be a number of seconds above 0")


def test_doctor_tries_the_default_measures_for_its_seconds(tmp_path: Path) -> None:
    """A measure that takes longer is named with its reason, and the others have their rows."""
    (tmp_path / "slow.py").write_text(
        "import time\nfrom dataclasses import dataclass\nfrom sharpbench import Estimate, Measure\n"
        "@dataclass(frozen=True)\nclass Slow(Measure):\n    name, title, source = 'slow', 'sleeps', 'tests'\n"
        "    def __call__(self, subject, *, generator): time.sleep(300); return Estimate(1.0)\n"
        "    def exact(self, subject): return None\n    def invariances(self): return frozenset()\n"
        "MEASURES = (Slow,)\n"
    )
    words = ("doctor", "--model", "small-mlp", "--limit", "8", "--threads", "1", "--seconds", "2")
    done = given(*words, "--plugin", tmp_path / "slow.py", "--measures", "slow,parameter-norm")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    slow, norm = (next(line for line in lines if line.startswith(name)) for name in ("slow", "parameter"))
    assert "unknown" in slow
    assert "took longer than 1 s" in " ".join(done.stdout.split())
    assert "yes" in norm


@pytest.mark.slow
def test_doctor_foresees_what_measures_do(tmp_path: Path) -> None:
    words = ("--model", "timm:test_vit", "--limit", "2", "--threads", "1")
    done = given("doctor", *words, "--measures", "trace[method=exact],fisher-rao", "--json")
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)["measures"]
    assert rows["trace[method=exact]"]["status"] == "skipped"
    assert "not piecewise affine" in rows["trace[method=exact]"]["reason"]
    assert rows["fisher-rao"]["seconds"] > 0
    shown = given("doctor", *words, "--measures", "fisher-rao")
    assert "fisher-rao" in shown.stdout
    assert "yes" in shown.stdout


def test_symmetry_takes_any_network(tmp_path: Path) -> None:
    layers = "nn.Flatten(), nn.Linear(784, 3), nn.ReLU(), nn.Linear(3, 10)"
    (tmp_path / "net.py").write_text(f"from torch import nn\ndef make(): return nn.Sequential({layers})\n")
    found = json.loads(given("symmetry", f"{tmp_path / 'net.py'}:make", "--json").stdout)
    assert (found["layer"]["dimension"], found["unit"]["dimension"]) == (1, 3)


def test_the_networks_of_a_table_get_a_column_for_each_measure(weights: Path, tmp_path: Path) -> None:
    (tmp_path / "nets").mkdir()
    for name in ("a", "b"):
        (tmp_path / "nets" / f"{name}.safetensors").write_bytes(weights.read_bytes())
    table = tmp_path / "mine.csv"
    table.write_text('file,noise,gap,note\nnets/b.safetensors,0.5,0.3,"x, y"\nnets/a.safetensors,,0.1,\n')
    words = ("measure", "--model", "small-mlp", "--table", "mine.csv", *QUICK)
    more = ("--weights-column", "file", "--output", "out")
    done = given(*words, *more, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "out/mine.csv"
    with (tmp_path / "out" / "mine.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    values = {record.label: record.value for record in iterate_records(tmp_path / "out" / "records.jsonl")}
    assert [row["file"] for row in rows] == ["nets/b.safetensors", "nets/a.safetensors"]
    assert [(row["noise"], row["note"]) for row in rows] == [("0.5", "x, y"), ("", "")]
    assert [float(row["sam"]) for row in rows] == [values["sam"]] * 2
    assert float(rows[1]["fisher-rao"]) == values["fisher-rao"]

    refused(given(*words, "--output", "out", cwd=tmp_path), "no column 'weights'; it has file, noise, gap, note")
    refused(given(*words, cwd=tmp_path), "--table 'mine.csv': --output is missing")
    refused(given(*words, "--weights", "random", "--output", "out", cwd=tmp_path), "--weights is given as well")
    refused(given(*words, "--weights-column", "file", "--output", ".", cwd=tmp_path), "is the folder of the table")
    one = ("measure", "--model", "small-mlp", "--weights-column", "file")
    refused(given(*one, cwd=tmp_path), "--weights-column names a column of --table, which is not given")
    for text, message in (
        ("file,sam\nnets/a.safetensors,1\n", "has a column 'sam' already"),
        ("file\nnone.pt\n", "mine.csv:2: there is no file 'none.pt'"),
        (
            "file\nnets/a.safetensors\nnets/a.safetensors\n",
            "mine.csv:3: 'nets/a.safetensors' is the file of mine.csv:2",
        ),
        ("file,x\n,1\n", "mine.csv:2: no value in column 'file'"),
    ):
        table.write_text(text)
        refused(given(*words, *more, cwd=tmp_path), message)
