"""By which method second derivatives are right: each method, and each kind of network that needs another one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.unusual_layers import CubeOldStyle
from sharpbench import InvalidInput, NotApplicable, Subject, measure
from sharpbench.core.requirements import COMPARED
from sharpbench.curvature import (
    dense_ggn,
    dense_hessian,
    exact_traces,
    flatten,
    ggnvp,
    linear_operator,
    trace_estimate,
)
from sharpbench.curvature import derivative_methods as methods_module
from sharpbench.curvature import soundness as soundness_module
from sharpbench.curvature.derivative_methods import METHODS, DerivativeMethod
from sharpbench.curvature.soundness import Soundness, default_method_agrees, sound_method, soundness
from sharpbench.curvature.surrogates import choose_compared, survey_operators

TYPES = (torch.float32, torch.float64)
IN, C, N = 4, 3, 6


def subject(model: nn.Module, dtype: torch.dtype = torch.float64, **options: Any) -> Subject:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(N, IN, generator=generator, dtype=torch.float64).to(dtype)
    return Subject.from_module(model.to(dtype), inputs, torch.arange(N) % C, **options)


def seeded(build: Callable[[], nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    return build()


class Around(nn.Module):
    """A function between two linear layers."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.one, self.head, self.function = nn.Linear(IN, 5), nn.Linear(5, C), function

    def forward(self, inputs: Tensor) -> Tensor:
        logits: Tensor = self.head(self.function(self.one(inputs)))
        return logits


class SavesIntermediate(torch.autograd.Function):
    """tanh, whose backward pass takes what it saved for a constant: second derivatives are wrong in every way."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> tuple[Tensor, Tensor]:
        y = x.tanh()
        return y, (1 - y**2).detach()

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(output[1])

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> Tensor:
        return ctx.saved_tensors[0] * slopes[0]


def grid(hidden: Tensor) -> Tensor:
    image = torch.linspace(-1, 1, 16, dtype=hidden.dtype).reshape(1, 1, 4, 4).square().expand(len(hidden), 1, 4, 4)
    places = torch.stack((hidden.tanh(), hidden.roll(1, 1).tanh()), -1)[:, :, None]
    return F.grid_sample(image, places, align_corners=True).flatten(1)


def logcumsumexp(hidden: Tensor) -> Tensor:
    """Over a range of 400: torch's forward derivative overflows."""
    return torch.logcumsumexp(hidden * torch.tensor([1.0, 1, 800, 1, 1], dtype=hidden.dtype), 1) / 10


KINDS: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    "old Function": (CubeOldStyle.apply, lambda x: x**3),
    "Function that saves": (lambda x: SavesIntermediate.apply(x)[0], torch.tanh),
    "hardsigmoid": (F.hardsigmoid, lambda x: (x + 3).clamp(0, 6) / 6),
    "huber": (lambda x: F.huber_loss(x, torch.zeros_like(x), reduction="none"), lambda x: huber(x)),
}


def huber(x: Tensor) -> Tensor:
    return torch.where(x.abs() <= 1, x * x / 2, x.abs() - 0.5)


@pytest.mark.parametrize("kind", KINDS)
def test_networks_have_the_derivatives_of_their_twins(kind: str) -> None:
    odd, plain = KINDS[kind]
    twin = subject(seeded(lambda: Around(plain)))
    hessian, ggn, theta = plain_hessian(twin), dense_ggn(twin), flatten(twin.params)
    wanted = {
        "trace[method=naive]": hessian.trace(),
        "top-eigenvalue": torch.linalg.eigvalsh(hessian)[-1],
        "hessian-frobenius[method=exact]": hessian.norm(),
        "ggn-trace": ggn.trace(),
        "fisher-rao": theta @ ggn @ theta,
    }
    for dtype, rtol in ((torch.float32, 2e-4), (torch.float64, 1e-9)):
        given = subject(seeded(lambda: Around(odd)), dtype)
        for word, value in wanted.items():
            assert measure(word, given).value == pytest.approx(float(value), rel=rtol), (word, dtype)
        found = trace_estimate(given, generator=torch.Generator().manual_seed(0), precision=0.05)
        reach = 5 * (found.stderr or 0.0) + rtol * abs(found.value)
        assert abs(found.value - float(hessian.trace())) <= reach, dtype


