"""Records of measures on one network: their keys, and what is recorded of the network and its examples."""

from __future__ import annotations

import importlib.metadata
import math
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from sharpbench.core.batch import Inputs
from sharpbench.core.fields import Scalar
from sharpbench.core.measure import Measure
from sharpbench.core.output_losses import SoftmaxLoss
from sharpbench.core.record import Record
from sharpbench.core.spec import format_spec
from sharpbench.core.subject import Subject
from sharpbench.datasets.dataset import Examples
from sharpbench.models.file import File
from sharpbench.models.timm import Timm
from sharpbench.runner.cell import KeyContent
from sharpbench.runner.evaluate_cell import empty_record
from sharpbench.runner.network_evaluation import NetworkEvaluation, NetworkWeights
from sharpbench.runner.preparation import AS_GIVEN
from sharpbench.training.weight_files import hash_file


def network_record(
    evaluation: NetworkEvaluation,
    measure: Measure,
    weights: NetworkWeights,
    data: dict[str, Scalar],
    truth: dict[str, Scalar],
) -> Record:
    """The record before the measure is called; its key holds everything that the value depends on."""
    recipe: dict[str, Scalar] = {
        "model": evaluation.title,
        "weights": weights.source,
        "weights_sha256": weights.sha256,
        "frozen": weights.frozen,
        **({} if weights.state is None else {"state": weights.state}),
        **evaluation.preparation.key_fields(),
        **evaluation.key_fields(),
        **_code_versions(evaluation, measure),
    }
    content = KeyContent.of_measure(
        measure,
        recipe={**recipe, "weights": None},  # a file may be moved
        data_sha256=data["sha256"],
        setting=evaluation.setting,
    )
    key = content.key(jackknife=evaluation.checks.jackknife)
    described = {**recipe, "inputs": data.get("inputs")}
    return empty_record(measure, evaluation.setting, key=key, recipe=described, truth=truth, data=data)


def data_fields(evaluation: NetworkEvaluation, examples: Examples) -> dict[str, Scalar]:
    """What is recorded of the examples; no leaderboard takes these records, as they are of a single network."""
    subset = evaluation.subset
    return {
        "dataset": format_spec(evaluation.dataset),
        "sha256": examples.sha256(),
        "split": subset.split,
        "examples": len(examples.targets),
        "available": examples.available,
        "limit": subset.limit,
        "subset_seed": None if subset.limit is None else subset.seed,
        "classes": examples.classes,
        "inputs": AS_GIVEN
        if evaluation.dataset.prepared
        else evaluation.preparation.describe(evaluation.model, images=examples.images),
        "leaderboard": False,
    }


def fit_fields(subject: Subject) -> dict[str, Scalar]:
    """Mean loss on the examples; where targets are class indices, the share that is predicted of those that count."""
    found = subject.criterion.form
    form = found if isinstance(found, SoftmaxLoss) else SoftmaxLoss()
    axis = 1 if form.axis is None else form.axis
    indices = not form.shares and (subject.criterion.kind == "cross_entropy" or form is found)

    def batch_means(inputs: Inputs, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        logits = subject.apply(subject.params, inputs)
        loss = subject.criterion(logits, targets).mean()
        if not indices:
            return loss, loss, loss
        counted = targets.ne(form.ignore_index)
        right = torch.logical_and(logits.argmax(axis) == targets, counted)
        return loss, right.to(logits.dtype).mean(), counted.to(logits.dtype).mean()

    with torch.no_grad():
        loss, right, counted = (float(each) for each in subject.mean(batch_means))
    if not indices:
        return {"loss": _finite_or_none(loss)}
    return {"loss": _finite_or_none(loss), "accuracy": _finite_or_none(right / counted if counted else math.nan)}


def _finite_or_none(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _code_versions(evaluation: NetworkEvaluation, measure: Measure) -> dict[str, Scalar]:
    """Versions and hashes of the code that is not ours of network, data and measure, as other code may change."""
    versions: dict[str, Scalar] = {}
    if isinstance(evaluation.model, Timm):
        versions["timm"] = importlib.metadata.version("timm")
    if isinstance(evaluation.model, File):
        versions["model_code_sha256"] = evaluation.model.sha256
        if imports := evaluation.model.imports_sha256:
            versions["model_imports_sha256"] = imports
    for kind, chosen in (("model", evaluation.model), ("dataset", evaluation.dataset), ("measure", measure)):
        module = sys.modules[type(chosen).__module__]
        path = getattr(module, "__file__", None)
        if path and module.__name__.partition(".")[0] not in ("sharpbench", "sharpbench_measures"):
            versions[f"{kind}_code_sha256"] = hash_file(Path(path))
    return versions


def group_by_weights(records: Sequence[Record]) -> dict[str, dict[str, Record]]:
    """Source of the weights -> label of the measure -> its last record, in the order in which they were made."""
    table: dict[str, dict[str, Record]] = {}
    for record in records:
        table.setdefault(str(record.recipe["weights"]), {})[record.label] = record
    return table
