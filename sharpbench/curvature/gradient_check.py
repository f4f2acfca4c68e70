"""Whether a network that is pulled back layer by layer gives the gradients that plain backward passes give."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sharpbench.core.batch import split_examples
from sharpbench.core.graph import Graph, run_graph
from sharpbench.core.requirements import COMPARED, small
from sharpbench.core.subject import Params, Subject
from sharpbench.curvature.plain import as_leaves, differentiated, plain_vjp

if TYPE_CHECKING:
    from sharpbench.curvature.vjp import LayerVjps, LayerwiseNetwork
from sharpbench.curvature.surrogates import choose_compared, compared_chunks

EXAMPLES = 2
"""Examples of the comparison of a graph whose pullback has agreed before."""
COLUMNS = 2
"""Columns that are pulled back together: with one, derivatives that mix up columns would not be seen."""


def agrees_with_module(network: LayerwiseNetwork) -> bool:
    """Whether logits, and the gradients of two random combinations of them, are those of the module.

    On examples spread over the data, through the same vmapped pullback that the measures use; a graph on all examples
    where the network's code has derivatives of its own. Differences up to eps^(2/3) of the largest entry are rounding:
    that is below the rounding of the next coarser type.
    """
    subject = network.subject
    if network.graph is None:
        return _agrees_on(network, choose_compared(subject, COMPARED))
    return all(_agrees_on(network, places) for places in compared_chunks(subject, COMPARED))


def _agrees_on(network: LayerwiseNetwork, places: Tensor) -> bool:
    subject = network.subject
    inputs = subject.pick(places)[0]
    leaves = as_leaves(subject.params)
    with differentiated(), torch.enable_grad():
        logits = subject.apply(leaves, inputs)
    wanted = logits.detach()
    drawn = torch.randn((*wanted.shape, COLUMNS), generator=torch.Generator().manual_seed(0), dtype=wanted.dtype)
    directions = torch.where(wanted.isfinite()[..., None], drawn.to(subject.device), 0.0)

    def root(logits: Tensor, given: Tensor, columns: slice) -> tuple[Tensor, Tensor]:
        """The random columns, and for weights by how much the logits are off."""
        gap = torch.where(logits == given[..., -1], 0.0, (logits - given[..., -1]).abs()).amax()
        return given[..., columns], gap.expand(COLUMNS)

    try:
        pull = network.pull if network.graph is None else network.pull_vmapped  # a graph only where it can be vmapped
        pulled = pull(inputs, torch.cat((directions, wanted[..., None]), -1), root, slice(0, COLUMNS))
        found = _gradients(pulled)
    except (RuntimeError, TypeError, IndexError):  # what torch cannot vmap, or a graph that does not fit
        return False
    if not small(pulled.weights, wanted.abs(), _rounding(wanted.dtype)):
        return False
    with differentiated():
        plain = plain_vjp(torch.where(wanted.isfinite(), logits, 0.0), leaves, directions @ _mixture(directions))
    other = torch.cat([value.flatten().to(wanted) for value in plain.values()])
    one = torch.cat([found[name].flatten().to(wanted) for name in plain])
    return _same(one, other)


def graph_agrees_with_module(subject: Subject, graph: Graph) -> bool:
    """Whether a graph's logits, and the gradient of a random combination of them, are those of the module.

    On the first and the last example, by plain backward passes of both.
    """
    inputs = subject.pick(choose_compared(subject, EXAMPLES))[0]
    leaves = as_leaves(subject.params)
    with torch.enable_grad():
        logits = subject.apply(leaves, inputs)
        values = {**subject.constants, **leaves}
        found = torch.cat([run_graph(graph, values, each)[graph.outputs[0]] for each in split_examples(inputs)])
    if not _same(found.detach(), logits.detach()):
        return False
    drawn = torch.randn(logits.shape, generator=torch.Generator().manual_seed(0), dtype=logits.dtype).to(logits.device)
    finite = logits.isfinite()
    wanted, other = (plain_vjp(torch.where(finite, each, 0.0), leaves, drawn * finite) for each in (logits, found))
    gaps = torch.stack([(other[name] - value).abs().max().double() for name, value in wanted.items()])
    sizes = torch.stack([value.abs().max().double() for value in wanted.values()])
    return bool(gaps.max() <= _rounding(logits.dtype) * sizes.max())  # False where one is NaN


def _mixture(like: Tensor) -> Tensor:
    """Different factors [K] of the columns, with which their gradients are added up."""
    return torch.arange(1, COLUMNS + 1, device=like.device).to(like)


def _gradients(pulled: LayerVjps) -> Params:
    """By parameter the sum of its gradients over examples and, with the factors of the mixture, over columns."""
    factors = _mixture(pulled.weights)
    found = {name: torch.einsum("bk...,k->...", rows, factors.to(rows)) for name, rows in pulled.rows.items()}
    for layer, inputs, deltas in zip(pulled.layers, pulled.data, pulled.deltas, strict=True):
        mixed = torch.einsum("bk...,k->b...", deltas, factors.to(deltas)).unsqueeze(1)
        if layer.weight is not None:
            patches, slopes = layer.factors(inputs, mixed)
            found[layer.weight] = layer.shaped(torch.einsum("bgpt,bgkot->gop", patches, slopes))
        if layer.bias is not None:
            found[layer.bias] = layer.outputs(mixed).sum((0, 2, 4))
    return found


def _same(one: Tensor, other: Tensor) -> bool:
    """Whether two results differ by rounding only, relative to the largest finite entry."""
    return small(torch.where(one == other, 0.0, (one - other).abs()), other.abs(), _rounding(other.dtype))


def _rounding(dtype: torch.dtype) -> float:
    """eps^(2/3): below the rounding of the next coarser type."""
    return float(torch.finfo(dtype).eps ** (2 / 3))
