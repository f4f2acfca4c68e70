"""The trace of the Hessian: the sum of the curvatures of the loss along all parameters."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch

from sharpbench import Estimate, InvalidInput, Invariance, Measure, NotApplicable, Quantity, Subject
from sharpbench.curvature import (
    BUDGET,
    DENSE_LIMIT,
    PRECISION,
    certificate,
    check_precision,
    check_samples,
    exact_diagonal,
    hessian_diagonal,
    hutchinson_diagonal,
    hutchinson_trace,
    hutchpp_trace,
    mean_estimate,
    reference_diagonal,
    reference_example_stderr,
    reference_traces,
    trace_estimate,
    traces_by_example,
    xtrace,
)
from sharpbench_measures.citations import HUTCHINSON, IBAYASHI

PROJECTED = {"hutchpp": hutchpp_trace, "xtrace": xtrace}
MIN_PRODUCTS = {"hutchpp": 6, "xtrace": 4}
"""The smallest number of products with which a method has a standard error; 2 for the others."""


@dataclass(frozen=True)
class Trace(Measure):
    """tr H of the mean loss over all parameters under measurement, biases included, natural log.

    method:
        auto: exact where the network is certified piecewise affine in each parameter; elsewhere the exact
            Gauss-Newton trace plus the remainder tr(H - G) from joint probes of the parameters without a certificate,
            to `precision` (1 % by default) or until `budget` products; exact where these would take longer than one
            product per parameter. Above 1,024 columns of the output root an example (outputs at many positions) its
            Gauss-Newton part is sketched.
        exact: sum_b tr J_b^T Lambda J_b through a square root of the output Hessian Lambda (Proposition 1),
            C - 1 backward passes; never samples. Without a certificate it is the naive trace where the network
            is small enough, and not applicable otherwise.
        naive: one Hessian-vector product per parameter, by the definition; only for small networks.
        hutchinson: (1/m) sum v^T H v over `samples` random sign vectors v, with its standard error.
        hutchpp, xtrace: the same with the dominant space projected out, `samples` products in all.
    precision: for auto and hutchinson: continue until the ends of the 95 % interval are within this share of the value;
        hutchinson does so after `samples` probes, at least 30, and without a precision takes just these. A precision
        that is given also allows certified networks a sketch of the output root, where that takes fewer passes.
    budget: for auto: products of H - G with a vector after which the precision is given up (converged = false).
    samples: for auto only those of the diagonal that `sharpbench compare` looks at, where that is sampled.
    """

    name: ClassVar[str] = "trace"
    title: ClassVar[str] = "trace of the Hessian"
    family: ClassVar[str] = "curvature"
    source: ClassVar[str] = (
        "Ibayashi, Hamaguchi, Imaizumi 2021, Minimum Sharpness, Proposition 1; Hutchinson 1990; "
        "Meyer, Musco, Musco, Woodruff 2021, Hutch++; Epperly, Tropp, Webber 2024, XTrace"
    )
    version: ClassVar[int] = 6  # exact where samples would take longer
    oracle_limit: ClassVar[int | None] = DENSE_LIMIT
    definition: ClassVar[str] = "tr H = sum_j d^2 L / d theta_j^2"
    reduction: ClassVar[str] = "mean over examples, natural logarithm; sum over parameters"
    penalised: ClassVar[bool] = True
    included: ClassVar[str] = "all parameters under measurement, biases included"
    cost: ClassVar[str] = "C - 1 backward passes where exact; two to four gradients per product where sampled"
    bibtex: ClassVar[str] = (
        IBAYASHI
        + HUTCHINSON
        + """\
