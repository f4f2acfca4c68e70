"""Scored populations in all their forms: in the terminal, as LEADERBOARD.md, leaderboard.json and plots."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sharpbench.analysis.population import MeasuredPopulation, group_populations
from sharpbench.analysis.scores import Score, score_population, scores_json
from sharpbench.core.record import Record
from sharpbench.report.format import ACCURACY_GAP
from sharpbench.version import __version__

if TYPE_CHECKING:
    from rich.console import Console

PAGE, SCORES, PLOTS = "LEADERBOARD.md", "leaderboard.json", "plots"
"""Names in an output folder."""


@dataclass(frozen=True, slots=True, eq=False)
class ScoredBoards:
    """Populations and their scores.

    Args:
        records: What environments are listed of; empty where they are not known.
        outcome: What the gap is made of, in words.
    """

    populations: tuple[MeasuredPopulation, ...]
    scores: tuple[Score, ...]
    records: Sequence[Record] = ()
    outcome: str = ACCURACY_GAP

    @staticmethod
    def from_records(records: Sequence[Record]) -> ScoredBoards:
        """The boards of all populations in `records`."""
        populations = group_populations(records)
        scores = tuple(row for population in populations for row in score_population(population))
        return ScoredBoards(populations, scores, records)

    def show(self, console: Console, *, full: bool = False) -> None:
        """Print a board and its verdict for each population; full: with all tables, legends and environments."""
        from sharpbench.report.console import show_boards

        show_boards(self.scores, self.records, console, full=full)

    def write(self, folder: Path) -> None:
        """Write the page, the scores and the plots into `folder`. Raises OSError where that cannot be done."""
        from sharpbench.report.markdown import markdown_leaderboard
        from sharpbench.report.plots import OVERVIEW_NAME, plot_populations

        folder.mkdir(parents=True, exist_ok=True)
        overview = f"{PLOTS}/{OVERVIEW_NAME}.svg"
        page = markdown_leaderboard(
            self.scores, self.records, version=__version__, overview=overview, outcome=self.outcome
        )
        plot_populations(self.populations, folder / PLOTS, outcome=self.outcome, scores=self.scores)
        (folder / PAGE).write_text(page, encoding="utf-8", errors="backslashreplace")
        (folder / SCORES).write_text(scores_json(self.scores), encoding="utf-8", errors="backslashreplace")
