"""Evaluation: one measure on one subject."""

from __future__ import annotations

import torch

from sharpbench.contract import Estimate, Measure
from sharpbench.errors import InvalidInput
from sharpbench.registry import offers
from sharpbench.selection import select_one
from sharpbench.subject import Subject


def measure(measure_or_name: Measure | str, subject: Subject, *, seed: int = 0) -> Estimate:
    """What a measure says of `subject`: an Estimate with value, stderr and parts.

    `measure_or_name`: a Measure, or its name with parameters in brackets, 'normalized[diagonal=icml]'.
    The same seed gives the same estimate. Raises InvalidInput for an unknown name or a bad value, and
    NotApplicable where the measure has no value for this subject.
    """
    chosen = named(measure_or_name) if isinstance(measure_or_name, str) else measure_or_name
    if not isinstance(chosen, Measure):
        raise InvalidInput(f"{chosen!r:.80} is no measure; give a Measure or its name")
    return chosen(subject, generator=torch.Generator().manual_seed(seed))


def named(word: str) -> Measure:
    """The installed measure that `word` names."""
    chosen: Measure = select_one(word, offers("measures").classes, kind="measure")
    return chosen
