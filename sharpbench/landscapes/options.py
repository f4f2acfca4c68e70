"""Which slice of a loss is drawn."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal, get_args

from sharpbench.core.fields import Scalar
from sharpbench.errors import InvalidInput, shorten

Directions = Literal["random", "eigenvectors", "between", "trajectory"]
Balance = Literal["unit", "layer", "none"]
MAX_POINTS = 1001
"""Points of the grid along one axis."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LandscapeOptions:
    """The directions of a slice, its grid, and the network at which it is drawn.

    Args:
        directions: 'random': Gaussian directions with filter normalisation (Li et al. 2018). 'eigenvectors': of the
            largest eigenvalues of the Hessian. 'between': from the first of two checkpoints to the second, and for a
            plane one random direction with filter normalisation, orthogonal to it. 'trajectory': the principal axes of
            the differences of three or more checkpoints from the last one.
        dimensions: 1 for a line, 2 for a plane.
        points: Along each axis.
        span: Half the length of each axis. None is 1 for 'random', in units of the filter norms; the distance at which
            the quadratic model along the first eigenvector has risen by 1; and 1 for 'between', whose axis is 0 at the
            first checkpoint, 1 at the second, and centred at 0.5. The axes of 'trajectory' span its checkpoints.
        balance: 'unit' or 'layer': draw at the network of the same function whose trace is least over the rescalings of
            single units, or of layers. 'none': at the weights as they are.
        seed: Of the random directions.

    Raises InvalidInput for values out of range.
    """

    directions: Directions = "random"
    dimensions: Literal[1, 2] = 2
    points: int = 51
    span: float | None = None
    balance: Balance = "unit"
    seed: int = 0

    def __post_init__(self) -> None:
        for name, kinds in (("directions", Directions), ("balance", Balance)):
            if getattr(self, name) not in get_args(kinds):
                raise InvalidInput(
                    f"{name}='{shorten(str(getattr(self, name)))}' is unknown; use {', '.join(get_args(kinds))}"
                )
        if self.dimensions not in (1, 2):
            raise InvalidInput(f"dimensions={self.dimensions} must be 1 or 2")
        if not 3 <= self.points <= MAX_POINTS:
            raise InvalidInput(f"points={self.points} along an axis must be from 3 to {MAX_POINTS}")
        if self.span is not None and not 0 < self.span < 1e6:
            raise InvalidInput(f"span={self.span} must be above 0 and below 1,000,000")
        if self.span is not None and self.directions == "trajectory":
            raise InvalidInput(f"span={self.span} has no effect on directions=trajectory, whose checkpoints give it")

    def key_fields(self) -> dict[str, Scalar]:
        """All options, as the key of the rows of a landscape holds them."""
        return asdict(self)

    def check_checkpoints(self, count: int) -> None:
        """Raise InvalidInput where these directions cannot be drawn with `count` checkpoints."""
        needed = {"between": "two checkpoints", "trajectory": "three or more checkpoints"}.get(self.directions)
        fits = {"between": count == 2, "trajectory": count >= 3}.get(self.directions, count == 1)
        if not fits:
            raise InvalidInput(f"directions={self.directions} takes {needed or 'one network'}, not {count}")