def test_what_torch_differentiates_backward_only() -> None:
    """No forward derivative of grid_sample; that of logcumsumexp is wrong over a large range."""
    for function in (grid, logcumsumexp):
        wanted = torch.linalg.eigvalsh(plain_hessian(subject(seeded(lambda function=function: Around(function)))))[-1]
        for dtype, rtol in ((torch.float32, 1e-4), (torch.float64, 1e-8)):
            estimate = measure("top-eigenvalue", subject(seeded(lambda function=function: Around(function)), dtype))
            if function is grid:
                assert str(estimate.details["derivatives"]).startswith("double backward")
            assert estimate.value == pytest.approx(float(wanted), rel=rtol)


def plain_hessian(given: Subject) -> Tensor:
    """By torch.autograd, entry by entry."""
    leaves = {name: value.clone().requires_grad_() for name, value in given.params.items()}
    loss = given.criterion(given.apply(leaves, given.inputs), given.targets).mean()
    slopes = torch.autograd.grad(loss, list(leaves.values()), create_graph=True)
    flat = torch.cat([slope.flatten() for slope in slopes])
    rows = [torch.autograd.grad(entry, list(leaves.values()), retain_graph=True) for entry in flat]
    return torch.stack([torch.cat([each.flatten() for each in row]) for row in rows])


@pytest.mark.parametrize("recurrent", [nn.LSTM, nn.GRU, nn.RNN])
def test_recurrent_networks(recurrent: type[nn.RNNBase]) -> None:
    class Network(nn.Module):
        def __init__(self, packed: bool) -> None:
            super().__init__()
            self.cells, self.head, self.packed = recurrent(2, 3, batch_first=True), nn.Linear(3, C), packed

        def forward(self, inputs: Tensor) -> Tensor:
            steps = inputs.reshape(len(inputs), 2, 2)
            if self.packed:
                lengths = torch.full((len(inputs),), 2)
                steps = nn.utils.rnn.pack_padded_sequence(steps, lengths, batch_first=True)
            state = self.cells(steps)[1]
            logits: Tensor = self.head((state[0] if isinstance(state, tuple) else state)[-1])
            return logits

    wanted = plain_hessian(subject(seeded(lambda: Network(packed=False))))
    trace, top = float(wanted.trace()), float(torch.linalg.eigvalsh(wanted)[-1])
    # in float64 test_agreement has those of the other form
    for packed, dtype in ((False, torch.float32), (True, torch.float32), (recurrent is nn.GRU, torch.float64)):
        given = subject(seeded(lambda packed=packed: Network(packed)), dtype)
        rtol = 2e-4 if dtype == torch.float32 else 1e-8
        assert measure("trace[method=naive]", given).value == pytest.approx(trace, rel=rtol), (packed, dtype)
        assert measure("top-eigenvalue", given).value == pytest.approx(top, rel=rtol), (packed, dtype)


@pytest.mark.parametrize("dtype", TYPES)
def test_convolutions_in_one_dimension(dtype: torch.dtype) -> None:
    model = seeded(
        lambda: nn.Sequential(nn.Unflatten(1, (1, IN)), nn.Conv1d(1, 2, 2), nn.Tanh(), nn.Flatten(), nn.Linear(6, C))
    )
    given = subject(model, dtype)
    wanted = plain_hessian(given.to(dtype=torch.float64))
    found = measure("trace[method=naive]", given).value
    assert found == pytest.approx(float(wanted.trace()), rel=1e-4 if dtype == torch.float32 else 1e-9)


def test_products_have_the_type_of_the_parameters() -> None:
    model = Around(lambda x: x.tanh())
    model.function = lambda x: x.tanh() + (model.one.weight.sum() + 50.0).relu()
    given = subject(seeded(lambda: model), torch.float32)
    wanted = plain_hessian(given.to(dtype=torch.float64))
    top = float(torch.linalg.eigvalsh(wanted)[-1])
    assert measure("top-eigenvalue", given).value == pytest.approx(top, rel=1e-4)


