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


@pytest.mark.slow
def test_the_page_does_what_it_says(tmp_path: Path) -> None:
    network, program, planned, use = (code for language, code in BLOCKS if language == "python")
    whole, first, second = (code for language, code in BLOCKS if language == "sh")
    judged, board = (code for language, code in BLOCKS if language == "text")
    (description,) = (code for language, code in BLOCKS if language == "toml")
    refused, bad_tables = (code for language, code in BLOCKS if language == "console")
    for name, text in (("net.py", network), ("train.py", program), ("mine.toml", description), ("use.py", use)):
        (tmp_path / name).write_text(text, encoding="utf-8")
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])

    def run(code: str) -> subprocess.CompletedProcess[str]:
        words = ["bash", "-euo", "pipefail", "-c", code]
        environment = {**os.environ, "PATH": path}
        return subprocess.run(words, capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=280)

    done = run(whole)
    assert (done.returncode, done.stderr) == (0, "")
    assert words(done.stdout) >= words(judged)
    assert len(list(tmp_path.glob("network-*.pt"))) == 20
    (tmp_path / "again.py").write_text(f"{planned}print(len(records), len(cells))\n", encoding="utf-8")
    assert run("python again.py").stdout == "1 20\n"  # only the timing, which the run left out
    command, *messages = refused.splitlines()
    for wrong, message in zip(('weight = "{file}"', 'weights = "net*.pt"'), messages, strict=True):
        (tmp_path / "mine.toml").write_text(description.replace('weights = "{file}"', wrong), encoding="utf-8")
        done = run(command.removeprefix("$ "))
        assert (done.returncode, done.stderr) == (2, f"{message}\n")
    done = run(first)
    assert (done.returncode, done.stderr) == (0, "")
    assert words(done.stdout) >= words(board)
    done = run(second)
    assert "trace and fisher-rao: " in done.stdout
    for command, said in re.findall(r"^\$ (.*)\n((?:(?!\$).*\n)*)", bad_tables, re.MULTILINE):
        done = run(command)
        assert (done.returncode, done.stderr) == (2, said)
    assert run("python use.py").returncode == 0
    assert (tmp_path / "out" / "LEADERBOARD.md").exists()


def words(text: str) -> set[str]:
    """The words of a board, without numbers, which differ between processors, and without rules."""
    return set(re.findall(r"[A-Za-z][A-Za-z_.-]+", text))
