"""Reference: the Hessian's diagonal by its definition, for oracles and tests; slow, obvious, float64 by choice."""

from __future__ import annotations

import math
from itertools import accumulate

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse.linalg import LinearOperator, eigsh
from torch import Tensor

from sharpbench.core.batch import Inputs
from sharpbench.core.requirements import is_out_of_memory, spread_places
from sharpbench.core.subject import Subject
from sharpbench.curvature.confidence import example_stderr
from sharpbench.curvature.derivative_methods import METHODS
from sharpbench.curvature.example_forms import MAX_EXAMPLES, hessian_traces_by_example
from sharpbench.curvature.ggn import exact_diagonal, exact_traces
from sharpbench.curvature.products import Kind, flatten, linear_operator, scaled_operator, unflatten
from sharpbench.curvature.soundness import sound_method
from sharpbench.errors import InvalidInput

# Dense matrices of tiny networks: what everything else is compared with.

MATRIX_LIMIT = 4_000
"""The largest number of parameters of which dense matrices are formed: 128 MB in float64."""


def dense_hessian(subject: Subject) -> Tensor:
    """The Hessian [P, P] of the mean loss over all n examples, parameters in the order of `subject.params`.

    By its definition: the derivative of the gradient, one column per parameter.

    Raises:
        InvalidInput: above MATRIX_LIMIT parameters.

    Cost: P products with the Hessian.

    >>> round(float(curvature.dense_hessian(subject).trace()), 9)
    5.0
    """
    _check(subject)

    def loss(flat: Tensor) -> Tensor:
        return subject.loss(unflatten(subject.params, flat))

    flat = flatten(subject.params)
    if sound_method(subject) != METHODS[0]:
        return linear_operator(subject) @ torch.eye(len(flat), dtype=flat.dtype, device=flat.device)
    hessian: Tensor = torch.func.jacrev(torch.func.grad(loss), chunk_size=64)(flat)
    return hessian


def dense_ggn(subject: Subject) -> Tensor:
    """The Gauss-Newton matrix [P, P], from Jacobians and output Hessians that are formed in full.

    Raises:
        InvalidInput: above MATRIX_LIMIT parameters.

    >>> torch.allclose(curvature.dense_ggn(subject), curvature.dense_hessian(subject))
    True
    """
    _check(subject)
    flat = flatten(subject.params)
    total, shape = flat.new_zeros(len(flat), len(flat)), subject.outputs
    for example, target in subject.split():

        def logits(values: Tensor, example: Inputs = example) -> Tensor:
            return subject.apply(unflatten(subject.params, values), example).flatten()

        def loss(outputs: Tensor, target: Tensor = target) -> Tensor:
            return subject.criterion(outputs.reshape(1, *shape), target)[0]

        jacobian = torch.func.jacrev(logits)(flat)  # [C, P]
        curvature = torch.func.hessian(loss)(logits(flat))  # [C, C]
        total += jacobian.T @ curvature @ jacobian
    return total / subject.n + subject.criterion.weight_decay * torch.eye(len(flat)).to(flat)


def parameter_blocks(subject: Subject) -> dict[str, slice]:
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


DENSE_LIMIT = 20_000
"""Up to this number of parameters the reference is one Hessian-vector product each; above, the engine in float64."""
CHUNK = 64


def reference_diagonal(subject: Subject) -> dict[str, Tensor]:
    """The diagonal of the true Hessian of the mean loss, by parameter, shaped like it.

    Up to DENSE_LIMIT parameters by one Hessian-vector product per parameter, which is the definition. Above, it is the
    engine's diagonal in float64 (of the Gauss-Newton matrix, at the same weights): a test of rounding, not of the
    algorithm. Records state which of the two it was.

    >>> curvature.reference_diagonal(subject)["bias"]
    tensor([0.2500, 0.2500], dtype=torch.float64)
    """
    if subject.size > DENSE_LIMIT:
        return exact_diagonal(subject.to(dtype=torch.float64))
    if sound_method(subject) != METHODS[0]:
        return _diagonal_by_products(subject)
    try:
        return {name: _block_diagonal(subject, name) for name in subject.params}
    except RuntimeError as error:  # oneDNN's convolutions in one dimension, with vectors of single blocks
        if is_out_of_memory(error):
            raise
        return _diagonal_by_products(subject)


def reference_traces(subject: Subject) -> dict[str, float]:
    """The sums of `reference_diagonal`, by parameter.

    >>> {name: round(trace, 9) for name, trace in curvature.reference_traces(subject).items()}
    {'weight': 4.5, 'bias': 0.5}
    """
    return {name: float(value.sum()) for name, value in subject.once(reference_diagonal).items()}


def reference_example_stderr(subject: Subject) -> float | None:
    """The standard error over examples of the sum of `reference_traces`, from the traces of MAX_EXAMPLES of them.

    Returns: None for a single example, and where torch has no second derivative of single examples in forward mode, or
    a wrong one.

    Cost: twice that of `reference_traces`, of the examples that are looked at.

    >>> both = Subject.from_module(model, torch.cat([inputs, 2 * inputs]), torch.tensor([0, 1]))
    >>> curvature.reference_example_stderr(both) > 0
    True
    """
    if subject.n < 2:
        return None
    places = spread_places(subject.n, MAX_EXAMPLES)
    some = subject if len(places) == subject.n else subject.take(places.to(subject.device))
    traces, expected = hessian_traces_by_example(some), sum(reference_traces(some).values())
    if traces is None or abs(float(traces.mean()) - expected) > 1e-3 * float(traces.abs().mean()):
        return None
    found = example_stderr(traces, shares=some.shares)
    return None if found is None else found * math.sqrt(len(places) / subject.n)


