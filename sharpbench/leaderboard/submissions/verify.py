"""Recomputes the cells of a sample on networks from the cache or trained again, and compares them with the claims."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Generator, Iterator, Sequence
from itertools import groupby
from pathlib import Path

import torch
from torch import nn

from sharpbench.core.evaluate import measure
from sharpbench.core.fields import Scalar
from sharpbench.core.measure import NotApplicable
from sharpbench.core.record import Record
from sharpbench.core.subject import Subject
from sharpbench.datasets.dataset import Data
from sharpbench.environment import apply_settings, describe_environment
from sharpbench.errors import InvalidInput
from sharpbench.leaderboard.submissions import findings as comparison
from sharpbench.leaderboard.submissions import tolerance
from sharpbench.leaderboard.submissions.networks import NotReproducible, SubmittedPopulations, VerificationSetting
from sharpbench.leaderboard.submissions.sampling import CellSample, Recomputable
from sharpbench.leaderboard.submissions.submission import Submission
from sharpbench.leaderboard.submissions.verdict import Finding
from sharpbench.runner.evaluate_cell import oracle_value
from sharpbench.runner.failures import failure_status
from sharpbench.runner.invariance import invariance_factors
from sharpbench.training.examples import evaluate_module, initial_module
from sharpbench.training.network import TrainedNetwork
from sharpbench.training.population import Population, TrainingEpoch


def verify_submission(
    submission: Submission, drawn: CellSample, setting: VerificationSetting
) -> Iterator[TrainingEpoch | Finding]:
    """Findings network by network, first on its truth and then on each cell; and the epochs of trainings in between.

    Networks train in the groups that the recipes of the whole submission fix, as in the original run. Nothing of the
    submission is executed. If a number differs or parts on a network from the cache, the network is trained again: the
    cache may be damaged, or may have trained it in another group.
    """
    for record, reason in drawn.unknown:
        yield comparison.report_unknown(record, reason)
    populations = SubmittedPopulations(submission, setting)
    networks = sorted(drawn.cells, key=_network_key)
    with tempfile.TemporaryDirectory(prefix="sharpbench-verify-") as folder:
        for _, cells in groupby(networks, key=_network_key):
            yield from _verify_network(list(cells), populations, setting, Path(folder))


def _network_key(cell: Recomputable) -> tuple[str, str, str]:
    """Recipe, device and claimed truth of the network; different claims on one network are compared separately."""
    return cell.recipe.key, cell.record.device, str(sorted(cell.record.truth.items()))


def _verify_network(
    cells: Sequence[Recomputable], populations: SubmittedPopulations, setting: VerificationSetting, folder: Path
) -> Iterator[TrainingEpoch | Finding]:
    try:
        if setting.late:
            raise NotReproducible("the time was up")
        population = populations.of(cells[0])
    except NotReproducible as error:
        yield from (comparison.report_unknown(cell.record, str(error)) for cell in cells)
        return
    cached = population.stored_result(cells[0].recipe) is not None
    module = populations.module(cells[0].recipe)
    findings = yield from _compare_cells(cells, population, module, setting)
    if cached and any(each.outcome in ("differs", "parted") for each in findings):
        findings = yield from _compare_cells(cells, populations.retrain(cells[0], folder), module, setting)
    yield from findings


def _compare_cells(
    cells: Sequence[Recomputable], population: Population, module: nn.Module, setting: VerificationSetting
) -> Generator[TrainingEpoch, None, list[Finding]]:
    """The findings on one network."""
    first = cells[0]
    _apply_threads(first.record)
    try:
        for event in (steps := _ReturningIterator(population.obtain_network(first.recipe))):
            yield event
            if setting.late:
                raise NotReproducible("the time was up while its network was in training")
        member = steps.value
        found = _evaluate_network(member, population.data, population.device)
    except NotReproducible as error:
        return [comparison.report_unknown(cell.record, str(error)) for cell in cells]
    except InvalidInput:
        raise  # a cache that cannot be written
    except Exception as error:  # whatever a network raises
        reason = f"its network cannot be trained here: {failure_status(error)[1]}"
        return [comparison.report_unknown(cell.record, reason) for cell in cells]
    data, truth = population.data, first.record.truth
    apart = tolerance.network_difference(truth, found)
    sizes = {"train": len(member.inputs), "test": len(data.test_targets)}
    findings = list(comparison.compare_network(first.record, found, apart, **sizes))
    for cell in cells:
        if setting.late:
            findings.append(comparison.report_unknown(cell.record, "the time was up"))
        else:
            findings += _compare_cell(cell, member, module, found, apart)
    return findings


def _compare_cell(
    cell: Recomputable, member: TrainedNetwork, module: nn.Module, found: dict[str, Scalar], apart: float
) -> Iterator[Finding]:
    """The findings on the value of a cell and on its other numbers."""
    record = cell.record
    try:
        subject = _make_subject(cell, member, module, record.dtype)
        estimate = measure(cell.measure, subject, seed=record.seed)
    except NotApplicable as error:
        yield comparison.report_no_value(record, str(error), apart)
        return
    except (Exception, SystemExit) as error:  # whatever a measure raises
        yield comparison.report_unknown(record, "{}: {}".format(*failure_status(error)))
        return
    yield comparison.compare_value(record, estimate, apart, found)
    counts = {"examples": len(subject.inputs), "available": len(member.inputs)}
    yield from comparison.compare_estimate(record, estimate, apart, **counts)
    yield from _compare_float64(cell, member, module, apart)


def _compare_float64(cell: Recomputable, member: TrainedNetwork, module: nn.Module, apart: float) -> Iterator[Finding]:
    """The findings on oracle and invariance where the record has them, both in float64."""
    record = cell.record
    try:
        doubled = _make_subject(cell, member, module, "float64")
        if record.exact is not None:
            found, by = oracle_value(cell.measure, doubled)
            yield from comparison.compare_exact(record, found, by, apart)
        if record.invariance:
            yield from comparison.compare_invariance(
                record, invariance_factors(cell.measure, doubled, seed=record.seed), apart
            )
    except (Exception, SystemExit) as error:  # whatever a measure raises
        yield comparison.report_unknown(record, "{}: {}".format(*failure_status(error)), "exact")


def _make_subject(cell: Recomputable, member: TrainedNetwork, module: nn.Module, dtype: str) -> Subject:
    device = cell.record.device
    return member.subject(module, examples=cell.examples, dtype=getattr(torch, dtype), device=device)


class _ReturningIterator:
    """An iterator that stores the return value of a generator."""

    def __init__(self, steps: Generator[TrainingEpoch, None, TrainedNetwork]) -> None:
        self.steps = steps
        self.value: TrainedNetwork

    def __iter__(self) -> Iterator[TrainingEpoch]:
        self.value = yield from self.steps


def _apply_threads(record: Record) -> None:
    """Use the number of threads of the record, or all cores if there are fewer."""
    threads, cores = record.environment.get("threads"), describe_environment("cpu")["cores"]
    apply_settings(record.device, max(1, min(int(threads), int(cores or 1))) if isinstance(threads, int) else 1)


def _evaluate_network(member: TrainedNetwork, data: Data, device: str) -> dict[str, Scalar]:
    """The truth of the network, evaluated again; steps, epochs and the gate are those of its training."""
    module = initial_module(member.recipe, data.shape, data.classes)
    module.load_state_dict(member.weights)
    module.to(device)
    loss, accuracy = evaluate_module(module, member.inputs.to(device), member.targets.to(device))
    test_loss, test = evaluate_module(module, data.test_inputs.to(device), data.test_targets.to(device))
    norm = math.sqrt(sum(float(value.detach().double().square().sum()) for value in module.parameters()))
    finite = {"train_loss": loss, "test_loss": test_loss, "parameter_norm": norm}
    return {
        **{name: getattr(member.result, name) for name in ("steps", "epochs", "fitted", "diverged")},
        **{name: value if math.isfinite(value) else None for name, value in finite.items()},
        "train_accuracy": accuracy,
        "test_accuracy": test,
        "gap": accuracy - test,
    }
