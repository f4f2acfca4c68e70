"""Lanczos: the ends of a spectrum, and the eigenvectors at its upper end, each with its residual."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sharpbench.core.measure import Estimate
from sharpbench.core.subject import Subject
from sharpbench.curvature.implicit import Kind, Matrix, deflated, matrix
from sharpbench.curvature.krylov import solve, start_of
from sharpbench.errors import InvalidInput

ROUGH = 0.1
"""Residual of the first eigenvalue below the bound, relative to the bound."""
BLOCK = 8
"""Vectors that go on together in the search for an eigenspace: their products cost less than one by one."""


@dataclass(frozen=True, slots=True)
class Eigenvalues:
    """values [k], largest first; residuals [k] |A x - value x|: an eigenvalue lies at least that near to each.
    steps: products taken. converged: whether every residual is below the tolerance."""

    values: tuple[float, ...]
    residuals: tuple[float, ...]
    steps: int
    converged: bool


@dataclass(frozen=True, slots=True, eq=False)
class Eigenspace:
    """values [r], largest first, of orthonormal eigenvectors [P, r]; steps, converged: as of Eigenvalues."""

    values: Tensor
    vectors: Tensor
    steps: int
    converged: bool


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

    def enough(values: Tensor, residuals: Tensor) -> bool:
        return len(values) >= count and bool((residuals[-count:] <= tolerance * values.abs().max()).all())

    found = solve(operator, start_of(operator, generator), most, enough)
    return Eigenvalues(
        tuple(found.values.flip(0)[:count].tolist()),
        tuple(found.residuals.flip(0)[:count].tolist()),
        len(found.values),
        found.converged,
    )


def leading_eigenvalue(
    operator: Matrix, *, generator: torch.Generator, tolerance: float, steps: int, magnitude: bool = False
) -> Estimate:
    """The algebraically largest eigenvalue, or the largest modulus, to a residual of `tolerance` times itself.

    Its own size counts, not that of the spectrum: where the other end is far longer, the residual must be as much
    smaller. details: residual, how near an eigenvalue lies at least (the error of the value is of the order of the
    residual's square over the gap to the next one, and at most the residual); highest and lowest, the ends of the
    spectrum as far as the same run has found them: the true ones are never inside of these. At most `steps` products;
    stderr is unknown where they do not suffice.
    """

    def place(values: Tensor) -> int:
        return int(values.abs().argmax()) if magnitude else len(values) - 1

    def enough(values: Tensor, residuals: Tensor) -> bool:
        return bool(residuals[place(values)] <= tolerance * values[place(values)].abs())

    found = solve(operator, start_of(operator, generator), min(steps, operator.size), enough)
    value = float(found.values[place(found.values)])
    return Estimate(
        abs(value) if magnitude else value,
        stderr=0.0 if found.converged else None,
        converged=found.converged,
        details={
            "method": "lanczos",
            "steps": len(found.values),
            "residual": float(found.residuals[place(found.values)]),
            "highest": float(found.values[-1]),
            "lowest": float(found.values[0]),
        },
    )


def leading_eigenspace(
    operator: Matrix, *, generator: torch.Generator, share: float, tolerance: float, steps: int
) -> Eigenspace:
    """All eigenvectors whose eigenvalue is above `share` times the largest one, to residuals of `tolerance` times it.

    By block Lanczos (Golub, Underwood 1977): a start of several vectors sees as many of the space of a repeated
    eigenvalue. Where one is repeated as often as there are vectors, or more, others follow, in the complement of what
    has been found, until one finds nothing above the share. At most `steps` products in all.
    """
    space = Eigenspace(torch.zeros(0, dtype=torch.float64), operator.like.new_zeros(operator.size, 0), 0, True)
    while len(space.values) < operator.size:
        known = len(space.values)
        width = min(BLOCK, operator.together, steps - space.steps, operator.size - known)
        if width == 0:
            return replace(space, converged=False)
        space = _extended(space, operator, generator, width, share=share, tolerance=tolerance, steps=steps)
        if not space.converged or len(space.values) == known or _multiplicity(space, tolerance) < width:
            break
    return space


def _extended(
    space: Eigenspace,
    operator: Matrix,
    generator: torch.Generator,
    width: int,
    *,
    share: float,
    tolerance: float,
    steps: int,
) -> Eigenspace:
    """With what one start of `width` vectors more finds in the complement of the space."""

    def top(values: Tensor) -> Tensor:
        return torch.cat((space.values, values)).max()

    def enough(values: Tensor, residuals: Tensor) -> bool:
        """All that are above, or may still rise above, are found, and so is the next one below in the rough: the
        largest are found first."""
        likely = values + residuals > share * top(values)
        if bool(likely.all()):
            return False
        below = residuals[~likely][-1]
        found = bool((residuals[likely] <= tolerance * top(values)).all())
        return found and bool(below <= ROUGH * share * top(values))

    most = min(steps - space.steps, operator.size - len(space.values))
    start = start_of(operator, generator, width, space.vectors)
    found = solve(deflated(operator, space.vectors), start, most, enough)
    kept = found.values > share * top(found.values)
    vectors = torch.cat((space.vectors, found.basis.T @ found.vectors[:, kept].to(found.basis)), 1)
    values, order = torch.cat((space.values, found.values[kept])).sort(descending=True)
    return Eigenspace(values, vectors[:, order.to(vectors.device)], space.steps + len(found.values), found.converged)


def _multiplicity(space: Eigenspace, tolerance: float) -> int:
    """How many of the eigenvalues at most seem to be one and the same."""
    near = max(tolerance, 100 * torch.finfo(space.vectors.dtype).eps) * space.values[0]
    longest = length = 1
    for apart in (-space.values.diff() > near).tolist():
        length = 1 if apart else length + 1
        longest = max(longest, length)
    return longest
