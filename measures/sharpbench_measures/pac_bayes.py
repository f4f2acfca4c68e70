"""PAC-Bayes measures: the noise that the weights tolerate, also against their distance from the initial weights."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from sharpbench import Dependence, Estimate, InvalidInput, Invariance, Measure, NotApplicable, Scalar, Subject
from sharpbench.curvature import NoiseTolerance, check_samples, draw_directions, flatten, tolerated_noise
from sharpbench_measures.norms import weight_changes

SOURCE = (
    "Jiang, Neyshabur, Mobahi, Krishnan, Bengio 2020, Fantastic Generalization Measures and Where to Find Them, eqs. "
)
BIBTEX = """@inproceedings{jiang2020fantastic,
  title = {Fantastic Generalization Measures and Where to Find Them},
  author = {Jiang, Yiding and Neyshabur, Behnam and Mobahi, Hossein and Krishnan, Dilip and Bengio, Samy},
  booktitle = {International Conference on Learning Representations},
  year = {2020},
  eprint = {1912.02178},
  archiveprefix = {arXiv}
}"""

INTERVAL_LEVELS = 33
"""The number of noise levels at which a bound is evaluated for its interval."""


@dataclass(frozen=True)
class PacBayesFlatness(Measure):
    """1 / sigma^2, sigma the largest noise on the weights w that costs at most `drop` of the accuracy on the examples.

    magnitude: false, noise of standard deviation sigma on every parameter, biases included (eq. 53); true, of
        sqrt(sigma^2 w_i^2 + epsilon^2) (eq. 61).
    samples: draws of the noise, the same at every sigma. Standard error and interval are over the draws, first order.
    Deviation from the paper: sigma is found by bisection on a logarithmic scale to 1e-4, from fixed draws; the
    resulting drop is in details. The paper reports the square root over the number of examples, which orders alike.
    """

    name: ClassVar[str] = "pac-bayes-flatness"
    title: ClassVar[str] = "PAC-Bayes flatness"
    family: ClassVar[str] = "PAC-Bayes"
    source: ClassVar[str] = SOURCE + "(53), (61)"
    definition: ClassVar[str] = (
        "1 / sigma^2, sigma the largest with accuracy(w) - E_{u ~ N(0, sigma^2 I)} accuracy(w + u) <= 0.1 (eq. 53)"
    )
    reduction: ClassVar[str] = "mean over examples and over draws, in the accuracy"
    included: ClassVar[str] = "all parameters under measurement, biases included"
    cost: ClassVar[str] = "about 22 x 20 forward passes"
    bibtex: ClassVar[str] = BIBTEX
    magnitude: bool = False
    drop: float = 0.1
    samples: int = 20
    epsilon: float = 1e-3

    def __post_init__(self) -> None:
        check_noise(self.drop, self.samples, self.epsilon)

    def __call__(self, subject: Subject, *, generator: torch.Generator) -> Estimate:
        """See Measure."""
        found = find_noise(
            subject, generator, self.samples, drop=self.drop, epsilon=self.epsilon if self.magnitude else None
        )
        return estimate_at(found, lambda sigma: 1 / sigma**2, self.samples)

    def exact(self, subject: Subject) -> float | None:
        """None: the expected accuracy under noise has no closed form."""
        return None

    def invariances(self) -> frozenset[Invariance]:
        """None: rescalings change the effect of noise of one size, or of epsilon; random draws are not permuted."""
        return frozenset()


@dataclass(frozen=True)
class PacBayes(Measure):
    """The size of the weights w against the noise that they tolerate, with sigma as in `pac-bayes-flatness`.

    With m training examples, w0 the initial weights, omega their number, biases included:
    variant:
        orig: |w|^2 / (4 sigma^2) + log(m / sigma) + 10 (eq. 49);
        init: the same with |w - w0|^2 (eq. 48).
    magnitude: true, noise of standard deviations sqrt(sigma^2 w_i^2 + epsilon^2), and
        orig: (1/4) sum_i log((epsilon^2 + (sigma^2 + 1) |w|^2 / omega) / (epsilon^2 + sigma^2 (w_i - w0_i)^2))
        + log(m / sigma) + 10 (eq. 57); init: the same with |w - w0|^2 in the numerator (eq. 56).
    m is the number of training examples if it is known, else that of the examples.
    Deviations from the paper: those of `pac-bayes-flatness`.
    """

    name: ClassVar[str] = "pac-bayes"
    title: ClassVar[str] = "PAC-Bayes bound"
    family: ClassVar[str] = "PAC-Bayes"
    source: ClassVar[str] = SOURCE + "(48), (49), (56), (57)"
    definition: ClassVar[str] = "|w|^2 / (4 sigma^2) + log(m / sigma) + 10, sigma of pac-bayes-flatness (eq. 49)"
    reduction: ClassVar[str] = "mean over examples and over draws, in the accuracy"
    included: ClassVar[str] = "all parameters under measurement, biases included"
    cost: ClassVar[str] = "about 22 x 20 forward passes"
    bibtex: ClassVar[str] = BIBTEX
    depends: ClassVar[frozenset[Dependence]] = frozenset({"dataset-size"})
    variant: Literal["orig", "init"] = "orig"
    magnitude: bool = False
    drop: float = 0.1
    samples: int = 20
    epsilon: float = 1e-3

    def __post_init__(self) -> None:
        check_noise(self.drop, self.samples, self.epsilon)

    def __call__(self, subject: Subject, *, generator: torch.Generator) -> Estimate:
        """See Measure."""
        weights, moved = flatten(subject.params).double(), self._moved(subject)
        found = find_noise(
            subject, generator, self.samples, drop=self.drop, epsilon=self.epsilon if self.magnitude else None
        )
        examples = subject.train_size or subject.n

        def value(sigma: float) -> float:
            return self._complexity(weights, moved, sigma) + math.log(examples / sigma) + 10

        return estimate_at(found, value, self.samples, train_size=examples)

    def _moved(self, subject: Subject) -> Tensor:
        """w - w0 if the variant requires it, else w."""
        plain = self.variant == "orig" and not self.magnitude
        return flatten(subject.params if plain else weight_changes(subject)).double()

    def _complexity(self, weights: Tensor, moved: Tensor, sigma: float) -> float:
        square = float((weights if self.variant == "orig" else moved).square().sum())
        if not self.magnitude:
            return square / (4 * sigma**2)
        above = self.epsilon**2 + (sigma**2 + 1) * square / len(weights)
        below = self.epsilon**2 + sigma**2 * moved.square()
        return float((math.log(above) - below.log()).sum()) / 4

    def exact(self, subject: Subject) -> float | None:
        """None: the expected accuracy under noise has no closed form."""
        return None

    def invariances(self) -> frozenset[Invariance]:
        """None: rescalings change the effect of noise of one size, or of epsilon; random draws are not permuted."""
        return frozenset()


def check_noise(drop: float, samples: int, epsilon: float) -> None:
    """Raises InvalidInput for values with which no noise can be searched."""
    check_samples(samples)
    if not 0 < drop < 1:
        raise InvalidInput(f"drop={drop} must be above 0 and below 1; it is a share of the examples")
    if not 0 < epsilon < float("inf"):
        raise InvalidInput(f"epsilon={epsilon} must be above 0 and finite")


def find_noise(
    subject: Subject, generator: torch.Generator, samples: int, *, drop: float, epsilon: float | None
) -> NoiseTolerance:
    """The sigma that costs `drop`, for N(0, sigma^2 I), or with an epsilon for N(0, diag(sigma^2 w^2 + epsilon^2))."""
    weights = flatten(subject.params)

    def deviations(sigma: float) -> Tensor:
        if epsilon is None:
            return torch.full_like(weights, sigma)
        return (sigma**2 * weights.square() + epsilon**2).sqrt()

    try:
        return tolerated_noise(subject, deviations, list(draw_directions(subject, samples, generator)), drop=drop)
    except InvalidInput as error:
        raise NotApplicable(f"no sigma: {error}") from error


def estimate_at(found: NoiseTolerance, value: Callable[[float], float], samples: int, **details: Scalar) -> Estimate:
    """The value at sigma, with the error of sigma propagated to first order, and an interval.

    The interval holds the values at all levels within the interval of sigma, which need not be between those at its
    ends.
    """
    step = 1e-4
    slope = (value(found.level * math.exp(step)) - value(found.level * math.exp(-step))) / (2 * step)
    interval = None if found.interval is None else _range(value, *found.interval, found.level)
    return Estimate(
        value(found.level),
        stderr=None if found.stderr is None else abs(slope) * found.stderr,
        interval=interval,
        probes=samples,
        details={
            "sigma": found.level,
            "drop": found.drop,
            "accuracy": found.accuracy,
            "evaluations": found.evaluations,
            **details,
        },
    )


def _range(value: Callable[[float], float], low: float, high: float, level: float) -> tuple[float, float]:
    """The smallest and the largest value at the level and at INTERVAL_LEVELS levels from low to high."""
    ratio = (high / low) ** (1 / (INTERVAL_LEVELS - 1))
    found = [value(at) for at in (level, high, *(low * ratio**step for step in range(INTERVAL_LEVELS - 1)))]
    return min(found), max(found)
