"""The status of a submission after all verdicts on its claims, whichever file made them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from sharpbench.core.record import Record
from sharpbench.errors import truncate
from sharpbench.leaderboard.submissions import claims
from sharpbench.leaderboard.submissions.submission import Submission
from sharpbench.leaderboard.submissions.verdict import (
    INVARIANCE_PREFIX,
    MAX_TEXT_CHARS,
    Finding,
    State,
    Verdict,
    is_verified_share,
)


@dataclass(frozen=True, slots=True)
class Refutation:
    """A number that differs: the finding, the name and hash of the file, the time, and the excess over its bound."""

    finding: Finding
    name: str
    sha256: str
    time: str
    excess: float


@dataclass(frozen=True, slots=True)
class ComparedCount:
    """The number of claims of one kind in a submission, and of those that agreed in some verdict."""

    agreed: int
    claimed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RowStatus:
    """The state of one row of a board: of a measure on one population in one setting.

    Args:
        state: 'refuted' if the measure is refuted; 'verified' if every value was drawn and MIN_VERIFIED_SHARE of them
            agreed; else 'claimed'.
        cells: Values of the row.
        agreed: Values that agreed in some verdict. Only these cells are in a verified row.
        parted: Other values, on networks that trained to other networks.
        unknown: Other values that could not be recomputed.
    """

    state: State
    cells: int
    agreed: int
    parted: int
    unknown: int

    @property
    def share(self) -> str:
        """The number of values that agreed, of all.

        >>> RowStatus(state="verified", cells=24, agreed=22, parted=2, unknown=0).share
        '22 of 24'
        """
        return f"{self.agreed} of {self.cells}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmissionStatus:
    """The state of a submission, and the counts behind it.

    Args:
        cells: Cells with a value.
        agreed: Cells whose value agreed in some verdict.
        parted: Other cells whose network trained to another one in some verdict.
        networks, exact, invariance: Gaps, oracles' values, and records with factors of change.
        rows: Row, see `claims.row_key` -> its state and the share that was compared.
        agreed_values: The key of each cell whose value agreed -> the value that the first such verdict found.
        measures: Label -> the worst state of its rows.
        refutations: Label -> the worst refutation. A refuted truth of a network counts for every measure on it.
        last: The time of the last verdict on a claim of the submission.
    """

    state: State
    cells: int
    agreed: int
    parted: int
    networks: ComparedCount
    exact: ComparedCount
    invariance: ComparedCount
    measures: Mapping[str, State]
    refutations: Mapping[str, Refutation]
    last: str | None
    rows: Mapping[claims.RowKey, RowStatus] = field(default_factory=dict)
    agreed_values: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PastRefutation:
    """The worst unanswered refutation of a measure on a population, of claims that no submission makes any more."""

    label: str
    population: str
    refutation: Refutation


def submission_status(submission: Submission, verdicts: Iterable[Verdict]) -> SubmissionStatus:
    """The status of a submission: refuted if any verdict refuted one of its claims; else verified if every row is.

    Later verdicts that agree do not take back a refutation.

    Args:
        verdicts: All verdicts, on submissions of every name: a verdict is about claims, so another name or file for the
            same numbers changes nothing.
    """
    book = _Claims(submission)
    found = [(finding, verdict) for verdict in verdicts for finding in verdict.findings if book.holds(finding)]
    agreed = {(each.what, each.claim) for each, _ in found if each.outcome == "agrees"}
    values = book.agreed_values(found)
    other = {
        outcome: {each.claim for each, _ in found if (each.what, each.outcome) == ("value", outcome)}
        for outcome in ("parted", "unknown")
    }
    refutations = book.worst(found)
    rows = {row: _row_status(cells, book, values, other, refutations) for row, cells in book.rows.items()}
    return SubmissionStatus(
        state="refuted" if refutations else _worst_state(row.state for row in rows.values()),
        cells=len(book.records),
        agreed=len(values),
        parted=sum(row.parted for row in rows.values()),
        networks=_count_compared(agreed, "gap", set(book.networks.values())),
        exact=_count_compared(agreed, "exact", {book.claims[r.key] for r in book.records if r.exact is not None}),
        invariance=_count_compared(
            agreed, INVARIANCE_PREFIX, {book.claims[r.key] for r in book.records if r.invariance}
        ),
        measures={
            label: _worst_state(status.state for row, status in rows.items() if row[0] == label)
            for label in dict.fromkeys(record.label for record in book.records)
        },
        refutations=refutations,
        last=max((verdict.time for _, verdict in found), default=None),
        rows=rows,
        agreed_values=values,
    )


def _row_status(
    cells: Sequence[Record],
    book: _Claims,
    values: Mapping[str, float],
    other: Mapping[str, set[str]],
    refutations: Mapping[str, Refutation],
) -> RowStatus:
    rest = {book.claims[record.key] for record in cells if record.key not in values}
    parted, unknown = rest & other["parted"], rest & other["unknown"] - other["parted"]
    agreeing, drawn = len(cells) - len(rest), len(cells) - len(rest - parted - unknown)
    verified = drawn == len(cells) and is_verified_share(agreeing, len(cells))
    return RowStatus(
        state="refuted" if cells[0].label in refutations else "verified" if verified else "claimed",
        cells=len(cells),
        agreed=agreeing,
        parted=len(parted),
        unknown=len(unknown),
    )


def _worst_state(states: Iterable[State]) -> State:
    order: tuple[State, ...] = ("refuted", "claimed", "verified")
    return min(states, key=order.index, default="claimed")


def list_past_refutations(submissions: Sequence[Submission], verdicts: Sequence[Verdict]) -> tuple[PastRefutation, ...]:
    """Refutations of claims that no submission makes any more, the worst of each measure on each population.

    A refutation is answered, and left out, where a submission has another value of the same cell, or another truth of
    the same network, that agreed, for a measure that is not refuted in it.
    """
    books = [(_Claims(each), submission_status(each, verdicts)) for each in submissions]
    agreed = {(f.what, f.claim) for verdict in verdicts for f in verdict.findings if f.outcome == "agrees"}
    answers = {place for book, status in books for place in book.answers(agreed, status)}
    worst: dict[tuple[str, str], PastRefutation] = {}
    for verdict in verdicts:
        for finding in verdict.findings:
            if finding.outcome != "differs" or finding.place in answers or any(b.holds(finding) for b, _ in books):
                continue
            found = PastRefutation(finding.label, finding.population, _refutation(finding, verdict))
            kept = worst.setdefault((found.label, found.population), found)
            if kept.refutation.excess < found.refutation.excess:
                worst[found.label, found.population] = found
    return tuple(worst[place] for place in sorted(worst))


def refuted_places(verdicts: Iterable[Verdict]) -> frozenset[str]:
    """The hashes of all cells and networks that were ever refuted."""
    return frozenset(f.place for verdict in verdicts for f in verdict.findings if f.outcome == "differs")


class _Claims:
    """The claims of a submission on cells with a value and on their networks."""

    def __init__(self, submission: Submission) -> None:
        self.records = [record for record in submission.records if record.status == "ok"]
        self.claims = {record.key: claims.hash_cell_claim(record) for record in self.records}
        self.networks = {record.key: claims.hash_network_claim(record) for record in self.records}
        self.rows: dict[claims.RowKey, list[Record]] = {}
        for record in self.records:
            self.rows.setdefault(claims.row_key(record), []).append(record)
        self._held = {*self.claims.values(), *self.networks.values()}

    def holds(self, finding: Finding) -> bool:
        """Whether the finding is about a claim of this submission."""
        return finding.claim in self._held

    def agreed_values(self, found: Sequence[tuple[Finding, Verdict]]) -> dict[str, float]:
        """The key of each cell whose value agreed under its label -> the value that the earliest such verdict found.

        A refutation holds under every label: claims could be relabelled to escape it, and agreement to mislead.
        """
        values: dict[tuple[str, str], float] = {}
        for each, _ in sorted(found, key=lambda pair: pair[1].time):
            if (each.what, each.outcome) == ("value", "agrees") and each.found is not None:
                values.setdefault((each.claim, each.label), each.found)
        marks = {r.key: (self.claims[r.key], truncate(r.label, MAX_TEXT_CHARS)) for r in self.records}
        return {key: values[mark] for key, mark in marks.items() if mark in values}

    def worst(self, found: Sequence[tuple[Finding, Verdict]]) -> dict[str, Refutation]:
        """Label -> the refutation with the largest excess, with the key of a cell here that shows it."""
        labels: dict[str, dict[str, str]] = {}
        for record in self.records:
            for claim in (self.claims[record.key], self.networks[record.key]):
                labels.setdefault(claim, {}).setdefault(record.label, record.key)
        worst: dict[str, Refutation] = {}
        for finding, verdict in found:
            for label, key in labels[finding.claim].items() if finding.outcome == "differs" else ():
                refutation = _refutation(replace(finding, key=key), verdict)
                if label not in worst or worst[label].excess < refutation.excess:
                    worst[label] = refutation
        return worst

    def answers(self, agreed: set[tuple[str, str]], status: SubmissionStatus) -> Iterator[str]:
        """The hashes of cells and networks with a claim here that agreed, for measures that are not refuted."""
        for record in self.records:
            if status.measures[record.label] == "refuted":
                continue
            if ("value", self.claims[record.key]) in agreed:
                yield claims.hash_cell(record)
            if ("gap", self.networks[record.key]) in agreed:
                yield claims.hash_network(record)


def _count_compared(agreed: set[tuple[str, str]], what: str, claims: set[str]) -> ComparedCount:
    reached = {claim for name, claim in agreed if name.startswith(what)}
    return ComparedCount(len(claims & reached), len(claims))


def _refutation(finding: Finding, verdict: Verdict) -> Refutation:
    excess = abs(finding.difference or 0.0) / finding.bound if finding.bound else float("inf")
    return Refutation(finding, verdict.name, verdict.sha256, verdict.time, excess)
