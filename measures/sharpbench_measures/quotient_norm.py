"""The spectral norm of the Hessian on the quotient by layer-wise rescalings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from sharpbench import Estimate, InvalidInput, Invariance, Measure, Params, Subject
from sharpbench.curvature import (
    MATRIX_LIMIT,
    check_lanczos,
    flatten,
    leading_eigenvalue,
    linear_operator,
    reference_eigenvalue,
    scaled_operator,
)
from sharpbench.symmetry import group_of


@dataclass(frozen=True)
class QuotientNorm(Measure):
    """max |lambda(D H D)|, D = |theta_b|_F times the identity on each parameter tensor b, H of the mean loss.

    The spectral norm of the Hessian in the metric sum_b |eta_b|^2 / |theta_b|^2, which is the same at all networks
    that differ by one positive scale per tensor. Tensors of 0 are frozen. A tensor that the network splits (fused
    query, key and value) counts as its parts, because these can be rescaled separately. Layer-wise rescalings do not
    change the matrix; rescaling single units does. Deviation from the paper: it treats networks without
    biases; a bias is a tensor with its own norm here.
    tolerance, steps, details and cost: as for `top-eigenvalue`.
    """

    name: ClassVar[str] = "quotient-norm"
    title: ClassVar[str] = "spectral norm of the Hessian on the quotient manifold"
    family: ClassVar[str] = "rescaled curvature"
    source: ClassVar[str] = (
        "Rangamani, Nguyen, Kumar, Phan, Chin, Tran 2019, A Scale Invariant Flatness Measure for Deep Network Minima"
    )
    definition: ClassVar[str] = "max |lambda(D H D)|, D = sum_b |theta_b|_F I_b over parameter tensors b"
    reduction: ClassVar[str] = "mean over examples"
    included: ClassVar[str] = "all parameters under measurement, biases included, each tensor with its own norm"
    cost: ClassVar[str] = "about 10 to 50 products of some 3 gradients each"
    bibtex: ClassVar[str] = """@article{rangamani2019scale,
  title = {A Scale Invariant Flatness Measure for Deep Network Minima},
  author = {Rangamani, Akshay and Nguyen, Nam H. and Kumar, Abhishek and Phan, Dzung and Chin, Sang H. and
            Tran, Trac D.},
  journal = {arXiv preprint arXiv:1902.02434},
  year = {2019}
}"""
    oracle_limit: ClassVar[int | None] = MATRIX_LIMIT
    matrix: Literal["hessian", "gauss-newton"] = "hessian"
    tolerance: float = 1e-4
    steps: int = 100

    def __post_init__(self) -> None:
        check_lanczos(self.tolerance, self.steps)

    def __call__(self, subject: Subject, *, generator: torch.Generator) -> Estimate:
        """See Measure; only its start is random."""
        operator = scaled_operator(linear_operator(subject, self.matrix), tensor_norms(subject))
        return leading_eigenvalue(
            operator, generator=generator, tolerance=self.tolerance, steps=self.steps, magnitude=True
        )

    def exact(self, subject: Subject) -> float | None:
        """From all eigenvalues of the dense matrix; for large networks by another solver on the same products."""
        return reference_eigenvalue(subject, self.matrix, scale=tensor_norms(subject), magnitude=True)

    def invariances(self) -> frozenset[Invariance]:
        """Layer-wise rescalings, and orthogonal rewrites, which keep each tensor's norm."""
        return frozenset({"layer", "permutation", "attention-rotation"})


def tensor_norms(subject: Subject) -> Tensor:
    """For every parameter the norm of its tensor, or of its part of a fused one, [P]."""
    parts = _parts(subject)
    found: Params = {}
    for name, value in subject.params.items():
        squares = torch.zeros(int(parts[name].max()) + 1, dtype=torch.float64, device=value.device)
        squares.index_add_(0, parts[name].flatten(), value.double().square().flatten())
        found[name] = squares.sqrt()[parts[name]].to(value.dtype)
    return flatten(found)


def _parts(subject: Subject) -> Params:
    """For every entry of a parameter the index of its part: 0 except in tensors that the network splits."""
    whole = {name: torch.zeros_like(value, dtype=torch.int64) for name, value in subject.params.items()}
    try:
        places = group_of(subject.graph, set(subject.params)).basis_rows
    except InvalidInput:
        return whole
    for name, (rows, *_) in places.items():
        numbers = torch.as_tensor(rows).to(whole[name].device).unique(return_inverse=True)[1]
        whole[name] = numbers.expand_as(whole[name])
    return whole
