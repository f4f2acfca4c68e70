"""The compared network: weights and examples in one file that every contestant's process opens."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn

from sharpbench.comparison.config import Comparison, format_model
from sharpbench.core.fields import Scalar
from sharpbench.core.subject import Subject
from sharpbench.datasets.dataset import Subset, content_sha256
from sharpbench.errors import InvalidInput
from sharpbench.files import Workspace
from sharpbench.models.file import File
from sharpbench.models.model import Model
from sharpbench.runner.cell import EvaluationSetting
from sharpbench.runner.network_evaluation import NetworkEvaluation
from sharpbench.runner.plan import select_recipes
from sharpbench.runner.single_network import load_subject
from sharpbench.training.cohorts import LabelNoise
from sharpbench.training.population import Population, TrainingProgress
from sharpbench.training.weight_files import find_weight_files, split_state

STATE_PREFIX = "state."


@dataclass(frozen=True, slots=True)
class ComparedNetwork:
    """One network of a comparison.

    Args:
        spec: the model as it is written on the command line.
        file: the file of its state and its examples.
        batch: the batch size that memory suggests for one gradient.
        about: parameters, outputs, loss and hashes, as stated in every row.
    """

    spec: str
    file: Path
    batch: int
    about: dict[str, Scalar]


def make_network(
    comparison: Comparison, model: Model, file: Path, workspace: Workspace
) -> Generator[TrainingProgress, None, ComparedNetwork]:
    """The network, after it has been written into `file`; yields the epochs of its training, if it is trained.

    Raises:
        InvalidInput: for weights that cannot be used, or fewer than `comparison.examples` training examples.
    """
    if comparison.weights == "trained":
        module, inputs, targets = yield from _load_trained(comparison, model, workspace)
    else:
        module, inputs, targets = _load_given(comparison, model, workspace)
    state = {
        STATE_PREFIX + name: value.detach().cpu().contiguous().clone() for name, value in module.state_dict().items()
    }
    safetensors.torch.save_file({**state, "inputs": inputs.contiguous(), "targets": targets.contiguous()}, file)
    subject = Subject.from_module(module, inputs, targets)
    with torch.no_grad():
        loss = float(subject.loss(subject.params))
    about: dict[str, Scalar] = {
        "model": format_model(model),
        "model_code_sha256": model.sha256 if isinstance(model, File) else None,
        "parameters": subject.size,
        "outputs": subject.classes,
        "loss": loss,
        "weights": comparison.weights,
        "weights_sha256": content_sha256(state.values()),
        "data_sha256": content_sha256((inputs, targets)),
    }
    return ComparedNetwork(format_model(model), file, subject.batch_size, about)


def open_subject(model: Model, file: Path, *, outputs: int, dtype: str, device: str, batch_size: int | None) -> Subject:
    """The subject of a network that `make_network` has written.

    Args:
        model: the model that was written.
        file: the file.
        outputs: the number of the network's outputs.
        dtype: "float32" or "float64".
        device: "cpu" or "cuda".
        batch_size: the subject's batch size; None lets memory decide.
    """
    tensors = safetensors.torch.load_file(file)
    inputs, targets = tensors.pop("inputs"), tensors.pop("targets")
    state = {name.removeprefix(STATE_PREFIX): value for name, value in tensors.items()}
    precision = getattr(torch, dtype)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = model.build(tuple(inputs.shape[1:]), outputs)
    module.load_state_dict(state)
    subject = Subject.from_module(module.to(precision), inputs.to(precision), targets, batch_size=batch_size)
    return subject.to(device=device)


def _load_trained(
    comparison: Comparison, model: Model, workspace: Workspace
) -> Generator[TrainingProgress, None, tuple[nn.Module, Tensor, Tensor]]:
    if isinstance(model, File):
        raise InvalidInput(
            f"'{format_model(model)}' cannot be trained here; give --weights random, or a file of weights"
        )
    cohort = LabelNoise(train_size=comparison.examples)
    selected = select_recipes([model], dataset=comparison.dataset, cohort=cohort, data_dir=workspace.data_dir)
    recipe = next(iter(selected.populations))
    data = selected.data_of(recipe)
    population = Population((recipe,), data, data.sha256(), cache=workspace.cache_dir, device=workspace.device)
    trained = yield from population.obtain_network(recipe)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = model.build(data.shape, data.classes)
    module.load_state_dict(trained.weights)
    return module, trained.inputs, trained.targets


def _load_given(comparison: Comparison, model: Model, workspace: Workspace) -> tuple[nn.Module, Tensor, Tensor]:
    if comparison.weights == "pretrained":
        raise InvalidInput("weights 'pretrained' cannot be compared on; give trained, random, or a file of weights")
    if comparison.weights != "random" and len(files := find_weight_files(split_state(comparison.weights)[0])) > 1:
        raise InvalidInput(f"weights '{comparison.weights}' name {len(files)} files; name one")
    evaluation = NetworkEvaluation(
        model=model,
        measures=(),
        dataset=comparison.dataset,
        weights=comparison.weights,
        subset=Subset(limit=comparison.examples),
        setting=EvaluationSetting(seed=comparison.seed),
        preparation=comparison.preparation,
    )
    subject = load_subject(evaluation, data_dir=workspace.data_dir, threads=workspace.threads)
    assert isinstance(subject.inputs, Tensor)  # data sets hold one tensor
    return subject.module, subject.inputs, subject.targets
