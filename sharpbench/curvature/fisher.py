"""Fisher: traces of the covariances of per-example gradients, at the given targets and at targets drawn from the model.

By the pullback of single columns, so that no per-example gradient is formed where a layer's factors suffice.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sharpbench.core.subject import Params, Subject
from sharpbench.curvature.ggn import chunked_columns, sum_traces
from sharpbench.curvature.output_hessian import softmax_slopes
from sharpbench.curvature.vjp import LayerVjps, add_trees
from sharpbench.errors import InvalidInput


def gradient_traces(subject: Subject) -> dict[str, float]:
    """The trace of each parameter's block of the empirical Fisher matrix: (1/n) sum_i |g_i|^2.

    g_i is the gradient of example i's loss, for any criterion. Cost: about two gradients.

    >>> {name: round(trace, 9) for name, trace in curvature.gradient_traces(subject).items()}
    {'weight': 4.5, 'bias': 0.5}
    """

    def root(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        def loss(outputs: Tensor) -> Tensor:
            return subject.criterion(outputs[None], target[None])[0]

        return torch.func.grad(loss)(logits)[:, None], logits.new_ones(1)

    total: Params = {}
    for part in chunked_columns(subject, root, 1, sum_traces):
        add_trees(total, part)
    return {name: float(total[name].sum()) / len(subject.inputs) for name in subject.params}


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
    if subject.criterion.kind != "cross_entropy":
        raise InvalidInput(
            f"criterion '{subject.criterion.kind}' gives no probabilities to draw targets from; use cross_entropy"
        )
    uniform = torch.rand((len(subject.inputs), draws), generator=generator, dtype=torch.float64)
    device = next(iter(subject.params.values())).device

    def root(logits: Tensor, drawn: Tensor) -> tuple[Tensor, Tensor]:
        below = logits.double().softmax(0).cumsum(0)[:-1, None] <= drawn  # classes whose share ends before the draw
        return softmax_slopes(logits, below.sum(0)), logits.new_ones(draws)

    total: Params = {}

    def by_draw(pulled: LayerVjps) -> Params:
        found: Params = {}
        for place in range(pulled.first, pulled.first + pulled.weights.shape[1]):
            traces = sum_traces(pulled.columns(place, place + 1))
            found[str(place)] = torch.stack([traces[name].double().sum() for name in subject.params])
        return found

    for part in chunked_columns(subject, root, draws, by_draw, uniform.to(device)):
        add_trees(total, part)
    return torch.stack([total[str(place)] for place in range(draws)]).cpu() / len(subject.inputs)
