"""Submissions with the results of their verification, as collections for the leaderboard."""

from __future__ import annotations

import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from sharpbench.analysis.population import network_key
from sharpbench.core.record import Record
from sharpbench.errors import InvalidInput
from sharpbench.leaderboard.collection import Collection, ConsistencyCheck
from sharpbench.leaderboard.submissions.claims import RowKey, contradicts, population_family, row_key
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
"""From the worst to the best. A claim is `refuted before` if an earlier claim of its measure was refuted and no entry
answered that."""


@dataclass(frozen=True, slots=True)
class SubmittedEntry:
    """A submission and its status.

    Args:
        doubts: Labels and families of populations where the refutation of another claim was not answered.
        others: Name of another entry -> how many cells of this one have the same value there, and how many have
            another value on the same network.
    """

    submission: Submission
    status: SubmissionStatus
    doubts: frozenset[tuple[str, str]] = frozenset()
    others: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The name of the submission, of its file and of its collection."""
        return self.submission.manifest.name

    @property
    def states(self) -> dict[str, str]:
        """Label -> the worst state of the measure over its populations, one of STATES."""
        found: dict[str, str] = {}
        for row in sorted(self.status.rows):
            found[row[0]] = min(self.state(row), found.get(row[0], "verified"), key=STATES.index)
        return found

    def state(self, row: RowKey) -> str:
        """The state, one of STATES, of a row of a board: of a measure on a population in one setting."""
        status = self.status.rows.get(row)
        state = "claimed" if status is None else status.state
        doubted = state == "claimed" and (row[0], population_family(row[1])) in self.doubts
        return "refuted before" if doubted else state

    def describe_row(self, row: RowKey) -> str:
        """The state of a row with the share of its values that agreed, as in 'verified 22 of 24'."""
        state, status = self.state(row), self.status.rows.get(row)
        if status is None or not status.agreed:
            return state
        return f"{state} {status.share}" if state == "verified" else f"{state}, {status.share} agree"

    def published_records(self) -> tuple[Record, ...]:
        """The records for the boards: of a verified row only those whose value agreed, with the value that was found.

        Values that agree differ by rounding, and for a measure that hardly varies claims could choose the order within
        it. The other networks of a verified row leave its whole population, so that all rows there are on the same
        networks. So do networks on which no value agreed, such as those of failed records only: nothing verifies
        their gaps, which the baselines next to a verified row would show.
        """
        verified = {row for row, status in self.status.rows.items() if status.state == "verified"}
        places = {row[1:4] for row in verified}  # population, device and data
        agreed = {network_key(r) for r in self.submission.records if r.key in self.status.agreed_values}
        shown, left_out = [], set()
        for record in self.submission.records:
            row, network = row_key(record), network_key(record)
            counts = row in verified and record.status == "ok"
            found = self.status.agreed_values.get(record.key)
            if (counts and found is None) or (row[1:4] in places and network not in agreed):
                left_out.add((row[1], network))
            shown.append((row[1], network, replace(record, value=found) if counts and found is not None else record))
        return tuple(record for population, network, record in shown if (population, network) not in left_out)


@dataclass(frozen=True, slots=True)
class Submitted:
    """All entries, by name, and the refutations of claims that no entry makes any more."""

    entries: tuple[SubmittedEntry, ...] = ()
    past: tuple[PastRefutation, ...] = ()


NO_SUBMISSIONS = Submitted()


def read_submitted(folder: Path) -> Submitted:
    """The submissions in `folder`; none where it does not exist. Hidden files (.DS_Store, drafts) do not count.

    A verdict counts for every entry that makes the claim that it is about. Verdicts on submissions that were removed
    also count.

    Raises:
        InvalidInput: for a file that is not sound, with its line.
    """
    if not folder.is_dir():
        return Submitted()
    paths = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    for path in paths:
        if not path.name.endswith(SUFFIX) or not stat.S_ISREG(path.lstat().st_mode):
            raise InvalidInput(
                f"{path} is not a submission; {folder} may hold only NAME{SUFFIX} and NAME{VERDICTS_SUFFIX}"
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
    submission, consistency = read_submission(path), ConsistencyCheck()
    for number, record in enumerate(submission.records, start=2):
        consistency.check(record, f"{path}:{number}")
    return submission


def _compare_entries(submission: Submission, every: Sequence[Submission]) -> Iterator[tuple[str, tuple[int, int]]]:
    """`SubmittedEntry.others`, without entries that have no cell in common."""
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
    """The entries as collections, without refuted measures that a `published` collection has.

    Networks of a verified row on which no value agreed are left out, see `SubmittedEntry.published_records`.

    Raises:
        InvalidInput: where an entry has the name of a published collection.
    """
    taken = {collection.name for collection in published}
    known = {record.label for collection in published for record in collection.records}
    collections = []
    for entry in found:
        if entry.name in taken:
            raise InvalidInput(f"submission '{entry.name}' has the name of a published collection; rename it")
        refuted = set(entry.status.refutations) & known
        kept = tuple(record for record in entry.published_records() if record.label not in refuted)
        if kept:
            collections.append((entry, Collection(entry.name, kept, 0)))
    return tuple(collections)
