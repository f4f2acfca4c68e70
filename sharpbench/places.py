"""Places: the folders that are ours to read and write."""

from __future__ import annotations

import os
from pathlib import Path

from platformdirs import user_cache_path


def data_folder(given: Path | str | None) -> Path | None:
    """Where data sets lie: what was given (--data-dir), else $SHARPBENCH_DATA, else None."""
    named = given or os.environ.get("SHARPBENCH_DATA")
    return Path(named).expanduser() if named else None


def cache_folder(given: Path | str | None) -> Path:
    """Where trained networks are kept: what was given (--cache-dir), else $SHARPBENCH_CACHE, else the user's cache."""
    named = given or os.environ.get("SHARPBENCH_CACHE")
    return Path(named).expanduser() if named else user_cache_path("sharpbench")
