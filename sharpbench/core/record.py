"""Record: one row of results, and the line of JSON that it is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, get_args

from sharpbench.core.fields import Scalar, is_scalar
from sharpbench.errors import InvalidInput

# Migration: the rows that earlier versions wrote, as this version holds them.

SCHEMA = 3
"""The version of the record's fields."""
ADDED_FIELDS: dict[int, dict[str, Any]] = {
    2: {"invariance": {}},
    3: {"contended": False, "pieces": 1, "printed": None},
}
"""What each version brought, with the value that says what held before."""


def migrate_row(row: object) -> dict[str, Any]:
    """The row of a record in this version's fields; nothing but what was added since is looked at.

    Raises ValueError for what is no row of a version up to this one.
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
    return {**row, "schema": SCHEMA}


Status = Literal["ok", "failed", "skipped", "timeout", "oom"]
Scalars = Mapping[str, Scalar]
MAX_REASON_CHARS, MAX_CAUSE_CHARS = 2000, 1900
"""Characters of a reason, and of what was raised; the difference is for what engines say behind it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One measure on one trained network: everything a leaderboard needs, and nothing that it must look up.

    key: content hash of the cell (measure and its version, recipe, data, dtype, device kind, seed).
    measure: its name; label: name and hyperparameters that differ from their defaults; configuration: all.
    recipe: how the network was trained; truth: what came out (losses, accuracies, gap, fitted, ...).
    value, stderr, low, high: the estimate and its 95 % interval. status other than ok: reason says why.
    shared_seconds: what the cell took beside the others of its network, shared work charged to the first.
    seconds, gradients, peak_bytes: one standalone call on a fresh subject; seconds over the time of one
        full-data forward and backward in the same process; growth of the peak memory. None: not timed.
    invariance: kind of rewrite of the same function -> the largest factor by which the value changed, see
        `invariance`; empty where that was not looked into.
    exact, oracle: what the value should be and how that was found; None where it was not checked.
    contended: the standalone call was timed while other work took processors from it, so that no table shows its
        seconds. pieces: among how many processes the batches were divided. printed: the end of what the measure
        printed, where that was caught.
    Raises ValueError for a field of another type, a nested mapping, a number that is not finite: what could
    be written and then not be read again.
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
    environment: Scalars = field(default_factory=dict)
    time: str = ""
    schema: int = SCHEMA

    def __post_init__(self) -> None:
        for item in fields(self):
            _check(item.name, getattr(self, item.name))
        if self.status not in get_args(Status):
            raise ValueError(f"status {self.status!r:.80} is none of {', '.join(get_args(Status))}")
        if self.status == "ok" and self.value is None:
            raise ValueError("status ok without a value")

    def to_json(self) -> str:
        """One line of JSON, keys in the order of the fields."""
        return json.dumps(asdict(self), allow_nan=False, ensure_ascii=False, separators=(",", ":"))

    @staticmethod
    def from_json(line: str, *, where: str) -> Record:
        """The record on `line`, migrated where an earlier version wrote it; `where` names it in errors."""
        try:
            row = json.loads(line, parse_constant=_refuse_constant)
        except (ValueError, RecursionError) as error:
            raise InvalidInput(f"{where}: not a JSON record ({error}); delete the line or restore the file") from None
        try:
            row = migrate_row(row)
        except ValueError as error:
            raise InvalidInput(f"{where}: {error}") from None
        expected = {item.name for item in fields(Record)}
        if set(row) != expected:
            odd = ", ".join(sorted(set(row) ^ expected))
            raise InvalidInput(f"{where}: missing or unknown fields: {odd}; delete the line or restore the file")
        try:
            return Record(**row)
        except ValueError as error:
            raise InvalidInput(f"{where}: {error}; delete the line or restore the file") from None


def _refuse_constant(text: str) -> float:
    raise ValueError(f"{text} is no number")


# The JSON types of each field; a bool is no number here although Python says so.
_STRING, _NUMBER, _MAPPING = (str,), (int, float), (dict,)
_TYPES: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("key", "measure", "label", "dtype", "device", "status", "time"), _STRING),
    **dict.fromkeys(("configuration", "recipe", "truth", "data", "details", "environment"), _MAPPING),
    **dict.fromkeys(("parts", "invariance"), _MAPPING),
    **dict.fromkeys(("reason", "oracle", "printed"), (str, type(None))),
    **dict.fromkeys(
        ("value", "stderr", "low", "high", "shared_seconds", "seconds", "gradients", "peak_bytes", "exact"),
        (*_NUMBER, type(None)),
    ),
    **dict.fromkeys(("seed", "probes", "pieces", "schema"), (int,)),
    **dict.fromkeys(("converged", "contended"), (bool,)),
}


def _check(name: str, value: object) -> None:
    """Raise ValueError unless `value` is what the field `name` of a Record may hold."""
    allowed = _TYPES[name]
    if not isinstance(value, allowed) or (isinstance(value, bool) and bool not in allowed):
        raise ValueError(f"field '{name}' holds {value!r:.80}; expected {' or '.join(t.__name__ for t in allowed)}")
    if not isinstance(value, dict):
        if not is_scalar(value):
            raise ValueError(f"field '{name}' holds {value!r}; expected a finite number")
        return
    for key, held in value.items():
        number = isinstance(held, _NUMBER) and not isinstance(held, bool)
        wrong = (name == "parts" and not number) or (name == "invariance" and not (number or held is None))
        if not isinstance(key, str) or not is_scalar(held) or wrong:
            expected = "numbers" if name in ("parts", "invariance") else "JSON scalars"
            raise ValueError(f"field '{name}' holds {key!s:.80}={held!r:.80}; expected finite {expected} by name")


Design = Literal["designed", "random"]
"""How configurations were chosen: all of a grid, or drawn."""
