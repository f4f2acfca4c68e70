"""The spectrum of the Hessian as it is published: eigenvalues of the loss, of its batches, of blocks; their density."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from sharpbench.core.groups import Groups, split_blocks
from sharpbench.core.precision import own_types
from sharpbench.core.random_state import random_state_kept
from sharpbench.core.subject import Params, Subject
from sharpbench.curvature.eigenpairs import Eigenpairs, find_eigenpairs
from sharpbench.curvature.lanczos import check_lanczos
from sharpbench.curvature.products import Kind, held_operator, linear_operator, unflatten
from sharpbench.curvature.spectral_density import EigenvalueDensity, spectral_density
from sharpbench.errors import InvalidInput

FIFTH = 5
"""The ratio of the largest eigenvalue to this one is stated."""
MAX_PRODUCTS = 1000
"""Products with one matrix, each of which has its vector in memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpectrumOptions:
    """Which parts of a spectrum are computed.

    Args:
        count: Eigenvalues of the loss, of each batch and of each block, the largest first.
        kind: 'hessian' or 'gauss-newton'.
        batch_size: The number of examples of each batch whose eigenvalues are computed also, in the order of the
            examples; None for no batches. The examples that do not fill a last batch are left out.
        groups: Also those of each diagonal block of parameters: 'layer', 'kind', or as of `sharpbench.measure`; None
            for no blocks.
        probes: Random vectors of the density of all eigenvalues; 0 for no density.
        steps: Lanczos steps on each of them.
        tolerance: Of the residuals, relative to the largest modulus.
        products: The largest number of products for the eigenvalues of one matrix.
        seed: Of all random vectors.

    Raises InvalidInput for values out of range.
    """

    count: int = FIFTH
    kind: Kind = "hessian"
    batch_size: int | None = None
    groups: Groups | None = None
    probes: int = 0
    steps: int = 60
    tolerance: float = 1e-3
    products: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        if not 2 <= self.products <= MAX_PRODUCTS:
            raise InvalidInput(f"products={self.products} must be from 2 to {MAX_PRODUCTS:,}: each holds a vector")
        check_lanczos(self.tolerance, self.products)
        if self.count < 1:
            raise InvalidInput(f"count={self.count} eigenvalues must be at least 1")
        if self.batch_size is not None and self.batch_size < 1:
            raise InvalidInput(f"batch_size={self.batch_size} examples must be at least 1")
        if self.probes < 0 or self.steps < 1:
            raise InvalidInput(f"probes={self.probes} must be at least 0, and steps={self.steps} at least 1")


@dataclass(frozen=True, slots=True, eq=False)
class Spectrum:
    """Eigenvalues of the Hessian, or of the Gauss-Newton matrix, of a mean loss.

    whole: the largest eigenvalues with their vectors. eigenvectors: the same vectors by parameter.
    batches: by the index of the batch from 0, the largest eigenvalues of its loss; empty where none were wanted.
    blocks: the same by the name of the block of parameters.
    density: of all eigenvalues, or None. size: the number P of parameters. unconverged: what did not reach the
    tolerance, in words.
    """

    whole: Eigenpairs
    eigenvectors: tuple[Params, ...] = field(repr=False)
    batches: Mapping[int, Eigenpairs] = field(repr=False)
    blocks: Mapping[str, Eigenpairs] = field(repr=False)
    density: EigenvalueDensity | None = field(repr=False)
    size: int
    kind: Kind
    unconverged: tuple[str, ...] = ()

    @property
    def eigenvalues(self) -> Tensor:
        """The largest eigenvalues [k], largest first, float64."""
        return self.whole.values

    @property
    def ratio(self) -> float | None:
        """The largest eigenvalue divided by the fifth, a measure of edge-of-stability papers; None where there are
        fewer than five, or the fifth is not above 0."""
        if len(self.eigenvalues) < FIFTH or not float(self.eigenvalues[FIFTH - 1]) > 0:
            return None
        return float(self.eigenvalues[0] / self.eigenvalues[FIFTH - 1])

    @property
    def batch_values(self) -> Tensor:
        """The eigenvalues of the batches [batches, k]."""
        rows = [found.values for found in self.batches.values()]
        return torch.stack(rows) if rows else torch.zeros(0, len(self.eigenvalues), dtype=torch.float64)


