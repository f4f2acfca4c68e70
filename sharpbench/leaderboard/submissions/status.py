"""Standing: the state of a submission after all verdicts on what it claims, in whatever file that stood."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from sharpbench.leaderboard.submissions import claims
from sharpbench.leaderboard.submissions.submission import Submission
from sharpbench.leaderboard.submissions.verdict import INVARIANCE_PREFIX, Finding, State, Verdict


@dataclass(frozen=True, slots=True)
class Refutation:
    """A number that differs: the finding, in which file (its name and hash), when, and by how many times its bound."""

    finding: Finding
    name: str
    sha256: str
    time: str
    excess: float


@dataclass(frozen=True, slots=True)
class ComparedCount:
    """Of the numbers of one kind that a submission claims, how many agreed in some verdict."""

    agreed: int
    claimed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmissionStatus:
    """cells: with a value; agreed, parted: those whose value agreed, or could not be compared, in some verdict.

    measures: label -> its state. refutations: label -> the worst one; what a network's truth refutes counts for every
    measure on that network. networks, exact, invariance: gaps, oracles' values and records with factors of change that
    agreed. last: time of the last verdict that speaks of the submission.
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


@dataclass(frozen=True, slots=True)
class PastRefutation:
    """The worst refutation of a measure on a population, of claims that no submission makes any more; not answered."""

    label: str
    population: str
    refutation: Refutation


def submission_status(submission: Submission, verdicts: Iterable[Verdict]) -> SubmissionStatus:
    """Where a submission stands: refuted once any verdict refuted a claim that it makes, else verified once one did.

    verdicts: all that there are, of every name: a verdict is about claims, and another title, file or name for the same
    numbers changes nothing. Later verdicts that agree take nothing back.
    """
    book = _Claims(submission)
    found = [(finding, verdict) for verdict in verdicts for finding in verdict.findings if book.holds(finding)]
    agreed = {(each.what, each.claim) for each, _ in found if each.outcome == "agrees"}
    parted = {each.claim for each, _ in found if (each.what, each.outcome) == ("value", "parted")}
    refutations = book.worst(found)
    values = [book.claims[record.key] for record in book.records]
    measures: dict[str, State] = {}
    for record in book.records:
        known = ("value", book.claims[record.key]) in agreed
        state: State = "refuted" if record.label in refutations else "verified" if known else "claimed"
        if measures.get(record.label, "claimed") == "claimed":
            measures[record.label] = state
    counted = sum(("value", value) in agreed for value in values)
    return SubmissionStatus(
        state="refuted" if refutations else "verified" if counted else "claimed",
        cells=len(values),
        agreed=counted,
        parted=sum(value in parted and ("value", value) not in agreed for value in values),
        networks=_count_compared(agreed, "gap", set(book.networks.values())),
        exact=_count_compared(agreed, "exact", {book.claims[r.key] for r in book.records if r.exact is not None}),
        invariance=_count_compared(
            agreed, INVARIANCE_PREFIX, {book.claims[r.key] for r in book.records if r.invariance}
        ),
        measures=measures,
        refutations=refutations,
        last=max((verdict.time for _, verdict in found), default=None),
    )


def list_past_refutations(submissions: Sequence[Submission], verdicts: Sequence[Verdict]) -> tuple[PastRefutation, ...]:
    """Refutations of what nobody claims any more, the worst of each measure on each population.

    One is answered where a submission has another value of the same cell, or another truth of the same network, that
    agreed, of a measure that nothing refutes there.
    """
    books = [(_Claims(each), submission_status(each, verdicts)) for each in submissions]
    agreed = {(f.what, f.claim) for verdict in verdicts for f in verdict.findings if f.outcome == "agrees"}
    answers = {place for book, stands in books for place in book.answers(agreed, stands)}
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
    """The places of all that was ever refuted."""
    return frozenset(f.place for verdict in verdicts for f in verdict.findings if f.outcome == "differs")


class _Claims:
    """What a submission claims: of cells with a value, and of their networks."""

    def __init__(self, submission: Submission) -> None:
        self.records = [record for record in submission.records if record.status == "ok"]
        self.claims = {record.key: claims.hash_cell_claim(record) for record in self.records}
        self.networks = {record.key: claims.hash_network_claim(record) for record in self.records}
        self._held = {*self.claims.values(), *self.networks.values()}

    def holds(self, finding: Finding) -> bool:
        """Whether the finding is about a claim of this submission."""
        return finding.claim in self._held

    def worst(self, found: Sequence[tuple[Finding, Verdict]]) -> dict[str, Refutation]:
        """Label -> the refutation that lies furthest beyond its bound, with the key of a cell here that shows it."""
        labels: dict[str, dict[str, str]] = {}
        for record in self.records:
            for told in (self.claims[record.key], self.networks[record.key]):
                labels.setdefault(told, {}).setdefault(record.label, record.key)
        worst: dict[str, Refutation] = {}
        for finding, verdict in found:
            for label, key in labels[finding.claim].items() if finding.outcome == "differs" else ():
                refutation = _refutation(replace(finding, key=key), verdict)
                if label not in worst or worst[label].excess < refutation.excess:
                    worst[label] = refutation
        return worst

    def answers(self, agreed: set[tuple[str, str]], stands: SubmissionStatus) -> Iterator[str]:
        """The places of cells and networks of which something that agreed stands here, of measures not refuted."""
        for record in self.records:
            if stands.measures[record.label] == "refuted":
                continue
            if ("value", self.claims[record.key]) in agreed:
                yield claims.hash_cell(record)
            if ("gap", self.networks[record.key]) in agreed:
                yield claims.hash_network(record)


def _count_compared(agreed: set[tuple[str, str]], what: str, claims: set[str]) -> ComparedCount:
    reached = {told for name, told in agreed if name.startswith(what)}
    return ComparedCount(len(claims & reached), len(claims))


def _refutation(finding: Finding, verdict: Verdict) -> Refutation:
    excess = abs(finding.difference or 0.0) / finding.bound if finding.bound else float("inf")
    return Refutation(finding, verdict.name, verdict.sha256, verdict.time, excess)
