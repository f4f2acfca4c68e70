"""Naive: entries of the Hessian's diagonal by double backward, a pass each; what exact traces are compared with."""

from __future__ import annotations

import torch
from torch import Tensor

from sharpbench.core.subject import Subject


def naive_entries(subject: Subject, chosen: Tensor) -> Tensor:
    """H_jj for the indices `chosen` [k] into all parameters laid end to end, float like the subject: [k].

    The gradient of the mean loss is taken once with its graph, then differentiated again for every index.
    """
    params = {name: value.detach().clone().requires_grad_() for name, value in subject.params.items()}
    names = list(params)
    starts = torch.tensor([params[name].numel() for name in names]).cumsum(0)
    slopes = torch.autograd.grad(subject.loss(params), list(params.values()), create_graph=True)
    entries = []
    for index in chosen.tolist():
        place = int(torch.searchsorted(starts, index, right=True))
        inside = index - (int(starts[place - 1]) if place else 0)
        slope = slopes[place].flatten()[inside]
        (second,) = torch.autograd.grad(slope, params[names[place]], retain_graph=True)
        entries.append(second.flatten()[inside])
    return torch.stack(entries)
