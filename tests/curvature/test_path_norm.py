"""What is refused as a path or a chain: everything that could make the sum over paths wrong."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from sharpbench import InvalidInput, Subject
from sharpbench.curvature import chain, path_sum


class Made(nn.Module):
    """A linear layer, and what a function makes of it."""

    def __init__(self, function: Callable[[nn.Linear, Tensor], Tensor]) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.function = function
        self.register_buffer("offset", torch.ones(4))

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.layer, x)


def subject(function: Callable[[nn.Linear, Tensor], Tensor]) -> Subject:
    torch.manual_seed(0)
    return Subject.from_module(Made(function).double(), torch.randn(3, 4, dtype=torch.float64), torch.arange(3) % 2)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda layer, x: layer(x) + 1, "adds or multiplies a constant"),
        (lambda layer, x: torch.add(x, layer(x), alpha=2), "adds or multiplies a constant"),
        (lambda layer, x: nn.functional.pad(layer(x), (0, 1), value=2.0), "adds or multiplies a constant"),
        (lambda layer, x: layer(x) * 2, r"aten\.mul\.Tensor is neither a layer"),
        (lambda layer, x: x - layer(x), r"aten\.sub\.Tensor is neither a layer"),
        (
            lambda layer, x: nn.functional.linear(x, 2 * layer.weight),
            "weight of aten.linear.default is not a parameter",
        ),
        (lambda layer, x: nn.functional.linear(x, layer.weight, 2 * layer.bias), "bias of aten.linear.default is not"),
        (lambda layer, x: layer(x).clamp(max=1), "is neither a layer nor positively homogeneous"),
    ],
)
def test_operators_that_break_the_sum_are_refused(
    function: Callable[[nn.Linear, Tensor], Tensor], message: str
) -> None:
    given = subject(function)
    with pytest.raises(InvalidInput, match=message):
        path_sum(given)
    with pytest.raises(InvalidInput, match=f"{message}|two branches meet"):
        chain(given)


class Offset(Made):
    def forward(self, x: Tensor) -> Tensor:
        assert isinstance(self.offset, Tensor)
        return self.layer(x) + self.offset


class OfConstant(Made):
    def forward(self, x: Tensor) -> Tensor:
        assert isinstance(self.offset, Tensor)
        return x + self.layer(self.offset)


@pytest.mark.parametrize("made", [Offset, OfConstant])
def test_constants_are_refused(made: type[Made]) -> None:
    module = made(lambda layer, x: x).double()
    with pytest.raises(InvalidInput, match="reads a constant"):
        path_sum(Subject.from_module(module, torch.randn(3, 4, dtype=torch.float64), torch.arange(3)))


@pytest.mark.parametrize(
    "function",
    [
        lambda layer, x: nn.functional.pad(layer(x), (0, 1)),
        lambda layer, x: nn.functional.dropout(nn.functional.leaky_relu(layer(x)), training=False),
        lambda layer, x: torch.cat((layer(x), x), 1)[:, 1:].reshape(-1, 7),
        lambda layer, x: layer(x.relu()).chunk(2, 1)[0],
    ],
)
def test_the_sum_is_the_network_with_squared_weights(function: Callable[[nn.Linear, Tensor], Tensor]) -> None:
    given = subject(function)
    squares = {name: value.square() for name, value in given.params.items()}
    truth = float(given.apply(squares, torch.ones(1, 4, dtype=torch.float64)).sum())
    assert path_sum(given) == pytest.approx(truth, rel=1e-12)


def test_a_norm_over_the_last_axis_is_not_folded_into_a_linear_over_another() -> None:
    """[B, T, out] normalised along T: the channels of the norm are positions."""
    torch.manual_seed(0)
    norm = nn.BatchNorm1d(5).double()
    for value in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
        assert value is not None
        nn.init.uniform_(value, 0.5, 2.0)
    module = nn.Sequential(nn.Linear(4, 5), norm, nn.ReLU(), nn.Flatten(), nn.Linear(25, 3)).double()
    given = Subject.from_module(module, torch.randn(3, 5, 4, dtype=torch.float64), torch.arange(3))
    held = {**given.params, **given.constants}
    scale = held["1.weight"] / (held["1.running_var"] + 1e-5).sqrt()
    shift = held["1.bias"] - held["1.running_mean"] * scale
    inside = held["0.weight"].square().sum(1) + held["0.bias"].square()
    x = scale.square()[:, None] * inside + shift.square()[:, None]
    truth = float((held["4.weight"].square() @ x.flatten() + held["4.bias"].square()).sum())
    assert path_sum(given) == pytest.approx(truth, rel=1e-12)
    with pytest.raises(InvalidInput, match="a batch norm follows no linear"):
        chain(given)
