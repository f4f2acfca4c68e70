"""Surroundings: where the numbers of a replay come from, as its last section."""

from __future__ import annotations

from collections.abc import Sequence

from sharpbench.analysis.costs import environment_text
from sharpbench.core.record import Record
from sharpbench.report.escape import cell
from sharpbench.report.page import Section


def surroundings(records: Sequence[Record], source: str) -> Section:
    """The paper, and the environments in which the records were made."""
    found = sorted({environment_text(record.environment) for record in records if record.environment})
    return Section("Source and environment", (f"{source}.", *(str(cell(text, 400)) for text in found)))
