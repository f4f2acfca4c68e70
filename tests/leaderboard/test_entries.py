"""Submissions on the pages: their states, the worst refutation next to the measure, and nothing hostile."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sharpbench.core.record import Record
from sharpbench.errors import InvalidInput
from sharpbench.leaderboard.board import Leaderboard, make_leaderboard
from sharpbench.leaderboard.collection import read_collections
from sharpbench.leaderboard.entries import Submitted, SubmittedEntry
from sharpbench.leaderboard.entries import read_submitted as entries
from sharpbench.leaderboard.pages.headline import headline_rows
from sharpbench.leaderboard.pages.score import baseline_names
from sharpbench.leaderboard.publish import generate_files
from sharpbench.leaderboard.site.build import build_site
from sharpbench.leaderboard.submissions import (
    Finding,
    Manifest,
    Verdict,
    append_verdict,
    claims,
    format_submission,
    verdicts_path,
)
from sharpbench.leaderboard.submissions import read_submission as read_submission
from sharpbench.leaderboard.submissions.submission import hash_records

BOMB = "<script>alert(1)</script>|`*[x](http://evil.example)"
Make = Callable[..., list[Record]]


@pytest.fixture(autouse=True)
def _no_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    """They hold no word of an entry, and take most of the time."""
    monkeypatch.setattr("sharpbench.leaderboard.publish.draw_plots", lambda pages: {})


@pytest.fixture
def submitted(tmp_path: Path, make: Make, seal: Callable[..., Record]) -> Callable[..., Path]:
    """A function that writes a submission of fake records of `measures`."""

    def write(
        name: str,
        measures: Sequence[str] = ("good", "alien"),
        *,
        model: str = "theirs",
        sizes: tuple[int, ...] = (0,),
        **texts: str,
    ) -> Path:
        records = [
            seal(
                replace(
                    record,
                    recipe={**record.recipe, "optimizer": "sgd"}
                    | ({"train_size": size} if (size := sizes[int(str(record.recipe["seed"])) % len(sizes)]) else {}),
                    truth={**record.truth, "steps": 10},
                    data={**record.data, "population": record.recipe["model"], "design": "designed"},
                )
            )
            for record in make(measures=measures, model=model)
        ]
        manifest = Manifest(
            name=name,
            **texts,
            sharpbench="0.1.0",
            measures=dict.fromkeys(measures, "theirs 1.0"),
            records=len(records),
            sha256=hash_records(records),
        )
        path = tmp_path / "submissions" / f"{name}.jsonl"
        path.parent.mkdir(exist_ok=True)
        path.write_text(format_submission(manifest, records))
        return path

    return write


def judged(path: Path, label: str, outcome: Any, *, cells: slice = slice(1), **values: Any) -> None:
    """Append a verdict on the first record of that label, or on those of `cells`."""
    submission = read_submission(path)
    records = [record for record in submission.records if record.label == label]
    verdict = Verdict(
        name=submission.manifest.name,
        sha256=submission.sha256,
        seed=0,
        sample=1,
        time="2026-11-21T20:00:00+00:00",
        environment={},
        findings=tuple(finding(record, outcome, **values) for record in records[cells]),
    )
    append_verdict(verdicts_path(path), verdict)


def finding(record: Record, outcome: Any, **values: Any) -> Finding:
    numbers = {"claimed": record.value, "found": (record.value or 0) + 3.0, "bound": 0.5, **values}
    return Finding(
        key=record.key,
        claim=claims.hash_cell_claim(record),
        place=claims.hash_cell(record),
        label=record.label,
        network="a network",
        population=claims.population_name(record),
        what="value",
        outcome=outcome,
        **numbers,
    )


def published(results: Path, found: Submitted) -> Leaderboard:
    return make_leaderboard(read_collections(results), submitted=found)


def test_entries_stand_on_a_page_of_their_own_with_their_states(
    results: Path, submitted: Callable[..., Path], tmp_path: Path
) -> None:
    agreed = submitted("agreed", author="A. U. Thor", url="https://a.example/x")
    judged(agreed, "good", "agrees", cells=slice(14))
    judged(agreed, "good", "parted", cells=slice(14, 15))
    judged(agreed, "alien", "agrees", cells=slice(3))
    submitted("silent", ("good",), model="others")
    pages = generate_files(published(results, entries(tmp_path / "submissions")))
    page = pages["submissions.md"]
    assert "| agreed     | A. U. Thor |        2 |       15 | claimed | 17 of 30, 1 parted | 2026-11-21" in page
    assert "| silent     | -" in page
    assert "- verified: good on theirs on digits (14 of 15 agree, 1 parted)\n" in page
    assert "- claimed: alien on theirs on digits (3 of 15 agree)\n" in page
    assert " verified 14 of 15" in pages["README.md"]
    assert " claimed, 3 of 15 agree" in pages["README.md"]
    assert "](submissions.md)" in pages["README.md"]
    assert "[alien](measures/alien.md) (claimed)" in pages["README.md"]
    assert "[good](measures/good.md) (" not in pages["README.md"]  # others published it
    assert "- good: claimed in silent\n- good: verified in agreed" in pages["measures/good.md"]


def test_a_row_of_at_most_n_examples_is_verified_only_where_both_its_parts_are(
    results: Path, submitted: Callable[..., Path], tmp_path: Path
) -> None:
    path = submitted("half", sizes=(512, 1024))
    records = [record for record in read_submission(path).records if record.label == "good"]
    whole = [index for index, each in enumerate(records) if each.recipe["train_size"] == each.data["examples"]]
    assert whole[0] == 0
    assert len(whole) < len(records)
    judged(path, "alien", "agrees", cells=slice(None))
    for index in whole:
        judged(path, "good", "agrees", cells=slice(index, index + 1))
    (board,) = [each for each in published(results, entries(tmp_path / "submissions")).boards if each.entry]
    found = {score.label: score for score in board.measured}
    assert board.entry is not None
    assert board.entry.state(board.row_key(found["alien"])) == "verified"
    assert board.entry.state(board.row_key(found["good"])) == "claimed"


def test_an_entry_does_not_make_a_measure_a_baseline(
    results: Path, submitted: Callable[..., Path], tmp_path: Path
) -> None:
    submitted("norms", ("alien",))
    found = entries(tmp_path / "submissions")
    families = {"alien": {"family": "norm"}, "other": {"family": "norm"}}
    leaderboard = make_leaderboard(read_collections(results), submitted=found, catalog=families)
    assert "other[p=1]" in baseline_names(leaderboard)
    assert "alien" not in baseline_names(leaderboard)


def test_a_measure_keeps_its_worst_refutation_and_refuted_values_of_known_measures_leave_the_board(
    results: Path, submitted: Callable[..., Path], tmp_path: Path
) -> None:
    wrong, worse = submitted("wrong"), submitted("worse")
    judged(wrong, "good", "differs")
    judged(worse, "good", "differs", bound=0.01)
    judged(worse, "good", "agrees")
    judged(wrong, "alien", "differs")
    board = published(results, entries(tmp_path / "submissions"))
    pages = generate_files(board)
    lines = [line for line in pages["measures/good.md"].splitlines() if "refuted in" in line]
    assert [line.split(" on ")[0] for line in lines] == ["- good, refuted in worse", "- good, refuted in wrong"]
    assert "3.0e+00 apart where 1.0e-02 is allowed (2026-11-21; `sharpbench verify " in lines[0]
    key = next(record for record in read_submission(worse).records if record.label == "good").key
    assert f"--cell {key[:16]}`" in lines[0]
    theirs = {board.title: [score.label for score in board.measured] for board in board.boards}
    assert theirs["wrong (submitted): theirs on digits"] == ["alien"]
    assert theirs["worse (submitted): theirs on digits"] == ["alien"]
    assert "[alien](measures/alien.md) (refuted)" in pages["README.md"]
    assert "refuted" in build_site(board)["index.html"]


def test_what_others_claim_enters_no_summary_of_what_we_measured(
    results: Path, submitted: Callable[..., Path], tmp_path: Path
) -> None:
    """A forged entry in which our measure is perfect, free, exact and invariant changes no number of its row."""
    own = make_leaderboard(read_collections(results))
    path = submitted("rosy")
    found = read_submission(path)
    rosy = [
        replace(
            record,
            value=float(str(record.truth["gap"])),
            gradients=1e-3,
            exact=float(str(record.truth["gap"])),
            invariance={"layer": 1.0, "unit": 1.0},
            low=0.0,
            high=1.0,
            stderr=0.1,
        )
        for record in found.records
    ]
    path.write_text(format_submission(replace(found.manifest, sha256=hash_records(rosy)), rosy))
    both = published(results, entries(tmp_path / "submissions"))
    before, after = ({row.name: row for row in headline_rows(board)} for board in (own, both))
    assert [name for name in after if name in before] == list(before)
    assert list(after)[:4] == ["good", "other[p=1]", "noisy", "alien"]  # however well it does, below ours
    for name, row in before.items():
        assert after[name].median == row.median
        assert after[name].summary == row.summary
        assert after[name].mark is None
    assert (after["alien"].mark, after["alien"].median) == ("claimed", 1.0)
    pages = generate_files(both)
    first = pages["README.md"].split("## Tau with the gap by population")[1]
    (line,) = [line for line in first.splitlines() if line.startswith("| [good](")]
    assert "claimed" in line
    assert (
        "rosy (submitted)"
        in first.splitlines()[
            next(number for number, text in enumerate(first.splitlines()) if text.startswith("| measure"))
        ]
    )
    assert "| [good](measures/good.md) (claimed)" in pages["correlation.md"]
    assert "that nobody can verify" in pages["speed.md"]
    assert "Submitted: 0 of 30 values of oracles in this entry" in pages["exactness.md"]
    stated = pages["exactness.md"].partition("Stated intervals")[2]
    assert "alien" in stated
    assert "[good]" not in stated  # ours states none
    assert "rosy (submitted)" in build_site(both)["index.html"]


def test_an_entry_that_copies_another_stands_and_falls_with_it(
    results: Path, submitted: Callable[..., Path], tmp_path: Path
) -> None:
    one, copy = submitted("one"), submitted("copy", note="all mine")
    judged(one, "alien", "differs")
    found = entries(tmp_path / "submissions")
    assert [(each.name, each.status.state) for each in found.entries] == [("copy", "refuted"), ("one", "refuted")]
    page = generate_files(published(results, found))["submissions.md"]
    assert "- 30 values are equal to the last digit in one\n" in page
    record = read_submission(copy).records[1]
    other = [replace(each, value=7.0) if each == record else each for each in read_submission(copy).records]
    copy.write_text(format_submission(replace(read_submission(copy).manifest, sha256=hash_records(other)), other))
    page = generate_files(published(results, entries(tmp_path / "submissions")))["submissions.md"]
    assert "- 29 values are equal to the last digit in one\n" in page
    assert "- 1 values differ in one, of the same cells on the same networks\n" in page


def test_a_refutation_outlives_its_file_and_shows_where_the_measure_is_claimed_again(
    results: Path, submitted: Callable[..., Path], tmp_path: Path
) -> None:
    path = submitted("mine")
    judged(path, "alien", "differs")
    honest = read_submission(path)
    other = [replace(each, value=(each.value or 0) * 1.01) for each in honest.records]
    path.write_text(format_submission(replace(honest.manifest, sha256=hash_records(other)), other))
    folder = tmp_path / "submissions"
    pages = generate_files(published(results, entries(folder)))
    assert "[alien](measures/alien.md) (refuted before)" in pages["README.md"]
    assert "| mine       | -   |        2 |       15 | refuted before |" in pages["submissions.md"]
    assert "## Refuted before" in pages["submissions.md"]
    assert "- alien, refuted before in mine on a network: " in pages["measures/alien.md"]
    path.unlink()
    assert entries(folder).entries == ()
    pages = generate_files(published(results, entries(folder)))
    assert "- alien, refuted before in mine on a network: " in pages["submissions.md"]
    path.write_text(format_submission(replace(honest.manifest, sha256=hash_records(other)), other))
    judged(path, "alien", "agrees", cells=slice(None), found=other[1].value)
    pages = generate_files(published(results, entries(folder)))
    assert "Refuted before" not in pages["submissions.md"]
    assert "[alien](measures/alien.md) (verified)" in pages["README.md"]


def test_words_of_strangers_do_no_harm(results: Path, submitted: Callable[..., Path], tmp_path: Path) -> None:
    path = submitted("hostile", author=BOMB, contact=BOMB, note=BOMB + "x" * 100)
    judged(path, "good", "differs", found=None, bound=None, reason=BOMB * 3)
    judged(path, "alien", "unknown", found=None, bound=None, reason=BOMB)
    found = published(results, entries(tmp_path / "submissions"))
    pages = generate_files(found)
    for name in ("submissions.md", "README.md", "measures/good.md"):
        assert "<script" not in pages[name]
        assert "://evil" not in pages[name]
        assert "](http" not in pages[name].replace("\\]", "")
    rows = [line for line in pages["submissions.md"].splitlines() if line.startswith("|")]
    assert len(rows) == 3
    assert len({line.replace("\\|", "").count("|") for line in rows}) == 1
    assert not any(BOMB in text for text in build_site(found).values())


def test_what_is_no_submission_is_refused_with_its_file(
    results: Path, submitted: Callable[..., Path], tmp_path: Path
) -> None:
    folder = tmp_path / "submissions"
    assert entries(folder) == Submitted()
    path = submitted("mine")
    for name in ("x.txt", "gone.verdicts.jsonl", "x.jsonl"):
        (folder / name).write_text("x\n")
        with pytest.raises(InvalidInput, match=str(folder / name)):
            entries(folder)
        (folder / name).unlink()
    (folder / "x.jsonl").symlink_to(path)
    with pytest.raises(InvalidInput, match="is not a submission"):
        entries(folder)
    (folder / "x.jsonl").unlink()
    with pytest.raises(InvalidInput, match="submission 'first' has the name of a published collection"):
        published(results, Submitted((replace_name(entries(folder).entries[0], "first"),)))
    records = read_submission(path).records
    forged = [replace(records[0], key="0" * 64), *records[1:]]
    manifest = replace(read_submission(path).manifest, sha256=hash_records(forged))
    path.write_text(format_submission(manifest, forged))
    with pytest.raises(InvalidInput, match=rf"{path}:2: the key does not fit the content"):
        entries(folder)


def replace_name(entry: SubmittedEntry, name: str) -> SubmittedEntry:
    manifest = replace(entry.submission.manifest, name=name)
    return replace(entry, submission=replace(entry.submission, manifest=manifest))


def test_hidden_files_do_not_stop_publishing(submitted: Callable[..., Path], tmp_path: Path) -> None:
    path = submitted("mine")
    (path.parent / ".DS_Store").write_bytes(b"\0")
    (path.parent / ".draft-00ff").mkdir()
    assert [entry.name for entry in entries(path.parent).entries] == ["mine"]
