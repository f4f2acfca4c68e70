"""BackPACK: diagonals of the Hessian and the Gauss-Newton matrix, computed during a backward pass."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from sharpbench import Estimate, InvalidInput, Invariance, NotApplicable, Quantity, Subject
from sharpbench.curvature import DENSE_LIMIT
from sharpbench_peers.bounds import check_samples
from sharpbench_peers.citations import BACKPACK
from sharpbench_peers.handover import (
    Handover,
    check_finite,
    copy_module,
    describe_error,
    handover,
    is_own_error,
    measured_parameters,
    prepare,
    take_prepared,
)
from sharpbench_peers.library import Library
from sharpbench_peers.peer import Peer
from sharpbench_peers.references import Matrix, reference_trace
from sharpbench_peers.sequential import to_sequential

LIBRARY = Library(
    "BackPACK",
    "backpack-for-pytorch",
    "backpack",
    ("Encountered node that may break second-order extensions", "Full backward hook is firing when gradients"),
)
EXTENSIONS = {
    ("hessian", "exact"): ("DiagHessian", "diag_h"),
    ("gauss-newton", "exact"): ("DiagGGNExact", "diag_ggn_exact"),
    ("gauss-newton", "monte-carlo"): ("DiagGGNMC", "diag_ggn_mc"),
}
Form = tuple[str, nn.Module, dict[str, nn.Parameter]]


@dataclass(frozen=True)
class BackpackTrace(Peer):
    """The sum of BackPACK's diagonal of the Hessian (DiagHessian) or the Gauss-Newton matrix (DiagGGNExact, DiagGGNMC).

    method: monte-carlo draws `samples` targets per example from the network's own distribution, only for the
    Gauss-Newton matrix. BackPACK's diagonal is that of a batch's mean loss; batches are weighted by their sizes here.
    BackPACK needs nn.Sequential. Another network is converted from its graph if that is a chain of operators;
    otherwise BackPACK's own converter is tried. details.form states the form.
    """

    name: ClassVar[str] = "backpack-trace"
    title: ClassVar[str] = "trace of the Hessian or the Gauss-Newton matrix by BackPACK"
    family: ClassVar[str] = "curvature"
    source: ClassVar[str] = "Dangel, Kunstner, Hennig 2020, BackPACK: Packing more into Backprop"
    oracle_limit: ClassVar[int | None] = DENSE_LIMIT
    definition: ClassVar[str] = "sum_j A_jj, A = H or G"
    reduction: ClassVar[str] = "mean over examples, natural logarithm; sum over parameters"
    included: ClassVar[str] = "all parameters under measurement, biases included"
    cost: ClassVar[str] = "one forward, one backward of C columns, of `samples` columns with method=monte-carlo"
    bibtex: ClassVar[str] = BACKPACK
    quantity: ClassVar[Quantity | None] = "trace"
    contests: ClassVar[tuple[str, ...]] = (
        "",
        "matrix=gauss-newton",
        "matrix=gauss-newton,method=monte-carlo,samples=1",
        "matrix=gauss-newton,method=monte-carlo,samples=10",
    )
    matrix: Matrix = "hessian"
    method: Literal["exact", "monte-carlo"] = "exact"
    samples: int = 1

    def __post_init__(self) -> None:
        check_samples(self.samples)
        if (self.matrix, self.method) not in EXTENSIONS:
            raise InvalidInput(f"method={self.method} requires matrix=gauss-newton, not {self.matrix}")

    def __call__(self, subject: Subject, *, generator: torch.Generator) -> Estimate:
        """See Measure; deterministic with method=exact."""
        form, entries = self._diagonal(subject, generator)
        parts = {name: float(value.sum()) for name, value in entries.items()}
        value, details = check_finite(sum(parts.values()), LIBRARY), {"library": LIBRARY.version(), "form": form}
        if self.method == "exact":
            return Estimate(value, parts=parts, details=details)
        return Estimate(value, stderr=None, parts=parts, probes=self.samples, details=details)

    def exact(self, subject: Subject) -> float | None:
        """The trace of the matrix by its definition."""
        return reference_trace(subject, self.matrix)

    def invariances(self) -> frozenset[Invariance]:
        """Orthogonal rewrites, if nothing is drawn."""
        return frozenset({"permutation", "attention-rotation"} if self.method == "exact" else ())

    def prepare(self, subject: Subject) -> None:
        """Make the first of the network's forms that can be made, extended for BackPACK."""
        prepare(subject, *_network_forms(subject))

    def diagonal_entries(self, subject: Subject, *, generator: torch.Generator) -> dict[str, Tensor]:
        """The diagonal by BackPACK."""
        return self._diagonal(subject, generator)[1]

    def _diagonal(self, subject: Subject, generator: torch.Generator) -> tuple[str, dict[str, Tensor]]:
        """The first of the network's forms that BackPACK accepts, and the diagonal.

        Raises NotApplicable with the reasons if it accepts none.
        """
        refusals: list[str] = []
        with handover(subject, LIBRARY, generator=None if self.method == "exact" else generator) as given:
            LIBRARY.module()
            for form in _network_forms(subject):
                try:
                    name, module, parameters = take_prepared(subject, form)
                    return name, self._entries(given, module, parameters)
                except (MemoryError, torch.OutOfMemoryError):
                    raise
                except NotApplicable as error:
                    refusals.append(str(error))
                except Exception as error:  # BackPACK raises errors of many types on unknown layers
                    if is_own_error(error, LIBRARY):
                        raise
                    refusals.append(f"{LIBRARY.title} raises {describe_error(error)}")
        raise NotApplicable(refusals[0] if isinstance(subject.module, nn.Sequential) else "; ".join(refusals))

    def _entries(self, given: Handover, module: nn.Module, parameters: dict[str, nn.Parameter]) -> dict[str, Tensor]:
        """The mean over all examples of the extension's results on an extended module."""
        library, extensions = LIBRARY.module(), LIBRARY.module("extensions")
        extension, field = EXTENSIONS[self.matrix, self.method]
        words = {"mc_samples": self.samples} if self.method == "monte-carlo" else {}
        loss = library.extend(given.loss)
        total = {name: torch.zeros_like(value) for name, value in parameters.items()}
        count = sum(len(targets) for _, targets in given.batches)
        for inputs, targets in given.batches:
            with library.backpack(getattr(extensions, extension)(**words)):
                loss(module(inputs), targets).backward()
            for name, parameter in parameters.items():
                if not hasattr(parameter, field):
                    raise NotApplicable(f"{LIBRARY.title} computes nothing for {name}")
                total[name] += getattr(parameter, field).detach() * (len(targets) / count)
                delattr(parameter, field)
                parameter.grad = None
        return total


def _network_forms(subject: Subject) -> tuple[Callable[[Subject], Form], ...]:
    """The forms of the network in the order in which they are tried; nn.Sequential is first tried unchanged."""
    return (_form_unchanged if isinstance(subject.module, nn.Sequential) else _form_sequential), _form_converted


def _form_unchanged(subject: Subject) -> Form:
    return _extend("as it is", copy_module(subject))


def _form_sequential(subject: Subject) -> Form:
    row, parameters = to_sequential(subject)
    return "modules in a row", LIBRARY.module().extend(row), parameters


def _form_converted(subject: Subject) -> Form:
    return _extend("converter", copy_module(subject), use_converter=True)


def _extend(name: str, module: nn.Module, **words: bool) -> Form:
    return name, LIBRARY.module().extend(module, **words), measured_parameters(module)
