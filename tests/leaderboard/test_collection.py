"""Record files: what is read, and what is refused with its file and line."""

from __future__ import annotations

import json
import lzma
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sharpbench import InvalidInput
from sharpbench.cli.status import merge
from sharpbench.core.record import Record
from sharpbench.core.records import iterate_records
from sharpbench.leaderboard.collection import find_contradiction, find_version, read_collections

Make = Callable[..., list[Record]]
Seal = Callable[..., Record]
REPLAYS = Path(__file__).parents[2] / "leaderboard" / "replays"


def test_collections_come_by_name_with_all_their_records(results: Path) -> None:
    assert [(each.name, len(each.records), each.left_out) for each in read_collections(results)] == [
        ("first", 30, 0),
        ("second", 18, 0),
    ]


@pytest.mark.parametrize("content", [None, {}, {"notes.txt": "x"}])
def test_a_folder_without_record_files_is_one_line(tmp_path: Path, content: dict[str, str] | None) -> None:
    folder = tmp_path / "results"
    for name, text in (content or {}).items():
        folder.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    with pytest.raises(InvalidInput, match=r"no record files in .*results; put \*\.jsonl there, or name their folder"):
        read_collections(folder)


def test_records_of_single_networks_are_left_out_and_counted(results: Path, make: Make) -> None:
    single = replace(make()[0], data={"sha256": "ab", "examples": 3, "leaderboard": False}, key="anything")
    with (results / "first.jsonl").open("a") as file:
        file.write(single.to_json() + "\n")
    first, _ = read_collections(results)
    assert (first.name, len(first.records), first.left_out) == ("first", 30, 1)
    for path in results.glob("*.jsonl"):
        path.write_text(single.to_json() + "\n")
    with pytest.raises(InvalidInput, match="no records for a leaderboard"):
        read_collections(results)


@pytest.mark.parametrize("name", ["A", "a b", "..", "a--b", "ü", "a" * 61, "<script>"])
def test_a_name_that_is_none_is_refused(results: Path, name: str) -> None:
    (results / f"{name}.jsonl").write_text("")
    with pytest.raises(InvalidInput, match="is not a name for a collection; use words of a-z"):
        read_collections(results)


def changed(results: Path, line: int, edit: Callable[[dict[str, Any]], object]) -> None:
    """Edit one line of the first collection as JSON."""
    path = results / "first.jsonl"
    lines = path.read_text().splitlines()
    row = json.loads(lines[line - 1])
    edit(row)
    lines[line - 1] = json.dumps(row)
    path.write_text("\n".join(lines) + "\n")


READS = "this version reads 1 to 8"
EDITS: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "recipe": (lambda row: row["recipe"].update(seed=77), "the key does not fit the content"),
    "configuration": (lambda row: row["configuration"].update(of="x"), "the key does not fit the content"),
    "measure": (lambda row: row.update(measure="x"), "the key does not fit the content"),
    "key": (lambda row: row.update(key="0" * 64), "the key does not fit the content"),
    "gap": (lambda row: row["truth"].update(gap=0.5), r"the gap 0\.5 is not 1\.0 - 0\.\d+, training less test"),
    "truth": (
        lambda row: row["truth"].update(fitted=False),
        r"'fitted' of this network is False, but True at .*:3: one",
    ),
    "label": (lambda row: row.update(label="good"), "label 'good' does not belong to measure 'noisy'"),
    "longer": (lambda row: row.update(label="noisy-too"), "label 'noisy-too' does not belong to measure 'noisy'"),
    "tests": (lambda row: row["data"].update(test_examples=9), "'test_examples' of this network is 9, but 1000 at"),
    "newer": (
        lambda row: row.update(schema=9),
        f"record schema 9, {READS}; install a newer sharpbench",
    ),
    "odd": (
        lambda row: row.update(schema=0),
        f"record schema 0, {READS}; use the version that wrote it",
    ),
    "older": (
        lambda row: row.update(schema=1),
        "record schema 1 has no invariance; delete the line",
    ),
    "unknown": (lambda row: row.update(more=1), "missing or unknown fields: more"),
    "NaN": (lambda row: row.update(value=float("nan")), "not a JSON record .NaN is not a number."),
    "infinite": (lambda row: row["parts"].update(a=float("inf")), "not a JSON record .Infinity is not a number."),
    "type": (lambda row: row.update(value="1"), "field value='1' is not a number"),
}


@pytest.mark.parametrize("name", EDITS)
def test_a_tampered_line_is_refused_with_file_and_line(results: Path, name: str) -> None:
    edit, message = EDITS[name]
    changed(results, 4, edit)
    with pytest.raises(InvalidInput, match=rf"first\.jsonl:4: {message}"):
        read_collections(results)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (lambda lines: [*lines[:-1], lines[-1][:200]], "30: the line does not end: it is truncated"),
        (lambda lines: [*lines[:6], lines[6][:200] + "\n", *lines[7:]], "7: not a JSON record"),
        (
            lambda lines: [*lines, lines[2]],
            "31: the cell of this line is already at .*first.jsonl:3, .*`sharpbench mer",
        ),
        (lambda lines: [lines[0], "\n", *lines[1:]], "2: an empty line"),
        (lambda lines: [*lines, "[" * 100_000 + "\n"], "31: not a JSON record"),
        (lambda lines: [*lines, '"text"\n'], "31: record schema 'str'"),
    ],
)
def test_a_damaged_file_is_refused_with_file_and_line(
    results: Path, text: Callable[[list[str]], list[str]], message: str
) -> None:
    path = results / "first.jsonl"
    path.write_text("".join(text(path.read_text().splitlines(keepends=True))))
    with pytest.raises(InvalidInput, match=rf"first\.jsonl:{message}") as caught:
        read_collections(results)
    assert "\n" not in str(caught.value)


