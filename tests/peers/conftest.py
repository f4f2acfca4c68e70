"""Tiny networks in float64 on which the adapters are asked, and the words of each measure that takes part."""

from __future__ import annotations

import warnings
from functools import cache

import pytest
import torch
from sharpbench_peers import MEASURES
from torch import Tensor, nn
from torch.nn import functional as F

from sharpbench import Measure, Subject
from sharpbench.core.spec import parse_spec

with warnings.catch_warnings():  # forward mode compiles its decompositions at first use, with torch's own warning
    warnings.simplefilter("ignore")
    torch.func.jvp(torch.sin, (torch.ones(1),), (torch.ones(1),))

OFFERED = {each.name: each for each in MEASURES}
PACKAGES = {
    "backpack": "backpack",
    "curvlinops": "curvlinops",
    "eigenthings": "hessian_eigenthings",
    "pyhessian": "pyhessian",
    "nngeometry": "nngeometry",
    "asdl": "asdl",
}
"""The first word of a measure's name -> what it imports."""


class Functional(nn.Module):
    """A convolution, a pool and a linear layer, written as the paper's networks are."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(1, 3, 3), nn.Linear(27, 4)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(F.max_pool2d(F.relu(self.conv(x)), 2).flatten(1))
        return logits


def peer(words: str) -> Measure:
    """The measure that `words` name; the test is skipped where its library is not installed."""
    chosen: Measure = parse_spec(words, OFFERED, kind="measure")
    first = chosen.name.partition("-")[0]
    if first in PACKAGES:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pytest.importorskip(PACKAGES[first], reason="pip install 'sharpbench[peers]'")
    return chosen


@cache
def subject(kind: str, criterion: str = "cross_entropy", n: int = 9, batch_size: int = 4) -> Subject:
    """`chain` (ReLU), `smooth` (tanh) or `functional`, on n examples of 4 outputs in ragged batches."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        activation = nn.Tanh() if kind == "smooth" else nn.ReLU()
        chain = nn.Sequential(nn.Linear(5, 6), activation, nn.Linear(6, 4))
        module = (Functional() if kind == "functional" else chain).double()
        inputs = torch.randn(n, *((1, 8, 8) if kind == "functional" else (5,)), dtype=torch.float64)
        targets = torch.arange(n) % 4 if criterion == "cross_entropy" else torch.randn(n, 4, dtype=torch.float64)
    return Subject.from_module(module, inputs, targets, loss=criterion, batch_size=batch_size)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
