"""Planes: the origin, axes and grid of a slice through the space of weights."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from sharpbench.core.subject import Params, Subject
from sharpbench.curvature import (
    draw_directions,
    find_eigenpairs,
    flatten,
    held_operator,
    linear_operator,
    trace_estimate,
    unflatten,
)
from sharpbench.errors import InvalidInput
from sharpbench.landscapes.checkpoints import Checkpoints
from sharpbench.landscapes.options import LandscapeOptions

MARGIN = 0.25
"""Of a trajectory's axes, beyond its checkpoints on each side, relative to the distance between the outermost."""
EIGEN_TOLERANCE, EIGEN_PRODUCTS = 1e-5, 1000
"""Bound on the residual of an eigenvector that is drawn, relative to the largest eigenvalue; products for it."""
TRACE_PRECISION = 0.02
"""Half width of the interval of the trace that the plane's share is of, relative to it, where it is sampled."""


@dataclass(frozen=True, slots=True, eq=False)
class Mark:
    """A checkpoint in the plane: its coordinates, and its distance from the plane."""

    name: str
    place: tuple[float, ...]
    distance: float


@dataclass(frozen=True, slots=True, eq=False)
class Plane:
    """A line or a plane through the weights of `subject`: origin + x times the first axis + y times the second.

    subject: at the origin; its parameters are all tensors that move. measured: the same with the measured weights only,
    which come first in the vectors. axes: flat vectors [P], float64. labels: what an
    axis is. grid: the coordinates along each axis. marks: the checkpoints in it. facts: numbers about the directions,
    in words.
    """

    subject: Subject
    measured: Subject
    axes: tuple[Tensor, ...]
    labels: tuple[str, ...]
    grid: tuple[tuple[float, ...], ...]
    marks: tuple[Mark, ...]
    facts: tuple[str, ...] = ()


def filter_normalized(params: Params, direction: Tensor) -> Tensor:
    """The direction [P] with the norm of each filter that of the weights' filter.

    A filter is a slice along the first axis of a tensor with two or more axes: the weights into one unit. The entries
    of other tensors, biases and scales of norms, are 0.

    Source: Li, Xu, Taylor, Studer, Goldstein 2018, Visualizing the Loss Landscape of Neural Nets, section 4; tensors of
    one axis as by the authors' option `--xignore biasbn`.
    """
    pieces = []
    for name, drawn in unflatten(params, direction.double()).items():
        if drawn.ndim < 2:
            pieces.append(torch.zeros_like(drawn).flatten())
            continue
        rows, weights = drawn.flatten(1), params[name].double().flatten(1)
        lengths = [torch.linalg.vector_norm(each, dim=1, keepdim=True) for each in (weights, rows)]
        pieces.append((rows * lengths[0] / lengths[1].clamp_min(1e-300)).flatten())
    return torch.cat(pieces)


def make_plane(given: Checkpoints, options: LandscapeOptions) -> Plane:
    """The plane that the options describe, through the given weights.

    Raises InvalidInput where the directions do not span it.
    """
    make = {
        "random": _random_plane,
        "eigenvectors": _eigenvector_plane,
        "between": _plane_between,
        "trajectory": _trajectory_plane,
    }
    return make[options.directions](given, options)


def _random_directions(subject: Subject, moving: int, count: int, seed: int) -> Iterator[Tensor]:
    """Random directions with filter normalisation, 0 for buffers. moving: the number of all entries that move."""
    generator = torch.Generator().manual_seed(seed)
    for drawn in draw_directions(subject.to(dtype=torch.float64), count, generator):
        direction = filter_normalized(subject.params, drawn)
        if not bool(direction.any()):
            raise InvalidInput("no measured parameter has filters (two or more axes); use directions=eigenvectors")
        yield torch.cat((direction, direction.new_zeros(moving - len(direction))))


def _random_plane(given: Checkpoints, options: LandscapeOptions) -> Plane:
    subject = given.subjects[0]
    axes = tuple(_random_directions(subject, subject.size, options.dimensions, options.seed))
    labels = ("random direction 1", "random direction 2")[: options.dimensions]
    return Plane(subject, subject, axes, labels, _centred_grid(options, options.span or 1.0), ())


def _eigenvector_plane(given: Checkpoints, options: LandscapeOptions) -> Plane:
    subject, count = given.subjects[0], options.dimensions
    if subject.size < count:
        raise InvalidInput(f"{subject.size} parameter has no plane; use dimensions=1")
    generator = torch.Generator().manual_seed(options.seed)
    found = find_eigenpairs(
        held_operator(subject), generator=generator, count=count, tolerance=EIGEN_TOLERANCE, steps=EIGEN_PRODUCTS
    )
    values = found.values.tolist()
    if not values[0] > 0:
        raise InvalidInput(f"the largest eigenvalue is {values[0]:.3g}, not above 0; use directions=random")
    facts = [f"eigenvalues {', '.join(f'{value:.4g}' for value in values)}"]
    if not found.converged:
        facts.append(f"the eigenvectors have residuals up to {float(found.residuals.max()):.1e}")
    labels = tuple(f"eigenvector {place + 1}, distance" for place in range(count))
    grid = _centred_grid(options, options.span or math.sqrt(2 / values[0]))
    return Plane(subject, subject, tuple(found.vectors.double().T), labels, grid, (), tuple(facts))


