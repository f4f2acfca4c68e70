"""The sample of the cells of a submission that is recomputed."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sharpbench.core.fields import Scalar
from sharpbench.core.measure import Measure
from sharpbench.core.record import Record
from sharpbench.core.registry import available
from sharpbench.core.spec import Inner, format_spec, to_config
from sharpbench.errors import InvalidInput, shorten, suggest_names
from sharpbench.leaderboard.submissions.claims import hash_cell, hash_network
from sharpbench.leaderboard.submissions.submission import Submission
from sharpbench.runner.cell import KeyContent
from sharpbench.training.recipe import Recipe, available_parts, parse_recipe


class UnknownCell(Exception):
    """A record whose measure or recipe cannot be made here; the message says why."""


@dataclass(frozen=True, slots=True)
class Recomputable:
    """A record with its measure, its recipe and the examples of its cell."""

    record: Record
    measure: Measure
    recipe: Recipe
    examples: int | None


@dataclass(frozen=True, slots=True)
class InstalledParts:
    """What is installed: measures by name, the package of each, and the parts of recipes."""

    measures: Mapping[str, type[Any]]
    packages: Mapping[str, str]
    ingredients: Inner
    _recipes: dict[str, Recipe] = field(default_factory=dict, repr=False, compare=False)

    def make_recipe(self, row: Mapping[str, Scalar]) -> Recipe:
        """The recipe of `row`, made once for all records of a network. Raises InvalidInput as `parse_recipe` does."""
        text = repr(row)
        if text not in self._recipes:
            self._recipes[text] = parse_recipe(row, self.ingredients)
        return self._recipes[text]


def find_installed(plugins: Sequence[Path] = ()) -> InstalledParts:
    """What is installed, and what the plugin files add; they are executed."""
    measures = available("measures", plugins)
    return InstalledParts(measures.classes, measures.packages, available_parts(plugins))


def resolve_record(record: Record, known: InstalledParts) -> Recomputable:
    """The objects that a record names, through the registry.

    Raises:
        UnknownCell: where something is not installed here, has another version, or does not give the record's key.
    """
    classes = known.measures
    if record.measure not in classes:
        hint = suggest_names(record.measure, classes)
        raise UnknownCell(f"measure '{record.measure}' is not installed here" + (f"; {hint}" if hint else ""))
    try:
        measure: Measure = classes[record.measure](**record.configuration)
        recipe = known.make_recipe(record.recipe)
    except (InvalidInput, TypeError, ValueError) as error:
        raise UnknownCell(f"'{shorten(record.label)}' cannot be made here: {shorten(str(error))}") from None
    if format_spec(measure) != record.label or to_config(measure) != record.configuration:
        raise UnknownCell(
            f"label '{shorten(record.label)}' is not that of its configuration, '{shorten(format_spec(measure))}'"
        )
    content = replace(
        KeyContent.of_record(record, version=measure.version), configuration=to_config(measure), recipe=recipe.row()
    )
    for examples in (None, record.data["examples"]):
        if content.key(examples=examples) == record.key:
            return Recomputable(record, measure, recipe, examples)  # type: ignore[arg-type]
    raise UnknownCell(
        f"the key of '{shorten(record.label)}' is not that of its cell: another version of it, or altered"
    )


@dataclass(frozen=True, slots=True)
class CellSample:
    """The cells to recompute, and one record with a reason for each measure that cannot be recomputed."""

    cells: tuple[Recomputable, ...]
    unknown: tuple[tuple[Record, str], ...]


def draw_cells(
    submission: Submission, *, sample: int, seed: int, known: InstalledParts, doubted: frozenset[str] = frozenset()
) -> CellSample:
    """`sample` cells with a value, one of each measure in turn, in an order that the seed draws.

    For about half of the measures, as the seed decides, cells with an oracle's value or factors of change come first,
    because there are few of them. A measure that cannot be made here is reported with the reason of one of its records;
    at most `sample` such measures are reported, so that a verdict stays small.

    Args:
        doubted: Hashes of cells and networks that were refuted before, with any claim. Their cells make up to half of
            the sample.
    """
    drawing = random.Random(seed)
    records = [record for record in submission.records if record.status == "ok"]
    piles: dict[str, list[Recomputable]] = {}
    unknown: dict[str, tuple[Record, str]] = {}
    for record in drawing.sample(records, len(records)):
        try:
            piles.setdefault(record.label, []).append(resolve_record(record, known))
        except UnknownCell as error:
            unknown.setdefault(record.label, (record, str(error)))
    for pile in piles.values():
        if drawing.random() < 0.5:
            pile.sort(key=lambda cell: cell.record.exact is None and not cell.record.invariance)
    turns = drawing.sample([pile for pile in piles.values() if pile], sum(bool(pile) for pile in piles.values()))
    ordered = [pile[turn] for turn in range(len(records)) for pile in turns if turn < len(pile)]
    again = [cell for cell in ordered if not doubted.isdisjoint(record_places(cell.record))] if doubted else []
    chosen = {cell.record.key: cell for cell in [*again[: (sample + 1) // 2], *ordered]}
    nothing = [pair for label, pair in unknown.items() if not piles.get(label)]
    return CellSample(tuple(chosen.values())[:sample], tuple(nothing[:sample]))


def record_places(record: Record) -> set[str]:
    """The hashes of the cell and of its network, without claims."""
    return {hash_cell(record), hash_network(record)}


def select_cells(submission: Submission, keys: Sequence[str], known: InstalledParts) -> CellSample:
    """The cells whose keys begin with these words. Raises InvalidInput for a word that matches none or several."""
    cells, unknown = [], []
    for word in keys:
        found = [record for record in submission.records if record.status == "ok" and record.key.startswith(word)]
        if len(found) != 1 or len(word) < 8:
            raise InvalidInput(
                f"cell {shorten(repr(word))} names {len(found)} cells with a value; give the beginning of one key, 8 "
                "characters or more"
            )
        try:
            cells.append(resolve_record(found[0], known))
        except UnknownCell as error:
            unknown.append((found[0], str(error)))
    return CellSample(tuple(cells), tuple(unknown))
