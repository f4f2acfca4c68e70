"""asdl: the diagonal of the Fisher matrix from hooks on layers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from sharpbench import Estimate, Invariance, Quantity, Subject
from sharpbench.curvature import DENSE_LIMIT
from sharpbench_peers.bounds import check_samples
from sharpbench_peers.citations import ASDL
from sharpbench_peers.handover import Handover, check_finite, handover
from sharpbench_peers.library import Library
from sharpbench_peers.peer import Peer
from sharpbench_peers.references import fisher_to_ggn, reference_trace

LIBRARY = Library(
    "asdl",
    "asdfghjkl",
    "asdl",
    (
        "Using a non-full backward hook",
        r".torch.jit.script. is deprecated",
        "Using non-full backward hooks",
        r".* operation is not supported for",
        "For backward hooks to be called",
    ),
)


@dataclass(frozen=True)
class AsdlTrace(Peer):
    """The sum of asdl's diagonal of the Fisher matrix, which is the Gauss-Newton matrix of the loss.

    method: exact, or monte-carlo with `samples` targets per example drawn from the network's own distribution.
    asdl silently leaves out layers for which it has no operation. Under mse its likelihood has unit variance, and the
    value here is 2 / C times asdl's. In the diagonal, parameters that it leaves out are zero, as in its sum.
    """

    name: ClassVar[str] = "asdl-trace"
    title: ClassVar[str] = "trace of the Fisher matrix by asdl"
    family: ClassVar[str] = "Fisher information"
    source: ClassVar[str] = "Osawa et al. 2023, ASDL: A Unified Interface for Gradient Preconditioning in PyTorch"
    oracle_limit: ClassVar[int | None] = DENSE_LIMIT
    definition: ClassVar[str] = "tr F = (1/n) sum_i sum_k p_k |grad log p_k|^2"
    reduction: ClassVar[str] = "mean over examples, natural logarithm; sum over the parameters of known layers"
    included: ClassVar[str] = "all parameters under measurement of its known layers, biases included"
    cost: ClassVar[str] = "C backward passes; `samples` with method=monte-carlo"
    bibtex: ClassVar[str] = ASDL
    quantity: ClassVar[Quantity | None] = "trace"
    contests: ClassVar[tuple[str, ...]] = ("", "method=monte-carlo,samples=1", "method=monte-carlo,samples=10")
    method: Literal["exact", "monte-carlo"] = "exact"
    samples: int = 1

    def __post_init__(self) -> None:
        check_samples(self.samples)

    def __call__(self, subject: Subject, *, generator: torch.Generator) -> Estimate:
        """See Measure; deterministic with method=exact."""
        with handover(subject, LIBRARY, generator=self._draws(generator)) as given:
            parts = {name: float(value.sum()) for name, value in self._entries(subject, given).items()}
        value, details = check_finite(sum(parts.values()), LIBRARY), {"library": LIBRARY.version()}
        if self.method == "exact":
            return Estimate(value, parts=parts, details=details)
        return Estimate(value, stderr=None, parts=parts, probes=self.samples, details=details)

    def exact(self, subject: Subject) -> float | None:
        """The trace of the Gauss-Newton matrix by its definition."""
        return reference_trace(subject, "gauss-newton")

    def invariances(self) -> frozenset[Invariance]:
        """Orthogonal rewrites, if nothing is drawn."""
        return frozenset({"permutation", "attention-rotation"} if self.method == "exact" else ())

    def diagonal_entries(self, subject: Subject, *, generator: torch.Generator) -> dict[str, Tensor]:
        """The diagonal by asdl, zero for parameters that it leaves out."""
        with handover(subject, LIBRARY, generator=self._draws(generator)) as given:
            blank = {name: torch.zeros_like(value).detach() for name, value in given.parameters.items()}
            return blank | self._entries(subject, given)

    def _draws(self, generator: torch.Generator) -> torch.Generator | None:
        return None if self.method == "exact" else generator

    def _entries(self, subject: Subject, given: Handover) -> dict[str, Tensor]:
        """The diagonals that asdl stores on the modules, by parameter; for a tied parameter their sum."""
        library = LIBRARY.module()
        config = library.FisherConfig(
            fisher_type=library.FISHER_EXACT if self.method == "exact" else library.FISHER_MC,
            fisher_shapes=[library.SHAPE_DIAG],
            loss_type=library.LOSS_CROSS_ENTROPY if subject.criterion.kind == "cross_entropy" else library.LOSS_MSE,
            n_mc_samples=self.samples,
            data_size=subject.n,
        )
        maker = library.get_fisher_maker(given.module, config)
        for position, (inputs, _) in enumerate(given.batches):
            maker.setup_model_call(given.module, inputs)
            maker.forward_and_backward(accumulate=position > 0)
        names = {id(value): name for name, value in given.parameters.items()}
        scale = fisher_to_ggn(subject)
        total: dict[str, Tensor] = {}
        for module in given.module.modules():
            for name, found in _module_diagonals(module, names):
                total[name] = total.get(name, 0.0) + found * scale
        return total


def _module_diagonals(module: nn.Module, names: dict[int, str]) -> Iterator[tuple[str, Tensor]]:
    diagonal = getattr(getattr(module, "fisher", None), "diag", None)
    for word in ("weight", "bias"):
        found, parameter = getattr(diagonal, word, None), getattr(module, word, None)
        if isinstance(found, Tensor) and id(parameter) in names:
            yield names[id(parameter)], found.detach()
