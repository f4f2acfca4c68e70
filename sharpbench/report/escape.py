"""Text that comes from records, made harmless for Markdown, HTML and the file system."""

from __future__ import annotations

import hashlib
import re
import textwrap
from collections.abc import Iterable

from markupsafe import Markup

from sharpbench.report.format import plain_text

_ESCAPES = str.maketrans(
    {"&": "&amp;", "<": "&lt;", ">": "&gt;", "@": "&#64;"} | {mark: f"\\{mark}" for mark in "\\`*_[]|~#!$"}
)
MAX_LINE_COLUMNS = 120
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
"""A text of CSV that begins so is computed by spreadsheets; a quote before it prevents that."""
_MARKER = re.compile(r" (?=(?:[-+=]+|\d+[.)]) )")
"""The space before a word that begins a list or a heading at the start of a line."""
_ADDRESS = re.compile(r"://|www\.", re.IGNORECASE)


def escape_cell(value: object, length: int = 60) -> Markup:
    """`value` as plain text inside a Markdown table or list: one line, no markup, no links, cut to `length`.

    Markup is returned as it is.
    """
    if isinstance(value, Markup):
        return value
    text = plain_text(str(value), length).translate(_ESCAPES)
    return Markup(_ADDRESS.sub(lambda found: found[0].replace(":", "&#58;").replace(".", "&#46;"), text))


def markdown_table(header: list[str], rows: list[list[str]], right: set[int]) -> Markup:
    """A Markdown table of escaped cells, padded so that the source can be read."""
    widths = [max(3, *(len(row[column]) for row in [header, *rows])) for column in range(len(header))]
    rule = ["-" * (width - 1) + (":" if column in right else "-") for column, width in enumerate(widths)]
    lines = [header, rule, *rows]
    return Markup("\n".join("| " + " | ".join(_pad_cells(line, widths, right)) + " |" for line in lines))


def _pad_cells(line: list[str], widths: list[int], right: set[int]) -> list[str]:
    return [
        text.rjust(width) if column in right else text.ljust(width)
        for column, (text, width) in enumerate(zip(line, widths, strict=True))
    ]


def wrap_text(text: str, *, hanging: int = 0) -> str:
    """A paragraph of Markdown in lines of at most MAX_LINE_COLUMNS, all but the first indented by `hanging` spaces.

    No line begins with a word that would begin a list there, such as a dash or a number with a full stop.

    >>> first, second = wrap_text(24 * "word " + "- and more", hanging=2).splitlines()
    >>> second
    '  word - and more'
    """
    lines = textwrap.fill(
        _MARKER.sub("\0", text),
        MAX_LINE_COLUMNS,
        subsequent_indent=" " * hanging,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return lines.replace("\0", " ")


def numbered_list(items: Iterable[object], length: int) -> str:
    """A numbered list of Markdown; each item is escaped and cut to `length` as by `escape_cell`."""
    return "\n".join(
        wrap_text(f"{number}. {escape_cell(item, length)}", hanging=len(f"{number}. "))
        for number, item in enumerate(items, start=1)
    )


def guard_formula(text: str) -> str:
    """`text` as a cell of CSV, which no spreadsheet takes for a formula; a single mark, such as a dash, stays.

    >>> guard_formula("=1+1"), guard_formula("-"), guard_formula("trace")
    ("'=1+1", '-', 'trace')
    """
    return f"'{text}" if len(text) > 1 and text.startswith(FORMULA_STARTS) else text


def make_slug(*words: str) -> str:
    """A file name without suffix, of a-z, 0-9, dot and hyphen, with a hash where a character had to be changed.

    It is never empty, hidden or a path, and has at most 120 characters. Different words never share a name.
    """
    wanted = "--".join(words)
    name = re.sub(r"[^a-z0-9.-]+", "-", wanted.lower()).strip("-.")[:100].strip("-.")
    if name == wanted and all("--" not in word for word in words):
        return name
    digest = hashlib.sha256("\0".join(words).encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{name or 'plot'}-{digest}"
