"""Entries: submissions with what verifications found, on pages of their own and beside the measures that they name."""

from __future__ import annotations

import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from markupsafe import Markup

from sharpbench.errors import InvalidInput
from sharpbench.leaderboard.collection import Collection
from sharpbench.leaderboard.integrity import Witness
from sharpbench.report.markup import cell, table
from sharpbench.report.page import Page, Section
from sharpbench.report.text import error
from sharpbench.submissions.claim import contradict, family, population
from sharpbench.submissions.manifest import SUFFIX
from sharpbench.submissions.standing import Past, Refutation, Standing, past, standing
from sharpbench.submissions.submission import Submission, read
from sharpbench.submissions.verdict import VERDICTS, verdicts_in

PAGE = "submissions.md"
STATES = ("refuted", "refuted before", "claimed", "verified")
"""From the worst to the best; the second is a claim where another one of the same measure was refuted, unanswered."""
READING = (
    "Results that others sent ([how](../docs/submissions.md)). **verified**: values of the entry were recomputed, and "
    "every one that could be compared agrees. **claimed**: none could be compared so far. **refuted**: a value, or "
    "what is said of a network, differs by more than its bound: whoever claims it again, in whatever file, is refuted, "
    "too. **refuted before**: another value of this measure on this population was refuted, and no entry that agreed "
    "has answered it.\n\n"
    "*compared*: values that agree, of all, and values on networks that train to others on the verifying machine, "
    "where nothing can be told value by value; *gaps* of networks, *oracles* (what values should be) and records with "
    "factors of change (*invariance*) that agree, of all. Never verified, and the submitter's word alone: seconds, "
    "gradients and memory, why a cell has no value, which networks are one population and whether they were drawn."
)
BEFORE = (
    "Refuted, and claimed by no submission any more; the worst of each measure on each population, until an entry has "
    "another value there that agrees. The file is in the history of this repository."
)


