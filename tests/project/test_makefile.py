"""Commands of the Makefile that must not change the checkout."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")
def test_asv_is_checked_in_a_folder_that_git_ignores() -> None:
    """asv writes the list of benchmarks into its folder of results, which is committed, also on a dry run."""
    done = subprocess.run(["make", "-n", "asv"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    commands = re.findall(r"bin/asv (?:check|machine|run) .*", done.stdout)
    assert len(commands) == 3
    assert all(" --config .asv/scratch/asv.conf.json " in command for command in commands)
    assert '"benchmarks/results"#".asv/scratch/results"' in done.stdout
    assert ".asv/" in (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
