"""Turn: one row of a comparison, and the JSON lines file that holds them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Literal, get_args

from sharpbench.core.fields import Scalar, is_scalar
from sharpbench.core.jsonl import read_lines
from sharpbench.core.record import Status
from sharpbench.errors import InvalidInput

MEASUREMENTS = "comparison.jsonl"
"""The name of the file in an output folder."""
SCHEMA = 1
GRADIENT, ORACLE = "gradient", "oracle"
Role = Literal["measure", "gradient", "oracle"]
_TEXT, _FLAG, _WHOLE = (str,), (bool,), (int,)
_NUMBER, _MAYBE_TEXT = (int, float, type(None)), (str, type(None))
_TYPES: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("match", "network", "quantity", "contestant", "role", "package", "status", "time"), _TEXT),
    **dict.fromkeys(("reason", "note"), _MAYBE_TEXT),
    **dict.fromkeys(("value", "error", "negative", "seconds", "batch", "peak_bytes", "version"), _NUMBER),
    **dict.fromkeys(("stochastic", "contended", "last"), _FLAG),
    **dict.fromkeys(("round", "schema"), _WHOLE),
    **dict.fromkeys(("details", "libraries", "settings", "environment"), (dict,)),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """What a contestant did in one round on one network.

    match: content hash of all that the rows of one network have in common; rows with the same are compared.
    contestant: the measure with what differs from its defaults. role: a measure; the gradient, whose seconds are the
    unit; or the oracle, whose value is the truth. package: whose code it is. version: the measure's.
    round: 0 is the preparation (the search of the batch size, a call for the memory), of which no time counts.
    value: the estimate; of a diagonal its sum. error: its relative error, of a diagonal |d - o| / |o|; None where
    there is no oracle. negative: how many entries of a diagonal are below 0.
    stochastic: random numbers made the value, so that the next round has another seed.
    seconds: of the call alone. contended: other work took processors from it. batch: the batch size.
    peak_bytes: growth of the peak memory in one more call, in the last row. last: no further round is played.
    note: how the oracle's value was found. details: of round 0 the seconds at each batch size that was tried; of a
    round how many calls its seconds are the median of.
    libraries: the versions of what the contestant imported beside sharpbench's own requirements.
    Raises ValueError for a field of another type: what could be written and then not be read again.
    """

    match: str
    network: str
    quantity: str
    contestant: str
    role: Role
    package: str
    round: int
    status: Status = "ok"
    version: int | None = None
    reason: str | None = None
    value: float | None = None
    error: float | None = None
    negative: int | None = None
    stochastic: bool = False
    seconds: float | None = None
    contended: bool = False
    batch: int | None = None
    peak_bytes: int | None = None
    last: bool = False
    note: str | None = None
    details: Mapping[str, Scalar] = field(default_factory=dict)
    libraries: Mapping[str, Scalar] = field(default_factory=dict)
    settings: Mapping[str, Scalar] = field(default_factory=dict)
    environment: Mapping[str, Scalar] = field(default_factory=dict)
    time: str = ""
    schema: int = SCHEMA

    def __post_init__(self) -> None:
        for item in fields(self):
            _check(item.name, getattr(self, item.name))
        if self.status not in get_args(Status) or self.role not in get_args(Role):
            raise ValueError(f"status {self.status!r:.40} or role {self.role!r:.40} is unknown")
        if self.seconds is not None and self.seconds <= 0:
            raise ValueError(f"field 'seconds' holds {self.seconds}; expected a number above 0")

    def to_json(self) -> str:
        """One line of JSON, keys in the order of the fields."""
        return json.dumps(asdict(self), allow_nan=False, ensure_ascii=False, separators=(",", ":"))


def read_measurements(path: Path) -> Iterator[Measurement]:
    """The rows of a file in order; raises InvalidInput, with its number, for a line that is none."""
    for number, line in read_lines(path, whole=True):
        where = f"{path}:{number}"
        try:
            yield Measurement(**json.loads(line.decode("utf-8"), parse_constant=_refuse))
        except (ValueError, TypeError, RecursionError) as error:
            raise InvalidInput(f"{where}: no row of a comparison ({error}); delete the line") from None


def _refuse(text: str) -> float:
    raise ValueError(f"{text} is no number")


def _check(name: str, value: object) -> None:
    allowed = _TYPES[name]
    sound = isinstance(value, allowed) and (bool in allowed or not isinstance(value, bool))
    held = value.values() if isinstance(value, dict) else (value,)
    if not sound or not all(is_scalar(each) for each in held):
        raise ValueError(f"field '{name}' holds {value!r:.80}")
