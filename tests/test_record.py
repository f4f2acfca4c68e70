"""Records: in and out, refused where they are damaged, on disk one by one."""

from __future__ import annotations

import dataclasses
import errno
import fcntl
import json
import math
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

from sharpbench import read_records
from sharpbench.errors import InvalidInput
from sharpbench.record import Record, RecordFile, being_written, iterate_records, statuses

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
    with pytest.raises(ValueError, match=f"field 'value' holds {value}; expected a finite number"):
        dataclasses.replace(RECORD, value=value)


def changed(**fields: object) -> str:
    return json.dumps({**json.loads(RECORD.to_json()), **fields})


def earlier(schema: int, *missing: str) -> str:
    row = {key: value for key, value in json.loads(RECORD.to_json()).items() if key not in missing}
    return json.dumps({**row, "schema": schema})


@pytest.mark.parametrize("schema", [1, 2])
def test_records_of_earlier_versions_are_migrated(schema: int, tmp_path: Path) -> None:
    missing = ("contended", "pieces", "printed", *(("invariance",) if schema == 1 else ()))
    line = earlier(schema, *missing)
    assert Record.from_json(line, where="here") == RECORD
    path = tmp_path / "records.jsonl"
    path.write_text(line + "\n", encoding="utf-8")
    with RecordFile(path) as file:
        file.append(dataclasses.replace(RECORD, key="n", status="failed", value=None, contended=True, pieces=2))
    assert [record.schema for record in iterate_records(path)] == [3, 3]
    assert statuses(path) == {"k": "ok", "n": "failed"}


def test_a_scan_says_what_reading_says(tmp_path: Path) -> None:
    """Texts that look like a status, in names and values, mislead it no more than the order of keys."""
    odd = '"device":"cpu","status":"failed","reason":'
    rows = [
        dataclasses.replace(RECORD, key="a", details={odd: odd}, printed=odd),
        dataclasses.replace(RECORD, key="b", configuration={"device": "x", "status": "failed", "reason": "y"}),
        dataclasses.replace(RECORD, key="b", status="oom", value=None, reason=odd),
        dataclasses.replace(RECORD, key='c"', device='"'),
    ]
    path = tmp_path / "records.jsonl"
    shuffled = json.dumps(dict(reversed(json.loads(dataclasses.replace(RECORD, key="d").to_json()).items())))
    path.write_text("".join(row.to_json() + "\n" for row in rows) + shuffled + "\n" + rows[0].to_json()[:99])
    expected = {"a": "ok", "b": "oom", 'c"': "ok", "d": "ok"}
    assert statuses(path) == {r.key: r.status for r in iterate_records(path, whole=True)} == expected
    path.write_text("{}\n", encoding="utf-8")
    with pytest.raises(InvalidInput, match=r"records.jsonl:1: record schema None"):
        statuses(path)


def test_a_disk_that_is_full_leaves_whole_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "records.jsonl"
    with RecordFile(path) as file:
        file.append(RECORD)
        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(InvalidInput, match="No space left on device; make room and give the same command again"):
            file.append(dataclasses.replace(RECORD, key="second"))
        monkeypatch.undo()
        file.append(dataclasses.replace(RECORD, key="third"))
    assert [record.key for record in iterate_records(path)] == ["k", "third"]


