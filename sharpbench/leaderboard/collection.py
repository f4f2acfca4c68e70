"""Published results: the record files of a folder, read completely and checked."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sharpbench.analysis.population import finite_or_none, group_populations, network_key, normalize_numbers
from sharpbench.core.fields import Scalar
from sharpbench.core.jsonl import COMPRESSED, read_compressed
from sharpbench.core.record import Record, Scalars
from sharpbench.errors import InvalidInput, shorten
from sharpbench.files import content_hash
from sharpbench.runner.cell import KeyContent

MAX_VERSION = 32
"""The largest version of a measure that is tried; records do not hold the version, but their keys do."""
MAX_GAP_ERROR = 1e-9
VOLATILE_TRUTH = ("seconds",)
"""Fields of the truth that may differ between records of one network."""

FirstSeen = tuple[str, dict[str, Scalar]]


@dataclass(frozen=True, slots=True)
class ConsistencyCheck:
    """Checks of the records of one file against their keys and against each other, without running anything.

    The key is recomputed from the content and the gap from the accuracies, and all records of one network must agree on
    its truth. Whether a value is what the measure gives is checked by `verify`.

    Attributes:
        networks: A network, as boards tell them apart -> the place and truth of its first record.
        rows: Hash of a row -> the place and version of its first record.
        labels: Label -> the place and configuration of its first record.
        outcomes: Network, and the name of an outcome -> the place and value of its first record.
    """

    networks: dict[str, FirstSeen] = field(default_factory=dict)
    rows: dict[str, tuple[str, int]] = field(default_factory=dict)
    labels: dict[str, tuple[str, Scalars]] = field(default_factory=dict)
    outcomes: dict[tuple[str, str], tuple[str, float | None]] = field(default_factory=dict)

    def check(self, record: Record, where: str) -> None:
        """Raise InvalidInput if `record`, found at `where`, contradicts itself or the records before."""
        version = find_version(record)
        if version is None:
            raise InvalidInput(
                f"{where}: the key does not fit the content (measure, configuration, recipe, data, seed, dtype, "
                "device): the line was changed; restore it"
            )
        self._check_label(record, where)
        self.compare(record, version, where)

    def compare(self, record: Record, version: int, where: str) -> None:
        """Raise InvalidInput if `record` is of another version, or of another network, than those before."""
        self._check_version(record, version, where)
        self._check_truth(record, where)
        self._check_outcomes(record, where)

    def _check_label(self, record: Record, where: str) -> None:
        """The label must agree with measure and configuration, which the key covers."""
        shown, behind = shorten(record.label), record.label[len(record.measure) :]
        if not record.label.startswith(record.measure) or behind[:1] not in ("", "[", ":"):
            raise InvalidInput(
                f"{where}: label '{shown}' does not belong to measure '{shorten(record.measure)}'; restore the line"
            )
        first, known = self.labels.setdefault(record.label, (where, record.configuration))
        if known != record.configuration:
            raise InvalidInput(f"{where}: label '{shown}' has another configuration at {first}; restore the line")

    def _check_version(self, record: Record, version: int, where: str) -> None:
        data = record.data.get("sha256"), record.data.get("examples")
        row = content_hash(
            [record.label, normalize_numbers(record.configuration), data, record.seed, record.dtype, record.device]
        )
        first, other = self.rows.setdefault(row, (where, version))
        if other != version:
            raise InvalidInput(
                f"{where}: version {version} of measure '{shorten(record.label)}', but version {other} at {first}; "
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
        truth = {name: value for name, value in record.truth.items() if name not in VOLATILE_TRUTH}
        truth["test_examples"] = record.data.get("test_examples")
        first, known = self.networks.setdefault(network_key(record), (where, truth))
        if known != truth:
            name = next(name for name in {**known, **truth} if known.get(name) != truth.get(name))
            raise InvalidInput(
                f"{where}: '{shorten(name)}' of this network is {truth.get(name)!r:.40}, but {known.get(name)!r:.40} "
                f"at {first}: one of the lines was changed, or the network was trained again; restore it, or "
                "run all again"
            )

    def _check_outcomes(self, record: Record, where: str) -> None:
        network = network_key(record)
        for name, value in record.outcomes.items():
            first, known = self.outcomes.setdefault((network, name), (where, value))
            if known != value:
                raise InvalidInput(
                    f"{where}: the outcome '{shorten(name)}' of this network is {value}, but {known} at {first}: one "
                    "of the lines was changed, or the network was trained again; restore it, or run all again"
                )


def find_contradiction(records: Sequence[Record]) -> str | None:
    """Why values of one row or of one network do not belong together, of the first record where they do not.

    One row of a board holds values of two versions of a measure, or a network was trained again and came out
    differently. A record whose key names no version is not compared.
    """
    seen, rows = ConsistencyCheck(), (row for population in group_populations(records) for row in population.rows)
    for record in (each for row in rows for each in row.records.values()):
        version = find_version(record)
        where = f"{record.label} on {record.recipe.get('model')}, seed {record.recipe.get('seed')}"
        try:
            if version is not None:
                seen.compare(record, version, shorten(where))
        except InvalidInput as error:
            return str(error)
    return None


def find_version(record: Record) -> int | None:
    """The version of the measure for which the record's key fits its content; None where there is none."""
    return next((version for version, key in _possible_keys(record) if key == record.key), None)


