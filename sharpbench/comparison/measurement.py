"""One row of a comparison, and the JSON-lines file that holds the rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from sharpbench.core.fields import Scalar, from_row, type_error
from sharpbench.core.jsonl import format_json, parse_json, read_lines
from sharpbench.core.record import Status
from sharpbench.errors import InvalidInput

MEASUREMENTS_FILE = "comparison.jsonl"
"""The name of the file in the output folder."""
SCHEMA_VERSION = 1
GRADIENT, ORACLE = "gradient", "oracle"
"""The contestants of the rows that are not measures: the unit of time, and the reference value."""
Role = Literal["measure", "gradient", "oracle"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """The result of one contestant in one round on one network.

    Args:
        match: content hash of everything that the rows of one network have in common. Only rows with the same hash
            are compared.
        network: the model as it is written on the command line.
        quantity: the quantity that is compared.
        contestant: the spec of the measure, or "gradient" or "oracle".
        role: "measure"; "gradient", whose seconds are the unit; or "oracle", whose value is the reference.
        package: the package that the measure comes from.
        round: 0 is the preparation (search of the batch size, one call for the memory), whose time does not count.
        status: "ok", or why there is no value.
        version: the version of the measure.
        reason: the reason for a status other than "ok", on one line.
        value: the estimate; for a diagonal the sum of its entries.
        error: the relative error of the value, for a diagonal d with reference o |d - o| / |o|. None without an oracle.
        negative: the number of entries of a diagonal that are below 0.
        stochastic: whether the value depends on random numbers. If so, each round has another seed.
        seconds: the time of the call only.
        contended: whether other work took processor time during the call.
        batch: the batch size.
        peak_bytes: growth of the peak memory in one additional call, stated in the contestant's last row.
        last: whether this is the contestant's last round.
        note: how the oracle's value was found.
        details: for round 0 the seconds at each batch size that was tried; for other rounds the number of calls whose
            median `seconds` is.
        libraries: versions of the libraries that the contestant imported in addition to sharpbench's requirements.
        settings: settings of the comparison.
        environment: versions and hardware of the contestant's process.
        time: when the row was made, in ISO 8601, UTC.
        schema: the version of this row format.

    Raises:
        ValueError: for a field of another type, which could be written but not be read again.
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
    schema: int = SCHEMA_VERSION

    def __post_init__(self) -> None:
        if wrong := type_error(self):
            raise ValueError(f"field {wrong}")
        if self.seconds is not None and self.seconds <= 0:
            raise ValueError(f"field 'seconds' holds {self.seconds}; expected a number above 0")

    def to_json(self) -> str:
        """One line of JSON, keys in the order of the fields."""
        return format_json(asdict(self))


def read_measurements(path: Path) -> Iterator[Measurement]:
    """The rows of a file, in order.

    Raises:
        InvalidInput: for a line that is not a row, with the line's number.
    """
    for number, line in read_lines(path, whole=True):
        where = f"{path}:{number}"
        try:
            yield from_row(Measurement, parse_json(line.decode("utf-8")))
        except ValueError as error:
            raise InvalidInput(f"{where}: not a row of a comparison ({error}); delete the line") from None


def last_measurements(rows: Sequence[Measurement], *, retry_failed: bool = False) -> list[Measurement]:
    """The rows of one contestant since its last preparation; none if it failed and `retry_failed`."""
    starts = [index for index, row in enumerate(rows) if row.round == 0]
    last = list(rows[starts[-1] :]) if starts else []
    failed = any(row.status not in ("ok", "skipped") for row in last)
    return [] if failed and retry_failed else last
