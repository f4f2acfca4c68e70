"""Execution of a cell: its network is loaded, its measure called, timed and checked, and its record made."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import nn

from sharpbench.core.evaluate import measure
from sharpbench.core.measure import Estimate, Measure
from sharpbench.core.process_group import ProcessGroup
from sharpbench.core.record import Record, Scalars
from sharpbench.core.subject import Subject
from sharpbench.datasets.dataset import Data
from sharpbench.environment import describe_environment
from sharpbench.files import Workspace
from sharpbench.models.model import Model
from sharpbench.runner.cell import Cell, Checks
from sharpbench.runner.cell_record import cell_record
from sharpbench.runner.cost import measure_cost
from sharpbench.runner.failures import failed_record, unfinished_record
from sharpbench.runner.foreign.network import ForeignNetworks
from sharpbench.runner.invariance import invariance_factors
from sharpbench.runner.network_subject import fit_fields
from sharpbench.runner.side_effects import SideEffectGuard, SideEffects
from sharpbench.training.examples import initial_module
from sharpbench.training.network import TrainingResult, load_network
from sharpbench.training.outcomes import OutcomeStore
from sharpbench.training.recipe import DataSource, Recipe
from sharpbench.training.zoo import Zoo


class CellEvaluator:
    """Evaluates cells one after the other; every engine measures through it.

    What the cells of one network share is loaded once and kept until the first cell of another network.
    """

    def __init__(self, workspace: Workspace, load: Callable[[Recipe], Data], group: ProcessGroup | None = None) -> None:
        """Args: the folders; the loader of a recipe's data; the processes that share the batches."""
        self._zoo, self._load, self.group = Zoo(workspace.cache_dir), load, group
        self._foreign = ForeignNetworks(workspace.data_dir)
        self._outcomes = OutcomeStore(workspace.cache_dir)
        self._modules: dict[tuple[Model, DataSource], nn.Module] = {}
        self._network: _LoadedNetwork | None = None
        self.side_effects = SideEffects()
        """What the measure of the last cell left behind."""

    def evaluate(self, cell: Cell, *, on_start: Callable[[], object] = lambda: None) -> Record:
        """The record of the cell, whose network must be in the zoo, or was trained elsewhere.

        Whatever the network or the measure raises becomes the status and the reason of the record. A measure that
        leaves something behind, `side_effects`, has no value, and the network is opened anew for the next cell.

        Args:
            on_start: is called when the network is loaded and the measure is next.
        """
        self.side_effects = SideEffects()
        data = self._load(cell.recipe) if isinstance(cell.recipe, Recipe) else None
        try:
            network = self._load_network(cell, data)
        except Exception as error:  # weights that are not finite, or a network that only runs in training mode
            before = cell_record(cell, data, self._training_result(cell))
            return failed_record(before, error, cell.checks.names)
        on_start()
        cell = _measure_again_elsewhere(cell, network.result)
        before = cell_record(cell, data, network.result, network.outcomes)
        before = replace(before, data={**before.data, **network.found})
        if cell.with_curve and (curve := self._zoo.read_curve(cell.network_key)):
            before = replace(before, training_curve=curve)
        if self.group is not None and cell.measured is None:
            before = replace(before, pieces=self.group.size)
        network.guard.begin()
        record = evaluate_measure(cell.measure, network.subject, network.float64_subject, before, cell.checks)
        if self.group is not None:
            record = _finish_together(record, before, self.group, cell.checks)
        self.side_effects = network.guard.finish()
        if self.side_effects:
            self._network = None
            self._modules.clear()
            self._foreign.forget()
        return discard_after(self.side_effects, record, before, cell.checks)

    def _load_network(self, cell: Cell, data: Data | None) -> _LoadedNetwork:
        if self._network is None or self._network.name != cell.network:
            self._network = None  # its memory is free before the next network takes some
            self._network = self._open_network(cell, data)
        return self._network

    def _open_network(self, cell: Cell, data: Data | None) -> _LoadedNetwork:
        if data is None:
            subject = self._foreign.open(cell)
            found, result = fit_fields(subject), None
            outcomes: Mapping[str, float | None] = {}
        else:
            subject, result, outcomes = self._open_trained(cell, data)
            found = {}
        if self.group is not None:
            subject = replace(subject, process_group=self.group)
        float64_subject = subject.to(dtype=torch.float64)
        guard = SideEffectGuard(subject, float64_subject)
        return _LoadedNetwork(cell.network, result, outcomes, found, subject, float64_subject, guard)

    def _open_trained(self, cell: Cell, data: Data) -> tuple[Subject, TrainingResult, Mapping[str, float | None]]:
        recipe, setting = cell.trained_recipe, cell.setting
        trained = load_network(recipe, data, cell.data_sha256, zoo=self._zoo, device=setting.device)
        if trained is None:
            raise RuntimeError(f"{recipe.title} is not in the cache any more; give the same command again")
        form = (recipe.model, recipe.data_source)
        if form not in self._modules:
            self._modules[form] = initial_module(recipe, data.shape, data.classes)
        dtype = getattr(torch, setting.dtype)
        subject = trained.subject(self._modules[form], examples=cell.examples, dtype=dtype, device=setting.device)
        outcomes = self._outcomes.obtain(cell.network_key, trained, data, cell.outcomes, device=setting.device)
        return subject, trained.result, outcomes

    def _training_result(self, cell: Cell) -> TrainingResult | None:
        entry = self._zoo.load(cell.network_key)
        return None if entry is None else TrainingResult(**entry[1])


