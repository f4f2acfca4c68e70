"""Trivial baselines, which any measure of sharpness should outperform."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, get_args

import torch
from torch import Tensor

from sharpbench import Estimate, Inputs, Invariance, Measure, Params, Subject
from sharpbench.curvature import gradient_method, plain_gradient
from sharpbench_measures.norms import BIBTEX, SOURCE


@dataclass(frozen=True)
class ParameterCount(Measure):
    """P, the number of scalar parameters under measurement, biases included. Neither data nor weights matter."""

    name: ClassVar[str] = "parameter-count"
    title: ClassVar[str] = "number of parameters"
    family: ClassVar[str] = "reference"
    source: ClassVar[str] = SOURCE
    definition: ClassVar[str] = "P"
    reduction: ClassVar[str] = "none: no data"
    included: ClassVar[str] = "all parameters under measurement, biases included"
    cost: ClassVar[str] = "none"
    bibtex: ClassVar[str] = BIBTEX

    def __call__(self, subject: Subject, *, generator: torch.Generator) -> Estimate:
        """See Measure; deterministic."""
        parts = {name: float(value.numel()) for name, value in subject.params.items()}
        return Estimate(sum(parts.values()), parts=parts)

    def exact(self, subject: Subject) -> float | None:
        """The count of the entries, one by one."""
        return float(sum(1 for value in subject.params.values() for _ in value.flatten().tolist()))

    def invariances(self) -> frozenset[Invariance]:
        """All kinds."""
        return frozenset(get_args(Invariance))


@dataclass(frozen=True)
class GradientNorm(Measure):
    """|grad L|_2, the norm of the gradient of the mean loss, biases included.

    Times rho it is the worst-case sharpness of a small radius rho, to first order. Cost: one gradient.
    """

    name: ClassVar[str] = "gradient-norm"
    title: ClassVar[str] = "norm of the gradient"
    family: ClassVar[str] = "reference"
    source: ClassVar[str] = (
        "Zhao, Zhang, Hu 2022, Penalizing Gradient Norm for Efficiently Improving Generalization in Deep Learning"
    )
    definition: ClassVar[str] = "|grad L(theta)|_2"
    reduction: ClassVar[str] = "norm of the mean over examples"
    included: ClassVar[str] = "all parameters under measurement, biases included"
    cost: ClassVar[str] = "1 gradient"
    bibtex: ClassVar[str] = """@inproceedings{zhao2022penalizing,
  title = {Penalizing Gradient Norm for Efficiently Improving Generalization in Deep Learning},
  author = {Zhao, Yang and Zhang, Hao and Hu, Xiuyuan},
  booktitle = {International Conference on Machine Learning},
  year = {2022}
}"""

    def __call__(self, subject: Subject, *, generator: torch.Generator) -> Estimate:
        """See Measure; deterministic."""
        method = gradient_method(subject)

        def gradient_of(inputs: Inputs, targets: Tensor) -> Params:
            def loss(params: Params) -> Tensor:
                return subject.criterion(subject.apply(params, inputs), targets).mean()

            return method.gradient_and_value(loss, subject.params)[0]

        return Estimate(_norm(subject.mean(gradient_of)))

    def exact(self, subject: Subject) -> float | None:
        """The mean of the examples' own gradients, by torch.autograd."""
        total = {name: torch.zeros_like(value) for name, value in subject.params.items()}
        for example, target in subject.split():

            def loss(params: Params, example: Inputs = example, target: Tensor = target) -> Tensor:
                return subject.criterion(subject.apply(params, example), target).sum()

            for name, slope in plain_gradient(loss, subject.params).items():
                total[name] += slope / subject.n
        return _norm(total)

    def invariances(self) -> frozenset[Invariance]:
        """Only orthogonal rewrites."""
        return frozenset({"permutation", "attention-rotation"})


def _norm(tensors: Params) -> float:
    return math.sqrt(sum(float(value.double().square().sum()) for value in tensors.values()))