def _possible_keys(record: Record) -> Iterator[tuple[int, str]]:
    """The keys that the content may have; `examples` of the cell is None where all examples were used."""
    for version in range(1, MAX_VERSION + 1):
        content = KeyContent.of_record(record, version=version)
        for examples in (None, record.data.get("examples")):
            yield version, content.key(examples=examples)


def name_networks(records: Sequence[Record]) -> Iterator[tuple[str, Record]]:
    """The name of each network of a collection, such as 'mlp-3', with its first record.

    The name is the model as it was named, and the number of the network among those of it in the file, from 0.
    """
    known, counts = set[tuple[object, ...]](), Counter[str]()
    for record in records:
        identity = (*sorted(record.recipe.items()), record.data.get("sha256"), record.device)
        if identity not in known:
            known.add(identity)
            model = str(record.data.get("population", record.recipe.get("model")))
            yield f"{model}-{counts[model]}", record
            counts[model] += 1


SUFFIX = ".jsonl"
"""The end of the name of a record file; COMPRESSED follows it where the file is compressed."""
NAME_PATTERN = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
MAX_NAME_CHARS = 60


@dataclass(frozen=True, slots=True)
class Collection:
    """The records of NAME.jsonl, or of NAME.jsonl.xz.

    Args:
        left_out: The number of its lines that are not for a leaderboard: `data.leaderboard` false, or claimed outcomes.
    """

    name: str
    records: tuple[Record, ...]
    left_out: int


def read_collections(folder: Path) -> tuple[Collection, ...]:
    """The collections in `folder`, by name.

    Raises:
        InvalidInput: for a line that is truncated, not a record, of another schema, a duplicate, or in contradiction to
            itself or to another line; the message has the file and the line number.
    """
    files = find_record_files(folder)
    if not files:
        raise InvalidInput(f"no record files in {folder}; put *{SUFFIX} there, or name their folder with --results")
    found = tuple(read_collection(path) for path in files.values())
    if not any(each.records for each in found):
        raise InvalidInput(f"no records for a leaderboard in {folder}; those of `sharpbench run` are")
    return found


def find_record_files(folder: Path) -> dict[str, Path]:
    """The record files in `folder` by the name of their collection, sorted; empty where there is no such folder.

    Raises InvalidInput for two files of one name.
    """
    patterns = (f"*{SUFFIX}", f"*{SUFFIX}{COMPRESSED}")
    paths = sorted(path for each in patterns for path in folder.glob(each)) if folder.is_dir() else []
    files = {_collection_name(path): path for path in paths}
    for path in paths:
        if (other := files[_collection_name(path)]) != path:
            raise InvalidInput(f"{path} and {other} are one collection; keep one of the two")
    return dict(sorted(files.items()))


def _collection_name(path: Path) -> str:
    return path.name.removesuffix(COMPRESSED).removesuffix(SUFFIX)


def read_collection(path: Path) -> Collection:
    """The collection in a file; raises InvalidInput as `read_collections`."""
    name = _collection_name(path)
    if not NAME_PATTERN.fullmatch(name) or len(name) > MAX_NAME_CHARS:
        raise InvalidInput(
            f"{path}: '{shorten(name)}' is not a name for a collection; use words of a-z and 0-9 with hyphens "
            f"between, at most {MAX_NAME_CHARS} characters"
        )
    consistency, records, left_out, seen = ConsistencyCheck(), list[Record](), 0, dict[str, str]()
    for where, line in _read_lines(path):
        record = Record.from_json(line, where=where)
        if record.data.get("leaderboard") is False or record.claimed:
            left_out += 1
            continue
        if record.key in seen:
            raise InvalidInput(
                f"{where}: the cell of this line is already at {seen[record.key]}, as if it was run again; "
                "`sharpbench merge` into a new folder keeps one record of each cell"
            )
        seen[record.key] = where
        consistency.check(record, where)
        records.append(record)
    return Collection(name, tuple(records), left_out)


def _read_lines(path: Path) -> Iterator[tuple[str, str]]:
    """Each line with its place; a last line without an end is refused, and so is a pipe, which may never end."""
    if path.exists() and not path.is_file():
        raise InvalidInput(f"{path} is not a plain file; replace it by the records themselves, or remove it")
    content = _read_content(path)
    try:
        lines = content.decode("utf-8").split("\n")
    except UnicodeDecodeError as error:
        before = content[: error.start].count(b"\n") + 1
        raise InvalidInput(f"{path}:{before}: not UTF-8 ({error.reason}); restore the file") from None
    for number, line in enumerate(lines[:-1], start=1):
        if not line.strip():
            raise InvalidInput(f"{path}:{number}: an empty line; delete it")
        yield f"{path}:{number}", line
    if lines[-1]:
        raise InvalidInput(f"{path}:{len(lines)}: the line does not end: it is truncated; restore the file")


def _read_content(path: Path) -> bytes:
    """The bytes of a record file, decompressed."""
    try:
        return read_compressed(path) if path.suffix == COMPRESSED else path.read_bytes()
    except OSError as error:
        raise InvalidInput(f"cannot read {path}: {error.strerror}; restore it") from None
