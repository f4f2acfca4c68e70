"""Entries: submissions with what verifications found of them, and the collections that they are."""

from __future__ import annotations

import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sharpbench.errors import InvalidInput
from sharpbench.leaderboard.collection import Collection, ConsistencyCheck
from sharpbench.leaderboard.submissions.claims import contradicts, population_family, population_name
from sharpbench.leaderboard.submissions.manifest import SUFFIX
from sharpbench.leaderboard.submissions.status import (
    PastRefutation,
    SubmissionStatus,
    list_past_refutations,
    submission_status,
)
from sharpbench.leaderboard.submissions.submission import Submission, read_submission
from sharpbench.leaderboard.submissions.verdict import VERDICTS_SUFFIX, read_folder_verdicts

STATES = ("refuted", "refuted before", "claimed", "verified")
"""From the worst to the best; the second is a claim where another one of the same measure was refuted, unanswered."""


@dataclass(frozen=True, slots=True)
class SubmittedEntry:
    """A submission and its standing.

    doubts: labels and families of populations where a refutation of other claims is not answered. others: name of
    another entry -> how many of the cells here have the same value there, and how many another one on the same network.
    """

    submission: Submission
    standing: SubmissionStatus
    doubts: frozenset[tuple[str, str]] = frozenset()
    others: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Also that of its file and of its collection."""
        return self.submission.manifest.name

    @property
    def states(self) -> dict[str, str]:
        """Of STATES: where each measure of it stands, the worst over its populations."""
        held = {(record.label, population_name(record)) for record in self.submission.records}
        found: dict[str, str] = {}
        for label, of in sorted(held):
            if label in self.standing.measures:
                found[label] = min(self.state(label, of), found.get(label, "verified"), key=STATES.index)
        return found

    def state(self, label: str, population: str) -> str:
        """Of STATES: where a measure of it stands on a population, 'model on data set'."""
        state = self.standing.measures.get(label, "claimed")
        return (
            "refuted before" if state == "claimed" and (label, population_family(population)) in self.doubts else state
        )


@dataclass(frozen=True, slots=True)
class Submitted:
    """All entries, by name, and the refutations of what nobody claims any more."""

    entries: tuple[SubmittedEntry, ...] = ()
    past: tuple[PastRefutation, ...] = ()


NO_SUBMISSIONS = Submitted()


def read_submitted(folder: Path) -> Submitted:
    """What stands in `folder`; nothing where it is not there. Raises InvalidInput with file and line.

    Verdicts count for every entry that makes the claims that they are about; those of submissions that were taken away
    stay, and count as well.
    """
    if not folder.is_dir():
        return Submitted()
    paths = sorted(folder.iterdir())
    for path in paths:
        if not path.name.endswith(SUFFIX) or not stat.S_ISREG(path.lstat().st_mode):
            raise InvalidInput(
                f"{path} is no submission; only NAME{SUFFIX} and NAME{VERDICTS_SUFFIX} stand in {folder}"
            )
    verdicts = [verdict for of_one in read_folder_verdicts(folder).values() for verdict in of_one]
    submissions = [_submission(path) for path in paths if not path.name.endswith(VERDICTS_SUFFIX)]
    before = list_past_refutations(submissions, verdicts)
    doubts = frozenset((each.label, population_family(each.population)) for each in before)
    return Submitted(
        tuple(
            SubmittedEntry(each, submission_status(each, verdicts), doubts, dict(_compare_entries(each, submissions)))
            for each in submissions
        ),
        before,
    )


def _submission(path: Path) -> Submission:
    submission, witness = read_submission(path), ConsistencyCheck()
    for number, record in enumerate(submission.records, start=2):
        witness.check(record, f"{path}:{number}")
    return submission


def _compare_entries(submission: Submission, every: Sequence[Submission]) -> Iterator[tuple[str, tuple[int, int]]]:
    """See Entry.others; those without a cell in common are left out."""
    mine = {record.key: record for record in submission.records if record.status == "ok"}
    for other in every:
        theirs = [record for record in other.records if record.status == "ok" and record.key in mine]
        if other is submission or not theirs:
            continue
        equal = [record for record in theirs if record.value == mine[record.key].value]
        apart = [record for record in theirs if contradicts(record, mine[record.key])]
        if equal or apart:
            yield other.manifest.name, (len(equal), len(apart))


def entry_collections(
    found: Sequence[SubmittedEntry], published: Sequence[Collection]
) -> tuple[tuple[SubmittedEntry, Collection], ...]:
    """An entry as a collection beside the `published` ones. What was refuted is left out where others measured it.

    Raises InvalidInput where an entry has the name of a published collection.
    """
    taken = {collection.name for collection in published}
    known = {record.label for collection in published for record in collection.records}
    collections = []
    for entry in found:
        if entry.name in taken:
            raise InvalidInput(f"submission '{entry.name}' has the name of a published collection; rename it")
        refuted = set(entry.standing.refutations) & known
        kept = tuple(record for record in entry.submission.records if record.label not in refuted)
        if kept:
            collections.append((entry, Collection(entry.name, kept, 0)))
    return tuple(collections)
