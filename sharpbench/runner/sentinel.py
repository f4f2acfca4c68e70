"""A fixed computation whose values are known: where they change, nothing that the process computes can be believed."""

from __future__ import annotations

import math
import warnings

import torch
from torch import Tensor
from torch.nn import functional as F

SMALLEST = {torch.float32: 1e-40, torch.float64: 1e-310}
"""Subnormal numbers, which become 0 where the processor was told to flush them."""


def sentinel_values() -> tuple[float, ...]:
    """The values of a fixed computation with the parts of torch and Python that measures use.

    They depend on the processor and the versions only: a product, a loss, its gradient and a product with its Hessian,
    forward mode, in two precisions, random numbers of a generator, subnormal numbers, functions of Python.

    Cost: some milliseconds.
    """
    values = [math.exp(0.3), math.fsum([0.1] * 10), math.sqrt(2.0), 0.1 + 0.2]
    for dtype, smallest in SMALLEST.items():
        grid = torch.arange(1, 13, dtype=dtype, device="cpu")
        inputs, weights = (grid.sin() * 0.7).reshape(3, 4), (grid.cos() / 3).reshape(3, 4)
        targets = torch.tensor([0, 2, 1], device="cpu")

        def scores(weights: Tensor, inputs: Tensor = inputs) -> Tensor:
            return torch.tanh(inputs @ weights.T)

        def slope(weights: Tensor, inputs: Tensor = inputs, targets: Tensor = targets) -> Tensor:
            gradient: Tensor = torch.func.grad(lambda each: F.cross_entropy(scores(each, inputs), targets))(weights)
            return (gradient * inputs).sum()

        value = F.cross_entropy(scores(weights), targets)
        product = torch.func.grad(slope)(weights)  # under python -O torch has no forward mode of this loss
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns at its first use of forward mode
            tangent = torch.func.jvp(scores, (weights,), (inputs,))[1]
        drawn = torch.randn(2, generator=torch.Generator("cpu").manual_seed(5), dtype=dtype, device="cpu")
        subnormal = torch.tensor(smallest, dtype=dtype, device="cpu") * 0.5
        parts = (value, slope(weights), product.square().sum(), tangent.sum(), drawn.sum(), subnormal)
        values += [float(part) for part in parts]
    return tuple(values)
