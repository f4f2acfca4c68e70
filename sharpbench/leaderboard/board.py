"""Board: a population of one collection with its scores; Leaderboard: all of them, what the pages are made of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from sharpbench.analysis.population import MeasuredPopulation, MeasureRow, group_populations
from sharpbench.analysis.scores import Score, score_population
from sharpbench.core.record import Record
from sharpbench.leaderboard.collection import Collection
from sharpbench.leaderboard.entries import NO_SUBMISSIONS, STATES, Submitted, SubmittedEntry, entry_collections
from sharpbench.report.escape import make_slug


@dataclass(frozen=True)
class Board:
    """The networks of one model on one data set, of one collection, and the scores of all measures on them.

    entry: the submission whose collection it is; None for results of our own.
    """

    collection: str
    population: MeasuredPopulation
    scores: tuple[Score, ...]
    entry: SubmittedEntry | None = None

    @property
    def origin(self) -> str:
        """The collection, and whether others sent it."""
        return f"{self.collection} (submitted)" if self.entry is not None else self.collection

    @property
    def name(self) -> str:
        """Model and data set."""
        return f"{self.population.model} on {self.population.dataset}"

    @property
    def title(self) -> str:
        """Origin, model and data set, as they came: to be escaped."""
        return f"{self.origin}: {self.name}"

    @property
    def slug(self) -> str:
        """A file name that no other board has."""
        return make_slug(self.collection, self.population.model, self.population.dataset)

    @property
    def measured(self) -> tuple[Score, ...]:
        """The scores of measures, without the baselines."""
        return tuple(score for score in self.scores if score.kind == "measure")

    @property
    def judged(self) -> bool:
        """Whether any measure has a correlation: a handful of networks may have none."""
        return any(score.marginal.value is not None for score in self.measured)

    @property
    def records(self) -> tuple[Record, ...]:
        """The records that the rows hold."""
        return tuple(record for row in self.population.rows for record in row.records.values())

    def row(self, score: Score) -> MeasureRow:
        """What was measured of the networks, for a score of a measure."""
        return self._rows[score.label, score.setting]

    @cached_property
    def _rows(self) -> dict[tuple[str, str], MeasureRow]:
        return {(row.label, row.setting): row for row in self.population.rows}

    def measure(self, score: Score) -> str:
        """The name of the measure of which the label of a row says more."""
        return next(iter(self.row(score).records.values())).measure


BoardRow = tuple[Board, Score]
"""A score with its board."""


@dataclass(frozen=True, slots=True)
class Leaderboard:
    """All boards, by collection, data set and model.

    left_out: collection -> lines of it that are not for a leaderboard. documented: names of the measures of which
    docs/measures has a page. marks: label of a measure -> a word shown beside its name in every table. submitted:
    submissions with their standings, see `entries`.
    """

    boards: tuple[Board, ...]
    left_out: Mapping[str, int] = field(default_factory=dict)
    documented: frozenset[str] = frozenset()
    marks: Mapping[str, str] = field(default_factory=dict)
    submitted: Submitted = NO_SUBMISSIONS

    @property
    def measures(self) -> tuple[str, ...]:
        """The names of all measures."""
        return tuple(sorted({board.measure(score) for board in self.boards for score in board.measured}))

    def mark(self, found: Sequence[BoardRow]) -> str | None:
        """The word beside a row that stands on these boards: its worst state, where all are of entries."""
        states = [board.entry.state(score.label, board.name) for board, score in found if board.entry is not None]
        if states and len(states) == len(found):
            return min(states, key=STATES.index)
        return self.marks.get(found[0][1].label)

    def of(self, measure: str) -> Iterator[BoardRow]:
        """The rows of one measure, board by board."""
        for each in self.boards:
            yield from ((each, score) for score in each.measured if each.measure(score) == measure)


def make_leaderboard(
    collections: Sequence[Collection],
    *,
    documented: frozenset[str] = frozenset(),
    marks: Mapping[str, str] | None = None,
    submitted: Submitted = NO_SUBMISSIONS,
) -> Leaderboard:
    """The leaderboard of `collections`: each population is judged as `sharpbench run` judges it.

    submitted: entries, whose records stand behind those of `collections`, on boards of their own.
    """
    every: list[tuple[SubmittedEntry | None, Collection]] = [(None, collection) for collection in collections]
    boards = tuple(
        Board(collection.name, population, tuple(score_population(population)), entry)
        for entry, collection in (*every, *entry_collections(submitted.entries, collections))
        for population in group_populations(collection.records)
    )
    left_out = {collection.name: collection.left_out for collection in collections if collection.left_out}
    return Leaderboard(boards, left_out, documented, marks or {}, submitted)


def select_own(found: Sequence[BoardRow]) -> list[Score]:
    """The scores that enter a summary of one row: our own where there are any, else those of entries."""
    own = [score for board, score in found if board.entry is None]
    return own or [score for _, score in found]