def full(_: int) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_file_that_may_not_be_written_gets_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also as root, whom permissions do not stop."""

    def refused(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "open", refused)
    with (
        pytest.raises(InvalidInput, match="Permission denied; choose another folder with --output"),
        RecordFile(tmp_path / "records.jsonl"),
    ):
        pass


def test_a_lock_shows_that_a_run_is_alive(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    assert not being_written(path)
    with RecordFile(path):
        assert being_written(path)
    assert not being_written(path)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", r"f:3: not a JSON record"),
        ("[" * 100_000, r"f:3: not a JSON record"),
        ("7", r"f:3: record schema 'int', this version reads 1 to 3"),
        (changed(schema=4), r"f:3: record schema 4, this version reads 1 to 3"),
        (changed(schema=0), r"f:3: record schema 0, this version reads 1 to 3"),
        (changed(schema=True), r"f:3: record schema True, this version reads 1 to 3"),
        (changed(schema=2), r"f:3: record schema 2 has no contended, pieces, printed; delete the line"),
        (changed(extra=1), r"f:3: missing or unknown fields: extra"),
        ('{"schema":2}', r"f:3: missing or unknown fields: configuration, converged"),
        (changed(value="1"), r"f:3: field 'value' holds '1'; expected int or float or NoneType"),
        (changed(value=True), r"f:3: field 'value' holds True"),
        (changed(seed=1.5), r"f:3: field 'seed' holds 1.5; expected int"),
        (changed(recipe={"model": []}), r"f:3: field 'recipe' holds model=\[\]; expected finite JSON scalars"),
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


def test_a_reader_who_looks_whether_a_run_is_alive_does_not_keep_one_from_starting(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    path.touch()
    with path.open("rb") as reader:
        fcntl.flock(reader, fcntl.LOCK_SH)
        leaves = threading.Timer(0.1, fcntl.flock, (reader, fcntl.LOCK_UN))
        leaves.start()
        with RecordFile(path):
            leaves.join()


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


HOSTILE = [
    *("\n", "\r\n", "\u2028\u2029\x85", "\x00\x1b[2J", '"}{"', "\\", "<script>|`", "e\u0301\U0001f600", "\ud800"),
    "x" * 100_000,
]


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_any_text_stays_on_its_line(tmp_path: Path, text: str) -> None:
    """An error's text may hold anything, half a surrogate pair from a file name included."""
    path = tmp_path / "records.jsonl"
    with RecordFile(path) as file:
        for key in ("a", "b"):
            file.append(dataclasses.replace(RECORD, key=key, status="failed", reason=text, truth={text: text}))
    assert path.read_bytes().count(b"\n") == 2
    records = list(iterate_records(path))
    assert [record.key for record in records] == ["a", "b"]
    assert [record.reason for record in records] == [text, text]
    assert records[0].truth == {text: text}


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
    with RecordFile(path) as file:
        file.append(RECORD)
        with pytest.raises(ValueError, match=next(iter(fields))):
            file.append(dataclasses.replace(RECORD, **fields))  # type: ignore[arg-type]
        file.append(dataclasses.replace(RECORD, key="next"))
    assert [record.key for record in iterate_records(path)] == ["k", "next"]


def test_every_field_has_its_type() -> None:
    for item in dataclasses.fields(Record):
        value = getattr(RECORD, item.name)
        wrong = 1 if isinstance(value, str | dict | bool) or item.name in ("reason", "oracle", "printed") else "text"
        with pytest.raises(InvalidInput, match=rf"f:3: (field '{item.name}' holds|record schema 'text')"):
            Record.from_json(changed(**{item.name: wrong}), where="f:3")
        rest = {key: value for key, value in json.loads(RECORD.to_json()).items() if key != item.name}
        with pytest.raises(InvalidInput, match=rf"f:3: (missing or unknown fields: {item.name}|record schema None)"):
            Record.from_json(json.dumps(rest), where="f:3")


def test_a_line_without_its_end_is_torn_wherever_it_breaks(tmp_path: Path) -> None:
    line = RECORD.to_json().encode() + b"\n"
    path = tmp_path / "records.jsonl"
    for size in (1, len(line) // 2, len(line) - 2, len(line) - 1):
        path.write_bytes(line + line[:size])
        with RecordFile(path) as file:
            assert file.torn == size
        assert path.read_bytes() == line
    path.write_bytes(line[:9])
    with RecordFile(path) as file:
        assert file.torn == 9
    assert path.read_bytes() == b""


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


def test_a_record_is_on_disk_before_the_next_begins(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    code = (
        "import os, signal, sys\nfrom pathlib import Path\nfrom sharpbench.record import Record, RecordFile\n"
        f"line = {RECORD.to_json()!r}\n"
        f"with RecordFile(Path({str(path)!r})) as file:\n"
        "    file.append(Record.from_json(line, where='here'))\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    assert list(iterate_records(path)) == [RECORD]


def test_the_lock_is_gone_with_the_block_and_holds_between_processes(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    code = (
        "from pathlib import Path\nfrom sharpbench.record import RecordFile\n"
        f"with RecordFile(Path({str(path)!r})) as file: print('in')"
    )

    def other() -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    with RecordFile(path) as file:
        refused = other()
        assert refused.returncode == 1
        assert "InvalidInput" in refused.stderr
        assert "is being written by another run" in refused.stderr
        file.append(RECORD)
    assert other().stdout == "in\n"
    with pytest.raises(KeyError), RecordFile(path):
        raise KeyError
    assert other().stdout == "in\n"


def test_columns_are_those_of_all_records(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    failed = dataclasses.replace(
        RECORD, key="failed", status="failed", reason="no luck", value=None, stderr=None, details={"other": 1}
    )
    with RecordFile(path) as file:
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
