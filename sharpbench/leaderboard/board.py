"""Boards, which are populations of a collection with their scores, and the leaderboard of all boards."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from sharpbench.analysis.headline import Headline, score_headline
from sharpbench.analysis.population import MeasuredPopulation, MeasureRow, group_populations, network_key
from sharpbench.analysis.scores import Score, score_population
from sharpbench.core.record import Record
from sharpbench.leaderboard.collection import Collection, name_networks
from sharpbench.leaderboard.entries import NO_SUBMISSIONS, STATES, Submitted, SubmittedEntry, entry_collections
from sharpbench.leaderboard.submissions.claims import RowKey, row_key
from sharpbench.report.escape import make_slug


@dataclass(frozen=True)
class Board:
    """The networks of one model on one data set in one collection, with the scores of all measures on them.

    Args:
        entry: The submission that the collection is made of; None for our own results.
        names: Key of a network -> its name in the collection, by which `load_network` opens it; empty for a submission.
    """

    collection: str
    population: MeasuredPopulation
    scores: tuple[Score, ...]
    entry: SubmittedEntry | None = None
    names: Mapping[str, str] = field(default_factory=dict)

    @property
    def origin(self) -> str:
        """The name of the collection, and whether it was submitted."""
        return f"{self.collection} (submitted)" if self.entry is not None else self.collection

    @property
    def name(self) -> str:
        """Model and data set."""
        return f"{self.population.model} on {self.population.dataset}"

    @property
    def title(self) -> str:
        """Origin, model and data set, not escaped."""
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
        """Whether any measure has a correlation; with a few networks there may be none."""
        return any(score.marginal.value is not None for score in self.measured)

    @property
    def records(self) -> tuple[Record, ...]:
        """The records of all rows."""
        return tuple(record for row in self.population.rows for record in row.records.values())

    def row(self, score: Score) -> MeasureRow:
        """The records of the networks behind the score of a measure."""
        return self._rows[score.label, score.setting]

    def row_key(self, score: Score) -> RowKey:
        """The row of the score of a measure, as its entry names it.

        A row of at most N examples is several rows of an entry: those of N and of all examples. The worst one counts.
        """
        found = sorted({row_key(record) for record in self.row(score).records.values()})
        entry = self.entry
        return found[0] if entry is None else min(found, key=lambda row: STATES.index(entry.state(row)))

    @cached_property
    def _rows(self) -> dict[tuple[str, str], MeasureRow]:
        return {(row.label, row.setting): row for row in self.population.rows}

    def measure(self, score: Score) -> str:
        """The name of the measure, without the hyperparameters of the label."""
        return next(iter(self.row(score).records.values())).measure


BoardRow = tuple[Board, Score]
"""A score with its board."""
Catalog = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Leaderboard:
    """All boards, by collection, data set and model.

    Args:
        left_out: Collection -> number of its lines that are not for a leaderboard.
        catalog: Name of an installed measure -> its row of `list_installed`.
        marks: Label of a measure -> a word shown behind its name in every table.
        submitted: Submissions with their status, see `entries`.
    """

    boards: tuple[Board, ...]
    left_out: Mapping[str, int] = field(default_factory=dict)
    catalog: Catalog = field(default_factory=dict)
    marks: Mapping[str, str] = field(default_factory=dict)
    submitted: Submitted = NO_SUBMISSIONS

    @property
    def own_boards(self) -> tuple[Board, ...]:
        """Our own boards, which come first; the others are of submissions."""
        return tuple(board for board in self.boards if board.entry is None)

    @cached_property
    def headline(self) -> Headline:
        """The headline scores over our own populations; their indices are those of the boards."""
        own = self.own_boards
        return score_headline([board.population for board in own], [board.title for board in own])

    def is_documented(self, measure: str) -> bool:
        """Whether the measure is one of ours, which have a page in docs/measures."""
        return measure in self.catalog and self.catalog[measure]["package"] == "sharpbench"

    @property
    def measures(self) -> tuple[str, ...]:
        """The names of all measures."""
        return tuple(sorted({board.measure(score) for board in self.boards for score in board.measured}))

    def mark(self, found: Sequence[BoardRow]) -> str | None:
        """The word behind the name of a row on these boards; where all are submitted, the worst state."""
        states = [board.entry.state(board.row_key(score)) for board, score in found if board.entry is not None]
        if states and len(states) == len(found):
            return min(states, key=STATES.index)
        return self.marks.get(found[0][1].label)

    def rows_of(self, measure: str) -> Iterator[BoardRow]:
        """The rows of one measure, board by board."""
        for each in self.boards:
            yield from ((each, score) for score in each.measured if each.measure(score) == measure)


def make_leaderboard(
    collections: Sequence[Collection],
    *,
    catalog: Catalog | None = None,
    marks: Mapping[str, str] | None = None,
    submitted: Submitted = NO_SUBMISSIONS,
) -> Leaderboard:
    """The leaderboard of `collections`, with each population scored as `sharpbench run` scores it.

    Args:
        catalog: See `Leaderboard`.
        submitted: Entries, which have separate boards behind those of `collections`.
    """
    every: list[tuple[SubmittedEntry | None, Collection]] = [(None, collection) for collection in collections]
    named = {
        collection.name: {network_key(record): name for name, record in name_networks(collection.records)}
        for collection in collections
    }
    boards = tuple(
        Board(
            collection.name,
            population,
            tuple(score_population(population)),
            entry,
            {} if entry is not None else named[collection.name],
        )
        for entry, collection in (*every, *entry_collections(submitted.entries, collections))
        for population in group_populations(collection.records)
    )
    left_out = {collection.name: collection.left_out for collection in collections if collection.left_out}
    return Leaderboard(boards, left_out, catalog or {}, marks or {}, submitted)


def select_own(found: Sequence[BoardRow]) -> list[Score]:
    """The scores that enter a summary of one row: our own results where there are any, else submitted ones."""
    own = [score for board, score in found if board.entry is None]
    return own or [score for _, score in found]
