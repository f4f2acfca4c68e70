"""A network as a float64 function at perturbed weights, on which rewrites of the weights are verified."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from sharpbench.core.batch import Inputs, map_tensors, named_tensors
from sharpbench.core.functional import Forward, call_module
from sharpbench.core.parameters import check_finite
from sharpbench.errors import InvalidInput, one_line


@dataclass(frozen=True, slots=True, eq=False)
class Float64Check:
    """state: parameters and buffers in float64, with noise on the weights, by name. inputs: float64
    [B, ...], or a tree of them. forward: how the model is called."""

    model: nn.Module
    inputs: Inputs
    state: Mapping[str, Tensor]
    forward: Forward | None = None

    @staticmethod
    def of(
        model: nn.Module, inputs: Inputs, *, generator: torch.Generator, forward: Forward | None = None
    ) -> Float64Check:
        """The check at the model's weights plus noise of a tenth of each tensor's size, or 0.1 where that is 0.

        Without noise, a branch whose weights are initialised to 0 would hide a change in it. Raises InvalidInput where
        weights or inputs are not finite.
        """
        check_finite("weights", dict(model.named_parameters()))
        check_finite("inputs", named_tensors(inputs))
        state = {name: _to_float64(value) for name, value in model.named_buffers()}
        for name, value in model.named_parameters():
            state[name] = _add_noise(_to_float64(value), generator)
        return Float64Check(model, map_tensors(_to_float64, inputs), state, forward)

    def outputs(self, state: Mapping[str, Tensor]) -> Tensor:
        """The network's outputs for the inputs, in eval mode, with the tensors of `state` in place of its own.

        All of it runs in float64, also where the network's code requests float32 or creates tensors. Raises
        InvalidInput where it cannot run so, or does not return one tensor.
        """
        name = type(self.model).__name__
        try:
            with torch.no_grad(), _float64_defaults(), _Float64Casts():
                result: object = call_module(self.model, {**self.state, **state}, self.inputs, self.forward)
        except Exception as error:  # whatever the network's own code does with float64
            raise InvalidInput(f"{name} does not run in float64: {one_line(str(error))[:200]}") from error
        if not isinstance(result, Tensor):
            raise InvalidInput(f"{name} returns a {type(result).__name__}; wrap it so that it returns one tensor")
        return result

    def change(self, state: Mapping[str, Tensor]) -> float:
        """The relative change of the outputs."""
        return relative_change(self.outputs({}), self.outputs(state))


def relative_change(before: Tensor, after: Tensor) -> float:
    """The largest change of an entry, relative to the largest finite entry before.

    It is 0 where nothing changed, and infinite where all entries were 0 before or an entry is NaN afterwards.

    >>> symmetry.relative_change(torch.tensor([1.0, -4.0]), torch.tensor([2.0, -4.0]))
    0.25
    """
    if not before.numel():
        return 0.0
    moved = torch.where(before == after, 0.0, (after - before).abs()).nan_to_num(nan=math.inf, posinf=math.inf).max()
    size = before.abs().nan_to_num(nan=0.0, posinf=0.0).max()
    return float(moved / size) if moved > 0 else 0.0


def rounding_bound(tensors: Iterable[Tensor]) -> float:
    """sqrt(eps) of the coarsest dtype: a larger relative change is not rounding.

    >>> symmetry.rounding_bound([torch.zeros(2, dtype=torch.float64)])
    1.4901161193847656e-08
    """
    types = {value.dtype for value in tensors if value.is_floating_point() or value.is_complex()}
    return math.sqrt(max((torch.finfo(dtype).eps for dtype in types), default=0.0))


@contextmanager
def _float64_defaults() -> Iterator[None]:
    """Tensors created without a dtype are float64."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


class _Float64Casts(TorchFunctionMode):
    """Casts to float32 are casts to float64."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """The result of the function with float64 in place of float32."""
        wide = [torch.float64 if value is torch.float32 else value for value in args]
        named = {key: torch.float64 if value is torch.float32 else value for key, value in (kwargs or {}).items()}
        widened: Callable[..., Any] = torch.Tensor.double if func is torch.Tensor.float else func
        return widened(*wide, **named)


def _to_float64(value: Tensor) -> Tensor:
    if value.is_complex():
        return value.detach().to(torch.complex128)
    return value.detach().double() if value.is_floating_point() else value.detach()


def _add_noise(value: Tensor, generator: torch.Generator) -> Tensor:
    if not value.numel() or not (value.is_floating_point() or value.is_complex()):
        return value
    size = 0.1 * (float(value.abs().square().mean().sqrt()) or 1.0)
    return value + size * torch.randn(value.shape, generator=generator, dtype=value.dtype).to(value.device)
