"""Facts: what a measure says of itself, as readers see it, the same in the terminal and on its page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

UNSAID = "not stated"


def facts(row: Mapping[str, Any]) -> dict[str, str]:
    """Heading -> text, of the row of a measure (`sharpbench.core.catalog.about`)."""
    return {
        "definition": row["definition"] or UNSAID,
        "source": row["source"],
        "reduction": row["reduction"] or UNSAID,
        "included": row["included"] or UNSAID,
        "invariant to": ", ".join(row["invariances"]) or "nothing",
        "depends on": ", ".join(row["depends"]) or "neither the data set's size nor its micro-batches",
        "cost in gradients": row["cost"] or UNSAID,
        "oracle": _oracle(row),
        "version": str(row["version"]),
        "package": row["package"],
    }


def setting(value: object) -> str:
    """A value of a parameter as it is typed in brackets."""
    return str(value).lower() if isinstance(value, bool) or value is None else str(value)


def _oracle(row: Mapping[str, Any]) -> str:
    said: str = row["oracle"] or UNSAID
    if row["oracle_limit"] is None:
        return said
    return f"{said} Above {row['oracle_limit']:,} parameters it checks rounding alone."
