"""hessian-eigenthings: traces, and the top eigenvalue by Lanczos or power iteration."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch

from sharpbench import Dependence, Estimate, InvalidInput, Invariance, Quantity, Scalar, Subject
from sharpbench.curvature import DENSE_LIMIT, MATRIX_LIMIT, reference_eigenvalue
from sharpbench_peers.bounds import check_samples, check_tolerance
from sharpbench_peers.citations import EIGENTHINGS
from sharpbench_peers.handover import Handover, check_finite, handover
from sharpbench_peers.library import Library
from sharpbench_peers.peer import Peer
from sharpbench_peers.references import Matrix, reference_dominant_eigenvalue, reference_trace

LIBRARY = Library("hessian-eigenthings", "hessian-eigenthings", "hessian_eigenthings", (r".torch.jit.script. is",))
METHODS = {"hutchinson": "hutchinson", "hutchpp": "hutch++"}


@dataclass(frozen=True)
class EigenthingsTrace(Peer):
    """The trace of hessian-eigenthings' Hessian or Gauss-Newton operator from `samples` products.

    method: hutchinson or hutch++, which uses the next lower multiple of three. The library takes the plain mean
    over batches, so that a smaller last batch counts as much as the others; this is not corrected here.
    details.library_stderr is its own standard error, which ignores that. The library is given a seed; without one
    every call would draw the same probes.
    """

    name: ClassVar[str] = "eigenthings-trace"
    title: ClassVar[str] = "trace of the Hessian or the Gauss-Newton matrix by hessian-eigenthings"
    family: ClassVar[str] = "curvature"
    source: ClassVar[str] = (
        "Golmant et al. 2018, pytorch-hessian-eigenthings; Hutchinson 1990; Meyer et al. 2021, Hutch++"
    )
    depends: ClassVar[frozenset[Dependence]] = frozenset({"micro-batches"})
    oracle_limit: ClassVar[int | None] = DENSE_LIMIT
    definition: ClassVar[str] = "tr A from products A v with random signs v, A = the mean over batches of H or G"
    reduction: ClassVar[str] = "mean over the examples of a batch, then over batches; sum over parameters"
    included: ClassVar[str] = "all parameters under measurement, biases included"
    cost: ClassVar[str] = "`samples` products, by double backward or forward and backward"
    bibtex: ClassVar[str] = EIGENTHINGS
    quantity: ClassVar[Quantity | None] = "trace"
    contests: ClassVar[tuple[str, ...]] = (
        "samples=10",
        "samples=100",
        "method=hutchpp,samples=99",
        "matrix=gauss-newton,samples=10",
        "matrix=gauss-newton,samples=100",
        "matrix=gauss-newton,method=hutchpp,samples=99",
    )
    matrix: Matrix = "hessian"
    method: Literal["hutchinson", "hutchpp"] = "hutchinson"
    samples: int = 100

    def __post_init__(self) -> None:
        check_samples(self.samples)

    def __call__(self, subject: Subject, *, generator: torch.Generator) -> Estimate:
        """See Measure."""
        with handover(subject, LIBRARY, generator=generator) as given:
            found = LIBRARY.module().trace(
                _make_operator(given, self.matrix),
                num_matvecs=self.samples,
                method=METHODS[self.method],
                seed=given.seed,
            )
        products = self.samples if self.method == "hutchinson" else 3 * max(1, self.samples // 3)
        details: dict[str, Scalar] = {"library": LIBRARY.version(), "products": products}
        if math.isfinite(found.stderr):
            details["library_stderr"] = found.stderr
        value = check_finite(found.estimate, LIBRARY)
        return Estimate(value, stderr=None, probes=products, details=details)

    def exact(self, subject: Subject) -> float | None:
        """The trace of the matrix by its definition, with equal weights of all examples."""
        return reference_trace(subject, self.matrix)

    def invariances(self) -> frozenset[Invariance]:
        """None: the probes do not move with the units."""
        return frozenset()


@dataclass(frozen=True)
class EigenthingsTopEigenvalue(Peer):
    """The top eigenvalue of the Hessian by hessian-eigenthings.

    method: lanczos, the algebraically largest after `steps` products; or power, the one of the largest modulus, to
    `tolerance` or at most `steps` products. Batches count alike regardless of their size, as in eigenthings-trace.
    """

    name: ClassVar[str] = "eigenthings-top-eigenvalue"
    title: ClassVar[str] = "largest eigenvalue of the Hessian by hessian-eigenthings"
    family: ClassVar[str] = "curvature"
    source: ClassVar[str] = "Golmant et al. 2018, pytorch-hessian-eigenthings; Lanczos 1950"
    depends: ClassVar[frozenset[Dependence]] = frozenset({"micro-batches"})
    oracle_limit: ClassVar[int | None] = MATRIX_LIMIT
    definition: ClassVar[str] = "max_v v^T A v / v^T v, A = the mean over batches of H or G"
    reduction: ClassVar[str] = "mean over the examples of a batch, then over batches"
    included: ClassVar[str] = "all parameters under measurement, biases included"
    cost: ClassVar[str] = "up to `steps` products by double backward"
    bibtex: ClassVar[str] = EIGENTHINGS
    quantity: ClassVar[Quantity | None] = "top-eigenvalue"
    contests: ClassVar[tuple[str, ...]] = ("", "method=power,steps=100")
    method: Literal["lanczos", "power"] = "lanczos"
    steps: int = 20
    tolerance: float = 1e-4

    def __post_init__(self) -> None:
        if not 2 <= self.steps <= 10_000:
            raise InvalidInput(f"steps={self.steps} must be from 2 to 10000")
        check_tolerance(self.tolerance)

    def __call__(self, subject: Subject, *, generator: torch.Generator) -> Estimate:
        """See Measure; only its start is random."""
        with handover(subject, LIBRARY, generator=generator) as given:
            library, operator = LIBRARY.module(), _make_operator(given, "hessian")
            if self.method == "lanczos":
                steps = min(self.steps, operator.size)
                found = library.lanczos(operator, k=1, max_iter=steps, tol=self.tolerance, which="LA", seed=given.seed)
                value, steps, converged = float(found.eigenvalues[0]), found.iterations, bool(found.converged[0])
            else:
                value, _, _, steps, converged = library.power_iteration_one(
                    operator, max_iter=self.steps, tol=self.tolerance, seed=given.seed
                )
        details = {"library": LIBRARY.version(), "products": steps}
        return Estimate(check_finite(value, LIBRARY), stderr=None, probes=1, converged=converged, details=details)

    def exact(self, subject: Subject) -> float | None:
        """The largest eigenvalue; with method=power the one of the largest modulus, with its sign."""
        return reference_dominant_eigenvalue(subject) if self.method == "power" else reference_eigenvalue(subject)

    def invariances(self) -> frozenset[Invariance]:
        """None: the start does not move with the units."""
        return frozenset()


def _make_operator(given: Handover, matrix: Matrix) -> Any:
    library = LIBRARY.module()
    if matrix == "hessian":
        return library.HessianOperator(given.module, given.batches, library.supervised_loss(given.loss))
    return library.GGNOperator(
        given.module, given.batches, library.supervised_forward, library.supervised_loss_of_output(given.loss)
    )
