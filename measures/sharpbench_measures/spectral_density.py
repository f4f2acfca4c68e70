"""Summaries of the whole spectrum of the Hessian."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from sharpbench import Estimate, InvalidInput, Invariance, Measure, NotApplicable, Subject
from sharpbench.curvature import (
    MATRIX_LIMIT,
    EigenvalueDensity,
    dense_ggn,
    dense_hessian,
    mean_of,
    spectral_density,
)


@dataclass(frozen=True)
class SpectralDensity(Measure):
    """A summary of the distribution of all P eigenvalues of the Hessian of the mean loss, biases included.

    summary, with shares s_j = |lambda_j| / sum_k |lambda_k|:
        participation: (sum_j lambda_j)^2 / sum_j lambda_j^2, the effective number of eigenvalues;
        effective-rank: exp(-sum_j s_j log s_j), the same by the entropy (Roy, Vetterli 2007);
        negative-mass: the sum of s_j over negative eigenvalues;
        quantile: the smallest lambda at or below which there are `level` of all eigenvalues.
    By stochastic Lanczos quadrature: large eigenvalues one by one, then `probes` Gaussian starts of `steps` steps
    each; 2 for the participation, whose sums of powers have no quadrature error then. For the others that error
    is not in the standard error and interval, which are the jackknife's over probes (none for quantiles,
    for which it is inconsistent). Deviation from the paper: it shows the smoothed density.
    """

    name: ClassVar[str] = "spectral-density"
    title: ClassVar[str] = "spread of the Hessian's spectrum"
    family: ClassVar[str] = "curvature"
    source: ClassVar[str] = (
        "Ghorbani, Krishnan, Xiao 2019, An Investigation into Neural Net Optimization via Hessian Eigenvalue "
        "Density; Ubaru, Chen, Saad 2017, stochastic Lanczos quadrature; Roy, Vetterli 2007, The Effective Rank"
    )
    definition: ClassVar[str] = "(sum_j lambda_j)^2 / sum_j lambda_j^2 over all eigenvalues of H; others by summary="
    reduction: ClassVar[str] = "mean over examples"
    version: ClassVar[int] = 3  # narrower blocks of Lanczos vectors
    penalised: ClassVar[bool] = True
    included: ClassVar[str] = "all parameters under measurement, biases included"
    cost: ClassVar[str] = "some 200 products of 3 gradients each; `probes` x `steps` more for the other summaries"
    bibtex: ClassVar[str] = """@inproceedings{ghorbani2019investigation,
  title = {An Investigation into Neural Net Optimization via Hessian Eigenvalue Density},
  author = {Ghorbani, Behrooz and Krishnan, Shankar and Xiao, Ying},
  booktitle = {International Conference on Machine Learning},
  year = {2019}
}"""
    summary: Literal["participation", "effective-rank", "negative-mass", "quantile"] = "participation"
    level: float = 0.99
    matrix: Literal["hessian", "gauss-newton"] = "hessian"
    probes: int = 16
    steps: int = 60

    def __post_init__(self) -> None:
        if not 0 < self.level < 1:
            raise InvalidInput(f"level={self.level} of a quantile must be above 0 and below 1")
        if not (2 <= self.probes <= 1000 and 2 <= self.steps <= 1000):
            raise InvalidInput(f"probes={self.probes}, steps={self.steps}: both must be from 2 to 1000")

    def __call__(self, subject: Subject, *, generator: torch.Generator) -> Estimate:
        """See Measure."""
        steps = min(2 if self.summary == "participation" else self.steps, subject.size)
        density = spectral_density(subject, probes=self.probes, steps=steps, generator=generator, kind=self.matrix)
        if not bool((density.nodes.abs() * density.weights).sum() > 0):
            raise NotApplicable("every eigenvalue is 0: the spectrum has no shares")
        value = self._of(density.nodes, density.weights / self.probes, subject.size)
        stderr, interval = (None, None) if self.summary == "quantile" else self._jackknife(density, subject.size, value)
        return Estimate(
            value,
            stderr=stderr,
            interval=interval,
            probes=self.probes,
            details={"method": "lanczos quadrature", "summary": self.summary, "steps": steps},
        )

    def _jackknife(
        self, density: EigenvalueDensity, size: int, value: float
    ) -> tuple[float, tuple[float, float] | None]:
        """Standard error and interval around the value, from the values without each probe."""
        kept = ~torch.eye(self.probes, dtype=torch.bool)
        share = self.probes - 1
        without = [self._of(density.nodes[some], density.weights[some] / share, size) for some in kept]
        influence = share * (value - torch.tensor(without, dtype=torch.float64))
        found = mean_of([influence - influence.mean() + value])
        return found.stderr, found.interval

    def _of(self, nodes: Tensor, weights: Tensor, size: int) -> float:
        """The summary of P eigenvalues distributed as nodes, of weights that sum to 1."""
        if self.summary == "quantile":
            order = nodes.flatten().argsort()
            below = weights.flatten()[order].cumsum(0)
            index = min(int((below < self.level * (1 - 1e-12)).sum()), len(order) - 1)
            return float(nodes.flatten()[order[index]])
        if self.summary == "participation":
            return size * float((weights * nodes).sum()) ** 2 / float((weights * nodes.square()).sum())
        moduli = nodes.abs()
        total = float((weights * moduli).sum())
        if self.summary == "negative-mass":
            return float((weights * moduli)[nodes < 0].sum()) / total
        return size * math.exp(-float((weights * torch.special.xlogy(moduli / total, moduli / total)).sum()))

    def exact(self, subject: Subject) -> float | None:
        """The same summary of all eigenvalues of the dense matrix; None if it is too large, or 0."""
        if subject.size > MATRIX_LIMIT:
            return None
        dense = dense_hessian(subject) if self.matrix == "hessian" else dense_ggn(subject)
        values = torch.linalg.eigvalsh(dense)
        if not bool(values.any()):
            return None
        return self._of(values, torch.full_like(values, 1 / len(values)), subject.size)

    def invariances(self) -> frozenset[Invariance]:
        """None: orthogonal rewrites also change the effect of random directions."""
        return frozenset()
