"""Whether networks that were trained elsewhere do on the examples what their table claims."""

from __future__ import annotations

from collections.abc import Sequence

from sharpbench.analysis.population import finite_or_none
from sharpbench.core.record import Record
from sharpbench.runner.expectations import FoundAccuracy, describe_shortfall


def describe_shortfalls(records: Sequence[Record]) -> str:
    """A warning where networks are less accurate on the training examples than claimed, or guess; else ''.

    Inputs that are prepared otherwise than in the training are the usual reason. The warning is about the first such
    network, and counts the others.
    """
    found = {}
    for record in records:
        if record.claimed and record.data.get("split") == "train":
            found[str(record.data.get("weights_sha256"))] = record
    warnings = list(filter(None, map(_describe_shortfall, found.values())))
    more = f" ({len(warnings) - 1} more networks)" if len(warnings) > 1 else ""
    return f"{warnings[0]}{more}" if warnings else ""


def _describe_shortfall(record: Record) -> str:
    examples, available, classes = (record.data.get(name) for name in ("examples", "available", "classes"))
    if not isinstance(examples, int) or not isinstance(available, int) or not isinstance(classes, int):
        return ""
    accuracy = FoundAccuracy(
        value=finite_or_none(record.data.get("accuracy")),
        examples=examples,
        sampled=examples < available,
        classes=classes,
    )
    claimed = finite_or_none(record.truth.get("train_accuracy"))
    return describe_shortfall(accuracy, claimed, where=str(record.data.get("weights")))
