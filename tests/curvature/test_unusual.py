"""Networks that do what a captured graph does not show: writes, changes of mind, their own derivatives."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sharpbench.core.measure import Estimate
from sharpbench.core.subject import Subject
from sharpbench.curvature import (
    certificate,
    dense_hessian,
    exact_diagonal,
    exact_traces,
    hutchinson_trace,
    trace_estimate,
    unused_parameters,
)

C = 3


def reference(subject: Subject) -> dict[str, float]:
    """The Gauss-Newton traces by plain autograd, one example, class and parameter after the other."""
    total = dict.fromkeys(subject.params, 0.0)
    params = {name: value.clone().requires_grad_() for name, value in subject.params.items()}
    for example, target in zip(subject.inputs.split(1), subject.targets.split(1), strict=True):
        logits = subject.apply(params, example)[0]
        curvature = torch.autograd.functional.hessian(
            lambda outputs, target=target: subject.criterion(outputs[None], target)[0], logits.detach()
        )
        rows = [
            torch.autograd.grad(logit, list(params.values()), retain_graph=True, allow_unused=True) for logit in logits
        ]
        for place, name in enumerate(params):
            zero = torch.zeros(params[name].numel(), dtype=logits.dtype)
            jacobian = torch.stack([zero if row[place] is None else row[place].flatten() for row in rows])
            total[name] += float((jacobian.T @ curvature.to(jacobian) * jacobian.T).sum()) / len(subject.inputs)
    return total


class Writes(nn.Module):
    """Keeps its last output in a buffer, and counts."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, C)
        self.register_buffer("last", torch.zeros(1, C))
        self.register_buffer("count", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.count += 1
        out = self.layer(x)
        if len(x) == 1:
            self.last = out.detach().clone()
        return out


class Normalises(nn.Module):
    """Writes into its input."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, C))

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x.sub_(0.5).div_(0.5))


class Slices(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(6, 5), nn.Linear(5, C)

    def forward(self, x: Tensor) -> Tensor:
        z = self.first(x).relu()
        o = z.clone()
        o[:, :2] = z[:, 2:4]
        o[:, 4:].mul_(3)
        return self.head(o)


class DataDependent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(6, 5), nn.Linear(5, C)

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x).relu()
        return self.head(h) * F.one_hot(h.argmax(1), 8).sum(1, keepdim=True)


class Blind(nn.Module):
    """No derivative passes its first layer."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(6, 4), nn.Linear(4, C)

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            h = self.first(x).relu()
        return self.head(h)


class Round(torch.autograd.Function):
    """Straight through."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x.round()

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> Tensor:
        return slopes[0]


class Straight(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(6, 4), nn.Linear(4, C)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(Round.apply(self.first(x)))


class Recurrent(nn.Module):
    def __init__(self, kind: type[nn.RNNBase]) -> None:
        super().__init__()
        self.layer, self.head = kind(3, 4, batch_first=True), nn.Linear(4, C)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(x.reshape(len(x), 2, 3))[0][:, -1])


class Mixed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.middle, self.last = nn.Linear(6, 4), nn.Linear(4, 4).float(), nn.Linear(4, C)

    def double(self) -> Mixed:
        self.first.double()
        self.last.double()
        return self

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.middle(self.first(x).relu().float()).relu().double())


class Vector(nn.Module):
    """A linear function with a vector for its weight."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.head = nn.Parameter(torch.randn(6)), nn.Linear(1, C)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.linear(x, self.weight)[:, None])


def shared() -> nn.Module:
    """One convolution under two names, which torch.export refuses, and PReLU."""
    conv = nn.Conv1d(2, 2, 3, padding=1)
    body = (conv, nn.PReLU(), conv, nn.PReLU(), nn.Flatten(), nn.Linear(6, 2))
    return nn.Sequential(nn.Unflatten(1, (2, 3)), *body)


def transposed(**options: int) -> nn.Module:
    layer = nn.ConvTranspose1d(2, 4, 2, **options)  # type: ignore[arg-type]
    width = layer(torch.zeros(1, 2, 3)).numel()
    return nn.Sequential(nn.Unflatten(1, (2, 3)), layer, nn.ReLU(), nn.Flatten(), nn.Linear(width, C))


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer, self.head = nn.TransformerEncoderLayer(6, 2, 8, batch_first=True), nn.Linear(6, C)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(torch.stack((x, -x), 1)).mean(1))


