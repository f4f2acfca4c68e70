"""The random generators of the process and of a network, kept as they are while a measure draws from them."""

from __future__ import annotations

import ctypes
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn

MT19937_BYTES = 625 * 4
"""Of the generator's 624 words and its place among them."""


@contextmanager
def random_state_kept(*models: nn.Module) -> Iterator[None]:
    """Afterwards all random generators of the process, and those that the models hold, are as they were before."""
    python, numpy, words = random.getstate(), np.random.get_state(legacy=False), _numpy_words()
    own = [_remember(each) for model in models for each in _held_generators(model)]
    try:
        with torch.random.fork_rng(devices=range(torch.cuda.device_count()) if torch.cuda.is_initialized() else []):
            yield
    finally:
        for restore in own:
            restore()
        random.setstate(python)
        # setting numpy's takes a while; drawing the normal number that it keeps from a draw before changes no word
        if words is None or numpy["has_gauss"] or _numpy_words() != words:
            np.random.set_state(numpy)


def _numpy_words() -> bytes | None:
    """What numpy's global generator draws its numbers from; None where it is not the default one."""
    generator = np.random.mtrand.get_bit_generator()
    if type(generator) is not np.random.MT19937:
        return None
    return ctypes.string_at(generator.ctypes.state_address, MT19937_BYTES)


_Generator = torch.Generator | random.Random | np.random.Generator | np.random.RandomState


def _held_generators(model: nn.Module) -> Iterator[_Generator]:
    """The generators that are attributes of the model or of its parts, or are in a list, tuple or dictionary there."""
    for part in model.modules():
        for value in vars(part).values():
            if isinstance(value, _Generator):
                yield value
            elif isinstance(value, list | tuple | Mapping):
                items = value.values() if isinstance(value, Mapping) else value
                yield from (item for item in items if isinstance(item, _Generator))


def _remember(generator: _Generator) -> Callable[[], object]:
    """What sets the generator back to its present state."""
    if isinstance(generator, torch.Generator):
        held = generator.get_state()
        return lambda: generator.set_state(held)
    if isinstance(generator, random.Random):
        python = generator.getstate()
        return lambda: generator.setstate(python)
    if isinstance(generator, np.random.RandomState):
        legacy = generator.get_state(legacy=False)
        return lambda: generator.set_state(legacy)
    bits, words = generator.bit_generator, generator.bit_generator.state
    return lambda: setattr(bits, "state", words)
