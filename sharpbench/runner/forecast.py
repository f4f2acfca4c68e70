"""How long the rest of a run is expected to take: training and measuring of each model, from a few calls."""

from __future__ import annotations

import math
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sharpbench.core.measure import REWRITE_KINDS, Measure
from sharpbench.core.spec import format_spec
from sharpbench.core.subject import Subject
from sharpbench.datasets.dataset import Data
from sharpbench.environment import apply_settings
from sharpbench.files import Workspace
from sharpbench.runner.cell import Cell
from sharpbench.runner.cost import MAX_REPEATED_SECONDS, REPEATS, PredictedCost, median_seconds, predict_cost
from sharpbench.runner.failures import failure_status
from sharpbench.runner.foreign.network import ForeignNetworks
from sharpbench.runner.invariance import REWRITES_PER_KIND
from sharpbench.training.examples import LoadedData, initial_module, training_examples
from sharpbench.training.network import TrainedNetwork, TrainingResult, load_network
from sharpbench.training.optimizers import Sgd
from sharpbench.training.outcomes import OUTCOMES, OutcomeStore, judge_network
from sharpbench.training.recipe import Recipe
from sharpbench.training.zoo import Zoo

REWRITE_EVALUATIONS = 1 + REWRITES_PER_KIND * len(REWRITE_KINDS)
"""Evaluations of a measure for its change under rewrites, on a network that has every kind of them."""


