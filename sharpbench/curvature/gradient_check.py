"""Whether a network that is pulled back layer by layer gives the gradients that plain backward passes give."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sharpbench.core.requirements import COMPARED, spread_places
from sharpbench.core.subject import Params
from sharpbench.curvature.plain import as_leaves, plain_vjp

if TYPE_CHECKING:
    from sharpbench.curvature.vjp import LayerVjps, LayerwiseNetwork

COLUMNS = 2
"""Columns that are pulled back together: with one, derivatives that mix up columns would not be seen."""


def agrees_with_module(network: LayerwiseNetwork) -> bool:
    """Whether logits, and the gradients of two random combinations of them, are those of the module.

    On examples spread over the data, through the same vmapped pullback that the measures use. Differences up to
    eps^(2/3) of the largest entry are rounding: that is below the rounding of the next coarser type.
    """
    subject = network.subject
    device = subject.inputs.device
    inputs = subject.inputs[spread_places(len(subject.inputs), COMPARED).to(device)]
    leaves = as_leaves(subject.params)
    with torch.enable_grad():
        logits = subject.apply(leaves, inputs)
    wanted = logits.detach()
    drawn = torch.randn((*wanted.shape, COLUMNS), generator=torch.Generator().manual_seed(0), dtype=wanted.dtype)
    directions = torch.where(wanted.isfinite()[..., None], drawn.to(device), 0.0)

    def root(logits: Tensor, given: Tensor) -> tuple[Tensor, Tensor]:
        """The random columns, and for weights by how much the logits are off."""
        gap = torch.where(logits == given[:, -1], 0.0, (logits - given[:, -1]).abs()).amax()
        return given[:, :-1], gap.expand(COLUMNS)

    try:
        pull = network.pull if network.graph is None else network.pull_vmapped  # a graph only where it can be vmapped
        pulled = pull(inputs, torch.cat((directions, wanted[..., None]), -1), root, slice(0, COLUMNS))
        found = _gradients(pulled)
    except (RuntimeError, TypeError, IndexError):  # what torch cannot vmap, or a graph that does not fit
        return False
    if not _small(pulled.weights, wanted):
        return False
    plain = plain_vjp(torch.where(wanted.isfinite(), logits, 0.0), leaves, directions @ _mixture(directions))
    other = torch.cat([value.flatten().to(wanted) for value in plain.values()])
    one = torch.cat([found[name].flatten().to(wanted) for name in plain])
    return _small(one - other, other)


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


def _small(gaps: Tensor, values: Tensor) -> bool:
    """Whether the gaps are rounding of the values, relative to the largest finite one."""
    finite = values[values.isfinite()].abs()
    bound = torch.finfo(values.dtype).eps ** (2 / 3)
    return bool((gaps.abs() <= bound * (finite.max() if finite.numel() else 0.0)).all())
