"""Places: the folders that are ours to read and write."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

from platformdirs import user_cache_path

from sharpbench.errors import InvalidInput, short

# Digest: the hash by which a content is known.


def content_hash(value: object) -> str:
    """SHA-256 of the canonical JSON of `value`, 64 hexadecimal digits."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, allow_nan=False).encode()).hexdigest()


def data_folder(given: Path | str | None) -> Path | None:
    """Where data sets lie: what was given (--data-dir), else $SHARPBENCH_DATA, else None."""
    named = given or os.environ.get("SHARPBENCH_DATA")
    return user_path(named) if named else None


def cache_folder(given: Path | str | None) -> Path:
    """Where trained networks are kept: what was given (--cache-dir), else $SHARPBENCH_CACHE, else the user's cache."""
    named = given or os.environ.get("SHARPBENCH_CACHE")
    return user_path(named) if named else user_cache_path("sharpbench")


def user_path(given: Path | str) -> Path:
    """The path that a user names, ~ expanded. Raises InvalidInput for one that the system cannot even look up."""
    try:
        path = Path(given).expanduser()
        path.exists()
    except (OSError, RuntimeError, ValueError) as error:  # no such user; a name too long; no permission; a null byte
        cause = error.strerror if isinstance(error, OSError) else error
        raise InvalidInput(
            f"'{short(str(given))}' cannot be looked up ({short(str(cause))}); name another path"
        ) from None
    return path
