"""Estimators of a trace that project its largest part out first: Hutch++ and XTrace.

Both are unbiased for any symmetric matrix, and far better than Hutchinson's where the spectrum decays, as that
of the Gauss-Newton matrix does. They hold samples / 3 (or / 2) vectors of the size of the network at a time.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from sharpbench.core.measure import Estimate
from sharpbench.core.subject import Subject
from sharpbench.curvature.hutchinson import squared_norm
from sharpbench.curvature.implicit import Kind, Matrix, matrix
from sharpbench.curvature.interval import Mean, check, mean_of
from sharpbench.curvature.probes import signs
from sharpbench.errors import InvalidInput


def hutchpp_trace(subject: Subject, *, samples: int, generator: torch.Generator, kind: Kind = "hessian") -> Estimate:
    """tr Q^T A Q + the mean of g^T (I - Q Q^T) A (I - Q Q^T) g, Q an orthonormal basis of A S.

    samples: products with A; a third for S, for Q and for g each, so at least 6. The standard error is that of
    the last term given Q, which is all the randomness that the estimate has around the truth.
    (Meyer, Musco, Musco, Woodruff 2021, Hutch++, algorithm 1.)
    """
    third = _share(samples, 3)
    operator = matrix(subject, kind)
    drawn = _signs(operator, 2 * third, generator)
    basis = torch.linalg.qr(operator @ drawn[:, :third])[0]
    rest = drawn[:, third:] - basis @ (basis.T @ drawn[:, third:])
    large = _dots(basis, operator @ basis).sum()
    return _estimate(large + _dots(rest, operator @ rest), 3 * third, "hutch++")


def hutchpp_squared_norm(subject: Subject, *, samples: int, generator: torch.Generator, kind: Kind = "hessian") -> Mean:
    """|A Q|_F^2 + the mean of |A (I - Q Q^T) g|^2, Q an orthonormal basis of A S: unbiased for |A|_F^2 = tr A^2.

    Hutch++ for A^2, of which a product with A is half. samples: as of `hutchpp_trace`; no more than there are
    parameters. Below 6 of those the norm is exact.
    """
    operator = matrix(subject, kind)
    third = min(_share(samples, 3), (operator.size - 1) // 2)
    if third < 2:
        value = squared_norm(operator)
        return Mean(value, 0.0, (value, value))
    drawn = _signs(operator, 2 * third, generator)
    basis = torch.linalg.qr(operator @ drawn[:, :third])[0]
    rest = drawn[:, third:] - basis @ (basis.T @ drawn[:, third:])
    large = (operator @ basis).double().square().sum()
    return mean_of([large + (operator @ rest).double().square().sum(0)])


def xtrace(subject: Subject, *, samples: int, generator: torch.Generator, kind: Kind = "hessian") -> Estimate:
    """The mean of k = samples / 2 estimates, each with the basis of the other k - 1 probes.

    samples: products with A, at least 4. The standard error is that of the k exchangeable estimates as if they
    were independent, which they are not: no interval is stated. (Epperly, Tropp, Webber 2024, XTrace, section
    2.1; without their normalisation of probes.)
    """
    half = _share(samples, 2)
    operator = matrix(subject, kind)
    probes = _signs(operator, half, generator)
    images = operator @ probes
    basis, upper = torch.linalg.qr(images)
    sizes = upper.diagonal().abs()
    if not sizes.min() > torch.finfo(upper.dtype).eps * sizes.max():  # a matrix of lower rank: its whole range is seen
        exact = _dots(basis, operator @ basis).sum()
        return replace(_estimate(exact.expand(half), 2 * half, "xtrace"), interval=None)
    inverse = torch.linalg.inv(upper).T
    left = inverse / torch.linalg.vector_norm(inverse, dim=0)  # column i: what the basis loses without probe i
    mapped = operator @ basis
    inner, coefficients = basis.T @ mapped, basis.T @ probes
    kept = coefficients - left * (left * coefficients).sum(0)
    rest, rest_images = probes - basis @ kept, images - mapped @ kept
    estimates = inner.double().trace() - _dots(left, inner @ left) + _dots(rest, rest_images)
    return replace(_estimate(estimates, 2 * half, "xtrace"), interval=None)


def _share(samples: int, parts: int) -> int:
    check(samples, least=2 * parts)
    return samples // parts


def _signs(operator: Matrix, count: int, generator: torch.Generator) -> Tensor:
    """Random signs [P, count]; no more columns than the matrix has."""
    if count >= operator.size:
        raise InvalidInput(f"{count} probes for {operator.size} parameters; use dense_hessian or exact_traces")
    return signs(operator.like.new_empty(operator.size), count, generator).T


def _dots(left: Tensor, right: Tensor) -> Tensor:
    """The inner products of the columns, in float64."""
    return (left.double() * right.double()).sum(0)


def _estimate(estimates: Tensor, products: int, method: str) -> Estimate:
    found = mean_of([estimates])
    return Estimate(
        found.value, stderr=found.stderr, interval=found.interval, probes=products, details={"method": method}
    )