@dataclass(frozen=True, slots=True)
class Entry:
    """A submission and its standing.

    doubts: labels and families of populations where a refutation of other claims is not answered. others: name of
    another entry -> how many of the cells here have the same value there, and how many another one on the same network.
    """

    submission: Submission
    standing: Standing
    doubts: frozenset[tuple[str, str]] = frozenset()
    others: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Also that of its file and of its collection."""
        return self.submission.manifest.name

    def state(self, label: str, population: str) -> str:
        """Of STATES: where a measure of it stands on a population, 'model on data set'."""
        state = self.standing.measures.get(label, "claimed")
        return "refuted before" if state == "claimed" and (label, family(population)) in self.doubts else state


@dataclass(frozen=True, slots=True)
class Submitted:
    """All entries, by name, and the refutations of what nobody claims any more."""

    entries: tuple[Entry, ...] = ()
    past: tuple[Past, ...] = ()


NOTHING = Submitted()


def submitted(folder: Path) -> Submitted:
    """What stands in `folder`; nothing where it is not there. Raises InvalidInput with file and line.

    Verdicts count for every entry that makes the claims that they are about; those of submissions that were taken away
    stay, and count as well.
    """
    if not folder.is_dir():
        return Submitted()
    paths = sorted(folder.iterdir())
    for path in paths:
        if not path.name.endswith(SUFFIX) or not stat.S_ISREG(path.lstat().st_mode):
            raise InvalidInput(f"{path} is no submission; only NAME{SUFFIX} and NAME{VERDICTS} stand in {folder}")
    verdicts = [verdict for of_one in verdicts_in(folder).values() for verdict in of_one]
    submissions = [_submission(path) for path in paths if not path.name.endswith(VERDICTS)]
    before = past(submissions, verdicts)
    doubts = frozenset((each.label, family(each.population)) for each in before)
    return Submitted(
        tuple(Entry(each, standing(each, verdicts), doubts, dict(_others(each, submissions))) for each in submissions),
        before,
    )


def _submission(path: Path) -> Submission:
    submission, witness = read(path), Witness()
    for number, record in enumerate(submission.records, start=2):
        witness.check(record, f"{path}:{number}")
    return submission


def _others(submission: Submission, every: Sequence[Submission]) -> Iterator[tuple[str, tuple[int, int]]]:
    """See Entry.others; those without a cell in common are left out."""
    mine = {record.key: record for record in submission.records if record.status == "ok"}
    for other in every:
        theirs = [record for record in other.records if record.status == "ok" and record.key in mine]
        if other is submission or not theirs:
            continue
        equal = [record for record in theirs if record.value == mine[record.key].value]
        apart = [record for record in theirs if contradict(record, mine[record.key])]
        if equal or apart:
            yield other.manifest.name, (len(equal), len(apart))


def collected(found: Sequence[Entry], published: Sequence[Collection]) -> tuple[tuple[Entry, Collection], ...]:
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


def page(found: Submitted) -> Page:
    """All entries: a table, and what was refuted in each; and what was refuted before."""
    sections = [Section("", (READING, _table(found.entries)))]
    sections += [Section(str(cell(entry.name, 64)), tuple(_told(entry))) for entry in found.entries]
    if found.past:
        lines = "\n".join(f"- {cell(each.label)}, {_past(each)}" for each in found.past)
        sections.append(Section("Refuted before", (BEFORE, lines)))
    return Page("Submissions", tuple(sections))


def section(found: Submitted, measure: str) -> Section | None:
    """What entries say of a measure, for its page; the worst refutation first. None where no entry has it."""
    lines: list[tuple[float, str]] = []
    for entry in found.entries:
        labels = dict.fromkeys(record.label for record in entry.submission.records if record.measure == measure)
        for label in labels:
            refutation = entry.standing.refutations.get(label)
            if refutation is not None:
                lines.append((-refutation.excess, f"- {cell(label)}, {_refuted(entry, refutation)}"))
            elif label in entry.standing.measures:
                lines.append((1.0, f"- {cell(label)}: {entry.standing.measures[label]} in {cell(entry.name, 64)}"))
    for each in found.past:
        if each.label.partition("[")[0] == measure:
            lines.append((-each.refutation.excess, f"- {cell(each.label)}, {_past(each)}"))
    if not lines:
        return None
    words = "[Submissions](../submissions.md) with this measure, the worst refutation first:"
    return Section("Submissions", (words, "\n".join(line for _, line in sorted(lines))))


def _table(found: Sequence[Entry]) -> Markup:
    header = ["submission", "by", "measures", "networks", "state", "compared", "last verified"]
    header += ["gaps", "oracles", "invariance"]
    rows = []
    for entry in found:
        manifest, stands = entry.submission.manifest, entry.standing
        networks = len({str(sorted(record.recipe.items())) for record in entry.submission.records})
        compared = f"{stands.agreed} of {stands.cells}" + (f", {stands.parted} parted" if stands.parted else "")
        when = stands.last[:10] if stands.last is not None else "-"
        names = [str(cell(entry.name, 64)), str(cell(manifest.author or "-", 60))]
        beside = [f"{each.agreed} of {each.claimed}" for each in (stands.networks, stands.exact, stands.invariance)]
        state = "refuted before" if stands.state == "claimed" and _doubted(entry) else stands.state
        shown = [str(len(stands.measures)), str(networks), state, compared, str(cell(when, 10)), *beside]
        rows.append([*names, *shown])
    return table(header, rows, {2, 3})


def _doubted(entry: Entry) -> bool:
    return any((record.label, family(population(record))) in entry.doubts for record in entry.submission.records)


def _told(entry: Entry) -> Iterator[str]:
    """Paragraphs: who, which measures stand where, refutations."""
    manifest = entry.submission.manifest
    given = {"contact": manifest.contact, "address": manifest.url, "note": manifest.note}
    told = [f"- {what}: {cell(text, 300)}" for what, text in given.items() if text]
    origins = dict.fromkeys(manifest.measures.values())
    told.append(f"- made with {', '.join(str(cell(origin, 100)) for origin in origins)}")
    for state in STATES:
        labels = [label for label, its in entry.standing.measures.items() if its == state]
        if labels:
            told.append(f"- {state}: {', '.join(str(cell(label)) for label in labels)}")
    for name, (equal, apart) in entry.others.items():
        if equal:
            told.append(f"- {equal} values are the same to the last digit in {cell(name, 64)}")
        if apart:
            told.append(f"- {apart} values are others in {cell(name, 64)}, of the same cells on the same networks")
    yield "\n".join(told)
    worst = sorted(entry.standing.refutations.items(), key=lambda item: (-item[1].excess, item[0]))
    if worst:
        yield "\n".join(f"- {cell(label)}, {_refuted(entry, refutation)}" for label, refutation in worst)


def _refuted(entry: Entry, refutation: Refutation) -> str:
    """What differs, by how much, and how to see it again."""
    key = refutation.finding.key[:16]
    again = f"`sharpbench verify leaderboard/submissions/{entry.name}{SUFFIX} --cell {key}`"
    return f"refuted in {cell(entry.name, 64)} {_differs(refutation)} ({cell(refutation.time[:10], 10)}; {again})"


def _past(each: Past) -> str:
    """The same of what nobody claims any more."""
    refutation = each.refutation
    where = f"{cell(refutation.time[:10], 10)}; cell {refutation.finding.key[:16]} of SHA-256 {refutation.sha256[:16]}"
    return f"refuted before in {cell(refutation.name, 64)} {_differs(refutation)} ({where})"


def _differs(refutation: Refutation) -> str:
    finding = refutation.finding
    what = "" if finding.what == "value" else f"{cell(finding.what, 40)} "
    head = f"on {cell(finding.network, 120)}: {what}"
    if finding.claimed is None or finding.found is None or finding.bound is None:
        claimed = "" if finding.claimed is None else f"{finding.claimed:.6g} claimed, none found: "
        return f"{head}{claimed}{cell(finding.reason, 200)}"
    apart = abs(finding.found - finding.claimed)
    numbers = f"{finding.claimed:.6g} claimed, {finding.found:.6g} found"
    return f"{head}{numbers}, {error(apart)} apart where {error(finding.bound)} is allowed"
