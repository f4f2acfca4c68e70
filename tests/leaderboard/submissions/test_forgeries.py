"""Forged submissions are refuted, or have no effect on any verified row, whatever cells the sample holds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sharpbench import Record
from sharpbench.files import Workspace
from sharpbench.leaderboard.entries import SubmittedEntry
from sharpbench.leaderboard.submissions import (
    Compared,
    Manifest,
    Verdict,
    VerificationSetting,
    draw_cells,
    find_installed,
    format_submission,
    read_submission,
    submission_status,
    verify_submission,
)
from sharpbench.leaderboard.submissions.claims import row_key
from sharpbench.leaderboard.submissions.submission import hash_records
from sharpbench.runner.cell import KeyContent

Forgery = Callable[[Sequence[Record]], list[Record]]


def lie(record: Record, **changes: Any) -> Record:
    """The record with another value, as large as the gap asks for, and other changes."""
    return replace(record, value=1.0 + float(str(record.truth["gap"])), **changes)


def sealed(record: Record) -> Record:
    """The record with the key of its content."""
    version = resolve_version(record)
    return replace(record, key=KeyContent.of_record(record, version=version).key(examples=record.data["examples"]))


def resolve_version(record: Record) -> int:
    version: int = find_installed().measures[record.measure].version
    return version


def on_other_networks(records: Sequence[Record], change: Callable[[Record], Record]) -> list[Record]:
    """The records, with those of all networks but the first replaced."""
    return [record if record.recipe == records[0].recipe else change(record) for record in records]


def forged_steps(records: Sequence[Record]) -> list[Record]:
    return on_other_networks(records, lambda record: lie(record, truth={**record.truth, "steps": 7}))


def another_data_hash(records: Sequence[Record]) -> list[Record]:
    return on_other_networks(records, lambda record: sealed(lie(record, data={**record.data, "sha256": "ab" * 32})))


def another_device(records: Sequence[Record]) -> list[Record]:
    return on_other_networks(records, lambda record: sealed(lie(record, device="cuda")))


def another_device_in_addition(records: Sequence[Record]) -> list[Record]:
    return [*records, *(sealed(lie(record, device="cuda")) for record in records)]


def second_population(records: Sequence[Record]) -> list[Record]:
    def invented(record: Record) -> Record:
        data = {**record.data, "population": "small-mlp[width=9]"}
        return sealed(lie(record, data=data, recipe={**record.recipe, "model": "small-mlp[width=9,depth=x]"}))

    return [*records, *map(invented, records)]


def another_torch(records: Sequence[Record]) -> list[Record]:
    def noisy(record: Record) -> Record:
        wider = (record.value or 0.0) + 3 * (record.stderr or 0.0)
        return replace(record, value=wider, environment={**record.environment, "torch": "1.0"})

    return [noisy(record) if record.measure == "average" else record for record in records]


def fewer_probes(records: Sequence[Record]) -> list[Record]:
    def noisy(record: Record) -> Record:
        stderr = record.stderr or 0.0
        return replace(record, value=(record.value or 0.0) + 3 * stderr, probes=2)

    return [noisy(record) if record.measure == "average" else record for record in records]


def fractional_accuracies(records: Sequence[Record]) -> list[Record]:
    def shifted(record: Record) -> Record:
        test = float(str(record.truth["test_accuracy"])) - 0.5 / int(str(record.data["test_examples"]))
        train = float(str(record.truth["train_accuracy"]))
        return replace(record, truth={**record.truth, "test_accuracy": test, "gap": train - test})

    return [shifted(record) for record in records]


def altered_keys(records: Sequence[Record]) -> list[Record]:
    return on_other_networks(records, lambda record: lie(record, key=record.key[::-1]))


def one_value(records: Sequence[Record]) -> list[Record]:
    return [lie(records[0]), *records[1:]]


FORGERIES: tuple[Forgery, ...] = (
    forged_steps,
    another_data_hash,
    another_device,
    another_device_in_addition,
    second_population,
    another_torch,
    fewer_probes,
    fractional_accuracies,
    altered_keys,
    one_value,
)


def outcome(forgery: Forgery, text: str, ran: Path, folder: Path, seeds: range) -> tuple[str, set[str], set[str]]:
    """State of the entry, its verified labels, and the labels of dishonest records in verified rows."""
    honest = [Record.from_json(line, where="") for line in text.splitlines()[1:]]
    lines = forgery(honest)
    path = folder / "honest.jsonl"
    manifest = replace(Manifest.from_json(text.splitlines()[0]), records=len(lines), sha256=hash_records(lines))
    path.write_text(format_submission(manifest, lines), encoding="utf-8")
    submission, known = read_submission(path), find_installed()
    setting = VerificationSetting(workspace=Workspace(cache_dir=ran / "cache"), known=known)
    verdicts = []
    for seed in seeds:
        drawn = draw_cells(submission, sample=len(lines), seed=seed, known=known)
        steps = verify_submission(submission, drawn, setting)
        found = tuple(finding for step in steps if isinstance(step, Compared) for finding in step.findings)
        verdicts.append(
            Verdict(
                name="honest",
                sha256=submission.sha256,
                seed=seed,
                sample=len(lines),
                time="2026-11-21T20:00:00+00:00",
                environment={},
                findings=found,
            )
        )
    status = submission_status(submission, verdicts)
    entry = SubmittedEntry(submission, status)
    verified = [r for r in entry.published_records() if entry.state(row_key(r)) == "verified"]
    true = {(r.key, r.value, r.truth["gap"]) for r in honest}
    false = {r.label for r in verified if (r.key, r.value, r.truth["gap"]) not in true}
    return status.state, {r.label for r in verified}, false


@pytest.mark.parametrize("forgery", FORGERIES, ids=lambda each: each.__name__)
def test_a_forgery_has_no_effect_on_verified_rows(forgery: Forgery, text: str, ran: Path, tmp_path: Path) -> None:
    _, _, false = outcome(forgery, text, ran, tmp_path, range(1))
    assert not false
