"""Measures on one network, at random or pretrained weights or at those of one file or of many."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from sharpbench.core.example_groups import check_groups
from sharpbench.core.fields import Scalar
from sharpbench.core.groups import assign_blocks, sum_parts
from sharpbench.core.jsonl import JsonlFile
from sharpbench.core.measure import Estimate
from sharpbench.core.record import Record, utc_now
from sharpbench.core.records import FINISHED, RECORDS, iterate_records
from sharpbench.core.spec import format_spec
from sharpbench.core.subject import Subject
from sharpbench.datasets.dataset import Examples, refusing_load_errors
from sharpbench.environment import apply_settings, check_threads, describe_environment
from sharpbench.errors import InvalidInput, shorten
from sharpbench.files import data_folder
from sharpbench.runner.cell import Checks
from sharpbench.runner.cost import forecast_seconds
from sharpbench.runner.evaluate_cell import discard_after, evaluate_measure
from sharpbench.runner.expectations import FoundAccuracy, check_accuracy, describe_shortfall
from sharpbench.runner.network_evaluation import NetworkEvaluation, NetworkWeights, iterate_weights
from sharpbench.runner.network_record import data_fields, network_record
from sharpbench.runner.network_subject import fit_fields, load_examples, make_subject
from sharpbench.runner.side_effects import SideEffectGuard


@dataclass(frozen=True, slots=True)
class WeightsStarted:
    """Progress: a measure is called next, at the weights of `source`, for about `seconds` if they were forecast.

    first: nothing was measured at these weights yet, so this call also captures its graph and checks its derivatives.
    """

    source: str
    measure: str
    seconds: float | None = None
    first: bool = False


@dataclass(frozen=True, slots=True)
class EvaluationNote:
    """Progress: what a user should know about data or weights, on one line."""

    text: str


EvaluationStep = Record | WeightsStarted | EvaluationNote


def evaluate_network(
    evaluation: NetworkEvaluation,
    *,
    output: Path | str | None = None,
    data_dir: Path | str | None = None,
    threads: int | None = None,
    forecast: bool = False,
) -> Iterator[EvaluationStep]:
    """The records as they are made, file by file, with notes, and before each the event that its measure starts.

    A measure that raises costs only its own record. One that writes to the network ends the evaluation after it.

    Args:
        output: the folder whose records.jsonl the records are appended to, each on disk before the next measure starts;
            records that it holds already are yielded instead of measured again, and only the checks that they lack are
            made. None keeps no file.
        data_dir: the folder of data sets; None is $SHARPBENCH_DATA.
        threads: of torch; None: as many as there are cores.
        forecast: say before each measure about how long it will take, which is found by calling it on a few examples.

    Raises:
        InvalidInput: for weights, data and networks that do not fit together or are not finite, where the accuracy is
            not the expected one, and for a measure that changed what the next one would be measured with.
    """
    with refusing_load_errors(evaluation.dataset):
        notes = evaluation.dataset.notes(data_folder(data_dir))
    yield from map(EvaluationNote, notes)
    examples = _load_examples(evaluation, data_dir, threads)
    if output is None:
        yield from _evaluate_all(evaluation, examples, {}, None, forecast=forecast)
        return
    with JsonlFile(Path(output) / RECORDS) as file:
        known = {record.key: record for record in iterate_records(file.path) if record.status in FINISHED}
        yield from _evaluate_all(evaluation, examples, known, file, forecast=forecast)


def set_up_torch(device: str, threads: int | None) -> None:
    """Apply the settings of measuring, with a number of threads or, by default, as many as there are cores.

    Raises InvalidInput for a number out of range.
    """
    check_threads(threads)
    apply_settings(device, threads or int(describe_environment("cpu")["cores"] or 1))


def load_subject(evaluation: NetworkEvaluation, *, data_dir: Path | str | None, threads: int | None) -> Subject:
    """The subject at the first weights of the evaluation."""
    examples = _load_examples(evaluation, data_dir, threads)
    return make_subject(evaluation, next(iterate_weights(evaluation, examples)), examples)


def load_checked_subject(
    evaluation: NetworkEvaluation, *, data_dir: Path | str | None, threads: int | None
) -> tuple[Subject, tuple[str, ...]]:
    """The subject at the one state of the weights that the evaluation names, and what a user should know about it.

    Raises InvalidInput for a pattern of several files, and where the accuracy is not the expected one.
    """
    states = iterate_subjects(evaluation, data_dir=data_dir, threads=threads)
    _, subject, notes = next(states)
    if next(states, None) is not None:
        raise InvalidInput(f"'{shorten(str(evaluation.weights))}' names several files; name one network each")
    return subject, notes


def iterate_subjects(
    evaluation: NetworkEvaluation, *, data_dir: Path | str | None, threads: int | None
) -> Iterator[tuple[str, Subject, tuple[str, ...]]]:
    """For each state of the weights its source, its subject, and what a user should know about it.

    Raises InvalidInput where the accuracy is not the expected one.
    """
    examples = _load_examples(evaluation, data_dir, threads)
    for weights in iterate_weights(evaluation, examples):
        subject = make_subject(evaluation, weights, examples)
        notes = (*weights.notes, *_check_truth(evaluation, weights, fit_fields(subject), examples))
        yield weights.source, subject, notes


def _load_examples(evaluation: NetworkEvaluation, data_dir: Path | str | None, threads: int | None) -> Examples:
    set_up_torch(evaluation.setting.device, threads)
    examples = load_examples(evaluation, data_folder(data_dir))
    if evaluation.checks.jackknife is not None:
        check_groups(evaluation.checks.jackknife, len(examples.targets))
    return examples


def _evaluate_all(
    evaluation: NetworkEvaluation,
    examples: Examples,
    known: dict[str, Record],
    file: JsonlFile | None,
    *,
    forecast: bool,
) -> Iterator[EvaluationStep]:
    data, spoiled = data_fields(evaluation, examples), ""
    for weights in iterate_weights(evaluation, examples):
        subject = make_subject(evaluation, weights, examples)
        weights = replace(weights, frozen=len(subject.frozen))
        float64_subject, truth = subject.to(dtype=torch.float64), fit_fields(subject)
        yield from map(EvaluationNote, (*weights.notes, *_check_truth(evaluation, weights, truth, examples)))
        guard, first = SideEffectGuard(subject, float64_subject), True
        for measure in evaluation.measures:
            empty, checks = network_record(evaluation, measure, weights, data, truth), evaluation.checks
            before = empty
            if empty.key in known:  # measured before, perhaps under another name of the same file or draw
                before = replace(known[empty.key], recipe=empty.recipe, data=empty.data, truth=empty.truth)
                checks = checks.with_names(_missing_checks(before, checks))
                if not checks.names:
                    yield before
                    continue
                before = replace(before, time=utc_now())
            if spoiled:
                raise InvalidInput(spoiled)
            yield WeightsStarted(weights.source, format_spec(measure), first=first)
            timed = forecast and before is empty
            seconds = forecast_seconds(measure, subject, seed=evaluation.setting.seed) if timed else None
            if seconds is not None:
                yield WeightsStarted(weights.source, format_spec(measure), seconds)
            first = False
            guard.begin()
            record = evaluate_measure(measure, subject, float64_subject, before, checks)
            effects = guard.finish()
            if effects.written or effects.lasting:
                changed = ", ".join((*effects.written[:1], *effects.lasting[:1]))
                spoiled = (
                    f"measure '{record.label}' changed {changed}, with which others would be measured; leave it out"
                )
            record = discard_after(effects, record, before, checks)
            if evaluation.group_by is not None and record.value is not None and before is empty:
                record = _sum_parts(record, assign_blocks(subject, evaluation.group_by))
            if file is not None:
                file.append(record)
            yield record


def _missing_checks(record: Record, checks: Checks) -> set[str]:
    """The checks that a known record lacks, or that failed; a measure that was skipped has none."""
    found = set(record.tried) - set(record.failed_checks)
    return set() if record.status != "ok" else set(checks.names) - found


def _check_truth(
    evaluation: NetworkEvaluation, weights: NetworkWeights, truth: dict[str, Scalar], examples: Examples
) -> Iterator[str]:
    """Warnings about the accuracy. Raises InvalidInput where it is not the expected one."""
    only_random = evaluation.sources == ("random",)  # a function of a file may return a network that is trained
    if weights.source == "random" and (evaluation.expected_accuracy is None or not only_random):
        return
    accuracy = truth.get("accuracy")
    found = FoundAccuracy(
        value=accuracy if isinstance(accuracy, float) else None,
        examples=len(examples.targets),
        sampled=len(examples.targets) < examples.available,
        classes=examples.classes,
    )
    if evaluation.expected_accuracy is not None:
        check_accuracy(found, evaluation.expected_accuracy, where=weights.source)
    elif warning := describe_shortfall(found, weights.accuracy, where=weights.source):
        yield warning


def _sum_parts(record: Record, blocks: Mapping[str, str]) -> Record:
    """The record with its parts summed by block, where they are summands of the value."""
    summed = sum_parts(Estimate(float(record.value or 0.0), parts=record.parts, details=record.details), blocks)
    return replace(record, parts=summed.parts, details=summed.details)
