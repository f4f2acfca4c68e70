"""Products of the Hessian and of the Gauss-Newton matrix with vectors."""

from __future__ import annotations

import torch
from torch import Tensor

from sharpbench.core.subject import Params, Subject


def hvp(subject: Subject, vector: Params) -> Params:
    """H v for the Hessian of the mean loss: forward over reverse, about four gradients.

    vector: a tensor for each parameter, of its shape.
    """

    def gradient(params: Params) -> Params:
        slope: Params = torch.func.grad(subject.loss)(params)
        return slope

    product: Params = torch.func.jvp(gradient, (subject.params,), (vector,))[1]
    return product


def ggnvp(subject: Subject, vector: Params) -> Params:
    """G v for the Gauss-Newton matrix (1/n) sum_i J_i^T Lambda_i J_i: a forward, a product, a backward pass."""

    def batch(inputs: Tensor, targets: Tensor) -> Params:
        def network(params: Params) -> Tensor:
            return subject.apply(params, inputs)

        forward = torch.func.jvp(network, (subject.params,), (vector,))

        def slope(logits: Tensor) -> Tensor:
            gradient: Tensor = torch.func.grad(lambda outputs: subject.criterion(outputs, targets).mean())(logits)
            return gradient

        curved = torch.func.jvp(slope, (forward[0],), (forward[1],))[1]
        product: Params = torch.func.vjp(network, subject.params)[1](curved)[0]
        return product

    return subject.mean(batch)
