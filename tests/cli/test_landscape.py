"""`sharpbench landscape` and `sharpbench spectrum`: their files, and bad input in one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import safetensors.torch
import torch

from sharpbench.landscapes.rows import ROWS
from sharpbench.models import SmallMlp
from tests.commands import given, refused

FEW = ("--model", "small-mlp", "--limit", "24", "--threads", "1", "--dtype", "float64")


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    state = SmallMlp().build((1, 28, 28), 10).state_dict()
    for place in range(3):
        moved = {name: value + 0.01 * place * torch.randn_like(value) for name, value in state.items()}
        safetensors.torch.save_file(moved, folder / f"epoch{place}.safetensors")
    return folder


@pytest.mark.parametrize(
    ("dimensions", "points", "what"), [("1", "3", "line"), pytest.param("2", "3 x 3", "plane", marks=pytest.mark.slow)]
)
def test_a_landscape_with_its_files_and_rows(
    checkpoints: Path, tmp_path: Path, dimensions: str, points: str, what: str
) -> None:
    shape = ("--dimensions", dimensions, "--points", "3", "--balance", "layer")
    words = ("landscape", *FEW, *shape, "--weights", checkpoints / "epoch0.safetensors", "--output", tmp_path)
    done = given(*words)
    assert done.returncode == 0, done.stderr
    assert f"Loss on {points} points, mean over 24 examples" in done.stdout
    assert f"the {what} holds" in done.stdout
    assert "Network: small-mlp at epoch0.safetensors." in done.stdout
    names = {"LANDSCAPE.md", "landscape.svg", "landscape.png", "landscape.html", ROWS}
    assert {path.name for path in tmp_path.iterdir()} == names
    rows = (tmp_path / ROWS).read_text()
    assert len(rows.splitlines()) == 3
    if what == "plane":
        assert given(*words).returncode == 0
        assert (tmp_path / ROWS).read_text() == rows


@pytest.mark.slow
def test_a_trajectory_of_checkpoints(checkpoints: Path, tmp_path: Path) -> None:
    words = ("--directions", "trajectory", "--balance", "none", "--points", "3", "--output", tmp_path)
    done = given("landscape", *FEW, "--weights", checkpoints / "epoch*.safetensors", *words)
    assert done.returncode == 0, done.stderr
    assert "Share of the squared distances from the last checkpoint 100 %" in done.stdout
    assert "epoch2.safetensors" in (tmp_path / "landscape.html").read_text()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("landscape", *FEW, "--directions", "up"), "directions='up' is unknown"),
        (("landscape", *FEW, "--directions", "between"), "directions=between takes two checkpoints, not 1"),
        (("landscape", *FEW, "--points", "1"), "points=1 along an axis must be from 3 to 1001"),
        (("spectrum", *FEW, "--count", "0"), "count=0 eigenvalues must be at least 1"),
        (("spectrum", *FEW, "--per-batch", "99"), "batch_size=99 is above the 24 examples"),
        (("spectrum", *FEW, "--kind", "fisher"), "matrix 'fisher' is unknown"),
        (("spectrum", *FEW, "--eigenvectors"), "--eigenvectors writes into --output, which is not given"),
    ],
)
def test_bad_input_is_one_line(words: tuple[str, ...], message: str, tmp_path: Path) -> None:
    output = () if words[0] == "spectrum" else ("--output", str(tmp_path))
    refused(given(*words, *output), message)


@pytest.mark.parametrize("drawn", [("batches",), pytest.param(("batches", "density"), marks=pytest.mark.slow)], ids=len)
def test_a_spectrum_with_its_files(checkpoints: Path, tmp_path: Path, drawn: tuple[str, ...]) -> None:
    words = (*FEW, "--weights", checkpoints / "epoch0.safetensors", "--count", "5", "--per-batch", "12")
    more = ("--group-by", "layer", "--eigenvectors", "--output", tmp_path)
    density = ("--probes", "2", "--steps", "8") if "density" in drawn else ()
    done = given("spectrum", *words, *more, *density)
    assert done.returncode == 0, done.stderr
    assert "The first divided by the fifth" in done.stdout
    pictures = {f"spectrum-{name}.{kind}" for name in drawn for kind in ("svg", "png")}
    files = {"SPECTRUM.md", "spectrum.json", "eigenvectors.safetensors"}
    assert {path.name for path in tmp_path.iterdir()} == pictures | files
    found = json.loads((tmp_path / "spectrum.json").read_text())
    assert len(found["eigenvalues"]["values"]) == 5
    assert len(found["batches"]) == 2
    assert len(found["blocks"]) == 3
    vectors = safetensors.torch.load_file(tmp_path / "eigenvectors.safetensors")
    length = sum(float(value.square().sum()) for name, value in vectors.items() if name.startswith("1/"))
    assert length == pytest.approx(1.0)


def test_json_is_one_object_and_too_few_products_are_a_failure() -> None:
    done = given("spectrum", *FEW, "--products", "2", "--count", "2", "--json")
    assert done.returncode == 1
    found = json.loads(done.stdout)
    assert not found["eigenvalues"]["converged"]
    assert found["ratio_1_5"] is None


def test_the_options_come_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "options.toml").write_text('model = "small-mlp"\nlimit = 24\npoints = 7\n')
    done = given("landscape", "--config", tmp_path / "options.toml", "--points", "5", "--print-config")
    assert "limit = 24\n" in done.stdout
    assert "points = 5\n" in done.stdout
