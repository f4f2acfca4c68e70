"""docs/your-networks.md, run as it is written: a plain training loop, and both ways from it to a board."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "your-networks.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


NETWORK, PROGRAM, PLANNED, USE = (code for language, code in BLOCKS if language == "python")
WHOLE, MEASURE, COMPARE = (code for language, code in BLOCKS if language == "sh")
JUDGED, SCORED = (code for language, code in BLOCKS if language == "text")
(DESCRIPTION,) = (code for language, code in BLOCKS if language == "toml")
BAD_DESCRIPTIONS, BAD_TABLES = (code for language, code in BLOCKS if language == "console")


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    """The folder with the files of the page."""
    for name, text in (("net.py", NETWORK), ("train.py", PROGRAM), ("mine.toml", DESCRIPTION), ("use.py", USE)):
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


def run(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])}
    given = ["bash", "-euo", "pipefail", "-c", code]
    return subprocess.run(given, capture_output=True, text=True, cwd=folder, env=environment, timeout=280)


@pytest.mark.slow
def test_networks_are_measured_and_judged_in_one_command(lab: Path) -> None:
    done = run(WHOLE, lab)
    assert (done.returncode, done.stderr) == (0, "")
    assert words(done.stdout) >= words(JUDGED)
    assert len(list(lab.glob("network-*.pt"))) == 20
    (lab / "again.py").write_text(f"{PLANNED}print(len(records), len(cells))\n", encoding="utf-8")
    assert run("python again.py", lab).stdout == "1 20\n"  # only the timing, which the command left out
    command, *messages = BAD_DESCRIPTIONS.splitlines()
    for wrong, message in zip(('weight = "{file}"', 'weights = "net*.pt"'), messages, strict=True):
        (lab / "mine.toml").write_text(DESCRIPTION.replace('weights = "{file}"', wrong), encoding="utf-8")
        done = run(command.removeprefix("$ "), lab)
        assert (done.returncode, done.stderr) == (2, f"{message}\n")


@pytest.mark.slow
def test_values_of_a_table_are_scored(lab: Path) -> None:
    done = run(f"python train.py\n{MEASURE}", lab)
    assert (done.returncode, done.stderr) == (0, "")
    assert words(done.stdout) >= words(SCORED)
    done = run(COMPARE, lab)
    assert "trace and fisher-rao: " in done.stdout
    for command, said in re.findall(r"^\$ (.*)\n((?:(?!\$).*\n)*)", BAD_TABLES, re.MULTILINE):
        done = run(command, lab)
        assert (done.returncode, done.stderr) == (2, said)
    assert run("python use.py", lab).returncode == 0
    assert (lab / "out" / "LEADERBOARD.md").exists()


def words(text: str) -> set[str]:
    """The words of a board, without numbers, which differ between processors, and without rules."""
    return set(re.findall(r"[A-Za-z][A-Za-z_.-]+", text))
