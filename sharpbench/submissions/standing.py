"""Standing: the state of a submission after all verdicts on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sharpbench.submissions.submission import Submission
from sharpbench.submissions.verdict import Finding, State, Verdict


@dataclass(frozen=True, slots=True)
class Refutation:
    """A number that differs: the finding, where it was found, and by how many times its bound."""

    finding: Finding
    time: str
    excess: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """agreed, parted: cells of the submission whose value agreed, or could not be compared, in some verdict.

    measures: label -> its state. refutations: label -> the worst one; what a network's truth refutes counts for every
    measure on that network. earlier: verdicts on another content of the file, which do not count.
    """

    state: State
    cells: int
    agreed: int
    parted: int
    measures: Mapping[str, State]
    refutations: Mapping[str, Refutation]
    earlier: int


def standing(submission: Submission, verdicts: Sequence[Verdict]) -> Standing:
    """Where a submission stands: refuted once any verdict on this very file refuted it, else verified once one did.

    Later verdicts that agree take nothing back; another file under the name begins anew.
    """
    counted = [each for each in verdicts if each.sha256 == submission.sha256 and each.name == submission.manifest.name]
    labels = {record.key: record.label for record in submission.records if record.status == "ok"}
    findings = [(each, verdict.time) for verdict in counted for each in verdict.findings if each.key in labels]
    values = [each for each, _ in findings if each.what == "value"]
    agreed = {each.key for each in values if each.outcome == "agrees"}
    parted = {each.key for each in values if each.outcome == "parted"} - agreed
    refutations = _worst([(each, time) for each, time in findings if each.outcome == "differs"], submission)
    measures: dict[str, State] = {}
    for key, label in labels.items():
        state: State = "refuted" if label in refutations else "verified" if key in agreed else "claimed"
        if measures.get(label, "claimed") == "claimed":
            measures[label] = state
    return Standing(
        state="refuted" if refutations else "verified" if agreed else "claimed",
        cells=len(labels),
        agreed=len(agreed),
        parted=len(parted),
        measures=measures,
        refutations=refutations,
        earlier=len(verdicts) - len(counted),
    )


def _worst(found: Sequence[tuple[Finding, str]], submission: Submission) -> dict[str, Refutation]:
    """Label -> the refutation that lies furthest beyond its bound."""
    recipes = {record.key: record.recipe for record in submission.records}
    worst: dict[str, Refutation] = {}
    for finding, time in found:
        refutation = Refutation(finding, time, _excess(finding))
        same = [r.label for r in submission.records if r.status == "ok" and r.recipe == recipes[finding.key]]
        for label in dict.fromkeys([finding.label] if finding.what == "value" else same):
            if label not in worst or worst[label].excess < refutation.excess:
                worst[label] = refutation
    return worst


def _excess(finding: Finding) -> float:
    return abs(finding.difference or 0.0) / finding.bound if finding.bound else float("inf")
