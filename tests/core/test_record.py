"""Record: in and out as a line, refused where it is damaged."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import pytest
import torch

from sharpbench.core.jsonl import JsonlFile
from sharpbench.core.record import Record
from sharpbench.core.records import iterate_records
from sharpbench.errors import InvalidInput

RECORD = Record(
    key="k",
    measure="trace",
    label="trace[samples=3]",
    configuration={"samples": 3},
    recipe={"model": "mlp", "seed": 0},
    truth={"gap": 0.5, "fitted": True},
    data={"sha256": "x", "examples": 7},
    seed=0,
    dtype="float32",
    device="cpu",
    status="ok",
    value=1.5,
    stderr=0.0,
    details={"method": "exact | \u2028 <b>\n"},
    parts={"layer0.weight": 1.5},
)


def test_a_record_comes_back_as_it_went() -> None:
    for record in (RECORD, dataclasses.replace(RECORD, training_curve={"1": 2.3, "20": None})):
        line = record.to_json()
        assert "\n" not in line
        assert Record.from_json(line, where="here") == record


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_no_number_is_not_written(value: float) -> None:
    with pytest.raises(ValueError, match=f"field value={value} is not finite"):
        dataclasses.replace(RECORD, value=value)


def changed(**fields: object) -> str:
    return json.dumps({**json.loads(RECORD.to_json()), **fields})


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", r"f:3: not a JSON record"),
        ("[" * 100_000, r"f:3: not a JSON record"),
        ("7", r"f:3: record schema 'int', this version reads 1 to 8"),
        (changed(schema=9), r"f:3: record schema 9, this version reads 1 to 8"),
        (changed(schema=0), r"f:3: record schema 0, this version reads 1 to 8"),
        (changed(schema=True), r"f:3: record schema True, this version reads 1 to 8"),
        (changed(schema=2), r"f:3: record schema 2 has no contended, pieces, printed; delete the line"),
        (changed(extra=1), r"f:3: missing or unknown fields: extra"),
        ('{"schema":2}', r"f:3: missing or unknown fields: configuration, converged"),
        (changed(value="1"), r"f:3: field value='1' is not a number; delete the line"),
        (changed(value=True), r"f:3: field value=True is not a number"),
        (changed(seed=1.5), r"f:3: field seed=1.5 is not a whole number"),
        (changed(recipe={"model": []}), r"f:3: field recipe=.* has model=\[\], which is not text, a finite number"),
        (changed(status="fine"), r"f:3: field status='fine' is none of ok, failed, skipped, timeout, oom"),
        (changed(checks={"speed": None}), r"f:3: field checks has speed, which is none of timing, oracle, invariance"),
        (changed(value=None), r"f:3: status ok without a value"),
        (changed().replace("1.5", "NaN", 1), r"f:3: not a JSON record \(NaN is not a number\)"),
    ],
)
def test_damaged_lines_are_refused_with_their_place(line: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        Record.from_json(line, where="f:3")


NAN, TOO_LARGE = float("nan"), "1e999"


@pytest.mark.parametrize("name", ["value", "stderr", "low", "high", "exact", "seconds", "gradients", "shared_seconds"])
def test_no_number_is_infinite_when_read(name: str) -> None:
    for text in ("NaN", "Infinity", "-Infinity", TOO_LARGE, "-" + TOO_LARGE):
        line = changed(**{name: 0.125}).replace(f'"{name}": 0.125', f'"{name}": {text}')
        assert text in line
        with pytest.raises(InvalidInput, match="f:3"):
            Record.from_json(line, where="f:3")


@pytest.mark.parametrize(
    "fields",
    [
        {"value": NAN},
        {"details": {"gap": NAN}},
        {"parts": {"weight": math.inf}},
        {"truth": {"loss": -math.inf}},
        {"details": {"eigenvalues": [1.0, 2.0]}},
        {"details": {"nested": {"a": 1}}},
        {"details": {3: "key"}},
        {"details": {"tensor": torch.ones(())}},
        {"parts": {"weight": "text"}},
        {"parts": {"weight": True}},
        {"parts": {"weight": None}},
        {"value": torch.ones(())},
        {"value": True},
        {"value": None},
        {"probes": 1.0},
        {"status": "fine"},
        {"configuration": {"scales": (1.0, 2.0)}},
        {"environment": None},
    ],
    ids=str,
)
def test_what_cannot_be_read_again_is_not_written(tmp_path: Path, fields: dict[str, object]) -> None:
    """A line that is refused when it is read would close the whole file to the next run."""
    path = tmp_path / "records.jsonl"
    with JsonlFile(path) as file:
        file.append(RECORD)
        with pytest.raises(ValueError, match=next(iter(fields))):
            file.append(dataclasses.replace(RECORD, **fields))  # type: ignore[arg-type]
        file.append(dataclasses.replace(RECORD, key="next"))
    assert [record.key for record in iterate_records(path)] == ["k", "next"]


def test_every_field_has_its_type() -> None:
    for item in dataclasses.fields(Record):
        value = getattr(RECORD, item.name)
        wrong = 1 if isinstance(value, str | dict | bool) or item.name in ("reason", "oracle", "printed") else "text"
        with pytest.raises(InvalidInput, match=rf"f:3: (field {item.name}=|record schema 'text')"):
            Record.from_json(changed(**{item.name: wrong}), where="f:3")
        rest = {key: value for key, value in json.loads(RECORD.to_json()).items() if key != item.name}
        with pytest.raises(InvalidInput, match=rf"f:3: (missing or unknown fields: {item.name}|record schema None)"):
            Record.from_json(json.dumps(rest), where="f:3")
