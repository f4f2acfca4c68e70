"""The README: short, and every output in it is what the product prints."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

from rich.console import Console

from sharpbench.core.records import iterate_records
from sharpbench.report.scored_boards import ScoredBoards

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
SHOWN = ("minimum", "normalized")
MAX_LINES, MAX_WORDS, MAX_COLUMNS = 120, 900, 100


def test_it_is_short() -> None:
    lines = README.splitlines()
    assert len(lines) <= MAX_LINES
    assert len(README.split()) <= MAX_WORDS
    assert max(map(len, lines)) <= MAX_COLUMNS


def test_its_example_prints_what_it_shows() -> None:
    (example, *_), (output,) = ([text for kind, text in BLOCKS if kind == wanted] for wanted in ("python", "text"))
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(example, {})
    assert _rounded(printed.getvalue()) == _rounded(output)


def _rounded(text: str) -> list[str | float]:
    """The words; numbers to two digits, as other processors round the last one otherwise."""
    return [float(f"{float(word):.2g}") if re.fullmatch(r"[\d.]+", word) else word for word in text.split()]


def test_its_board_is_that_of_the_published_records() -> None:
    path = ROOT / "leaderboard" / "results" / "digits-label-noise.jsonl"
    records = [record for record in iterate_records(path) if record.label in SHOWN]
    stream = io.StringIO()
    ScoredBoards.from_records(records).show(Console(file=stream, width=80, force_terminal=True, color_system=None))
    first, _ = stream.getvalue().split("mlp on digits")
    (console,) = (text for kind, text in BLOCKS if kind == "console")
    shown = console.split("\n", 1)[1]
    assert [line.rstrip() for line in shown.rstrip().splitlines()] == [
        line.rstrip() for line in first.rstrip().splitlines()
    ]
