"""The manifest of a submission: its first line, with its name, author and content."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from sharpbench.core.fields import from_row
from sharpbench.core.jsonl import format_json, parse_json
from sharpbench.errors import InvalidInput, shorten

FORMAT_VERSION = 1
SUFFIX = ".jsonl"
NAME_PATTERN = re.compile(r"[a-z0-9](?:[a-z0-9]|-(?!-)){0,58}[a-z0-9]")
MEASURE_PATTERN = re.compile(r"[a-z0-9][a-z0-9-]{0,99}")
URL_PATTERN = re.compile(r"https?://[A-Za-z0-9._~:/?#@%+=,-]{1,300}")
HASH_PATTERN = re.compile(r"[0-9a-f]{64}")
MAX_TEXT_CHARS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """The author and the content of a submission.

    Args:
        name: The name of the submission and of its file, NAME.jsonl: lower-case letters, digits and single hyphens.
        author, contact, url, note: Texts of the submitter, '' where they were not given.
        sharpbench: The version that packed the submission.
        measures: Measure -> its origin, 'package version'.
        records: The number of lines below.
        sha256: The hash of the lines below.

    Raises:
        InvalidInput: for what could do harm as a name, a line or a link.
    """

    name: str
    author: str = ""
    contact: str = ""
    url: str = ""
    note: str = ""
    sharpbench: str
    measures: Mapping[str, str]
    records: int
    sha256: str
    submission: int = FORMAT_VERSION

    def __post_init__(self) -> None:
        check_name(self.name)
        for item in ("author", "contact", "note", "sharpbench"):
            _check_text(item, getattr(self, item))
        if self.url != "" and (not isinstance(self.url, str) or not URL_PATTERN.fullmatch(self.url)):
            raise InvalidInput(
                f"url {shorten(repr(self.url))} is not a plain http(s) address of at most 300 characters"
            )
        if not isinstance(self.measures, dict) or not self.measures:
            raise InvalidInput("measures is not an object with the origin of each measure")
        for measure, origin in self.measures.items():
            if not MEASURE_PATTERN.fullmatch(measure):
                raise InvalidInput(
                    f"measure {shorten(repr(measure))} is not a name of lower-case letters, digits, hyphens"
                )
            _check_text(f"the origin of '{measure}'", origin)
        if type(self.records) is not int or self.records < 1:
            raise InvalidInput(f"records={shorten(repr(self.records))} is not a number of lines")
        if not isinstance(self.sha256, str) or not HASH_PATTERN.fullmatch(self.sha256):
            raise InvalidInput(f"sha256 {shorten(repr(self.sha256))} is not a SHA-256 in lower case")

    def to_json(self) -> str:
        """One line of JSON, `submission` first."""
        row = asdict(self)
        return format_json({"submission": row.pop("submission"), **row})

    @staticmethod
    def from_json(line: str) -> Manifest:
        """The manifest on `line`, which must be written as `to_json` writes it."""
        row = parse_line(line)
        if row.get("submission") != FORMAT_VERSION:
            raise InvalidInput(
                f"format {shorten(repr(row.get('submission')))}, where this version reads {FORMAT_VERSION}; "
                "use the version that wrote it"
            )
        found = from_row(Manifest, row, remedy="pack it again")
        if found.to_json() != line:
            raise InvalidInput("not written as `sharpbench submit` writes it; pack it again")
        return found


def check_name(name: object) -> None:
    """Raise InvalidInput unless `name` is harmless as the name of a file."""
    if not isinstance(name, str) or not NAME_PATTERN.fullmatch(name):
        raise InvalidInput(
            f"name {shorten(repr(name))} is not of 2 to 60 lower-case letters, digits and single hyphens between them"
        )


def parse_line(line: str) -> dict[str, Any]:
    """The JSON object on `line`. Raises InvalidInput for anything else, also for NaN and infinity."""
    try:
        row = parse_json(line)
    except ValueError as error:
        raise InvalidInput(f"not a line of JSON ({shorten(str(error))}); fetch the file again") from None
    if not isinstance(row, dict):
        raise InvalidInput(f"a JSON {type(row).__name__} where an object is expected; fetch the file again")
    return row


def _check_text(what: str, text: object) -> None:
    if not isinstance(text, str) or len(text) > MAX_TEXT_CHARS or not text.isprintable():
        raise InvalidInput(f"{what} {shorten(repr(text))} is not printable text of at most {MAX_TEXT_CHARS} characters")
