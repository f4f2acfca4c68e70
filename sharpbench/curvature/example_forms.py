"""Quadratic forms of each example's own Hessian: how much a sampled curvature differs between examples.

Second derivatives along a vector by forward mode twice, [n, vectors]. Their means over examples are the samples that
an estimator draws anyway, which is how they are checked: where the two disagree, or torch has no such rule for an
operator, there are none. torch's own second forward derivative of layer_norm is wrong (torch 2.13), so layer_norm is
spelled out here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from sharpbench.core.batch import Inputs
from sharpbench.core.requirements import is_out_of_memory
from sharpbench.core.subject import Params, Subject
from sharpbench.curvature.confidence import example_stderr
from sharpbench.curvature.ggn import add_penalty_by_example
from sharpbench.curvature.products import Kind, map_vectors, unflatten

At = TypeVar("At", Tensor, Params)

MIN_FORMS, MAX_FORMS = 4, 64
SAMPLES_PER_FORM = 12
"""One of this number of samples of an estimator is also taken example by example: some 8 % more work."""
MAX_EXAMPLES = 128
"""Examples of which the spread is looked at where single ones are expensive."""


def count_forms(samples: int) -> int:
    """How many of the vectors of an estimator are taken example by example."""
    return min(MAX_FORMS, max(MIN_FORMS, samples // SAMPLES_PER_FORM))


def forms_by_example(
    subject: Subject, vectors: Tensor, kind: Kind = "hessian", *, together: int = MAX_FORMS
) -> Tensor | None:
    """v^T A_i v of every example [n, m] for flat vectors v [m, P], float64, A_i its Hessian or Gauss-Newton matrix.

    Under weight decay each example has its share of the penalty, so that standard errors of weighted means do not
    change. together: how many vectors are taken at once. None where torch cannot tell.
    """

    def batch(inputs: Inputs, targets: Tensor) -> Tensor:
        def logits(params: Params) -> Tensor:
            return subject.apply(params, inputs)

        def form(vector: Tensor) -> Tensor:
            direction = unflatten(subject.params, vector)
            if kind == "hessian":
                return _twice(lambda at: subject.criterion(logits(at), targets), subject.params, direction)[1]
            forward = torch.func.jvp(logits, (subject.params,), (direction,))
            along: Tensor = forward[1]
            curved: Tensor = torch.func.jvp(lambda at: _slope(subject, at, targets), forward[:1], (along,))[1]
            return (along * curved).reshape(len(targets), -1).sum(1)

        return map_vectors(form, vectors, together).T

    found = _by_example(subject, batch)
    norms = vectors.double().square().sum(1).tolist()
    return None if found is None else add_penalty_by_example(subject, found, norms)


def hessian_traces_by_example(subject: Subject) -> Tensor | None:
    """tr H_i of every example [n], float64, by a form along each axis; for small networks. None where torch cannot
    tell."""

    def batch(inputs: Inputs, targets: Tensor) -> Tensor:
        def block_trace(name: str) -> Tensor:
            block = subject.params[name]
            places = torch.arange(block.numel(), device=block.device)

            def losses(value: Tensor) -> Tensor:
                return subject.criterion(subject.apply({**subject.params, name: value}, inputs), targets)

            def form(place: Tensor) -> Tensor:
                return _twice(losses, block, (places == place).to(block).reshape(block.shape))[1].double()

            parts = [map_vectors(form, some, MAX_FORMS).sum(0) for some in places.split(MAX_FORMS)]
            return torch.stack(parts).sum(0)

        return torch.stack([block_trace(name) for name in subject.params], 1)

    found, sizes = _by_example(subject, batch), [value.numel() for value in subject.params.values()]
    return None if found is None else add_penalty_by_example(subject, found, sizes).sum(1)


def agree_on_average(by_example: Tensor, samples: Tensor) -> bool:
    """Whether the means over examples of forms [n, m] are an estimator's samples [m], up to rounding in float32."""
    means = by_example.mean(0)
    bound = 1e-3 * float(by_example.abs().mean(0).max() + samples.abs().max())
    return bool(((means - samples.double().cpu()).abs() <= bound).all())


def interaction(by_example: Tensor) -> float:
    """The variance of an example's mean over the m columns of [n, m] that comes from the choice of these columns."""
    centred = by_example - by_example.mean(0) - by_example.mean(1, keepdim=True) + by_example.mean()
    rows, columns = by_example.shape
    return float(centred.square().sum()) / ((rows - 1) * (columns - 1) * columns)


def forms_example_stderr(
    by_example: Tensor, *, exact: Tensor | None = None, shares: Tensor | None = None
) -> float | None:
    """The standard error over examples of the mean of forms [n, m], of which each stands for its example's trace.

    What the choice of the m vectors adds to the spread between examples is taken out of it.

    Args:
        exact: a part of each example's value [n] that does not depend on the vectors.
        shares: by how much each example counts [n], see `example_stderr`.

    Returns: None for a single example, and where the choice of the vectors makes up most of the spread.
    """
    known = torch.zeros(len(by_example), dtype=torch.float64) if exact is None else exact
    if shares is not None:
        known, by_example = _ratios(known[:, None], shares)[:, 0], _ratios(by_example, shares)
    noise = math.sqrt(interaction(by_example) / len(by_example)) if len(by_example) > 1 else 0.0
    return example_stderr(known + by_example.mean(1), noise=noise)


def _ratios(values: Tensor, shares: Tensor) -> Tensor:
    """By how much each example moves the ratio of two means, to first order: of values [n, m] and of shares [n]."""
    counted = shares.to(values) / shares.double().mean()
    return values - counted[:, None] * values.mean(0)


def _by_example(subject: Subject, batch: Callable[[Tensor, Tensor], Tensor]) -> Tensor | None:
    """The values of all examples; None for networks that torch cannot differentiate twice in forward mode."""
    try:
        with torch.no_grad(), _SpelledOutNorms():
            found = subject.by_example(batch).double().cpu()
    except (RuntimeError, TypeError) as error:
        if is_out_of_memory(error):
            raise
        return None
    return found if bool(torch.isfinite(found).all()) else None


class _SpelledOutNorms(TorchFunctionMode):
    """Inside, layer_norm is made of means and products, whose derivatives are right."""

    def __torch_function__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        chosen = _layer_norm if func in (torch.layer_norm, torch.nn.functional.layer_norm) else func
        return chosen(*args, **(kwargs or {}))


def _layer_norm(
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    cudnn_enable: bool = True,
) -> Tensor:
    axes = tuple(range(-len(normalized_shape), 0))
    centred = input - input.mean(axes, keepdim=True)
    found = centred * (centred.square().mean(axes, keepdim=True) + eps).rsqrt()
    if weight is not None:
        found = found * weight
    return found if bias is None else found + bias


def _twice(function: Callable[[At], Tensor], params: At, direction: At) -> tuple[Tensor, Tensor]:
    """function(params) and its second derivative along `direction`."""

    def first(at: At) -> tuple[Tensor, Tensor]:
        forward = torch.func.jvp(function, (at,), (direction,))
        return forward[1], forward[0]

    slopes = torch.func.jvp(first, (params,), (direction,), has_aux=True)
    return slopes[-1], slopes[1]  # the auxiliary output is the value


def _slope(subject: Subject, logits: Tensor, targets: Tensor) -> Tensor:
    """The derivative [B, C] of each example's loss by its logits."""
    slope: Tensor = torch.func.grad(lambda outputs: subject.criterion(outputs, targets).sum())(logits)
    return slope
