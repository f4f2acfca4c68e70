"""Tolerance: the level of noise on the weights that costs a network a given share of its accuracy."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sharpbench.core.subject import Subject
from sharpbench.curvature.confidence import mean_of
from sharpbench.curvature.perturbation import perturbed_means
from sharpbench.errors import InvalidInput

START = 0.1
MOST_OCTAVES = 40
RESOLUTION = 1e-4
"""The level is found to this relative width."""
SPAN = 0.2
"""The slope of the drop is taken between levels e^-SPAN and e^SPAN times the one found."""


@dataclass(frozen=True, slots=True)
class NoiseTolerance:
    """level: the largest found at which the mean drop over the draws is at most the requested one. drop: that there.

    accuracy: without noise. stderr: of log(level), over the draws; None where the drop does not rise with the level.
    interval: of 95 % for the level; None from so few draws that it would not be. evaluations: levels tried.
    """

    level: float
    drop: float
    accuracy: float
    stderr: float | None
    interval: tuple[float, float] | None
    evaluations: int


def tolerated_noise(
    subject: Subject, deviations: Callable[[float], Tensor], draws: Sequence[Tensor], *, drop: float
) -> NoiseTolerance:
    """The level s of noise at which the expected accuracy at theta + deviations(s) z is `drop` below that at theta.

    The same draws z serve at every level, so the drop is a step function of the level. Its rise is bracketed by
    doubling or halving from 0.1 and then bisected on a logarithmic scale. The error is to first order in that of the
    drop.

    Args:
        deviations: level s -> standard deviations [P].
        draws: the vectors z [P].
        drop: the loss of accuracy, from 0 to 1.
    Raises:
        InvalidInput: where targets are not classes, where the accuracy is too near to chance to fall that far, and
            where no level costs that much, or every level does.

    Cost: about 20 levels, with one forward pass per draw at each.

    >>> pair = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], dtype=torch.float64)
    >>> identity = torch.nn.Linear(3, 2, bias=False, dtype=torch.float64)
    >>> eye = torch.nn.init.eye_(identity.weight)
    >>> separated = Subject.from_module(identity, pair, torch.tensor([0, 1]))
    >>> noise = list(curvature.draw_directions(separated, 50, torch.Generator().manual_seed(0)))
    >>> equal = torch.ones(6, dtype=torch.float64)
    >>> found = curvature.tolerated_noise(separated, lambda level: level * equal, noise, drop=0.1)
    >>> 0.1 < found.level < 1.0
    True
    """
    search = _Search(subject, deviations, draws, drop)
    low, high = search.bracket()
    while high / low > 1 + RESOLUTION:
        middle = math.sqrt(low * high)
        low, high = (middle, high) if search.spares(middle) else (low, middle)
    return search.describe(low)


class _Search:
    """The drops at the levels tried."""

    def __init__(
        self, subject: Subject, deviations: Callable[[float], Tensor], draws: Sequence[Tensor], drop: float
    ) -> None:
        several = subject.criterion.kind not in ("cross_entropy", "custom")
        if several or subject.targets.ndim != 1 or subject.targets.is_floating_point():
            raise InvalidInput("the targets are not one class an example, so that there is no accuracy to lose")
        self.subject, self.deviations, self.draws, self.drop = subject, deviations, draws, drop
        self.right = float(_right(subject, [torch.zeros_like(draws[0])]))
        self.accuracy = self.right / subject.n
        chance = 1 / subject.classes
        if self.accuracy - drop <= chance:
            raise InvalidInput(
                f"an accuracy of {self.accuracy:.4g} less {drop} is not above {chance:.4g}, to which noise takes "
                f"{subject.classes} classes; ask for a smaller drop, or measure a fitted network"
            )
        self.tried: dict[float, Tensor] = {}

    def drops(self, level: float) -> Tensor:
        """By draw [m]."""
        if level not in self.tried:
            scale = self.deviations(level)
            lost = self.right - _right(self.subject, (scale * draw for draw in self.draws))
            self.tried[level] = lost / self.subject.n
        return self.tried[level]

    def spares(self, level: float) -> bool:
        """Whether the mean drop at `level` is at most the requested one: examples decide, not rounding."""
        step = 1 / (len(self.draws) * self.subject.n)
        return float(self.drops(level).mean()) <= self.drop + step / 100

    def bracket(self) -> tuple[float, float]:
        """Two levels, one twice the other, between which the drop passes the requested one."""
        level = START
        up = self.spares(level)
        for _ in range(MOST_OCTAVES):
            following = level * 2 if up else level / 2
            if self.spares(following) != up:
                return (level, following) if up else (following, level)
            level = following
        raise InvalidInput(
            f"noise of level {level:.4g} still costs {'no more' if up else 'more'} than {self.drop} of the accuracy, "
            f"{self.accuracy:.4g}; ask for another drop"
        )

    def describe(self, level: float) -> NoiseTolerance:
        """With the error to first order."""
        rise = float((self.drops(level * math.exp(SPAN)) - self.drops(level * math.exp(-SPAN))).mean())
        slope = rise / (2 * SPAN)
        found = mean_of([self.drops(level)])
        known = slope > 0
        interval = None
        if known and found.interval is not None:
            low, high = ((found.value - end) / slope for end in reversed(found.interval))
            interval = (level * math.exp(low), level * math.exp(high))
        return NoiseTolerance(
            level, found.value, self.accuracy, found.stderr / slope if known else None, interval, len(self.tried)
        )


def _right(subject: Subject, displacements: Iterable[Tensor]) -> Tensor:
    """How many examples are classified right at each displacement [m]."""

    def right(logits: Tensor, targets: Tensor) -> Tensor:
        return (logits.argmax(1) == targets).to(logits.dtype)

    return (perturbed_means(subject, displacements, right) * subject.n).round()
