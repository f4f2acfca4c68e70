"""By how much a measure changes when the network's weights change and its function does not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch

from sharpbench.core.evaluate import measure
from sharpbench.core.measure import REWRITE_KINDS, Measure, NotApplicable
from sharpbench.core.subject import Subject
from sharpbench.errors import InvalidInput
from sharpbench.symmetry import find_rewrites

REWRITES_PER_KIND = 2
CHECK_EXAMPLES = 8
"""Examples on which a rewrite is verified to keep the function."""


def invariance_factors(chosen: Measure, subject: Subject, *, seed: int = 0) -> dict[str, float | None]:
    """Kind of rewrite -> the largest factor, at least 1, by which the value changed under random rewrites.

    Kinds are 'layer' and 'unit' (rescalings of tensors and of single units), 'permutation' of hidden units, and
    'attention-rotation' of queries and keys. A kind that the network does not have is left out. The factor is None
    where one value is 0 or of the other sign, or where the measure is not applicable to the rewritten network. The
    same seed gives the same rewrites to every measure, and the same random numbers to every evaluation.

    Cost: one evaluation more than there are rewrites, REWRITES_PER_KIND of each kind.
    """
    others = subject.once(rewrite_subjects)
    if not others:
        return {}
    before = measure(chosen, subject, seed=seed).value
    return {kind: _largest_factor(chosen, before, subjects, seed) for kind, subjects in others.items()}


def rewrite_subjects(subject: Subject) -> Mapping[str, tuple[Subject, ...]]:
    """Kind -> `subject` at REWRITES_PER_KIND random weights of the same function; empty where there is no graph.

    Parameters that are not measured are not rescaled or rotated; permutations move everything that a unit has.
    """
    generator = torch.Generator().manual_seed(0)
    state = {**subject.constants, **subject.params}
    found: dict[str, tuple[Subject, ...]] = {}
    for kind in REWRITE_KINDS:
        try:
            examples, measured = subject.examples(CHECK_EXAMPLES), set(subject.params)
            rewrite = find_rewrites(
                subject.module,
                examples,
                kind,
                generator=generator,
                parameters=measured,
                forward=subject.forward,
            )
            moved = [rewrite(state, generator=generator) for _ in range(REWRITES_PER_KIND)]
        except InvalidInput:
            return {}
        if rewrite.trivial:
            continue
        found[kind] = tuple(move_to_state(subject, each) for each in moved)
    return found


def move_to_state(subject: Subject, state: Mapping[str, torch.Tensor]) -> Subject:
    """`subject` at the weights of a state dict, in the types of the subject's weights."""
    return replace(
        subject,
        params={name: state[name].to(held) for name, held in subject.params.items()},
        constants={name: state[name].to(held) for name, held in subject.constants.items()},
    )


def _largest_factor(chosen: Measure, before: float, others: tuple[Subject, ...], seed: int) -> float | None:
    factors = []
    for other in others:
        try:
            after = measure(chosen, other, seed=seed).value
        except NotApplicable:
            return None
        if after == before:
            factors.append(1.0)
        elif after * before <= 0:
            return None
        else:
            factors.append(max(after / before, before / after))
    return max(factors)
