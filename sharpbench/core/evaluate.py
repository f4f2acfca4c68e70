"""Evaluation: one measure on one subject."""

from __future__ import annotations

import torch

from sharpbench.core.measure import Estimate, Measure
from sharpbench.core.registry import available
from sharpbench.core.spec import parse_spec
from sharpbench.core.subject import Subject
from sharpbench.errors import InvalidInput, short


def measure(measure_or_name: Measure | str, subject: Subject, *, seed: int = 0) -> Estimate:
    """What a measure says of `subject`: an Estimate with value, stderr and parts.

    `measure_or_name`: a Measure, or its name with parameters in brackets, 'normalized[diagonal=icml]'.
    The same seed, of 64 bits, gives the same estimate. Raises InvalidInput for an unknown name or a bad value,
    NotApplicable where the measure has no value for this subject, and TypeError where it returns no Estimate.
    """
    chosen = parse_measure(measure_or_name) if isinstance(measure_or_name, str) else measure_or_name
    if not isinstance(chosen, Measure):
        raise InvalidInput(f"{short(repr(chosen))} is no measure; give a Measure or its name")
    if not isinstance(subject, Subject):
        raise InvalidInput(f"{short(repr(subject))} is no subject; give Subject.from_module(model, inputs, targets)")
    if not 0 <= seed < 2**64:
        raise InvalidInput(f"seed={seed} must be from 0 to {2**64 - 1}")
    estimate: object = chosen(subject, generator=torch.Generator().manual_seed(seed))
    if not isinstance(estimate, Estimate):
        raise TypeError(f"measure '{chosen.name}' returns {estimate!r:.80}, no Estimate; return Estimate(value)")
    return estimate


def parse_measure(word: str) -> Measure:
    """The installed measure that `word` names."""
    chosen: Measure = parse_spec(word, available("measures").classes, kind="measure")
    return chosen
