"""Records of a file: all, their statuses, a table; of earlier versions too."""

from __future__ import annotations

import dataclasses
import json
import lzma
from pathlib import Path

import pytest

from sharpbench import read_records
from sharpbench.core.jsonl import JsonlFile
from sharpbench.core.record import Record
from sharpbench.core.records import CellEnd, iterate_records, read_cell_ends
from sharpbench.errors import InvalidInput
from tests.core.test_record import RECORD


def earlier(schema: int, *missing: str) -> str:
    row = {key: value for key, value in json.loads(RECORD.to_json()).items() if key not in missing}
    return json.dumps({**row, "schema": schema})


@pytest.mark.parametrize("schema", [1, 2, 3, 4, 5, 6, 7])
def test_records_of_earlier_versions_are_migrated(schema: int, tmp_path: Path) -> None:
    added = {2: ("invariance",), 3: ("contended", "pieces", "printed"), 4: ("stderr_examples",)}
    added[5] = ("checks", "timed_environment")
    added[6], added[7] = ("outcomes",), ("training_curve",)
    line = earlier(schema, *(name for version, names in added.items() if version > schema for name in names))
    assert Record.from_json(line, where="here") == RECORD
    path = tmp_path / "records.jsonl"
    path.write_text(line + "\n", encoding="utf-8")
    with JsonlFile(path) as file:
        file.append(dataclasses.replace(RECORD, key="n", status="failed", value=None, contended=True, pieces=2))
    assert [record.schema for record in iterate_records(path)] == [8, 8]
    assert read_cell_ends(path) == {"k": CellEnd("ok"), "n": CellEnd("failed")}


def test_a_scan_says_what_reading_says(tmp_path: Path) -> None:
    """Texts that look like a status, in names and values, mislead it no more than the order of keys."""
    odd = '"device":"cpu","status":"failed","reason":'
    rows = [
        dataclasses.replace(RECORD, key="a", details={odd: odd}, printed=odd),
        dataclasses.replace(RECORD, key="b", configuration={"device": "x", "status": "failed", "reason": "y"}),
        dataclasses.replace(RECORD, key="b", status="oom", value=None, reason=odd),
        dataclasses.replace(RECORD, key='c"', device='"'),
        dataclasses.replace(RECORD, key="e", checks={"timing": None, "invariance": None}, details={"checks": "{}"}),
        dataclasses.replace(RECORD, key="f", checks={"timing": "oom: no memory", "oracle": "skipped: " + odd}),
        dataclasses.replace(RECORD, key="g", printed='"checks":{"timing":null},"timed_environment":'),
        dataclasses.replace(RECORD, key="h", outcomes={"quantised-4": -0.5, "loss-gap": None}, printed='"outcomes":{}'),
    ]
    path = tmp_path / "records.jsonl"
    shuffled = json.dumps(dict(reversed(json.loads(dataclasses.replace(RECORD, key="d").to_json()).items())))
    path.write_text("".join(row.to_json() + "\n" for row in rows) + shuffled + "\n" + rows[0].to_json()[:99])
    ok = CellEnd("ok")
    some = CellEnd("ok", frozenset({"timing", "invariance"}))
    failed = CellEnd("ok", frozenset({"timing", "oracle"}), frozenset({"timing"}))
    judged = CellEnd("ok", outcomes=frozenset({"quantised-4", "loss-gap"}))
    expected = {"a": ok, "b": CellEnd("oom"), 'c"': ok, "d": ok, "e": some, "f": failed, "g": ok, "h": judged}
    assert read_cell_ends(path) == expected
    assert {r.key: CellEnd.of_record(r) for r in iterate_records(path, whole=True)} == expected
    path.write_text("{}\n", encoding="utf-8")
    with pytest.raises(InvalidInput, match=r"records.jsonl:1: record schema None"):
        read_cell_ends(path)


def test_lines_since_schema_6_are_scanned_without_parsing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    line = json.loads(dataclasses.replace(RECORD, checks={"timing": None}, outcomes={"loss-gap": 0.5}).to_json())
    del line["training_curve"]
    row = json.dumps({**line, "schema": 6}, separators=(",", ":"))
    now = dataclasses.replace(RECORD, key="n", training_curve={"1": 2.5, "2": None})
    path = tmp_path / "records.jsonl"
    path.write_text(row + "\n" + now.to_json() + "\n", encoding="utf-8")
    monkeypatch.setattr(Record, "from_json", lambda *_, **__: pytest.fail("a line was parsed"))
    judged = CellEnd("ok", frozenset({"timing"}), outcomes=frozenset({"loss-gap"}))
    assert read_cell_ends(path) == {"k": judged, "n": CellEnd("ok")}


