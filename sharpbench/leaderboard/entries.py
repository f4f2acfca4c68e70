"""Entries: submissions with what verifications found, on pages of their own and beside the measures that they name."""

from __future__ import annotations

import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from sharpbench.errors import InvalidInput
from sharpbench.leaderboard.collection import Collection
from sharpbench.leaderboard.integrity import Witness
from sharpbench.report.markup import cell, table
from sharpbench.report.page import Page, Section
from sharpbench.report.text import error
from sharpbench.submissions.manifest import SUFFIX
from sharpbench.submissions.standing import Refutation, Standing, standing
from sharpbench.submissions.submission import Submission, read
from sharpbench.submissions.verdict import VERDICTS, Verdict, read_verdicts, verdicts_path

PAGE = "submissions.md"
STATES = ("refuted", "claimed", "verified")
"""From the worst to the best."""
READING = (
    "Results that others sent ([how](../docs/submissions.md)). **verified**: values of the entry were recomputed, and "
    "every one that could be compared agrees. **claimed**: none could be compared so far. **refuted**: a value, or "
    "what is said of a network, differs by more than its bound; the entry stays so until another file takes its place. "
    "*compared*: values that agree, of all, and values on networks that train to others on the verifying machine, "
    "where nothing can be told value by value."
)


@dataclass(frozen=True, slots=True)
class Entry:
    """A submission, its standing, and the last verdict on this very file."""

    submission: Submission
    standing: Standing
    last: Verdict | None

    @property
    def name(self) -> str:
        """Also that of its file and of its collection."""
        return self.submission.manifest.name


def entries(folder: Path) -> tuple[Entry, ...]:
    """The submissions in `folder`, by name; none where it is not there. Raises InvalidInput with file and line."""
    if not folder.is_dir():
        return ()
    paths = sorted(folder.iterdir())
    for path in paths:
        if not path.name.endswith(SUFFIX) or not stat.S_ISREG(path.lstat().st_mode):
            raise InvalidInput(f"{path} is no submission; only NAME{SUFFIX} and NAME{VERDICTS} stand in {folder}")
        submitted = path.with_name(path.name.removesuffix(VERDICTS) + SUFFIX)
        if path.name.endswith(VERDICTS) and not submitted.exists():
            raise InvalidInput(f"{path}: there is no submission of that name; remove it")
    return tuple(_entry(path) for path in paths if not path.name.endswith(VERDICTS))


def _entry(path: Path) -> Entry:
    submission, verdicts = read(path), read_verdicts(verdicts_path(path))
    witness = Witness()
    for number, record in enumerate(submission.records, start=2):
        witness.check(record, f"{path}:{number}")
    counted = [verdict for verdict in verdicts if verdict.sha256 == submission.sha256]
    return Entry(submission, standing(submission, verdicts), counted[-1] if counted else None)


def collected(found: Sequence[Entry], published: Sequence[Collection]) -> tuple[Collection, ...]:
    """The entries as collections beside the `published` ones. What was refuted is left out where others measured it.

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
            collections.append(Collection(entry.name, kept, 0))
    return tuple(collections)


def marks(found: Sequence[Entry], published: Sequence[Collection]) -> dict[str, str]:
    """Label -> the worst state among entries, of labels that nothing published has."""
    known = {record.label for collection in published for record in collection.records}
    states: dict[str, str] = {}
    for entry in found:
        for label, state in entry.standing.measures.items():
            if label not in known:
                states[label] = min(state, states.get(label, "verified"), key=STATES.index)
    return states


def page(found: Sequence[Entry]) -> Page:
    """All entries: a table, and what was refuted in each."""
    sections = [Section("", (READING, _table(found)))]
    sections += [Section(str(cell(entry.name, 64)), tuple(_told(entry))) for entry in found]
    return Page("Submissions", tuple(sections))


def section(found: Sequence[Entry], measure: str) -> Section | None:
    """What entries say of a measure, for its page; the worst refutation first. None where no entry has it."""
    lines: list[tuple[float, str]] = []
    for entry in found:
        labels = dict.fromkeys(record.label for record in entry.submission.records if record.measure == measure)
        for label in labels:
            refutation = entry.standing.refutations.get(label)
            if refutation is not None:
                lines.append((-refutation.excess, f"- {cell(label)}, {_refuted(entry, refutation)}"))
            elif label in entry.standing.measures:
                lines.append((1.0, f"- {cell(label)}: {entry.standing.measures[label]} in {cell(entry.name, 64)}"))
    if not lines:
        return None
    words = "[Submissions](../submissions.md) with this measure, the worst refutation first:"
    return Section("Submissions", (words, "\n".join(line for _, line in sorted(lines))))


def _table(found: Sequence[Entry]) -> Markup:
    header = ["submission", "by", "measures", "networks", "state", "compared", "last verified"]
    rows = []
    for entry in found:
        manifest, stands = entry.submission.manifest, entry.standing
        networks = len({str(sorted(record.recipe.items())) for record in entry.submission.records})
        compared = f"{stands.agreed} of {stands.cells}" + (f", {stands.parted} parted" if stands.parted else "")
        when = entry.last.time[:10] if entry.last is not None else "-"
        names = [str(cell(entry.name, 64)), str(cell(manifest.author or "-", 60))]
        rows.append([*names, str(len(stands.measures)), str(networks), stands.state, compared, str(cell(when, 10))])
    return table(header, rows, {2, 3})


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
    if entry.standing.earlier:
        told.append(f"- {entry.standing.earlier} verdicts on an earlier file of this name do not count")
    yield "\n".join(told)
    worst = sorted(entry.standing.refutations.items(), key=lambda item: (-item[1].excess, item[0]))
    if worst:
        yield "\n".join(f"- {cell(label)}, {_refuted(entry, refutation)}" for label, refutation in worst)


def _refuted(entry: Entry, refutation: Refutation) -> str:
    """What differs, by how much, and how to see it again."""
    finding = refutation.finding
    what = "" if finding.what == "value" else f"{cell(finding.what, 30)} "
    where = f"refuted in {cell(entry.name, 64)} on {cell(finding.network, 120)}: {what}{finding.claimed:.6g} claimed, "
    if finding.found is None or finding.bound is None:
        found = f"none found ({cell(finding.reason, 200)})"
    else:
        apart = abs(finding.found - (finding.claimed or 0.0))
        found = f"{finding.found:.6g} found, {error(apart)} apart where {error(finding.bound)} is allowed"
    again = f"`sharpbench verify leaderboard/submissions/{entry.name}{SUFFIX} --cell {finding.key[:16]}`"
    return f"{where}{found} ({cell(refutation.time[:10], 10)}; {again})"
