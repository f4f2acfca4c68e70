"""First and second derivatives by plain backward passes: what torch.autograd itself says, without torch.func."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from sharpbench.core.measure import NotApplicable
from sharpbench.core.requirements import is_out_of_memory
from sharpbench.core.subject import Params
from sharpbench.errors import InvalidInput, describe_error

ScalarFunction = Callable[[Params], Tensor]


@contextmanager
def differentiated() -> Iterator[None]:
    """Inside, an error of the network's own code, or of torch's, becomes NotApplicable: one line with its text."""
    try:
        yield
    except (InvalidInput, NotApplicable):
        raise
    except Exception as error:  # whatever torch, or the network's own code, raises
        if is_out_of_memory(error):
            raise
        raise NotApplicable(f"the network or its loss cannot be differentiated: {describe_error(error)}") from error


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
    """The gradient of a scalar function, by one backward pass.

    >>> curvature.plain_gradient(subject.loss, subject.params)["bias"]
    tensor([-0.5000,  0.5000], dtype=torch.float64)
    """
    return plain_gradient_and_value(function, params)[0]


def plain_gradient_and_value(function: ScalarFunction, params: Params) -> tuple[Params, Tensor]:
    """The gradient of a scalar function, by one backward pass, and its value."""
    leaves = as_leaves(params)
    with torch.enable_grad():
        value = function(leaves)
        return plain_vjp(value, leaves), value.detach()


def plain_vjps(function: Callable[[Params], Tensor], params: Params) -> tuple[Tensor, Callable[[Tensor], Params]]:
    """function(params), and what maps vectors [m, ...] of its shape to J^T v, stacked: one backward pass for each.

    >>> logits, pull = curvature.plain_vjps(lambda params: subject.apply(params, subject.inputs)[0], subject.params)
    >>> pull(torch.eye(2, dtype=torch.float64))["bias"]
    tensor([[1., 0.],
            [0., 1.]], dtype=torch.float64)
    """
    leaves = as_leaves(params)
    with torch.enable_grad():
        value = function(leaves)

    def pull(vectors: Tensor) -> Params:
        rows = [plain_vjp(value, leaves, vector) for vector in vectors]
        return {name: torch.stack([row[name] for row in rows]) for name in leaves}

    return value.detach(), pull


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
