"""Whether what a network computes depends on random numbers, seen in the functions that it calls.

Outputs tell it only by chance: a dropout of one unit in a thousand leaves most examples as they are.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

DRAWS = frozenset(
    (
        *("rand", "rand_like", "randn", "randn_like", "randint", "randint_like", "randperm", "bernoulli", "normal"),
        *("multinomial", "poisson", "bernoulli_", "uniform_", "normal_", "exponential_", "geometric_", "cauchy_"),
        *("log_normal_", "random_"),
    )
)
"""Names of functions whose result is random numbers, which the network may use or not."""
DROPS = frozenset(
    (
        *("dropout", "dropout_", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout"),
        *("rrelu", "rrelu_", "gumbel_softmax", "scaled_dot_product_attention", "multi_head_attention_forward"),
    )
)
"""Names of functions whose result depends on random numbers, if they draw some."""
REPEATS = 64
"""Calls that are compared where a network moves a generator and it cannot be seen what it draws."""

States = tuple[object, object, object]
"""Of the generators of torch, of Python and of numpy."""


def generator_states() -> States:
    """The states of the process's random generators, which can be compared."""
    name, keys, *rest = np.random.get_state()
    return tuple(_torch_states()), random.getstate(), (name, np.asarray(keys).tobytes(), *rest)


def uses_random_numbers(network: Callable[[], Tensor]) -> bool:
    """Whether the outputs of `network()` depend on numbers that differ from call to call.

    Numbers that it draws and does not use count for nothing, nor do those of a generator that it seeds itself. The
    process's generators are moved.

    Cost: two forward passes, and REPEATS where it cannot be seen what it draws.
    """
    first, second = _observe(network, 1), _observe(network, 2)
    if first.used() != second.used():
        return True
    unseen = (not first.drawn, True, True)
    if any(hidden and one != other for hidden, one, other in zip(unseen, first.after, second.after, strict=True)):
        return any(not _equal(first.outputs, _observe(network, seed).outputs) for seed in range(2, REPEATS))
    return False


@dataclass(slots=True, eq=False)
class _Draw:
    """Random numbers, the state of their generator afterwards, and whether something was computed from them."""

    numbers: object
    state: bytes
    used: bool


@dataclass(frozen=True, slots=True, eq=False)
class _Observed:
    """What one call drew. after: the generators' states."""

    outputs: Tensor
    drawn: Sequence[_Draw]
    after: States

    def used(self) -> list[bytes]:
        """The states that tell which numbers were used."""
        return [each.state for each in self.drawn if each.used]


def _observe(network: Callable[[], Tensor], seed: int) -> _Observed:
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed)
    mode = _DrawsMode()
    with torch.enable_grad(), mode:  # some networks differentiate inside
        outputs = network().detach()
    return _Observed(outputs, mode.drawn, generator_states())


class _DrawsMode(TorchFunctionMode):
    """Records the random numbers that are drawn inside, and whether something is computed from them."""

    def __init__(self) -> None:
        super().__init__()
        self.drawn: list[_Draw] = []

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        name, options = getattr(func, "__name__", ""), kwargs or {}
        if self.drawn and name != "__get__":
            given = {id(each) for each in pytree.tree_leaves((args, options)) if isinstance(each, Tensor)}
            for draw in self.drawn:
                draw.used = draw.used or id(draw.numbers) in given
        if name not in DRAWS and name not in DROPS:
            return func(*args, **options)
        generator = options.get("generator")
        before = _state(generator)
        result = func(*args, **options)
        after = _state(generator)
        if before != after:
            self.drawn.append(_Draw(result, after, name in DROPS))
        return result


def _state(generator: torch.Generator | None) -> bytes:
    """Of a generator, or of those of the process."""
    if generator is not None:
        return bytes(generator.get_state().numpy().tobytes())
    return b"".join(_torch_states())


def _torch_states() -> list[bytes]:
    states = [torch.get_rng_state()]
    if torch.cuda.is_initialized():
        states.extend(torch.cuda.get_rng_state_all())
    return [state.numpy().tobytes() for state in states]


def _equal(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and bool(((one == other) | (one.isnan() & other.isnan())).all())
