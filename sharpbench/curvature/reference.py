"""Reference: the Hessian's diagonal by its definition, for oracles and tests; slow, obvious, float64 by choice."""

from __future__ import annotations

import torch
from torch import Tensor

from sharpbench.curvature.pullback import exact_diagonal, exact_traces
from sharpbench.subject import Subject

DENSE_LIMIT = 20_000
"""Up to so many parameters the reference is one Hessian-vector product each; above, the engine in float64."""
CHUNK = 64


def reference_diagonal(subject: Subject) -> dict[str, Tensor]:
    """The diagonal of the true Hessian of the mean loss, by parameter, shaped like it.

    Up to DENSE_LIMIT parameters by one Hessian-vector product a parameter, which is the definition. Above that
    the engine's diagonal in float64 (of the Gauss-Newton matrix, at the same weights): a check of rounding, not
    of the algorithm; records mark which of the two it was.
    """
    if subject.size > DENSE_LIMIT:
        return exact_diagonal(subject.to(dtype=torch.float64))
    return {name: _block_diagonal(subject, name) for name in subject.params}


def reference_traces(subject: Subject) -> dict[str, float]:
    """The sums of `reference_diagonal`, by parameter."""
    return {name: float(value.sum()) for name, value in subject.once(reference_diagonal).items()}


def reference_ggn_traces(subject: Subject) -> dict[str, float]:
    """The traces of the Gauss-Newton matrix's diagonal blocks, by parameter, by the definition.

    Up to DENSE_LIMIT parameters u^T Lambda u for every parameter's column u of the Jacobian, example by example,
    with Lambda differentiated; above, the engine in float64, as `reference_diagonal`.
    """
    if subject.size > DENSE_LIMIT:
        return exact_traces(subject.to(dtype=torch.float64))
    return {name: _block_ggn_trace(subject, name) for name in subject.params}


def _block_ggn_trace(subject: Subject, name: str) -> float:
    """The sum over examples and unit vectors e of the block of (J e)^T Lambda (J e), over the examples."""
    block = subject.params[name]
    units = torch.eye(block.numel(), dtype=block.dtype, device=block.device).reshape(-1, *block.shape)

    def batch(inputs: Tensor, targets: Tensor) -> Tensor:
        def logits(value: Tensor) -> Tensor:
            return subject.apply({**subject.params, name: value}, inputs)

        def loss(outputs: Tensor, target: Tensor) -> Tensor:
            return subject.criterion(outputs[None], target[None])[0]

        curvature = torch.func.vmap(torch.func.hessian(loss))(logits(block), targets)  # [B, C, C]

        def entry(unit: Tensor) -> Tensor:
            column = torch.func.jvp(logits, (block,), (unit,))[1]  # [B, C]
            return torch.einsum("bc,bcd,bd->", column, curvature, column) / len(inputs)

        total: Tensor = sum((torch.func.vmap(entry)(chunk).sum() for chunk in units.split(CHUNK)), block.new_zeros(()))
        return total

    return float(subject.mean(batch))


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
