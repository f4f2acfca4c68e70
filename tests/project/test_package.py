"""The wheel and the sdist: sound, whole, and enough for the main job in an empty environment outside the checkout."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

from sharpbench.version import __version__

ROOT = Path(__file__).parents[2]
PACKAGES = {"sharpbench": "sharpbench", "measures/sharpbench_measures": "sharpbench_measures"}
PACKAGES |= {"peers/sharpbench_peers": "sharpbench_peers"}
"""Folder of the repository -> package."""
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not (ROOT / ".git").exists(), reason="no checkout"),
    pytest.mark.skipif(importlib.util.find_spec("build") is None, reason="build is not installed: make package"),
]


def run(*words: str | Path, cwd: Path, **environment: str) -> str:
    """What a command prints; it ends well, and nothing of this process's Python reaches it."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "SHARPBENCH_", "PYTEST"))}
    done = subprocess.run(
        list(map(str, words)), cwd=cwd, env={**clean, **environment}, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the wheel and the sdist: $DIST, or built here."""
    if given := os.environ.get("DIST"):
        return Path(given)
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT, cwd=ROOT)
    return folder


def tracked_files() -> set[str]:
    """The files of the packages in the repository, as they are named in the wheel."""
    found = set()
    for folder, package in PACKAGES.items():
        lines = run("git", "ls-files", folder, cwd=ROOT).splitlines()
        found |= {package + line.removeprefix(folder) for line in lines}
    return found


def test_the_wheel_holds_the_packages_and_nothing_else(dist: Path) -> None:
    wheel = dist / f"sharpbench-{__version__}-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        (notes,) = (name for name in archive.namelist() if name.endswith("/METADATA"))
        metadata = archive.read(notes).decode()
    assert names == tracked_files()
    assert "License-Expression: Apache-2.0" in metadata


def test_the_sdist_gives_the_same_wheel(dist: Path, tmp_path: Path) -> None:
    source = dist / f"sharpbench-{__version__}.tar.gz"
    with tarfile.open(source) as archive:
        archive.extractall(tmp_path, filter="data")
    folder = tmp_path / f"sharpbench-{__version__}"
    build = (sys.executable, "-m", "build", "--no-isolation", "--wheel")
    run(*build, "--outdir", tmp_path / "again", folder, cwd=tmp_path)
    wheel = f"sharpbench-{__version__}-py3-none-any.whl"
    with zipfile.ZipFile(dist / wheel) as one, zipfile.ZipFile(tmp_path / "again" / wheel) as other:
        assert {each.filename: each.CRC for each in one.infolist()} == {
            each.filename: each.CRC for each in other.infolist()
        }


def test_the_wheel_runs_the_main_job_in_an_empty_environment(dist: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "environment", with_pip=True)
    binaries = tmp_path / "environment" / ("Scripts" if os.name == "nt" else "bin")
    wheel = dist / f"sharpbench-{__version__}-py3-none-any.whl"
    pip = (binaries / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    run(*pip, "--constraint", ROOT / "constraints.txt", wheel, cwd=tmp_path)
    place = run(binaries / "python", "-c", "import sharpbench; print(sharpbench.__file__)", cwd=tmp_path)
    assert (tmp_path / "environment").resolve() in Path(place.strip()).resolve().parents
    assert run(binaries / "sharpbench", "--version", cwd=tmp_path) == f"sharpbench {__version__}\n"
    cohort = "label-noise[ratios=2,seeds=2,train_size=64]"
    words = ("run", "--measures", "minimum,normalized", "--models", "small-mlp", "--cohort", cohort, "--threads", "1")
    board = run(binaries / "sharpbench", *words, cwd=tmp_path, SHARPBENCH_CACHE=str(tmp_path / "cache"))
    assert "small-mlp on digits" in board
    assert (tmp_path / "sharpbench-results" / "LEADERBOARD.md").is_file()
    run(binaries / "sharpbench", "replay", "timm-results", "--output", tmp_path / "replay", cwd=tmp_path)
