"""Records of measures on one network: their keys, and what is recorded of the network and its examples."""

from __future__ import annotations

from collections.abc import Sequence

from sharpbench.core.fields import Scalar
from sharpbench.core.measure import Measure
from sharpbench.core.record import Record
from sharpbench.core.spec import format_spec
from sharpbench.datasets.dataset import Examples
from sharpbench.runner.cell import KeyContent
from sharpbench.runner.cell_record import empty_record
from sharpbench.runner.network_evaluation import NetworkEvaluation, NetworkWeights, foreign_source
from sharpbench.runner.preparation import AS_GIVEN


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
    return {**example_fields(evaluation, examples), "sha256": examples.sha256(), "leaderboard": False}


def example_fields(evaluation: NetworkEvaluation, examples: Examples) -> dict[str, Scalar]:
    """Which examples were chosen, and how they became inputs."""
    subset = evaluation.subset
    return {
        "dataset": format_spec(evaluation.dataset),
        "split": subset.split,
        "examples": len(examples.targets),
        "available": examples.available,
        "limit": subset.limit,
        "subset_seed": None if subset.limit is None else subset.seed,
        "classes": examples.classes,
        "inputs": AS_GIVEN
        if evaluation.dataset.prepared
        else evaluation.preparation.describe(evaluation.model, images=examples.images),
    }


def _code_versions(evaluation: NetworkEvaluation, measure: Measure) -> dict[str, Scalar]:
    """Versions and hashes of the code that is not ours of network, data and measure, as other code may change."""
    versions = evaluation.model_code()
    for kind, chosen in (("dataset", evaluation.dataset), ("measure", measure)):
        if code := foreign_source(chosen):
            versions[f"{kind}_code_sha256"] = code
    return versions


def group_by_weights(records: Sequence[Record]) -> dict[str, dict[str, Record]]:
    """Source of the weights -> label of the measure -> its last record, in the order in which they were made."""
    table: dict[str, dict[str, Record]] = {}
    for record in records:
        table.setdefault(str(record.recipe["weights"]), {})[record.label] = record
    return table
