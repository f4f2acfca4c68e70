"""Collection: the records of one file of published results, read whole and checked before anything is made of them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from sharpbench.analysis.population import finite_or_none
from sharpbench.core.fields import Scalar
from sharpbench.core.record import Record, Scalars
from sharpbench.errors import InvalidInput, short
from sharpbench.files import content_hash

# Integrity: what in a record can be checked without running it again.
#
# The key is recomputed from the content, the gap from the accuracies, and all records of one network must agree on what
# came of it. That a value is what the measure gives is for a second run to say.

MAX_VERSION = 32
"""Versions of a measure that are tried: records do not hold it, their keys do."""
MAX_GAP_ERROR = 1e-9
VOLATILE_TRUTH = ("seconds",)
"""Of the truth, what may differ between records of one network."""

FirstSeen = tuple[str, dict[str, Scalar]]


@dataclass(frozen=True, slots=True)
class ConsistencyCheck:
    """Of one file: where each network, row and label was told of first; later records must agree with them."""

    networks: dict[str, FirstSeen] = field(default_factory=dict)
    rows: dict[str, tuple[str, int]] = field(default_factory=dict)
    labels: dict[str, tuple[str, Scalars]] = field(default_factory=dict)

    def check(self, record: Record, where: str) -> None:
        """Raise InvalidInput where `record`, which stands at `where`, does not agree with itself or those before."""
        version = find_version(record)
        if version is None:
            raise InvalidInput(
                f"{where}: the key does not fit the content (measure, configuration, recipe, data, seed, dtype, "
                "device): the line was changed; restore it"
            )
        self._check_label(record, where)
        self._check_version(record, version, where)
        self._check_truth(record, where)

    def _check_label(self, record: Record, where: str) -> None:
        """The key holds measure and configuration; the label, by which rows are told apart, must say the same."""
        shown, behind = short(record.label), record.label[len(record.measure) :]
        if not record.label.startswith(record.measure) or behind[:1] not in ("", "[", ":"):
            raise InvalidInput(
                f"{where}: label '{shown}' is none of measure '{short(record.measure)}'; restore the line"
            )
        first, known = self.labels.setdefault(record.label, (where, record.configuration))
        if known != record.configuration:
            raise InvalidInput(
                f"{where}: label '{shown}' stands for another configuration at {first}; restore the line"
            )

    def _check_version(self, record: Record, version: int, where: str) -> None:
        data = record.data.get("sha256"), record.data.get("examples")
        row = content_hash([record.label, record.configuration, data, record.seed, record.dtype, record.device])
        first, other = self.rows.setdefault(row, (where, version))
        if other != version:
            raise InvalidInput(
                f"{where}: version {version} of measure '{short(record.label)}', but version {other} at {first}; "
                "run the older ones again"
            )

    def _check_truth(self, record: Record, where: str) -> None:
        accuracies = [finite_or_none(record.truth.get(name)) for name in ("gap", "train_accuracy", "test_accuracy")]
        gap, train, test = accuracies
        if gap is not None and train is not None and test is not None and abs(train - test - gap) > MAX_GAP_ERROR:
            raise InvalidInput(
                f"{where}: the gap {gap} is not {train} - {test}, training less test accuracy: the line was changed; "
                "restore it"
            )
        if not record.truth:
            return
        told = {name: value for name, value in record.truth.items() if name not in VOLATILE_TRUTH}
        told["test_examples"] = record.data.get("test_examples")
        network = content_hash([record.recipe, record.data.get("sha256"), record.device])
        first, known = self.networks.setdefault(network, (where, told))
        if known != told:
            name = next(name for name in {**known, **told} if known.get(name) != told.get(name))
            raise InvalidInput(
                f"{where}: '{short(name)}' of this network is {told.get(name)!r:.40}, but {known.get(name)!r:.40} at "
                f"{first}: one of the lines was changed, or the network was trained anew; restore it, or run all again"
            )


def find_version(record: Record) -> int | None:
    """The version of the measure with which the record's key fits its content; None where it fits with none."""
    return next((version for version, key in _possible_keys(record) if key == record.key), None)


def _possible_keys(record: Record) -> Iterator[tuple[int, str]]:
    """The keys that the content may have; the cell's `examples` is None where all were measured on."""
    for version in range(1, MAX_VERSION + 1):
        for examples in (None, record.data.get("examples")):
            content = {
                "measure": record.measure,
                "version": version,
                "configuration": record.configuration,
                "recipe": record.recipe,
                "data": record.data.get("sha256"),
                "examples": examples,
                "seed": record.seed,
                "dtype": record.dtype,
                "device": record.device,
            }
            yield version, content_hash(content)


SUFFIX = ".jsonl"
NAME_PATTERN = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
MAX_NAME_CHARS = 60


@dataclass(frozen=True, slots=True)
class Collection:
    """The records of NAME.jsonl.

    left_out: how many of its lines are not for a leaderboard (`data.leaderboard` false).
    """

    name: str
    records: tuple[Record, ...]
    left_out: int


def read_collections(folder: Path) -> tuple[Collection, ...]:
    """The collections in `folder`, by name; those without a record for a leaderboard hold none.

    Raises InvalidInput, one line with file and line number, for a line that is not whole, no record, of another
    schema, stands twice, or does not agree with itself or with others.
    """
    paths = sorted(folder.glob(f"*{SUFFIX}")) if folder.is_dir() else []
    if not paths:
        raise InvalidInput(f"no record files in {folder}; put *{SUFFIX} there, or name their folder with --results")
    found = tuple(_read_collection(path) for path in paths)
    if not any(each.records for each in found):
        raise InvalidInput(f"no records for a leaderboard in {folder}; those of `sharpbench run` are")
    return found


def _read_collection(path: Path) -> Collection:
    if not NAME_PATTERN.fullmatch(path.stem) or len(path.stem) > MAX_NAME_CHARS:
        raise InvalidInput(
            f"{path}: '{short(path.stem)}' is no name of a collection; use words of a-z and 0-9 with hyphens between, "
            f"at most {MAX_NAME_CHARS} characters"
        )
    witness, records, left_out, seen = ConsistencyCheck(), list[Record](), 0, dict[str, str]()
    for where, line in _read_lines(path):
        record = Record.from_json(line, where=where)
        if record.data.get("leaderboard") is False:
            left_out += 1
            continue
        if record.key in seen:
            raise InvalidInput(
                f"{where}: the cell of this line stands already at {seen[record.key]}, as where it was run "
                "again; `sharpbench merge` into a new folder keeps one record of each"
            )
        seen[record.key] = where
        witness.check(record, where)
        records.append(record)
    return Collection(path.stem, tuple(records), left_out)


def _read_lines(path: Path) -> Iterator[tuple[str, str]]:
    """Each line with its place; a last one that does not end is refused."""
    try:
        lines = path.read_bytes().decode("utf-8").split("\n")
    except UnicodeDecodeError as error:
        before = path.read_bytes()[: error.start].count(b"\n") + 1
        raise InvalidInput(f"{path}:{before}: not UTF-8 ({error.reason}); restore the file") from None
    except OSError as error:
        raise InvalidInput(f"cannot read {path}: {error.strerror}; restore it") from None
    for number, line in enumerate(lines[:-1], start=1):
        if not line.strip():
            raise InvalidInput(f"{path}:{number}: an empty line; delete it")
        yield f"{path}:{number}", line
    if lines[-1]:
        raise InvalidInput(f"{path}:{len(lines)}: the line does not end: it is truncated; restore the file")
