"""Products of the layers' spectral and Frobenius norms."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sharpbench import Estimate, InvalidInput, Invariance, Measure, NotApplicable, Subject
from sharpbench.curvature import chain
from sharpbench_measures.norms import BIBTEX, SOURCE

INCLUDED = "weights of all linear layers and convolutions, measured or not, batch norms folded in; biases excluded"


@dataclass(frozen=True)
class SpectralProduct(Measure):
    """sum_l log |W_l|_2^2 over the layers l of a chain, the logarithm of their squared spectral norms' product.

    Kernels are reshaped to [out, in * positions], whose norm the paper bounds, not that of the convolution as a map of
    images. Eval-mode batch norms are folded into the layer that they follow. Not applicable unless the network is a
    chain of layers with positively homogeneous activations: for others the product bounds nothing, and layer-wise
    rescalings change it.
    """

    name: ClassVar[str] = "spectral-product"
    title: ClassVar[str] = "log product of the layers' squared spectral norms"
    family: ClassVar[str] = "norm"
    source: ClassVar[str] = f"{SOURCE}; Bartlett, Foster, Telgarsky 2017, Spectrally-Normalized Margin Bounds"
    definition: ClassVar[str] = "sum_l log |W_l|_2^2"
    reduction: ClassVar[str] = "sum over layers: no data"
    included: ClassVar[str] = INCLUDED
    cost: ClassVar[str] = "one singular value decomposition per layer"
    bibtex: ClassVar[str] = BIBTEX

    def __call__(self, subject: Subject, *, generator: torch.Generator) -> Estimate:
        """See Measure; deterministic."""
        return _estimate(subject, lambda weight: float(torch.linalg.matrix_norm(weight, 2)))

    def exact(self, subject: Subject) -> float | None:
        """The largest eigenvalues of W W^T; None if one is 0."""
        return _logarithm([float(torch.linalg.eigvalsh(weight @ weight.T)[-1]) for _, weight in _weights(subject)])

    def invariances(self) -> frozenset[Invariance]:
        """The factors of a chain's layers cancel; those of units do not."""
        return frozenset({"layer", "permutation"})


@dataclass(frozen=True)
class FrobeniusProduct(Measure):
    """sum_l log |W_l|_F^2 over the layers l of a chain, the logarithm of their squared Frobenius norms' product.

    Batch norms and applicability: as for `spectral-product`.
    """

    name: ClassVar[str] = "frobenius-product"
    title: ClassVar[str] = "log product of the layers' squared Frobenius norms"
    family: ClassVar[str] = "norm"
    source: ClassVar[str] = SOURCE
    definition: ClassVar[str] = "sum_l log |W_l|_F^2"
    reduction: ClassVar[str] = "sum over layers: no data"
    included: ClassVar[str] = INCLUDED
    cost: ClassVar[str] = "none"
    bibtex: ClassVar[str] = BIBTEX

    def __call__(self, subject: Subject, *, generator: torch.Generator) -> Estimate:
        """See Measure; deterministic."""
        return _estimate(subject, lambda weight: float(torch.linalg.matrix_norm(weight)))

    def exact(self, subject: Subject) -> float | None:
        """The sum over all weights, one by one; None if all weights of a layer are 0."""
        return _logarithm(
            [math.fsum(entry * entry for entry in weight.flatten().tolist()) for _, weight in _weights(subject)]
        )

    def invariances(self) -> frozenset[Invariance]:
        """The factors of a chain's layers cancel; those of units do not."""
        return frozenset({"layer", "permutation"})


def _estimate(subject: Subject, norm: Callable[[Tensor], float]) -> Estimate:
    norms = [(name, norm(weight)) for name, weight in _weights(subject)]
    zero = [name for name, size in norms if size == 0]
    if zero:
        raise NotApplicable(f"{zero[0]} is 0: its norm has no logarithm")
    logarithms = [(name, 2 * math.log(size)) for name, size in norms]
    parts = {name: math.fsum(each for other, each in logarithms if other == name) for name, _ in logarithms}
    return Estimate(math.fsum(parts.values()), parts=parts, details={"layers": len(norms)})


def _logarithm(squares: list[float]) -> float | None:
    """The logarithm of their product; None if it is 0."""
    return math.fsum(map(math.log, squares)) if min(squares) > 0 else None


def _weights(subject: Subject) -> list[tuple[str, Tensor]]:
    """The layers' names and weights [out, rest] in float64."""
    try:
        return [(layer.name, layer.weight.flatten(1)) for layer in chain(subject)]
    except InvalidInput as error:
        raise NotApplicable(f"no product over layers: {error}") from error
