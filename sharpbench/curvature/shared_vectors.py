"""How many vectors are multiplied with second derivatives at once, by what a product with one is predicted to hold."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from sharpbench.core.subject import Params, Subject
from sharpbench.curvature.buffer_sizes import ResultCounter
from sharpbench.curvature.products import vectors_at_once
from sharpbench.curvature.soundness import sound_method
from sharpbench.curvature.vjp import results_of_one
from sharpbench.environment import free_bytes

VECTORS = 8
"""Vectors that are multiplied at once where memory allows it. They share the forward and the backward pass at the
weights: a product of vit_tiny at 224x224 takes 3.7 gradients alone and 2.1 together with seven others."""
LIMIT_BYTES = 3 * 2**29
"""What these vectors may hold, or a quarter of what is free where that is less and one process measures."""
PARAMETER_COPIES = 4
"""What a product holds of the size of the parameters: signs, their vector, its image and terms of that. One more with
a scale."""
RESULT_COPIES = 2
"""How often it holds the results of the network's operators: their derivatives along the vector, and these' own terms
in the backward pass. Seen on seven networks, convolutional, recurrent and ViTs: 0.6 to 0.9 of what is predicted; with
GroupNorm 1.3 to 1.7, as its derivatives take more terms."""
OPERATOR_NUMBERS = 30_000
"""An operator's fixed time in a product, in numbers that it could compute meanwhile: on nine networks 200 to 800 us of
fixed time and 6 to 46 ns for each number were seen, in float32 on one core."""


@dataclass(frozen=True, slots=True)
class SharedVectors:
    """together: vectors that are multiplied at once, 0 for one by one. wanted: how many would be if memory were not
    bounded, which depends only on the network. bytes_each: what one of them is predicted to hold with a batch.
    fixed: the time of a call that does not depend on what it multiplies, in products of one vector with a batch."""

    together: int
    wanted: int
    bytes_each: int
    fixed: float

    @property
    def step(self) -> int:
        """Vectors that exist at once, at least one."""
        return max(1, self.together)

    def time_each(self) -> float:
        """The time of a product in calls with many vectors; without the calls' fixed time it is 1."""
        return 1 + self.fixed / max(1, self.wanted)

    @property
    def peak_bytes(self) -> int:
        """What is predicted to be held while they are multiplied; what they share takes as much as one at most."""
        return (self.step + 1) * self.bytes_each


def share_vectors(subject: Subject, block: Params, *, examples: int, scaled: bool = False) -> SharedVectors:
    """Vectors of a block's size that are multiplied at once, with a batch of that many examples."""
    parameters = sum(value.numel() for value in block.values())
    network = subject.settled(_count_one)
    results = network.held + network.windows if examples == 1 else examples * network.held
    numbers = (PARAMETER_COPIES + scaled) * parameters + results
    each = numbers * max(value.element_size() for value in block.values())
    # processes that divide the batches add up products in step, so that all take as many vectors at once
    free = None if subject.process_group is not None else free_bytes(subject.device)
    limit = LIMIT_BYTES if free is None else min(LIMIT_BYTES, free // 4)
    wanted = 0 if sound_method(subject).plain else max(VECTORS, vectors_at_once(subject, examples=examples))
    return SharedVectors(min(wanted, max(1, limit // each - 1)), wanted, each, network.fixed / examples)


@dataclass(frozen=True, slots=True)
class _OneExample:
    """held: numbers that a product of one example with a vector holds. windows: how many more where there is no other
    example, as torch then copies the windows of convolutions. fixed: see SharedVectors, of one example."""

    held: int
    windows: int
    fixed: float


def _count_one(subject: Subject) -> _OneExample:
    """By what the network's operators return when it runs on one example."""
    method = sound_method(subject)
    inputs, _ = subject.pick(torch.zeros(1, dtype=torch.int64, device=subject.device))
    try:
        with ResultCounter() as counted, method.operators(), torch.enable_grad():
            method.network(subject)(subject.params, inputs)
    except Exception:  # whatever torch raises where it cannot follow the network's code
        return _OneExample((RESULT_COPIES + 1) * results_of_one(subject), 0, 0.0)
    fixed = OPERATOR_NUMBERS * counted.operators / max(1, counted.numbers)
    return _OneExample(RESULT_COPIES * counted.numbers + counted.largest, counted.windows, fixed)