def evaluate_measure(
    chosen: Measure, subject: Subject, float64_subject: Subject, before: Record, checks: Checks
) -> Record:
    """The record of a measure on a subject. Whatever the measure raises becomes its status and reason.

    A check that raises has no result, and the record says why; it keeps its value.

    Args:
        float64_subject: the same subject in float64, for the oracle and the rewrites.
        before: the record before, with the seed and the key. Where it has a value, only the checks are made.
        checks: what is found in addition to the value.
    """
    record, process = before, os.getpid()
    try:
        if before.status != "ok":
            start = time.perf_counter()
            estimate = measure(chosen, subject, seed=before.seed, jackknife=checks.jackknife)
            record = _add_estimate(before, estimate, time.perf_counter() - start)
        for name in checks.names:
            tested = subject if name == "timing" else float64_subject
            record = _add_check(name, record, chosen, tested)
    except (Exception, SystemExit) as error:  # a measure that raises, or leaves Python, costs only its own record
        return failed_record(before, error, checks.names)
    finally:
        if os.getpid() != process:  # a child that the measure forked goes on from here, as if it were this process
            os._exit(0)
    return record


def _add_check(name: str, record: Record, chosen: Measure, subject: Subject) -> Record:
    """The record with the result of a check, or with the reason why it has none."""
    add = {"timing": _add_cost, "oracle": _add_oracle, "invariance": _add_invariance}[name]
    try:
        record = add(record, chosen, subject)
    except (Exception, SystemExit) as error:  # whatever a measure raises
        if subject.process_group is not None:  # the next check would mix its sums with those of this one
            raise
        return failed_record(record, error, [name])
    return replace(record, checks={**record.checks, name: None})


def discard_after(effects: SideEffects, record: Record, before: Record, checks: Checks) -> Record:
    """The same record; or, where the measure left something behind, the one before without a value or the checks."""
    if not effects or record.status != "ok":
        return record
    return unfinished_record(before, "failed", effects.reason, checks=checks.names)


def oracle_value(chosen: Measure, float64_subject: Subject) -> tuple[float | None, str]:
    """What the value should be, None where the measure has no oracle, and how that is found.

    Raises what the measure raises, and ValueError for a value that is not finite.
    """
    exact = chosen.exact(float64_subject)
    if exact is not None and not math.isfinite(exact):
        raise ValueError(f"the oracle of '{chosen.name}' returns {exact}")
    checks_only_rounding = chosen.oracle_limit is not None and float64_subject.size > chosen.oracle_limit
    return exact, "float64 engine" if checks_only_rounding else "definition"


@dataclass(frozen=True, slots=True)
class _LoadedNetwork:
    """What the cells of one network share; the float64 subject is for all oracles and rewrites.

    Attributes:
        result: of its training; None where it was trained elsewhere.
        found: loss and accuracy on the examples, where only its table states what they are.
    """

    name: str
    result: TrainingResult | None
    outcomes: Mapping[str, float | None]
    found: Scalars
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
    """The record with the cost of a call, taken among these processes and in this environment."""
    cost = measure_cost(lambda fresh: measure(chosen, fresh, seed=record.seed), subject, prepare=chosen.prepare)
    here = describe_environment(record.device)
    return replace(
        record,
        pieces=1 if subject.process_group is None else subject.process_group.size,
        timed_environment={} if here == record.environment else here,
        seconds=cost.seconds,
        gradients=cost.gradients,
        peak_bytes=cost.peak_bytes,
        contended=cost.contended,
    )


def _add_oracle(record: Record, chosen: Measure, float64_subject: Subject) -> Record:
    exact, way = oracle_value(chosen, float64_subject)
    return replace(record, exact=exact, oracle=None if exact is None else way)


def _add_invariance(record: Record, chosen: Measure, float64_subject: Subject) -> Record:
    return replace(record, invariance=invariance_factors(chosen, float64_subject, seed=record.seed))


def _measure_again_elsewhere(cell: Cell, result: TrainingResult | None) -> Cell:
    """The same cell; without its value, which all checks need, where that was measured on another network.

    Training amplifies rounding, so a network of the same recipe from another machine, trained here, is another one.
    """
    measured = cell.measured
    if measured is None or result is None:
        return cell
    found = result.row()
    common = (set(measured.truth) & set(found)) - {"seconds"}
    if common and all(measured.truth[name] == found[name] for name in common):
        return cell
    return replace(cell, measured=None, checks=cell.checks.with_names({*cell.checks.names, *measured.tried}))


def _finish_together(record: Record, before: Record, group: ProcessGroup, checks: Checks) -> Record:
    """The same record where all processes of the group have come to the end of the measure, else a failed one."""
    try:
        group.finish()
    except RuntimeError as error:
        return failed_record(before, error, checks.names) if record.status == "ok" else record
    return record