def test_bytes_that_are_no_text_are_refused_with_their_line(results: Path) -> None:
    path = results / "first.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:2], b"\xff\xfe\n", *lines[2:]]))
    with pytest.raises(InvalidInput, match=r"first\.jsonl:3: not UTF-8"):
        read_collections(results)


def test_a_label_stands_for_one_configuration(results: Path, make: Make, seal: Seal) -> None:
    records = [seal(replace(each, configuration={"of": "x"})) if at == 8 else each for at, each in enumerate(make())]
    (results / "first.jsonl").write_text("".join(each.to_json() + "\n" for each in records))
    with pytest.raises(InvalidInput, match=r"first\.jsonl:9: label 'good' has another configuration at .*:1;"):
        read_collections(results)


def test_versions_of_a_measure_do_not_share_a_row(results: Path, make: Make, seal: Seal) -> None:
    records = [seal(each, version=3) if index == 9 else each for index, each in enumerate(make())]
    (results / "first.jsonl").write_text("".join(each.to_json() + "\n" for each in records))
    with pytest.raises(InvalidInput, match=r"first\.jsonl:10: version 3 of measure 'noisy', but version 1 at .*:2;"):
        read_collections(results)


def test_merged_records_that_cannot_be_compared_are_named(
    tmp_path: Path, make: Make, seal: Seal, capsys: pytest.CaptureFixture[str]
) -> None:
    """Boards that mix two versions of a measure, or two trainings of a network; not a board of the new version only."""
    records = make()
    newer = [seal(replace(each, time="2026-11-02T00:00:00+00:00"), version=2) for each in records]
    mixed = (
        "noisy on small-mlp, seed 4: version 2 of measure 'noisy', but version 1 at noisy on small-mlp, seed 0; run the"
    )
    assert find_contradiction(records) is None
    assert find_contradiction([*newer, *records]) is None
    assert (find_contradiction([*records, newer[9]]) or "").startswith(mixed)
    again = [*records[:-1], replace(records[-1], truth={**records[-1].truth, "epochs": 9})]
    assert "'epochs' of this network is 9, but None at good on small-mlp, seed 4" in (find_contradiction(again) or "")
    claimed = [replace(each, key="another") for each in records]
    assert find_contradiction(claimed) is None
    for name, part in (("old", records), ("new", newer[8:12])):
        (tmp_path / name).mkdir()
        (tmp_path / name / "records.jsonl").write_text("".join(each.to_json() + "\n" for each in part))
    assert merge([tmp_path / "old", tmp_path / "new"], output=tmp_path / "out") == 0
    assert "warning: the boards mix what cannot be compared: good on small-mlp" in capsys.readouterr().err


def test_keys_of_records_that_were_run_fit_their_content() -> None:
    """The committed records of the replays are those of real runs, of several measures, cohorts and optimisers."""
    for path in sorted(REPLAYS.glob("*/records.jsonl")):
        for record in iterate_records(path):
            version = find_version(record)
            assert version is not None, record.key


def test_compressed_records_are_the_same_collection(results: Path) -> None:
    before, path = read_collections(results), results / "first.jsonl"
    compressed = results / "first.jsonl.xz"
    compressed.write_bytes(lzma.compress(path.read_bytes()))
    with pytest.raises(
        InvalidInput, match=r"first\.jsonl and .*first\.jsonl\.xz are one collection; keep one of the two"
    ):
        read_collections(results)
    path.unlink()
    assert read_collections(results) == before
    compressed.write_bytes(compressed.read_bytes()[:-20])
    with pytest.raises(InvalidInput, match=r"first\.jsonl\.xz is not an intact xz file \(.*\); restore it"):
        read_collections(results)


def test_compressed_records_have_a_largest_size(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sharpbench.core.jsonl.MAX_CONTENT_BYTES", 1000)
    (results / "third.jsonl.xz").write_bytes(lzma.compress(b"\n" * 10_000_000))
    with pytest.raises(InvalidInput, match=r"third\.jsonl\.xz holds more than 1,000 bytes"):
        read_collections(results)


def test_records_of_one_network_agree_on_its_outcomes(results: Path) -> None:
    path = results / "first.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    same = [number for number, row in enumerate(rows) if row["recipe"] == rows[0]["recipe"]]
    assert len(same) > 1
    rows[0]["outcomes"], rows[same[-1]]["outcomes"] = {"quantised-4": 0.25, "forgetting": 0.5}, {"quantised-4": 0.25}
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    read_collections(results)
    rows[same[-1]]["outcomes"] = {"quantised-4": 0.2}
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    message = rf"{same[-1] + 1}: the outcome 'quantised-4' of this network is 0\.2, but 0\.25 at .*:1: one of the lines"
    with pytest.raises(InvalidInput, match=message):
        read_collections(results)
