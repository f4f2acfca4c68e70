"""Products of the Hessian and of the Gauss-Newton matrix with vectors."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from sharpbench.core.batch import Inputs
from sharpbench.core.requirements import is_out_of_memory
from sharpbench.core.subject import Params, Subject
from sharpbench.curvature.derivative_methods import DOUBLE_BACKWARD, METHODS
from sharpbench.curvature.plain import as_leaves, differentiated, plain_vjp
from sharpbench.curvature.soundness import jacobian_method, sound_method
from sharpbench.curvature.vjp import results_of_one
from sharpbench.errors import InvalidInput

# Mapping: a function over many vectors, together where torch can vmap it and one by one where it cannot.

MOST = 64
"""So many vectors at most are vmapped together; more share too little to be faster."""
PROBE_BYTES = 256 * 2**20
"""What the vectors that are vmapped together hold is kept near this, if that of a single one is below it: products of
convolutional networks were seen to hold 1.6 times what is counted here, recurrent ones three times."""


def map_vectors(function: Callable[[Tensor], Tensor], vectors: Tensor, together: int) -> Tensor:
    """function(v) for every v of `vectors` [m, ...], stacked.

    Args:
        together: how many are vmapped at once; 0 for one by one, as where torch cannot vmap them (recurrent networks).

    >>> curvature.map_vectors(lambda vector: 2 * vector, torch.eye(2), 2)
    tensor([[2., 0.],
            [0., 2.]])
    """
    if together == 0:
        return torch.stack([function(vector) for vector in vectors])
    try:
        results: Tensor = torch.func.vmap(function, chunk_size=together)(vectors)
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise
        results = torch.stack([function(vector) for vector in vectors])
    return results


def vectors_at_once(subject: Subject, limit: int = PROBE_BYTES, *, examples: int | None = None) -> int:
    """How many vectors of the parameters' size are taken through the network at once, within `limit` bytes.

    examples: those that a vector is multiplied with at once, by default a batch.
    """
    count = subject.batch_size if examples is None else examples
    held = subject.size * 4 + count * results_of_one(subject)  # a vector, its image, their pieces
    like = next(iter(subject.params.values()))
    return min(MOST, max(1, limit // (held * like.element_size())))


# Implicit matrices: the Hessian or the Gauss-Newton matrix by their products with many flat vectors at once.

Kind = Literal["hessian", "gauss-newton"]


@dataclass(frozen=True, slots=True)
class LinearOperator:
    """A symmetric matrix [P, P] that is known by its products.

    like: a tensor that has its device and dtype. together: how many products are taken at once. vmapped: whether
    these are vmapped, otherwise taken one by one.
    """

    size: int
    like: Tensor
    product: Callable[[Tensor], Tensor]
    together: int
    vmapped: bool = True

    def __matmul__(self, vectors: Tensor) -> Tensor:
        """The products [P, m] with the columns of `vectors` [P, m], some at a time."""
        return map_vectors(self.product, vectors.T, self.together if self.vmapped else 0).T


def linear_operator(subject: Subject, kind: Kind = "hessian") -> LinearOperator:
    """The Hessian of the mean loss, or its Gauss-Newton matrix, [P, P], as an operator that is known by its products.

    >>> operator = curvature.linear_operator(subject, "gauss-newton")
    >>> operator.size
    8
    """
    if kind not in ("hessian", "gauss-newton"):
        raise InvalidInput(f"matrix '{kind}' is unknown; use 'hessian' or 'gauss-newton'")
    multiply = hvp if kind == "hessian" else ggnvp

    def product(flat: Tensor) -> Tensor:
        found = multiply(subject, unflatten(subject.params, flat))
        return flatten({name: found[name] for name in subject.params})

    method = sound_method(subject) if kind == "hessian" else jacobian_method(subject)
    like = next(iter(subject.params.values()))
    return LinearOperator(subject.size, like, product, vectors_at_once(subject), vmapped=not method.plain)


MAX_HELD_BATCHES = 4
"""The largest number of batches whose graphs are held between products."""


def held_operator(subject: Subject) -> LinearOperator:
    """The Hessian of the mean loss as `linear_operator` has it, with the first backward pass shared by all products.

    The graph of the gradient is held while the operator is, so it is for few batches: beyond MAX_HELD_BATCHES, and
    where plain backward passes are not known to be right, it is `linear_operator`.

    Cost: about two gradients at once, and about two for each product instead of four.

    >>> operator = curvature.held_operator(subject)
    >>> vector = torch.ones(8, dtype=torch.float64)
    >>> bool(torch.allclose(operator.product(vector), curvature.linear_operator(subject).product(vector)))
    True
    """
    method = sound_method(subject)
    held = method in (METHODS[0], DOUBLE_BACKWARD) and subject.process_group is None
    if not held or subject.n > MAX_HELD_BATCHES * subject.batch_size:
        return linear_operator(subject)
    leaves = as_leaves(subject.params)
    places = list(leaves.values())
    with torch.enable_grad():
        value = subject.loss(leaves)
        if not value.requires_grad:
            return linear_operator(subject)
        slopes = torch.autograd.grad(value, places, create_graph=True, allow_unused=True, materialize_grads=True)
        gradient = torch.cat([slope.flatten() for slope in slopes])

    def product(flat: Tensor) -> Tensor:
        if not gradient.requires_grad:
            return torch.zeros_like(flat)
        found = plain_vjp(gradient, leaves, flat)
        return flatten({name: found[name] for name in subject.params})

    return LinearOperator(subject.size, next(iter(subject.params.values())), product, together=1, vmapped=False)


def scaled_operator(operator: LinearOperator, scale: Tensor) -> LinearOperator:
    """The operator D A D for the diagonal D = diag(scale), scale [P].

    >>> twos = torch.full((8,), 2.0, dtype=torch.float64)
    >>> doubled = curvature.scaled_operator(curvature.linear_operator(subject), twos)
    >>> round(curvature.squared_norm(doubled), 9)  # 2^4 * 25
    400.0
    """

    def product(flat: Tensor) -> Tensor:
        return scale * operator.product(scale * flat)

    return replace(operator, product=product)


def deflated_operator(operator: LinearOperator, vectors: Tensor) -> LinearOperator:
    """The matrix on the complement of its orthonormal eigenvectors [P, r]."""
    return replace(operator, product=lambda flat: add_flat(vectors, operator.product(flat)))


def add_flat(vectors: Tensor, given: Tensor) -> Tensor:
    """What of `given` [P, ...] is orthogonal to the columns of `vectors`."""
    for _ in range(2):
        given = given - vectors @ (vectors.T @ given)
    return given


def flatten(params: Params) -> Tensor:
    """The parameters one after the other, as one vector [P].

    >>> curvature.flatten({"a": torch.tensor([[1.0, 2.0]]), "b": torch.tensor([3.0])})
    tensor([1., 2., 3.])
    """
    return torch.cat([value.flatten() for value in params.values()])


def unflatten(params: Params, flat: Tensor) -> Params:
    """The vector `flat` [P], cut into tensors of the parameters' shapes; the inverse of `flatten`.

    >>> curvature.unflatten({"a": torch.zeros(1, 2), "b": torch.zeros(1)}, torch.tensor([1.0, 2.0, 3.0]))
    {'a': tensor([[1., 2.]]), 'b': tensor([3.])}
    """
    pieces = flat.split([math.prod(value.shape) for value in params.values()])
    return {name: piece.reshape(value.shape) for (name, value), piece in zip(params.items(), pieces, strict=True)}


def hvp(subject: Subject, vector: Params) -> Params:
    """H v for the Hessian of the mean loss, by parameter: forward over reverse, about four gradients.

    Args:
        vector: a tensor for each parameter, of its shape.

    >>> ones = {name: torch.ones_like(value) for name, value in subject.params.items()}
    >>> float(curvature.hvp(subject, ones)["bias"].abs().max()) < 1e-12  # shifting all logits keeps the loss
    True
    """

    method = sound_method(subject)
    network = method.network(subject)

    def batch(inputs: Inputs, targets: Tensor) -> Params:
        def loss(params: Params) -> Tensor:
            return subject.criterion(network(params, inputs), targets).mean()

        return method.hvp(loss, subject.params, vector)

    with method.operators():
        return _add_penalty(subject, subject.mean(batch), vector)


def ggnvp(subject: Subject, vector: Params) -> Params:
    """G v for the Gauss-Newton matrix, by parameter: one forward, one product with Lambda, one backward pass.

    Args:
        vector: a tensor for each parameter, of its shape.

    >>> first = {"weight": torch.zeros_like(model.weight), "bias": torch.tensor([1.0, 0.0], dtype=torch.float64)}
    >>> curvature.ggnvp(subject, first)["bias"]
    tensor([ 0.2500, -0.2500], dtype=torch.float64)
    """

    method = jacobian_method(subject)
    network = method.network(subject)

    def batch(inputs: Inputs, targets: Tensor) -> Params:
        def logits(params: Params) -> Tensor:
            return network(params, inputs)

        def loss(outputs: Params) -> Tensor:
            return subject.criterion(outputs["logits"], targets).mean()

        value, along = method.jvp(logits, subject.params, vector)
        curved = method.hvp(loss, {"logits": value}, {"logits": along})["logits"]
        return method.vjp(logits, subject.params, curved)

    with differentiated(), method.operators():
        return _add_penalty(subject, subject.mean(batch), vector)


def _add_penalty(subject: Subject, product: Params, vector: Params) -> Params:
    """The product plus that of the penalty's Hessian, weight_decay times the identity."""
    decay = subject.criterion.weight_decay
    return {name: each + decay * vector[name] for name, each in product.items()} if decay else product


def jvp(subject: Subject, inputs: Inputs, vector: Params) -> tuple[Tensor, Tensor]:
    """Logits [B, C] of the inputs, and their derivative J v [B, C] along a vector of the parameters.

    Args:
        vector: a tensor for each parameter, of its shape.

    Cost: about two forward passes.

    >>> first = {"weight": torch.zeros_like(model.weight), "bias": torch.tensor([1.0, 0.0], dtype=torch.float64)}
    >>> curvature.jvp(subject, subject.inputs[:1], first)[1]
    tensor([[1., 0.]], dtype=torch.float64)
    """
    method = jacobian_method(subject)
    network = method.network(subject)
    with method.operators():
        return method.jvp(lambda params: network(params, inputs), subject.params, vector)
