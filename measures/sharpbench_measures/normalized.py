"""Normalized sharpness: curvature against squared weights, minimised over row and column scales."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sharpbench import Estimate, InvalidInput, Invariance, Measure, NotApplicable, Subject
from sharpbench.curvature import DENSE_LIMIT, certificate, difference_diagonal, exact_diagonal, reference_diagonal
from sharpbench.symmetry import scale_columns, scale_rows_and_columns

MAX_GRADIENT = 1e-7
"""The largest relative derivative by a scale's logarithm; the error of the value is of second order in it."""


@dataclass(frozen=True)
class Normalized(Measure):
    """sum over layers of min_{s,t>0} sum_ij D_ij s_i t_j + V_ij / (s_i t_j), weights only, biases excluded.

    D is the diagonal of the Hessian of the mean loss (with diagonal=exact of its Gauss-Newton matrix, the same
    where the network is certified piecewise affine; details.matrix says which) and V the squared weight, both
    summed over kernel positions to [out, in]. The objective is convex in log s, log t; alternating exact
    updates minimise it.

    diagonal: exact; or estimated from `samples` differences of gradients g, always in float64:
        arxiv: D ~ E[r (g(theta + e r) - g(theta - e r))] / 2e, r ~ N(0, I);
        icml: the same with a relative step, D ~ E[r (g(theta + e r|theta|) - g(theta - e r|theta|))] / (2e|theta|),
        r random signs. Negative entries of an estimate are set to 0 and counted.
    objective: arxiv is the one above. icml is min_t sqrt(sum_i (D t)_i (V t^-1)_i), as in Ibayashi et al.
        2021; it is not half of the former.
    Entries that can be driven to 0 together (also dead rows and columns) are left out and counted: the
    infimum is then not attained, and the value is the infimum. Cost: that of the exact diagonal; or
    2 * samples gradients.
    """

    name: ClassVar[str] = "normalized"
    title: ClassVar[str] = "normalized sharpness"
    family: ClassVar[str] = "rescaled curvature"
    source: ClassVar[str] = "Tsuzuku, Sato, Sugiyama 2020, Normalized Flat Minima, section 4"
    oracle_limit: ClassVar[int | None] = DENSE_LIMIT
    definition: ClassVar[str] = "sum_l min_{s,t>0} sum_ij D_ij s_i t_j + W_ij^2 / (s_i t_j), D the diagonal of H"
    reduction: ClassVar[str] = "mean over examples, natural logarithm; kernel positions summed; sum over layers"
    included: ClassVar[str] = "weights and kernels; biases and other vectors excluded"
    cost: ClassVar[str] = "C - 1 backward passes with diagonal=exact; else 2 gradients per sample"
    bibtex: ClassVar[str] = """\
@inproceedings{tsuzuku2020normalized,
  title     = {Normalized Flat Minima: Exploring Scale Invariant Definition of Flat Minima for Neural Networks Using
               {PAC}-{B}ayesian Analysis},
  author    = {Tsuzuku, Yusuke and Sato, Issei and Sugiyama, Masashi},
  booktitle = {International Conference on Machine Learning (ICML)},
  pages     = {9636--9647},
  year      = {2020}
}"""
    diagonal: Literal["exact", "arxiv", "icml"] = "exact"
    objective: Literal["arxiv", "icml"] = "arxiv"
    samples: int = 100
    radius: float = 1e-5

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise InvalidInput(f"samples={self.samples} must be at least 1")
        if not self.radius > 0:
            raise InvalidInput(f"radius={self.radius} must be above 0")

    def __call__(self, subject: Subject, *, generator: torch.Generator) -> Estimate:
        """See Measure; deterministic with diagonal=exact. The error of an estimated diagonal is unknown."""
        if self.diagonal == "exact":
            return self._minimise(subject, subject.once(exact_diagonal), probes=0)
        doubled = subject.to(dtype=torch.float64)
        diagonal = difference_diagonal(
            doubled,
            samples=self.samples,
            radius=self.radius,
            relative=self.diagonal == "icml",  # a weight that is 0 takes no step, and its V does not see the diagonal
            generator=generator,
        )
        return self._minimise(doubled, diagonal, probes=self.samples)

    def exact(self, subject: Subject) -> float | None:
        """The same minimum over the reference diagonal, also if `diagonal` is an approximation.

        None if the network is not certified piecewise affine: the exact diagonal is then that of Gauss-Newton.
        """
        if any(subject.once(certificate).values()):
            return None
        return self._minimise(subject, subject.once(reference_diagonal), probes=0).value

    def invariances(self) -> frozenset[Invariance]:
        """Rescalings of rows and columns, unless diagonal=arxiv takes absolute steps; permutations unless directions
        are random."""
        if self.diagonal == "arxiv":
            return frozenset()
        return frozenset({"layer", "unit"} if self.diagonal == "icml" else {"layer", "unit", "permutation"})

    def _minimise(self, subject: Subject, diagonal: Mapping[str, Tensor], *, probes: int) -> Estimate:
        weights = {key: value for key, value in subject.params.items() if value.ndim >= 2}
        if not weights:
            raise NotApplicable(
                "no parameter has rows and columns; the measure is defined on weight matrices and kernels"
            )
        for key in weights:
            if not bool(diagonal[key].isfinite().all()):
                raise ValueError(f"the diagonal of '{key}' holds entries that are not finite")
        negative = sum(int((diagonal[key] < 0).sum()) for key in weights)
        solve = scale_rows_and_columns if self.objective == "arxiv" else scale_columns
        solved = {
            key: solve(_matrix(diagonal[key].clamp(min=0)), _matrix(value.square())) for key, value in weights.items()
        }
        return Estimate(
            sum(layer.value for layer in solved.values()),
            stderr=None if probes else 0.0,
            parts={key: layer.value for key, layer in solved.items()},
            probes=probes,
            converged=all(layer.gradient <= MAX_GRADIENT for layer in solved.values()),
            details={
                "diagonal": self.diagonal,
                "matrix": "hessian" if probes or not any(subject.once(certificate).values()) else "gauss-newton",
                "gradient": max(layer.gradient for layer in solved.values()),
                "attained": not any(layer.dropped for layer in solved.values()),
                "dropped": sum(layer.dropped for layer in solved.values()),
                "dropped_in": ", ".join(key for key, layer in solved.items() if layer.dropped),
                "negative": negative,
            },
        )


def _matrix(tensor: Tensor) -> NDArray[np.float64]:
    """A weight-shaped tensor summed over kernel positions, [out, in], float64."""
    summed = tensor.detach().double().flatten(2).sum(2) if tensor.ndim > 2 else tensor.detach().double()
    return np.asarray(summed.cpu().numpy(), dtype=np.float64)
