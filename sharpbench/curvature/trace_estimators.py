"""Hutchinson's estimators: of the trace, with an interval that a precision can be asked of, and of the diagonal."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from sharpbench.core.measure import Estimate
from sharpbench.core.subject import Params, Subject
from sharpbench.curvature.confidence import LIMIT, MeanEstimate, check_budget, mean_of, next_round
from sharpbench.curvature.example_forms import agree_on_average, count_forms, forms_by_example, forms_example_stderr
from sharpbench.curvature.products import Kind, LinearOperator, linear_operator, unflatten
from sharpbench.errors import InvalidInput

# Probes: random vectors with E[v v^T] = I, drawn on the CPU so that every device sees the same.

Distribution = Literal["rademacher", "gaussian"]


def draw_signs(like: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """`count` vectors of random signs [count, *like.shape]."""
    drawn = torch.randint(0, 2, (count, *like.shape), generator=generator, dtype=torch.int8).mul_(2).sub_(1)
    return drawn.to(device=like.device, dtype=like.dtype)


def draw_probes(
    like: Tensor, count: int, generator: torch.Generator, distribution: Distribution = "rademacher"
) -> Tensor:
    """`count` probes [count, *like.shape]: random signs, or standard normal ones."""
    if distribution == "rademacher":
        return draw_signs(like, count, generator)
    if distribution == "gaussian":
        drawn = torch.randn((count, *like.shape), generator=generator, dtype=torch.float64)
        return drawn.to(device=like.device, dtype=like.dtype)
    raise InvalidInput(f"distribution '{distribution}' is unknown; use 'rademacher' or 'gaussian'")


def hutchinson_trace(
    subject: Subject,
    *,
    samples: int,
    generator: torch.Generator,
    kind: Kind = "hessian",
    distribution: Distribution = "rademacher",
    precision: float | None = None,
) -> Estimate:
    """The mean (1/m) sum_v v^T A v over m random vectors v, with standard error and 95 % interval; unbiased for tr A.

    The variance of one sample is 2 (|A|_F^2 - sum_j A_jj^2) for signs and 2 |A|_F^2 for Gaussian vectors. `parts` are
    the shares v_b^T (A v)_b of the parameters.

    Args:
        samples: m, or with a precision the first round, at least 30.
        generator: the only source of randomness, on the CPU.
        kind: 'hessian' or 'gauss-newton'.
        distribution: 'rademacher' for signs, or 'gaussian'.
        precision: continue, with a quarter more samples each time, until both ends of the interval are within this
            share of the value. At LIMIT samples the estimate is given up and is not `converged`.

    Cost: about four gradients per sample. Source: Hutchinson 1990.

    >>> estimate = curvature.hutchinson_trace(subject, samples=400, generator=torch.Generator().manual_seed(0))
    >>> abs(estimate.value - 5.0) < 4 * estimate.stderr
    True
    """
    check_budget(samples, precision)
    operator = linear_operator(subject, kind)
    like = operator.like.new_empty(operator.size)
    sizes = [value.numel() for value in subject.params.values()]
    kept = max(2, min(count_forms(samples), operator.together))
    first = like.new_empty(0, operator.size)

    def more(count: int) -> Tensor:
        """Shares [count, parameters] of new probes, `count` products at a time."""
        nonlocal first
        drawn = []
        for start in range(0, count, operator.together):
            probes = draw_probes(like, min(operator.together, count - start), generator, distribution)
            if len(first) < kept:
                first = torch.cat((first, probes[: kept - len(first)]))
            forms = probes.double() * (operator @ probes.T).T.double()
            drawn.append(torch.stack([part.sum(1) for part in forms.split(sizes, dim=1)], 1).cpu())
        return torch.cat(drawn)

    shares = more(samples)
    found = mean_of([shares.sum(1)])
    while precision is not None and not found.within(precision) and len(shares) < LIMIT:
        shares = torch.cat((shares, more(next_round(samples, len(shares)))))
        found = mean_of([shares.sum(1)])
    return Estimate(
        found.value,
        stderr=found.stderr,
        stderr_examples=sampled_example_stderr(subject, first, shares.sum(1), operator.together, kind),
        interval=found.interval,
        parts=dict(zip(subject.params, shares.mean(0).tolist(), strict=True)),
        probes=len(shares),
        converged=precision is None or found.within(precision),
        details={"method": "hutchinson"},
    )


def sampled_example_stderr(
    subject: Subject, probes: Tensor, samples: Tensor, together: int, kind: Kind
) -> float | None:
    """Over examples, of the mean of v^T A v: from the forms of each example along the first vectors, `probes` [m, P].

    samples: the forms of the mean matrix along these vectors and others. together: vectors taken at once. None where
    the examples' own forms cannot be had.
    """
    if len(probes) < 2 or subject.n < 2:
        return None
    found = forms_by_example(subject, probes, kind, together=together)
    if found is None or not agree_on_average(found, samples[: len(probes)]):
        return None
    return forms_example_stderr(found, shares=subject.shares)


def hutchinson_squared_norm(
    subject: Subject, *, samples: int, generator: torch.Generator, kind: Kind = "hessian"
) -> MeanEstimate:
    """The mean (1/m) sum_v |A v|^2 over m random sign vectors v: unbiased for |A|_F^2 = tr A^2.

    With standard error and 95 % interval over the samples. Cost: one product, about four gradients, per sample.

    >>> estimate = curvature.hutchinson_squared_norm(subject, samples=400, generator=torch.Generator().manual_seed(0))
    >>> abs(estimate.value - 25.0) < 4 * estimate.stderr
    True
    """
    check_budget(samples)
    operator = linear_operator(subject, kind)
    like = operator.like.new_empty(operator.size)
    drawn = []
    for start in range(0, samples, operator.together):
        probes = draw_probes(like, min(operator.together, samples - start), generator)
        drawn.append((operator @ probes.T).double().square().sum(0).cpu())
    return mean_of([torch.cat(drawn)])


def squared_norm(operator: LinearOperator) -> float:
    """The exact |A|_F^2, by one product with every unit vector.

    >>> round(curvature.squared_norm(curvature.linear_operator(subject)), 9)
    25.0
    """
    total = 0.0
    for places in torch.arange(operator.size, device=operator.like.device).split(operator.together):
        units = torch.nn.functional.one_hot(places, operator.size).to(operator.like)
        total += float((operator @ units.T).double().square().sum())
    return total


@dataclass(frozen=True, slots=True)
class DiagonalEstimate:
    """values: the estimated diagonal by parameter, shaped like it; stderr: its standard errors, likewise."""

    values: Params
    stderr: Params
    probes: int


def hutchinson_diagonal(
    subject: Subject, *, samples: int, generator: torch.Generator, kind: Kind = "hessian"
) -> DiagonalEstimate:
    """The mean (1/m) sum_v v * (A v) over m random sign vectors: an unbiased estimate of the diagonal, by parameter.

    Entry j has variance sum_{i != j} A_ij^2 / m. Entries may be negative where no entry of the diagonal is.

    Args:
        samples: m.
        generator: the only source of randomness, on the CPU.
        kind: 'hessian' or 'gauss-newton'.

    Cost: about four gradients per sample. Source: Bekas, Kokiopoulou, Saad 2007.

    >>> estimate = curvature.hutchinson_diagonal(subject, samples=8, generator=torch.Generator().manual_seed(0))
    >>> estimate.values["weight"].shape, estimate.probes
    (torch.Size([2, 3]), 8)
    """
    if samples < 2:
        raise InvalidInput(f"samples={samples} must be at least 2, or there is no standard error")
    operator = linear_operator(subject, kind)
    like = operator.like.new_empty(operator.size)
    total = torch.zeros_like(like, dtype=torch.float64)
    squares = torch.zeros_like(total)
    for start in range(0, samples, operator.together):
        probes = draw_probes(like, min(operator.together, samples - start), generator)
        products = (probes * (operator @ probes.T).T).double()
        total += products.sum(0)
        squares += products.square().sum(0)
    mean = total / samples
    variance = ((squares - samples * mean.square()) / (samples - 1)).clamp_min(0) / samples
    stderr = variance.sqrt().to(like.dtype)
    return DiagonalEstimate(
        unflatten(subject.params, mean.to(like.dtype)), unflatten(subject.params, stderr), probes=samples
    )


# Estimators of a trace that project its largest part out first: Hutch++ and XTrace.
#
# Both are unbiased for any symmetric matrix, and far better than Hutchinson's where the spectrum decays, as that
# of the Gauss-Newton matrix does. They hold samples / 3 (or / 2) vectors of the size of the network at a time.


def hutchpp_trace(subject: Subject, *, samples: int, generator: torch.Generator, kind: Kind = "hessian") -> Estimate:
    """The trace by Hutch++: tr Q^T A Q + the mean of g^T (I - Q Q^T) A (I - Q Q^T) g, Q an orthonormal basis of A S.

    Args:
        samples: products with A, at least 6; a third each for S, Q and g.
        generator: the only source of randomness, on the CPU.
        kind: 'hessian' or 'gauss-newton'.
    Returns:
        An unbiased Estimate. Its standard error is that of the last term given Q, the only source of error.

    Cost: about four gradients per sample. Source: Meyer, Musco, Musco, Woodruff 2021, algorithm 1.

    >>> round(curvature.hutchpp_trace(subject, samples=6, generator=torch.Generator().manual_seed(0)).value, 9)
    5.0
    """
    third = _share(samples, 3)
    operator = linear_operator(subject, kind)
    drawn = _signs(operator, 2 * third, generator)
    basis = torch.linalg.qr(operator @ drawn[:, :third])[0]
    rest = drawn[:, third:] - basis @ (basis.T @ drawn[:, third:])
    large = _dots(basis, operator @ basis).sum()
    return _estimate(large + _dots(rest, operator @ rest), 3 * third, "hutch++")


def hutchpp_squared_norm(
    subject: Subject, *, samples: int, generator: torch.Generator, kind: Kind = "hessian"
) -> MeanEstimate:
    """|A Q|_F^2 + the mean of |A (I - Q Q^T) g|^2, Q an orthonormal basis of A S: unbiased for |A|_F^2 = tr A^2.

    Hutch++ for A^2, for which a product with A is half of one.

    Args:
        samples: products with A, as of `hutchpp_trace`, at most one per parameter; the norm is exact below 6
            parameters.

    >>> estimate = curvature.hutchpp_squared_norm(subject, samples=6, generator=torch.Generator().manual_seed(0))
    >>> round(estimate.value, 9)
    25.0
    """
    operator = linear_operator(subject, kind)
    third = min(_share(samples, 3), (operator.size - 1) // 2)
    if third < 2:
        value = squared_norm(operator)
        return MeanEstimate(value, 0.0, (value, value))
    drawn = _signs(operator, 2 * third, generator)
    basis = torch.linalg.qr(operator @ drawn[:, :third])[0]
    rest = drawn[:, third:] - basis @ (basis.T @ drawn[:, third:])
    large = (operator @ basis).double().square().sum()
    return mean_of([large + (operator @ rest).double().square().sum(0)])


def xtrace(subject: Subject, *, samples: int, generator: torch.Generator, kind: Kind = "hessian") -> Estimate:
    """The trace by XTrace: the mean of k = samples / 2 estimates, each with the basis of the other k - 1 probes.

    Args:
        samples: products with A, at least 4.
        generator: the only source of randomness, on the CPU.
        kind: 'hessian' or 'gauss-newton'.
    Returns:
        An unbiased Estimate. Its standard error treats the k exchangeable estimates as independent, which they are not,
        so no interval is stated.

    Cost: about four gradients per sample. Source: Epperly, Tropp, Webber 2024, section 2.1, without the normalisation
    of probes.

    >>> round(curvature.xtrace(subject, samples=4, generator=torch.Generator().manual_seed(0)).value, 9)
    5.0
    """
    half = _share(samples, 2)
    operator = linear_operator(subject, kind)
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
    check_budget(samples, least=2 * parts)
    return samples // parts


def _signs(operator: LinearOperator, count: int, generator: torch.Generator) -> Tensor:
    """Random signs [P, count]; no more columns than the matrix has."""
    if count >= operator.size:
        raise InvalidInput(f"{count} probes for {operator.size} parameters; use dense_hessian or exact_traces")
    return draw_signs(operator.like.new_empty(operator.size), count, generator).T


def _dots(left: Tensor, right: Tensor) -> Tensor:
    """The inner products of the columns, in float64."""
    return (left.double() * right.double()).sum(0)


def _estimate(estimates: Tensor, products: int, method: str) -> Estimate:
    found = mean_of([estimates])
    return Estimate(
        found.value, stderr=found.stderr, interval=found.interval, probes=products, details={"method": method}
    )
