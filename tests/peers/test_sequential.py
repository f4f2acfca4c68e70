"""A network as modules in a row is the same function of the same parameters, or there is a reason why it is none."""

from __future__ import annotations

import pytest
import torch
from sharpbench_peers.sequential import to_sequential
from torch import nn
from torch.nn import functional as F

from benchmarks.layers import NETWORKS, network
from sharpbench import NotApplicable, Subject
from tests.peers.conftest import subject

STRAIGHT = (
    *("leaky ReLU", "in-place ReLU", "tanh", "dropout", "ReLU as a function", "padding same"),
    *("strides and zeros", "grouped", "3-d convolution", "max pool", "average pool", "adaptive pool"),
    "frozen first layer",
)


@pytest.mark.parametrize("name", STRAIGHT)
def test_it_is_the_same_function(name: str) -> None:
    on = network(name)
    state = torch.get_rng_state()
    row, parameters = to_sequential(on.with_params({key: value + 0.1 for key, value in on.params.items()}))
    moved = on.with_params({key: value + 0.1 for key, value in on.params.items()})
    torch.testing.assert_close(row(on.inputs), on.apply(moved.params, on.inputs), rtol=1e-12, atol=1e-14)
    assert list(parameters) == list(on.params)
    assert all(torch.equal(value, moved.params[key]) for key, value in parameters.items())
    assert torch.equal(torch.get_rng_state(), state)  # no layer was initialised


def test_of_the_papers_way_to_write_a_network_too() -> None:
    on = subject("functional")
    row, _ = to_sequential(on)
    assert [type(part).__name__ for part in row] == ["Conv2d", "ReLU", "MaxPool2d", "Flatten", "Linear"]
    torch.testing.assert_close(row(on.inputs), on.apply(on.params, on.inputs))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("residual", "aten.linear.default makes a branch"),
        ("concatenation", "aten.linear.default makes a branch"),
        ("layer norm", "aten.layer_norm.default stands in it"),
        ("attention", r"aten.view.default to \[1, 3, 3, 2, 2\]"),
        ("layer applied twice", "aten.linear.default shares its parameters, or computes them"),
        ("tied weights", "aten.linear.default shares its parameters, or computes them"),
        ("weight norm", "makes a branch|shares its parameters, or computes them"),
        ("raw parameter", "aten.mul.Tensor stands in it"),
    ],
)
def test_what_is_no_row_says_why(name: str, message: str) -> None:
    assert name in NETWORKS
    with pytest.raises(NotApplicable, match=f"no row of modules: .*({message})"):
        to_sequential(network(name))


class Ceiled(nn.Module):
    """A pool with its own divisor, which has no place among the words of the module."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(F.avg_pool2d(x, 2, divisor_override=3).flatten(1))
        return logits


def test_arguments_that_the_module_does_not_know_are_not_dropped() -> None:
    on = Subject.from_module(Ceiled(), torch.randn(2, 1, 4, 4), torch.tensor([0, 1]))
    with pytest.raises(NotApplicable, match=r"avg_pool2d\.default is called with"):
        to_sequential(on)
