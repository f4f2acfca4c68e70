"""Execution of a cell: its network is loaded, its measure called, timed and checked, and its record made."""

from __future__ import annotations

import datetime
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from sharpbench.core.evaluate import measure
from sharpbench.core.fields import Scalar
from sharpbench.core.measure import Estimate, Measure
from sharpbench.core.process_group import ProcessGroup
from sharpbench.core.record import Record, Scalars
from sharpbench.core.spec import format_spec, to_config
from sharpbench.core.subject import Subject
from sharpbench.datasets.dataset import Data
from sharpbench.environment import describe_environment
from sharpbench.models.model import Model
from sharpbench.runner.cell import Cell, Checks, EvaluationSetting
from sharpbench.runner.cost import measure_cost
from sharpbench.runner.failures import failed_record
from sharpbench.runner.invariance import invariance_factors
from sharpbench.runner.side_effects import SideEffectGuard, SideEffects
from sharpbench.training.examples import initial_module
from sharpbench.training.network import TrainingResult, load_network
from sharpbench.training.recipe import DataSource, Recipe
from sharpbench.training.zoo import Zoo


class CellEvaluator:
    """Evaluates cells one after the other; every engine measures through it.

    What the cells of one network share is loaded once and kept until the first cell of another network.
    """

    def __init__(self, cache_dir: Path, load: Callable[[Recipe], Data], group: ProcessGroup | None = None) -> None:
        """Args: the folder of trained networks; the loader of a recipe's data; the processes that share the batches."""
        self._zoo, self._load, self.group = Zoo(cache_dir), load, group
        self._modules: dict[tuple[Model, DataSource], nn.Module] = {}
        self._network: _LoadedNetwork | None = None
        self.side_effects = SideEffects()
        """What the measure of the last cell left behind."""

    def evaluate(self, cell: Cell, *, on_start: Callable[[], object] = lambda: None) -> Record:
        """The record of the cell, whose network must be in the zoo.

        Whatever the network or the measure raises becomes the status and the reason of the record. A measure that
        leaves something behind, `side_effects`, has no value, and the network is opened anew for the next cell.

        Args:
            on_start: is called when the network is loaded and the measure is next.
        """
        self.side_effects = SideEffects()
        data = self._load(cell.recipe)
        try:
            network = self._load_network(cell, data)
        except Exception as error:  # weights that are not finite, or a network that only runs in training mode
            return failed_record(cell_record(cell, data, self._training_result(cell)), error)
        on_start()
        empty = replace(cell_record(cell, data, network.result), pieces=1 if self.group is None else self.group.size)
        network.guard.begin()
        record = evaluate_measure(cell.measure, network.subject, network.float64_subject, empty, cell.checks)
        if self.group is not None:
            record = _finish_together(record, empty, self.group)
        self.side_effects = network.guard.finish()
        if self.side_effects:
            self._network = None
            self._modules.clear()
        return without_value(record, empty, self.side_effects)

    def _load_network(self, cell: Cell, data: Data) -> _LoadedNetwork:
        if self._network is None or self._network.name != cell.network:
            self._network = None  # its memory is free before the next network takes some
            self._network = self._open_network(cell, data)
        return self._network

    def _open_network(self, cell: Cell, data: Data) -> _LoadedNetwork:
        recipe, setting = cell.recipe, cell.setting
        trained = load_network(recipe, data, cell.data_sha256, zoo=self._zoo, device=setting.device)
        if trained is None:
            raise RuntimeError(f"{recipe.title} is not in the cache any more; give the same command again")
        form = (recipe.model, recipe.data_source)
        if form not in self._modules:
            self._modules[form] = initial_module(recipe, data.shape, data.classes)
        dtype = getattr(torch, setting.dtype)
        subject = trained.subject(self._modules[form], examples=cell.examples, dtype=dtype, device=setting.device)
        if self.group is not None:
            subject = replace(subject, process_group=self.group)
        float64_subject = subject.to(dtype=torch.float64)
        guard = SideEffectGuard(subject, float64_subject)
        return _LoadedNetwork(cell.network, trained.result, subject, float64_subject, guard)

    def _training_result(self, cell: Cell) -> TrainingResult | None:
        entry = self._zoo.load(cell.network_key)
        return None if entry is None else TrainingResult(**entry[1])


