"""The path norm: the root of the sum over all paths of the product of squared weights."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch

from sharpbench import Estimate, InvalidInput, Invariance, Measure, NotApplicable, Subject
from sharpbench.curvature import input_ones, path_sum


@dataclass(frozen=True)
class PathNorm(Measure):
    """The root of the sum over all paths from an input or a bias to a logit of the product of squared weights on it.

    That is the root of the sum of the logits for squared weights and inputs of ones. squared=true omits the
    root. Eval-mode batch norms are folded into the layer that they follow. Not applicable if an operator is not
    positively homogeneous. Deviation: the paper treats linear layers with ReLU; max pools take the largest of their
    inputs and averages the mean, and a bias is the weight of a path that begins there.
    Cost: one forward pass of one example.
    """

    name: ClassVar[str] = "path-norm"
    title: ClassVar[str] = "path norm"
    family: ClassVar[str] = "norm"
    source: ClassVar[str] = (
        "Neyshabur, Tomioka, Srebro 2015, Norm-Based Capacity Control in Neural Networks; Neyshabur, Salakhutdinov, "
        "Srebro 2015, Path-SGD"
    )
    definition: ClassVar[str] = "sqrt(sum over paths of prod_(e on the path) theta_e^2) = sqrt(sum_k f_k(theta^2, 1))"
    reduction: ClassVar[str] = "sum over paths: no data"
    included: ClassVar[str] = "all weights and biases of the network, measured or not, batch norms folded in"
    cost: ClassVar[str] = "one forward pass of one example"
    bibtex: ClassVar[str] = """@inproceedings{neyshabur2015norm,
  title = {Norm-Based Capacity Control in Neural Networks},
  author = {Neyshabur, Behnam and Tomioka, Ryota and Srebro, Nathan},
  booktitle = {Conference on Learning Theory},
  year = {2015}
}"""
    squared: bool = False

    def __call__(self, subject: Subject, *, generator: torch.Generator) -> Estimate:
        """See Measure; deterministic."""
        square = _square(subject)
        return Estimate(square if self.squared else math.sqrt(square))

    def exact(self, subject: Subject) -> float | None:
        """The network itself with squared weights on ones; None if it has buffers, as with batch norms."""
        _square(subject)
        if any(name not in dict(subject.module.named_parameters()) for name in subject.constants):
            return None
        double = subject.to(dtype=torch.float64)
        constants = {name: value.square() for name, value in double.constants.items()}
        weights = {**constants, **{name: value.square() for name, value in double.params.items()}}
        square = float(double.apply(weights, input_ones(double)).sum())
        return square if self.squared else math.sqrt(square)

    def invariances(self) -> frozenset[Invariance]:
        """The factors on a path cancel for all rescaled units."""
        return frozenset({"layer", "unit", "element", "permutation"})


def _square(subject: Subject) -> float:
    try:
        square = path_sum(subject)
    except InvalidInput as error:
        raise NotApplicable(f"no paths: {error}") from error
    if not math.isfinite(square):
        raise NotApplicable(f"the sum over paths is {square}: the weights are too large for their products")
    return square
