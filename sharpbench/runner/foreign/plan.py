"""plan_population(): the networks of a population that was trained elsewhere, as the cells of a run."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from torch import nn

from sharpbench.analysis.population import MeasuredNetwork
from sharpbench.analysis.table import Table, parse_number
from sharpbench.analysis.table_population import GATE, RESULTS, make_networks, outcome_words
from sharpbench.core.batch import take_examples
from sharpbench.core.fields import Scalar
from sharpbench.core.measure import Measure
from sharpbench.core.record import Design
from sharpbench.core.spec import format_spec
from sharpbench.core.user_functions import FILE_AND_FUNCTION
from sharpbench.datasets.dataset import Examples, Subset
from sharpbench.errors import InvalidInput, one_line, shorten
from sharpbench.files import content_hash, data_folder, user_path
from sharpbench.models.file import File
from sharpbench.runner.cell import Cell, EvaluationSetting
from sharpbench.runner.foreign.network import ForeignNetwork, ForeignNetworks
from sharpbench.runner.foreign.population_file import PopulationFile, find_population_file, read_population_file
from sharpbench.runner.foreign.zoo_export import ExportPlace, import_zoo_export, is_zoo_export
from sharpbench.runner.named_parts import parse_dataset, parse_model
from sharpbench.runner.network_evaluation import NetworkEvaluation, NetworkWeights
from sharpbench.runner.network_record import example_fields
from sharpbench.runner.network_subject import make_subject
from sharpbench.runner.network_table import PRETRAINED, fill_pattern, find_sources
from sharpbench.runner.plan import select_measures
from sharpbench.runner.plan_options import PlanOptions
from sharpbench.training.recipe import Recipe

TRIED_EXAMPLES = 8
"""Number of examples on which the first network is tried before anything is measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PopulationOptions(PlanOptions):
    """How the networks of a population that was trained elsewhere are measured: the fields of PlanOptions, and a cache.

    `examples` of the split are drawn at random.

    Attributes:
        cache_dir: the folder of trained networks, into which those of `zoo export` are put.
    """

    cache_dir: Path | str | None = None


def plan_population(
    measures: str | Sequence[Measure], population: str, options: PopulationOptions | None = None
) -> tuple[Cell, ...]:
    r"""The cells of a run: every measure on every network of a population that was trained elsewhere.

    Each network is opened once, so that weights that do not fit are found before anything is measured. The first is
    tried on a few examples. A cell is known by the content of weights, data and code: files may be renamed.

    Args:
        measures: a comma-separated spec, or objects.
        population: the path of a TOML file that says where the networks are, of the folder that holds it, or of a
            folder that `sharpbench zoo export` wrote, whose networks are put into the cache.
        options: how they are measured.

    Raises:
        InvalidInput: for a description or a table that cannot be read, a row without weights or with those of another
            row, weights that do not fit, and a first network that cannot be measured with this loss or these
            parameters; the message is one line.

    >>> import tempfile, torch
    >>> from pathlib import Path
    >>> from sharpbench.models import SmallMlp
    >>> with tempfile.TemporaryDirectory() as name:
    ...     for seed in range(3):
    ...         _ = torch.manual_seed(seed)
    ...         torch.save(SmallMlp(width=1).build((1, 28, 28), 10).state_dict(), f"{name}/net{seed}.pt")
    ...     _ = Path(name, "networks.csv").write_text("seed,gap\n0,0.1\n1,0.3\n2,0.2\n")
    ...     _ = Path(name, "mine.toml").write_text(
    ...         'table = "networks.csv"\nweights = "net{seed}.pt"\n'
    ...         'model = "small-mlp[width=1]"\ndataset = "digits"\n'
    ...     )
    ...     cells = sharpbench.plan_population("trace", name)
    >>> [cell.recipe.title for cell in cells]
    ['small-mlp[width=1] at net0.pt', 'small-mlp[width=1] at net1.pt', 'small-mlp[width=1] at net2.pt']
    """
    chosen = options or PopulationOptions()
    wanted = select_measures(measures, chosen.plugins)
    setting = chosen.resolve_setting()
    if is_zoo_export(user_path(population)):
        place = ExportPlace(cache_dir=chosen.cache_dir, data_dir=chosen.data_dir, plugins=chosen.plugins)
        exported = import_zoo_export(user_path(population), place, device=setting.device)
        planned = [_PlannedNetwork(each.recipe, each.data_sha256, each.population, each.position) for each in exported]
        return _make_cells(planned, wanted, chosen, setting)
    described = read_population_file(find_population_file(population))
    name = described.options.model
    planned = [
        _PlannedNetwork(network, data_sha256, name, position, described.options.design)
        for position, (network, data_sha256) in enumerate(_plan_networks(described, chosen, setting))
    ]
    return _make_cells(planned, wanted, replace(chosen, examples=None), setting)


@dataclass(frozen=True, slots=True)
class _PlannedNetwork:
    recipe: Recipe | ForeignNetwork
    data_sha256: str
    population: str
    position: int
    design: Design = "designed"


def _make_cells(
    planned: Sequence[_PlannedNetwork],
    measures: Sequence[Measure],
    options: PlanOptions,
    setting: EvaluationSetting,
) -> tuple[Cell, ...]:
    return tuple(
        Cell(
            measure=measure,
            recipe=network.recipe,
            population=network.population,
            design=network.design,
            position=network.position,
            data_sha256=network.data_sha256,
            examples=options.examples,
            setting=setting,
            checks=options.checks_at(network.position),
        )
        for network in planned
        for measure in measures
    )