def evaluate_measure(
    chosen: Measure, subject: Subject, float64_subject: Subject, empty: Record, checks: Checks
) -> Record:
    """The record of a measure on a subject. Whatever the measure raises becomes its status and reason.

    Args:
        float64_subject: the same subject in float64, for the oracle and the rewrites.
        empty: the record before, with the seed and the key.
        checks: what is found in addition to the value.
    """
    start, process = time.perf_counter(), os.getpid()
    try:
        estimate = measure(chosen, subject, seed=empty.seed, jackknife=checks.jackknife)
        record = _add_estimate(empty, estimate, time.perf_counter() - start)
        if checks.timed:
            record = _add_cost(record, chosen, subject)
        if checks.compared:
            record = _add_oracle(record, chosen, float64_subject)
        if checks.rewritten:
            factors = invariance_factors(chosen, float64_subject, seed=empty.seed)
            record = replace(record, invariance=factors)
    except (Exception, SystemExit) as error:  # a measure that raises, or leaves Python, costs only its own record
        return failed_record(empty, error)
    finally:
        if os.getpid() != process:  # a child that the measure forked goes on from here, as if it were this process
            os._exit(0)
    return record


def without_value(record: Record, empty: Record, effects: SideEffects) -> Record:
    """The same record, or a failed one where the measure left something behind."""
    return replace(empty, reason=effects.reason) if effects and record.status == "ok" else record


def oracle_value(chosen: Measure, float64_subject: Subject) -> tuple[float | None, str]:
    """What the value should be, None where the measure has no oracle, and how that is found.

    Raises what the measure raises, and ValueError for a value that is not finite.
    """
    exact = chosen.exact(float64_subject)
    if exact is not None and not math.isfinite(exact):
        raise ValueError(f"the oracle of '{chosen.name}' returns {exact}")
    checks_only_rounding = chosen.oracle_limit is not None and float64_subject.size > chosen.oracle_limit
    return exact, "float64 engine" if checks_only_rounding else "definition"


def cell_record(cell: Cell, data: Data, result: TrainingResult | None) -> Record:
    """The record of a cell before it is evaluated; `result` is None where its network could not be trained."""
    trained_on = cell.recipe.train_size or len(data.train_inputs)
    return empty_record(
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
        time=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    )


@dataclass(frozen=True, slots=True)
class _LoadedNetwork:
    """What the cells of one network share; the float64 subject is for all oracles and rewrites."""

    name: str
    result: TrainingResult
    subject: Subject
    float64_subject: Subject
    guard: SideEffectGuard


def _add_estimate(record: Record, estimate: Estimate, shared_seconds: float) -> Record:
    low, high = estimate.interval or (None, None)
    return replace(
        record,
        status="ok",
        reason=None,
        value=estimate.value,
        stderr=estimate.stderr,
        stderr_examples=estimate.stderr_examples,
        low=low,
        high=high,
        probes=estimate.probes,
        converged=estimate.converged,
        details=dict(estimate.details),
        parts=dict(estimate.parts),
        shared_seconds=shared_seconds,
    )


def _add_cost(record: Record, chosen: Measure, subject: Subject) -> Record:
    cost = measure_cost(lambda fresh: measure(chosen, fresh, seed=record.seed), subject, prepare=chosen.prepare)
    return replace(
        record,
        seconds=cost.seconds,
        gradients=cost.gradients,
        peak_bytes=cost.peak_bytes,
        contended=cost.contended,
    )


def _add_oracle(record: Record, chosen: Measure, float64_subject: Subject) -> Record:
    exact, way = oracle_value(chosen, float64_subject)
    return record if exact is None else replace(record, exact=exact, oracle=way)


def _finish_together(record: Record, empty: Record, group: ProcessGroup) -> Record:
    """The same record where all processes of the group have come to the end of the measure, else a failed one."""
    try:
        group.finish()
    except RuntimeError as error:
        return failed_record(empty, error) if record.status == "ok" else record
    return record
