"""Lanczos: the largest eigenvalues, and the spectral density by stochastic Lanczos quadrature.

Fully reorthogonalised, twice, with the tridiagonal matrix in float64; `steps` vectors of the network's size are held.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sharpbench.curvature.implicit import Kind, Matrix, matrix
from sharpbench.curvature.probes import draw
from sharpbench.errors import InvalidInput
from sharpbench.subject import Subject


@dataclass(frozen=True, slots=True)
class Eigenvalues:
    """values [k], largest first; residuals [k] |A x - value x|: an eigenvalue lies at least that near to each.
    steps: products taken. converged: whether every residual is below the tolerance."""

    values: tuple[float, ...]
    residuals: tuple[float, ...]
    steps: int
    converged: bool


@dataclass(frozen=True, slots=True)
class Density:
    """The spectral density as `probes` Gauss quadratures: nodes, weights [probes, steps]; each row sums to 1."""

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


def top_eigenvalues(
    subject: Subject,
    *,
    generator: torch.Generator,
    count: int = 1,
    tolerance: float = 1e-3,
    steps: int = 100,
    kind: Kind = "hessian",
) -> Eigenvalues:
    """The `count` algebraically largest eigenvalues, to residuals below `tolerance` times the largest modulus.

    At most `steps` products, each about four gradients; checked at every fifth.
    """
    operator = matrix(subject, kind)
    most = min(steps, operator.size)
    if not 1 <= count <= most:
        raise InvalidInput(f"count={count} eigenvalues from at most {most} Lanczos steps; need 1 <= count <= {most}")
    run = _Run(operator, _start(operator, generator))
    while True:
        run.step()
        done = len(run.alphas) == most or run.exhausted
        if not done and (len(run.alphas) < count or len(run.alphas) % 5):
            continue
        values, vectors = torch.linalg.eigh(run.tridiagonal())
        residuals = (run.betas[-1] * vectors[-1].abs()).flip(0)[:count]
        converged = bool((residuals <= tolerance * values.abs().max()).all())
        if done or converged:
            found = values.flip(0)[:count]
            return Eigenvalues(tuple(found.tolist()), tuple(residuals.tolist()), len(run.alphas), converged)


def spectral_density(
    subject: Subject, *, probes: int, steps: int, generator: torch.Generator, kind: Kind = "hessian"
) -> Density:
    """The distribution of all eigenvalues, from `steps` Lanczos steps on each of `probes` Gaussian vectors.

    (Ubaru, Chen, Saad 2017, stochastic Lanczos quadrature.) Cost: probes * steps products.
    """
    operator = matrix(subject, kind)
    if probes < 1 or not 1 <= steps <= operator.size:
        raise InvalidInput(f"probes={probes}, steps={steps}: need at least one probe and 1 to {operator.size} steps")
    nodes = torch.zeros(probes, steps, dtype=torch.float64)
    weights = torch.zeros(probes, steps, dtype=torch.float64)
    for row in range(probes):
        run = _Run(operator, _start(operator, generator))
        while len(run.alphas) < steps and not run.exhausted:
            run.step()
        values, vectors = torch.linalg.eigh(run.tridiagonal())
        nodes[row, : len(values)], weights[row, : len(values)] = values, vectors[0].square()
    return Density(nodes, weights)


class _Run:
    """One Lanczos recurrence."""

    def __init__(self, operator: Matrix, start: Tensor) -> None:
        self.operator = operator
        self.basis = [start]
        self.alphas: list[float] = []
        self.betas: list[float] = []

    @property
    def exhausted(self) -> bool:
        """Whether the space that the matrix spans from the start has been found in full."""
        scale = max(map(abs, self.alphas), default=1.0) + max(self.betas, default=0.0)
        return bool(self.betas) and self.betas[-1] <= 10 * torch.finfo(self.basis[0].dtype).eps * scale

    def step(self) -> None:
        """One product more."""
        image = self.operator.product(self.basis[-1])
        self.alphas.append(float(image.double() @ self.basis[-1].double()))
        spanned = torch.stack(self.basis)
        for _ in range(2):
            image = image - spanned.T @ (spanned @ image)
        self.betas.append(float(torch.linalg.vector_norm(image)))
        if not self.exhausted:
            self.basis.append(image / self.betas[-1])

    def tridiagonal(self) -> Tensor:
        """The matrix in the basis, [steps, steps] in float64 on the CPU."""
        off = torch.tensor(self.betas[:-1], dtype=torch.float64)
        return torch.diag(torch.tensor(self.alphas, dtype=torch.float64)) + torch.diag(off, 1) + torch.diag(off, -1)


def _start(operator: Matrix, generator: torch.Generator) -> Tensor:
    drawn = draw(operator.like.new_empty(operator.size), 1, generator, "gaussian")[0]
    unit: Tensor = drawn / torch.linalg.vector_norm(drawn)
    return unit
