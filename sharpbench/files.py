"""Folders that users name, content hashes, and files and folders that appear complete or not at all."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from sharpbench.errors import InvalidInput, shorten


def content_hash(value: object) -> str:
    """The SHA-256 of the canonical JSON of `value`, as 64 hexadecimal digits.

    Raises ValueError for NaN and infinities, and TypeError for what JSON cannot hold.

    >>> content_hash({"a": 1, "b": 2}) == content_hash({"b": 2, "a": 1})
    True
    """
    return hashlib.sha256(json.dumps(value, sort_keys=True, allow_nan=False).encode()).hexdigest()


def data_folder(given: Path | str | None) -> Path | None:
    """The folder of data sets: `given` (--data-dir), else $SHARPBENCH_DATA, else None."""
    named = given or os.environ.get("SHARPBENCH_DATA")
    return user_path(named) if named else None


def cache_folder(given: Path | str | None) -> Path:
    """The folder of trained networks: `given` (--cache-dir), else $SHARPBENCH_CACHE, else the user's cache."""
    named = given or os.environ.get("SHARPBENCH_CACHE")
    return user_path(named) if named else user_cache_folder()


def user_cache_folder() -> Path:
    """The system's folder for files that sharpbench keeps for the user."""
    from platformdirs import user_cache_path  # a checkout without it works where folders are named

    return user_cache_path("sharpbench")


def user_path(given: Path | str) -> Path:
    """The path that a user names, with ~ expanded.

    Raises InvalidInput for a path that the system cannot look up.
    """
    try:
        path = Path(given).expanduser()
    except RuntimeError as error:  # no such user
        raise _cannot_be_looked_up(given, error) from None
    check_lookup(path)
    return path


def check_lookup(path: Path | str) -> None:
    """Raise InvalidInput for a path that the system cannot look up, or for a folder whose files it cannot.

    What is missing passes.
    """
    try:
        if stat.S_ISDIR(os.stat(path).st_mode) and not os.access(path, os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except (FileNotFoundError, NotADirectoryError):
        return
    except (OSError, ValueError) as error:  # a name too long; no permission; a null byte
        raise _cannot_be_looked_up(path, error) from None


def _cannot_be_looked_up(path: Path | str, error: Exception) -> InvalidInput:
    cause = error.strerror if isinstance(error, OSError) else error
    return InvalidInput(f"'{shorten(str(path))}' cannot be looked up ({shorten(str(cause))}); name another path")


def check_plain_file(path: Path) -> None:
    """Raise InvalidInput for a pipe or a device, whose reading may never end. Folders and missing files pass."""
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise InvalidInput(f"'{path}' is not a plain file; replace it by one, or remove it")


MAX_NUMBER_DIGITS = 18
"""Digits of the largest number in a name that is ordered as a number."""


def natural_key(name: str) -> list[tuple[int, str]]:
    """What orders names by the numbers in them, as timm does: 'epoch2' before 'epoch10'.

    >>> sorted(["epoch10", "epoch2", "epoch02b"], key=natural_key)
    ['epoch2', 'epoch02b', 'epoch10']
    """
    parts = re.split(r"(\d+)", name)
    return [(int(part), "") if part.isdecimal() and len(part) <= MAX_NUMBER_DIGITS else (-1, part) for part in parts]


def form_series(names: Sequence[str]) -> bool:
    """Whether the names, in their order, differ in numbers only, the first of which increases: points of one curve.

    >>> form_series(["epoch1-loss3.pt", "epoch2-loss1.pt"]), form_series(["best.pt", "last.pt"])
    (True, False)
    """
    parts = [re.split(r"(\d+)", name) for name in names]
    if len({tuple(each[::2]) for each in parts}) > 1:
        return False
    numbers = [[int(number) for number in each[1::2]] for each in parts]
    varying = next((column for column in zip(*numbers, strict=True) if len(set(column)) > 1), ())
    return len(varying) > 1 and all(before < after for before, after in pairwise(varying))


@dataclass(frozen=True, slots=True, kw_only=True)
class Workspace:
    """Where networks are trained and measured: folders, device, threads and plugins, as every process is given them.

    Attributes:
        cache_dir: the folder of trained networks.
        data_dir: the folder of data sets; None if none is named.
        device: 'cpu' or 'cuda'.
        threads: threads of torch in each process.
        plugins: Python files that each process executes before it looks names up.
    """

    cache_dir: Path
    data_dir: Path | None = None
    device: str = "cpu"
    threads: int = 1
    plugins: tuple[Path, ...] = ()

    @staticmethod
    def locate(
        *,
        cache_dir: Path | str | None = None,
        data_dir: Path | str | None = None,
        device: str = "cpu",
        threads: int = 1,
        plugins: Sequence[Path] = (),
    ) -> Workspace:
        """The workspace with the folders that a user names, or the usual ones (`cache_folder`, `data_folder`)."""
        return Workspace(
            cache_dir=cache_folder(cache_dir).absolute(),
            data_dir=data_folder(data_dir),
            device=device,
            threads=threads,
            plugins=tuple(plugin.absolute() for plugin in plugins),
        )


def atomic_write(path: Path, content: str | bytes, *, durable: bool = False) -> None:
    """Replace the file at `path` in one step, so that no reader finds part of it.

    The content goes to a draft in the same folder, which is then renamed. The draft is removed if writing fails, and
    the file that was there before stays. Several processes may write the same file; the last one wins. A device, such
    as /dev/null, is written to and not replaced.

    Args:
        path: the file; its folder is made where it is missing.
        content: text, stored as UTF-8 with an escape for half a surrogate pair, as in a file name; or bytes.
        durable: wait until the content is on the disk before renaming, so that it survives a power failure.

    Raises:
        OSError: where the folder or the file cannot be written.
    """
    data = content.encode("utf-8", errors="backslashreplace") if isinstance(content, str) else content
    if path.is_char_device():
        path.write_bytes(data)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = _draft_path(path)
    try:
        draft.write_bytes(data)
        if durable:
            with draft.open("rb") as file:
                os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path, *, replace: bool = False) -> Iterator[Path]:
    """A new folder to write into, which becomes `path` when the block ends without an error.

    If the block raises, or the folder cannot be renamed, the draft is removed with all it holds.

    Args:
        path: the folder that appears; its parent is made where it is missing.
        replace: first remove what is at `path`. Otherwise only an empty folder may be there.

    Raises:
        OSError: where the draft cannot be made or renamed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = _draft_path(path)
    draft.mkdir()
    try:
        yield draft
        if replace:
            shutil.rmtree(path, ignore_errors=True)
        draft.rename(path)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _draft_path(path: Path) -> Path:
    """A hidden name in the same folder, and so on the same file system, that no other process chooses."""
    return path.with_name(f".draft-{secrets.token_hex(8)}")
