"""Fisher: traces of the covariances of per-example gradients, at the given targets and at targets drawn from the model.

By the pullback of single columns, so that no per-example gradient is formed where a layer's factors suffice.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sharpbench.core.output_losses import ElementwiseLoss
from sharpbench.core.subject import Subject
from sharpbench.core.torch_losses import BINARY
from sharpbench.curvature.ggn import Columns, chunked_columns, mean_traces, pull_by_example, squared_norms
from sharpbench.curvature.output_hessian import score_columns
from sharpbench.curvature.vjp import LayerVjps
from sharpbench.errors import InvalidInput


def gradient_traces(subject: Subject) -> dict[str, float]:
    """The trace of each parameter's block of the empirical Fisher matrix: (1/n) sum_i |g_i|^2.

    g_i is the gradient of example i's loss, for any criterion. Cost: about two gradients.

    >>> {name: round(trace, 9) for name, trace in curvature.gradient_traces(subject).items()}
    {'weight': 4.5, 'bias': 0.5}
    """
    return mean_traces(subject, gradient_traces_by_example(subject))


def gradient_traces_by_example(subject: Subject) -> Tensor:
    """|g_i|^2 by example and parameter [n, parameters], float64, on the CPU; the cost is that of their mean.

    >>> curvature.gradient_traces_by_example(subject).round(decimals=9)
    tensor([[4.5000, 0.5000]], dtype=torch.float64)
    """

    def root(outputs: Tensor, target: Tensor, some: slice) -> tuple[Tensor, Tensor]:
        def loss(each: Tensor) -> Tensor:
            return subject.criterion(each[None], target[None])[0]

        return torch.func.grad(loss)(outputs)[..., None], outputs.new_ones(1)

    return pull_by_example(subject, Columns(root, 1, lambda some: subject.targets[some]), squared_norms)


@dataclass(frozen=True, slots=True, eq=False)
class FisherDraws:
    """|g_i|^2 at drawn targets: means over examples [draws, parameters], sums over parameters [draws, n]; float64."""

    by_parameter: Tensor
    by_example: Tensor


def sampled_fisher_traces(subject: Subject, *, draws: int, generator: torch.Generator) -> Tensor:
    """Unbiased samples [draws, parameters], float64, of the traces of the Fisher matrix's blocks; rows are independent.

    A row holds (1/n) sum_i |g_i|^2 by parameter, at targets y_i drawn from the network's own probabilities.

    Args:
        draws: rows; one backward pass each.
        generator: the only source of randomness.
    Raises:
        InvalidInput: for a loss that gives no probabilities of targets: others than cross entropy and the binary one.

    >>> curvature.sampled_fisher_traces(subject, draws=2, generator=torch.Generator().manual_seed(0)).round(decimals=9)
    tensor([[4.5000, 0.5000],
            [4.5000, 0.5000]], dtype=torch.float64)
    """
    return draw_fisher_traces(subject, draws=draws, generator=generator).by_parameter


def draws_targets(subject: Subject) -> bool:
    """Whether targets can be drawn from the network's own probabilities under its loss.

    >>> curvature.draws_targets(subject)
    True
    """
    loss = subject.criterion
    binary = isinstance(loss.form, ElementwiseLoss) and loss.form.value is BINARY.value
    return loss.describe_no_likelihood() is None and (loss.kind in ("cross_entropy", "softmax") or binary)


def draw_fisher_traces(subject: Subject, *, draws: int, generator: torch.Generator) -> FisherDraws:
    """`sampled_fisher_traces`, and the same by draw and example.

    >>> found = curvature.draw_fisher_traces(subject, draws=2, generator=torch.Generator().manual_seed(0))
    >>> found.by_parameter.shape, found.by_example.shape
    (torch.Size([2, 2]), torch.Size([2, 1]))
    """
    loss, shape = subject.criterion, subject.outputs
    if not draws_targets(subject):
        raise InvalidInput(
            f"loss '{loss.name}' gives no probabilities to draw targets from; use cross_entropy or bce without weights "
            "of classes"
        )
    positions = (math.prod(shape) // subject.classes,) if loss.kind == "softmax" else shape
    places = () if loss.kind == "cross_entropy" else positions
    uniform = torch.rand((subject.n, *places, draws), generator=generator, dtype=torch.float64)
    device = next(iter(subject.params.values())).device

    def root(outputs: Tensor, aid: tuple[Tensor, Tensor], some: slice) -> tuple[Tensor, Tensor]:
        return score_columns(loss, outputs, *aid)[..., some], outputs.new_ones(some.stop - some.start)

    def aids(some: slice) -> tuple[Tensor, Tensor]:
        return subject.targets[some], uniform[some].to(device)

    found = FisherDraws(torch.zeros(draws, len(subject.params)).double(), torch.zeros(draws, subject.n).double())

    def by_draw(pulled: LayerVjps) -> dict[int, Tensor]:
        squares = {}
        for place in range(pulled.first, pulled.first + pulled.weights.shape[1]):
            norms = squared_norms(pulled.columns(place, place + 1))
            squares[place] = torch.stack([norms[name] for name in subject.params], 1)  # [B, parameters]
        return squares

    for examples, part in chunked_columns(subject, Columns(root, draws, aids), by_draw):
        for place, squares in part.items():
            wide = squares.cpu().double()
            found.by_parameter[place] += wide.sum(0) / subject.n
            found.by_example[place, examples] = wide.sum(1)
    return found
