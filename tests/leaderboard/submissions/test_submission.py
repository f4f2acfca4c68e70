"""What a submission is, and that nothing else counts as one."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sharpbench import InvalidInput, Record
from sharpbench.core.record import MAX_CAUSE_CHARS
from sharpbench.core.records import RECORDS, merge_records
from sharpbench.leaderboard.submissions import pack, pack_submission, read_submission, sampling
from sharpbench.leaderboard.submissions.manifest import check_name
from sharpbench.runner.failures import failure_status
from sharpbench.training.recipe import parse_recipe
from sharpbench.version import __version__

from .conftest import edited, forged

BOMB = "<script>alert(1)</script>"


def in_order(ran: Path) -> list[str]:
    """The lines of a run as a submission has them: the network by its position, then the measure."""
    records = [Record.from_json(line, where="") for line in (ran / "records.jsonl").read_text().splitlines()]
    return [each.to_json() for each in sorted(records, key=lambda each: (each.data["position"], each.label))]


def test_shards_that_were_merged_make_the_submission_of_one_run(ran: Path, text: str, tmp_path: Path) -> None:
    lines = (ran / "records.jsonl").read_text().splitlines(keepends=True)
    records = [Record.from_json(line, where="") for line in lines]
    assert [record.data["position"] for record in records] == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    for name, held in (("b", lines[3:6] + lines[9:]), ("a", lines[6:9] + lines[:3])):
        (tmp_path / name).mkdir()
        (tmp_path / name / "records.jsonl").write_text("".join(held))
    merge_records([tmp_path / "b", tmp_path / "a"], tmp_path / "whole")
    assert (tmp_path / "whole" / "records.jsonl").read_text() != "".join(lines)
    assert pack_submission(tmp_path / "whole", name="honest", texts={"author": "A. U. Thor"}) == text
    old = [replace(r, data={k: v for k, v in r.data.items() if k != "position"}).to_json() for r in reversed(records)]
    (tmp_path / "records.jsonl").write_text("".join(line + "\n" for line in old))
    assert (
        pack_submission(tmp_path, name="honest", texts={}).splitlines()[1:] == old
    )  # of an earlier version: as they stand


def test_a_submission_holds_the_records_of_a_run_and_says_where_they_come_from(
    ran: Path, text: str, tmp_path: Path
) -> None:
    found = read_submission(forged(text, tmp_path))
    assert [record.to_json() for record in found.records] == in_order(ran)
    assert (found.manifest.name, found.manifest.author, found.manifest.records) == ("honest", "A. U. Thor", 12)
    assert found.manifest.measures == dict.fromkeys(
        ("average", "gradient-norm", "parameter-norm"), f"sharpbench {__version__}"
    )


def test_a_recipe_is_made_once_and_nothing_is_checked_of_records_that_are_too_large(
    ran: Path, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed = []
    monkeypatch.setattr(sampling, "parse_recipe", lambda row, offered: parsed.append(row) or parse_recipe(row, offered))
    assert pack_submission(ran, name="honest", texts={"author": "A. U. Thor"}) == text
    assert len(parsed) == 4  # twelve records of four networks
    monkeypatch.setattr(pack, "MAX_FILE_BYTES", 1000)
    with pytest.raises(InvalidInput, match="more than 1,000 bytes; submit fewer measures at a time"):
        pack_submission(ran, name="honest", texts={})
    assert len(parsed) == 4


def test_the_last_record_of_a_cell_goes_in(ran: Path, tmp_path: Path) -> None:
    lines = (ran / "records.jsonl").read_text().splitlines(keepends=True)
    failed = replace(Record.from_json(lines[0], where=""), status="failed", reason="once", value=None, stderr=None)
    (tmp_path / "records.jsonl").write_text(failed.to_json() + "\n" + "".join(lines))
    assert pack_submission(tmp_path, name="honest", texts={}).splitlines()[1:] == in_order(ran)


@pytest.mark.parametrize(
    "name",
    ["", "a", "../evil", "a/b", "a\\b", "a.b", "A", "-a", "a-", "a--b", "a b", "a\n", "ä1", BOMB, "a" * 61, 3, None],
)
def test_a_name_that_is_no_plain_file_name_is_refused(name: object) -> None:
    with pytest.raises(InvalidInput, match="is not of 2 to 60 lower-case letters, digits and single hyphens"):
        check_name(name)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"name": "../../evil"}, "name '../../evil' is not of"),
        ({"name": "other"}, "call the file other.jsonl"),
        ({"author": "a\nb"}, "author 'a\\\\nb' is not printable text"),
        ({"note": "x" * 201}, "is not printable text of at most 200 characters"),
        ({"contact": None}, "contact None is not printable text"),
        ({"url": "javascript:alert(1)"}, "url 'javascript:alert(1)' is not a plain"),
        ({"url": "https://a.org/\"onload='x'"}, "is not a plain http"),
        ({"measures": {}}, "measures is not an object"),
        ({"measures": {"../x": "y"}}, "measure '../x' is not a name"),
        ({"measures": {"gradient-norm": "sharpbench 0.1.0"}}, ":2: measure 'average' is not in the manifest"),
        ({"records": 11}, "11 records are announced, 12 follow"),
        ({"records": True}, "records=True is not a number"),
        ({"sha256": "0" * 64}, "a line was changed"),
        ({"sha256": "x"}, "is not a SHA-256"),
        ({"submission": 2}, "format 2, where this version reads 1"),
        ({"extra": 1}, "missing or unknown fields: extra"),
        ({"records": float("nan")}, "NaN is not a number"),
    ],
)
def test_a_manifest_that_is_not_sound_is_refused(change: dict[str, Any], said: str, text: str, tmp_path: Path) -> None:
    def edit(lines: list[str]) -> None:
        row = {**json.loads(lines[0]), **change}
        lines[0] = json.dumps(row, separators=(",", ":"), ensure_ascii=False) + "\n"

    path = edited(text, tmp_path, edit)
    with pytest.raises(InvalidInput) as raised:
        read_submission(path)
    assert said.replace("\\\\", "\\") in str(raised.value)
    assert str(raised.value).startswith(f"{path}:")


def test_lines_that_were_changed_cut_repeated_or_are_of_another_version_are_refused_with_their_number(
    text: str, tmp_path: Path
) -> None:
    def value(lines: list[str]) -> None:
        record = Record.from_json(lines[4].strip(), where="")
        lines[4] = replace(record, value=float(record.value or 0) * 1.5).to_json() + "\n"

    def spaced(lines: list[str]) -> None:
        lines[4] = lines[4].replace('":', '": ', 1)

    def twice(lines: list[str]) -> None:
        lines[4] = lines[4].replace('{"key":', '{"value":1.0,"key":', 1)

    def swap(lines: list[str]) -> None:
        lines[1], lines[2] = lines[2], lines[1]

    cases: list[tuple[Any, str]] = [
        (value, ":1: the lines have the hash"),
        (swap, ":1: the lines have the hash"),
        (spaced, ":5: not written as sharpbench writes records"),
        (twice, ":5: not a JSON record (the key 'value' is there twice)"),
        (lambda lines: lines.__setitem__(-1, lines[-1][:-9]), ":13: the last line has no end"),
        (lambda lines: lines.pop(), ":1: 12 records are announced, 11 follow"),
        (lambda lines: lines.insert(3, lines[2]), ":4: the cell "),
        (lambda lines: lines.insert(3, "\n"), ":4: empty, over"),
        (lambda lines: lines.insert(3, "\udcff\n"), ":4: empty, over"),
        (lambda lines: lines.insert(3, "x" * (2**20 + 1) + "\n"), ":4: empty, over 1,048,576 characters"),
        (lambda lines: lines.insert(3, "[" * 100_000 + "\n"), ":4: not a JSON record"),
        (lambda lines: lines.__setitem__(2, lines[2].replace('"schema":8', '"schema":1')), ":3: record schema 1"),
        (lambda lines: lines.__setitem__(2, lines[2].replace('"value":', '"value":NaN,"x":')), ":3: not a JSON record"),
        (lambda lines: lines.__setitem__(0, "[1]\n"), ":1: a JSON list"),
        (lambda lines: lines.clear(), " holds 0 bytes"),
    ]
    for number, (edit, said) in enumerate(cases):
        folder = tmp_path / str(number)
        folder.mkdir()
        path = edited(text, folder, edit)
        with pytest.raises(InvalidInput) as raised:
            read_submission(path)
        assert f"{path}{said}" in str(raised.value)
        assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"key": "../../x"}, "is not a SHA-256"),
        ({"measure": BOMB}, "is not a name of lower-case letters"),
        ({"label": "minimum"}, "does not belong to measure 'gradient-norm'"),
        ({"label": f"gradient-norm[{BOMB}]"}, "holds characters that no spec on the command line has"),
        ({"label": "gradient-norm[a|b]"}, "holds characters that no spec on the command line has"),
        ({"label": f"gradient-norm[{'x' * 400}]"}, "holds characters that no spec on the command line has"),
        ({"device": "abacus"}, "is unknown"),
        ({"seed": -1}, "is not a number of 64 bits"),
        ({"data": {"leaderboard": False}}, "which no board accepts"),
        ({"data": {"claimed": True}}, "trained elsewhere, whose outcomes are claims of a table"),
        ({"data": {"sha256": "x"}}, "data.sha256 is not a SHA-256"),
        ({"data": {"examples": None}}, "data.examples is not a number"),
        ({"data": {"population": BOMB}}, "population"),
        ({"data": {"population": "../x"}}, "population"),
        ({"data": {"population": "mlp"}}, "population 'mlp' is not one of model 'small-mlp'"),
        ({"data": {"design": "chosen"}}, "design 'chosen' is not one of designed, random"),
        ({"data": {"position": -1}}, "position -1 is not a place"),
        ({"truth": {"test_loss": "x"}}, "truth.test_loss is 'x'"),
        ({"truth": {"epochs": 1.5}}, "truth.epochs is 1.5"),
        ({"truth": {"diverged": 0}}, "truth.diverged is 0"),
        ({"truth": {"fitted": False}}, "neither fitted nor diverged after"),
        ({"recipe": {"target_loss": 1e-9}}, "fitted with train_loss"),
        ({"truth": {"train_accuracy": 0.5, "gap": 0.5, "test_accuracy": 0.0}}, "fitted with train_accuracy 0.5"),
        ({"invariance": {"beauty": 1.0}}, "invariance: 'beauty' is not one of layer"),
        ({"recipe": {"dataset": "npz:mine.npz"}}, "is private files"),
        ({"recipe": {"dataset": "imagefolder:mine"}}, "is private files"),
        ({"recipe": {"model": "/etc/passwd"}}, "holds characters that no spec on the command line has"),
        ({"recipe": {"note": "a\nb"}}, "is not printable text"),
        ({"outcomes": {"<b>": 1.0}}, "outcome <b> '<b>' holds characters that no spec on the command line has"),
        ({"stderr": -1.0}, "stderr=-1.0 is negative"),
        ({"low": 2.0, "high": 1.0}, "low and high are not an interval"),
        ({"low": None, "high": 2.0}, "low and high are not an interval"),
        ({"truth": {"gap": 0.9}}, "is not training accuracy"),
        ({"truth": {"train_accuracy": 2.0}}, "truth: gap"),
        ({"truth": {"gap": None}}, "truth.gap is None"),
        ({"truth": {"fitted": 1}}, "truth.fitted is 1"),
        ({"reason": "x" * 2001}, "reason"),
        ({"time": "yesterday"}, "is not an ISO 8601 time"),
        ({"details": {"x" * 201: 1}}, "a key of details"),
        ({"environment": {"processor": "\u202egnp"}}, "or not printable UTF-8"),
        ({"environment": {"processor": "x" * 1001}}, "environment.processor"),
        ({"parts": {f"p{number}": 1.0 for number in range(20_001)}}, "parts has 20001 entries"),
        ({"recipe": {f"axis{number}": 1.0 for number in range(201)}}, "entries, more than 200"),
    ],
)
def test_a_record_that_no_board_takes_or_that_could_do_harm_is_refused_with_its_line(
    change: dict[str, Any], said: str, text: str, records: tuple[Record, ...], tmp_path: Path
) -> None:
    place = next(number for number, record in enumerate(records) if record.measure == "gradient-norm")
    record = records[place]
    values = {
        name: {**getattr(record, name), **value} if isinstance(value, dict) and name != "parts" else value
        for name, value in change.items()
    }

    def edit(lines: list[str]) -> None:
        lines[place + 1] = replace(record, **values).to_json() + "\n"

    path = edited(text, tmp_path, edit)
    with pytest.raises(InvalidInput) as raised:
        read_submission(path)
    assert f"{path}:{place + 2}: " in str(raised.value)
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 400
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("what", ["networks", "measures with their hyperparameters", "populations"])
def test_what_no_board_could_be_made_of_is_refused(
    what: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = {"networks": 4, "measures with their hyperparameters": 3, "populations": 1}
    path = forged(text, tmp_path)
    monkeypatch.setattr("sharpbench.leaderboard.submissions.submission.MAX_COUNTS", held)
    assert len(read_submission(path).records) == 12
    monkeypatch.setitem(held, what, held[what] - 1)
    with pytest.raises(
        InvalidInput, match=f":1: {held[what] + 1} {what}, where {held[what]} are the most; submit them in"
    ):
        read_submission(path)


def test_the_longest_reason_that_a_run_gives_is_one_that_a_submission_holds(
    text: str, records: tuple[Record, ...], tmp_path: Path
) -> None:
    """The head holds the type, the end says that more was there."""
    status, reason = failure_status(RuntimeError("x" * 5000))
    assert (len(reason), reason[:15], reason[-4:]) == (MAX_CAUSE_CHARS, "RuntimeError: x", "x...")
    behind = f"{reason}; --memory-limit is 1023.9 GiB, 20 times"
    failed = replace(records[0], status=status, reason=behind, value=None, stderr=None, low=None, high=None)
    assert read_submission(forged(text, tmp_path, [failed])).records[0].reason == behind


def test_links_and_pipes_are_no_submission(text: str, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    target = forged(text, tmp_path / "real")
    link = tmp_path / "honest.jsonl"
    link.symlink_to(target)
    with pytest.raises(InvalidInput, match="is not a plain file"):
        read_submission(link)
    link.unlink()
    os.mkfifo(link)
    with pytest.raises(InvalidInput, match="is not a plain file"):
        read_submission(link)
    with pytest.raises(InvalidInput, match="cannot read"):
        read_submission(tmp_path / "none.jsonl")


def test_packing_refuses_what_verification_could_not_know_again(ran: Path, tmp_path: Path) -> None:
    lines = (ran / "records.jsonl").read_text().splitlines()
    record = Record.from_json(lines[0], where="")
    average = next(each for line in lines if (each := Record.from_json(line, where="")).measure == "average")
    path = tmp_path / "records.jsonl"
    for changed, said in (
        (replace(record, seed=5), ":1: the key of 'gradient-norm' is not that of its cell"),
        (replace(average, label="average"), ":1: label 'average' is not that of its configuration"),
        (replace(record, configuration={"odd": 1}), ":1: 'gradient-norm' cannot be made here"),
        (
            replace(record, measure="gradient-nrom", label="gradient-nrom"),
            ":1: measure 'gradient-nrom' is not installed here; did",
        ),
        (
            replace(
                record,
                recipe={**record.recipe, "model": "small-mpl"},
                data={**record.data, "population": "small-mpl"},
            ),
            ":1: 'gradient-norm' cannot be made here",
        ),
        (replace(record, data={**record.data, "leaderboard": False}), ":1: a record of `measure`"),
    ):
        path.write_text(changed.to_json() + "\n")
        with pytest.raises(InvalidInput) as raised:
            pack_submission(path, name="honest", texts={})
        assert f"{path}{said}" in str(raised.value)
    path.rename(tmp_path / RECORDS)
    with pytest.raises(InvalidInput, match=rf"{RECORDS}:1: a record of `measure`"):
        pack_submission(tmp_path, name="honest", texts={})
    path.write_text("")
    with pytest.raises(InvalidInput, match="holds no record"):
        pack_submission(path, name="honest", texts={})
    with pytest.raises(InvalidInput, match="no records at"):
        pack_submission(tmp_path / "none", name="honest", texts={})


@pytest.mark.parametrize(
    "change",
    [
        {"value": 1e308},
        {"exact": -1e101, "oracle": "definition"},
        {"seconds": 1e308},
        {"invariance": {"layer": 1e200}},
        {"outcomes": {"loss-gap": 1e308}},
        {"recipe": {"model": "small-mlp", "dataset": "digits", "optimizer": "sgd", "depth": -1e308}},
    ],
    ids=str,
)
def test_numbers_that_no_page_can_show_are_refused(
    change: dict[str, Any], text: str, records: tuple[Record, ...], tmp_path: Path
) -> None:
    path = forged(text, tmp_path, [replace(records[0], **change)])
    with pytest.raises(InvalidInput, match=r"exceeds 1e\+100, which no page and plot can show"):
        read_submission(path)