@inproceedings{meyer2021hutchpp,
  title     = {Hutch++: Optimal Stochastic Trace Estimation},
  author    = {Meyer, Raphael A. and Musco, Cameron and Musco, Christopher and Woodruff, David P.},
  booktitle = {Symposium on Simplicity in Algorithms (SOSA)},
  pages     = {142--155},
  year      = {2021}
}
@article{epperly2024xtrace,
  title   = {{XTrace}: Making the Most of Every Sample in Stochastic Trace Estimation},
  author  = {Epperly, Ethan N. and Tropp, Joel A. and Webber, Robert J.},
  journal = {SIAM Journal on Matrix Analysis and Applications},
  volume  = {45},
  number  = {1},
  pages   = {1--23},
  year    = {2024}
}
"""
    )
    quantity: ClassVar[Quantity | None] = "trace"
    contests: ClassVar[tuple[str, ...]] = (
        "",
        "method=hutchinson,samples=10",
        "method=hutchinson,samples=100",
        "method=hutchpp,samples=99",
        "method=xtrace,samples=100",
    )
    method: Literal["auto", "exact", "naive", "hutchinson", "hutchpp", "xtrace"] = "auto"
    samples: int = 100
    precision: float | None = None
    budget: int = BUDGET

    def __post_init__(self) -> None:
        if self.precision is not None and self.method not in ("auto", "hutchinson"):
            raise InvalidInput(f"precision={self.precision} goes with method=auto or hutchinson, not {self.method}")
        sampled = self.precision if self.method == "hutchinson" else None
        check_samples(self.samples, sampled, least=MIN_PRODUCTS.get(self.method, 2))
        check_precision(PRECISION if self.precision is None else self.precision, self.budget)

    def __call__(self, subject: Subject, *, generator: torch.Generator) -> Estimate:
        """See Measure; deterministic where nothing is sampled."""
        found = self._estimate(subject, generator)
        return replace(found, details={**found.details, "matrix": "hessian"})

    def _estimate(self, subject: Subject, generator: torch.Generator) -> Estimate:
        if self.method == "auto":
            return trace_estimate(
                subject,
                generator=generator,
                precision=self.precision,
                budget=self.budget,
            )
        if self.method == "hutchinson":
            return hutchinson_trace(subject, samples=self.samples, generator=generator, precision=self.precision)
        if self.method in PROJECTED:
            return projected(self.method, subject, samples=self.samples, generator=generator, kind="hessian")
        return _naive(subject) if self.method == "naive" else _exact(subject)

    def exact(self, subject: Subject) -> float | None:
        """The naive trace, or for large certified networks the exact one in float64."""
        if subject.size > DENSE_LIMIT and any(subject.once(certificate).values()):
            return None
        return sum(reference_traces(subject).values())

    def diagonal_entries(self, subject: Subject, *, generator: torch.Generator) -> dict[str, torch.Tensor]:
        """Exact if certified or small enough; otherwise that of G plus the remainder's from `samples` products.

        With method=hutchinson, from `samples` products with the Hessian.
        """
        if self.method in PROJECTED:
            raise NotApplicable(f"method={self.method} estimates only a sum; use method=auto or hutchinson")
        if self.method == "naive":
            _check_small(subject)
            return reference_diagonal(subject)
        obstacles = _obstacles(subject) if self.method != "hutchinson" else []
        if self.method != "hutchinson" and not obstacles:
            return subject.once(exact_diagonal)
        if self.method != "hutchinson" and subject.size <= DENSE_LIMIT:
            return reference_diagonal(subject)
        if self.method == "exact":
            raise _uncertified(obstacles)
        estimate = hutchinson_diagonal if self.method == "hutchinson" else hessian_diagonal
        return estimate(subject, samples=self.samples, generator=generator).values

    def invariances(self) -> frozenset[Invariance]:
        """Only orthogonal rewrites, as a layer's block scales with the inverse square of its factor; none if something
        may be sampled, as the probes do not move with the units."""
        return frozenset({"permutation", "attention-rotation"} if self.method in ("exact", "naive") else ())


def projected(
    method: str, subject: Subject, *, samples: int, generator: torch.Generator, kind: Literal["hessian", "gauss-newton"]
) -> Estimate:
    """The estimate of one of PROJECTED. Raises NotApplicable for networks with at most as many parameters as probes."""
    try:
        return PROJECTED[method](subject, samples=samples, generator=generator, kind=kind)
    except InvalidInput as error:
        raise NotApplicable(
            f"method={method},samples={samples}: {error}; use fewer samples, or method=exact"
        ) from error


def _exact(subject: Subject) -> Estimate:
    obstacles = _obstacles(subject)
    if not obstacles:
        return mean_estimate(subject, subject.once(traces_by_example), method="exact", certified=1.0)
    if subject.size <= DENSE_LIMIT:
        return _naive(subject)
    raise _uncertified(obstacles)


def _naive(subject: Subject) -> Estimate:
    _check_small(subject)
    traces = reference_traces(subject)
    value = sum(traces.values())
    return Estimate(
        value,
        parts=traces,
        details={"method": "naive"},
        stderr_examples=reference_example_stderr(subject),
    )


def _obstacles(subject: Subject) -> list[str]:
    """The operators through which the network is not certified."""
    found = [each for each in subject.once(certificate).values() if each]
    return sorted({operator for each in found for operator in each})


def _uncertified(operators: list[str]) -> NotApplicable:
    return NotApplicable(f"no exact trace: not piecewise affine through {', '.join(operators)}; use method=auto")


def _check_small(subject: Subject) -> None:
    if subject.size > DENSE_LIMIT:
        raise NotApplicable(
            f"{subject.size:,} parameters are too many for one Hessian-vector product each; "
            f"the bound is {DENSE_LIMIT:,}, use method=auto"
        )
