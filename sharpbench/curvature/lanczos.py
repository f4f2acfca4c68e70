"""Lanczos: the ends of a spectrum, and the eigenvectors at its upper end, each with its residual."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sharpbench.core.measure import Estimate
from sharpbench.core.subject import Subject
from sharpbench.curvature.products import Kind, LinearOperator, add_flat, deflated_operator, linear_operator
from sharpbench.curvature.trace_estimators import draw_probes
from sharpbench.errors import InvalidInput

# Krylov: the block Lanczos recurrence of a symmetric matrix from one start.
#
# Fully reorthogonalised, twice, with the projected matrix in float64; a vector of the network's size is held a product.

EVERY = 5
"""Products after which convergence is looked at again, at the least; later after a sixteenth of those taken."""


@dataclass(frozen=True, slots=True, eq=False)
class KrylovSpace:
    """The Ritz values [k], ascending, their vectors [k, k] in the basis [k, P], and their residuals."""

    values: Tensor
    vectors: Tensor
    residuals: Tensor
    basis: Tensor
    converged: bool


def check_lanczos(tolerance: float, steps: int) -> None:
    """Raises InvalidInput for a tolerance or a number of steps with which Lanczos cannot run.

    >>> curvature.check_lanczos(tolerance=1e-3, steps=100)
    """
    if not 0 < tolerance < 1:
        raise InvalidInput(f"tolerance={tolerance} of the relative residual must be above 0 and below 1")
    if not 2 <= steps <= 1000:
        raise InvalidInput(f"steps={steps} must be from 2 to 1000: one vector is held per step")


def run_lanczos(
    operator: LinearOperator,
    start: Tensor,
    most: int,
    enough: Callable[[Tensor, Tensor], bool],
    *,
    every: int = EVERY,
) -> KrylovSpace:
    """Steps from the orthonormal rows of `start` until enough(values, residuals), the space is exhausted, or `most`
    products are taken. every: products between two looks at convergence, at the least."""
    run = _LanczosRecurrence(operator, start)
    look = every
    while True:
        run.step()
        taken = run.taken
        done = run.exhausted or taken + run.width > most
        if not done and taken < look:
            continue
        look = taken + max(every, taken // 16)
        values, vectors = torch.linalg.eigh(run.projected())
        residuals = torch.linalg.vector_norm(run.rest() @ vectors[-run.rest().shape[1] :], dim=0)
        converged = run.exhausted or enough(values, residuals)
        if done or converged:
            return KrylovSpace(values, vectors, residuals, run.basis[:taken], converged)


class _LanczosRecurrence:
    """One block Lanczos recurrence; blocks lose the directions in which the space is exhausted."""

    def __init__(self, operator: LinearOperator, start: Tensor) -> None:
        self.operator = operator
        self._held = start.new_empty(2 * EVERY * len(start), start.shape[1])
        self._held[: len(start)] = start
        self._count = self.width = len(start)
        self.taken = 0
        self._diagonal: list[Tensor] = []
        self._below: list[Tensor] = []
        self._scale = 0.0

    @property
    def basis(self) -> Tensor:
        """The orthonormal vectors so far, [k, P]."""
        return self._held[: self._count]

    @property
    def exhausted(self) -> bool:
        """Whether the space that the matrix spans from the start has been found in full."""
        return self.width == 0

    def step(self) -> None:
        """The products of the last block."""
        last = self.basis[self._count - self.width :]
        images = (self.operator @ last.T).T if self.width > 1 else self.operator.product(last[0])[None]
        self._diagonal.append((images.double() @ last.double().T).cpu())
        self.taken += self.width
        images = self._beside(images)
        following, below = self._orthonormal(images)
        rest = self._beside(following)  # twice is enough
        final, kept = torch.linalg.qr(rest.T)
        self._below.append(kept.double().cpu() @ below)
        self._append(final.T)

    def _beside(self, given: Tensor) -> Tensor:
        return given - (given @ self.basis.T) @ self.basis

    def _orthonormal(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Orthonormal rows that span those of `images` but for rounding, and images = below^T rows."""
        columns, triangle = torch.linalg.qr(images.T)
        left, sizes, right = torch.linalg.svd(triangle.double().cpu(), full_matrices=False)
        self._scale = max(self._scale, float(torch.linalg.matrix_norm(self._diagonal[-1], 2)) + float(sizes[0]))
        kept = sizes > 10 * torch.finfo(images.dtype).eps * self._scale
        return (columns @ left[:, kept].to(columns)).T, sizes[kept, None] * right[kept]

    def _append(self, block: Tensor) -> None:
        """Into room that doubles when it is full, so that nothing is copied at every step."""
        self.width = len(block)
        while self._count + self.width > len(self._held):
            self._held = torch.cat((self._held, torch.empty_like(self._held)))
        self._held[self._count : self._count + self.width] = block
        self._count += self.width

    def projected(self) -> Tensor:
        """The matrix in the basis, [taken, taken] in float64 on the CPU."""
        matrix: Tensor = torch.block_diag(*[(block + block.T) / 2 for block in self._diagonal])
        row = 0
        for block, below in zip(self._diagonal, self._below[:-1], strict=False):
            column, row = row, row + len(block)
            matrix[row : row + len(below), column:row] = below
            matrix[column:row, row : row + len(below)] = below.T
        return matrix

    def rest(self) -> Tensor:
        """What the last block's products have outside of the basis, [width, width before]."""
        return self._below[-1]


