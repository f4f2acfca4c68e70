"""Landscapes: the loss on a line or a plane through the weights, at the balanced network."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from sharpbench.core.jsonl import JsonlFile
from sharpbench.core.measure import NotApplicable
from sharpbench.core.precision import own_types
from sharpbench.core.random_state import random_state_kept
from sharpbench.core.subject import Subject
from sharpbench.curvature import displaced_losses
from sharpbench.errors import InvalidInput
from sharpbench.landscapes.checkpoints import Checkpoints, balance_checkpoints, make_checkpoints, read_states
from sharpbench.landscapes.loss_grid import LossGrid
from sharpbench.landscapes.options import LandscapeOptions
from sharpbench.landscapes.plane import Plane, TraceShare, make_plane, measure_share
from sharpbench.landscapes.pools import SlicedPools
from sharpbench.landscapes.rows import ROWS, as_tensor, landscape_key, make_row, read_rows

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, slots=True, eq=False)
class Landscape(LossGrid):
    """The mean loss of a network on a line or a plane through its weights, which can be drawn and written.

    matplotlib is imported where it is drawn, not where it is measured.
    """

    def draw(self) -> Figure:
        """A matplotlib figure: the curve of a line; contours and surface of a plane."""
        from sharpbench.landscapes.figure import draw_landscape

        return draw_landscape(self)

    def to_html(self) -> str:
        """An interactive page that needs no other file: a surface to turn, and the loss at the pointer."""
        from sharpbench.landscapes.html import render_html

        return render_html(self)

    def save(self, folder: Path | str) -> list[Path]:
        """Write LANDSCAPE.md, landscape.svg, landscape.png and landscape.html into `folder`; their paths."""
        from sharpbench.landscapes.page import write_landscape

        return write_landscape(self, Path(folder))


def measure_landscape(
    subject: Subject,
    options: LandscapeOptions | None = None,
    *,
    checkpoints: Mapping[str, Mapping[str, Tensor]] | Sequence[Mapping[str, Tensor]] = (),
    folder: Path | str | None = None,
) -> Landscape:
    """The loss on a line or a plane through the weights of a network, which is left as it is.

    By default the plane is drawn at the network of the same function whose trace of the Hessian is least over
    rescalings of single units, so that networks that differ by such a rescaling give the same picture.

    Args:
        subject: The network, its loss and its examples.
        options: Directions, grid and balance.
        checkpoints: State dicts of the network, by name or in order, which replace its weights: two for
            directions='between', three or more for 'trajectory'.
        folder: Its landscape.jsonl keeps the finished rows; a later call with the same weights, examples and options
            resumes an interrupted one.

    Raises:
        InvalidInput: for options and checkpoints that do not fit together, and where no network attains the least
            trace; balance='layer' or 'none' then draws another network.

    Cost: one forward pass over all examples per point; for the balanced network that of the exact diagonal; for the
    share of the trace that of the trace to 2 %.

    >>> options = sharpbench.LandscapeOptions(points=5, directions="eigenvectors")
    >>> found = sharpbench.measure_landscape(subject, options)
    >>> round(float(found.losses[2, 2]), 6), round(found.share.share, 6)  # log 2 at the weights; all of the trace
    (0.693147, 1.0)
    """
    chosen = options or LandscapeOptions()
    subjects = read_states(subject, checkpoints) if checkpoints else {subject.name: subject}
    *_, found = iterate_landscape(subjects, chosen, folder=folder)
    assert isinstance(found, Landscape)
    return found


def iterate_landscape(
    subjects: Mapping[str, Subject], options: LandscapeOptions, *, folder: Path | str | None = None
) -> Iterator[str | Landscape]:
    """What is done next, in words, and at the end the landscape; see `measure_landscape`."""
    options.check_checkpoints(len(subjects))
    given = make_checkpoints(subjects)
    key = "" if folder is None else landscape_key(given, options)
    file = None if folder is None else JsonlFile(Path(folder) / ROWS)
    with nullcontext() if file is None else file:
        balanced: Checkpoints = given
        for step in balance_checkpoints(given, options):
            if isinstance(step, Checkpoints):
                balanced = step
            else:
                yield step
        yield "finding the directions"
        try:
            with random_state_kept(*(each.module for each in balanced.subjects)), own_types():
                plane = make_plane(balanced, options)
        except NotApplicable as error:
            raise InvalidInput(f"no eigenvectors: {error}; use directions=random") from None
        yield "the share of the trace"
        share, facts = _share(plane, options)
        count = len(plane.grid[-1])
        width = 1 if options.dimensions == 1 else len(plane.grid[0])
        rows = {} if file is None else read_rows(file.path, key, count=count, width=width)
        for place in range(count):
            if place in rows:
                continue
            yield f"row {place + 1} of {count}" if options.dimensions == 2 else f"point {place + 1} of {count}"
            losses = _measure_row(plane, place)
            row = make_row(key, place, losses)
            rows[place] = tuple(math.nan if loss is None else loss for loss in row.losses)
            if file is not None:
                file.append(row)
    table = as_tensor(rows)
    yield Landscape(
        name=" and ".join(subjects) if len(subjects) < 3 else f"{len(subjects)} checkpoints",
        examples=plane.measured.n,
        options=options,
        losses=table[:, 0] if options.dimensions == 1 else table,
        grid=plane.grid,
        labels=plane.labels,
        marks=plane.marks,
        facts=(*plane.facts, *facts),
        share=share,
    )


def _share(plane: Plane, options: LandscapeOptions) -> tuple[TraceShare | None, tuple[str, ...]]:
    try:
        with random_state_kept(plane.measured.module), own_types():
            return measure_share(plane.measured, plane.axes, options.seed), ()
    except NotApplicable as error:
        return None, (f"the share of the trace is not known: {error}",)


def _measure_row(plane: Plane, place: int) -> list[float]:
    """The losses along the first axis; of a line, the loss at one point of it."""
    subject = plane.subject
    like = next(iter(subject.params.values()))
    if len(plane.axes) == 1:
        displacements = iter([plane.grid[0][place] * plane.axes[0]])
    else:
        other = plane.grid[1][place] * plane.axes[1]
        displacements = (x * plane.axes[0] + other for x in plane.grid[0])
    with random_state_kept(subject.module), own_types(), SlicedPools():
        found: list[float] = displaced_losses(subject, (each.to(like) for each in displacements)).tolist()
    return found
