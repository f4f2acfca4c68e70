"""docs/plugin.md, the life of a plugin: its files are the example's, and its commands are run as they stand there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "sharpbench-weightnorm"
PAGE = (ROOT / "docs" / "plugin.md").read_text(encoding="utf-8")

FILES = dict(re.findall(r"^`([\w./]+)`:\n\n```\w+\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))
BLOCKS = re.findall(r"^```(sh|console)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)

INSTALL = """#!/bin/sh
# what an author's pip does, into a folder instead of the environment of the tests
shift
exec "{python}" -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --target "{site}" "$@"
"""


def test_the_files_of_the_page_are_those_of_the_example() -> None:
    assert set(FILES) == {"sharpbench_weightnorm.py", "tests/test_weightnorm.py", "pyproject.toml"}
    for name, text in FILES.items():
        assert (EXAMPLE / name).read_text(encoding="utf-8") == text, name


def test_the_measure_has_15_lines() -> None:
    body = FILES["sharpbench_weightnorm.py"].partition("@dataclass")[2].partition("MEASURES")[0]
    assert len([line for line in body.splitlines() if line.strip()]) == 15


class Shell:
    """A folder with the example's files, and an environment into whose site `pip install` installs."""

    def __init__(self, folder: Path) -> None:
        self.work, site, programs = folder / "work", folder / "site", folder / "bin"
        for name, text in FILES.items():
            (self.work / name).parent.mkdir(parents=True, exist_ok=True)
            (self.work / name).write_text(text, encoding="utf-8")
        programs.mkdir()
        (programs / "pip").write_text(INSTALL.format(python=sys.executable, site=site), encoding="utf-8")
        (programs / "pip").chmod(0o755)
        paths = [str(site), os.environ.get("PYTHONPATH", "")]
        self.environment = {
            **os.environ,
            "PATH": os.pathsep.join([str(programs), str(Path(sys.executable).parent), os.environ["PATH"]]),
            "PYTHONPATH": os.pathsep.join(filter(None, paths)),
            "SHARPBENCH_CACHE": str(folder / "cache"),
            "OMP_NUM_THREADS": "1",
            "COLUMNS": "120",
        }

    def run(self, code: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-euo", "pipefail", "-c", code],
            capture_output=True,
            text=True,
            cwd=self.work,
            env=self.environment,
            timeout=280,
        )


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_commands_of_the_page_do_what_it_says(tmp_path: Path) -> None:
    """In their order: validate, run, install, list, validate again, run and see the row of the leaderboard."""
    assert shutil.which("bash")
    shell, printed = Shell(tmp_path), ""
    for language, code in BLOCKS:
        if language == "sh":
            result = shell.run(code)
            assert result.returncode == 0, f"{code}\n{result.stdout}\n{result.stderr}"
            printed += result.stdout
            continue
        for command, said in re.findall(r"^\$ (.*)\n((?:(?!\$).*\n)*)", code, re.MULTILINE):
            result = shell.run(command)
            assert said.strip() in result.stdout + result.stderr, f"{command}\n{result.stdout}\n{result.stderr}"
    assert "4 passed" in printed
    assert re.search(r"│ weight-norm .*│ sharpbench-weight", printed)
    rows = [line.split("|") for line in printed.splitlines() if line.startswith("| ") and "| weight-norm" in line]
    names = [[cell.split("\\")[0].strip() for cell in cells[1:3]] for cells in rows]
    assert [name for _, name in names].count("weight-norm") == 2  # behind their rank
    assert [name for name, _ in names].count("weight-norm") == 4  # by hyperparameter, and what they cost
