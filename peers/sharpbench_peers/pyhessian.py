"""PyHessian: the trace by Hutchinson's method and the top eigenvalue by power iteration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from sharpbench import Estimate, Invariance, Quantity, Scalar, Subject
from sharpbench.curvature import DENSE_LIMIT, MATRIX_LIMIT
from sharpbench_peers.bounds import check_samples, check_tolerance
from sharpbench_peers.citations import PYHESSIAN
from sharpbench_peers.handover import Handover, check_finite, handover
from sharpbench_peers.library import Library
from sharpbench_peers.peer import Peer
from sharpbench_peers.references import reference_dominant_eigenvalue, reference_trace

LIBRARY = Library("PyHessian", "PyHessian", "pyhessian", (r"Using backward\(\) with create_graph=True",))


@dataclass(frozen=True)
class PyHessianTrace(Peer):
    """The mean of v^T H v over random sign vectors v, by `pyhessian.hessian(...).trace`.

    samples: the largest number of products. tolerance: it stops earlier, at the first relative change of the running
    mean below this, which a single probe near the mean causes. PyHessian 0.1 compares without a modulus, so that a
    negative running mean always stops it, also at tolerance=0.
    A single batch is given as `data`, several as a loader. Each call has its own copy of the network: a second call on
    the same network would double the result.
    """

    name: ClassVar[str] = "pyhessian-trace"
    title: ClassVar[str] = "trace of the Hessian by PyHessian"
    family: ClassVar[str] = "curvature"
    source: ClassVar[str] = "Yao, Gholami, Keutzer, Mahoney 2020, PyHessian; Hutchinson 1990"
    oracle_limit: ClassVar[int | None] = DENSE_LIMIT
    definition: ClassVar[str] = "tr H ~ (1/m) sum v^T H v, v random signs, m by its stopping rule"
    reduction: ClassVar[str] = "mean over examples, natural logarithm; sum over parameters"
    included: ClassVar[str] = "all parameters under measurement, biases included"
    cost: ClassVar[str] = "up to `samples` products by double backward"
    bibtex: ClassVar[str] = PYHESSIAN
    quantity: ClassVar[Quantity | None] = "trace"
    contests: ClassVar[tuple[str, ...]] = ("", "samples=10,tolerance=0", "samples=100,tolerance=0")
    samples: int = 100
    tolerance: float = 1e-3

    def __post_init__(self) -> None:
        check_samples(self.samples)
        check_tolerance(self.tolerance)

    def __call__(self, subject: Subject, *, generator: torch.Generator) -> Estimate:
        """See Measure; its standard error is unknown, as the stopping rule depends on the samples."""
        with handover(subject, LIBRARY, generator=generator) as given:
            drawn = _make_hessian(given).trace(maxIter=self.samples, tol=self.tolerance)
        details: dict[str, Scalar] = {"library": LIBRARY.version(), "products": len(drawn)}
        value = check_finite(sum(drawn) / len(drawn), LIBRARY)
        return Estimate(value, stderr=None, probes=len(drawn), details=details)

    def exact(self, subject: Subject) -> float | None:
        """The trace of the Hessian by its definition."""
        return reference_trace(subject, "hessian")

    def invariances(self) -> frozenset[Invariance]:
        """None: the probes do not move with the units."""
        return frozenset()


@dataclass(frozen=True)
class PyHessianTopEigenvalue(Peer):
    """The eigenvalue of the largest modulus by power iteration, `pyhessian.hessian(...).eigenvalues`.

    samples: the largest number of products. tolerance: it stops at the first relative change of the value below this.
    """

    name: ClassVar[str] = "pyhessian-top-eigenvalue"
    title: ClassVar[str] = "dominant eigenvalue of the Hessian by PyHessian"
    family: ClassVar[str] = "curvature"
    source: ClassVar[str] = "Yao, Gholami, Keutzer, Mahoney 2020, PyHessian"
    oracle_limit: ClassVar[int | None] = MATRIX_LIMIT
    definition: ClassVar[str] = "v^T H v at the end of v <- H v / |H v|"
    reduction: ClassVar[str] = "mean over examples, natural logarithm"
    included: ClassVar[str] = "all parameters under measurement, biases included"
    cost: ClassVar[str] = "up to `samples` products by double backward"
    bibtex: ClassVar[str] = PYHESSIAN
    quantity: ClassVar[Quantity | None] = "top-eigenvalue"
    samples: int = 100
    tolerance: float = 1e-3

    def __post_init__(self) -> None:
        check_samples(self.samples)
        check_tolerance(self.tolerance)

    def __call__(self, subject: Subject, *, generator: torch.Generator) -> Estimate:
        """See Measure; only its start is random."""
        with handover(subject, LIBRARY, generator=generator) as given:
            values, _ = _make_hessian(given).eigenvalues(maxIter=self.samples, tol=self.tolerance)
        return Estimate(
            check_finite(float(values[0]), LIBRARY), stderr=None, probes=1, details={"library": LIBRARY.version()}
        )

    def exact(self, subject: Subject) -> float | None:
        """The eigenvalue of the largest modulus, with its sign."""
        return reference_dominant_eigenvalue(subject)

    def invariances(self) -> frozenset[Invariance]:
        """None: the start does not move with the units."""
        return frozenset()


def _make_hessian(given: Handover) -> Any:
    single = len(given.batches) == 1
    return LIBRARY.module().hessian(
        given.module,
        given.loss,
        data=given.batches[0] if single else None,
        dataloader=None if single else given.batches,
        cuda=given.batches[0][0].is_cuda,
    )
