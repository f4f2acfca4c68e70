"""The rise of the loss in a neighbourhood in which each weight moves relative to its size (ASAM)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch

from sharpbench import Dependence, Estimate, InvalidInput, Invariance, Measure, Subject
from sharpbench.curvature import Scaling, check_worst_case, perturbation_scales, reference_one_step, worst_case


@dataclass(frozen=True)
class AsamSharpness(Measure):
    """max over |T^-1 e|_p <= rho of L(theta + e) - L(theta), T diagonal, biases included.

    norm: l2 with e = rho T^2 g / |T g|_2, g the gradient; or linf with e = rho T sign(g).
    scaling: element, T = |theta| + eta; filter, T = the norm of the filter + eta in convolutions, as element elsewhere.
    eta: with 0 the value does not change under rescalings; weights that are 0 are then frozen.
    steps: 1 is the paper's approximation, which may be negative; more are steps of Auto-PGD (Croce and Hein 2020)
        in the coordinates T^-1 e from 0, never negative.
    micro_batch: the mean over micro-batches of this many consecutive examples, each with its own e.
    Deviation: none from the paper; its code has T = 1 for parameters without 'weight' in their name, such as biases, so
    that rescalings change its value also with eta=0.
    """

    name: ClassVar[str] = "asam"
    title: ClassVar[str] = "adaptive sharpness of ASAM"
    family: ClassVar[str] = "perturbation"
    source: ClassVar[str] = "Kwon, Kim, Park, Choi 2021, ASAM: Adaptive Sharpness-Aware Minimization, section 3"
    definition: ClassVar[str] = (
        "max_{|T^-1 e|_p <= rho} L(theta + e) - L(theta), T = |theta| + eta; e = rho T^2 g / |T g|_2 (steps=1, p=2)"
    )
    reduction: ClassVar[str] = "mean over examples; with micro_batch the mean over micro-batches, by their size"
    included: ClassVar[str] = "all parameters under measurement, biases included"
    cost: ClassVar[str] = "steps + 1 gradients; 1 gradient and 1 forward pass for steps=1"
    bibtex: ClassVar[str] = """@inproceedings{kwon2021asam,
  title = {{ASAM}: Adaptive Sharpness-Aware Minimization for Scale-Invariant Learning of Deep Neural Networks},
  author = {Kwon, Jungmin and Kim, Jeongseop and Park, Hyunseo and Choi, In Kwon},
  booktitle = {International Conference on Machine Learning},
  year = {2021},
  eprint = {2102.11600},
  archiveprefix = {arXiv}
}"""
    depends: ClassVar[frozenset[Dependence]] = frozenset({"micro-batches"})
    norm: Literal["l2", "linf"] = "l2"
    scaling: Literal["element", "filter"] = "element"
    rho: float = 0.5
    eta: float = 0.01
    steps: int = 1
    micro_batch: int | None = None

    def __post_init__(self) -> None:
        check_worst_case(self.rho, self.steps, self.micro_batch)
        if not 0 <= self.eta < float("inf"):
            raise InvalidInput(f"eta={self.eta} must be at least 0 and finite; 0 freezes the weights that are 0")

    def __call__(self, subject: Subject, *, generator: torch.Generator) -> Estimate:
        """See Measure; deterministic."""
        scales = perturbation_scales(subject.params, self.scaling, self.eta)
        return worst_case(
            subject, scales, radius=self.rho, norm=self.norm, steps=self.steps, micro_batch=self.micro_batch
        )

    def exact(self, subject: Subject) -> float | None:
        """The one step by torch.autograd, example by example; None for more steps, whose maximum is unknown."""
        if self.steps > 1:
            return None
        scales = perturbation_scales(subject.params, self.scaling, self.eta)
        return reference_one_step(subject, scales, radius=self.rho, norm=self.norm, micro_batch=self.micro_batch)

    def invariances(self) -> frozenset[Invariance]:
        """With eta=0 T follows every rescaling, or with filters those of whole layers; permutations always."""
        rescalings = followed_rescalings(self.scaling) if self.eta == 0 else frozenset()
        return rescalings | {"permutation"}


def followed_rescalings(scaling: Scaling) -> frozenset[Invariance]:
    """The rescalings that a neighbourhood with this scaling follows."""
    by_scaling: dict[Scaling, frozenset[Invariance]] = {
        "none": frozenset(),
        "filter": frozenset({"layer"}),
        "element": frozenset({"layer", "unit", "element"}),
    }
    return by_scaling[scaling]
