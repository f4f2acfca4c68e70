"""Facts about a subject's network that are found once: the shape of its outputs, its graph, its operators."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sharpbench.core.batch import take_examples
from sharpbench.core.graph import Graph, current_graph
from sharpbench.core.operator_survey import OperatorSurvey, survey_function
from sharpbench.core.requirements import COMPARED, spread_places

if TYPE_CHECKING:
    from sharpbench.core.parameters import Weights
    from sharpbench.core.subject import Params, Subject


def find_output_shape(subject: Subject) -> torch.Size:
    """The shape of the outputs of one example."""
    with torch.enable_grad():  # some networks differentiate inside
        return subject.apply(subject.params, take_examples(subject.inputs, slice(1))).shape[1:]


def capture_subject(subject: Subject) -> Graph:
    """The network's graph, compared with the module on a few examples."""
    compared = subject.pick(spread_places(subject.n, COMPARED))[0]
    values = {**subject.constants, **subject.params}
    return current_graph(subject.module, subject.examples(1), compared, values, forward=subject.forward)


def survey_subject(subject: Subject) -> OperatorSurvey:
    """What the network, and a loss that is not in closed form, consist of on one example."""
    inputs, targets = next(subject.split())

    def loss(params: Params) -> Tensor:
        logits = subject.apply(params, inputs)
        return subject.criterion(logits, targets) if subject.criterion.kind == "custom" else logits

    found = survey_function(loss, subject.params)
    return replace(found, verified=found.verified and subject.criterion.kind != "custom")  # ours are verified


def at_weights(subject: Subject, weights: Weights, facts: Collection[Callable[[Subject], object]] = ()) -> Subject:
    """The same network and data at the weights and buffers of a later step of training.

    What its operators are is not looked at again, unless its code may branch on the weights.

    Args:
        facts: functions whose settled results do not depend on the weights either.
    """
    other = replace(subject, params=weights.params, constants=weights.constants)
    known = subject._settled
    survey = known.get(survey_subject)  # or why there is none
    if isinstance(survey, OperatorSurvey) and not survey.reads_values:
        kept = {survey_subject, find_output_shape, *facts}
        other._settled.update({each: known[each] for each in known.keys() & kept})
    return other
