"""The average rise of the loss under Gaussian noise on the weights."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sharpbench import Estimate, InvalidInput, Invariance, Measure, Subject
from sharpbench.curvature import check_samples, draw_directions, example_stderr, flatten, mean_of, perturbed_losses


@dataclass(frozen=True)
class Average(Measure):
    """E L(theta + sigma z) - L(theta), z ~ N(0, I) over all parameters, biases included.

    sigma: the standard deviation of the noise.
    samples: antithetic pairs; each estimates (L(theta + sigma z) + L(theta - sigma z)) / 2 - L(theta), in which the
        odd terms in z cancel. Standard error and 95 % interval are over pairs.
    For small sigma it is (sigma^2 / 2) tr H, kinks aside. Deviation from the paper: none in value; the paper leaves
    sigma and the way of averaging open.
    """

    name: ClassVar[str] = "average"
    title: ClassVar[str] = "average sharpness under Gaussian noise"
    family: ClassVar[str] = "perturbation"
    source: ClassVar[str] = (
        "Neyshabur, Bhojanapalli, McAllester, Srebro 2017, Exploring Generalization in Deep Learning, section 2.3"
    )
    definition: ClassVar[str] = "E_{z ~ N(0, I)} L(theta + sigma z) - L(theta)"
    reduction: ClassVar[str] = "mean over examples and over draws"
    included: ClassVar[str] = "all parameters under measurement, biases included"
    cost: ClassVar[str] = "2 samples + 1 = 101 forward passes"
    bibtex: ClassVar[str] = """@inproceedings{neyshabur2017exploring,
  title = {Exploring Generalization in Deep Learning},
  author = {Neyshabur, Behnam and Bhojanapalli, Srinadh and McAllester, David and Srebro, Nathan},
  booktitle = {Advances in Neural Information Processing Systems},
  volume = {30},
  year = {2017},
  eprint = {1706.08947},
  archiveprefix = {arXiv}
}"""
    sigma: float = 0.01
    samples: int = 50

    def __post_init__(self) -> None:
        check_samples(self.samples)
        if not 0 < self.sigma < float("inf"):
            raise InvalidInput(f"sigma={self.sigma} must be above 0 and finite; it is a standard deviation")

    def __call__(self, subject: Subject, *, generator: torch.Generator) -> Estimate:
        """See Measure."""
        losses = perturbed_losses(subject, self._steps(subject, generator))
        start = perturbed_losses(subject, [torch.zeros_like(flatten(subject.params))])
        found = mean_of([losses.means.reshape(-1, 2).mean(1) - start.means])
        return Estimate(
            found.value,
            found.stderr,
            found.interval,
            probes=self.samples,
            stderr_examples=example_stderr(losses.by_example - start.by_example, shares=subject.shares),
        )

    def _steps(self, subject: Subject, generator: torch.Generator) -> Iterator[Tensor]:
        """Pairs of opposite displacements."""
        for direction in draw_directions(subject, self.samples, generator):
            yield self.sigma * direction
            yield -self.sigma * direction

    def exact(self, subject: Subject) -> float | None:
        """None: the expectation has no closed form."""
        return None

    def invariances(self) -> frozenset[Invariance]:
        """None: rescalings change the effect of noise of one size, and random draws are not permuted with the units."""
        return frozenset()
