"""Scored populations in all their forms: in the terminal, as LEADERBOARD.md, leaderboard.json and plots."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from sharpbench.analysis.population import MeasuredPopulation, group_populations
from sharpbench.analysis.scores import Score, score_population, scores_json
from sharpbench.core.record import Record
from sharpbench.files import atomic_write
from sharpbench.report.columns import MAIN, MAX_NAME_CHARS, STATISTICS
from sharpbench.report.format import ACCURACY_GAP, OutcomeLabel, plain_text
from sharpbench.report.rendered import render_latex
from sharpbench.version import __version__

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

PAGE, SCORES, PLOTS = "LEADERBOARD.md", "leaderboard.json", "plots"
"""Names in an output folder."""
MAX_OUTCOME_CHARS = 200
"""Of the words for an outcome in the comment above a LaTeX table, which a line break would end."""
MAX_TABLES_CHARS = 120
"""Characters of the names of tables in a line."""


@dataclass(frozen=True, slots=True, eq=False)
class ScoredBoards:
    """Populations and their scores.

    Args:
        records: What environments are listed of; empty where they are not known.
        outcome: What the measures are judged by.
    """

    populations: tuple[MeasuredPopulation, ...]
    scores: tuple[Score, ...]
    records: Sequence[Record] = ()
    outcome: OutcomeLabel = ACCURACY_GAP

    @staticmethod
    def from_records(records: Sequence[Record], outcome: OutcomeLabel = ACCURACY_GAP) -> ScoredBoards:
        """The boards of all populations in `records`, judged by `outcome`.

        Where outcomes are claims, they have only those baselines that have a value.
        """
        populations = group_populations(records, outcome.name)
        claimed = any(record.claimed for record in records)
        found = (row for population in populations for row in score_population(population))
        scores = tuple(row for row in found if row.kind == "measure" or row.networks or not claimed)
        return ScoredBoards(populations, scores, records, _name_claims(outcome, records))

    def show(self, console: Console, *, full: bool = False) -> None:
        """Print a board and its verdict for each population; full: with all tables, legends and environments."""
        from sharpbench.report.console import show_boards

        show_boards(self.scores, self.records, console, full=full)
        if claims := describe_claims(self.records):
            console.print(claims, style="dim", soft_wrap=not console.is_terminal, markup=False, highlight=False)

    def to_frame(self) -> pd.DataFrame:
        """One row per measure and baseline of each population: the first table of its board as numbers.

        Columns: model, dataset, those of the table, and for each statistic 'low' and 'high', the ends of its interval.
        """
        import pandas as pd

        rows = []
        for score in self.scores:
            row: dict[str, object] = {"model": score.model, "dataset": score.dataset}
            row |= {column.heading: column.value(score) if column.number else column.text(score) for column in MAIN}
            for name, read in STATISTICS.items():
                if (interval := read(score).interval) is not None:
                    row |= {f"{name} low": interval.low, f"{name} high": interval.high}
            rows.append(row)
        return pd.DataFrame(rows)

    def to_latex(self) -> str:
        """The first table of each board as LaTeX for the package booktabs, under a comment that names the population.

        Statistics have their 95 % intervals in brackets. Names are escaped.
        """
        import pandas as pd

        tables = []
        for (model, dataset), scores in groupby(self.scores, key=lambda score: (score.model, score.dataset)):
            rows = [{column.heading: str(column.text(score)) for column in MAIN} for score in scores]
            numbers = [column.heading for column in MAIN if column.number]
            title = f"{plain_text(model, MAX_NAME_CHARS)} on {plain_text(dataset, MAX_NAME_CHARS)}"
            judged_by = plain_text(self.outcome.meaning, MAX_OUTCOME_CHARS)
            table = render_latex(pd.DataFrame(rows), numbers)
            tables.append(f"% {title}; {judged_by}; [95 % intervals]\n{table}")
        return "\n".join(tables)

    def write(self, folder: Path, *, overview_only: bool = False) -> None:
        """Write the page, the scores and the plots into `folder`. Raises OSError where that cannot be done.

        overview_only: one figure of all measures, and none of each.
        """
        from sharpbench.report.markdown import markdown_leaderboard
        from sharpbench.report.plots import OVERVIEW_NAME, plot_populations

        folder.mkdir(parents=True, exist_ok=True)
        overview = f"{PLOTS}/{OVERVIEW_NAME}.svg"
        page = markdown_leaderboard(
            self.scores, self.records, version=__version__, overview=overview, outcome=self.outcome
        )
        plot_populations(
            self.populations,
            folder / PLOTS,
            outcome=self.outcome,
            scores=self.scores,
            overview_only=overview_only,
        )
        atomic_write(folder / PAGE, page)
        atomic_write(folder / SCORES, scores_json(self.scores))


def _name_claims(outcome: OutcomeLabel, records: Sequence[Record]) -> OutcomeLabel:
    """The outcome; of networks that were trained elsewhere, what it is made of and which table claims it."""
    found = {
        f"{record.data.get('outcome')}, claimed by {record.data.get('table')}" if record.claimed else outcome.meaning
        for record in records
    }
    return replace(outcome, meaning=" or ".join(sorted(found)) or outcome.meaning)


def describe_claims(records: Sequence[Record]) -> str:
    """A line that says which tables claim the outcomes; '' where all networks were trained here."""
    tables = sorted({str(record.data.get("table")) for record in records if record.claimed})
    if not tables:
        return ""
    named = plain_text(", ".join(tables), MAX_TABLES_CHARS)
    return f"outcomes are claims of {named}; only the values of measures were found here"
