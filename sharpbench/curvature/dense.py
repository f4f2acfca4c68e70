"""Dense matrices of tiny networks: what everything else is compared with."""

from __future__ import annotations

from itertools import accumulate

import torch
from torch import Tensor

from sharpbench.core.subject import Subject
from sharpbench.curvature.implicit import flatten, unflatten
from sharpbench.errors import InvalidInput

MATRIX_LIMIT = 4_000
"""Dense matrices are formed up to so many parameters: 128 MB in float64."""


def dense_hessian(subject: Subject) -> Tensor:
    """The Hessian [P, P] of the mean loss over all n examples, parameters in the order of `subject.params`.

    By its definition: the derivative of the gradient, one column a parameter. P gradients of gradients.
    Raises InvalidInput above MATRIX_LIMIT parameters.
    """
    _check(subject)

    def loss(flat: Tensor) -> Tensor:
        return subject.loss(unflatten(subject.params, flat))

    hessian: Tensor = torch.func.jacrev(torch.func.grad(loss), chunk_size=64)(flatten(subject.params))
    return hessian


def dense_ggn(subject: Subject) -> Tensor:
    """The Gauss-Newton matrix (1/n) sum_i J_i^T Lambda_i J_i, [P, P]: Jacobians and output Hessians in full.

    Raises InvalidInput above MATRIX_LIMIT parameters.
    """
    _check(subject)
    flat = flatten(subject.params)
    total = flat.new_zeros(len(flat), len(flat))
    for example, target in zip(subject.inputs.split(1), subject.targets.split(1), strict=True):

        def logits(values: Tensor, example: Tensor = example) -> Tensor:
            return subject.apply(unflatten(subject.params, values), example)[0]

        def loss(outputs: Tensor, target: Tensor = target) -> Tensor:
            return subject.criterion(outputs[None], target)[0]

        jacobian = torch.func.jacrev(logits)(flat)  # [C, P]
        curvature = torch.func.hessian(loss)(logits(flat))  # [C, C]
        total += jacobian.T @ curvature @ jacobian
    return total / len(subject.inputs)


def blocks(subject: Subject) -> dict[str, slice]:
    """Where each parameter lies in the rows and columns of a dense matrix."""
    ends = list(accumulate(value.numel() for value in subject.params.values()))
    starts = [0, *ends[:-1]]
    return {name: slice(start, end) for name, start, end in zip(subject.params, starts, ends, strict=True)}


def _check(subject: Subject) -> None:
    if subject.size > MATRIX_LIMIT:
        raise InvalidInput(
            f"a dense matrix of {subject.size} parameters is above the limit of {MATRIX_LIMIT}; "
            "use exact_diagonal, or the products hvp and ggnvp"
        )