def measure_spectrum(subject: Subject, options: SpectrumOptions | None = None) -> Spectrum:
    """The largest eigenvalues of the Hessian with their eigenvectors; those of batches and blocks; the density of all.

    Args:
        subject: The network, its loss and its examples; it is left as it is.
        options: Which of these, how many eigenvalues, and how exact.

    Returns:
        A Spectrum. `ratio` is the largest eigenvalue divided by the fifth.

    Raises:
        InvalidInput: for options out of range, and for batches of more examples than there are.
        NotApplicable: where second derivatives of the network are right by no method.

    Cost: at most `products` products of four gradients for the whole, for each batch (over its examples) and for each
    block; `probes` x `steps` for the density.

    >>> found = sharpbench.measure_spectrum(subject, sharpbench.SpectrumOptions(count=2, groups="layer"))
    >>> [round(abs(value), 6) for value in found.eigenvalues.tolist()], found.eigenvectors[0]["bias"].shape
    ([5.0, 0.0], torch.Size([2]))
    """
    *_, found = iterate_spectrum(subject, options or SpectrumOptions())
    assert isinstance(found, Spectrum)
    return found


def iterate_spectrum(subject: Subject, options: SpectrumOptions) -> Iterator[str | Spectrum]:
    """What is done next, in words, and at the end the spectrum; see `measure_spectrum`."""
    size = options.batch_size
    if size is not None and size > subject.n:
        raise InvalidInput(f"batch_size={size} is above the {subject.n:,} examples")
    blocks = {} if options.groups is None else split_blocks(subject, options.groups)
    yield "eigenvalues of the loss"
    whole = _eigenpairs(subject, options)
    unconverged = ["the loss"] * (not whole.converged)
    batches: dict[int, Eigenpairs] = {}
    count = 0 if size is None else subject.n // size
    for index in range(count):
        yield f"eigenvalues of batch {index + 1} of {count}"
        start = index * (size or 0)
        batches[index] = _eigenpairs(subject.take(slice(start, start + (size or 0))), options)
    found: dict[str, Eigenpairs] = {}
    for index, (name, block) in enumerate(blocks.items()):
        yield f"eigenvalues of {name}, block {index + 1} of {len(blocks)}"
        found[name] = _eigenpairs(block, options)
    unconverged += [f"batch {index + 1}" for index, each in batches.items() if not each.converged]
    unconverged += [name for name, each in found.items() if not each.converged]
    density = None
    if options.probes:
        yield f"density of all eigenvalues, {options.probes} random vectors"
        density = _density(subject, options)
    vectors = tuple(unflatten(subject.params, vector) for vector in whole.vectors.T)
    yield Spectrum(whole, vectors, batches, found, density, subject.size, options.kind, tuple(unconverged))


def _eigenpairs(subject: Subject, options: SpectrumOptions) -> Eigenpairs:
    with random_state_kept(subject.module), own_types():
        operator = held_operator(subject) if options.kind == "hessian" else linear_operator(subject, options.kind)
        return find_eigenpairs(
            operator,
            generator=torch.Generator().manual_seed(options.seed),
            count=min(options.count, subject.size),
            tolerance=options.tolerance,
            steps=options.products,
        )


def _density(subject: Subject, options: SpectrumOptions) -> EigenvalueDensity:
    with random_state_kept(subject.module), own_types():
        return spectral_density(
            subject,
            probes=options.probes,
            steps=min(options.steps, subject.size),
            generator=torch.Generator().manual_seed(options.seed),
            kind=options.kind,
        )


def smooth_density(density: EigenvalueDensity, points: int = 400, share: float = 0.01) -> tuple[Tensor, Tensor]:
    """The eigenvalues [points] of a grid over the spectrum, and the density there.

    share: the width of the normal distribution that stands for each eigenvalue, relative to the spectrum's length.

    >>> found = curvature.spectral_density(subject, probes=2, steps=4, generator=torch.Generator().manual_seed(0))
    >>> grid, values = curvature.smooth_density(found)
    >>> round(float(torch.trapezoid(values, grid)), 3)
    1.0
    """
    kept = density.nodes[density.weights > 0]
    low, high = float(kept.min()), float(kept.max())
    width = share * (high - low) or share * max(abs(high), 1e-12)
    if not math.isfinite(width):
        raise InvalidInput(f"the spectrum reaches from {low} to {high}; its density cannot be drawn")
    grid = torch.linspace(low - 5 * width, high + 5 * width, points, dtype=torch.float64)
    return grid, density.smoothed(grid, width)
