"""Norms of the weights: their length, and how far they are from where training began."""

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

    root=true reports the norm. No data are looked at. Deviation: the paper sums over weight matrices alone.
    """

    name: ClassVar[str] = "parameter-norm"
    title: ClassVar[str] = "squared norm of the parameters"
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
        """One weight after the other."""
        return _one_by_one(subject.params, root=self.root)

    def invariances(self) -> frozenset[Invariance]:
        """Orthogonal rewrites alone."""
        return frozenset({"permutation", "attention-rotation"})


@dataclass(frozen=True)
class DistanceFromInitialisation(Measure):
    """|theta - theta_0|_2^2, theta_0 the weights before training, over all parameters under measurement.

    root=true reports the distance. Not applicable where the initial weights are not known. Deviation: the paper
    sums over weight matrices alone.
    """

    name: ClassVar[str] = "distance-from-initialisation"
    title: ClassVar[str] = "squared distance of the parameters from where training began"
    source: ClassVar[str] = SOURCE
    definition: ClassVar[str] = "|theta - theta_0|_2^2"
    reduction: ClassVar[str] = "none: no data"
    included: ClassVar[str] = "all parameters under measurement, biases included"
    cost: ClassVar[str] = "none"
    bibtex: ClassVar[str] = BIBTEX
    root: bool = False

    def __call__(self, subject: Subject, *, generator: torch.Generator) -> Estimate:
        """See Measure; deterministic."""
        return _estimate(moves(subject), root=self.root)

    def exact(self, subject: Subject) -> float | None:
        """One weight after the other; None without initial weights."""
        return None if subject.initial is None else _one_by_one(moves(subject), root=self.root)

    def invariances(self) -> frozenset[Invariance]:
        """None: the initial weights stay where they are when the network is rewritten."""
        return frozenset()


def moves(subject: Subject) -> Params:
    """theta - theta_0 in float64; NotApplicable where theta_0 is not known, or is that of another network."""
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