def _plane_between(given: Checkpoints, options: LandscapeOptions) -> Plane:
    origin, end = given.flat(0), given.flat(1)
    first = end - origin
    if not bool(first.any()):
        raise InvalidInput(f"'{given.names[0]}' and '{given.names[1]}' are the same network; name two others")
    axes, labels = [first], ["from the first to the second"]
    if options.dimensions == 2:
        drawn = next(_random_directions(given.subjects[0], len(origin), 1, options.seed))
        axes.append(drawn - first * (first @ drawn) / (first @ first))
        labels.append("random direction")
    span = options.span or 1.0
    grid = (_linspace(0.5 - span, 0.5 + span, options.points), _linspace(-span, span, options.points))
    places: list[tuple[float, ...]] = [(0.0, 0.0), (1.0, 0.0)]
    marks = [Mark(name, place[: len(axes)], 0.0) for name, place in zip(given.names, places, strict=True)]
    facts = (f"distance of the two {float(first.norm()):.4g}",)
    return Plane(
        given.movable(0), given.subjects[0], tuple(axes), tuple(labels), grid[: len(axes)], tuple(marks), facts
    )


def _trajectory_plane(given: Checkpoints, options: LandscapeOptions) -> Plane:
    last = len(given.names) - 1
    origin = given.flat(last)
    differences = torch.stack([given.flat(place) - origin for place in range(last)])  # [k, P]
    gram = differences @ differences.T
    values, vectors = torch.linalg.eigh(gram)
    values, vectors = values.flip(0), vectors.flip(1)
    count = options.dimensions
    if not float(values[count - 1]) > 1e-12 * float(values.sum()):
        what = "are all the same" if not float(values[0]) > 0 else "lie on one line"
        raise InvalidInput(f"the {last + 1} checkpoints {what}; use others" + (", or dimensions=1" * (count == 2)))
    axes = [differences.T @ vectors[:, place] / values[place].sqrt() for place in range(count)]
    axes = [axis * (1.0 if float(axis @ differences[0]) >= 0 else -1.0) for axis in axes]
    rows = torch.cat((differences, torch.zeros_like(differences[:1])))
    places = torch.stack([rows @ axis for axis in axes], 1)
    distances = (rows - places @ torch.stack(axes)).norm(dim=1).tolist()
    grid = []
    for column in places.T:
        low, high = float(column.min()), float(column.max())
        grid.append(_linspace(low - MARGIN * (high - low), high + MARGIN * (high - low), options.points))
    marks = [
        Mark(name, tuple(place), distance)
        for name, place, distance in zip(given.names, places.tolist(), distances, strict=True)
    ]
    share = float(values[:count].sum() / values.sum())
    facts = (f"share of the squared distances from the last checkpoint {100 * share:.4g} %",)
    labels = tuple(f"principal axis {place + 1}, distance" for place in range(count))
    return Plane(given.movable(last), given.subjects[last], tuple(axes), labels, tuple(grid), tuple(marks), facts)


def _centred_grid(options: LandscapeOptions, span: float) -> tuple[tuple[float, ...], ...]:
    return (_linspace(-span, span, options.points),) * options.dimensions


def _linspace(low: float, high: float, points: int) -> tuple[float, ...]:
    return tuple(low + (high - low) * place / (points - 1) for place in range(points))


@dataclass(frozen=True, slots=True)
class TraceShare:
    """What a plane holds of the trace of the Hessian at its origin, over the measured weights.

    trace: tr H. held: tr Q^T H Q, for orthonormal columns Q that span the axes. expected: the share of a uniformly
    random plane, on average: its dimensions over the number of weights. stderr: of the trace, None where unknown.
    """

    trace: float
    held: float
    expected: float
    stderr: float | None

    @property
    def share(self) -> float | None:
        """held / trace; None where the trace is not above 0, or a direction has negative curvature."""
        return self.held / self.trace if self.trace > 0 and self.held >= 0 else None


def measure_share(subject: Subject, axes: tuple[Tensor, ...], seed: int) -> TraceShare:
    """The share of the trace in the plane of the axes, whose first entries are the subject's weights."""
    columns = torch.stack([axis[: subject.size] for axis in axes], 1)
    basis, triangle = torch.linalg.qr(columns)
    basis = basis[:, triangle.diagonal().abs() > 0].to(flatten(subject.params))
    products = linear_operator(subject) @ basis
    held = float((basis.double() * products.double()).sum())
    generator = torch.Generator().manual_seed(seed)
    total = trace_estimate(subject, generator=generator, precision=TRACE_PRECISION)
    return TraceShare(total.value, held, basis.shape[1] / subject.size, total.stderr)
