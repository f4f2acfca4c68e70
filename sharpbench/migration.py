"""Migration: the rows that earlier versions wrote, as this version holds them."""

from __future__ import annotations

from typing import Any

SCHEMA = 3
"""The version of the record's fields."""
ADDED: dict[int, dict[str, Any]] = {
    2: {"invariance": {}},
    3: {"contended": False, "pieces": 1, "printed": None},
}
"""What each version brought, with the value that says what held before."""


def migrated(row: object) -> dict[str, Any]:
    """The row of a record in this version's fields; nothing but what was added since is looked at.

    Raises ValueError for what is no row of a version up to this one.
    """
    schema = row.get("schema") if isinstance(row, dict) else type(row).__name__
    if not isinstance(row, dict) or type(schema) is not int or not 1 <= schema <= SCHEMA:
        newer = type(schema) is int and schema > SCHEMA
        remedy = "install a newer sharpbench" if newer else "use the version that wrote it"
        raise ValueError(f"record schema {schema!r:.40}, this version reads 1 to {SCHEMA}; {remedy}")
    for version in range(schema + 1, SCHEMA + 1):
        clash = sorted(set(row) & set(ADDED[version]))
        if clash:
            raise ValueError(f"record schema {schema} has no {', '.join(clash)}; delete the line or restore the file")
        row = {**row, **ADDED[version]}
    return {**row, "schema": SCHEMA}