def reference_eigenvalue(
    subject: Subject, kind: Kind = "hessian", *, scale: Tensor | None = None, magnitude: bool = False
) -> float:
    """The largest eigenvalue, or the largest modulus, of D A D; A the Hessian or Gauss-Newton matrix, D = diag(scale).

    From all eigenvalues of the dense matrix up to MATRIX_LIMIT parameters; above, by ARPACK to rounding.

    Args:
        scale: [P]; None for ones.
        magnitude: take the largest modulus.

    >>> round(curvature.reference_eigenvalue(subject), 9)
    5.0
    """
    factors = torch.ones_like(flatten(subject.params)) if scale is None else scale
    if subject.size <= MATRIX_LIMIT:
        dense = dense_hessian(subject) if kind == "hessian" else dense_ggn(subject)
        values = torch.linalg.eigvalsh(factors[:, None] * dense * factors)
        return float(values.abs().max() if magnitude else values[-1])
    operator = scaled_operator(linear_operator(subject, kind), factors)

    def product(flat: NDArray[np.float64]) -> NDArray[np.float64]:
        given = torch.from_numpy(flat.reshape(-1)).to(operator.like)
        return np.asarray(operator.product(given).double().cpu().numpy(), dtype=np.float64)

    linear = LinearOperator((subject.size, subject.size), matvec=product, dtype=np.float64)
    start = np.random.default_rng(0).standard_normal(subject.size)
    found = eigsh(linear, 1, which="LM" if magnitude else "LA", v0=start, return_eigenvectors=False)
    return abs(float(found[0])) if magnitude else float(found[0])


def reference_ggn_traces(subject: Subject) -> dict[str, float]:
    """The traces of the Gauss-Newton matrix's diagonal blocks by parameter, by the definition.

    Up to DENSE_LIMIT parameters u^T Lambda u for every parameter's column u of the Jacobian, example by example, with
    Lambda differentiated. Above, by the engine in float64, as `reference_diagonal`.

    >>> {name: round(trace, 9) for name, trace in curvature.reference_ggn_traces(subject).items()}
    {'weight': 4.5, 'bias': 0.5}
    """
    if subject.size > DENSE_LIMIT:
        return exact_traces(subject.to(dtype=torch.float64))
    decay = subject.criterion.weight_decay
    return {name: _block_ggn_trace(subject, name) + decay * each.numel() for name, each in subject.params.items()}


def _block_ggn_trace(subject: Subject, name: str) -> float:
    """The sum over examples and unit vectors e of the block of (J e)^T Lambda (J e), over the examples."""
    block = subject.params[name]
    units = torch.eye(block.numel(), dtype=block.dtype, device=block.device).reshape(-1, *block.shape)
    shape = subject.outputs

    def batch(inputs: Inputs, targets: Tensor) -> Tensor:
        def logits(value: Tensor) -> Tensor:
            return subject.apply({**subject.params, name: value}, inputs).reshape(len(targets), -1)

        def loss(outputs: Tensor, target: Tensor) -> Tensor:
            return subject.criterion(outputs.reshape(1, *shape), target[None])[0]

        curvature = torch.func.vmap(torch.func.hessian(loss))(logits(block), targets)  # [B, C, C]

        def entry(unit: Tensor) -> Tensor:
            column = torch.func.jvp(logits, (block,), (unit,))[1]  # [B, C]
            return torch.einsum("bc,bcd,bd->", column, curvature, column) / len(targets)

        total: Tensor = sum((torch.func.vmap(entry)(chunk).sum() for chunk in units.split(CHUNK)), block.new_zeros(()))
        return total

    return float(subject.mean(batch))


def _diagonal_by_products(subject: Subject) -> dict[str, Tensor]:
    """The same by products with unit vectors, where the default way of taking them is not right."""
    operator = linear_operator(subject)
    units = torch.eye(operator.size, dtype=operator.like.dtype, device=operator.like.device).split(CHUNK)
    return unflatten(subject.params, torch.cat([((operator @ rows.T).T * rows).sum(1) for rows in units]))


def _block_diagonal(subject: Subject, name: str) -> Tensor:
    """The diagonal of one parameter's block: entry j of H e_j, for every unit vector e_j of the block."""
    block = subject.params[name]
    units = torch.eye(block.numel(), dtype=block.dtype, device=block.device).reshape(-1, *block.shape)

    def gradient(value: Tensor) -> Tensor:
        slope: Tensor = torch.func.grad(lambda inner: subject.loss({**subject.params, name: inner}))(value)
        return slope

    def entry(unit: Tensor) -> Tensor:
        product: Tensor = torch.func.jvp(gradient, (block,), (unit,))[1]
        return (product * unit).sum()

    return torch.cat([torch.func.vmap(entry)(chunk) for chunk in units.split(CHUNK)]).reshape(block.shape)
