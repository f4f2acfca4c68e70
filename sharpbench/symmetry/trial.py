"""Trial: a network as a float64 function at weights that hide nothing, on which rewrites are tried out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode


@dataclass(frozen=True, slots=True, eq=False)
class Trial:
    """state: parameters and buffers in float64, with noise on the weights, by name. inputs: float64 [B, ...]."""

    model: nn.Module
    inputs: Tensor
    state: Mapping[str, Tensor]

    @staticmethod
    def of(model: nn.Module, inputs: Tensor, *, generator: torch.Generator) -> Trial:
        """At the model's weights plus noise of a tenth of each tensor's size, or 0.1 where it is 0: a branch that
        is initialised to nothing would hide what happens in it."""
        state = {name: _double(value) for name, value in model.named_buffers()}
        for name, value in model.named_parameters():
            state[name] = _perturbed(_double(value), generator)
        return Trial(model, _double(inputs), state)

    def outputs(self, state: Mapping[str, Tensor]) -> Tensor:
        """What the network says of the inputs, in eval mode, with the tensors of `state` in place of its own.

        In float64 throughout: also where the network's code asks for float32.
        """
        with evaluating(self.model), torch.no_grad(), _Double():
            result: Tensor = torch.func.functional_call(self.model, {**self.state, **state}, (self.inputs,))
        return result

    def change(self, state: Mapping[str, Tensor]) -> float:
        """The largest change of the outputs, relative to the largest output."""
        before = self.outputs({})
        return float((self.outputs(state) - before).abs().max() / before.abs().max())


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Eval mode inside, every submodule's own mode afterwards."""
    training = [part for part in model.modules() if part.training]
    for part in training:
        part.training = False
    try:
        yield
    finally:
        for part in training:
            part.training = True


class _Double(TorchFunctionMode):
    """Casts to float32 are casts to float64."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """The function itself, with its types exchanged."""
        wide = [torch.float64 if value is torch.float32 else value for value in args]
        named = {key: torch.float64 if value is torch.float32 else value for key, value in (kwargs or {}).items()}
        widened: Callable[..., Any] = torch.Tensor.double if func is torch.Tensor.float else func
        return widened(*wide, **named)


def _double(value: Tensor) -> Tensor:
    return value.detach().double() if value.is_floating_point() else value.detach()


def _perturbed(value: Tensor, generator: torch.Generator) -> Tensor:
    size = 0.1 * (float(value.square().mean().sqrt()) or 1.0) if value.numel() else 0.0
    return value + size * torch.randn(value.shape, generator=generator, dtype=value.dtype).to(value.device)