CASES: dict[str, Callable[[], nn.Module]] = {
    "writes": Writes,
    "normalises": Normalises,
    "inplace-first": lambda: nn.Sequential(nn.ReLU(inplace=True), nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, C)),
    "slices": Slices,
    "data-dependent": DataDependent,
    "rnn": lambda: Recurrent(nn.RNN),
    "gru": lambda: Recurrent(nn.GRU),
    "lstm": lambda: Recurrent(nn.LSTM),
    "vector": Vector,
    "shared": shared,
    "output-padding": lambda: transposed(dilation=2, output_padding=1),
    "output-padding-stride": lambda: transposed(stride=2, dilation=3, output_padding=2),
    "encoder": Encoder,
    # whose derivatives are not those of what they compute, or in two types
    "blind": Blind,
    "straight": Straight,
    "mixed": Mixed,
}


def subject_of(model: nn.Module, classes: int = C) -> Subject:
    x = torch.randn(4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    return Subject.from_module(model, x, torch.arange(4) % classes)


@cache
def built(name: str) -> Subject:
    """A case's subject, captured once; nothing changes it."""
    torch.manual_seed(0)
    return subject_of(CASES[name]().double(), 2 if name == "shared" else C)


@pytest.fixture(autouse=True)
def users_warnings() -> Any:
    """As a user has them: a warning is not an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.mark.parametrize("name", CASES, scope="module")  # the tests of a case one after another
def test_exact(name: str) -> None:
    subject = built(name)
    before = subject.inputs.clone()
    wanted = reference(subject)
    tolerance = {"rel": 1e-5, "abs": 1e-7} if name == "mixed" else {"rel": 1e-11, "abs": 1e-14}
    traces = exact_traces(subject)
    diagonal = exact_diagonal(subject)
    for parameter, trace in wanted.items():
        assert traces[parameter] == pytest.approx(trace, **tolerance), parameter
        assert float(diagonal[parameter].double().sum()) == pytest.approx(trace, **tolerance), parameter
    assert torch.equal(before, subject.inputs)


@pytest.mark.parametrize("name", list(CASES)[:-3], scope="module")
def test_the_trace_is_the_hessians(name: str) -> None:
    """Whatever is certified; and what is called unused is."""
    subject = built(name)
    truth = float(dense_hessian(subject).trace())
    found = trace_estimate(subject, generator=torch.Generator().manual_seed(0), precision=0.05)
    assert found.stderr is not None
    assert abs(found.value - truth) <= 5 * found.stderr + 1e-10 * abs(truth)
    assert unused_parameters(subject) == ()


def test_derivatives_of_its_own_have_no_certificate() -> None:
    for name in ("straight", "blind"):
        assert all("not differentiated as the module is" in each[0] for each in certificate(built(name)).values())


@pytest.mark.parametrize("name", ["rnn", "encoder", "slices"])
def test_products(name: str) -> None:
    subject = built(name)
    truth = sum(reference(subject).values())
    found: Estimate = hutchinson_trace(
        subject, samples=200, generator=torch.Generator().manual_seed(0), kind="gauss-newton"
    )
    assert found.stderr is not None
    assert abs(found.value - truth) < 4 * found.stderr


class Chosen(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(6, 4), nn.Linear(4, C)
        self.act: Callable[[Tensor], Tensor] = F.relu
        self.factor = 1.0

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.act(self.first(x) * self.factor))


def test_a_module_that_was_changed_is_captured_anew() -> None:
    torch.manual_seed(0)
    model = Chosen().double()
    assert not any(certificate(subject_of(model)).values())
    for change in ({"factor": 3.0}, {"act": torch.tanh}, {"hook": 1}):
        for name, value in change.items():
            if name == "hook":
                model.first.register_forward_hook(lambda module, args, output: output * 2)
            else:
                setattr(model, name, value)
        subject = subject_of(model)
        assert exact_traces(subject) == pytest.approx(reference(subject), rel=1e-11)
    assert certificate(subject)["first.weight"] == ("aten.tanh.default",)


@pytest.mark.parametrize(
    "criterion",
    [
        lambda logits, targets: -(F.one_hot(targets, C) * logits.log_softmax(1)).sum(1),
        lambda logits, targets: F.huber_loss(logits, F.one_hot(targets, C).to(logits), reduction="none").sum(1),
    ],
)
def test_criteria_that_read_their_targets(criterion: Callable[[Tensor, Tensor], Tensor]) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, C)).double()
    x = torch.randn(4, 6, dtype=torch.float64)
    subject = Subject.from_module(model, x, torch.arange(4) % C, loss=criterion)
    assert exact_traces(subject) == pytest.approx(reference(subject), rel=1e-11)


def test_one_class_is_certain() -> None:
    subject = Subject.from_module(nn.Linear(6, 1), torch.randn(1, 6), torch.zeros(1, dtype=torch.long))
    assert exact_traces(subject) == {"weight": 0.0, "bias": 0.0}
    assert exact_diagonal(subject)["weight"].shape == (1, 6)
