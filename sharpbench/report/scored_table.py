"""Measures of networks that were trained elsewhere, scored from a table: `sharpbench.score`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sharpbench.analysis.correlations import resampling_units
from sharpbench.analysis.population import cell_codes
from sharpbench.analysis.scores import Score, baseline_values, score_population
from sharpbench.analysis.statistics import Interval, paired_difference
from sharpbench.analysis.table import read_frame, read_table
from sharpbench.analysis.table_population import TableColumns, TableOptions, TablePopulation, make_population
from sharpbench.errors import InvalidInput, shorten, suggest_names
from sharpbench.report.board_verdict import CRITERIA, MAX_NAME_CHARS, describe_verdict
from sharpbench.report.console import MIN_FILE_WIDTH
from sharpbench.report.format import OutcomeLabel, format_correlation, format_interval, plain_text
from sharpbench.report.rendered import render_html, render_text
from sharpbench.report.scored_boards import ScoredBoards

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True)
class MeasureComparison:
    """The tau of one measure less that of another on the same networks, with its 95 % interval.

    Args:
        tau: The tau that is compared, in words.
    """

    one: str
    other: str
    tau: str
    difference: float
    interval: Interval

    @property
    def better(self) -> str | None:
        """The measure with the higher tau; None where the interval contains 0."""
        if 0.0 in self.interval:
            return None
        return self.one if self.difference > 0 else self.other

    def __str__(self) -> str:
        one, other = (plain_text(name, MAX_NAME_CHARS) for name in (self.one, self.other))
        verdict = "cannot be told apart" if self.better is None else f"{plain_text(self.better, 40)} is better"
        found = format_correlation(self.difference) + format_interval(self.interval)
        return f"{one} and {other}: {verdict}; their {self.tau} differs by {found}, as a single comparison"


@dataclass(frozen=True, slots=True, eq=False)
class ScoredTable:
    """The board of the networks of one table.

    Args:
        boards: The population with its scores; prints and writes the board.
        unused: Columns of text that were not named, where measures were chosen because they are numbers.
    """

    boards: ScoredBoards
    unused: tuple[str, ...]

    @property
    def scores(self) -> tuple[Score, ...]:
        """One score per measure and baseline, in the order of the board."""
        return self.boards.scores

    @property
    def board(self) -> pd.DataFrame:
        """The first table of the board as numbers: its columns, and for each statistic the ends of its interval."""
        return self.boards.to_frame().drop(columns=["model", "dataset"])

    @property
    def verdict(self) -> str:
        """What the ranks say, in one or two sentences."""
        return describe_verdict(self.scores)

    def compare(self, one: str, other: str) -> MeasureComparison:
        """The measures or baselines `one` and `other` on the networks that have both values.

        The comparison is by the tau that ranks the board. Its interval is for this pair only: of many comparisons some
        intervals exclude 0 by chance, which the ranks of the board take into account.

        Raises:
            InvalidInput: for an unknown name, and where a tau has no interval.
        """
        (population,) = self.boards.populations
        first, second = self._values(one), self._values(other)
        networks = [network for network in population.counted if network.key in first.keys() & second.keys()]
        criterion = self.scores[0].ranked_by
        found = paired_difference(
            [first[network.key] for network in networks],
            [second[network.key] for network in networks],
            [network.outcome or 0.0 for network in networks],
            cell_codes(networks) if networks else [],
            resampling_units(population, networks) if networks else None,
            within=criterion == "within",
        )
        if found is None:
            raise InvalidInput(
                f"'{shorten(one)}' and '{shorten(other)}' cannot be compared: the {CRITERIA[criterion]} of one of them "
                f"has no interval on the {len(networks)} networks that have both values"
            )
        return MeasureComparison(one, other, CRITERIA[criterion], *found)

    def _values(self, name: str) -> dict[str, float]:
        """The values of a measure or a baseline, by network."""
        (population,) = self.boards.populations
        for row in population.rows:
            if row.label == name:
                values = ((network, row.value(network)) for network in population.counted)
                return {network.key: value for network, value in values if value is not None}
        baselines = baseline_values(population, seed=0)
        if name not in baselines:
            hint = suggest_names(name, [score.label for score in self.scores])
            raise InvalidInput(f"no measure '{shorten(name)}' on this board" + (f"; {hint}" if hint else ""))
        return baselines[name]

    def write(self, folder: str | Path) -> None:
        """Write LEADERBOARD.md, leaderboard.json and the plots into `folder`; an OSError where it cannot be done."""
        self.boards.write(Path(folder))

    def to_frame(self) -> pd.DataFrame:
        """The same table as `board`."""
        return self.board

    def to_latex(self) -> str:
        """The same table as LaTeX for the package booktabs, with 4 significant digits; names are escaped."""
        return self.boards.to_latex()

    def __str__(self) -> str:
        return render_text(self.boards.show, MIN_FILE_WIDTH)

    def _repr_html_(self) -> str:
        """The board as the terminal shows it; names are escaped."""
        return render_html(self.boards.show, MIN_FILE_WIDTH)


def score(
    table: pd.DataFrame | str | Path,
    *,
    outcome: str = "gap",
    by: Sequence[str] = (),
    seed: str | None = None,
    measures: Sequence[str] | None = None,
    options: TableOptions | None = None,
) -> ScoredTable:
    """The board of networks that were trained elsewhere: how well each measure orders them by their outcome.

    Args:
        table: One row per network: a DataFrame, or the path of a file of CSV, JSON lines or Parquet.
        outcome: The column with the generalization gap, or the difference of two columns, as in
            'train_accuracy - test_accuracy' or 'test_loss - train_loss'.
        by: The columns of the hyperparameters. Networks that agree in all of them are one cell.
        seed: The column that distinguishes the networks of one cell; by default `seed` where there is such a column.
        measures: The columns that are scored; by default all columns of numbers that are not named otherwise.
        options: Measures that fall as the outcome rises, columns to ignore, names, the size of the test set.

    Raises:
        InvalidInput: for a table that cannot be scored; the message names the row or the column.

    Cost: grows with the number of measures, and a little more slowly than the square of the number of networks.

    >>> import pandas as pd
    >>> noise = [0.0, 0.0, 0.0, 0.5, 0.5, 0.5]
    >>> gaps = [0.11, 0.09, 0.10, 0.52, 0.50, 0.47]
    >>> networks = pd.DataFrame({"noise": noise, "trace": [3.0, 2.0, 4.0, 9.0, 8.0, 7.0], "gap": gaps})
    >>> found = sharpbench.score(networks, by=["noise"])
    >>> found.board["tau"].round(2).tolist()[0]
    0.87
    """
    for argument, names in (("by", by), ("measures", measures)):
        if isinstance(names, str):
            raise InvalidInput(
                f"{argument}='{shorten(names)}' is one text; give a list of names, as ['{shorten(names)}']"
            )
    columns = TableColumns(outcome=outcome, by=by, seed=seed, measures=measures)
    read = read_table(Path(table)) if isinstance(table, str | Path) else read_frame(table)
    return score_table_population(make_population(read, columns, options or TableOptions()))


def score_table_population(made: TablePopulation) -> ScoredTable:
    """The board of the population of a table, without baselines that it has no values of."""
    found = tuple(row for row in score_population(made.population) if row.kind == "measure" or row.networks)
    return ScoredTable(ScoredBoards((made.population,), found, outcome=OutcomeLabel(meaning=made.outcome)), made.unused)
