"""Tables of others' networks: what is read, and what is refused in one line that names the place."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sharpbench.analysis import table as module
from sharpbench.analysis.table import parse_number, read_frame, read_table
from sharpbench.errors import InvalidInput


def write(folder: Path, text: str | bytes, name: str = "mine.csv") -> Path:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_csv_json_lines_and_frames_are_the_same_table(tmp_path: Path) -> None:
    csv = read_table(write(tmp_path, '\ufefflr, name ,trace\r\n0.1,"a, b",1e-3\r\n\r\n0.2,c,\r\n'))
    lines = '{"lr": 0.1, "name": "a, b", "trace": 1e-3}\n{"lr": 0.2, "name": "c"}\n'
    jsonl = read_table(write(tmp_path, lines, "mine.jsonl"))
    frame = read_frame(pd.DataFrame({"lr": [0.1, 0.2], "name": ["a, b", "c"], "trace": [1e-3, np.nan]}))
    for table in (csv, jsonl, frame):
        assert list(table.columns) == ["lr", "name", "trace"]
        assert table.settings("lr") == [0.1, 0.2]
        assert table.settings("name") == ["a, b", "c"]
        assert table.numbers("trace") == [0.001, None]
        assert [table.is_text(name) for name in table.columns] == [False, True, False]
    assert list(csv.places) == [f"{tmp_path / 'mine.csv'}:2", f"{tmp_path / 'mine.csv'}:4"]
    assert list(frame.places) == ["row 0", "row 1"]


def test_the_index_that_pandas_writes_is_not_a_column(tmp_path: Path) -> None:
    frame = pd.DataFrame({"gap": [0.5, 0.25], "trace": [1, 2]})
    frame.to_csv(tmp_path / "mine.csv")
    table = read_table(tmp_path / "mine.csv")
    assert {name: table.numbers(name) for name in table.columns} == {"gap": [0.5, 0.25], "trace": [1.0, 2.0]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("\n \n", "is empty"),
        ("\ufeffgap,trace\n", "has no rows"),
        ("gap,trace,gap\n1,2,3\n", "the column 'gap' is there twice"),
        ("gap,,trace\n1,2,3\n", "column 2 has no name"),
        ("gap,trace\n1,2\n1,2,3\n", "mine.csv:3: 3 cells in a row, 2 in the header"),
        ("gap;trace\n1;2\n", "separate columns by commas"),
        ('gap,trace\n1,"2\n', "mine.csv:2: not CSV"),
        (b"gap,trace\n1,\xff\n", "mine.csv:2: not UTF-8"),
        ("gap\n1\n".encode("utf-16"), "mine.csv:1: not UTF-8"),
    ],
)
def test_csv_that_is_refused(text: str | bytes, message: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput) as refused:
        read_table(write(tmp_path, text))
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"gap": NaN}\n', "mine.jsonl:1: not an object of JSON (NaN is not a number)"),
        ('{"gap": 1}\n{"gap": 1, "gap": 2}\n', "mine.jsonl:2: not an object of JSON (the key 'gap' is there twice)"),
        ("[1]\n", "not an object of JSON but list"),
        ('{"gap": [1]}\n', "'gap' is nested"),
    ],
)
def test_json_lines_that_are_refused(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput) as refused:
        read_table(write(tmp_path, text, "mine.jsonl"))
    assert message in str(refused.value)


def test_files_that_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidInput, match=r"cannot read .*No such file"):
        read_table(tmp_path / "none.csv")
    with pytest.raises(InvalidInput, match=r"ends in none of \.csv, \.jsonl"):
        read_table(tmp_path / "mine.xlsx")
    path = write(tmp_path, "gap\n1\n2\n3\n")
    monkeypatch.setattr(module, "MAX_NETWORKS", 2)
    with pytest.raises(InvalidInput, match="has 3 rows, at most 2"):
        read_table(path)
    monkeypatch.setattr(module, "MAX_TABLE_BYTES", 4)
    with pytest.raises(InvalidInput, match="has 10 bytes, a table at most 4"):
        read_table(path)


def test_parquet_is_read_where_pandas_can_and_refused_in_words_where_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, b"PAR1", "mine.parquet")
    frame = pd.DataFrame({"gap": [0.1]})
    monkeypatch.setattr(pd, "read_parquet", lambda file: frame)
    assert read_table(path).numbers("gap") == [0.1]

    def missing(file: object) -> pd.DataFrame:
        raise ImportError

    monkeypatch.setattr(pd, "read_parquet", missing)
    with pytest.raises(InvalidInput, match="needs pyarrow; install it, or convert the table to CSV"):
        read_table(path)


def test_frames_with_a_column_twice_or_none_are_refused() -> None:
    with pytest.raises(InvalidInput, match="'gap' is there twice"):
        read_frame(pd.DataFrame([[1, 2]], columns=["gap", "gap"]))
    with pytest.raises(InvalidInput, match="has no rows"):
        read_frame(pd.DataFrame({"gap": []}))


@pytest.mark.parametrize("text", ["nan", "inf", "-Infinity", "1_000", "٣", "0x10", "", "1,5", "true"])
def test_text_that_is_not_a_finite_number(text: str) -> None:
    assert parse_number(text) is None


def test_numbers_of_every_kind() -> None:
    assert [parse_number(value) for value in ("-1e-3", " 2 ", 3, 4.5)] == [-0.001, 2.0, 3.0, 4.5]
    assert [parse_number(value) for value in (True, None, float("nan"), 10**400)] == [None] * 4
    values = pd.DataFrame({"a": [np.float32(0.5), None], "b": [pd.NA, np.int64(3)], "c": pd.Categorical(["x", "y"])})
    table = read_frame(values)
    assert (table.numbers("a"), table.numbers("b"), table.settings("c")) == ([0.5, None], [None, 3.0], ["x", "y"])


def test_settings_that_no_float_equals_stay_integers(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("seed,lr\n1700000000000000001,0.1\n1700000000000000002,1\n3,+1\n")
    table = read_table(path)
    assert table.seeds("seed") == [1700000000000000001, 1700000000000000002, 3.0]
    assert table.settings("lr") == [0.1, 1.0, 1.0]
    assert read_frame(pd.DataFrame({"seed": [2**60 + 1, 2**60]})).seeds("seed") == [2**60 + 1, 2**60]


def test_rows_whose_index_repeats_are_named_by_their_position() -> None:
    frame = pd.DataFrame({"gap": [0.1, 0.2]})
    assert read_frame(pd.concat([frame, frame])).places == ["row 0", "row 1", "row 2", "row 3"]
    assert read_frame(frame.set_axis(["a", "b"])).places == ["row a", "row b"]
