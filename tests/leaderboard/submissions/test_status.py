"""Verdicts as lines, and where a submission stands after several."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sharpbench import InvalidInput, Record
from sharpbench.leaderboard.submissions import (
    Finding,
    Submission,
    Verdict,
    append_verdict,
    claims,
    list_past_refutations,
    read_folder_verdicts,
    read_submission,
    read_verdicts,
    submission_status,
    verdicts_path,
)

from .conftest import forged


def finding(record: Record, outcome: Any, *, found: float = 1.5, bound: float = 0.25, what: str = "value") -> Finding:
    whole = what == "gap"
    return Finding(
        key=record.key,
        claim=claims.hash_network_claim(record) if whole else claims.hash_cell_claim(record),
        place=claims.hash_network(record) if whole else claims.hash_cell(record),
        label=record.label,
        network="n",
        population=claims.population_name(record),
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


def agreeing(record: Record) -> Finding:
    return finding(record, "agrees")


@pytest.fixture
def submission(text: str, tmp_path: Path) -> Submission:
    return read_submission(forged(text, tmp_path))


def test_one_refutation_outlasts_every_agreement(submission: Submission) -> None:
    first, second = submission.records[:2]
    agrees = verdict(submission, finding(first, "agrees"), finding(second, "parted"))
    refutes = verdict(submission, finding(first, "differs"))
    assert (agrees.state, refutes.state) == ("claimed", "refuted")
    assert verdict(submission, finding(first, "agrees")).state == "verified"
    assert submission_status(submission, []).state == "claimed"
    once = submission_status(submission, [agrees])
    assert (once.state, once.cells, once.agreed, once.parted) == ("claimed", 12, 1, 1)
    assert set(once.measures.values()) == {"claimed"}
    every = verdict(submission, *(finding(each, "agrees") for each in submission.records if each.label == first.label))
    found = submission_status(submission, [agrees, every])
    assert found.measures == {first.label: "verified", second.label: "claimed", submission.records[2].label: "claimed"}
    assert submission_status(submission, [verdict(submission, *map(agreeing, submission.records))]).state == "verified"
    for order in ([agrees, refutes], [refutes, agrees], [refutes, agrees, agrees]):
        found = submission_status(submission, order)
        assert found.state == "refuted"
        assert found.measures[first.label] == "refuted"
        assert found.refutations[first.label].excess == 2.0


def test_a_label_that_no_verdict_saw_is_not_verified_and_stays_refuted(submission: Submission) -> None:
    """Configuration and values are as they were verified, and the board would name another configuration."""
    first = next(each for each in submission.records if each.measure == "average")
    agreed = [verdict(submission, *map(agreeing, submission.records))]
    refuted = [verdict(submission, finding(first, "differs"))]
    lines = [replace(r, label="average[samples=999]") if r.measure == "average" else r for r in submission.records]
    renamed = replace(submission, records=tuple(lines))
    assert submission_status(submission, agreed).measures[first.label] == "verified"
    found = submission_status(renamed, agreed).measures
    assert found == {"average[samples=999]": "claimed", "gradient-norm": "verified", "parameter-norm": "verified"}
    assert submission_status(renamed, refuted).measures["average[samples=999]"] == "refuted"


def test_the_worst_refutation_is_kept(submission: Submission) -> None:
    first = submission.records[0]
    mild, worst = (
        verdict(submission, finding(first, "differs", found=found), time=f"2026-11-21T20:00:0{found:.0f}+00:00")
        for found in (1.5, 9.0)
    )
    for order in ([mild, worst], [worst, mild]):
        kept = submission_status(submission, order).refutations[first.label]
        assert (kept.finding.found, kept.time[17:19], kept.excess) == (9.0, "09", 32.0)


def test_what_refutes_a_network_refutes_every_measure_on_it(submission: Submission) -> None:
    first = submission.records[0]
    found = submission_status(submission, [verdict(submission, finding(first, "differs", what="gap"))])
    assert set(found.refutations) == {record.label for record in submission.records}
    assert set(found.measures.values()) == {"refuted"}


def test_another_title_name_or_writing_of_the_same_claims_keeps_their_refutations(
    submission: Submission, text: str, tmp_path: Path
) -> None:
    refuted, agreed = submission.records[:2]
    said = [verdict(submission, finding(refuted, "differs"), finding(agreed, "agrees"))]
    for manifest in ({"note": "x"}, {"author": "Someone Else"}, {"name": "another-name"}):
        again = read_submission(forged(text, tmp_path, **manifest))
        assert again.sha256 != submission.sha256
        found = submission_status(again, said)
        assert (found.state, found.agreed) == ("refuted", 1)
        assert found.refutations[refuted.label].finding.key == refuted.key
        assert list_past_refutations([again], said) == ()
    aside = {"seconds": 9.0, "time": "2031-01-01T00:00:00+00:00", "printed": "x", "details": {"x": 1}}
    environment = {**refuted.environment, "cores": 99}
    truth = {**refuted.truth, "seconds": 5.0, "steps": float(str(refuted.truth["steps"])), "more": 1}
    lines = [
        replace(each, truth={**each.truth, **truth}, environment=environment, **aside)
        for each in submission.records
        if each.recipe == refuted.recipe
    ]
    rewritten = replace(submission, records=(*lines, *submission.records[3:]), sha256="1" * 64)
    assert rewritten.records != submission.records
    assert submission_status(rewritten, said).state == "refuted"


def test_what_speaks_of_others_refutes_nobody(submission: Submission) -> None:
    """A forger who refutes himself takes no honest entry with him: his claims are others, in whatever number."""
    first = submission.records[0]
    for lie in (
        replace(first, value=2 * (first.value or 0)),
        replace(first, stderr=1e9),
        replace(first, environment={**first.environment, "torch": "1.0"}),
        replace(first, truth={**first.truth, "steps": 1}),
        replace(first, exact=1.0),
        replace(first, data={**first.data, "examples": 1}),
    ):
        found = submission_status(submission, [verdict(submission, finding(lie, "differs"))])
        assert (found.state, found.refutations) == ("claimed", {})
    lie = replace(first, truth={**first.truth, "train_loss": 0.5})
    found = submission_status(submission, [verdict(submission, finding(lie, "differs", what="gap"))])
    assert (found.state, found.refutations) == ("claimed", {})


def test_a_refutation_that_nobody_claims_any_more_shows_until_the_same_cell_is_verified(submission: Submission) -> None:
    first, second = submission.records[0], submission.records[1]
    lie = replace(first, value=9.0)
    mild = verdict(submission, finding(lie, "differs"))
    worse = verdict(submission, finding(replace(first, value=8.0), "differs", found=99.0))
    (kept,) = list_past_refutations([submission], [mild, worse, mild])
    assert (kept.label, kept.population) == (first.label, "small-mlp on digits")
    assert (kept.refutation.finding.found, kept.refutation.name) == (99.0, "honest")
    assert submission_status(submission, [mild, worse]).state == "claimed"
    assert list_past_refutations([], [mild])[0].label == first.label  # the entry was taken away
    other = verdict(submission, finding(second, "agrees"))
    assert list_past_refutations([submission], [mild, other]) != ()
    answer = verdict(submission, finding(first, "agrees"))
    assert (
        list_past_refutations([submission], [mild, worse, answer])
        == list_past_refutations([submission], [answer, worse, mild])
        == ()
    )
    same = next(each for each in submission.records if each.label == first.label and each.key != first.key)
    again = verdict(submission, finding(same, "differs"))
    assert list_past_refutations([submission], [mild, answer, again]) != ()  # a refuted author answers nothing


def test_a_gap_that_nobody_claims_any_more_is_answered_by_the_network(submission: Submission) -> None:
    first = submission.records[0]
    lie = replace(first, truth={**first.truth, "gap": 0.9})
    wrong = verdict(submission, finding(lie, "differs", what="gap"))
    assert [each.label for each in list_past_refutations([submission], [wrong])] == [first.label]
    assert list_past_refutations([submission], [wrong, verdict(submission, finding(first, "agrees"))]) != ()
    assert list_past_refutations([submission], [wrong, verdict(submission, finding(first, "agrees", what="gap"))]) == ()


def test_a_population_under_another_name_is_of_the_same_family() -> None:
    for name in ("small-mlp", "small-mlp[width=40]", "small-mlp[width=3,depth=2]"):
        assert claims.population_family(f"{name} on digits") == "small-mlp on digits"
    assert claims.population_family("timm:test_vit[size=32] on mnist") == "timm:test_vit on mnist"


def test_verdicts_of_a_folder_are_by_the_name_of_their_file(submission: Submission, tmp_path: Path) -> None:
    said = verdict(submission, finding(submission.records[0], "agrees"))
    append_verdict(tmp_path / "honest.verdicts.jsonl", said)
    assert read_folder_verdicts(tmp_path) == {"honest": (said,)}
    (tmp_path / "honest.verdicts.jsonl").rename(tmp_path / "other.verdicts.jsonl")
    with pytest.raises(InvalidInput, match=r"other.verdicts.jsonl:1: a verdict on 'honest'; restore the file"):
        read_folder_verdicts(tmp_path)


def test_verdicts_are_lines_that_are_read_again(submission: Submission, tmp_path: Path) -> None:
    path = verdicts_path(tmp_path / "honest.jsonl")
    assert path.name == "honest.verdicts.jsonl"
    assert read_verdicts(path) == ()
    said = [
        verdict(submission, finding(submission.records[0], outcome)) for outcome in ("agrees", "differs", "unknown")
    ]
    for each in said:
        append_verdict(path, each)
    assert read_verdicts(path) == tuple(said)
    line = path.read_text().splitlines()[0]
    row = json.loads(line)
    for change, words in (
        ({"state": "refuted"}, "not written as"),
        ({"verdict": 1}, "format 1"),
        ({"name": "../x"}, "name '../x'"),
        ({"findings": 3}, "findings is not a list"),
        ({"findings": [3]}, "missing or unknown fields: int"),
        ({"findings": [{**row["findings"][0], "label": "a\nb"}]}, "label"),
        ({"findings": [{**row["findings"][0], "outcome": "maybe"}]}, "outcome 'maybe' is not one of"),
        ({"findings": [{**row["findings"][0], "found": None}]}, "it agrees without"),
        ({"findings": [{**row["findings"][0], "bound": "1"}]}, "is not a number"),
        ({"findings": [{**row["findings"][0], "key": "x"}]}, "is not a SHA-256"),
        ({"findings": [{**row["findings"][0], "claim": "x"}]}, "claim 'x' is not a SHA-256"),
        ({"findings": [{**row["findings"][0], "place": None}]}, "place None is not a SHA-256"),
        (
            {"findings": [{**row["findings"][0], "what": "beauty"}]},
            "what 'beauty' is not the name of a compared number",
        ),
        ({"findings": [{**row["findings"][0], "found": 10**400}]}, "is not a number"),
        ({"environment": {"a": "b\nc"}}, "environment"),
        ({"seed": "0"}, "seed or sample"),
        ({"sha256": "x"}, "is not a SHA-256"),
        ({"time": 3}, "time 3 is not in ISO"),
        ({"odd": 1}, "unknown fields: odd"),
    ):
        path.write_text(line + "\n" + json.dumps({**row, **change}, separators=(",", ":")) + "\n")
        with pytest.raises(InvalidInput, match="restore the file") as raised:
            read_verdicts(path)
        assert f"{path}:2: " in str(raised.value)
        assert words in str(raised.value)
    mixed = verdict(submission, *(finding(submission.records[0], outcome) for outcome in ("agrees", "unknown")))
    assert mixed.state == "claimed"
    earlier = mixed.to_json().replace('"state":"claimed"', '"state":"verified"')  # by the rule of earlier versions
    late = replace(mixed, unfinished=2)
    path.write_text(earlier + "\n" + late.to_json() + "\n")
    assert read_verdicts(path) == (mixed, late)
    assert (read_verdicts(path)[0].state, late.state) == ("claimed", "unfinished")
    assert "unfinished" not in mixed.to_json()
    path.write_text(line)
    with pytest.raises(InvalidInput, match=":1: the last line has no end"):
        read_verdicts(path)
    path.unlink()
    path.symlink_to(tmp_path / "honest.jsonl")
    with pytest.raises(InvalidInput, match="is not a plain file"):
        read_verdicts(path)
    with pytest.raises(InvalidInput, match="cannot write"):
        append_verdict(path, said[0])
