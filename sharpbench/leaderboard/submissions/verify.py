"""Recomputes the cells of a sample on networks from the cache or trained again, and compares them with the claims."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
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
from sharpbench.training.population import Population, TrainingProgress


@dataclass(frozen=True, slots=True)
class StepStarted:
    """Progress: a cell begins; or, with an empty key, the training of a network, for which all its cells wait."""

    key: str = ""


@dataclass(frozen=True, slots=True)
class Compared:
    """The findings on a cell; or, with an empty key, on its network or on a measure that cannot be made here.

    Attributes:
        unfinished: the number of values that are unknown because a limit of time or memory was reached.
        final: whether nothing can change them. They are not final as long as the network was taken from the cache and
            may be trained again.
    """

    findings: tuple[Finding, ...]
    key: str = ""
    unfinished: int = 0
    final: bool = True

    @property
    def is_conclusive(self) -> bool:
        """Whether something was compared."""
        return any(finding.outcome != "unknown" for finding in self.findings)


NetworkEvent = StepStarted | TrainingProgress | Compared


def verify_submission(
    submission: Submission, drawn: CellSample, setting: VerificationSetting
) -> Iterator[TrainingProgress | Compared]:
    """Findings network by network, first on its truth and then on each cell; and the epochs of trainings in between.

    Networks train in the groups that the recipes of the whole submission fix, as in the original run. Nothing of the
    submission is executed. All is computed in this process; `verify_with_limits` does the same under limits.
    """
    yield from compare_unknown(drawn)
    populations = SubmittedPopulations(submission, setting)
    with tempfile.TemporaryDirectory(prefix="sharpbench-verify-") as folder:
        for cells in group_by_network(drawn):
            for event in verify_network(cells, populations, Path(folder)):
                if isinstance(event, TrainingProgress) or (isinstance(event, Compared) and event.final):
                    yield event


def compare_unknown(drawn: CellSample) -> Iterator[Compared]:
    """The findings on measures that cannot be made here."""
    for record, reason in drawn.unknown:
        yield Compared((comparison.report_unknown(record, reason),))


def group_by_network(drawn: CellSample) -> list[list[Recomputable]]:
    """The cells of each network, also of each claimed truth: different claims on one network are compared apart."""
    return [list(cells) for _, cells in groupby(sorted(drawn.cells, key=_network_key), key=_network_key)]


def _network_key(cell: Recomputable) -> tuple[str, str, str]:
    """Recipe, device and claimed truth of the network."""
    return cell.recipe.key, cell.record.device, str(sorted(cell.record.truth.items()))


def verify_network(
    cells: Sequence[Recomputable], populations: SubmittedPopulations, folder: Path
) -> Iterator[NetworkEvent]:
    """The findings on one network and its cells.

    If a number differs or parts on a network from the cache, the network is trained again: the cache may be damaged,
    or may have trained it in another group. What was found first stays where that does not finish.

    Args:
        folder: where networks are trained again.
    """
    yield StepStarted()
    try:
        population = populations.of(cells[0])
        cached = population.stored_result(cells[0].recipe) is not None
        module = populations.module(cells[0].recipe)
    except NotReproducible as error:
        yield from (_report_unreproducible(cell, error) for cell in cells)
        return
    if not cached:
        yield from _compare_cells(cells, population, module)
        return
    first: dict[str, Compared] = {}
    for event in _compare_cells(cells, population, module):
        if isinstance(event, Compared):
            first[event.key] = event = replace(event, final=False)
        yield event
    if any(each.outcome in ("differs", "parted") for found in first.values() for each in found.findings):
        yield StepStarted()
        for event in _compare_cells(cells, populations.retrain(cells[0], folder), module):
            if isinstance(event, Compared) and event.is_conclusive:
                first.pop(event.key, None)
                yield event
            elif not isinstance(event, Compared):
                yield event
    yield from (replace(found, final=True) for found in first.values())


def _report_unreproducible(cell: Recomputable, error: NotReproducible) -> Compared:
    return Compared((comparison.report_unknown(cell.record, str(error)),), cell.record.key, int(error.limited))


def _compare_cells(cells: Sequence[Recomputable], population: Population, module: nn.Module) -> Iterator[NetworkEvent]:
    """The findings on one network."""
    first = cells[0]
    _apply_threads(first.record)
    try:
        yield from (steps := _ReturningIterator(population.obtain_network(first.recipe)))
        member = steps.value
        found = _evaluate_network(member, population.data, population.device)
    except InvalidInput:
        raise  # a cache that cannot be written
    except NotReproducible as error:
        yield from (_report_unreproducible(cell, error) for cell in cells)
        return
    except Exception as error:  # whatever a network raises
        status, reason = failure_status(error)
        failure = NotReproducible(f"its network cannot be trained here: {reason}", limited=status == "oom")
        yield from (_report_unreproducible(cell, failure) for cell in cells)
        return
    data, truth = population.data, first.record.truth
    apart = tolerance.network_difference(truth, found)
    sizes = {"train": len(member.inputs), "test": len(data.test_targets)}
    yield Compared(tuple(comparison.compare_network(first.record, found, apart, **sizes)))
    for cell in cells:
        yield StepStarted(cell.record.key)
        yield _compare_cell(cell, member, module, found, apart)


def _compare_cell(
    cell: Recomputable, member: TrainedNetwork, module: nn.Module, found: dict[str, Scalar], apart: float
) -> Compared:
    """The findings on the value of a cell and on its other numbers."""
    record = cell.record
    try:
        subject = _make_subject(cell, member, module, record.dtype)
        estimate = measure(cell.measure, subject, seed=record.seed)
    except NotApplicable as error:
        return Compared((comparison.report_no_value(record, str(error), apart),), record.key)
    except (Exception, SystemExit) as error:  # whatever a measure raises
        status, reason = failure_status(error)
        finding = comparison.report_unknown(record, f"{status}: {reason}")
        return Compared((finding,), record.key, int(status == "oom"))
    findings = [comparison.compare_value(record, estimate, apart, found)]
    counts = {"examples": subject.n, "available": len(member.inputs)}
    findings += comparison.compare_estimate(record, estimate, apart, **counts)
    limited = False
    try:
        for finding in _compare_float64(cell, member, module, apart):
            findings.append(finding)
    except (Exception, SystemExit) as error:  # whatever a measure raises
        status, reason = failure_status(error)
        findings.append(comparison.report_unknown(record, f"{status}: {reason}", "exact"))
        limited = status == "oom"
    return Compared(tuple(findings), record.key, int(limited))


def _compare_float64(cell: Recomputable, member: TrainedNetwork, module: nn.Module, apart: float) -> Iterator[Finding]:
    """The findings on oracle and invariance where the record has them, both in float64."""
    record = cell.record
    if record.exact is None and not record.invariance:
        return
    doubled = _make_subject(cell, member, module, "float64")
    if record.exact is not None:
        found, by = oracle_value(cell.measure, doubled)
        yield from comparison.compare_exact(record, found, by, apart)
    if record.invariance:
        factors = invariance_factors(cell.measure, doubled, seed=record.seed)
        yield from comparison.compare_invariance(record, factors, apart)


def _make_subject(cell: Recomputable, member: TrainedNetwork, module: nn.Module, dtype: str) -> Subject:
    device = cell.record.device
    return member.subject(module, examples=cell.examples, dtype=getattr(torch, dtype), device=device)


class _ReturningIterator:
    """An iterator that stores the return value of a generator."""

    def __init__(self, steps: Generator[TrainingProgress, None, TrainedNetwork]) -> None:
        self.steps = steps
        self.value: TrainedNetwork

    def __iter__(self) -> Iterator[TrainingProgress]:
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