def _plan_networks(
    described: PopulationFile, options: PlanOptions, setting: EvaluationSetting
) -> list[tuple[ForeignNetwork, str]]:
    """Each network with the hash of its examples."""
    table = described.table
    columns, networks = make_networks(table, described.columns, described.options)
    sources = find_sources(table, described.weights, described.folder)
    opener = ForeignNetworks(data_folder(options.data_dir))
    claims: dict[str, Scalar] = {
        "claimed": True,
        "outcome": outcome_words(table, columns.outcome),
        "table": Path(table.name).name,
    }
    if described.options.test_examples is not None:
        claims["test_examples"] = described.options.test_examples
    planned: list[tuple[ForeignNetwork, str]] = []
    first: dict[str, str] = {}
    tried = False
    for row, (place, source, network) in enumerate(zip(table.places, sources, networks, strict=True)):
        try:
            evaluation = _make_evaluation(described, row, source, options, setting)
            truth = {**_claimed_results(table, row), **network.truth}
            examples, data_sha256 = opener.load_examples(evaluation)
            weights = opener.load_weights(evaluation)
            tried = tried or _check_fit(evaluation, weights, examples)
            stated = replace(network, truth=truth)
            found = _make_network(evaluation, weights, examples, network=stated, folder=described.folder)
        except InvalidInput as error:
            raise InvalidInput(f"{place}: {error}") from None
        content = content_hash(dict(found.content))
        if content in first:
            raise InvalidInput(
                f"{place}: the weights of '{found.data['weights']}' are those of {first[content]} also; remove a row"
            )
        first[content] = place
        planned.append((replace(found, data={**found.data, **claims}), data_sha256))
    together = sorted({data_sha256 for _, data_sha256 in planned})
    shared = together[0] if len(together) == 1 else content_hash(together)
    return [(replace(found, data={**found.data, "sha256": shared}), own) for found, own in planned]


def _make_evaluation(
    described: PopulationFile, row: int, source: str, options: PlanOptions, setting: EvaluationSetting
) -> NetworkEvaluation:
    """What the network of a row is, and what it is measured on."""
    word = fill_pattern(described.table, described.model, row, remedy="name the network")
    if word != described.model and (FILE_AND_FUNCTION.fullmatch(word) or word.endswith(".py")):
        raise InvalidInput(
            f"model '{shorten(word)}' names a Python file by a value of the table; only the description may name files "
            "that are executed"
        )
    return NetworkEvaluation(
        model=parse_model(word, options.plugins),
        measures=(),
        dataset=parse_dataset(described.dataset, options.plugins),
        weights=source,
        subset=Subset(split=described.split, limit=options.examples),  # type: ignore[arg-type]  # it checks
        classes=described.classes,
        setting=setting,
        preparation=described.preparation,
        loss=described.loss,
        parameters=described.parameters,
    )


def _make_network(
    evaluation: NetworkEvaluation,
    weights: NetworkWeights,
    examples: Examples,
    *,
    network: MeasuredNetwork,
    folder: Path,
) -> ForeignNetwork:
    """The network of a row with the hashes of its weights and code."""
    named = os.path.relpath(weights.source, folder) if weights.source != PRETRAINED else weights.source
    model = _model_words(evaluation)
    content = {
        "model": model,
        "weights_sha256": weights.sha256,
        "classes": evaluation.classes,
        **evaluation.preparation.key_fields(),
        **evaluation.key_fields(),
        **evaluation.model_code(),
    }
    return ForeignNetwork(
        evaluation=evaluation,
        title=one_line(f"{model} at {named}"),
        content=content,
        recipe=network.recipe,
        truth={"parameter_norm": _parameter_norm(weights.module), **network.truth},
        data={
            **example_fields(evaluation, examples),
            "model": model,
            "weights": named,
            "weights_sha256": weights.sha256,
        },
        notes=weights.notes,
    )


def _check_fit(evaluation: NetworkEvaluation, weights: NetworkWeights, examples: Examples) -> bool:
    """Whether the network was tried on a few examples; networks that diverged are not.

    Raises InvalidInput where loss, parameters or shapes do not fit.
    """
    if not all(bool(value.isfinite().all()) for value in weights.module.state_dict().values()):
        return False
    few = slice(TRIED_EXAMPLES)
    tried = replace(examples, inputs=take_examples(examples.inputs, few), targets=examples.targets[few])
    make_subject(replace(evaluation, setting=replace(evaluation.setting, device="cpu")), weights, tried)
    return True


def _model_words(evaluation: NetworkEvaluation) -> str:
    """The model in words, without the folder of a file."""
    model = evaluation.model
    return f"{Path(model.path).name}:{model.factory}" if isinstance(model, File) else format_spec(model)


def _claimed_results(table: Table, row: int) -> dict[str, Scalar]:
    """The results of the training that the table states, by their names in records."""
    return {
        name: number
        for name in sorted(RESULTS - {*GATE, "gap"})
        if name in table.columns and (number := parse_number(table.columns[name][row])) is not None
    }


def _parameter_norm(module: nn.Module) -> float | None:
    """The Euclidean norm of all parameters; None where it is not finite."""
    norm = math.sqrt(sum(float(value.detach().double().square().sum()) for value in module.parameters()))
    return norm if math.isfinite(norm) else None