UNTRAINED = TrainingResult(
    train_loss=None,
    train_accuracy=0.0,
    test_loss=None,
    test_accuracy=0.0,
    gap=0.0,
    fitted=False,
    diverged=False,
    steps=0,
    epochs=0,
    seconds=0.0,
    parameter_norm=None,
)
"""The result of a network whose outcomes are found only to time them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelForecast:
    """What the cells of one model that are left are expected to take in one process.

    Attributes:
        untrained: the number of networks that are not in the cache.
        training: seconds if each of them trains for all its epochs, one after the other.
        measuring: seconds of values, timing and rewrites; oracles are not included.
        judging: seconds in which the outcomes of all networks that lack some are found.
        unknown: the measures that are not included, with the reason.
    """

    model: str
    untrained: int
    training: float
    measuring: float
    judging: float = 0.0
    unknown: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class ForecastStarted:
    """Progress: a measure is tried out next on a network of the model."""

    model: str
    measure: str


def forecast_cells(
    cells: Sequence[Cell], workspace: Workspace, *, seconds: float
) -> Iterator[ForecastStarted | ModelForecast]:
    """The forecast of each model, from a step of training and calls of the measures on one of its networks.

    It is a trained one, where one is in the cache: some measures have no value at initial weights.

    Args:
        cells: those that are left.
        seconds: what the calls of all measures may take together, in equal parts.
    """
    apply_settings(workspace.device, workspace.threads)
    loader, groups = LoadedData(workspace.data_dir), dict[str, list[Cell]]()
    foreign = ForeignNetworks(workspace.data_dir)
    for cell in cells:
        groups.setdefault(cell.population, []).append(cell)
    share = seconds / max(1, sum(len({cell.measure for cell in group}) for group in groups.values()))
    for name, group in groups.items():
        try:
            if isinstance(group[0].recipe, Recipe):
                data = loader.load(group[0].recipe)
                yield from _forecast_model(group, data, workspace.cache_dir, seconds=share)
            else:
                yield (yield from _forecast_measuring(group, foreign.open(group[0]), seconds=share))
        except Exception as error:  # whatever a network raises; the run makes it the reason of its cells
            _, reason = failure_status(error)
            yield ModelForecast(model=name, untrained=0, training=0.0, measuring=0.0, unknown=(("all", reason),))


def _forecast_model(
    cells: Sequence[Cell], data: Data, cache: Path, *, seconds: float
) -> Iterator[ForecastStarted | ModelForecast]:
    """The forecast of the cells of one model, with `seconds` for the calls of each measure."""
    first, recipe, zoo = cells[0], cells[0].trained_recipe, Zoo(cache)
    inputs, targets = training_examples(recipe, data)
    module = initial_module(recipe, data.shape, data.classes)
    keys = _network_keys(cells)
    untrained = [recipe for recipe, key in keys.items() if zoo.read_packed(key) is None]
    step = {
        batch: gradient_seconds(module, inputs[:batch], targets[:batch], device=first.setting.device)
        for batch in {recipe.batch_size for recipe in untrained}
    }
    trained = next((each for each in keys if each not in untrained), None)
    network = trained and load_network(trained, data, first.data_sha256, zoo=zoo, device=first.setting.device)
    subject = _make_subject(first, network or _untrained_network(recipe, module, inputs, targets), data)
    sizes = [_count_measured(cell, data) for cell in cells]
    measuring = yield from _forecast_measuring(cells, subject, seconds=seconds, examples=round(sum(sizes) / len(sizes)))
    training = sum(count_gradients(each, _count_trained(each, data)) * step[each.batch_size] for each in untrained)
    yield replace(
        measuring, untrained=len(untrained), training=training, judging=_judging_seconds(cells, module, data, cache)
    )


def _forecast_measuring(
    cells: Sequence[Cell], subject: Subject, *, seconds: float, examples: int | None = None
) -> Generator[ForecastStarted, None, ModelForecast]:
    """The forecast of the cells of one model, nothing of which is trained, on one of its networks.

    examples: the mean number on which the cells are measured, by default that of the subject; the time grows with it
    along a straight line.
    """
    name = cells[0].population
    costs: dict[Measure, PredictedCost] = {}
    for measure in dict.fromkeys(cell.measure for cell in cells):
        yield ForecastStarted(name, format_spec(measure))
        costs[measure] = predict_cost(measure, subject, seconds=seconds, examples=examples)
    known = {measure: cost.seconds for measure, cost in costs.items() if cost.seconds is not None}
    return ModelForecast(
        model=name,
        untrained=0,
        training=0.0,
        measuring=sum(_cell_seconds(cell, known[cell.measure]) for cell in cells if cell.measure in known),
        unknown=tuple(
            (format_spec(measure), f"{cost.status}: {cost.reason}")
            for measure, cost in costs.items()
            if measure not in known
        ),
    )


def _judging_seconds(cells: Sequence[Cell], module: nn.Module, data: Data, cache: Path) -> float:
    """Seconds of the outcomes that networks lack, from those of an untrained network, each found once."""
    names, recipe, store = cells[0].outcomes, cells[0].trained_recipe, OutcomeStore(cache)
    lacking = sum(store.lacks(key, names) for key in _network_keys(cells).values())
    if not lacking:
        return 0.0
    inputs, targets = training_examples(recipe, data)
    network = _untrained_network(recipe, module, inputs, targets)
    judged = judge_network(network, data, cells[0].setting.device)
    start = time.perf_counter()
    for name in names:
        OUTCOMES[name].find(judged)
    return lacking * (time.perf_counter() - start)


def count_gradients(recipe: Recipe, examples: int) -> int:
    """The number of gradients in all epochs: two per step for variants of SGD such as SAM, one otherwise.

    examples: the number that the network trains on.
    """
    passes = 2 if isinstance(recipe.optimizer, Sgd) and type(recipe.optimizer) is not Sgd else 1
    return passes * recipe.max_epochs * math.ceil(examples / recipe.batch_size)


def gradient_seconds(module: nn.Module, inputs: Tensor, targets: Tensor, *, device: str) -> float:
    """Seconds of one gradient on a batch; the module goes to the device."""
    module.to(device)
    inputs, targets = inputs.to(device), targets.to(device)

    def step() -> None:
        module.zero_grad()
        F.cross_entropy(module(inputs), targets).backward()

    seconds = median_seconds(step, torch.device(device))
    module.zero_grad()
    return seconds


def _network_keys(cells: Sequence[Cell]) -> dict[Recipe, str]:
    first = {cell.trained_recipe: cell for cell in cells}
    return {recipe: cell.network_key for recipe, cell in first.items()}


def _count_measured(cell: Cell, data: Data) -> int:
    """The number of examples on which a cell is measured."""
    trained_on = _count_trained(cell.trained_recipe, data)
    return trained_on if cell.examples is None else min(cell.examples, trained_on)


def _count_trained(recipe: Recipe, data: Data) -> int:
    """The number of examples that the network trains on."""
    return len(data.train_inputs) if recipe.train_size is None else recipe.train_size


def _untrained_network(recipe: Recipe, module: nn.Module, inputs: Tensor, targets: Tensor) -> TrainedNetwork:
    """The network of the recipe at the weights of `module`, its initial ones, on the CPU."""
    return TrainedNetwork(
        recipe=recipe,
        result=UNTRAINED,
        weights={name: value.detach().to("cpu", copy=True) for name, value in module.state_dict().items()},
        initial={name: value.detach().to("cpu", copy=True) for name, value in module.named_parameters()},
        inputs=inputs,
        targets=targets,
    )


def _make_subject(cell: Cell, network: TrainedNetwork, data: Data) -> Subject:
    module = initial_module(network.recipe, data.shape, data.classes)
    module.load_state_dict(network.weights)
    subject = Subject.from_module(
        module,
        network.inputs[: cell.examples],
        network.targets[: cell.examples],
        initial=network.initial,
        train_size=len(network.inputs),
    )
    return subject.to(dtype=getattr(torch, cell.setting.dtype), device=cell.setting.device)


def _cell_seconds(cell: Cell, seconds: float) -> float:
    """Seconds of a cell whose measure takes `seconds`: its value, where it is not known, and its checks."""
    timing = (REPEATS if seconds <= MAX_REPEATED_SECONDS else 1) + 2  # with the warm-up, and the call for the memory
    calls = (cell.measured is None) + timing * cell.checks.timed + REWRITE_EVALUATIONS * cell.checks.rewritten
    return calls * seconds
