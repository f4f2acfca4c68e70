"""A submission as one file, a manifest and records; reading checks every line."""

from __future__ import annotations

import hashlib
import os
import stat
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sharpbench.core.record import Record
from sharpbench.errors import InvalidInput
from sharpbench.leaderboard.submissions import claims
from sharpbench.leaderboard.submissions.manifest import SUFFIX, Manifest
from sharpbench.leaderboard.submissions.validation import check_record

MAX_FILE_BYTES, MAX_LINE_CHARS = 2**26, 2**20
MAX_COUNTS = {"networks": 5000, "measures with their hyperparameters": 400, "populations": 40}
"""The most that one file may hold, because pairs of networks are compared and each population has pages and plots."""


@dataclass(frozen=True, slots=True)
class Submission:
    """A manifest and its records; sha256 is the hash of the whole file."""

    manifest: Manifest
    records: tuple[Record, ...]
    sha256: str


def format_submission(manifest: Manifest, records: Sequence[Record]) -> str:
    """The text of the file of a submission."""
    return "".join(line + "\n" for line in (manifest.to_json(), *(record.to_json() for record in records)))


def hash_records(records: Sequence[Record]) -> str:
    """The SHA-256 of the lines of the records, for the manifest."""
    return hashlib.sha256("".join(record.to_json() + "\n" for record in records).encode()).hexdigest()


def read_submission(path: Path) -> Submission:
    """The submission in a file.

    A sound file is a plain file named after its manifest. It is complete and holds records as this version writes them,
    each once, with the hash of the manifest. Nothing in them could do harm in a page, as a name, or as a path.

    Raises:
        InvalidInput: with file and line, for a file that is not sound.
    """
    content = _read_content(path)
    lines = content.decode("utf-8", "surrogateescape").split("\n")
    if lines.pop() != "":
        raise InvalidInput(f"{path}:{len(lines) + 1}: the last line has no end; fetch the file again")
    for number, line in enumerate(lines, start=1):
        if len(line) > MAX_LINE_CHARS or not line or not line.isprintable():
            raise InvalidInput(f"{path}:{number}: empty, over {MAX_LINE_CHARS:,} characters, or not printable UTF-8")
    try:
        manifest = Manifest.from_json(lines[0])
    except InvalidInput as error:
        raise InvalidInput(f"{path}:1: {error}") from None
    if path.name != manifest.name + SUFFIX:
        raise InvalidInput(
            f"{path}:1: the submission is named '{manifest.name}'; call the file {manifest.name}{SUFFIX}"
        )
    records = tuple(_read_record(line, f"{path}:{number}") for number, line in enumerate(lines[1:], start=2))
    _check_whole(path, manifest, records)
    return Submission(manifest, records, hashlib.sha256(content).hexdigest())


def _read_content(path: Path) -> bytes:
    try:
        found = path.lstat()
        if not stat.S_ISREG(found.st_mode):
            raise InvalidInput(f"{path} is not a plain file; copy the submission itself")
        if not 0 < found.st_size <= MAX_FILE_BYTES:
            raise InvalidInput(f"{path} holds {found.st_size:,} bytes; a submission holds 1 to {MAX_FILE_BYTES:,}")
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb") as file:
            return file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise InvalidInput(f"cannot read {path}: {error.strerror}; name a file of `sharpbench submit`") from None


def _read_record(line: str, where: str) -> Record:
    record = Record.from_json(line, where=where)
    try:
        if record.to_json() != line:
            raise InvalidInput("not written as sharpbench writes records (a field twice?)")
        check_record(record)
    except InvalidInput as error:
        raise InvalidInput(f"{where}: {error}; pack it again with `sharpbench submit`") from None
    return record


def _check_whole(path: Path, manifest: Manifest, records: Sequence[Record]) -> None:
    for number, (record, count) in enumerate(zip(records, _count_keys(records), strict=True), start=2):
        if count > 1:
            raise InvalidInput(
                f"{path}:{number}: the cell {record.key[:16]}... is already above; leave one record of each cell"
            )
        if record.measure not in manifest.measures:
            raise InvalidInput(f"{path}:{number}: measure '{record.measure}' is not in the manifest; pack it again")
    held = (len({claims.hash_network(r) for r in records}), len({r.label for r in records}))
    for (what, most), count in zip(
        MAX_COUNTS.items(), (*held, len(set(map(claims.population_name, records)))), strict=True
    ):
        if count > most:
            raise InvalidInput(f"{path}:1: {count:,} {what}, where {most:,} are the most; submit them in several files")
    if manifest.records != len(records):
        raise InvalidInput(
            f"{path}:1: {manifest.records} records are announced, {len(records)} follow; fetch the file again"
        )
    found = hash_records(records)
    if manifest.sha256 != found:
        raise InvalidInput(
            f"{path}:1: the lines have the hash {found[:16]}..., the manifest says {manifest.sha256[:16]}...; "
            "a line was changed: fetch the file again"
        )


def _count_keys(records: Sequence[Record]) -> list[int]:
    """For each record, how many records up to it have its key."""
    counts: Counter[str] = Counter()
    places = []
    for record in records:
        counts[record.key] += 1
        places.append(counts[record.key])
    return places
