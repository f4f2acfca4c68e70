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

    Cost: two forward passes, and REPEATS where no tensor leads from the numbers to the outputs: code may read them.
    """
    first, second = _observe(network, 1), _observe(network, 2)
    if first.states == second.states and first.after == second.after:
        return False
    if first.leads_to_outputs and first.states != second.states:
        return True
    return any(not _equal(first.outputs, _observe(network, seed).outputs) for seed in range(2, REPEATS))


@dataclass(frozen=True, slots=True, eq=False)
class _Observed:
    """What one call drew.

    states: of the generators after each draw. leads_to_outputs: whether the outputs were computed from what was drawn.
    after: the states of the process's generators in the end.
    """

    outputs: Tensor
    states: Sequence[bytes]
    leads_to_outputs: bool
    after: States


def _observe(network: Callable[[], Tensor], seed: int) -> _Observed:
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed)
    mode = _DrawsMode()
    with torch.enable_grad(), mode:  # some networks differentiate inside
        outputs = network()
    return _Observed(outputs.detach(), mode.states, id(outputs) in mode.derived, generator_states())


class _DrawsMode(TorchFunctionMode):
    """Records the random numbers that are drawn inside, and what is computed from them.

    derived: by their ids, the tensors that depend on random numbers; held, so that no other one gets the id.
    """

    def __init__(self) -> None:
        super().__init__()
        self.states: list[bytes] = []
        self.derived: dict[int, Tensor] = {}

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        name, options = getattr(func, "__name__", ""), kwargs or {}
        generator, may_draw = options.get("generator"), name in DRAWS or name in DROPS
        before = _state(generator) if may_draw else b""
        result = func(*args, **options)
        drew = may_draw and (after := _state(generator)) != before
        if drew:
            self.states.append(after)
        given = _tensors((args, options)) if self.derived else []
        if drew or any(id(each) in self.derived for each in given):
            changed = _tensors(result) if result is not None else given  # an assignment to entries returns nothing
            self.derived.update({id(each): each for each in changed})
        return result


def _tensors(values: object) -> list[Tensor]:
    return [each for each in pytree.tree_leaves(values) if isinstance(each, Tensor)]


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
