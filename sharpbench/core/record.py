"""Record: one row of results, its line of JSON, and the schema and its history."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from sharpbench.core.curve import Curve, curve_error
from sharpbench.core.fields import Scalar, from_row, type_error
from sharpbench.core.jsonl import format_json, parse_json
from sharpbench.errors import InvalidInput

Status = Literal["ok", "failed", "skipped", "timeout", "oom"]
Design = Literal["designed", "random"]
"""How the configurations of a population were chosen: all of a grid, or drawn."""
Scalars = Mapping[str, Scalar]
CHECKS = ("timing", "oracle", "invariance")
"""What may be found in addition to the value, together with it or later."""
MAX_REASON_CHARS = 2000
MAX_CAUSE_CHARS = 1900
"""Characters of an exception's text within a reason; engines add the rest."""
MAX_CHECK_REASON_CHARS = 900
"""Characters of the reason why a check has no result."""
SCHEMA = 8
"""The version of the fields of a record."""
ADDED_FIELDS: dict[int, dict[str, Any]] = {
    2: {"invariance": {}},
    3: {"contended": False, "pieces": 1, "printed": None},
    4: {"stderr_examples": None},
    5: {"checks": {}, "timed_environment": {}},
    6: {"outcomes": {}},
    7: {"training_curve": {}},
    8: {},
}
"""Schema version -> the fields that it added, with the values that older records get."""
REDEFINED_OUTCOMES: dict[int, str] = {8: "quantised-"}
"""Schema version -> how the names of the outcomes begin that it redefined; the values of older records are left out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One measure on one trained network, with everything that a leaderboard needs.

    Attributes:
        key: content hash of the cell: measure and its version, recipe, data, dtype, device kind, seed.
        measure: its name.
        label: name and hyperparameters that differ from their defaults.
        configuration: all hyperparameters of the measure.
        recipe: how the network was trained.
        truth: the result of training: losses, accuracies, gap, whether it fits, ...
        data: the data set: hash, numbers of examples, ...
        seed: of the random numbers of the measure.
        dtype: the precision in which it was evaluated.
        device: 'cpu' or 'cuda'.
        status: 'ok', or why there is no value.
        reason: the same in words.
        value: the estimate.
        stderr: its standard error over random vectors.
        low: the lower end of its 95 % interval over random vectors.
        high: the upper end.
        probes: the number of random vectors drawn.
        converged: whether iterations reached their tolerance.
        details: how the value was found.
        parts: the value by parameter or layer.
        shared_seconds: of the cell next to the others of its network; shared work counts for the first.
        seconds: of one separate call on a fresh subject; None: not timed.
        gradients: these seconds over the time of one full-data forward and backward pass in the same process.
        peak_bytes: the growth of the peak memory during that call.
        exact: what the value should be; None where it was not tested.
        oracle: how that was found.
        invariance: kind of rewrite of the same function -> the largest factor by which the value changed; empty where
            it was not tested.
        contended: other work took processor time from the separate call, so tables do not show its seconds.
        pieces: the number of processes among which the batches were divided.
        printed: the end of what the measure printed, where it was captured.
        stderr_examples: the standard error of the value over the draw of the examples; None where it is not known.
        checks: each of CHECKS that was tried -> None, or why it has no result, as 'status: reason'. Records of schema
            4 and before do not state them, see `tried`.
        timed_environment: of the separate call, where it is not `environment`.
        training_curve: epoch -> mean training loss, see `extend_curve`. Only records of the first measure of a run
            have it. Empty in records of schema 6 and before, and for networks that were trained elsewhere.
        outcomes: what was requested of the network in addition to `truth` (accuracy lost by quantisation, ...), by
            name; None for one that is not finite. Records of schema 5 and before have none, and those of schema 7 and
            before none of quantisation, whose values were of one scale per tensor.
        environment: processor, versions and so on, of the value.
        time: when the record was written, UTC.
        schema: the version of these fields.

    Raises:
        ValueError: for a field of another type, a nested mapping or a number that is not finite: these could be
            written but not read again.
    """

    key: str
    measure: str
    label: str
    configuration: Scalars
    recipe: Scalars
    truth: Scalars
    data: Scalars
    seed: int
    dtype: str
    device: str
    status: Status
    reason: str | None = None
    value: float | None = None
    stderr: float | None = None
    low: float | None = None
    high: float | None = None
    probes: int = 0
    converged: bool = True
    details: Scalars = field(default_factory=dict)
    parts: Mapping[str, float] = field(default_factory=dict)
    shared_seconds: float | None = None
    seconds: float | None = None
    gradients: float | None = None
    peak_bytes: int | None = None
    exact: float | None = None
    oracle: str | None = None
    invariance: Mapping[str, float | None] = field(default_factory=dict)
    contended: bool = False
    pieces: int = 1
    printed: str | None = None
    stderr_examples: float | None = None
    checks: Mapping[str, str | None] = field(default_factory=dict)
    timed_environment: Scalars = field(default_factory=dict)
    training_curve: Curve = field(default_factory=dict)
    outcomes: Mapping[str, float | None] = field(default_factory=dict)
    environment: Scalars = field(default_factory=dict)
    time: str = ""
    schema: int = SCHEMA

    def __post_init__(self) -> None:
        if wrong := type_error(self):
            raise ValueError(f"field {wrong}")
        if self.status == "ok" and self.value is None:
            raise ValueError("status ok without a value")
        if unknown := sorted(set(self.checks) - set(CHECKS)):
            raise ValueError(f"field checks has {unknown[0]:.40}, which is none of {', '.join(CHECKS)}")
        if self.training_curve and (wrong := curve_error(self.training_curve)):
            raise ValueError(f"field training_curve {wrong}")

    @property
    def claimed(self) -> bool:
        """Whether the outcomes are claims of a table, of a network that was trained elsewhere."""
        return self.data.get("claimed") is True

    @property
    def tried(self) -> frozenset[str]:
        """The checks that were tried; of records of schema 4 and before only those with a result are known."""
        found = {"timing": self.seconds is not None, "oracle": self.exact is not None}
        found["invariance"] = bool(self.invariance)
        return frozenset(self.checks).union(name for name, there in found.items() if there)

    @property
    def failed_checks(self) -> dict[str, str]:
        """The checks that failed -> why. One that does not apply to this network has not failed."""
        reasons = {name: reason for name, reason in self.checks.items() if reason is not None}
        return {name: reason for name, reason in reasons.items() if not reason.startswith("skipped: ")}

    def row(self) -> dict[str, Any]:
        """The fields by name, in their order. Mappings are those of the record, not copies."""
        return {name: getattr(self, name) for name in FIELD_NAMES}

    def to_json(self) -> str:
        """One line of JSON, keys in the order of the fields."""
        return format_json(self.row())

    @staticmethod
    def from_json(line: str, *, where: str) -> Record:
        """The record on `line`, in this version's fields where an earlier version wrote it.

        Raises InvalidInput for anything else; `where`, such as 'records.jsonl:7', names the line in the message.
        """
        try:
            row = parse_json(line)
        except ValueError as error:
            raise InvalidInput(f"{where}: not a JSON record ({error}); delete the line or restore the file") from None
        try:
            row = migrate_row(row)
        except ValueError as error:
            raise InvalidInput(f"{where}: {error}") from None
        try:
            return from_row(Record, row)
        except ValueError as error:
            raise InvalidInput(f"{where}: {error}; delete the line or restore the file") from None


