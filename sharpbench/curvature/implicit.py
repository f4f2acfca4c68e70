"""Implicit matrices: the Hessian or the Gauss-Newton matrix by their products with many flat vectors at once."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from sharpbench.core.subject import Params, Subject
from sharpbench.curvature.mapping import mapped, together
from sharpbench.curvature.products import ggnvp, hvp
from sharpbench.errors import InvalidInput

Kind = Literal["hessian", "gauss-newton"]


@dataclass(frozen=True, slots=True)
class Matrix:
    """A symmetric matrix [P, P] that is known by its products.

    like: a tensor that has its device and dtype. together: how many products are taken at once.
    """

    size: int
    like: Tensor
    product: Callable[[Tensor], Tensor]
    together: int

    def __matmul__(self, vectors: Tensor) -> Tensor:
        """The products [P, m] with the columns of `vectors` [P, m], some at a time."""
        return mapped(self.product, vectors.T, self.together).T


def matrix(subject: Subject, kind: Kind = "hessian") -> Matrix:
    """The Hessian of the mean loss, or its Gauss-Newton matrix, over all parameters in their order."""
    if kind not in ("hessian", "gauss-newton"):
        raise InvalidInput(f"matrix '{kind}' is unknown; use 'hessian' or 'gauss-newton'")
    multiply = hvp if kind == "hessian" else ggnvp

    def product(flat: Tensor) -> Tensor:
        found = multiply(subject, unflatten(subject.params, flat))
        return flatten({name: found[name] for name in subject.params})

    return Matrix(subject.size, next(iter(subject.params.values())), product, together(subject))


def scaled(operator: Matrix, scale: Tensor) -> Matrix:
    """D A D for the diagonal D = diag(scale [P])."""

    def product(flat: Tensor) -> Tensor:
        return scale * operator.product(scale * flat)

    return replace(operator, product=product)


def deflated(operator: Matrix, vectors: Tensor) -> Matrix:
    """The matrix on the complement of its orthonormal eigenvectors [P, r]."""
    return replace(operator, product=lambda flat: beside(vectors, operator.product(flat)))


def beside(vectors: Tensor, given: Tensor) -> Tensor:
    """What of `given` [P, ...] is orthogonal to the columns of `vectors`."""
    for _ in range(2):
        given = given - vectors @ (vectors.T @ given)
    return given


def flatten(params: Params) -> Tensor:
    """The parameters one after the other, [P]."""
    return torch.cat([value.flatten() for value in params.values()])


def unflatten(params: Params, flat: Tensor) -> Params:
    """The flat vector [P] cut into tensors of the parameters' shapes."""
    pieces = flat.split([math.prod(value.shape) for value in params.values()])
    return {name: piece.reshape(value.shape) for (name, value), piece in zip(params.items(), pieces, strict=True)}
