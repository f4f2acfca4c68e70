"""The records of a run, packed as a submission."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping, Sequence
from pathlib import Path

from sharpbench.core.record import Record
from sharpbench.core.records import iterate_records, locate_records
from sharpbench.errors import InvalidInput, shorten
from sharpbench.leaderboard.submissions.claims import hash_network, network_position
from sharpbench.leaderboard.submissions.manifest import Manifest
from sharpbench.leaderboard.submissions.sampling import InstalledParts, UnknownCell, find_installed, resolve_record
from sharpbench.leaderboard.submissions.submission import MAX_FILE_BYTES, format_submission, hash_records
from sharpbench.leaderboard.submissions.validation import check_record
from sharpbench.version import __version__


def pack_submission(path: Path, *, name: str, texts: Mapping[str, str], plugins: Sequence[Path] = ()) -> str:
    """The last record of each cell of a run as the text of a submission, in the order of the plan.

    Equal records give equal texts, whether one command made them, several workers, or shards that were merged.

    Args:
        path: The folder of the run, or its file of records.
        texts: author, contact, url and note of the manifest.
        plugins: The plugins of the run; they are executed.

    Raises:
        InvalidInput: with file and line, for a record that no board accepts, or whose key is not that of its cell
            because it was altered or its measure has another version.
    """
    file = locate_records(path)
    numbered = enumerate(iterate_records(file), start=1)  # sharpbench writes no empty lines
    lines = {record.key: (number, record) for number, record in numbered}
    if not lines:
        raise InvalidInput(f"{file} holds no record; name the folder or records.jsonl of `sharpbench run`")
    if sum(len(record.to_json().encode()) for _, record in lines.values()) > MAX_FILE_BYTES:
        raise _too_large(file)  # before the records are checked, which takes longer
    known = find_installed(plugins)
    for number, record in lines.values():
        try:
            check_record(record)
            resolve_record(record, known)
        except (InvalidInput, UnknownCell) as error:
            raise InvalidInput(f"{file}:{number}: {error}; leave it out, or run the cell again") from None
    records = tuple(_order_records([record for _, record in lines.values()]))
    manifest = Manifest(
        name=name,
        **{key: texts.get(key, "") for key in ("author", "contact", "url", "note")},  # type: ignore[arg-type]
        sharpbench=__version__,
        measures={measure: _measure_origin(measure, known) for measure in sorted({each.measure for each in records})},
        records=len(records),
        sha256=hash_records(records),
    )
    text = format_submission(manifest, records)
    if len(text.encode()) > MAX_FILE_BYTES:
        raise _too_large(file)
    return text


def _too_large(path: Path) -> InvalidInput:
    return InvalidInput(
        f"{path} makes a submission of more than {MAX_FILE_BYTES:,} bytes; submit fewer measures at a time"
    )


def _order_records(records: Sequence[Record]) -> list[Record]:
    """By position of the network, then by label and key; unchanged where an earlier version recorded no position."""
    if any("position" not in record.data for record in records):
        return list(records)
    return sorted(records, key=lambda each: (*network_position(each), hash_network(each), each.label, each.key))


def _measure_origin(measure: str, known: InstalledParts) -> str:
    """'package version' of a measure; for a measure from a file, the name of the file."""
    package = known.packages[measure]
    try:
        return f"{package} {importlib.metadata.version(package)}"
    except (importlib.metadata.PackageNotFoundError, ValueError):
        return f"file {shorten(Path(package).name)}"