FIELD_NAMES = tuple(item.name for item in fields(Record))


def utc_now() -> str:
    """The time of a record that is made now."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def is_redefined(outcome: str, schema: int) -> bool:
    """Whether an outcome of a record of this schema has another definition than today."""
    return any(schema < version and outcome.startswith(start) for version, start in REDEFINED_OUTCOMES.items())


def migrate_row(row: object) -> dict[str, Any]:
    """The row of a record with the fields of this version's schema; values of other fields are not checked.

    Raises ValueError for a row of a later schema, or one that is not a row of a record.
    """
    schema = row.get("schema") if isinstance(row, dict) else type(row).__name__
    if not isinstance(row, dict) or type(schema) is not int or not 1 <= schema <= SCHEMA:
        newer = type(schema) is int and schema > SCHEMA
        remedy = "install a newer sharpbench" if newer else "use the version that wrote it"
        raise ValueError(f"record schema {schema!r:.40}, this version reads 1 to {SCHEMA}; {remedy}")
    for version in range(schema + 1, SCHEMA + 1):
        clash = sorted(set(row) & set(ADDED_FIELDS[version]))
        if clash:
            raise ValueError(f"record schema {schema} has no {', '.join(clash)}; delete the line or restore the file")
        row = {**row, **ADDED_FIELDS[version]}
    if isinstance(outcomes := row.get("outcomes"), dict):
        row = {**row, "outcomes": {name: value for name, value in outcomes.items() if not is_redefined(name, schema)}}
    return {**row, "schema": SCHEMA}
