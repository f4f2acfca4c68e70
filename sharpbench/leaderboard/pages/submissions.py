"""The page of submissions: entries with their verification; and the section of a measure, for its page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from markupsafe import Markup

from sharpbench.leaderboard.entries import STATES, Submitted, SubmittedEntry
from sharpbench.leaderboard.submissions.claims import RowKey
from sharpbench.leaderboard.submissions.manifest import SUFFIX
from sharpbench.leaderboard.submissions.status import PastRefutation, Refutation
from sharpbench.report.escape import escape_cell, markdown_table
from sharpbench.report.format import format_error
from sharpbench.report.page import Page, Section

PAGE_NAME = "submissions.md"
READING = (
    "Results of others ([how to submit](../docs/submissions.md)). **verified**: every value of each measure was drawn, "
    "and at least nine of ten were recomputed and agree; only these are on the boards. **claimed**: fewer agree so "
    "far. "
    "**refuted**: a value, or a claim about a network, differs by more than its bound. Every entry with the same "
    "claim is refuted, in any file. **refuted before**: another value of this measure on this population was "
    "refuted, and no entry that agreed has answered it.\n\n"
    "*compared*: values that agree, of all values, and *parted* values on networks that train to other networks on "
    "the verifying machine, which cannot be compared one by one. *gaps* of networks, *oracles* (values of the "
    "oracle) and records with factors of change (*invariance*): those that agree, of all. Nobody verifies these: "
    "seconds, gradients and memory, why a cell has no value, which networks are one population, and whether they "
    "were drawn."
)
BEFORE = (
    "Refuted claims that no submission makes any more: the worst of each measure on each population, until an entry "
    "has another value there that agrees. The file is in the history of this repository."
)


def page(found: Submitted) -> Page:
    """A table of all entries, the refutations of each, and earlier refutations."""
    sections = [Section("", (READING, _table(found.entries)))]
    sections += [Section(str(escape_cell(entry.name, 64)), tuple(_describe_entry(entry))) for entry in found.entries]
    if found.past:
        lines = "\n".join(f"- {escape_cell(each.label)}, {_describe_past(each)}" for each in found.past)
        sections.append(Section("Refuted before", (BEFORE, lines)))
    return Page("Submissions", tuple(sections))


def measure_section(found: Submitted, measure: str) -> Section | None:
    """The entries with a measure, for its page, the worst refutation first; None where no entry has it."""
    lines: list[tuple[float, str]] = []
    for entry in found.entries:
        labels = dict.fromkeys(record.label for record in entry.submission.records if record.measure == measure)
        for label in labels:
            refutation = entry.status.refutations.get(label)
            if refutation is not None:
                lines.append((-refutation.excess, f"- {escape_cell(label)}, {_describe_refutation(entry, refutation)}"))
            elif label in (states := entry.states):
                lines.append((1.0, f"- {escape_cell(label)}: {states[label]} in {escape_cell(entry.name, 64)}"))
    for each in found.past:
        if each.label.partition("[")[0] == measure:
            lines.append((-each.refutation.excess, f"- {escape_cell(each.label)}, {_describe_past(each)}"))
    if not lines:
        return None
    words = "[Submissions](../submissions.md) with this measure, the worst refutation first:"
    return Section("Submissions", (words, "\n".join(line for _, line in sorted(lines))))


def _table(found: Sequence[SubmittedEntry]) -> Markup:
    header = ["submission", "by", "measures", "networks", "state", "compared", "last verified"]
    header += ["gaps", "oracles", "invariance"]
    rows = []
    for entry in found:
        manifest, status = entry.submission.manifest, entry.status
        networks = len({str(sorted(record.recipe.items())) for record in entry.submission.records})
        compared = f"{status.agreed} of {status.cells}" + (f", {status.parted} parted" if status.parted else "")
        when = status.last[:10] if status.last is not None else "-"
        names = [str(escape_cell(entry.name, 64)), str(escape_cell(manifest.author or "-", 60))]
        beside = [f"{each.agreed} of {each.claimed}" for each in (status.networks, status.exact, status.invariance)]
        doubted = status.state == "claimed" and "refuted before" in entry.states.values()
        state = "refuted before" if doubted else status.state
        shown = [str(len(status.measures)), str(networks), state, compared, str(escape_cell(when, 10)), *beside]
        rows.append([*names, *shown])
    return markdown_table(header, rows, {2, 3})


def _describe_entry(entry: SubmittedEntry) -> Iterator[str]:
    """Paragraphs: the submitter, the states of the measures, and refutations."""
    manifest = entry.submission.manifest
    given = {"contact": manifest.contact, "address": manifest.url, "note": manifest.note}
    lines = [f"- {what}: {escape_cell(text, 300)}" for what, text in given.items() if text]
    origins = dict.fromkeys(manifest.measures.values())
    lines.append(f"- made with {', '.join(str(escape_cell(origin, 100)) for origin in origins)}")
    for state in STATES:
        rows = [row for row in sorted(entry.status.rows) if entry.state(row) == state]
        if rows:
            lines.append(f"- {state}: {'; '.join(_describe_row(entry, row) for row in rows)}")
    for name, (equal, apart) in entry.others.items():
        if equal:
            lines.append(f"- {equal} values are equal to the last digit in {escape_cell(name, 64)}")
        if apart:
            lines.append(f"- {apart} values differ in {escape_cell(name, 64)}, of the same cells on the same networks")
    yield "\n".join(lines)
    worst = sorted(entry.status.refutations.items(), key=lambda item: (-item[1].excess, item[0]))
    if worst:
        yield "\n".join(
            f"- {escape_cell(label)}, {_describe_refutation(entry, refutation)}" for label, refutation in worst
        )


def _describe_row(entry: SubmittedEntry, row: RowKey) -> str:
    """Measure and population of a row, and how many of its values agreed, parted or are unknown."""
    status = entry.status.rows[row]
    counts = {"parted": status.parted, "unknown": status.unknown}
    more = "".join(f", {count} {word}" for word, count in counts.items() if count)
    return f"{escape_cell(row[0])} on {escape_cell(row[1], 64)} ({status.share} agree{more})"


def _describe_refutation(entry: SubmittedEntry, refutation: Refutation) -> str:
    """The number that differs, by how much, and the command that repeats it."""
    key = refutation.finding.key[:16]
    again = f"`sharpbench verify leaderboard/submissions/{entry.name}{SUFFIX} --cell {key}`"
    day = escape_cell(refutation.time[:10], 10)
    return f"refuted in {escape_cell(entry.name, 64)} {_describe_difference(refutation)} ({day}; {again})"


def _describe_past(each: PastRefutation) -> str:
    """The same for a claim that no submission makes any more."""
    refutation = each.refutation
    day = escape_cell(refutation.time[:10], 10)
    where = f"{day}; cell {refutation.finding.key[:16]} of SHA-256 {refutation.sha256[:16]}"
    return f"refuted before in {escape_cell(refutation.name, 64)} {_describe_difference(refutation)} ({where})"


def _describe_difference(refutation: Refutation) -> str:
    finding = refutation.finding
    what = "" if finding.what == "value" else f"{escape_cell(finding.what, 40)} "
    head = f"on {escape_cell(finding.network, 120)}: {what}"
    if finding.claimed is None or finding.found is None or finding.bound is None:
        claimed = "" if finding.claimed is None else f"{finding.claimed:.6g} claimed, none found: "
        return f"{head}{claimed}{escape_cell(finding.reason, 200)}"
    apart = abs(finding.found - finding.claimed)
    numbers = f"{finding.claimed:.6g} claimed, {finding.found:.6g} found"
    return f"{head}{numbers}, {format_error(apart)} apart where {format_error(finding.bound)} is allowed"
