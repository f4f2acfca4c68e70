"""Verdicts: the findings of recomputing a sample of a submission, one line of JSON each."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, get_args

from sharpbench.core.fields import Scalar, from_row, is_finite, is_scalar
from sharpbench.core.jsonl import format_json
from sharpbench.errors import InvalidInput, shorten
from sharpbench.leaderboard.submissions.manifest import HASH_PATTERN, SUFFIX, check_name, parse_line

FORMAT_VERSION = 2
VERDICTS_SUFFIX = ".verdicts.jsonl"
MAX_FILE_BYTES, MAX_TEXT_CHARS = 2**26, 300
TIME_PATTERN = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d\d:\d\d")
NETWORK_NUMBERS = ("gap", "train_accuracy", "test_accuracy", "test_loss", "epochs", "diverged", "test_examples")
CELL_NUMBERS = (
    *("value", "probes", "stderr", "stderr_examples", "low", "high"),
    *("converged", "examples", "available", "exact", "oracle"),
)
INVARIANCE_PREFIX = "invariance."
"""The names of compared numbers: of a network, of a cell, and of factors of change by kind of rewrite."""
Outcome = Literal["agrees", "differs", "parted", "unknown"]
State = Literal["verified", "claimed", "refuted", "unfinished"]
MIN_VERIFIED_SHARE = 0.9
"""The least share of the values of a sample, or of a row of a board, that must agree for it to be verified."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One number of a submission compared with the one found here.

    Args:
        key, label: Of the cell.
        claim: The hash of the cell or network with its claims, see `claims`.
        place: The hash of the cell or network without claims.
        network: The recipe in a few words.
        population: 'model on data set'.
        what: One of NETWORK_NUMBERS or CELL_NUMBERS, or 'invariance.' and a kind of rewrite.
        outcome: 'agrees'; 'differs', which refutes; 'parted': training here led to another network, so values cannot be
            compared one by one; 'unknown': it could not be recomputed.
        bound: The largest difference that agrees.
        reason: Why a number parted, is unknown or is missing.
    """

    key: str
    claim: str
    place: str
    label: str
    network: str
    population: str
    what: str
    outcome: Outcome
    claimed: float | None = None
    found: float | None = None
    bound: float | None = None
    reason: str = ""

    def __post_init__(self) -> None:
        for name in ("key", "claim", "place"):
            if not isinstance(getattr(self, name), str) or not HASH_PATTERN.fullmatch(getattr(self, name)):
                raise InvalidInput(f"{name} {shorten(repr(getattr(self, name)))} is not a SHA-256 in lower case")
        for name in ("label", "network", "population", "what", "reason"):
            text = getattr(self, name)
            if not isinstance(text, str) or len(text) > MAX_TEXT_CHARS or not text.isprintable():
                raise InvalidInput(
                    f"{name} {shorten(repr(text))} is not printable text of at most {MAX_TEXT_CHARS} characters"
                )
        if self.what not in (*NETWORK_NUMBERS, *CELL_NUMBERS) and not self.what.startswith(INVARIANCE_PREFIX):
            raise InvalidInput(f"what {shorten(repr(self.what))} is not the name of a compared number")
        if self.outcome not in get_args(Outcome):
            raise InvalidInput(f"outcome {shorten(repr(self.outcome))} is not one of {', '.join(get_args(Outcome))}")
        numbers = [self.claimed, self.found, self.bound]
        if not all(value is None or (type(value) in (int, float) and is_finite(value)) for value in numbers):
            raise InvalidInput("claimed, found or bound is not a number")
        if None in numbers and (self.outcome == "agrees" or (self.outcome == "differs" and not self.reason)):
            raise InvalidInput(f"it {self.outcome} without claimed, found and bound")

    @property
    def difference(self) -> float | None:
        """The found number minus the claimed one."""
        return None if self.claimed is None or self.found is None else self.found - self.claimed


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Findings of a `verify` of the file with hash `sha256`; seed and sample chose its cells.

    `verify --record` writes one verdict per cell, as soon as it is compared. A verdict belongs to the claims of its
    findings, not to the file.

    Attributes:
        unfinished: Values that were not recomputed because a limit of time or memory was reached. Lines with 0 do not
            have the field, as those of earlier versions.
    """

    name: str
    sha256: str
    seed: int
    sample: int
    time: str
    environment: Mapping[str, Scalar]
    findings: tuple[Finding, ...]
    unfinished: int = 0
    verdict: int = FORMAT_VERSION

    def __post_init__(self) -> None:
        check_name(self.name)
        if not isinstance(self.sha256, str) or not HASH_PATTERN.fullmatch(self.sha256):
            raise InvalidInput(f"sha256 {shorten(repr(self.sha256))} is not a SHA-256 in lower case")
        if type(self.seed) is not int or type(self.sample) is not int:
            raise InvalidInput("seed or sample is not a number")
        if type(self.unfinished) is not int or self.unfinished < 0:
            raise InvalidInput("unfinished is not a number of values")
        if not isinstance(self.time, str) or not TIME_PATTERN.fullmatch(self.time):
            raise InvalidInput(f"time {shorten(repr(self.time))} is not in ISO 8601 with its offset")
        if not isinstance(self.environment, dict) or not all(_printable(*item) for item in self.environment.items()):
            raise InvalidInput("environment is not an object of printable texts and numbers")

    @property
    def state(self) -> State:
        """The state of the sample, from its findings.

        Returns:
            'refuted' if a number differs; else 'unfinished' if a limit of time or memory was reached; else 'verified'
            if MIN_VERIFIED_SHARE of the values agree; else 'claimed'.
        """
        if any(each.outcome == "differs" for each in self.findings):
            return "refuted"
        if self.unfinished:
            return "unfinished"
        values = [each for each in self.findings if each.what == "value"]
        agreed = sum(each.outcome == "agrees" for each in values)
        return "verified" if is_verified_share(agreed, len(values)) else "claimed"

    def is_of_sample(self, other: Verdict) -> bool:
        """Whether both are of one file, seed, sample and environment."""
        names = ("sha256", "seed", "sample", "environment")
        return all(getattr(self, name) == getattr(other, name) for name in names)

    @property
    def _earlier_state(self) -> State:
        """The state by the rule of earlier versions, for which one value that agreed was enough."""
        outcomes = {(each.what == "value", each.outcome) for each in self.findings}
        if {(True, "differs"), (False, "differs")} & outcomes:
            return "refuted"
        return "verified" if (True, "agrees") in outcomes else "claimed"

    def to_json(self) -> str:
        """One line of JSON, `verdict` and state first."""
        return self._format(self.state)

    def _format(self, state: State) -> str:
        row = asdict(self)
        if not self.unfinished:
            del row["unfinished"]
        return format_json({"verdict": row.pop("verdict"), "state": state, **row})

    @staticmethod
    def from_json(line: str) -> Verdict:
        """The verdict on `line`. Raises InvalidInput for what no version of `to_json` writes."""
        row = parse_line(line)
        if row.get("verdict") != FORMAT_VERSION:
            raise InvalidInput(f"format {shorten(repr(row.get('verdict')))}, where this version reads {FORMAT_VERSION}")
        row.pop("state", None)
        if not isinstance(row.get("findings"), list):
            raise InvalidInput("findings is not a list")
        findings = tuple(from_row(Finding, each) for each in row["findings"])
        found = from_row(Verdict, {"unfinished": 0, **row, "findings": findings})
        if line not in (found.to_json(), found._format(found._earlier_state)):
            raise InvalidInput("not written as `sharpbench verify` writes it")
        return found


