"""The population of a table: which columns are hyperparameters, seed, outcome and measures, and its networks."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

from sharpbench.analysis.population import (
    OUTCOME_DECIMALS,
    MeasuredNetwork,
    MeasuredPopulation,
    MeasureRow,
    recipe_text,
)
from sharpbench.analysis.statistics import MIN_MARGINAL_CELL
from sharpbench.analysis.table import Table
from sharpbench.core.fields import Scalar
from sharpbench.core.record import Design, Record
from sharpbench.errors import InvalidInput, shorten, suggest_names

RESULTS = frozenset(
    {"gap", "fitted", "diverged", "train_loss", "train_accuracy", "test_loss", "test_accuracy"}
    | {"steps", "epochs", "seconds", "parameter_norm"}
)
"""Columns that describe a training. They are measures only where they are named as such."""
COVARIATES = ("train_loss", "parameter_norm")
"""Columns that become baselines where the table has them."""
GATE = ("fitted", "diverged")
"""Columns of true and false by which networks are excluded, as in `run`."""
OWN_FIELDS = ("dataset",)
"""Fields of a recipe that cannot be hyperparameters: networks of several data sets have separate boards."""
UNKNOWN = "unknown"
"""Device and precision of values that were computed elsewhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TableColumns:
    """Which columns of a table are what.

    Args:
        outcome: A column, or the difference of two columns, as in 'train_accuracy - test_accuracy'.
        by: The hyperparameters. Networks that agree in all of them are one cell.
        seed: What distinguishes the networks of one cell. None: the column `seed` where there is one, else the order of
            the rows.
        measures: None: all columns of numbers that are not named otherwise.
    """

    outcome: str = "gap"
    by: Sequence[str] = ()
    seed: str | None = None
    measures: Sequence[str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TableOptions:
    """What a table does not say about itself.

    Args:
        descending: Measures that are expected to fall as the outcome rises. They are scored with the opposite sign.
        ignore: Columns that are not measures.
        design: 'random' where configurations were drawn at random, 'designed' where they are all of a grid.
        test_examples: The number of test examples behind the accuracies, which sign errors need.
        model, dataset: Names in the heading; the data set is by default the name of the file.
    """

    descending: Sequence[str] = ()
    ignore: Sequence[str] = ()
    design: Design = "designed"
    test_examples: int | None = None
    model: str = "networks"
    dataset: str | None = None

    def __post_init__(self) -> None:
        if self.design not in get_args(Design):
            raise InvalidInput(f"design '{shorten(str(self.design))}' is none of {', '.join(get_args(Design))}")
        if self.test_examples is not None and self.test_examples < 1:
            raise InvalidInput(f"{self.test_examples} test examples; give the size of the test set, at least 1")


@dataclass(frozen=True, slots=True, eq=False)
class TablePopulation:
    """The population of a table.

    Args:
        outcome: What the gap is made of, in words.
        unused: Columns of text that are not named, where measures are chosen because they are numbers.
    """

    population: MeasuredPopulation
    outcome: str
    unused: tuple[str, ...]


def make_networks(
    table: Table, columns: TableColumns, options: TableOptions
) -> tuple[TableColumns, list[MeasuredNetwork]]:
    """The columns with the seed filled in, and the network of each row: its recipe and what the table claims about it.

    Raises InvalidInput as `make_population`, for all but measures.
    """
    columns = _complete(table, columns)
    gate = {name: table.booleans(name) for name in GATE if name in table.columns}
    fitted = gate.get("fitted", [True] * table.rows)
    gaps = _outcomes(table, columns.outcome, fitted, options.test_examples)
    recipes = _recipes(table, columns, options)
    covariates = {name: table.numbers(name) for name in COVARIATES if name in table.columns}
    networks = [
        MeasuredNetwork(
            recipe_text(recipes[row]),
            recipes[row],
            {"gap": gaps[row], **{name: values[row] for name, values in (covariates | gate).items()}, "fitted": fits},
        )
        for row, fits in enumerate(fitted)
    ]
    _check_networks(table, columns, networks)
    return columns, networks


def make_population(table: Table, columns: TableColumns, options: TableOptions) -> TablePopulation:
    """The networks of a table and the values of its measures.

    Raises:
        InvalidInput: for a column that is missing or holds another kind of value, a network that is there twice, a
            measure or an outcome that is the same for all networks, and fewer networks than an interval needs.
    """
    columns, networks = make_networks(table, columns, options)
    measures = _choose_measures(table, columns, options)
    data: Mapping[str, Scalar] = {"population": options.model, "design": options.design}
    if options.test_examples is not None:
        data = {**data, "test_examples": options.test_examples}
    rows = [_measure_row(table, name, networks, data, descending=name in options.descending) for name in measures]
    dataset = options.dataset or Path(table.name).stem
    population = MeasuredPopulation(
        dataset,
        options.model,
        options.design,
        tuple(sorted(networks, key=lambda network: network.key)),
        tuple(sorted(rows, key=lambda row: row.label)),
    )
    outcome = outcome_words(table, columns.outcome)
    used = {*columns.by, columns.seed, *_outcome_columns(table, columns.outcome), *RESULTS, *options.ignore}
    unused = (name for name in table.columns if name not in used and table.is_text(name))
    return TablePopulation(population, outcome, tuple(unused) if columns.measures is None else ())


def _complete(table: Table, columns: TableColumns) -> TableColumns:
    """The columns with the seed filled in, which is not a hyperparameter."""
    seed = columns.seed or ("seed" if "seed" in table.columns else None)
    if seed is not None:
        table.column(seed)
    by = tuple(name for name in columns.by if name != seed)
    for name, count in Counter(by).items():
        table.column(name)
        if count > 1:
            raise InvalidInput(f"the hyperparameter '{shorten(name)}' is named twice; name it once")
        if name in OWN_FIELDS:
            raise InvalidInput(
                f"'{name}' cannot be a hyperparameter: score the networks of each data set by themselves"
            )
    return replace(columns, by=by, seed=seed)


def outcome_words(table: Table, outcome: str) -> str:
    """What the gap is made of, in words."""
    return f"column {outcome}" if outcome in table.columns else outcome


def _outcome_columns(table: Table, outcome: str) -> list[str]:
    """The column of an outcome, or the two columns whose difference it is."""
    if outcome in table.columns:
        return [outcome]
    parts = [part.strip() for part in outcome.split(" - ")]
    if len(parts) == 1 and outcome == TableColumns().outcome:
        raise InvalidInput(
            f"{table.name} has no column '{outcome}'; name the outcome, or two columns whose difference it is, as in "
            "outcome 'train_accuracy - test_accuracy'"
        )
    if len(parts) > 2:
        raise InvalidInput(f"the outcome '{shorten(outcome)}' has {len(parts)} parts; name one column or 'one - other'")
    return parts


def _outcomes(table: Table, outcome: str, fitted: Sequence[bool], test_examples: int | None) -> list[float | None]:
    """The outcome of each network; one that did not fit may have none."""
    columns = [table.numbers(name) for name in _outcome_columns(table, outcome)]
    found: list[float | None] = []
    for place, fits, parts in zip(table.places, fitted, zip(*columns, strict=True), strict=True):
        known = [part for part in parts if part is not None]
        whole = len(known) == len(parts)
        if fits and not whole:
            raise InvalidInput(f"{place}: no outcome '{shorten(outcome)}'; give it, or remove the row")
        found.append((known[0] - known[1] if len(known) == 2 else known[0]) if whole else None)
    if len(columns) == 2:
        found = _round_differences(
            found, max((abs(part) for column in columns for part in column if part), default=1.0)
        )
    largest = max((abs(gap) for gap in found if gap is not None), default=0.0)
    if test_examples is not None and largest > 1:
        raise InvalidInput(
            f"the outcome '{shorten(outcome)}' reaches {largest:g}; sign errors need accuracies from 0 to 1: divide "
            "percentages by 100, or leave out the number of test examples"
        )
    return found


def _round_differences(found: Sequence[float | None], largest: float) -> list[float | None]:
    """Differences of numbers up to that size, without the last digits, which rounding decides: equal ones are tied.

    >>> _round_differences([0.9 - 0.8, 0.8 - 0.7, None], largest=0.9)
    [0.1, 0.1, None]
    """
    decimals = OUTCOME_DECIMALS - math.ceil(math.log10(largest))
    return [None if value is None else round(value, decimals) for value in found]


def _recipes(table: Table, columns: TableColumns, options: TableOptions) -> list[dict[str, Scalar]]:
    """The recipe of each network: its model, data set, hyperparameters and seed."""
    settings = {name: table.settings(name) for name in columns.by}
    shared: dict[str, Scalar] = {"model": options.model, "dataset": options.dataset or Path(table.name).stem}
    recipes: list[dict[str, Scalar]] = [
        {**shared, **{name: values[row] for name, values in settings.items()}} for row in range(table.rows)
    ]
    if columns.seed is not None:
        return [{**recipe, "seed": seed} for recipe, seed in zip(recipes, table.seeds(columns.seed), strict=True)]
    counts: Counter[str] = Counter()
    for recipe in recipes:
        cell = recipe_text(recipe)
        recipe["seed"] = counts[cell]
        counts[cell] += 1
    return recipes


def _check_networks(table: Table, columns: TableColumns, networks: Sequence[MeasuredNetwork]) -> None:
    """Refuse networks that are there twice, too few networks, and one outcome for all."""
    first: dict[object, str] = {}
    for row, (place, network) in enumerate(zip(table.places, networks, strict=True)):
        same: object = network.key if columns.seed else tuple(values[row] for values in table.columns.values())
        if same in first:
            remedy = "keep one" if columns.seed else "remove one, or tell them apart by a column of seeds"
            what = f"the network of {first[same]} again" if columns.seed else f"the same row as {first[same]}"
            raise InvalidInput(f"{place}: {what}; {remedy}")
        first[same] = place
    counted = [network for network in networks if network.counts]
    if len(counted) < MIN_MARGINAL_CELL:
        raise InvalidInput(
            f"{table.name} has {len(counted)} network{'' if len(counted) == 1 else 's'} with an outcome that fitted, "
            f"an interval needs {MIN_MARGINAL_CELL}; add networks"
        )
    if len({network.outcome for network in counted}) == 1:
        raise InvalidInput(
            f"the outcome '{shorten(columns.outcome)}' is {counted[0].outcome:g} for all networks; name another"
        )


def _choose_measures(table: Table, columns: TableColumns, options: TableOptions) -> list[str]:
    """The measures: those named, else all columns of numbers that are not named otherwise."""
    named = {*columns.by, columns.seed, *_outcome_columns(table, columns.outcome)}
    for name in (*options.ignore, *(columns.measures or ())):
        table.column(name)
    if columns.measures is None:
        free = [name for name in table.columns if name not in named | RESULTS | set(options.ignore)]
        chosen = [name for name in free if not table.is_text(name)]
        if not chosen:
            raise InvalidInput(f"{table.name} has no column of numbers that is not named otherwise; name --measures")
    else:
        chosen = list(dict.fromkeys(columns.measures))
        if used := [name for name in chosen if name in named]:
            raise InvalidInput(f"'{shorten(used[0])}' is named as a measure and otherwise; name it once")
        if not chosen:
            raise InvalidInput("no measures are named; name at least one")
    for name in options.descending:
        if name not in chosen:
            hint = suggest_names(name, chosen)
            raise InvalidInput(
                f"descending '{shorten(name)}' is not a measure of the table" + (f"; {hint}" if hint else "")
            )
    return chosen


def _measure_row(
    table: Table, name: str, networks: Sequence[MeasuredNetwork], data: Mapping[str, Scalar], *, descending: bool
) -> MeasureRow:
    """The values of one measure as records; those of a descending measure have the opposite sign."""
    values = table.numbers(name)
    present = {value for value, network in zip(values, networks, strict=True) if network.counts and value is not None}
    if len(present) < 2:
        what = f"is {present.pop():g} for all networks" if present else "has no value for any network"
        raise InvalidInput(f"{table.name}: the measure '{shorten(name)}' {what}; ignore the column, or name --measures")
    label = f"-{name}" if descending else name
    sign = -1.0 if descending else 1.0
    return MeasureRow(
        label,
        "",
        {
            network.key: Record(
                key=f"{label} {network.key}",
                measure=name,
                label=label,
                configuration={},
                recipe=network.recipe,
                truth=network.truth,
                data=data,
                seed=0,
                dtype=UNKNOWN,
                device=UNKNOWN,
                status="skipped" if value is None else "ok",
                reason="no value in the table" if value is None else None,
                value=None if value is None else sign * value,
            )
            for value, network in zip(values, networks, strict=True)
        },
    )
