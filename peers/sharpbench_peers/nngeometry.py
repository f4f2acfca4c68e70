"""nngeometry: the trace and the diagonal of the Fisher matrix from hooks on layers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from sharpbench import Estimate, Invariance, Quantity, Subject
from sharpbench.curvature import DENSE_LIMIT
from sharpbench_peers.citations import NNGEOMETRY
from sharpbench_peers.handover import Handover, check_finite, handover
from sharpbench_peers.library import Library
from sharpbench_peers.peer import Peer
from sharpbench_peers.references import fisher_to_ggn, reference_trace

LIBRARY = Library("nngeometry", "nngeometry", "nngeometry", (r".torch.jit.script. is deprecated",))
VARIANTS = {"cross_entropy": "classif_logits", "mse": "regression"}


@dataclass(frozen=True)
class NngeometryTrace(Peer):
    """tr F by nngeometry's FIM in the representation PMatImplicit; F is the Gauss-Newton matrix of the loss.

    Its layer collection holds all parameters of known layers, whether they require gradients or not, and no other
    parameters. Under mse its likelihood has unit variance, and the value here is 2 / C times nngeometry's. The diagonal
    is that of PMatDiag; the entries of parameters without a known layer are zero, as in its sum.
    """

    name: ClassVar[str] = "nngeometry-trace"
    title: ClassVar[str] = "trace of the Fisher matrix by nngeometry"
    family: ClassVar[str] = "Fisher information"
    source: ClassVar[str] = "George 2021, NNGeometry; Tanabe, Sagae 1992 for the root of the output's Fisher matrix"
    oracle_limit: ClassVar[int | None] = DENSE_LIMIT
    definition: ClassVar[str] = "tr F = (1/n) sum_i tr J_i^T Lambda_i J_i"
    reduction: ClassVar[str] = "mean over examples, natural logarithm; sum over the parameters of known layers"
    included: ClassVar[str] = "all parameters of its known layers, also frozen ones, biases included"
    cost: ClassVar[str] = "C - 1 backward passes, C under mse"
    bibtex: ClassVar[str] = NNGEOMETRY
    quantity: ClassVar[Quantity | None] = "trace"

    def __call__(self, subject: Subject, *, generator: torch.Generator) -> Estimate:
        """See Measure; deterministic."""
        with handover(subject, LIBRARY, generator=None) as given:
            value = float(_make_fisher(subject, given, "PMatImplicit").trace()) * fisher_to_ggn(subject)
        return Estimate(check_finite(value, LIBRARY), details={"library": LIBRARY.version()})

    def exact(self, subject: Subject) -> float | None:
        """The trace of the Gauss-Newton matrix by its definition."""
        return reference_trace(subject, "gauss-newton")

    def invariances(self) -> frozenset[Invariance]:
        """Only orthogonal rewrites."""
        return frozenset({"permutation", "attention-rotation"})

    def diagonal_entries(self, subject: Subject, *, generator: torch.Generator) -> dict[str, Tensor]:
        """The diagonal by nngeometry."""
        with handover(subject, LIBRARY, generator=None) as given:
            matrix = _make_fisher(subject, given, "PMatDiag")
            backend = matrix.generator
            known = list(backend.layer_collection.named_parameters(backend.l_to_m))
            pieces = matrix.get_diag().detach().split([value.numel() for _, value in known])
            diagonal_of = {id(value): piece for (_, value), piece in zip(known, pieces, strict=True)}
            scale = fisher_to_ggn(subject)
            return {
                name: diagonal_of[id(value)].reshape(value.shape) * scale
                if id(value) in diagonal_of
                else torch.zeros_like(value).detach()
                for name, value in given.parameters.items()
            }


def _make_fisher(subject: Subject, given: Handover, representation: str) -> Any:
    examples = TensorDataset(
        torch.cat([inputs for inputs, _ in given.batches]), torch.cat([targets for _, targets in given.batches])
    )
    return LIBRARY.module("metrics").FIM(
        given.module,
        DataLoader(examples, batch_size=subject.batch_size),
        getattr(LIBRARY.module("object"), representation),
        variant=VARIANTS[subject.criterion.kind],
        device=subject.device,
    )
