"""Network: one network at its weights with its examples, as a file that every contestant's process opens."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn

from sharpbench.comparison.config import Comparison, model_word
from sharpbench.core.fields import Scalar
from sharpbench.core.subject import Subject
from sharpbench.datasets.dataset import Subset, content_sha256
from sharpbench.errors import InvalidInput
from sharpbench.files import cache_folder
from sharpbench.models.file import File
from sharpbench.models.model import Model
from sharpbench.runner.plan import chosen_cohort, chosen_recipes
from sharpbench.runner.single_network import NetworkEvaluation, evaluation_examples
from sharpbench.training.population import Population, TrainingEpoch
from sharpbench.training.weights import weight_files

COHORT = "label-noise"
"""Whose first recipe trained networks have, on the very examples that are compared on."""
STATE = "state."


@dataclass(frozen=True, slots=True)
class ComparedNetwork:
    """A network as it is typed, the file of its state and its examples, and what is said of it.

    batch: the batch size that memory suggests for one gradient.
    """

    word: str
    file: Path
    batch: int
    about: dict[str, Scalar]


def make_network(
    comparison: Comparison, model: Model, file: Path, *, data_dir: Path | str | None, cache_dir: Path | str | None
) -> Generator[TrainingEpoch, None, ComparedNetwork]:
    """The network, returned, written into `file`; before that the epochs of its training, where it has one."""
    if comparison.weights == "trained":
        module, inputs, targets = yield from _trained(comparison, model, data_dir, cache_dir)
    else:
        module, inputs, targets = _given(comparison, model, data_dir)
    state = {STATE + name: value.detach().cpu().contiguous().clone() for name, value in module.state_dict().items()}
    safetensors.torch.save_file({**state, "inputs": inputs.contiguous(), "targets": targets.contiguous()}, file)
    subject = Subject.from_module(module, inputs, targets)
    with torch.no_grad():
        loss = float(subject.loss(subject.params))
    about: dict[str, Scalar] = {
        "model": model_word(model),
        "model_code_sha256": model.sha256 if isinstance(model, File) else None,
        "parameters": subject.size,
        "outputs": subject.classes,
        "loss": loss,
        "weights": comparison.weights,
        "weights_sha256": content_sha256(state.values()),
        "data_sha256": content_sha256((inputs, targets)),
    }
    return ComparedNetwork(model_word(model), file, subject.batch_size, about)


def open_subject(model: Model, file: Path, *, outputs: int, dtype: str, device: str, batch_size: int | None) -> Subject:
    """The subject of a network that `make_network` has written. model: the same as there; outputs: how many it has."""
    tensors = safetensors.torch.load_file(file)
    inputs, targets = tensors.pop("inputs"), tensors.pop("targets")
    state = {name.removeprefix(STATE): value for name, value in tensors.items()}
    precision = getattr(torch, dtype)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = model.build(tuple(inputs.shape[1:]), outputs)
    module.load_state_dict(state)
    subject = Subject.from_module(module.to(precision), inputs.to(precision), targets, batch_size=batch_size)
    return subject.to(device=device)


def _trained(
    comparison: Comparison, model: Model, data_dir: Path | str | None, cache_dir: Path | str | None
) -> Generator[TrainingEpoch, None, tuple[nn.Module, Tensor, Tensor]]:
    if isinstance(model, File):
        raise InvalidInput(f"'{model_word(model)}' cannot be trained here; give --weights random, or a file of weights")
    recipes, data = chosen_recipes([model], dataset=comparison.dataset, cohort=chosen_cohort(COHORT), data_dir=data_dir)
    available = len(data.train_inputs)
    if comparison.examples > available:
        raise InvalidInput(f"n={comparison.examples} exceeds the {available} training examples; choose fewer")
    recipe = replace(next(iter(recipes)), train_size=comparison.examples)
    population = Population((recipe,), data, data.sha256(), cache=cache_folder(cache_dir), device=comparison.device)
    member = yield from population.member(recipe)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = model.build(data.shape, data.classes)
    module.load_state_dict(member.weights)
    return module, member.inputs, member.targets


def _given(comparison: Comparison, model: Model, data_dir: Path | str | None) -> tuple[nn.Module, Tensor, Tensor]:
    if comparison.weights == "pretrained":
        raise InvalidInput("weights 'pretrained' cannot be compared on; give trained, random, or a file of weights")
    if comparison.weights != "random" and len(files := weight_files(comparison.weights)) > 1:
        raise InvalidInput(f"weights '{comparison.weights}' name {len(files)} files; name one")
    inspection = NetworkEvaluation(
        model=model,
        measures=(),
        dataset=comparison.dataset,
        weights=comparison.weights,
        subset=Subset(limit=comparison.examples),
        seed=comparison.seed,
    )
    subject = evaluation_examples(inspection, data_dir=data_dir, threads=comparison.threads)
    return subject.module, subject.inputs, subject.targets
