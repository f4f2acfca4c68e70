"""docs/your-networks.md, run as it is written: a plain training loop, and the two commands from it to a board."""

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
    network, program, use = (code for language, code in BLOCKS if language == "python")
    first, second = (code for language, code in BLOCKS if language == "sh")
    (board,) = (code for language, code in BLOCKS if language == "text")
    (console,) = (code for language, code in BLOCKS if language == "console")
    (tmp_path / "net.py").write_text(network, encoding="utf-8")
    (tmp_path / "train.py").write_text(program, encoding="utf-8")
    (tmp_path / "use.py").write_text(use, encoding="utf-8")
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])

    def run(code: str) -> subprocess.CompletedProcess[str]:
        words = ["bash", "-euo", "pipefail", "-c", code]
        environment = {**os.environ, "PATH": path}
        return subprocess.run(words, capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=280)

    done = run(first)
    assert (done.returncode, done.stderr) == (0, "")
    assert words(done.stdout) >= words(board)
    assert len(list(tmp_path.glob("network-*.pt"))) == 20
    done = run(second)
    assert "trace and fisher-rao: " in done.stdout
    for command, said in re.findall(r"^\$ (.*)\n((?:(?!\$).*\n)*)", console, re.MULTILINE):
        done = run(command)
        assert (done.returncode, done.stderr) == (2, said)
    assert run("python use.py").returncode == 0
    assert (tmp_path / "out" / "LEADERBOARD.md").exists()


def words(text: str) -> set[str]:
    """The words of a board, without numbers, which differ between processors, and without rules."""
    return set(re.findall(r"[A-Za-z][A-Za-z_.-]+", text))
