"""A fixed computation whose values are known: where they change, nothing that the process computes can be believed."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

SMALLEST = {torch.float32: 1e-40, torch.float64: 1e-310}
"""Subnormal numbers, which become 0 where the processor was told to flush them."""


def sentinel_values() -> tuple[float, ...]:
    """The values of a fixed computation with the parts of torch and Python that measures use.

    They depend on the processor and the versions only: a product, a loss, its gradient and a product with its Hessian
    in two precisions, random numbers of a generator, subnormal numbers, functions of Python.

    Cost: about 2 ms.
    """
    values = [math.exp(0.3), math.fsum([0.1] * 10), math.sqrt(2.0), 0.1 + 0.2]
    for dtype, smallest in SMALLEST.items():
        grid = torch.arange(1, 13, dtype=dtype, device="cpu")
        inputs, weights = (grid.sin() * 0.7).reshape(3, 4), (grid.cos() / 3).reshape(3, 4)
        targets = torch.tensor([0, 2, 1], device="cpu")

        def loss(weights: Tensor, inputs: Tensor = inputs, targets: Tensor = targets) -> Tensor:
            return F.cross_entropy(torch.tanh(inputs @ weights.T), targets)

        gradient = torch.func.grad(loss)
        product = torch.func.jvp(gradient, (weights,), (inputs,))[1]
        drawn = torch.randn(2, generator=torch.Generator("cpu").manual_seed(5), dtype=dtype, device="cpu")
        subnormal = torch.tensor(smallest, dtype=dtype, device="cpu") * 0.5
        parts = (loss(weights), gradient(weights).sum(), product.square().sum(), drawn.sum(), subnormal)
        values += [float(part) for part in parts]
    return tuple(values)
