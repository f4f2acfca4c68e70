"""Geodesic sharpness: the largest rise of the loss in a geodesic ball on the quotient by the symmetry of attention."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch

from sharpbench import Dependence, Estimate, InvalidInput, Invariance, Measure, NotApplicable, Subject
from sharpbench.curvature import DENSE_LIMIT, check_worst_case, largest_rise
from sharpbench.symmetry import FullGroup, Geodesics, Metric
from sharpbench_measures.geodesic_reference import reference_one_step
from sharpbench_measures.minimum import find_full_group


@dataclass(frozen=True)
class Geodesic(Measure):
    """E_B max over |xi| <= rho of L_B(gamma_xi(1)) - L_B(theta): the rise at the ends of short geodesics.

    The weights of each pair that the network uses only as G H^T (queries and keys, values and output projection of
    each attention head, with the biases of queries, keys and values as further rows; two linear layers with nothing
    in between) are a point of the quotient by GL(h). There xi is horizontal, |xi| its length in the metric, and
    gamma_xi the geodesic to second order, theta + xi - Gamma(xi, xi) / 2 (equations 5, 11 and 12). Other weights w
    move along straight lines with |xi / w|_2, as in adaptive sharpness; those that are 0 are frozen (details.frozen).
    Without such pairs this is `adaptive`.

    metric: inv, tr (G^T G)^-1 xi_G^T xi_G + tr (H^T H)^-1 xi_H^T xi_H (equation 9), or mix, tr (H^T H) xi_G^T xi_G +
        tr (G^T G) xi_H^T xi_H (equation 10).
    rho: of the ball; our choice, that of `adaptive`, since the paper states none.
    steps: of Auto-PGD from 0 in coordinates in which the ball is Euclidean; with one step, its end.
    micro_batch: consecutive examples; none for all in one.
    Deviations from the paper: Auto-PGD's momentum, restarts and projection are as its authors define them. Gram
    matrices are not relaxed: where a pair has no full rank (more units than inputs, or dead ones), or a weight is in
    two pairs, the measure is not applicable.
    """

    name: ClassVar[str] = "geodesic"
    title: ClassVar[str] = "geodesic sharpness"
    family: ClassVar[str] = "perturbation"
    source: ClassVar[str] = (
        "da Silva, Dangel, Oore 2025, Hide & Seek: Transformer Symmetries Obscure Sharpness & Riemannian Geometry "
        "Finds It, equations 4, 5, 9 to 12, appendix C"
    )
    definition: ClassVar[str] = (
        "E_B max_{|xi| <= rho} L_B(theta + xi - Gamma(xi, xi) / 2) - L_B(theta), xi horizontal in pairs G H^T"
    )
    reduction: ClassVar[str] = "mean over examples; mean over micro-batches of 128 in order, by their size"
    included: ClassVar[str] = (
        "all parameters under measurement, biases included; outside of pairs those that are 0 do not move"
    )
    cost: ClassVar[str] = "21 gradients"
    bibtex: ClassVar[str] = """@inproceedings{dasilva2025hide,
  title = {Hide & Seek: Transformer Symmetries Obscure Sharpness & {R}iemannian Geometry Finds It},
  author = {da Silva, Marvin F. and Dangel, Felix and Oore, Sageev},
  booktitle = {International Conference on Machine Learning},
  year = {2025},
  eprint = {2505.05409},
  archiveprefix = {arXiv}
}"""
    depends: ClassVar[frozenset[Dependence]] = frozenset({"micro-batches"})
    oracle_limit: ClassVar[int | None] = DENSE_LIMIT
    metric: Metric = "inv"
    rho: float = 0.5
    steps: int = 20
    micro_batch: int | None = 128

    def __post_init__(self) -> None:
        check_worst_case(self.rho, self.steps, self.micro_batch)

    def __call__(self, subject: Subject, *, generator: torch.Generator) -> Estimate:
        """See Measure; deterministic."""
        group = find_full_group(subject, generator)
        try:
            geodesics = Geodesics.of(subject.params, group.blocks, self.metric)
        except InvalidInput as error:
            raise NotApplicable(f"no geodesics: {error}") from error
        found = largest_rise(
            subject, geodesics, radius=self.rho, norm="l2", steps=self.steps, micro_batch=self.micro_batch
        )
        shown = {"blocks": group.words}
        counts = {"restricted": group.restricted, "frozen": _count_frozen(subject, group)}
        return replace(found, details={**found.details, **shown, **counts})

    def exact(self, subject: Subject) -> float | None:
        """For one step by the paper's formulas, gradients by plain autograd; None for more."""
        if self.steps > 1:
            return None
        group = find_full_group(subject, torch.Generator().manual_seed(0))
        return reference_one_step(subject, group.blocks, self.metric, radius=self.rho, micro_batch=self.micro_batch)

    def invariances(self) -> frozenset[Invariance]:
        """What mixes the units of a pair, and orders of units. Scales of a norm before a pair change the metric."""
        return frozenset({"permutation", "attention-rotation", "attention-gl"})


def _count_frozen(subject: Subject, group: FullGroup) -> int:
    inside = {each.parameter for block in group.blocks for each in block.occurrences}
    return sum(int((value == 0).sum()) for name, value in subject.params.items() if name not in inside)
