"""Verdicts as lines, and where a submission stands after several."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sharpbench import InvalidInput, Record
from sharpbench.submissions import Finding, Submission, Verdict, append, read, read_verdicts, standing, verdicts_path

from .conftest import forged


def finding(record: Record, outcome: Any, *, found: float = 1.5, bound: float = 0.25, what: str = "value") -> Finding:
    return Finding(
        key=record.key,
        label=record.label,
        network="n",
        what=what,
        outcome=outcome,
        claimed=1.0,
        found=found,
        bound=bound,
    )


def verdict(submission: Submission, *findings: Finding, time: str = "2026-11-21T20:00:00+00:00") -> Verdict:
    return Verdict(
        name=submission.manifest.name,
        sha256=submission.sha256,
        seed=0,
        sample=3,
        time=time,
        environment={"torch": "2.13.0", "threads": 1},
        findings=findings,
    )


@pytest.fixture
def submission(text: str, tmp_path: Path) -> Submission:
    return read(forged(text, tmp_path))


def test_one_refutation_outlasts_every_agreement(submission: Submission) -> None:
    first, second = submission.records[:2]
    agrees = verdict(submission, finding(first, "agrees"), finding(second, "parted"))
    refutes = verdict(submission, finding(first, "differs"))
    assert (agrees.state, refutes.state) == ("verified", "refuted")
    assert standing(submission, []).state == "claimed"
    once = standing(submission, [agrees])
    assert (once.state, once.cells, once.agreed, once.parted) == ("verified", 12, 1, 1)
    assert once.measures == {first.label: "verified", second.label: "claimed", submission.records[2].label: "claimed"}
    for order in ([agrees, refutes], [refutes, agrees], [refutes, agrees, agrees]):
        found = standing(submission, order)
        assert found.state == "refuted"
        assert found.measures[first.label] == "refuted"
        assert found.refutations[first.label].excess == 2.0


def test_the_worst_refutation_is_kept(submission: Submission) -> None:
    first = submission.records[0]
    mild, worst = (
        verdict(submission, finding(first, "differs", found=found), time=f"2026-11-21T20:00:0{found:.0f}+00:00")
        for found in (1.5, 9.0)
    )
    for order in ([mild, worst], [worst, mild]):
        kept = standing(submission, order).refutations[first.label]
        assert (kept.finding.found, kept.time[17:19], kept.excess) == (9.0, "09", 32.0)


def test_what_refutes_a_network_refutes_every_measure_on_it(submission: Submission) -> None:
    first = submission.records[0]
    found = standing(submission, [verdict(submission, finding(first, "differs", what="gap"))])
    assert set(found.refutations) == {record.label for record in submission.records}
    assert set(found.measures.values()) == {"refuted"}


def test_another_file_under_the_name_begins_anew(submission: Submission) -> None:
    refutes = verdict(submission, finding(submission.records[0], "differs"))
    found = standing(replace(submission, sha256="0" * 64), [refutes])
    assert (found.state, found.earlier, found.refutations) == ("claimed", 1, {})


def test_verdicts_are_lines_that_are_read_again(submission: Submission, tmp_path: Path) -> None:
    path = verdicts_path(tmp_path / "honest.jsonl")
    assert path.name == "honest.verdicts.jsonl"
    assert read_verdicts(path) == ()
    said = [
        verdict(submission, finding(submission.records[0], outcome)) for outcome in ("agrees", "differs", "unknown")
    ]
    for each in said:
        append(path, each)
    assert read_verdicts(path) == tuple(said)
    line = path.read_text().splitlines()[0]
    row = json.loads(line)
    for change, words in (
        ({"state": "refuted"}, "not written as"),
        ({"verdict": 2}, "format 2"),
        ({"name": "../x"}, "name '../x'"),
        ({"findings": 3}, "findings is no list"),
        ({"findings": [3]}, "missing or unknown fields: int"),
        ({"findings": [{**row["findings"][0], "label": "a\nb"}]}, "label"),
        ({"findings": [{**row["findings"][0], "outcome": "maybe"}]}, "outcome 'maybe' is none"),
        ({"findings": [{**row["findings"][0], "found": None}]}, "it agrees without"),
        ({"findings": [{**row["findings"][0], "bound": "1"}]}, "is no number"),
        ({"findings": [{**row["findings"][0], "key": "x"}]}, "is no SHA-256"),
        ({"environment": {"a": "b\nc"}}, "environment"),
        ({"seed": "0"}, "seed or sample"),
        ({"sha256": "x"}, "is no SHA-256"),
        ({"time": 3}, "time 3 is none"),
        ({"odd": 1}, "unknown fields: odd"),
    ):
        path.write_text(line + "\n" + json.dumps({**row, **change}, separators=(",", ":")) + "\n")
        with pytest.raises(InvalidInput, match="restore the file") as raised:
            read_verdicts(path)
        assert f"{path}:2: " in str(raised.value)
        assert words in str(raised.value)
    path.write_text(line)
    with pytest.raises(InvalidInput, match=":1: the last line has no end"):
        read_verdicts(path)
    path.unlink()
    path.symlink_to(tmp_path / "honest.jsonl")
    with pytest.raises(InvalidInput, match="is no plain file"):
        read_verdicts(path)
    with pytest.raises(InvalidInput, match="cannot write"):
        append(path, said[0])