@pytest.mark.parametrize("method", METHODS)
def test_each_method_gives_the_hessian(method: DerivativeMethod, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(soundness_module, "_soundness", lambda subject: Soundness(method))
    given = subject(seeded(lambda: Around(torch.tanh)))
    wanted = plain_hessian(given)
    found = linear_operator(given) @ torch.eye(given.size, dtype=torch.float64)
    torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(dense_hessian(given), wanted, rtol=1e-10, atol=1e-12)
    ggn = linear_operator(given, "gauss-newton") @ torch.eye(given.size, dtype=torch.float64)
    assert float(ggn.trace()) == pytest.approx(sum(exact_traces(given).values()), rel=1e-10)
    notes = measure("top-eigenvalue", given).details
    assert notes.get("derivatives") == (None if method == METHODS[0] else method.name)


class RootAtZero(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.scale = nn.Linear(IN, C), nn.Parameter(torch.zeros(C))

    def forward(self, inputs: Tensor) -> Tensor:
        logits: Tensor = self.one(inputs) + self.scale.relu().sqrt()
        return logits


@pytest.mark.parametrize("dtype", TYPES)
def test_networks_without_a_hessian_get_one_line(dtype: torch.dtype) -> None:
    given = subject(RootAtZero(), dtype)
    assert soundness(given).method is None
    for word in ("top-eigenvalue", "hessian-frobenius", "trace[method=naive]"):
        with pytest.raises(NotApplicable, match="second derivatives of this network are right by no method") as raised:
            measure(word, given)
        assert "\n" not in str(raised.value)


NORMS: dict[str, Callable[[Tensor], Tensor]] = {
    "square of a norm": lambda x: x * 0 + torch.linalg.vector_norm(x, dim=1, keepdim=True) ** 2,
    "norm of order 3": lambda x: x * 0 + torch.linalg.vector_norm(x, 3, dim=1, keepdim=True),
    "power of 3 / 2": lambda x: x.abs() ** 1.5,
}


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("name", NORMS)
def test_an_example_without_second_derivatives_is_found_wherever_it_is(name: str, dtype: torch.dtype) -> None:
    """At 0 torch's second derivative of the square of a norm is 0 forwards, and not a number backwards: it is 2."""
    model = seeded(lambda: Around(NORMS[name]))
    nn.init.zeros_(model.one.bias)
    for place in (0, 2, 9) if dtype == torch.float64 else (9,):
        inputs = torch.randn(16, IN, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(dtype)
        inputs[place] = 0
        given = Subject.from_module(model.to(dtype), inputs, torch.arange(16) % C, batch_size=8)
        if place:
            assert place not in choose_compared(given, COMPARED)
        with pytest.raises(NotApplicable, match="second derivatives of this network are right by no method"):
            measure("trace", given)
    with pytest.raises(NotApplicable, match=r"\(example 9 is where an operator has no finite derivative"):
        sound_method(given)
    assert measure("ggn-trace", given).value > 0


@pytest.mark.parametrize(
    "function", [nn.RMSNorm(5), nn.Mish(), nn.GroupNorm(1, 5), lambda x: x**2, lambda x: x.var(1, keepdim=True) * x]
)
def test_no_batch_is_differentiated_where_derivatives_are_finite(
    function: Callable[[Tensor], Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    given = subject(seeded(lambda: Around(function)))
    assert not survey_operators(given).verified
    monkeypatch.setattr(soundness_module, "MAX_COMPARED", None)
    assert sound_method(given) == METHODS[0]
    with pytest.raises(TypeError):
        sound_method(subject(seeded(lambda: Around(lambda x: x.abs() ** 1.5))))


def test_second_derivatives_that_exist_where_torchs_are_not_numbers_are_kept() -> None:
    """The third power of a norm has second derivatives everywhere, 0 at 0; torch's are not numbers there backwards."""
    model = seeded(lambda: Around(lambda x: x * 0 + torch.linalg.vector_norm(x, dim=1, keepdim=True) ** 3)).double()
    nn.init.zeros_(model.one.bias)
    inputs = torch.randn(9, IN, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    inputs[2] = 0
    given = Subject.from_module(model, inputs, torch.arange(9) % C)
    assert not bool(plain_hessian(given).isfinite().all())
    others = given.take(torch.tensor([0, 1, 3, 4, 5, 6, 7, 8]))
    alone = given.take(torch.tensor([2]))
    wanted = plain_hessian(others).trace() * 8 + sum(exact_traces(alone).values())
    assert measure("trace", given).value == pytest.approx(float(wanted) / 9, rel=1e-9)


def test_the_hessian_of_a_surrogate_is_the_derivative_of_its_gradient() -> None:
    """Straight through: the derivative of rounding is taken to be 1."""
    given = subject(seeded(lambda: Around(lambda x: x + (x.round() - x).detach())))
    torch.testing.assert_close(dense_hessian(given), plain_hessian(given), rtol=1e-9, atol=1e-12)


class Mixes(torch.autograd.Function):
    """A backward pass that is the derivative of no function: its own derivative is not symmetric."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x.tanh()

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return slopes[0] * (x + x.roll(1, -1))


@pytest.mark.parametrize("dtype", TYPES)
def test_gradients_with_asymmetric_derivatives_are_refused(dtype: torch.dtype) -> None:
    with pytest.raises(NotApplicable, match="the backward pass of Mixes is not the derivative"):
        sound_method(subject(seeded(lambda: Around(Mixes.apply)), dtype))


def test_the_check_is_made_once_and_handed_on_to_timed_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    original = soundness_module._soundness
    monkeypatch.setattr(soundness_module, "_soundness", lambda given: (calls.append(given), original(given))[1])
    given = subject(seeded(lambda: Around(torch.tanh)))
    measure("top-eigenvalue", given)
    measure("top-eigenvalue", given.fresh())
    measure("hessian-frobenius", given.fresh())
    assert len(calls) == 1
    measure("top-eigenvalue", given.with_params(given.params))
    assert len(calls) == 2
    assert methods_module.METHODS[0] == sound_method(given)


def attention(hidden: Tensor, mask: Tensor | None = None) -> Tensor:
    """Of two positions to each other."""
    places = torch.stack((hidden, hidden.tanh()), 1)[:, None]
    return F.scaled_dot_product_attention(places, places * 0.5, places, mask)[:, 0].sum(1)


OPERATORS: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "relu": torch.relu,
    "gelu": F.gelu,
    "silu": F.silu,
    "exp": lambda x: x.exp(),
    "log1p": lambda x: (x * x).log1p(),
    "products": lambda x: x * x - x / (2 + x * x),
    "softmax": lambda x: x.softmax(1),
    "shapes": lambda x: torch.stack(torch.cat((x[:, 1:], x[:, :1]), 1).t().unsqueeze(0).squeeze(0).unbind(0), 1),
    "split and transpose": lambda x: torch.cat(x.reshape(-1, 5, 1).transpose(1, 2).squeeze(1).split((2, 3), 1), 1),
    "permute, expand and sum": lambda x: x[:, None].expand(-1, 2, -1).permute(0, 2, 1).sum(2) + x.mean(1, keepdim=True),
    "where and gather": lambda x: torch.where(x > 0, x * x, -x).gather(1, torch.arange(5).flip(0).expand(len(x), 5)),
    "matrix products": lambda x: (x[:, :, None] @ x[:, None]).sum(1) + x @ (x[:1].t() * 0 + 1).expand(5, 5),
    "attention": lambda x: attention(x),
    "masked attention": lambda x: attention(x, torch.tensor([[True, False], [True, True]])),
    "layer norm": lambda x: F.layer_norm(x, (5,)),
    "selection and arithmetic": lambda x: 1 - x.select(1, 0)[:, None] + x.clone() - x.sum() * 0,
    "convolution and pooling": lambda x: F.max_pool2d(
        F.conv2d(x.reshape(-1, 1, 1, 5).tanh(), torch.ones(5, 1, 1, 2, dtype=x.dtype)), (1, 4)
    ).flatten(1),
    "average pooling": lambda x: F.avg_pool2d((x * x).reshape(-1, 1, 1, 5).expand(-1, 5, 3, 5), (3, 5)).flatten(1),
}


@pytest.mark.parametrize("name", OPERATORS)
def test_verified_operators_agree_with_double_backward(name: str) -> None:
    double = subject(seeded(lambda: Around(OPERATORS[name])))
    for given, share in ((double.to(dtype=torch.float32), 1e-5), (double, 1e-13)):  # of one graph
        assert survey_operators(given).verified
        assert default_method_agrees(given)
        wanted = plain_hessian(given)
        found = linear_operator(given) @ torch.eye(given.size, dtype=wanted.dtype)
        torch.testing.assert_close(found, wanted, rtol=0, atol=share * float(wanted.abs().max()))


def test_what_cuts_derivatives_is_always_compared() -> None:
    for function in (lambda x: x + x.detach(), lambda x: x.data * x, lambda x: cut(x) + x, torch.sin):
        assert not survey_operators(subject(Around(function))).verified
    assert not survey_operators(subject(Around(torch.relu), loss=lambda z, y: z.square().sum(1))).verified


def cut(hidden: Tensor) -> Tensor:
    with torch.no_grad():
        return hidden * 2


@pytest.mark.parametrize("dtype", TYPES)
def test_a_branch_on_the_sum_of_a_batch_is_refused(dtype: torch.dtype) -> None:
    """Only the first and the last example take the branch of the batch; others do not."""

    class Branch(Around):
        def forward(self, inputs: Tensor) -> Tensor:
            hidden = self.one(inputs)
            logits: Tensor = self.head(hidden.relu() if float(inputs[:, 0].sum()) > 0 else hidden.tanh())
            return logits

    inputs = torch.randn(8, IN, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(dtype)
    inputs[:, 0] = torch.tensor([3, -1, 1, 1, 1, 1, 1, 1])
    with pytest.raises(InvalidInput, match="mixes the examples of a batch"):
        Subject.from_module(seeded(lambda: Branch(torch.relu)).to(dtype), inputs, torch.arange(8) % C)


def speech_losses(logits: Tensor, targets: Tensor) -> Tensor:
    """CTC losses of 6 steps over 4 labels."""
    count = len(logits)
    steps = logits.unflatten(1, (6, 4)).log_softmax(2).transpose(0, 1)
    lengths = torch.full((count,), 6), torch.full((count,), 2)
    return F.ctc_loss(steps, targets, *lengths, reduction="none")


@pytest.mark.parametrize("dtype", TYPES)
def test_a_loss_without_second_derivatives_is_refused_in_one_line_and_has_gradients(dtype: torch.dtype) -> None:
    model = seeded(lambda: nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 4), nn.Flatten())).to(dtype)
    inputs = torch.randn(3, 6, 3, generator=torch.Generator().manual_seed(0)).to(dtype)
    targets = torch.tensor([[1, 2], [3, 1], [2, 2]])
    given = Subject.from_module(model, inputs, targets, loss=speech_losses)
    for word in ("trace", "ggn-trace", "top-eigenvalue", "minimum", "normalized"):
        with pytest.raises(NotApplicable, match=r"(?s)^[^\n]*$") as refusal:
            measure(word, given)
        assert "derivative" in str(refusal.value)
    with pytest.raises(NotApplicable, match="cannot be differentiated"):
        ggnvp(given, given.params)
    loss = speech_losses(model(inputs), targets)
    squares = 0.0
    for each in loss:
        gradients = torch.autograd.grad(each, list(model.parameters()), retain_graph=True)
        squares += sum(float(value.double().square().sum()) for value in gradients) / 3
    found = measure("fisher-trace[fisher=empirical]", given).value
    assert found == pytest.approx(squares, rel=1e-4 if dtype == torch.float32 else 1e-10)


def test_losses_with_two_backward_passes_only_have_their_gauss_newton_matrix() -> None:
    class Quartic(torch.autograd.Function):
        """x^4 without a forward derivative."""

        @staticmethod
        def forward(x: Tensor) -> Tensor:
            return x**4

        @staticmethod
        def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
            ctx.save_for_backward(*inputs)

        @staticmethod
        def backward(ctx: Any, grad: Tensor) -> Tensor:
            (x,) = ctx.saved_tensors
            return 4 * x**3 * grad

        generate_vmap_rule = True

    model = seeded(lambda: Around(torch.tanh))
    plain = subject(model, loss=lambda logits, targets: (logits**4).sum(1))
    given = subject(model, loss=lambda logits, targets: Quartic.apply(logits).sum(1))
    assert measure("ggn-trace", given).value == pytest.approx(measure("ggn-trace", plain).value, rel=1e-10)
