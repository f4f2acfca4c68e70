"""The repository stays small enough to be cloned."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MAX_BYTES = 60_000_000


def test_the_files_of_the_repository_are_below_60_megabytes() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("no checkout of git")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    sizes = {name: path.stat().st_size for name in listed.split("\0") if (path := ROOT / name).is_file()}
    largest = sorted(sizes, key=lambda name: -sizes[name])[:5]
    assert sum(sizes.values()) < MAX_BYTES, f"the largest are {', '.join(largest)}"
