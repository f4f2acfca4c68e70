"""The reference value of the quantity in float64, and relative errors against it."""

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
MAX_OPERATIONS = 2e12
"""Floating-point operations of one gradient per parameter; above it the float64 engine is used where it is exact."""


@dataclass(frozen=True, slots=True)
class ReferenceValue:
    """The reference value of a quantity.

    Args:
        value: the value; for a diagonal the sum of its entries.
        way: how it was found, DEFINITION or ENGINE.
        details: the Gauss-Newton trace, and the operators through which it differs from the Hessian's.
        diagonal: the diagonal by parameter name, if the quantity is the diagonal.
    """

    value: float
    way: str
    details: dict[str, Scalar]
    diagonal: Mapping[str, Tensor] | None = None


def reference_value(subject: Subject, quantity: str, *, quick: bool) -> ReferenceValue:
    """The value of a quantity of the Hessian of the mean loss, on a subject in float64.

    By the definition (one product per parameter, or all eigenvalues) if the network is small enough and that takes at
    most MAX_OPERATIONS. Otherwise by the float64 engine, which equals the Hessian only on certified networks.

    Args:
        subject: the network in float64.
        quantity: "trace", "diagonal" or "top-eigenvalue".
        quick: use the engine even if the definition is affordable.

    Raises:
        NotApplicable: if the network is neither small nor certified.
    """
    if quantity == "top-eigenvalue":
        way = DEFINITION if subject.size <= MATRIX_LIMIT else ENGINE
        return ReferenceValue(reference_eigenvalue(subject), way, {})
    obstacles = sorted({operator for operators in subject.once(certificate).values() for operator in operators})
    gauss_newton = sum(subject.once(exact_traces).values())
    details: dict[str, Scalar] = {"gauss-newton": gauss_newton, "operators": ", ".join(obstacles)}
    small = subject.size <= DENSE_LIMIT
    if obstacles and not small:
        raise NotApplicable(
            f"{subject.size:,} parameters are too many for one product each, and through {', '.join(obstacles)} the "
            "Gauss-Newton matrix, which is known exactly, is not the Hessian"
        )
    by_definition = small and not quick and (bool(obstacles) or reference_operations(subject) <= MAX_OPERATIONS)
    diagonal = reference_diagonal(subject) if by_definition else exact_diagonal(subject)
    value = sum(float(block.sum()) for block in diagonal.values())
    return ReferenceValue(
        value, DEFINITION if by_definition else ENGINE, details, diagonal if quantity == "diagonal" else None
    )


def reference_operations(subject: Subject) -> float:
    """Floating-point operations of one gradient per parameter, as torch counts them: products and convolutions."""
    params = {name: value.detach().clone().requires_grad_() for name, value in subject.params.items()}
    with FlopCounterMode(display=False) as counter:
        torch.autograd.grad(subject.loss(params), list(params.values()), allow_unused=True)
    return float(counter.get_total_flops()) * subject.size


def diagonal_error(found: Mapping[str, Tensor], true: Mapping[str, Tensor]) -> tuple[float | None, int]:
    """|found - true| / |true| over all entries, None if true is 0; and the number of entries of `found` below 0.

    Raises:
        ValueError: for a diagonal of other parameters or shapes.
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