def start_block(
    operator: LinearOperator, generator: torch.Generator, width: int = 1, known: Tensor | None = None
) -> Tensor:
    """Random orthonormal rows [width, P], orthogonal to the columns of `known` [P, r]."""
    drawn = draw_probes(operator.like.new_empty(operator.size), width, generator, "gaussian").T
    rest = drawn if known is None else add_flat(known, drawn)
    columns: Tensor = torch.linalg.qr(rest)[0]
    return columns.T


ROUGH = 0.1
"""Residual of the first eigenvalue below the bound, relative to the bound."""
MIN_BLOCK, MAX_BLOCK = 2, 8
"""Vectors that go on together in the search for an eigenspace. A wide block costs less for each product of a small
network; a narrow one takes fewer products, and at least two find an eigenvalue that occurs twice."""
ROOM = 4
"""A block is this number of times narrower than what fits into memory at once: there products are small."""


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

    Args:
        generator: draws the start vectors, on the CPU.
        count: how many eigenvalues.
        tolerance: bound on |A x - value x| relative to the largest modulus; tested at every fifth step.
        steps: the largest number of products.
        kind: 'hessian' or 'gauss-newton'.

    Cost: at most `steps` products, each about four gradients.

    >>> found = curvature.top_eigenvalues(subject, generator=torch.Generator().manual_seed(0))
    >>> round(found.values[0], 9), found.converged
    (5.0, True)
    """
    operator = linear_operator(subject, kind)
    most = min(steps, operator.size)
    if not 1 <= count <= most:
        raise InvalidInput(f"count={count} eigenvalues from at most {most} Lanczos steps; need 1 <= count <= {most}")

    def enough(values: Tensor, residuals: Tensor) -> bool:
        return len(values) >= count and bool((residuals[-count:] <= tolerance * values.abs().max()).all())

    found = run_lanczos(operator, start_block(operator, generator), most, enough)
    return Eigenvalues(
        tuple(found.values.flip(0)[:count].tolist()),
        tuple(found.residuals.flip(0)[:count].tolist()),
        len(found.values),
        found.converged,
    )


def leading_eigenvalue(
    operator: LinearOperator, *, generator: torch.Generator, tolerance: float, steps: int, magnitude: bool = False
) -> Estimate:
    """The algebraically largest eigenvalue, or the one of largest modulus, to a residual of `tolerance` times itself.

    Args:
        generator: draws the start vectors, on the CPU.
        tolerance: relative to the eigenvalue itself, not to the spectrum: where the other end of the spectrum is far
            longer, the residual must be smaller accordingly.
        steps: the largest number of products.
        magnitude: take the largest modulus instead of the algebraically largest eigenvalue.
    Returns:
        An Estimate whose stderr is None where `steps` did not suffice. details: `residual`, the distance within which
        an eigenvalue lies (the error of the value is of the order of the residual's square over the gap to the next
        one, and at most the residual); `highest` and `lowest`, the ends of the spectrum as far as this run found them,
        which lie inside the true ones.

    >>> operator = curvature.linear_operator(subject)
    >>> draws = torch.Generator().manual_seed(0)
    >>> round(curvature.leading_eigenvalue(operator, generator=draws, tolerance=1e-6, steps=20).value, 9)
    5.0
    """

    def place(values: Tensor) -> int:
        return int(values.abs().argmax()) if magnitude else len(values) - 1

    def enough(values: Tensor, residuals: Tensor) -> bool:
        return bool(residuals[place(values)] <= tolerance * values[place(values)].abs())

    found = run_lanczos(operator, start_block(operator, generator), min(steps, operator.size), enough)
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
    operator: LinearOperator, *, generator: torch.Generator, share: float, tolerance: float, steps: int
) -> Eigenspace:
    """All eigenvectors whose eigenvalue exceeds `share` times the largest, to residuals of `tolerance` times that.

    Block Lanczos: a start of several vectors finds that many dimensions of the space of a repeated eigenvalue. Where
    one is repeated more often, further starts follow in the complement of what was found, until one finds nothing above
    the share.

    Args:
        generator: draws the start vectors, on the CPU.
        steps: the largest number of products in all.

    Source: Golub, Underwood 1977.

    >>> operator = curvature.linear_operator(subject)
    >>> draws = torch.Generator().manual_seed(0)
    >>> space = curvature.leading_eigenspace(operator, generator=draws, share=0.1, tolerance=1e-6, steps=20)
    >>> space.values.round(decimals=9), tuple(space.vectors.shape)
    (tensor([5.], dtype=torch.float64), (8, 1))
    """
    space = Eigenspace(torch.zeros(0, dtype=torch.float64), operator.like.new_zeros(operator.size, 0), 0, True)
    while len(space.values) < operator.size:
        known = len(space.values)
        wide = min(MAX_BLOCK, max(MIN_BLOCK, operator.together // ROOM))
        width = min(wide, steps - space.steps, operator.size - known)
        if width == 0:
            return replace(space, converged=False)
        start = start_block(operator, generator, width, space.vectors)
        space = _extend_space(space, operator, start, share=share, tolerance=tolerance, steps=steps)
        if not space.converged or len(space.values) == known or _multiplicity(space, tolerance) < width:
            break
    return space


def _extend_space(
    space: Eigenspace, operator: LinearOperator, start: Tensor, *, share: float, tolerance: float, steps: int
) -> Eigenspace:
    """The space, with what one more block of start vectors finds in its complement."""

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
    found = run_lanczos(deflated_operator(operator, space.vectors), start, most, enough)
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
