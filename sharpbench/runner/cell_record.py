"""The record of a cell before its measure is called: what is known of network, data and population."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from sharpbench.core.fields import Scalar
from sharpbench.core.measure import Measure
from sharpbench.core.record import Record, Scalars, utc_now
from sharpbench.core.spec import format_spec, to_config
from sharpbench.datasets.dataset import Data
from sharpbench.environment import describe_environment
from sharpbench.runner.cell import Cell, EvaluationSetting
from sharpbench.training.network import TrainingResult
from sharpbench.training.recipe import Recipe


def cell_record(
    cell: Cell, data: Data | None, result: TrainingResult | None, outcomes: Mapping[str, float | None] | None = None
) -> Record:
    """The record of a cell before it is evaluated; `result` is None where its network could not be trained.

    Of a cell that has a value it is the record of that value, at the present time. `data` is None for a network that
    was trained elsewhere, whose table says all. outcomes: those of the network that are added to the record.
    """
    if cell.measured is not None:
        known = with_plan(cell.measured, cell)
        return replace(known, time=utc_now(), outcomes={**known.outcomes, **(outcomes or {})})
    if data is None:
        return with_plan(empty_record(cell.measure, cell.setting, key=cell.key, recipe={}, truth={}, data={}), cell)
    trained_on = cell.trained_recipe.train_size or len(data.train_inputs)
    record = empty_record(
        cell.measure,
        cell.setting,
        key=cell.key,
        recipe=cell.recipe.row(),
        truth={} if result is None else result.row(),
        data={
            "sha256": cell.data_sha256,
            "examples": cell.examples or trained_on,
            "available": trained_on,
            "test_examples": len(data.test_targets),
            **population_fields(cell),
        },
    )
    return replace(record, outcomes=outcomes or {})


def with_plan(record: Record, cell: Cell) -> Record:
    """The record with what the plan of this run says about its cell: the population, and what a table claims."""
    data = {**record.data, **population_fields(cell)}
    if isinstance(cell.recipe, Recipe):
        return record if data == record.data else replace(record, data=data)
    return replace(record, recipe=cell.recipe.recipe, truth=cell.recipe.truth, data={**data, **cell.recipe.data})


def population_fields(cell: Cell) -> dict[str, Scalar]:
    """What a record states about the population that the cell's network is part of in this run."""
    return {"population": cell.population, "design": cell.design, "position": cell.position}


def empty_record(
    chosen: Measure, setting: EvaluationSetting, *, key: str, recipe: Scalars, truth: Scalars, data: Scalars
) -> Record:
    """The record of a measure that has not been called: failed, because it was not run. See Record for the fields."""
    return Record(
        key=key,
        measure=chosen.name,
        label=format_spec(chosen),
        configuration=to_config(chosen),
        recipe=recipe,
        truth=truth,
        data=data,
        seed=setting.seed,
        dtype=setting.dtype,
        device=setting.device,
        status="failed",
        reason="not run",
        environment=describe_environment(setting.device),
        time=utc_now(),
    )
