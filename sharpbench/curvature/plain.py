"""First and second derivatives by plain backward passes: what torch.autograd itself says, without torch.func."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from sharpbench.core.subject import Params

ScalarFunction = Callable[[Params], Tensor]


def plain_vjp(value: Tensor, leaves: Params, vector: Tensor | None = None) -> Params:
    """The derivatives of `value`, times `vector` of its shape, by the leaves that it was computed from; detached.

    The graph of `value` is kept. 0 for leaves that it does not depend on.
    """
    if not value.requires_grad:
        return {name: torch.zeros_like(leaf) for name, leaf in leaves.items()}
    found = torch.autograd.grad(
        value, list(leaves.values()), vector, retain_graph=True, allow_unused=True, materialize_grads=True
    )
    return dict(zip(leaves, (each.detach() for each in found), strict=True))


def as_leaves(params: Params) -> Params:
    """The same values as leaves of a new graph."""
    return {name: value.detach().requires_grad_() for name, value in params.items()}


def plain_gradient(function: ScalarFunction, params: Params) -> Params:
    """The gradient of a scalar function, by one backward pass."""
    leaves = as_leaves(params)
    with torch.enable_grad():
        return plain_vjp(function(leaves), leaves)


def plain_hvps(function: ScalarFunction, params: Params, vectors: Sequence[Params]) -> tuple[Params, list[Params]]:
    """The gradient of a scalar function, and H v for each vector by a second backward pass; the first one is shared."""
    leaves = as_leaves(params)
    places = list(leaves.values())
    with torch.enable_grad():
        value = function(leaves)
        if not value.requires_grad:
            zero = plain_vjp(value, leaves)
            return zero, [zero for _ in vectors]
        slopes = torch.autograd.grad(value, places, create_graph=True, allow_unused=True, materialize_grads=True)
        gradient = dict(zip(leaves, slopes, strict=True))
        products = [plain_vjp(inner_product(gradient, vector), leaves) for vector in vectors]
    return {name: each.detach() for name, each in gradient.items()}, products


def plain_jvp(function: Callable[[Params], Tensor], params: Params, vector: Params) -> tuple[Tensor, Tensor]:
    """function(params) and J v by backward passes only: J v is the derivative of v . J^T w by w."""
    leaves = as_leaves(params)
    with torch.enable_grad():
        value = function(leaves)
        w = torch.zeros_like(value, requires_grad=True)
        if not value.requires_grad:
            return value.detach(), torch.zeros_like(value)
        pulled = torch.autograd.grad(
            value, list(leaves.values()), w, create_graph=True, allow_unused=True, materialize_grads=True
        )
        along = inner_product(dict(zip(leaves, pulled, strict=True)), vector)
        return value.detach(), plain_vjp(along, {"w": w})["w"]


def inner_product(one: Params, other: Params) -> Tensor:
    """The sum of the products of all entries, a scalar."""
    terms = [(value * other[name]).sum() for name, value in one.items()]
    return torch.stack(terms).sum()
