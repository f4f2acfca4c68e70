"""The rise of the loss within a ball around the weights (SAM)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from sharpbench import Dependence, Estimate, Invariance, Measure, Subject
from sharpbench.curvature import check_worst_case, perturbation_scales, reference_one_step, worst_case


@dataclass(frozen=True)
class SamSharpness(Measure):
    """max over |e|_2 <= rho of L(theta + e) - L(theta), one norm over all parameters, biases included.

    steps: 1 is the paper's approximation, e = rho g / |g|_2 with the gradient g, which may be negative. More are
        steps of Auto-PGD (Croce and Hein 2020) from e = 0; the value is that of the best, never negative.
    micro_batch: m, for m-sharpness: the mean of the sharpness of micro-batches of m consecutive examples, each
        with its own e; a smaller last one counts by its size.
    Deviation from the paper: none for steps=1; the paper does not say how to maximise in more.
    """

    name: ClassVar[str] = "sam"
    title: ClassVar[str] = "sharpness of SAM"
    family: ClassVar[str] = "perturbation"
    source: ClassVar[str] = "Foret, Kleiner, Mobahi, Neyshabur 2021, Sharpness-Aware Minimization, sections 2 and 4.1"
    definition: ClassVar[str] = "max_{|e|_2 <= rho} L(theta + e) - L(theta), e = rho grad L / |grad L|_2 (steps=1)"
    reduction: ClassVar[str] = "mean over examples; with micro_batch the mean over micro-batches, by their size"
    included: ClassVar[str] = "all parameters under measurement, biases included"
    cost: ClassVar[str] = "steps + 1 gradients; 1 gradient and 1 forward pass for steps=1"
    bibtex: ClassVar[str] = """@inproceedings{foret2021sharpness,
  title = {Sharpness-Aware Minimization for Efficiently Improving Generalization},
  author = {Foret, Pierre and Kleiner, Ariel and Mobahi, Hossein and Neyshabur, Behnam},
  booktitle = {International Conference on Learning Representations},
  year = {2021},
  eprint = {2010.01412},
  archiveprefix = {arXiv}
}"""
    depends: ClassVar[frozenset[Dependence]] = frozenset({"micro-batches"})
    rho: float = 0.05
    steps: int = 1
    micro_batch: int | None = None

    def __post_init__(self) -> None:
        check_worst_case(self.rho, self.steps, self.micro_batch)

    def __call__(self, subject: Subject, *, generator: torch.Generator) -> Estimate:
        """See Measure; deterministic."""
        ones = perturbation_scales(subject.params, "none")
        return worst_case(subject, ones, radius=self.rho, norm="l2", steps=self.steps, micro_batch=self.micro_batch)

    def exact(self, subject: Subject) -> float | None:
        """The one step by torch.autograd, example by example; None for more steps, whose maximum is unknown."""
        if self.steps > 1:
            return None
        ones = perturbation_scales(subject.params, "none")
        return reference_one_step(subject, ones, radius=self.rho, norm="l2", micro_batch=self.micro_batch)

    def invariances(self) -> frozenset[Invariance]:
        """Orthogonal rewrites keep a ball; rescalings do not."""
        return frozenset({"permutation", "attention-rotation"})
