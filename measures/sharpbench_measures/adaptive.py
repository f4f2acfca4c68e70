"""Adaptive sharpness, worst-case and average, with normalised logits, by the protocol of Andriushchenko et al. 2023."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor

from sharpbench import Dependence, Estimate, Invariance, Measure, NotApplicable, Subject
from sharpbench.curvature import (
    DENSE_LIMIT,
    certificate,
    check_samples,
    check_worst_case,
    draw_directions,
    example_stderr,
    flatten,
    mean_of,
    perturbation_scales,
    perturbed_losses,
    reference_diagonal,
    require_finite,
    unflatten,
    weighted_traces_by_example,
    worst_case,
)
from sharpbench_measures.asam import followed_rescalings

RADII = {
    ("worst", "l2"): 0.5,
    ("worst", "linf"): 0.002,
    ("worst", "linf", "none"): 0.001,
    ("average", "l2"): 0.1,
    ("average", "linf"): 0.2,
}
"""The second of the four radii that the paper tries on CIFAR-10 with ResNet-18, by case, norm (and scaling)."""
MIN_LOGIT_NORM = 1e-10
"""The smallest norm that centred logits are divided by."""


@dataclass(frozen=True)
class Adaptive(Measure):
    """The rise of the loss in a neighbourhood whose axes are the sizes c of the weights, biases included.

    case:
        worst: mean over micro-batches B of max over |e / c|_p <= rho of L_B(theta + e) - L_B(theta), the best iterate
            of `steps` steps of Auto-PGD (Croce and Hein 2020) from 0 in the coordinates e / c, so never negative.
        average: E L(theta + e) - L(theta), e = rho c z, over `samples` draws of z ~ N(0, I) for norm=l2, uniform on
            [-1, 1] for linf, with standard error; the same draws for all examples, so that micro-batches do not enter.
        average-closed: its limit for small rho, (rho^2 / 2) sum c_j^2 H_jj for l2, (rho^2 / 6) for linf. Nothing is
            sampled, and kinks have no effect. H is the Hessian, or its Gauss-Newton matrix where the network is not
            certified piecewise affine (details.matrix).
    scaling: element, c = |theta|; filter, the norm of each filter of convolutions, else |theta|; none, c = 1. Weights
        with c = 0 are frozen and counted (details.frozen).
    rho: none takes the second radius of the paper's grids for ResNet-18; recorded in details.rho.
    logits: normalised, to mean 0 and norm 1 for each example before the loss; needs at least three outputs.
    micro_batch: 128 consecutive examples, as in the paper; none for all examples in one.
    Deviations from the paper: Auto-PGD's momentum, restarts and projection are as its authors define them, with the
    projection in the coordinates e / c; the average draws once for all micro-batches.
    """

    name: ClassVar[str] = "adaptive"
    title: ClassVar[str] = "adaptive sharpness"
    family: ClassVar[str] = "perturbation"
    source: ClassVar[str] = (
        "Andriushchenko, Croce, Mueller, Hein, Flammarion 2023, A Modern Look at the Relationship between Sharpness "
        "and Generalization, section 3; Kwon, Kim, Park, Choi 2021"
    )
    definition: ClassVar[str] = (
        "worst: E_B max_{|e/c|_p <= rho} L_B(theta + e) - L_B(theta); average: E_z L(theta + rho c z) - L(theta)"
    )
    reduction: ClassVar[str] = "mean over examples; worst: mean over micro-batches of 128 in order, by their size"
    included: ClassVar[str] = "all parameters under measurement, biases included; those that are 0 do not move"
    cost: ClassVar[str] = "worst: 21 gradients; average: 20 forward passes; average-closed: that of the exact diagonal"
    bibtex: ClassVar[str] = """@inproceedings{andriushchenko2023modern,
  title = {A Modern Look at the Relationship between Sharpness and Generalization},
  author = {Andriushchenko, Maksym and Croce, Francesco and M{\\"u}ller, Maximilian and Hein, Matthias and
    Flammarion, Nicolas},
  booktitle = {International Conference on Machine Learning},
  year = {2023},
  eprint = {2302.07011},
  archiveprefix = {arXiv}
}"""
    depends: ClassVar[frozenset[Dependence]] = frozenset({"micro-batches"})
    oracle_limit: ClassVar[int | None] = DENSE_LIMIT
    case: Literal["worst", "average", "average-closed"] = "worst"
    norm: Literal["l2", "linf"] = "l2"
    scaling: Literal["element", "filter", "none"] = "element"
    rho: float | None = None
    steps: int = 20
    samples: int = 20
    logits: Literal["plain", "normalised"] = "plain"
    micro_batch: int | None = 128

    def __post_init__(self) -> None:
        check_worst_case(self.radius, self.steps, self.micro_batch)
        check_samples(self.samples)

    @property
    def radius(self) -> float:
        """rho, or its default."""
        kind = ("worst" if self.case == "worst" else "average", self.norm)
        return RADII.get((*kind, self.scaling), RADII[kind]) if self.rho is None else self.rho

    def __call__(self, subject: Subject, *, generator: torch.Generator) -> Estimate:
        """See Measure; deterministic but for case=average."""
        seen = subject if self.logits == "plain" else subject.once(normalised)
        scales = perturbation_scales(subject.params, self.scaling)
        if self.case == "worst":
            return worst_case(
                seen, scales, radius=self.radius, norm=self.norm, steps=self.steps, micro_batch=self.micro_batch
            )
        if self.case == "average":
            return self._average(seen, scales, generator)
        matrix = "gauss-newton" if any(subject.once(certificate).values()) else "hessian"
        by_example = weighted_traces_by_example(seen, unflatten(subject.params, scales)).sum(1)
        error = example_stderr(by_example, shares=subject.shares)
        return Estimate(
            self._second_order(float(by_example.mean())),
            stderr_examples=None if error is None else self._second_order(error),
            details={**self._details(scales), "matrix": matrix},
        )

    def exact(self, subject: Subject) -> float | None:
        """The closed form with the reference diagonal, if that is of the same matrix; else None."""
        constant = self.logits == "normalised" and subject.classes <= 2
        if self.case != "average-closed" or constant or any(subject.once(certificate).values()):
            return None
        seen = subject if self.logits == "plain" else subject.once(normalised)
        curvature = flatten(seen.once(reference_diagonal)).double()
        scales = perturbation_scales(subject.params, self.scaling).double()
        return self._second_order(float((scales.square() * curvature).sum()))

    def invariances(self) -> frozenset[Invariance]:
        """The rewrites that c follows. Random draws are not permuted with the units. A ball of norm 2 with c = 1, and
        a trace, do not change under rotations. Normalised logits remove the logits' scale if c follows it."""
        found = followed_rescalings(self.scaling)
        if self.case != "average":
            found |= {"permutation"}
            if self.scaling == "none" and (self.norm == "l2" or self.case == "average-closed"):
                found |= {"attention-rotation"}
        if self.logits == "normalised" and self.scaling != "none":
            found |= {"logit-scale"}
        return found

    def _average(self, subject: Subject, scales: Tensor, generator: torch.Generator) -> Estimate:
        drawn = draw_directions(subject, self.samples, generator, "gaussian" if self.norm == "l2" else "uniform")
        losses = perturbed_losses(subject, (self.radius * scales * each for each in drawn))
        start = perturbed_losses(subject, [torch.zeros_like(scales)])
        found = mean_of([losses.means - start.means])
        return Estimate(
            found.value,
            found.stderr,
            found.interval,
            probes=self.samples,
            details=self._details(scales),
            stderr_examples=example_stderr(losses.by_example - start.by_example, shares=subject.shares),
        )

    def _second_order(self, trace: float) -> float:
        """E (1/2) e^T H e for e = rho c z, of trace = sum c_j^2 H_jj: z has variance 1, or 1/3."""
        variance = 1.0 if self.norm == "l2" else 1 / 3
        value = self.radius / 2 * variance * trace * self.radius
        return require_finite(value, "the second-order rise")

    def _details(self, scales: Tensor) -> dict[str, str | int | float | None]:
        return {"method": self.case, "rho": self.radius, "frozen": int((scales == 0).sum())}


def normalised(subject: Subject) -> Subject:
    """The subject whose criterion gets centred logits of norm 1: (f - mean f) / max(|f - mean f|_2, 1e-10).

    Raises NotApplicable for fewer than three outputs: normalised logits are then (1, -1) / sqrt(2), its opposite or 0.
    """
    if len(subject.outputs) != 1:
        raise NotApplicable(
            f"normalised logits are those of one label an example, and outputs are {list(subject.outputs)}; use "
            "logits=plain"
        )
    if subject.classes <= 2:
        raise NotApplicable(
            f"normalised logits of {subject.classes} outputs are constant but for their sign; needs at least 3, or "
            "use logits=plain"
        )

    def losses(logits: Tensor, targets: Tensor) -> Tensor:
        centred = logits - logits.mean(1, keepdim=True)
        norms = torch.linalg.vector_norm(centred, dim=1, keepdim=True)
        return subject.criterion(centred / norms.clamp_min(MIN_LOGIT_NORM), targets)

    name = f"{subject.criterion.name} of normalised logits"
    return replace(subject, criterion=replace(subject.criterion, kind="custom", name=name, losses=losses))
