"""Folders of generated files: what is out of date, and bringing it up to date."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sharpbench.errors import InvalidInput
from sharpbench.files import atomic_write, check_plain_file


@dataclass(frozen=True, slots=True)
class GeneratedFolder:
    """A folder that holds generated files, perhaps next to files that were written by hand.

    Args:
        path: The folder; it need not exist.
        notice: The beginning of every generated file. A file that begins otherwise was written by hand.
        patterns: Globs below the folder of the places where generated files may be left over.
        remedy: What the user can do where the folder cannot be written.
    """

    path: Path
    notice: str
    patterns: tuple[str, ...]
    remedy: str = "choose another --output"

    def find_stale(self, wanted: Mapping[str, str]) -> dict[str, str]:
        """What is not as `wanted`, a mapping from addresses in the folder to texts.

        Returns:
            Address -> 'is missing', 'differs', or 'is stale': generated, but not wanted any more. In order.
        """
        found = {name: "is missing" for name in wanted if not (self.path / name).exists()}
        for name, text in wanted.items():
            if name not in found and _read_bytes(self.path / name) != _encode(text):
                found[name] = "differs"
        for path in (path for pattern in self.patterns for path in self.path.glob(pattern)):
            name = path.relative_to(self.path).as_posix()
            if name not in wanted and self._is_generated(path):
                found[name] = "is stale"
        return dict(sorted(found.items()))

    def update(self, wanted: Mapping[str, str]) -> dict[str, str]:
        """Make the folder hold what is `wanted`: write what is missing or differs, and remove what is stale.

        Returns:
            What was not as wanted before, as `find_stale` reports it.

        Raises:
            InvalidInput: where a file that was written by hand would be overwritten, or the folder cannot be written.
                Then nothing, or only a part of the files, was written.
        """
        changed = self.find_stale(wanted)
        for path in (self.path / name for name in changed):
            if path.exists() and not self._is_generated(path):
                raise InvalidInput(f"{path} was not generated and would be overwritten; move it, or {self.remedy}")
        write_files(self.path, {name: wanted[name] for name in changed if name in wanted}, remedy=self.remedy)
        try:
            for name in changed:
                if name not in wanted:
                    (self.path / name).unlink()
        except OSError as error:
            raise InvalidInput(f"cannot write into {self.path}: {error.strerror}; {self.remedy}") from None
        return changed

    def _is_generated(self, path: Path) -> bool:
        return (_read_bytes(path) or b"").startswith(self.notice.encode())


def write_files(folder: Path, files: Mapping[str, str | bytes], *, remedy: str) -> list[Path]:
    """Write files into `folder`, which is made where it is missing; nothing there is removed.

    Args:
        files: Address in the folder -> content. Text is stored as UTF-8, lone surrogates as their escapes.
        remedy: What the user can do where the folder cannot be written.

    Returns:
        The paths, in order.

    Raises:
        InvalidInput: where the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            atomic_write(folder / name, _encode(content) if isinstance(content, str) else content)
    except OSError as error:
        raise InvalidInput(f"cannot write into {folder}: {error.strerror}; {remedy}") from None
    return [folder / name for name in files]


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "backslashreplace")


def _read_bytes(path: Path) -> bytes | None:
    try:
        check_plain_file(path)
        return path.read_bytes()
    except OSError:
        return None
