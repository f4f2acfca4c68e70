"""Fisher: traces of the covariances of per-example gradients, at the given targets and at targets drawn from the model.

By the pullback of single columns, so that no per-example gradient is formed where a layer's factors suffice.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sharpbench.core.subject import Subject
from sharpbench.curvature.ggn import chunked_columns, mean_traces, pull_by_example, squared_norms
from sharpbench.curvature.output_hessian import softmax_slopes
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

    def root(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        def loss(outputs: Tensor) -> Tensor:
            return subject.criterion(outputs[None], target[None])[0]

        return torch.func.grad(loss)(logits)[:, None], logits.new_ones(1)

    return pull_by_example(subject, root, 1, squared_norms)


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
        InvalidInput: for a criterion other than cross entropy.

    >>> curvature.sampled_fisher_traces(subject, draws=2, generator=torch.Generator().manual_seed(0)).round(decimals=9)
    tensor([[4.5000, 0.5000],
            [4.5000, 0.5000]], dtype=torch.float64)
    """
    return draw_fisher_traces(subject, draws=draws, generator=generator).by_parameter


def draw_fisher_traces(subject: Subject, *, draws: int, generator: torch.Generator) -> FisherDraws:
    """`sampled_fisher_traces`, and the same by draw and example.

    >>> found = curvature.draw_fisher_traces(subject, draws=2, generator=torch.Generator().manual_seed(0))
    >>> found.by_parameter.shape, found.by_example.shape
    (torch.Size([2, 2]), torch.Size([2, 1]))
    """
    if subject.criterion.kind != "cross_entropy":
        raise InvalidInput(
            f"criterion '{subject.criterion.kind}' gives no probabilities to draw targets from; use cross_entropy"
        )
    uniform = torch.rand((len(subject.inputs), draws), generator=generator, dtype=torch.float64)
    device = next(iter(subject.params.values())).device

    def root(logits: Tensor, drawn: Tensor) -> tuple[Tensor, Tensor]:
        below = logits.double().softmax(0).cumsum(0)[:-1, None] <= drawn  # classes whose share ends before the draw
        return softmax_slopes(logits, below.sum(0)), logits.new_ones(draws)

    shape = draws, len(subject.params)
    found = FisherDraws(torch.zeros(shape).double(), torch.zeros(draws, len(subject.inputs)).double())

    def by_draw(pulled: LayerVjps) -> dict[int, Tensor]:
        squares = {}
        for place in range(pulled.first, pulled.first + pulled.weights.shape[1]):
            norms = squared_norms(pulled.columns(place, place + 1))
            squares[place] = torch.stack([norms[name] for name in subject.params], 1)  # [B, parameters]
        return squares

    for examples, part in chunked_columns(subject, root, draws, by_draw, uniform.to(device)):
        for place, squares in part.items():
            wide = squares.cpu().double()
            found.by_parameter[place] += wide.sum(0) / len(subject.inputs)
            found.by_example[place, examples] = wide.sum(1)
    return found
