"""The largest loss in a small box around the weights, by a bounded quasi-Newton method (Keskar et al. 2017)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import Bounds, OptimizeResult, minimize
from torch import Tensor

from sharpbench import Estimate, InvalidInput, Invariance, Measure, NotApplicable, Subject
from sharpbench.curvature import draw_directions, flatten, gradient_method, perturbed_loss, require_finite
from sharpbench_measures.citations import KESKAR

Array = NDArray[np.float64]
MAX_SUBSPACE_ENTRIES = 2**27
"""Entries of the random matrix A, a gigabyte; larger ones are refused."""


@dataclass(frozen=True)
class Keskar(Measure):
    """100 (max over y in C of L(theta + A y) - L(theta)) / (1 + L(theta)), biases included; a percentage.

    C = { |y_j| <= epsilon (|(A^+ theta)_j| + 1) }.
    epsilon: 1e-3, the paper's; it also uses 5e-4.
    subspace: none, A = I; or p, for a random matrix A [P, p] of independent standard normal entries (p = 100 in the
        paper).
    iterations: the largest number of iterations of L-BFGS-B, from y = 0, in float64. The value is the loss where they
        end: never below 0, and at an unknown distance from the maximum.
    Deviation from the paper: none known; it does not say how A is distributed.
    """

    name: ClassVar[str] = "keskar"
    title: ClassVar[str] = "sharpness in a box, in percent"
    family: ClassVar[str] = "perturbation"
    source: ClassVar[str] = (
        "Keskar, Mudigere, Nocedal, Smelyanskiy, Tang 2017, On Large-Batch Training for Deep Learning, Metric 2.1"
    )
    definition: ClassVar[str] = (
        "100 (max_{y in C} L(theta + A y) - L(theta)) / (1 + L(theta)), C: |y_j| <= epsilon (|(A^+ theta)_j| + 1)"
    )
    reduction: ClassVar[str] = "mean over examples"
    included: ClassVar[str] = "all parameters under measurement, biases included"
    cost: ClassVar[str] = "10 iterations of L-BFGS-B, 11 to 30 gradients"
    bibtex: ClassVar[str] = KESKAR
    epsilon: float = 1e-3
    subspace: int | None = None
    iterations: int = 10

    def __post_init__(self) -> None:
        if not 0 < self.epsilon < float("inf"):
            raise InvalidInput(f"epsilon={self.epsilon} must be above 0 and finite")
        if self.subspace is not None and self.subspace < 1:
            raise InvalidInput(f"subspace={self.subspace} must be at least 1, or none for all parameters")
        if not 1 <= self.iterations <= 10_000:
            raise InvalidInput(f"iterations={self.iterations} must be from 1 to 10,000")

    def __call__(self, subject: Subject, *, generator: torch.Generator) -> Estimate:
        """See Measure; deterministic without a subspace."""
        method = gradient_method(subject)
        doubled = subject.to(dtype=torch.float64)
        theta = flatten(doubled.params)
        plane = self._plane(doubled, generator)  # A [P, p], or None for I
        centre = theta if plane is None else torch.linalg.lstsq(plane, theta[:, None]).solution[:, 0]
        bounds = (self.epsilon * (centre.abs() + 1)).cpu().numpy()
        before = float(perturbed_loss(doubled, torch.zeros_like(theta)))
        if 1 + before <= 0:
            raise NotApplicable(f"the loss is {before}, and the measure divides by 1 + loss, which must be above 0")

        def negative(point: Tensor) -> Tensor:
            return -perturbed_loss(doubled, point if plane is None else plane @ point)

        def slope(point: Array) -> tuple[float, Array]:
            gradient, value = method.slope_and_value(negative, torch.from_numpy(point.copy()).to(theta.device))
            return require_finite(float(value), "minus the loss"), gradient.cpu().numpy()

        found = _lowest(slope, bounds, self.iterations)
        return Estimate(
            100 * max(0.0, -float(found.fun) - before) / (1 + before),
            stderr=None,
            details={
                "iterations": int(found.nit),
                "evaluations": int(found.nfev),
                "at_bounds": float(np.mean(np.abs(found.x) >= bounds)),
            },
        )

    def _plane(self, subject: Subject, generator: torch.Generator) -> Tensor | None:
        if self.subspace is None:
            return None
        if self.subspace >= subject.size or subject.size * self.subspace > MAX_SUBSPACE_ENTRIES:
            raise NotApplicable(
                f"subspace={self.subspace} of {subject.size:,} parameters: needs fewer dimensions than parameters, "
                f"and at most {MAX_SUBSPACE_ENTRIES:,} entries; choose a smaller one"
            )
        return torch.stack(list(draw_directions(subject, self.subspace, generator)), 1)

    def exact(self, subject: Subject) -> float | None:
        """None: the maximum of a network's loss in a box is unknown."""
        return None

    def invariances(self) -> frozenset[Invariance]:
        """Permutations without a subspace. The + 1 makes boxes change under rescalings; rotations change them also."""
        return frozenset({"permutation"}) if self.subspace is None else frozenset()


def _lowest(slope: Callable[[Array], tuple[float, Array]], bounds: Array, iterations: int) -> OptimizeResult:
    """The end of L-BFGS-B from 0, for a function by its values and gradients."""
    # only the paper's budget ends it: losses of fitted networks are below the usual tolerances
    return minimize(
        slope,
        np.zeros_like(bounds),
        jac=True,
        method="L-BFGS-B",
        bounds=Bounds(-bounds, bounds),
        options={"maxiter": iterations, "ftol": 0.0, "gtol": 0.0},
    )
