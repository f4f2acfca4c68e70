"""Sketches of the output root, for many columns: a few exact ones and random ones in place of the rest.

Exact in parameter space, random only in the space of the outputs: unbiased for the trace and for the diagonal. A random
column is a sum over all positions of an example, whose blocks are independent, so its cost does not grow with them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from scipy.special import gammaincinv, stdtrit
from torch import Tensor

from sharpbench.core.measure import Estimate
from sharpbench.core.output_losses import ElementwiseLoss
from sharpbench.core.subject import Params, Subject
from sharpbench.curvature.confidence import example_stderr
from sharpbench.curvature.ggn import Columns, chunked_columns, squared_norms, sum_diagonal
from sharpbench.curvature.output_hessian import random_columns, sketched_root
from sharpbench.curvature.trace_estimators import DiagonalEstimate
from sharpbench.curvature.vjp import LayerVjps, add_trees, start_sums
from sharpbench.errors import InvalidInput

HEAVY_TAILS = 0.5
"""Of Welch's degrees of freedom where each example has its own variance: those of quadratic forms are less certain than
of normal samples. Without it, 4 columns of 5 examples covered 91 % in 700 trials."""


def sketched_traces(subject: Subject, *, generator: torch.Generator, top: int = 10, columns: int = 4) -> Estimate:
    """The trace of the Gauss-Newton matrix from `top` exact columns and `columns` random ones per example.

    Args:
        generator: the only source of randomness.
        top: columns taken exactly, those of the most probable classes; from 1 to C - 2. For one label an example only:
            of other losses all columns are random.
        columns: random columns for the rest, at least 2.
    Returns:
        An unbiased Estimate. `details.lower` is proven to lie below the trace: the exact columns hold all of the output
        Hessian but its part within the less probable classes. The interval is Student's for the logarithm of the rest,
        over the differences of the random columns within each example.
        `details.upper` bounds the trace with probability 0.95 for every network: of all positive quadratic forms of
        Gaussian vectors, one with a single eigenvalue falls most often below a small share of its mean, so the rest is
        at most its estimate divided by the 5 % quantile of chi-squared with `columns` degrees of freedom over
        `columns`.
    Raises:
        InvalidInput: for a loss that `has_sketch` denies, and for `top` or `columns` out of range.

    Cost: top + columns backward passes, whatever the number of outputs. Source of the bound: Szekely, Bakirov 2003;
    Roosta-Khorasani, Szekely, Ascher 2015.

    >>> wide = torch.nn.Linear(3, 20, dtype=torch.float64)
    >>> many = Subject.from_module(wide, inputs, torch.tensor([0]))
    >>> estimate = curvature.sketched_traces(many, top=5, generator=torch.Generator().manual_seed(0))
    >>> estimate.details["lower"] < sum(curvature.exact_traces(many).values()) < estimate.details["upper"]
    True
    """

    def summed(pulled: LayerVjps) -> Params:
        norms = squared_norms(pulled)
        squares = torch.stack([norms[name].double() for name in subject.params]).cpu()  # [parameters, B]
        return {"total": squares.sum(), "shares": squares.sum(1), "examples": squares.sum(0)}

    top, n = count_exact(subject, top), subject.n
    sizes = torch.tensor([each.numel() for each in subject.params.values()], dtype=torch.float64)
    parts: Params = {"shares": n * subject.criterion.weight_decay * sizes}
    kept, drawn = parts["shares"].sum(), torch.zeros((), dtype=torch.float64)
    variances: list[float] = []
    examples: list[Tensor] = []
    for exact, mean, variance in _chunks(subject, generator, top, columns, summed):
        kept, drawn = kept + exact["total"], drawn + mean["total"]
        add_trees(parts, {"shares": exact["shares"] + mean["shares"]})
        variances += variance["examples"].tolist()
        examples.append(exact["examples"] + mean["examples"])
    quantile = 2 * float(gammaincinv(columns / 2, 0.05)) / columns
    value, lower, upper = (float(each) / n for each in (kept + drawn, kept, kept + drawn / quantile))
    stderr = math.sqrt(sum(variances)) / n
    squares = sum(variance**2 for variance in variances)
    freedom = sum(variances) ** 2 / squares * (columns - 1) if squares else 1.0  # Welch's
    if top == 0:
        freedom *= HEAVY_TAILS
    rest = value - lower
    reach = math.exp(float(stdtrit(freedom, 0.975)) * stderr / rest) if rest > 0 else 1.0
    return Estimate(
        value,
        stderr=stderr,
        stderr_examples=example_stderr(torch.cat(examples), noise=stderr, shares=subject.shares),
        interval=(lower + rest / reach, lower + rest * reach),
        parts=dict(zip(subject.params, (parts["shares"] / n).tolist(), strict=True)),
        probes=columns,
        details={"method": "sketch", "top": top, "lower": lower, "upper": upper},
    )


def sketched_diagonal(
    subject: Subject, *, generator: torch.Generator, top: int = 10, columns: int = 4
) -> DiagonalEstimate:
    """The diagonal of the Gauss-Newton matrix with standard errors, by the columns of `sketched_traces`.

    The estimate is unbiased and never negative. Arguments, errors and cost are those of `sketched_traces`.

    >>> wide = torch.nn.Linear(3, 20, dtype=torch.float64)
    >>> many = Subject.from_module(wide, inputs, torch.tensor([0]))
    >>> curvature.sketched_diagonal(many, top=5, generator=torch.Generator().manual_seed(0)).values["weight"].shape
    torch.Size([20, 3])
    """
    total, spread = start_sums(subject.params), start_sums(subject.params)
    for exact, mean, variance in _chunks(subject, generator, count_exact(subject, top), columns, sum_diagonal):
        add_trees(total, exact)
        add_trees(total, mean)
        add_trees(spread, variance)
    n = subject.n
    types = {name: value.dtype for name, value in subject.params.items()}
    return DiagonalEstimate(
        {name: (total[name] / n + subject.criterion.weight_decay).to(dtype) for name, dtype in types.items()},
        {name: (spread[name].sqrt() / n).to(dtype) for name, dtype in types.items()},
        columns,
    )


def _chunks(
    subject: Subject, generator: torch.Generator, top: int, columns: int, of: Callable[[LayerVjps], Params]
) -> Iterator[tuple[Params, Params, Params]]:
    """Of every chunk of examples: the exact columns' sums, the mean of the random columns', and its variance."""
    loss, count = subject.criterion, top + columns
    plain = loss.kind == "cross_entropy"
    if columns < 2 or (plain and not 1 <= top <= subject.classes - 2):
        raise InvalidInput(
            f"top={top}, columns={columns} for {subject.classes} classes: need 1 <= top <= {subject.classes - 2} "
            "and columns >= 2"
        )
    draw = _noise(subject, columns, generator)

    def root(outputs: Tensor, aid: tuple[Tensor, Tensor], some: slice) -> tuple[Tensor, Tensor]:
        found = sketched_root(outputs, aid[1], top) if plain else random_columns(loss, outputs, *aid)
        return found[..., some], outputs.new_ones(some.stop - some.start)

    def aids(some: slice) -> tuple[Tensor, Tensor]:
        return subject.targets[some], draw(some)

    def split(pulled: LayerVjps) -> tuple[int, Params, list[Params]]:
        """The last place that it holds, what its exact columns sum up to, and each random one."""
        last = pulled.first + pulled.weights.shape[1]
        exact = of(pulled.columns(0, top)) if pulled.first < top else {}
        drawn = [of(pulled.columns(place, place + 1)) for place in range(max(top, pulled.first), last)]
        return last, exact, drawn

    exact: Params = {}
    drawn: list[Params] = []
    for _, (last, some, more) in chunked_columns(subject, Columns(root, count, aids), split):
        add_trees(exact, some)
        drawn += more
        if last == count:
            stacked = {name: torch.stack([each[name] for each in drawn]) for name in drawn[0]}
            means = {name: values.mean(0) for name, values in stacked.items()}
            yield (
                exact or {name: torch.zeros_like(mean) for name, mean in means.items()},
                means,
                {name: values.var(0) / columns for name, values in stacked.items()},
            )
            exact, drawn = {}, []


def has_sketch(subject: Subject) -> bool:
    """Whether the output Hessian has a closed form without negative eigenvalues.

    >>> curvature.has_sketch(subject)
    True
    """
    loss = subject.criterion
    if loss.kind in ("softmax", "cross_entropy"):
        return subject.classes > 1
    return loss.kind in ("mse", "elementwise") and isinstance(loss.form, ElementwiseLoss) and loss.form.curved


def count_exact(subject: Subject, top: int) -> int:
    """How many of `top` exact columns a sketch has: none but for one label an example.

    Raises InvalidInput for a loss without a sketch.
    """
    if not has_sketch(subject):
        raise InvalidInput(
            f"loss '{subject.criterion.name}' has no sketch; use the exact trace, or a convex loss of torch.nn"
        )
    return top if subject.criterion.kind == "cross_entropy" else 0


def _noise(subject: Subject, columns: int, generator: torch.Generator) -> Callable[[slice], Tensor]:
    """Standard normal noise [B, ..., columns] of the outputs' shape for the examples of a slice.

    Of one label an example all of it is drawn at once; of many outputs each example draws its own when it is used, from
    a seed that is drawn now, so it does not depend on the chunks.
    """
    like = next(iter(subject.params.values()))
    shape = (*subject.outputs, columns)
    if subject.criterion.kind == "cross_entropy":
        noise = torch.randn((subject.n, *shape), generator=generator, dtype=torch.float64).to(like)
        return lambda some: noise[some]
    seeds = torch.randint(2**62, (subject.n,), generator=generator).tolist()

    def draw(some: slice) -> Tensor:
        drawn = [
            torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=like.dtype) for seed in seeds[some]
        ]
        return torch.stack(drawn).to(like.device)

    return draw
