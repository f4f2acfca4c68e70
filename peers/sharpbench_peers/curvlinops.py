"""curvlinops: linear operators of the Hessian and the Gauss-Newton matrix, with estimators of traces and diagonals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from scipy.sparse.linalg import eigsh
from torch import Tensor

from sharpbench import Estimate, InvalidInput, Invariance, NotApplicable, Quantity, Scalar, Subject
from sharpbench.curvature import DENSE_LIMIT, MATRIX_LIMIT, reference_eigenvalue
from sharpbench_peers.bounds import check_samples
from sharpbench_peers.citations import CURVLINOPS
from sharpbench_peers.handover import Batches, Handover, check_finite, handover
from sharpbench_peers.library import Library
from sharpbench_peers.peer import Peer
from sharpbench_peers.references import Matrix, reference_trace

LIBRARY = Library(
    "curvlinops",
    "curvlinops-for-pytorch",
    "curvlinops",
    (r".torch.jit.script. is deprecated", "There is a performance drop because we have not yet implemented"),
)
OPERATORS = {"hessian": "HessianLinearOperator", "gauss-newton": "GGNLinearOperator"}
TRACES = {"hutchinson": "hutchinson_trace", "hutchpp": "hutchpp_trace", "xtrace": "xtrace"}
DIAGONALS = {"hutchinson": "hutchinson_diag", "xtrace": "xdiag"}
MULTIPLES = {"hutchinson": 1, "hutchpp": 3, "xtrace": 2}
"""The number of products must be a multiple of this; the library computes that share of them at once."""
MAX_ACTIVATION_BYTES = 2 * 2**30
"""Memory that the activations of the columns computed at once may take."""


@dataclass(frozen=True)
class CurvlinopsTrace(Peer):
    """The trace of curvlinops' Hessian or Gauss-Newton operator from `samples` products with random vectors.

    method: hutchinson_trace, hutchpp_trace (a multiple of three products) or xtrace (an even number); each needs
    fewer products than there are parameters. Its check of determinism, two additional products, is off. It computes
    all columns at once, each with its own activations. If those of the subject's batch would take more than 2 GiB, it
    is given smaller batches, which it weights by their size, so that no value changes.
    The diagonal is hutchinson_diag's, with method=xtrace xdiag's.
    """

    name: ClassVar[str] = "curvlinops-trace"
    title: ClassVar[str] = "trace of the Hessian or the Gauss-Newton matrix by curvlinops"
    family: ClassVar[str] = "curvature"
    source: ClassVar[str] = (
        "Dangel et al. 2025, Curvature Matrices Should Be Democratized via Linear Operators; Hutchinson 1990; "
        "Meyer, Musco, Musco, Woodruff 2021, Hutch++; Epperly, Tropp, Webber 2024, XTrace"
    )
    oracle_limit: ClassVar[int | None] = DENSE_LIMIT
    definition: ClassVar[str] = "tr A from products A v with random signs v, A = H or G"
    reduction: ClassVar[str] = "mean over examples, natural logarithm; sum over parameters"
    included: ClassVar[str] = "all parameters under measurement, biases included"
    cost: ClassVar[str] = "`samples` products, forward over reverse"
    bibtex: ClassVar[str] = CURVLINOPS
    quantity: ClassVar[Quantity | None] = "trace"
    contests: ClassVar[tuple[str, ...]] = (
        "samples=10",
        "samples=100",
        "method=hutchpp,samples=30",
        "method=hutchpp,samples=99",
        "method=xtrace,samples=30",
        "method=xtrace,samples=100",
        "matrix=gauss-newton,samples=10",
        "matrix=gauss-newton,samples=100",
        "matrix=gauss-newton,method=hutchpp,samples=30",
        "matrix=gauss-newton,method=hutchpp,samples=99",
        "matrix=gauss-newton,method=xtrace,samples=30",
        "matrix=gauss-newton,method=xtrace,samples=100",
    )
    matrix: Matrix = "hessian"
    method: Literal["hutchinson", "hutchpp", "xtrace"] = "hutchinson"
    samples: int = 100

    def __post_init__(self) -> None:
        check_samples(self.samples)
        if self.samples % MULTIPLES[self.method]:
            raise InvalidInput(
                f"samples={self.samples} is not a multiple of {MULTIPLES[self.method]}, as method={self.method} needs"
            )

    def __call__(self, subject: Subject, *, generator: torch.Generator) -> Estimate:
        """See Measure; the library states no standard error."""
        with handover(subject, LIBRARY, generator=generator) as given:
            value = float(self._estimate(given, TRACES[self.method]))
        details: dict[str, Scalar] = {"library": LIBRARY.version(), "products": self.samples}
        return Estimate(check_finite(value, LIBRARY), stderr=None, probes=self.samples, details=details)

    def exact(self, subject: Subject) -> float | None:
        """The trace of the matrix by its definition."""
        return reference_trace(subject, self.matrix)

    def invariances(self) -> frozenset[Invariance]:
        """None: the probes do not move with the units."""
        return frozenset()

    def diagonal_entries(self, subject: Subject, *, generator: torch.Generator) -> dict[str, Tensor]:
        """The estimate of the diagonal from `samples` products."""
        if self.method not in DIAGONALS:
            raise NotApplicable(f"{LIBRARY.title} has no diagonal by method={self.method}; use xtrace or hutchinson")
        with handover(subject, LIBRARY, generator=generator) as given:
            return given.by_name(self._estimate(given, DIAGONALS[self.method]))

    def _estimate(self, given: Handover, function: str) -> Tensor:
        """The result of a function of the library from `samples` products."""
        operator = _make_operator(given, self.matrix, self.samples // MULTIPLES[self.method])
        estimate: Tensor = getattr(LIBRARY.module(), function)(operator, num_matvecs=self.samples)
        return estimate


@dataclass(frozen=True)
class CurvlinopsTopEigenvalue(Peer):
    """The algebraically largest eigenvalue of curvlinops' operator by ARPACK, to rounding, from a random start."""

    name: ClassVar[str] = "curvlinops-top-eigenvalue"
    title: ClassVar[str] = "largest eigenvalue of the Hessian or the Gauss-Newton matrix by curvlinops and SciPy"
    family: ClassVar[str] = "curvature"
    source: ClassVar[str] = "Dangel et al. 2025, Curvature Matrices Should Be Democratized via Linear Operators"
    oracle_limit: ClassVar[int | None] = MATRIX_LIMIT
    definition: ClassVar[str] = "max_v v^T A v / v^T v, A = H or G"
    reduction: ClassVar[str] = "mean over examples, natural logarithm"
    included: ClassVar[str] = "all parameters under measurement, biases included"
    cost: ClassVar[str] = "as many products as ARPACK needs, at least 20"
    bibtex: ClassVar[str] = CURVLINOPS
    quantity: ClassVar[Quantity | None] = "top-eigenvalue"
    contests: ClassVar[tuple[str, ...]] = ("", "matrix=gauss-newton")
    matrix: Matrix = "hessian"

    def __call__(self, subject: Subject, *, generator: torch.Generator) -> Estimate:
        """See Measure; only its start is random."""
        start = torch.randn(subject.size, generator=generator, dtype=torch.float64).numpy()
        with handover(subject, LIBRARY, generator=generator) as given:
            operator = _make_operator(given, self.matrix, 1).to_scipy()
            (value,) = eigsh(operator, k=1, which="LA", v0=start.astype(operator.dtype), return_eigenvectors=False)
        details = {"library": LIBRARY.version()}
        return Estimate(check_finite(float(value), LIBRARY), stderr=None, probes=1, details=details)

    def exact(self, subject: Subject) -> float | None:
        """From all eigenvalues of the dense matrix; for large networks by our products."""
        return reference_eigenvalue(subject, self.matrix)

    def invariances(self) -> frozenset[Invariance]:
        """Only orthogonal rewrites."""
        return frozenset({"permutation", "attention-rotation"})


def _make_operator(given: Handover, matrix: Matrix, columns: int) -> Any:
    """The operator on the parameters under measurement, for products with `columns` columns at once."""
    make = getattr(LIBRARY.module(), OPERATORS[matrix])
    parameters = list(given.parameters.values())
    return make(given.module, given.loss, parameters, _fitting_batches(given, columns), check_deterministic=False)


def _fitting_batches(given: Handover, columns: int) -> Batches:
    """The same examples in their order, in batches whose activations for `columns` columns fit into the limit."""
    size = max(1, MAX_ACTIVATION_BYTES // (columns * _activation_bytes(given)))
    return [pair for x, y in given.batches for pair in zip(x.split(size), y.split(size), strict=True)]


def _activation_bytes(given: Handover) -> int:
    """Bytes that a forward pass of one example stores for the backward pass, without the parameters."""
    held, own = 0, {value.data_ptr() for value in given.parameters.values()}

    def pack(tensor: Tensor) -> Tensor:
        nonlocal held
        held += 0 if tensor.data_ptr() in own else tensor.numel() * tensor.element_size()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        given.module(given.batches[0][0][:1].clone())
    return max(1, held)
