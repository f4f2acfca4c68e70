"""The board of the README is that of the published records, so the two never show different figures."""

from __future__ import annotations

import io
import re
from pathlib import Path

from rich.console import Console

from sharpbench.core.records import iterate_records
from sharpbench.report.scored_boards import ScoredBoards

ROOT = Path(__file__).parents[2]
SHOWN = ("minimum", "normalized")
INTERVAL = re.compile(r"\[-?\d\.\d\d,-?\d\.\d\d\]")


def ranked_rows(text: str) -> list[list[str]]:
    """Name, number of networks and tau with its interval, of each row of the first table of each board."""
    rows = [line.split() for line in text.splitlines() if INTERVAL.search(line) and "n.s." in line]
    return [[word for word in row if not word.isdecimal() or len(word) > 1][:4] for row in rows]


def test_the_board_of_the_readme_is_that_of_the_published_records() -> None:
    path = ROOT / "leaderboard" / "results" / "digits-label-noise.jsonl"
    records = [record for record in iterate_records(path) if record.label in SHOWN]
    stream = io.StringIO()
    ScoredBoards.from_records(records).show(Console(file=stream, width=119))
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    block = readme[readme.index("lenet on digits") : readme.index("sharpbench-results/LEADERBOARD.md, plots")]
    assert ranked_rows(block) == ranked_rows(stream.getvalue())
    assert len(ranked_rows(block)) == 12
