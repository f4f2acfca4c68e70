"""Gradients that are not those of the loss, and networks that torch.func cannot differentiate."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from benchmarks.unusual_layers import CubeOldStyle
from sharpbench import NotApplicable, Subject, measure
from sharpbench.curvature import dense_hessian, gradient_method
from sharpbench.curvature.surrogates import gradient_kind

TYPES = (torch.float32, torch.float64)
IN, C, N = 4, 3, 6


class Around(nn.Module):
    """A function between two linear layers."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.one, self.act, self.head = nn.Linear(IN, 5), nn.Tanh(), nn.Linear(5, C)
        self.function = function

    def forward(self, inputs: Tensor) -> Tensor:
        logits: Tensor = self.head(self.function(self.act(self.one(inputs))))
        return logits


def subject(function: Callable[[Tensor], Tensor], dtype: torch.dtype = torch.float64) -> Subject:
    torch.manual_seed(0)
    return subject_of(Around(function), dtype)


def subject_of(model: nn.Module, dtype: torch.dtype = torch.float64) -> Subject:
    inputs = torch.randn(N, IN, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return Subject.from_module(model.to(dtype), inputs.to(dtype), torch.arange(N) % C)


class Scaled(torch.autograd.Function):
    """The identity, whose gradient is a tenth of what it should be."""

    generate_vmap_rule = True
    factor = 0.1

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        pass

    @classmethod
    def backward(cls, ctx: Any, *slopes: Tensor) -> Tensor:
        return slopes[0] * cls.factor


class Reversed(Scaled):
    factor = -1.0


class Rounded(Scaled):
    """Straight through: piecewise constant, with the gradient of the identity."""

    factor = 1.0

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return (4 * x).round() / 4


class Clipped(Scaled):
    """The identity, without a gradient outside an interval."""

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> Tensor:
        return slopes[0] * (ctx.saved_tensors[0].abs() < 0.4)


def hooked(hidden: Tensor) -> Tensor:
    if hidden.requires_grad:
        hidden.register_hook(lambda slope: slope * 0.5)
    return hidden


def watched(hidden: Tensor) -> Tensor:
    if hidden.requires_grad:
        hidden.register_hook(lambda slope: None)
    return hidden


WORDS = ("trace", "ggn-trace", "top-eigenvalue", "gradient-norm", "sam", "fisher-rao", "keskar[iterations=2]")


@pytest.mark.parametrize(
    ("function", "dtype", "why"),
    [
        (Scaled.apply, torch.float32, "the backward pass of Scaled is not the derivative"),
        (Reversed.apply, torch.float64, "the backward pass of Reversed is not the derivative"),
        (hooked, torch.float32, "a hook changes it"),
        (hooked, torch.float64, "a hook changes it"),
    ],
)
def test_gradients_that_are_scaled_reversed_or_hooked_are_refused(
    function: Callable[[Tensor], Tensor], dtype: torch.dtype, why: str
) -> None:
    given = subject(function, dtype)
    for word in WORDS:
        with pytest.raises(NotApplicable, match="the gradient disagrees with differences of the loss") as raised:
            measure(word, given)
        assert why in str(raised.value)
        assert "\n" not in str(raised.value)
    measure("average[samples=2]", given)  # takes no derivatives


def test_hooks_of_modules_that_change_gradients_are_refused() -> None:
    torch.manual_seed(0)
    model = Around(lambda hidden: hidden)
    model.act.register_full_backward_hook(lambda module, given, slopes: (given[0] * 2,))
    with pytest.raises(NotApplicable, match="a hook changes it"):
        measure("ggn-trace", subject_of(model))


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("function", [CubeOldStyle.apply, watched, lambda x: x + 0 * x.detach()])
def test_gradients_that_are_those_of_the_loss_are_not_noted(
    function: Callable[[Tensor], Tensor], dtype: torch.dtype
) -> None:
    given = subject(function, dtype)
    assert not gradient_kind(given).surrogate
    assert "gradient" not in measure("ggn-trace", given).details


def straight(hidden: Tensor) -> Tensor:
    return hidden + ((4 * hidden).round() / 4 - hidden).detach()


def plain_ggn_trace(given: Subject) -> float:
    """By torch.autograd, row by row."""
    total = 0.0
    leaves = {name: value.clone().requires_grad_() for name, value in given.params.items()}
    for example in given.inputs.split(1):
        logits = given.apply(leaves, example)[0]
        rows = [torch.autograd.grad(logit, list(leaves.values()), retain_graph=True) for logit in logits]
        jacobian = torch.stack([torch.cat([each.flatten() for each in row]) for row in rows])
        p = logits.detach().softmax(0)
        total += float(torch.trace(jacobian.T @ (torch.diag(p) - torch.outer(p, p)) @ jacobian))
    return total / len(given.inputs)


@pytest.mark.parametrize(
    ("function", "dtype"),
    [
        (Rounded.apply, torch.float64),
        (Clipped.apply, torch.float32),
        (straight, torch.float32),
        (straight, torch.float64),
    ],
)
def test_straight_through_and_clipped_gradients_are_noted(
    function: Callable[[Tensor], Tensor], dtype: torch.dtype
) -> None:
    given = subject(function, dtype)
    rtol = 1e-5 if dtype == torch.float32 else 1e-10
    found = measure("ggn-trace", given)
    assert found.value == pytest.approx(plain_ggn_trace(given), rel=rtol)
    assert found.details["gradient"] == "surrogate"
    for word in ("ggn-trace", "trace", "top-eigenvalue", "gradient-norm", "fisher-rao"):
        assert measure(word, given.fresh()).details["gradient"] == "surrogate", word
    assert measure("fisher-rao", given).details["gradient"] == "surrogate"


@pytest.mark.parametrize("dtype", TYPES)
def test_plain_backward_passes_where_torch_func_cannot_follow(dtype: torch.dtype) -> None:
    odd, twin = subject(CubeOldStyle.apply, dtype), subject(lambda x: x**3, dtype)
    assert gradient_method(odd).plain
    assert not gradient_method(twin).plain
    words = (
        *("gradient-norm", "sam", "sam[steps=3]", "asam", "asam[norm=linf]", "keskar", "igs", "fisher-rao"),
        *("fisher-trace", "fisher-trace[fisher=empirical]", "normalized[diagonal=icml]", "normalized[diagonal=arxiv]"),
    )
    for word in words if dtype == torch.float64 else ("gradient-norm", "fisher-rao", "fisher-trace"):
        found, wanted = measure(word, odd), measure(word, twin)
        assert found.value == pytest.approx(wanted.value, rel=1e-3 if dtype == torch.float32 else 1e-8), word
    assert measure("gradient-norm", odd).details["derivatives"] == "plain backward passes"


def test_networks_without_any_derivative_get_one_line() -> None:
    class Forward(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            return x.clone()

        @staticmethod
        def backward(ctx: Any, *slopes: Tensor) -> Tensor:
            raise OSError("no backward\npass")

    given = subject(Forward.apply)
    for word in WORDS:
        with pytest.raises(NotApplicable, match="cannot be differentiated: OSError: no backward pass") as raised:
            measure(word, given)
        assert "\n" not in str(raised.value)
    assert measure("average[samples=2]", given).value != 0


class KeptSlope(torch.autograd.Function):
    """relu(x)^2, whose kept slope has no derivative in a second backward pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.slope = 2 * x.detach().clamp(min=0)
        return x.clamp(min=0).square()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient * ctx.slope  # type: ignore[no-any-return]


class Rarely(nn.Module):
    """Linear layers around a function that only large inputs reach."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = nn.Linear(5, 6), nn.Linear(6, 3)
        self.first.bias.data -= 1
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.function(self.first(x)))  # type: ignore[no-any-return]


@pytest.mark.parametrize("place", [0, 3])
def test_one_example_that_takes_another_branch_decides_wherever_it_is(place: int) -> None:
    """One of twelve examples, also between those that are compared of an ordinary network."""
    inputs = 0.2 * torch.randn(12, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    inputs[place] *= 20
    targets = torch.arange(12) % 3
    odd = Rarely(KeptSlope.apply).double()
    plain = Rarely(lambda x: x.clamp(min=0).square()).double()
    one, other = (Subject.from_module(module, inputs, targets) for module in (odd, plain))
    assert measure("trace[method=exact]", one).value == pytest.approx(float(dense_hessian(other).trace()), rel=1e-9)
