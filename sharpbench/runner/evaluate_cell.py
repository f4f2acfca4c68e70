"""Appraisal: all that is asked of one measure on one subject, as a record."""

from __future__ import annotations

import datetime
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from sharpbench.core.evaluate import measure
from sharpbench.core.fields import Scalar
from sharpbench.core.measure import Estimate, Measure
from sharpbench.core.record import Record
from sharpbench.core.spec import format_spec, to_config
from sharpbench.core.subject import ProcessGroup, Subject
from sharpbench.datasets.dataset import Data, Dataset
from sharpbench.environment import describe_environment
from sharpbench.models.model import Model
from sharpbench.runner.cell import Cell
from sharpbench.runner.cost import measure_cost
from sharpbench.runner.failures import failed_record
from sharpbench.runner.invariance import invariance_factors
from sharpbench.runner.process_settings import ProcessSettings
from sharpbench.training.examples import initial_module
from sharpbench.training.network import TrainingResult, load_network
from sharpbench.training.recipe import network_key
from sharpbench.training.zoo import Zoo


@dataclass(frozen=True, slots=True, kw_only=True)
class Checks:
    """What is asked beside the value: its standalone cost, its oracle's value, its change under rewrites."""

    timed: bool = False
    checked: bool = False
    rewritten: bool = False


def evaluate_measure(chosen: Measure, subject: Subject, doubled: Subject, *, blank: Record, asked: Checks) -> Record:
    """The record of `chosen` on `subject`. Whatever the measure raises becomes its status and reason.

    doubled: the same subject in float64, for oracle and rewrites. blank: the record before, with seed and key.
    """
    start = time.perf_counter()
    try:
        estimate = measure(chosen, subject, seed=blank.seed)
        record = _with_estimate(blank, estimate, time.perf_counter() - start)
        if asked.timed:
            record = _with_cost(record, chosen, subject)
        if asked.checked:
            record = _with_oracle(record, chosen, doubled)
        return (
            replace(record, invariance=invariance_factors(chosen, doubled, seed=blank.seed))
            if asked.rewritten
            else record
        )
    except (Exception, SystemExit) as error:  # a measure that raises, or leaves Python, costs its own record alone
        return failed_record(blank, error)


def _with_estimate(record: Record, estimate: Estimate, shared_seconds: float) -> Record:
    low, high = estimate.interval or (None, None)
    return replace(
        record,
        status="ok",
        reason=None,
        value=estimate.value,
        stderr=estimate.stderr,
        low=low,
        high=high,
        probes=estimate.probes,
        converged=estimate.converged,
        details=dict(estimate.details),
        parts=dict(estimate.parts),
        shared_seconds=shared_seconds,
    )


def _with_cost(record: Record, chosen: Measure, subject: Subject) -> Record:
    spent = measure_cost(lambda fresh: measure(chosen, fresh, seed=record.seed), subject, prepare=chosen.prepare)
    return replace(
        record,
        seconds=spent.seconds,
        gradients=spent.gradients,
        peak_bytes=spent.peak_bytes,
        contended=spent.contended,
    )


def _with_oracle(record: Record, chosen: Measure, doubled: Subject) -> Record:
    exact, by = oracle_value(chosen, doubled)
    return record if exact is None else replace(record, exact=exact, oracle=by)


def oracle_value(chosen: Measure, doubled: Subject) -> tuple[float | None, str]:
    """What the value should be, None where the measure has no oracle, and how that is found.

    The oracle is asked in float64, at the same weights. Raises what the measure raises, and ValueError for a value that
    is not finite.
    """
    exact = chosen.exact(doubled)
    if exact is not None and not math.isfinite(exact):
        raise ValueError(f"the oracle of '{chosen.name}' returns {exact}")
    rounding_alone = chosen.oracle_limit is not None and doubled.size > chosen.oracle_limit
    return exact, "float64 engine" if rounding_alone else "definition"


# Bench: where cells are measured one after the other; all engines measure here.


@dataclass(frozen=True, slots=True)
class _Opened:
    """What the cells of one network share: its subject, and one in float64 for all oracles and rewrites."""

    network: str
    truth: TrainingResult
    subject: Subject
    doubled: Subject


