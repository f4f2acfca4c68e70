"""Sampling: which cells of a submission are recomputed."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sharpbench.core.measure import Measure
from sharpbench.core.record import Record
from sharpbench.core.registry import available
from sharpbench.core.spec import Inner, format_spec, to_config
from sharpbench.errors import InvalidInput, near, short
from sharpbench.leaderboard.submissions.claims import hash_cell, hash_network
from sharpbench.leaderboard.submissions.submission import Submission
from sharpbench.runner.cell import cell_key
from sharpbench.training.recipe import Recipe, available_parts, parse_recipe

# Cells: what a record's words stand for here.


class UnknownCell(Exception):
    """A record that means nothing here; the message says why."""


@dataclass(frozen=True, slots=True)
class Recomputable:
    """A record with its measure and its recipe; examples as in its cell."""

    record: Record
    measure: Measure
    recipe: Recipe
    examples: int | None


@dataclass(frozen=True, slots=True)
class InstalledParts:
    """What words can mean here: measures by name, the package of each, and what recipes are made of."""

    measures: Mapping[str, type[Any]]
    packages: Mapping[str, str]
    ingredients: Inner


def find_installed(plugins: Sequence[Path] = ()) -> InstalledParts:
    """What is installed, and what the files `plugins` add, which are executed."""
    measures = available("measures", plugins)
    return InstalledParts(measures.classes, measures.packages, available_parts(plugins))


def resolve_record(record: Record, known: InstalledParts) -> Recomputable:
    """The objects that a record names, through the registry.

    Raises Unknown where something is not installed here, is of another version, or does not give the record's key.
    """
    classes = known.measures
    if record.measure not in classes:
        hint = near(record.measure, classes)
        raise UnknownCell(f"measure '{record.measure}' is not installed here" + (f"; {hint}" if hint else ""))
    try:
        measure: Measure = classes[record.measure](**record.configuration)
        recipe = parse_recipe(record.recipe, known.ingredients)
    except (InvalidInput, TypeError, ValueError) as error:
        raise UnknownCell(f"'{short(record.label)}' cannot be made here: {short(str(error))}") from None
    if format_spec(measure) != record.label or to_config(measure) != record.configuration:
        raise UnknownCell(
            f"label '{short(record.label)}' is not that of its configuration, '{short(format_spec(measure))}'"
        )
    for examples in (None, record.data["examples"]):
        key = cell_key(
            measure,
            recipe,
            data_sha256=str(record.data["sha256"]),
            examples=examples,  # type: ignore[arg-type]  # whole, it was checked
            seed=record.seed,
            dtype=record.dtype,
            device=record.device,
        )
        if key == record.key:
            return Recomputable(record, measure, recipe, examples)  # type: ignore[arg-type]
    raise UnknownCell(f"the key of '{short(record.label)}' is not that of its cell: another version of it, or altered")


@dataclass(frozen=True, slots=True)
class CellSample:
    """cells: what is to be recomputed. unknown: measures, by the label of a record, of which nothing can be; why."""

    cells: tuple[Recomputable, ...]
    unknown: tuple[tuple[Record, str], ...]


def draw_cells(
    submission: Submission, *, sample: int, seed: int, known: InstalledParts, doubted: frozenset[str] = frozenset()
) -> CellSample:
    """`sample` cells with a value: one of each measure in turn, in an order that the seed draws.

    doubted: places of cells and networks that were refuted before, under whatever claim; cells there make up to half
    of the sample. Of every other measure, as the seed decides, a cell that says how exact or invariant it is comes
    first: there are few of them. A measure of which nothing means anything here is not drawn from, but named with the
    reason of one of its records, of at most so many such measures: a verdict stays small.
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
    """The place of the cell, and that of its network."""
    return {hash_cell(record), hash_network(record)}


def select_cells(submission: Submission, keys: Sequence[str], known: InstalledParts) -> CellSample:
    """The cells whose keys begin with these words. Raises InvalidInput where none or several do."""
    cells, unknown = [], []
    for word in keys:
        found = [record for record in submission.records if record.status == "ok" and record.key.startswith(word)]
        if len(found) != 1 or len(word) < 8:
            raise InvalidInput(
                f"cell {short(repr(word))} names {len(found)} cells with a value; give the beginning of one key, 8 "
                "characters or more"
            )
        try:
            cells.append(resolve_record(found[0], known))
        except UnknownCell as error:
            unknown.append((found[0], str(error)))
    return CellSample(tuple(cells), tuple(unknown))
