"""Oracle: what the quantity is, in float64, and how that was found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from sharpbench.core.fields import Scalar
from sharpbench.core.measure import NotApplicable
from sharpbench.core.subject import Subject
from sharpbench.curvature import (
    DENSE_LIMIT,
    MATRIX_LIMIT,
    certificate,
    exact_diagonal,
    exact_traces,
    reference_diagonal,
    reference_eigenvalue,
)

DEFINITION, ENGINE = "definition", "float64 engine"
MOST = 2e12
"""Floating-point operations of a gradient for each parameter, above which the engine is asked where it can be."""


@dataclass(frozen=True, slots=True)
class ReferenceValue:
    """The value of the quantity; how it was found; the diagonal, where it is one; and what else is said of it."""

    value: float
    way: str
    details: dict[str, Scalar]
    diagonal: Mapping[str, Tensor] | None = None


def reference_value(subject: Subject, quantity: str, *, quick: bool) -> ReferenceValue:
    """The truth of the Hessian of the mean loss, on a subject in float64.

    By the definition (a product a parameter, all eigenvalues) where the network is small enough and that takes no
    more than MOST operations; else, and where quick, by the engine in float64, which is the Hessian's on certified
    networks alone. Raises NotApplicable where there is neither.
    """
    if quantity == "top-eigenvalue":
        way = DEFINITION if subject.size <= MATRIX_LIMIT else ENGINE
        return ReferenceValue(reference_eigenvalue(subject), way, {})
    obstacles = sorted({operator for found in subject.once(certificate).values() for operator in found})
    gauss_newton = sum(subject.once(exact_traces).values())
    details: dict[str, Scalar] = {"gauss-newton": gauss_newton, "operators": ", ".join(obstacles)}
    small = subject.size <= DENSE_LIMIT
    if obstacles and not small:
        raise NotApplicable(
            f"{subject.size:,} parameters are too many for one product each, and through {', '.join(obstacles)} the "
            "Gauss-Newton matrix, which is known exactly, is not the Hessian"
        )
    defined = small and not quick and (bool(obstacles) or reference_operations(subject) <= MOST)
    diagonal = reference_diagonal(subject) if defined else exact_diagonal(subject)
    value = sum(float(block.sum()) for block in diagonal.values())
    return ReferenceValue(
        value, DEFINITION if defined else ENGINE, details, diagonal if quantity == "diagonal" else None
    )


def reference_operations(subject: Subject) -> float:
    """What a gradient for each parameter would take, by torch's counter: matrix products and convolutions."""
    params = {name: value.detach().clone().requires_grad_() for name, value in subject.params.items()}
    with FlopCounterMode(display=False) as counter:
        torch.autograd.grad(subject.loss(params), list(params.values()), allow_unused=True)
    return float(counter.get_total_flops()) * subject.size


def relative_error(value: float, true: float) -> float | None:
    """|v - o| / |o|; of a truth of 0, 0 where that is what is said, else None."""
    if true == 0:
        return 0.0 if value == 0 else None
    return abs(value - true) / abs(true)


def diagonal_error(found: Mapping[str, Tensor], true: Mapping[str, Tensor]) -> tuple[float | None, int]:
    """|d - o| / |o| over all entries, None where o is 0; and how many of d's are below 0.

    Raises ValueError for a diagonal of other parameters or shapes.
    """
    shapes = [{name: tuple(value.shape) for name, value in each.items()} for each in (found, true)]
    if shapes[0] != shapes[1]:
        odd = sorted(name for name in shapes[0] | shapes[1] if shapes[0].get(name) != shapes[1].get(name))
        raise ValueError(f"the diagonal's {', '.join(odd)} have other shapes than the parameters, or are missing")
    pairs = [(found[name].detach().double().cpu(), value.double().cpu()) for name, value in true.items()]
    squared = sum(float((entry - right).square().sum()) for entry, right in pairs)
    norm = sum(float(right.square().sum()) for _, right in pairs)
    below = sum(int((entry < 0).sum()) for entry, _ in pairs)
    return (squared / norm) ** 0.5 if norm else None, below
