"""The asv results of two commits side by side in Markdown; tracked numbers gate, times inform.

    python benchmarks/compare.py FOLDER BASE HEAD

FOLDER: a machine's in asv's results. A tracked relative error above 1e-12 may grow tenfold, a tracked number
of bytes by a fifth. A benchmark with a number at BASE must have one at HEAD. Exit status 1 if one of these fails.
Gradients are a ratio of times and only inform.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROUNDING = 1e-12
WORSE = {"relative error": 10.0, "bytes": 1.2}
"""The factor by which a number may grow, by unit; other units do not gate."""
SLOWER = 1.25
"""A ratio of times from which a row is marked."""


@dataclass(frozen=True)
class Row:
    """A benchmark with one choice of parameters: its number at both commits, None where it failed."""

    name: str
    unit: str
    base: float | None
    head: float | None

    @property
    def verdict(self) -> str:
        """'' without a finding, a text that starts with 'fails' for a broken gate, else 'slower' or 'faster'."""
        if self.base is None or self.head is None:
            return "fails: no number any more" if self.base is not None else ""
        if self.unit in WORSE:
            return "fails: worse" if self.head > max(WORSE[self.unit] * self.base, ROUNDING) else ""
        ratio = self.head / self.base if self.base else math.nan
        return "slower" if ratio > SLOWER else "faster" if ratio < 1 / SLOWER else ""


def numbers(path: Path) -> dict[tuple[str, str], float | None]:
    """The number by (benchmark, parameters), None if it failed; skipped benchmarks are left out."""
    stored = json.loads(path.read_text(encoding="utf-8"))
    columns = stored["result_columns"]
    found: dict[tuple[str, str], float | None] = {}
    for name, values in stored["results"].items():
        row = dict(zip(columns, values, strict=False))
        choices = list(itertools.product(*row["params"])) or [()]
        results = row["result"] if row["result"] is not None else [None] * len(choices)
        for choice, value in zip(choices, results, strict=True):
            if value is None or not math.isnan(value):  # asv writes NaN for what was skipped
                found[name, ", ".join(choice)] = value
    return found


def compared(folder: Path, base: str, head: str) -> list[Row]:
    """The benchmarks that have a number, or failed, at either commit."""
    units = _units(folder.parent / "benchmarks.json")
    before, after = (numbers(_file(folder, commit)) for commit in (base, head))
    rows = []
    for name, choice in sorted(before | after):
        shown = f"{name}({choice})" if choice else name
        key = (name, choice)
        rows.append(Row(shown, units.get(name, ""), before.get(key), after.get(key)))
    return rows


def _units(path: Path) -> Mapping[str, str]:
    described = json.loads(path.read_text(encoding="utf-8"))
    return {name: row["unit"] for name, row in described.items() if isinstance(row, dict)}


def _file(folder: Path, commit: str) -> Path:
    found = sorted(folder.glob(f"{commit[:8]}*.json"))
    if len(found) != 1:
        raise SystemExit(f"{len(found)} results of {commit[:8]} in {folder}, where one is expected")
    return found[0]


def page(rows: Sequence[Row]) -> str:
    """The table, failures first."""
    lines = ["| benchmark | base | head | unit | |", "|---|---:|---:|---|---|"]
    order = sorted(rows, key=lambda row: (not row.verdict.startswith("fails"), not row.verdict, row.name))
    for row in order:
        cells = (f"`{row.name.replace('|', '/').replace('`', '')}`", _shown(row.base), _shown(row.head))
        lines.append(f"| {' | '.join(cells)} | {row.unit} | {row.verdict} |")
    return "\n".join(lines)


def _shown(value: float | None) -> str:
    return "failed" if value is None else f"{value:.3g}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; 1 where the gate is broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("base")
    parser.add_argument("head")
    options = parser.parse_args(arguments)
    rows = compared(options.folder, options.base, options.head)
    print(page(rows))
    broken = [row.name for row in rows if row.verdict.startswith("fails")]
    print(f"\n{len(rows)} numbers, {len(broken)} below the gate. Times were taken once each and inform.")
    return 1 if broken or not rows else 0


if __name__ == "__main__":
    raise SystemExit(main())