def is_verified_share(agreed: int, claimed: int) -> bool:
    """Whether this number of agreeing values among the claimed ones makes a sample or a row verified.

    >>> is_verified_share(22, 24), is_verified_share(1, 24), is_verified_share(0, 0)
    (True, False, False)
    """
    return agreed > 0 and agreed >= MIN_VERIFIED_SHARE * claimed


def verdicts_path(submission: Path) -> Path:
    """The file of verdicts on a submission, next to it."""
    return submission.with_name(submission.name.removesuffix(SUFFIX) + VERDICTS_SUFFIX)


def append_verdict(path: Path, verdict: Verdict) -> None:
    """Append a line and wait until it is on disk. Raises InvalidInput where the file cannot be written."""
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o644), "ab") as file:
            file.write((verdict.to_json() + "\n").encode())
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise InvalidInput(f"cannot write {path}: {error.strerror}; verify a copy in another folder") from None


def read_verdicts(path: Path) -> tuple[Verdict, ...]:
    """All verdicts of a file, in order; none if it does not exist. Raises InvalidInput with file and line."""
    try:
        found = path.lstat()
        if not stat.S_ISREG(found.st_mode) or found.st_size > MAX_FILE_BYTES:
            raise InvalidInput(f"{path} is not a plain file of at most {MAX_FILE_BYTES:,} bytes")
        lines = path.read_bytes().decode("utf-8", "surrogateescape").split("\n")
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise InvalidInput(f"cannot read {path}: {error.strerror}") from None
    if lines.pop() != "":
        raise InvalidInput(f"{path}:{len(lines) + 1}: the last line has no end; restore the file")
    return tuple(_read_verdict(line, f"{path}:{number}") for number, line in enumerate(lines, start=1))


def recorded_findings(verdicts: Sequence[Verdict], like: Verdict) -> tuple[Finding, ...]:
    """The findings of an earlier `verify` of the same sample, see `Verdict.is_of_sample`.

    Unknown numbers are left out: they are found again, perhaps under other limits.
    """
    same = [verdict for verdict in verdicts if verdict.is_of_sample(like)]
    return tuple(finding for verdict in same for finding in verdict.findings if finding.outcome != "unknown")


def read_folder_verdicts(folder: Path) -> dict[str, tuple[Verdict, ...]]:
    """The verdicts of all files in a folder, by the name of their submission, which may have been removed.

    Raises:
        InvalidInput: with file and line, also for a verdict on a submission of another name.
    """
    found = {}
    for path in sorted(folder.glob(f"*{VERDICTS_SUFFIX}")):
        name = path.name.removesuffix(VERDICTS_SUFFIX)
        found[name] = read_verdicts(path)
        for number, verdict in enumerate(found[name], start=1):
            if verdict.name != name:
                raise InvalidInput(f"{path}:{number}: a verdict on '{verdict.name}'; restore the file")
    return found


def _read_verdict(line: str, where: str) -> Verdict:
    try:
        return Verdict.from_json(line)
    except InvalidInput as error:
        raise InvalidInput(f"{where}: {error}; restore the file") from None


def _printable(key: object, value: object) -> bool:
    texts: Sequence[object] = [each for each in (key, value) if isinstance(each, str)]
    return (
        isinstance(key, str)
        and is_scalar(value)
        and all(len(str(t)) <= MAX_TEXT_CHARS and str(t).isprintable() for t in texts)
    )