class CellEvaluator:
    """Measures cells, each on its own; what those of one network share is made once and kept until the next network.

    load: the data of a data set. team: the processes that share the batches, where there are several.
    """

    def __init__(self, cache: Path, load: Callable[[Dataset], Data], team: ProcessGroup | None = None) -> None:
        self.cache, self.load, self.team = cache, load, team
        self._modules: dict[tuple[Model, Dataset], nn.Module] = {}
        self._opened: _Opened | None = None

    def record(self, cell: Cell, *, begun: Callable[[], object] = lambda: None) -> Record:
        """The record of the cell. Whatever its network or its measure raises is its status and reason.

        The network must stand in the zoo. begun: called when the network is there and the measure is next.
        """
        data = self.load(cell.recipe.dataset)
        try:
            found = self._network(cell, data)
        except Exception as error:  # weights that are not finite, or a network that runs in training mode alone
            return failed_record(empty_record(cell, data, self._truth(cell)), error)
        begun()
        settings = ProcessSettings()
        empty = replace(empty_record(cell, data, found.truth), pieces=1 if self.team is None else self.team.size)
        asked = Checks(timed=cell.timed, checked=cell.checked, rewritten=cell.rewritten)
        record = evaluate_measure(cell.measure, found.subject, found.doubled, blank=empty, asked=asked)
        if self.team is not None:
            record = _together(record, empty, self.team)
        changed = settings.put_back()
        if changed and record.status == "ok":
            return replace(
                empty, reason=f"the measure changed {', '.join(changed)}, which others stand on; set it back"
            )
        return record

    def _network(self, cell: Cell, data: Data) -> _Opened:
        network = cell.network
        if self._opened is None or self._opened.network != network:
            self._opened = None  # its memory is free before the next one's is taken
            self._opened = self._open(cell, data, network)
        return self._opened

    def _truth(self, cell: Cell) -> TrainingResult | None:
        entry = Zoo(self.cache).load(network_key(cell.recipe, cell.data_sha256, cell.device))
        return None if entry is None else TrainingResult(**entry[1])

    def _open(self, cell: Cell, data: Data, network: str) -> _Opened:
        recipe = cell.recipe
        found = load_network(recipe, data, cell.data_sha256, zoo=Zoo(self.cache), device=cell.device)
        if found is None:
            raise RuntimeError(f"{recipe.title} is not in the cache any more; give the same command again")
        form = (recipe.model, recipe.dataset)
        if form not in self._modules:
            self._modules[form] = initial_module(recipe, data.shape, data.classes)
        dtype = getattr(torch, cell.dtype)
        subject = found.subject(self._modules[form], examples=cell.examples, dtype=dtype, device=cell.device)
        if self.team is not None:
            subject = replace(subject, team=self.team)
        return _Opened(network, found.truth, subject, subject.to(dtype=torch.float64))


def _together(record: Record, empty: Record, team: ProcessGroup) -> Record:
    """The same record where all of the team have come to the end of the measure; what failed says itself why."""
    try:
        team.finish()
    except RuntimeError as error:
        return failed_record(empty, error) if record.status == "ok" else record
    return record


def empty_record(cell: Cell, data: Data, truth: TrainingResult | None) -> Record:
    """The record of a cell before it is run; `truth` is None where its network could not be trained."""
    trained = cell.recipe.train_size or len(data.train_inputs)
    return Record(
        key=cell.key,
        measure=cell.measure.name,
        label=format_spec(cell.measure),
        configuration=to_config(cell.measure),
        recipe=cell.recipe.row(),
        truth={} if truth is None else truth.row(),
        data={
            "sha256": cell.data_sha256,
            "examples": cell.examples or trained,
            "test_examples": len(data.test_targets),
            **population_of(cell),
        },
        seed=cell.seed,
        dtype=cell.dtype,
        device=cell.device,
        status="failed",
        reason="not run",
        environment=describe_environment(cell.device),
        time=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    )


def population_of(cell: Cell) -> dict[str, Scalar]:
    """What a record says of the population that the cell's network is part of in this run."""
    return {"population": cell.population, "design": cell.design, "position": cell.position}
