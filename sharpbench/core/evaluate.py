"""Evaluation of one measure on one subject."""

from __future__ import annotations

from dataclasses import replace

import torch

from sharpbench.core.measure import Estimate, Measure
from sharpbench.core.registry import available
from sharpbench.core.spec import parse_spec
from sharpbench.core.subject import Subject
from sharpbench.errors import InvalidInput, short


def measure(measure_or_name: Measure | str, subject: Subject, *, seed: int = 0) -> Estimate:
    """The Estimate of a measure on `subject`: value, standard error, interval and parts.

    Args:
        measure_or_name: a Measure, or its name with hyperparameters in brackets, 'normalized[diagonal=icml]'.
        subject: network, loss and data.
        seed: from 0 to 2^64 - 1; the same seed gives the same estimate.
    Raises:
        InvalidInput: for an unknown name or an invalid hyperparameter.
        NotApplicable: where the measure has no value for this subject; the message states the reason.
        TypeError: where the measure does not return an Estimate.

    Cost: that of the measure, see `sharpbench info NAME`.

    >>> estimate = sharpbench.measure("trace", subject)
    >>> round(estimate.value, 9), estimate.stderr  # (1/2) (1 + |x|^2), and exact
    (5.0, 0.0)
    """
    chosen = parse_measure(measure_or_name) if isinstance(measure_or_name, str) else measure_or_name
    if not isinstance(chosen, Measure):
        raise InvalidInput(f"{short(repr(chosen))} is not a measure; give a Measure or its name")
    if not isinstance(subject, Subject):
        raise InvalidInput(f"{short(repr(subject))} is not a subject; give Subject.from_module(model, inputs, targets)")
    if not 0 <= seed < 2**64:
        raise InvalidInput(f"seed={seed} must be from 0 to {2**64 - 1}")
    subject.notes.clear()
    estimate: object = chosen(subject, generator=torch.Generator().manual_seed(seed))
    if not isinstance(estimate, Estimate):
        raise TypeError(f"measure '{chosen.name}' returns {estimate!r:.80}, not an Estimate; return Estimate(value)")
    return replace(estimate, details={**estimate.details, **subject.notes}) if subject.notes else estimate


def parse_measure(word: str) -> Measure:
    """The installed measure with this name or spec, 'normalized[diagonal=icml]'."""
    chosen: Measure = parse_spec(word, available("measures").classes, kind="measure")
    return chosen
