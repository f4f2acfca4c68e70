"""Quadrature: the spectral density of a matrix by stochastic Lanczos quadrature, many starts at a time."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sharpbench.core.subject import Subject
from sharpbench.curvature.lanczos import leading_eigenspace
from sharpbench.curvature.products import (
    PROBE_BYTES,
    Kind,
    LinearOperator,
    add_flat,
    deflated_operator,
    linear_operator,
)
from sharpbench.curvature.trace_estimators import draw_probes
from sharpbench.errors import InvalidInput

OUTLIERS = 0.03
"""Eigenvalues above this share of the largest one are found one by one."""
TOLERANCE = 1e-4
"""Residual of theirs, relative to the largest one."""
MOST = 200
"""Products for that."""


@dataclass(frozen=True, slots=True)
class EigenvalueDensity:
    """The spectral density as `probes` Gauss quadratures: nodes, weights [probes, nodes]; each row sums to 1."""

    nodes: Tensor
    weights: Tensor

    def smoothed(self, grid: Tensor, width: float) -> Tensor:
        """The density at `grid` [g], every node a normal distribution of standard deviation `width`."""
        bumps = torch.exp(-0.5 * ((grid[:, None] - self.nodes.flatten()) / width) ** 2) / (
            width * (2 * torch.pi) ** 0.5
        )
        total: Tensor = (bumps * self.weights.flatten()).sum(1)
        return total / len(self.nodes)

    def mean(self) -> Tensor:
        """The means of the probes' quadratures [probes]: times P, unbiased estimates of the trace."""
        return (self.nodes * self.weights).sum(1)


def spectral_density(
    subject: Subject, *, probes: int, steps: int, generator: torch.Generator, kind: Kind = "hessian"
) -> EigenvalueDensity:
    """The distribution of all eigenvalues, as one Gauss quadrature per probe.

    Stochastic Lanczos quadrature. The eigenvalues above OUTLIERS times the largest one are found first and are in every
    row with their exact weight, 1 / P. The probes see only the complement of their vectors, since a single random
    vector's share in one direction is too uneven. Lanczos vectors are reorthogonalised twice; tridiagonal matrices are
    float64.

    Args:
        probes: Gaussian start vectors.
        steps: Lanczos steps on each.
        generator: the only source of randomness, on the CPU.
        kind: 'hessian' or 'gauss-newton'.

    Cost: probes * steps products, and those for the outliers. Source: Ubaru, Chen, Saad 2017.

    >>> density = curvature.spectral_density(subject, probes=2, steps=4, generator=torch.Generator().manual_seed(0))
    >>> 8 * density.mean().round(decimals=9)  # P times the mean: the trace
    tensor([5., 5.], dtype=torch.float64)
    """
    operator = linear_operator(subject, kind)
    if probes < 1 or not 1 <= steps <= operator.size:
        raise InvalidInput(f"probes={probes}, steps={steps}: need at least one probe and 1 to {operator.size} steps")
    held = steps * operator.size * operator.like.element_size()
    together = max(1, min(operator.together, PROBE_BYTES // held))
    known = leading_eigenspace(operator, generator=generator, share=OUTLIERS, tolerance=TOLERANCE, steps=MOST)
    starts = draw_probes(operator.like.new_empty(operator.size), probes, generator, "gaussian")
    rest = deflated_operator(operator, known.vectors)
    found = [lanczos_quadratures(rest, add_flat(known.vectors, some.T).T, steps) for some in starts.split(together)]
    nodes, weights = torch.cat([nodes for nodes, _ in found]), torch.cat([weights for _, weights in found])
    shared = known.values.expand(probes, -1)
    single = torch.full_like(shared, 1 / operator.size)
    rest_share = 1 - len(known.values) / operator.size
    return EigenvalueDensity(torch.cat((shared, nodes), 1), torch.cat((single, rest_share * weights), 1))


def lanczos_quadratures(operator: LinearOperator, starts: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    """Nodes and weights [m, steps] of the Gauss quadratures of the starts [m, P], whose lengths do not matter.

    A start whose space is exhausted goes on with zeros: its tridiagonal matrix falls apart, and what belongs to
    the zeros has no weight.
    """
    basis = torch.nn.functional.normalize(starts)[None]  # [k, m, P]
    alphas: list[Tensor] = []
    betas: list[Tensor] = []
    scale = torch.zeros(len(starts), dtype=torch.float64, device=starts.device)
    for _ in range(steps):
        images = (operator @ basis[-1].T).T
        alphas.append((images.double() * basis[-1].double()).sum(1))
        for _ in range(2):
            images = images - torch.einsum("km,kmp->mp", torch.einsum("kmp,mp->km", basis, images), basis)
        lengths = torch.linalg.vector_norm(images, dim=1).double()
        scale = torch.maximum(scale, alphas[-1].abs() + lengths)
        alive = lengths > 10 * torch.finfo(starts.dtype).eps * scale
        betas.append(torch.where(alive, lengths, 0.0))
        following = images / torch.where(alive, lengths, 1.0).to(images)[:, None] * alive[:, None]
        basis = torch.cat((basis, following[None]))
    off = torch.stack(betas[:-1], 1).cpu() if steps > 1 else torch.zeros(len(starts), 0, dtype=torch.float64)
    diagonals = torch.diag_embed(torch.stack(alphas, 1).cpu())
    values, vectors = torch.linalg.eigh(diagonals + torch.diag_embed(off, 1) + torch.diag_embed(off, -1))
    return values, vectors[:, 0].square()
