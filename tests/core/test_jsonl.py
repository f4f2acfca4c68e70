"""Append-only files: on disk line by line, one writer at a time, whole after whatever ends it."""

from __future__ import annotations

import dataclasses
import errno
import fcntl
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from sharpbench.core.jsonl import JsonlFile, format_json, is_being_written, parse_json, read_lines
from sharpbench.core.record import Record
from sharpbench.core.records import iterate_records
from sharpbench.errors import InvalidInput
from tests.core.test_record import RECORD


def test_a_disk_that_is_full_leaves_whole_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "records.jsonl"
    with JsonlFile(path) as file:
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
        JsonlFile(tmp_path / "records.jsonl"),
    ):
        pass


def test_a_lock_shows_that_a_run_is_alive(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    assert not is_being_written(path)
    with JsonlFile(path):
        assert is_being_written(path)
    assert not is_being_written(path)


def test_a_pipe_is_neither_read_nor_written(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    os.mkfifo(path)
    for use in (lambda: list(read_lines(path)), lambda: JsonlFile(path).__enter__()):
        with pytest.raises(InvalidInput, match=r"records\.jsonl' is not a plain file; replace it by one, or remove it"):
            use()


def test_a_torn_last_line_is_cut_off_and_the_file_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    with JsonlFile(path) as file:
        file.append(RECORD)
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"key": "tor')
    with JsonlFile(path) as file:
        assert file.torn == 12
        file.append(dataclasses.replace(RECORD, key="next"))
    assert [record.key for record in iterate_records(path)] == ["k", "next"]
    with JsonlFile(path) as file:
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
        with JsonlFile(path):
            leaves.join()


def test_a_second_writer_is_refused_and_a_dead_one_does_not_lock(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    with JsonlFile(path), pytest.raises(InvalidInput, match="is being written by another run"), JsonlFile(path):
        pass
    killed = (
        "import os, signal; from pathlib import Path; from sharpbench.core.jsonl import JsonlFile\n"
        f"JsonlFile(Path({str(path)!r})).__enter__(); os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", killed], check=False).returncode == -9
    with JsonlFile(path) as file:
        file.append(RECORD)


def test_folders_that_cannot_be_written_get_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with (
        pytest.raises(InvalidInput, match=r"cannot write .* choose another folder with --output"),
        JsonlFile(tmp_path / "file" / "records.jsonl"),
    ):
        pass
    assert list(iterate_records(tmp_path / "file" / "records.jsonl")) == []
    with pytest.raises(InvalidInput, match="cannot read"):
        list(iterate_records(tmp_path))


HOSTILE = [
    *("\n", "\r\n", "\u2028\u2029\x85", "\x00\x1b[2J", '"}{"', "\\", "<script>|`", "e\u0301\U0001f600", "\ud800"),
    "x" * 100_000,
]


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_any_text_stays_on_its_line(tmp_path: Path, text: str) -> None:
    """An error's text may hold anything, half a surrogate pair from a file name included."""
    path = tmp_path / "records.jsonl"
    with JsonlFile(path) as file:
        for key in ("a", "b"):
            file.append(dataclasses.replace(RECORD, key=key, status="failed", reason=text, truth={text: text}))
    assert path.read_bytes().count(b"\n") == 2
    records = list(iterate_records(path))
    assert [record.key for record in records] == ["a", "b"]
    assert [record.reason for record in records] == [text, text]
    assert records[0].truth == {text: text}


def test_a_line_without_its_end_is_torn_wherever_it_breaks(tmp_path: Path) -> None:
    line = RECORD.to_json().encode() + b"\n"
    path = tmp_path / "records.jsonl"
    for size in (1, len(line) // 2, len(line) - 2, len(line) - 1):
        path.write_bytes(line + line[:size])
        with JsonlFile(path) as file:
            assert file.torn == size
        assert path.read_bytes() == line
    path.write_bytes(line[:9])
    with JsonlFile(path) as file:
        assert file.torn == 9
    assert path.read_bytes() == b""


def test_a_record_is_on_disk_before_the_next_begins(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    code = (
        "import os, signal, sys\nfrom pathlib import Path\n"
        "from sharpbench.core.jsonl import JsonlFile\nfrom sharpbench.core.record import Record\n"
        f"line = {RECORD.to_json()!r}\n"
        f"with JsonlFile(Path({str(path)!r})) as file:\n"
        "    file.append(Record.from_json(line, where='here'))\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    assert list(iterate_records(path)) == [RECORD]


def test_the_lock_is_gone_with_the_block_and_holds_between_processes(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    code = (
        "from pathlib import Path\nfrom sharpbench.core.jsonl import JsonlFile\n"
        f"with JsonlFile(Path({str(path)!r})) as file: print('in')"
    )

    def other() -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    with JsonlFile(path) as file:
        refused = other()
        assert refused.returncode == 1
        assert "InvalidInput" in refused.stderr
        assert "is being written by another run" in refused.stderr
        file.append(RECORD)
    assert other().stdout == "in\n"
    with pytest.raises(KeyError), JsonlFile(path):
        raise KeyError
    assert other().stdout == "in\n"


def test_strict_json_is_read_as_it_was_written() -> None:
    row = {"a": [1, 2.5, None, True, "x\u2028"], "b": {"a": {}}}
    assert parse_json(format_json(row)) == row
    with pytest.raises(ValueError, match="not JSON compliant"):
        format_json({"a": float("nan")})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a":NaN}', "^NaN is not a number$"),
        ("[-Infinity]", "^-Infinity is not a number$"),
        ('{"a":1,"b":2,"a":1}', "^the key 'a' is there twice$"),
        ('[{"a":{"b":1,"b":2}}]', "^the key 'b' is there twice$"),
        ("{", "Expecting property name"),
        ("[" * 100_000, "recursion"),
    ],
    ids=lambda each: each[:20],
)
def test_what_python_alone_accepts_as_json_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_json(text)


def keyed(key: str) -> Record:
    return dataclasses.replace(RECORD, key=key)


def keys(path: Path) -> list[str]:
    return [record.key for record in iterate_records(path)]


def test_rows_go_on_in_the_file_that_an_editor_saved(tmp_path: Path) -> None:
    """The editor read the first two rows, and its file takes the place of one that holds four by then."""
    path, saved = tmp_path / "records.jsonl", tmp_path / "saved"
    with JsonlFile(path) as file:
        file.append(keyed("old"), keyed("edited away"))
    with JsonlFile(path) as file:
        file.append(keyed("first"))
        saved.write_bytes(path.read_bytes().splitlines(keepends=True)[0])
        file.append(keyed("second"))
        saved.replace(path)
        file.append(keyed("third"))
        assert file.moved == 2
        assert is_being_written(path)
    assert keys(path) == ["old", "first", "second", "third"]


@pytest.mark.parametrize("whole_folder", [False, True])
def test_a_file_that_was_deleted_is_written_again(whole_folder: bool, tmp_path: Path) -> None:
    path = tmp_path / "out" / "records.jsonl"
    with JsonlFile(path) as file:
        file.append(keyed("old"))
    with JsonlFile(path) as file:
        file.append(keyed("first"))
        path.unlink()
        if whole_folder:
            path.parent.rmdir()
        file.append(keyed("second"))
        assert file.moved == 2
    assert keys(path) == ["old", "first", "second"]


def test_a_file_that_is_replaced_after_the_last_row_is_completed_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    with JsonlFile(path) as file:
        file.append(keyed("first"))
        path.unlink()
    assert keys(path) == ["first"]


def test_a_file_that_was_cut_in_place_goes_on_with_whole_rows(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    with JsonlFile(path) as file:
        file.append(keyed("first"), keyed("second"))
        os.truncate(path, path.stat().st_size - 10)
        file.append(keyed("third"))
        assert file.moved == 0
    assert keys(path) == ["first", "third"]


def test_two_writers_of_two_files_at_one_path_are_told(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    with JsonlFile(path) as file:
        path.unlink()
        with JsonlFile(path) as other:
            other.append(keyed("other"))
            with pytest.raises(InvalidInput, match="is being written by another run"):
                file.append(keyed("first"))
