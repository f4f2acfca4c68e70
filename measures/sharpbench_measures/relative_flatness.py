"""The curvature of one linear layer, weighted by the products of its weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sharpbench import Estimate, InvalidInput, Invariance, Measure, NotApplicable, Subject
from sharpbench.curvature import LinearLayer, linear_layer, softmax_variance

BLOCK_LIMIT = 2_000
"""The largest number of weights of a layer whose Hessian the oracle forms."""


@dataclass(frozen=True)
class RelativeFlatness(Measure):
    """kappa = sum_{s,s'} <w_s, w_s'> tr H_ss', over the rows w_s of one linear layer's weight, its bias excluded.

    H_ss' is the block of the Hessian of the mean loss by rows s and s', also where the network is smooth.
    layer: last, the one whose outputs are the logits; or the name of a weight or of its module.
    standardise: divide each feature that the layer reads by its standard deviation over the examples and multiply
        its column by it, as in the paper's experiments, so that rescaling single neurons changes nothing. Constant
        features are divided by their modulus instead; those that are always 0 are left out; both are counted
        (details.constant).
    For cross entropy and the last layer kappa is the mean of |phi|^2 Var_{k ~ p}(w_k), phi the features: its closed
    form, without cancellation. Elsewhere products with the Hessian by the layer's outputs, exact for every network.
    Deviation from the paper: none; its code leaves the columns of constant features as they are, so that their scale
    matters, while here they are treated as above.
    """

    name: ClassVar[str] = "relative-flatness"
    title: ClassVar[str] = "relative flatness"
    family: ClassVar[str] = "rescaled curvature"
    source: ClassVar[str] = (
        "Petzka, Kamp, Adilova, Sminchisescu, Boley 2021, Relative Flatness and Generalization, section 3"
    )
    definition: ClassVar[str] = "kappa_Tr = sum_{s,s'} <w_s, w_s'> tr H_ss', rows w_s of one linear layer"
    reduction: ClassVar[str] = "mean over examples"
    included: ClassVar[str] = "the weight of one linear layer (default the last), its bias excluded"
    cost: ClassVar[str] = "about 1 forward pass (last layer); else min(in, out) Hessian products behind the layer"
    bibtex: ClassVar[str] = """@inproceedings{petzka2021relative,
  title = {Relative Flatness and Generalization},
  author = {Petzka, Henning and Kamp, Michael and Adilova, Linara and Sminchisescu, Cristian and Boley, Mario},
  booktitle = {Advances in Neural Information Processing Systems},
  volume = {34},
  year = {2021},
  eprint = {2001.00939},
  archiveprefix = {arXiv}
}"""
    layer: str = "last"
    standardise: bool = False

    def __call__(self, subject: Subject, *, generator: torch.Generator) -> Estimate:
        """See Measure; deterministic."""
        layer = self._layer(subject)
        divided, multiplied, constant = self._scales(layer)
        closed = layer.last and subject.criterion.kind == "cross_entropy"
        form = _closed_form if closed else LinearLayer.weighted_trace
        return Estimate(
            float(form(layer, divided, multiplied)),
            details={
                "layer": layer.name,
                "method": "closed form" if closed else "hessian products",
                "constant": constant,
            },
        )

    def exact(self, subject: Subject) -> float | None:
        """The Hessian of the layer's weight in full; None for layers of more than BLOCK_LIMIT weights."""
        layer = self._layer(subject)
        if layer.weight.numel() > BLOCK_LIMIT:
            return None
        divided, multiplied, _ = self._scales(layer)

        def loss(weight: Tensor) -> Tensor:
            return subject.loss({**subject.params, layer.name: weight})

        hessian = torch.func.jacrev(torch.func.grad(loss), chunk_size=64)(layer.weight)  # [out, in, out, in]
        traces = torch.einsum("sitj,ij->st", hessian, torch.diag(divided.square()))
        weights = layer.weight * multiplied
        return float((weights @ weights.T * traces).sum())

    def invariances(self) -> frozenset[Invariance]:
        """Layer-wise and orthogonal rewrites; with standardise also rescalings of single units."""
        found: frozenset[Invariance] = frozenset({"layer", "permutation", "attention-rotation"})
        return found | {"unit", "element"} if self.standardise else found

    def _layer(self, subject: Subject) -> LinearLayer:
        try:
            return linear_layer(subject, None if self.layer == "last" else self.layer)
        except InvalidInput as error:
            raise NotApplicable(f"no relative flatness: {error}") from error

    def _scales(self, layer: LinearLayer) -> tuple[Tensor, Tensor, int]:
        """The factors of features and of columns, [in] each, and the number of constant features."""
        ones = torch.ones_like(layer.weight[0])
        if not self.standardise:
            return ones, ones, 0
        spread = layer.spread()
        modulus = layer.mean(lambda features, logits, target: features.abs().mean(0))
        scale = torch.where(spread > 0, spread, modulus)
        return 1 / torch.where(scale > 0, scale, ones), scale, int((spread == 0).sum())


def _closed_form(layer: LinearLayer, divided: Tensor, multiplied: Tensor) -> Tensor:
    """mean |phi|^2 Var_{k ~ p}(w_k), with the scaled features and columns."""
    weights = layer.weight * multiplied

    def one(features: Tensor, logits: Tensor, target: Tensor) -> Tensor:
        return (features * divided).square().sum() * softmax_variance(
            logits.expand(weights.shape[::-1]), weights.T
        ).sum()

    return layer.mean(one)
