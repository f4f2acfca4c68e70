"""The subject of a network that was trained elsewhere: its examples, the network at its weights, and how it fits."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from sharpbench.analysis.population import finite_or_none
from sharpbench.core.batch import Inputs, describe_form, map_tensors, take_examples
from sharpbench.core.fields import Scalar
from sharpbench.core.output_losses import SoftmaxLoss
from sharpbench.core.spec import format_spec
from sharpbench.core.subject import Subject
from sharpbench.datasets.dataset import Examples, refusing_load_errors
from sharpbench.errors import InvalidInput, shorten
from sharpbench.models.pretrained import PretrainedModel
from sharpbench.runner.network_evaluation import NetworkEvaluation, NetworkWeights


def load_examples(evaluation: NetworkEvaluation, folder: Path | None) -> Examples:
    """The examples that are measured on, as the network takes them.

    Raises InvalidInput as Dataset.examples, and where pretrained weights have other classes than the data.
    """
    with refusing_load_errors(evaluation.dataset):
        examples = evaluation.preparation.examples(evaluation.model, evaluation.dataset, folder, evaluation.subset)
    check_classes(evaluation, examples)
    return examples


def make_subject(evaluation: NetworkEvaluation, weights: NetworkWeights, examples: Examples) -> Subject:
    """The subject that is measured.

    Raises InvalidInput for a network that does not fit the examples, and weights that are not finite.
    """
    dtype = getattr(torch, evaluation.setting.dtype)
    try:
        subject = Subject.from_module(
            weights.module,
            map_tensors(lambda leaf: leaf.to(dtype) if leaf.is_floating_point() else leaf, examples.inputs),
            examples.targets.to(dtype) if examples.targets.is_floating_point() else examples.targets,
            batch_size=evaluation.batch_size,
            loss=evaluation.loss,
            forward=weights.forward,
            parameters=evaluation.parameters,
            name=evaluation.title,
        )
    except InvalidInput as error:
        raise InvalidInput(f"'{evaluation.title}' at weights '{weights.source}': {error}") from None
    except (Exception, SystemExit) as error:  # whatever the network's own code raises on these inputs
        raise InvalidInput(
            f"'{evaluation.title}' does not run on {describe_form(take_examples(examples.inputs, slice(1)))}: "
            f"{type(error).__name__}: {shorten(' '.join(str(error).split()))}"
        ) from error
    return subject.to(device=evaluation.setting.device)


def check_classes(evaluation: NetworkEvaluation, examples: Examples) -> None:
    """Raise InvalidInput where pretrained outputs, which mean published classes, do not fit the classes of the data."""
    if "pretrained" not in evaluation.sources or not isinstance(evaluation.model, PretrainedModel):
        return
    outputs = evaluation.model.classes
    if outputs != examples.classes:
        raise InvalidInput(
            f"the weights of '{evaluation.title}' have {outputs} classes, '{format_spec(evaluation.dataset)}' has "
            f"{examples.classes}; give data of theirs, or weights finetuned on yours by --weights"
        )


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
        return {"loss": finite_or_none(loss)}
    return {"loss": finite_or_none(loss), "accuracy": finite_or_none(right / counted) if counted else None}
