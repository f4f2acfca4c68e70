"""Norms of the weights, and of their distance from the initial weights."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch

from sharpbench import Estimate, Invariance, Measure, NotApplicable, Params, Subject

SOURCE = "Jiang, Neyshabur, Mobahi, Krishnan, Bengio 2020, Fantastic Generalization Measures and Where to Find Them"
BIBTEX = """@inproceedings{jiang2020fantastic,
  title = {Fantastic Generalization Measures and Where to Find Them},
  author = {Jiang, Yiding and Neyshabur, Behnam and Mobahi, Hossein and Krishnan, Dilip and Bengio, Samy},
  booktitle = {International Conference on Learning Representations},
  year = {2020}
}"""


@dataclass(frozen=True)
class ParameterNorm(Measure):
    """|theta|_2^2, the sum of the squares of all parameters under measurement, biases included.

    root=true reports the norm. No data are used. Deviation: the paper sums only over weight matrices.
    """

    name: ClassVar[str] = "parameter-norm"
    title: ClassVar[str] = "squared norm of the parameters"
    family: ClassVar[str] = "norm"
    source: ClassVar[str] = SOURCE
    definition: ClassVar[str] = "|theta|_2^2"
    reduction: ClassVar[str] = "none: no data"
    included: ClassVar[str] = "all parameters under measurement, biases included"
    cost: ClassVar[str] = "none"
    bibtex: ClassVar[str] = BIBTEX
    root: bool = False

    def __call__(self, subject: Subject, *, generator: torch.Generator) -> Estimate:
        """See Measure; deterministic."""
        return _estimate(subject.params, root=self.root)

    def exact(self, subject: Subject) -> float | None:
        """The sum over all weights, one by one."""
        return _one_by_one(subject.params, root=self.root)

    def invariances(self) -> frozenset[Invariance]:
        """Only orthogonal rewrites."""
        return frozenset({"permutation", "attention-rotation"})


@dataclass(frozen=True)
class DistanceFromInitialisation(Measure):
    """|theta - theta_0|_2^2, theta_0 the weights before training, over all parameters under measurement.

    root=true reports the distance. Not applicable if the initial weights are unknown. Deviation: the paper sums
    only over weight matrices.
    """

    name: ClassVar[str] = "distance-from-initialisation"
    title: ClassVar[str] = "squared distance of the parameters from where training began"
    family: ClassVar[str] = "norm"
    source: ClassVar[str] = SOURCE
    definition: ClassVar[str] = "|theta - theta_0|_2^2"
    reduction: ClassVar[str] = "none: no data"
    included: ClassVar[str] = "all parameters under measurement, biases included"
    cost: ClassVar[str] = "none"
    bibtex: ClassVar[str] = BIBTEX
    root: bool = False

    def __call__(self, subject: Subject, *, generator: torch.Generator) -> Estimate:
        """See Measure; deterministic."""
        return _estimate(weight_changes(subject), root=self.root)

    def exact(self, subject: Subject) -> float | None:
        """The sum over all weights, one by one; None without initial weights."""
        return None if subject.initial is None else _one_by_one(weight_changes(subject), root=self.root)

    def invariances(self) -> frozenset[Invariance]:
        """None: a rewrite of the network does not move the initial weights."""
        return frozenset()


def weight_changes(subject: Subject) -> Params:
    """theta - theta_0 in float64. Raises NotApplicable if theta_0 is unknown, or is that of another network."""
    if subject.initial is None:
        raise NotApplicable("the weights before training are not known; give initial= to Subject.from_module")
    for name, value in subject.params.items():
        if name not in subject.initial or subject.initial[name].shape != value.shape:
            raise NotApplicable(f"the initial weights hold no {name} of shape {list(value.shape)}")
    return {name: value.double() - subject.initial[name].double() for name, value in subject.params.items()}


def _estimate(tensors: Params, *, root: bool) -> Estimate:
    parts = {name: float(value.double().square().sum()) for name, value in tensors.items()}
    square = sum(parts.values())
    return Estimate(math.sqrt(square)) if root else Estimate(square, parts=parts)


def _one_by_one(tensors: Params, *, root: bool) -> float:
    square = math.fsum(entry * entry for value in tensors.values() for entry in value.double().flatten().tolist())
    return math.sqrt(square) if root else square
