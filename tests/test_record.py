"""Records: in and out, refused where they are damaged, on disk one by one."""

from __future__ import annotations

import dataclasses
import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

from sharpbench import read_records
from sharpbench.errors import InvalidInput
from sharpbench.record import Record, RecordFile, iterate_records

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
    line = RECORD.to_json()
    assert "\n" not in line
    assert Record.from_json(line, where="here") == RECORD


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_no_number_is_not_written(value: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        dataclasses.replace(RECORD, value=value).to_json()


def changed(**fields: object) -> str:
    return json.dumps({**json.loads(RECORD.to_json()), **fields})


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", r"f:3: not a JSON record"),
        ("[" * 100_000, r"f:3: not a JSON record"),
        ("7", r"f:3: record schema 'int', this version reads 1"),
        (changed(schema=2), r"f:3: record schema 2, this version reads 1"),
        (changed(extra=1), r"f:3: missing or unknown fields: extra"),
        ('{"schema":1}', r"f:3: missing or unknown fields: configuration, converged"),
        (changed(value="1"), r"f:3: field 'value' holds '1'; expected int or float or NoneType"),
        (changed(value=True), r"f:3: field 'value' holds True"),
        (changed(seed=1.5), r"f:3: field 'seed' holds 1.5; expected int"),
        (changed(recipe={"model": []}), r"f:3: field 'recipe' holds \[\]; expected a JSON scalar"),
        (changed(status="fine"), r"f:3: status 'fine' is none of ok, failed, skipped, timeout, oom"),
        (changed(value=None), r"f:3: status ok without a value"),
        (changed().replace("1.5", "NaN", 1), r"f:3: not a JSON record \(NaN is no number\)"),
    ],
)
def test_damaged_lines_are_refused_with_their_place(line: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        Record.from_json(line, where="f:3")


def test_a_torn_last_line_is_cut_off_and_the_file_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    with RecordFile(path) as file:
        file.append(RECORD)
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"key": "tor')
    with RecordFile(path) as file:
        assert file.torn == 12
        file.append(dataclasses.replace(RECORD, key="next"))
    assert [record.key for record in iterate_records(path)] == ["k", "next"]
    with RecordFile(path) as file:
        assert file.torn == 0
    with pytest.raises(RuntimeError, match="outside of the with block"):
        file.append(RECORD)


def test_a_second_writer_is_refused_and_a_dead_one_does_not_lock(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    with RecordFile(path), pytest.raises(InvalidInput, match="is being written by another run"), RecordFile(path):
        pass
    killed = (
        "import os, signal; from pathlib import Path; from sharpbench.record import RecordFile\n"
        f"RecordFile(Path({str(path)!r})).__enter__(); os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", killed], check=False).returncode == -9
    with RecordFile(path) as file:
        file.append(RECORD)


def test_folders_that_cannot_be_written_get_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with (
        pytest.raises(InvalidInput, match=r"cannot write .* choose another folder with --output"),
        RecordFile(tmp_path / "file" / "records.jsonl"),
    ):
        pass
    assert list(iterate_records(tmp_path / "file" / "records.jsonl")) == []
    with pytest.raises(InvalidInput, match="cannot read"):
        list(iterate_records(tmp_path))


def test_records_are_a_table(tmp_path: Path) -> None:
    with RecordFile(tmp_path / "records.jsonl") as file:
        file.append(RECORD)
    table = read_records(tmp_path)
    assert table.loc[0, "truth.gap"] == 0.5
    assert table.loc[0, "recipe.model"] == "mlp"
    assert read_records(tmp_path / "records.jsonl").equals(table)
    with pytest.raises(InvalidInput, match="no records at"):
        read_records(tmp_path / "none")