@pytest.mark.parametrize("end", ["", " "])  # with the space the line is parsed
def test_earlier_records_have_no_outcome_of_quantisation(end: str, tmp_path: Path) -> None:
    """Before schema 8 each weight tensor had one scale; now each channel has one."""
    outcomes = {"quantised-4": 0.25, "forgetting": 0.5}
    line = json.dumps({**dataclasses.replace(RECORD, outcomes=outcomes).row(), "schema": 7}, separators=(",", ":"))
    path = tmp_path / "records.jsonl"
    now = dataclasses.replace(RECORD, key="n", outcomes=outcomes)
    path.write_text(f"{line[:-1]}{end}{line[-1]}\n{now.to_json()}\n", encoding="utf-8")
    assert [dict(record.outcomes) for record in iterate_records(path)] == [{"forgetting": 0.5}, outcomes]
    ends = read_cell_ends(path)
    assert {key: end.outcomes for key, end in ends.items()} == {"k": {"forgetting"}, "n": set(outcomes)}


def test_records_are_a_table(tmp_path: Path) -> None:
    with JsonlFile(tmp_path / "records.jsonl") as file:
        file.append(dataclasses.replace(RECORD, training_curve={"1": 2.25, "2": None}))
    table = read_records(tmp_path)
    assert table.loc[0, "training_curve"] == [(1, 2.25), (2, None)]
    assert table.loc[0, "truth.gap"] == 0.5
    assert table.loc[0, "recipe.model"] == "mlp"
    assert read_records(tmp_path / "records.jsonl").equals(table)
    with pytest.raises(InvalidInput, match="no records at"):
        read_records(tmp_path / "none")


def test_a_compressed_file_is_read_as_its_content(tmp_path: Path) -> None:
    path, compressed = tmp_path / "records.jsonl", tmp_path / "name.jsonl.xz"
    path.write_text(f"{RECORD.to_json()}\n\n{dataclasses.replace(RECORD, key='n').to_json()}\n", encoding="utf-8")
    compressed.write_bytes(lzma.compress(path.read_bytes()))
    assert read_records(compressed).equals(read_records(path))
    compressed.write_bytes(lzma.compress(b"{}\n"))
    with pytest.raises(InvalidInput, match=r"name\.jsonl\.xz:1: record schema None"):
        read_records(compressed)
    compressed.write_bytes(b"{}\n")
    with pytest.raises(InvalidInput, match=r"name\.jsonl\.xz is not an intact xz file \(.*\); restore it"):
        read_records(compressed)


def test_whole_records_are_read_without_a_line_that_does_not_end(tmp_path: Path) -> None:
    line = dataclasses.replace(RECORD, reason="é").to_json().encode() + b"\n"
    path = tmp_path / "records.jsonl"
    for size in (0, 1, line.index("é".encode()) + 1, len(line) - 1):
        path.write_bytes(line + line[:size])
        assert len(list(iterate_records(path, whole=True))) == 1
    path.write_bytes(b"{\n" + line)
    with pytest.raises(InvalidInput, match=":1: not a JSON record"):
        list(iterate_records(path, whole=True))


def test_a_damaged_line_is_named_by_its_number(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    path.write_text(f"{RECORD.to_json()}\n\n{RECORD.to_json()[:-5]}\n{RECORD.to_json()}\n", encoding="utf-8")
    with pytest.raises(InvalidInput, match=r"records\.jsonl:3: not a JSON record .*; delete the line or"):
        read_records(path)
    path.write_bytes(b"\xff\n")
    with pytest.raises(InvalidInput, match=r"cannot read .*records\.jsonl"):
        read_records(path)


def test_columns_are_those_of_all_records(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    failed = dataclasses.replace(
        RECORD, key="failed", status="failed", reason="no luck", value=None, stderr=None, details={"other": 1}
    )
    with JsonlFile(path) as file:
        file.append(RECORD)
        file.append(failed)
    table = read_records(str(path))
    assert list(table["key"]) == ["k", "failed"]
    assert list(table["status"]) == ["ok", "failed"]
    assert table["value"].isna().tolist() == [False, True]
    assert table["value"].dtype == float
    assert table.loc[0, "details.method"] == RECORD.details["method"]
    assert table["details.other"].isna().tolist() == [True, False]
    assert table.loc[0, "parts.layer0.weight"] == 1.5
    assert table.loc[0, "configuration.samples"] == 3
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "records.jsonl").write_text("", encoding="utf-8")
    assert len(read_records(tmp_path / "empty")) == 0


def test_records_before_schema_5_state_the_checks_that_have_a_result() -> None:
    row = dataclasses.replace(RECORD, seconds=1.0, invariance={"unit": 1.0})
    assert row.tried == {"timing", "invariance"}
    assert dataclasses.replace(row, checks={"oracle": "failed: why"}).tried == {"timing", "oracle", "invariance"}
