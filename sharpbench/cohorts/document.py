"""Document: a TOML file, and in which line of it a key stands."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sharpbench.errors import InvalidInput, short
from sharpbench.files import user_path

LARGEST = 2**16
"""Bytes of a file: more is no cohort."""


@dataclass(frozen=True, eq=False)
class Document:
    """What a TOML file holds. path: as the user named it, for errors."""

    path: str
    text: str
    content: Mapping[str, Any]

    @staticmethod
    def read(path: str) -> Document:
        """Raises InvalidInput, one line with the file and the line, for what is missing, too large or no TOML."""
        place = user_path(path)
        if not place.is_file():
            raise InvalidInput(f"there is no file '{path}'; name a cohort, or a TOML file that describes one")
        try:
            with place.open("rb") as file:
                data = file.read(LARGEST + 1)
            text = data.decode()
        except OSError as error:
            raise InvalidInput(f"'{path}' cannot be read ({error.strerror}); name another file") from None
        except UnicodeDecodeError as error:
            line = data[: error.start].count(b"\n") + 1
            raise InvalidInput(f"{path}:{line}: not UTF-8, as TOML is; save the file as UTF-8") from None
        if len(data) > LARGEST:
            raise InvalidInput(f"'{path}' holds more than {LARGEST:,} bytes, too many for a cohort; name another file")
        try:
            return Document(path, text, tomllib.loads(text))
        except (ValueError, RecursionError) as error:
            raise InvalidInput(_syntax(path, text, str(error))) from None

    def where(self, *keys: str) -> str:
        """'FILE:LINE: ' of the line where the value of a key, of tables from the outside in, begins."""
        lines = self.text.splitlines(keepends=True)
        first, last = 0, len(lines)  # holds of `last` lines, not of `first`
        while last - first > 1:
            middle = (first + last) // 2
            if _holds(_longest(lines, middle)[1], keys):
                last = middle
            else:
                first = middle
        begin = _longest(lines, last - 1)[0]
        while begin < last - 1 and lines[begin].lstrip()[:1] in ("", "#"):
            begin += 1
        return f"{self.path}:{begin + 1}: "


def _longest(lines: list[str], count: int) -> tuple[int, Mapping[str, Any]]:
    """The longest part, up to `count` of the first lines, that is TOML, and what it holds."""
    for length in range(count, 0, -1):
        try:
            return length, tomllib.loads("".join(lines[:length]))
        except ValueError:
            continue  # it ends within a value of several lines
    return 0, {}


def _holds(content: Any, keys: tuple[str, ...]) -> bool:
    for key in keys:
        if not isinstance(content, Mapping) or key not in content:
            return False
        content = content[key]
    return True


def _syntax(path: str, text: str, said: str) -> str:
    found = re.search(r" \(at line (\d+), column (\d+)\)", said)
    line = int(found[1]) if found else text.count("\n") + 1
    cause = said[: found.start()] if found else said.removesuffix(" (at end of document)")
    column = f" at column {found[2]}" if found else ""
    return f"{path}:{line}: not TOML{column}: {short(cause)}; text stands in quotes, lists in brackets"
