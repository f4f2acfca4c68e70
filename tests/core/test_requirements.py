"""What is refused in one line: coupled examples, random networks, complex weights, arguments of another form."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sharpbench import InvalidInput, Subject, measure
from sharpbench.core.requirements import spread_places

TYPES = (torch.float32, torch.float64)
IN, C, N = 4, 3, 24


class Network(nn.Module):
    """A linear layer, what is to be refused, and a linear layer."""

    def __init__(self, between: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.one, self.head, self.between = nn.Linear(IN, 6), nn.Linear(6, C), between

    def forward(self, inputs: Tensor) -> Tensor:
        logits: Tensor = self.head(self.between(self.one(inputs).tanh()))
        return logits


def subject(model: nn.Module, dtype: torch.dtype = torch.float32, **options: Any) -> Subject:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(N, IN, generator=generator).to(dtype)
    return Subject.from_module(model.to(dtype), inputs, torch.arange(N) % C, **options)


def sorted_by_norm(hidden: Tensor) -> Tensor:
    """Only as many as fit are passed on, as in mixtures of experts with a capacity."""
    order = hidden.norm(dim=1).argsort(descending=True)
    return torch.where(torch.isin(torch.arange(len(hidden)), order[: N // 2])[:, None], hidden, 0.0)


COUPLED: dict[str, Callable[[], nn.Module]] = {
    "batch norm without statistics": lambda: Network(nn.BatchNorm1d(6, track_running_stats=False)),
    "attention over the batch": lambda: Network(lambda x: (x @ x.T).softmax(1) @ x),
    "mean over the batch": lambda: Network(lambda x: x - 0.1 * x.mean(0)),
    "branch on the batch": lambda: Network(lambda x: x if float(x.detach().sum()) > 1e6 else x / x.detach().max()),
    "capacity": lambda: Network(sorted_by_norm),
}
RANDOM: dict[str, Callable[[], nn.Module]] = {
    "dropout": lambda: Network(lambda x: F.dropout(x, 0.2, training=True)),
    "noise": lambda: Network(lambda x: x + 0.01 * torch.randn_like(x)),
    "numpy": lambda: Network(lambda x: x * float(1 + np.random.rand())),
    "python": lambda: Network(lambda x: x * (1 + random.random())),
}


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("name", COUPLED)
def test_networks_that_mix_examples_are_refused(name: str, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    with pytest.raises(InvalidInput, match=r"mixes the examples of a batch|Expected more than 1 value per channel"):
        subject(COUPLED[name](), dtype)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("name", RANDOM)
def test_random_networks_are_refused_and_no_generator_moves(name: str, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    model = RANDOM[name]()
    before = torch.get_rng_state(), random.getstate(), str(np.random.get_state())
    with pytest.raises(InvalidInput, match="draws random numbers"):
        subject(model, dtype)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (random.getstate(), str(np.random.get_state())) == before[1:]


@pytest.mark.parametrize("dtype", TYPES)
def test_losses_that_mix_examples_are_refused(dtype: torch.dtype) -> None:
    def contrastive(logits: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(logits @ logits.T, torch.arange(len(logits)), reduction="none")

    with pytest.raises(InvalidInput, match="criterion 'contrastive' mixes the examples of a batch"):
        subject(Network(torch.relu), dtype, loss=contrastive)


@pytest.mark.parametrize("dtype", TYPES)
def test_what_is_regular_passes(dtype: torch.dtype) -> None:
    for between in (nn.BatchNorm1d(6), nn.Dropout(0.5), nn.LayerNorm(6), torch.relu, lambda x: x.masked_fill(x < 0, 0)):
        subject(Network(between), dtype)
    infinite = Network(lambda x: x)
    infinite.head.register_forward_hook(lambda part, given, output: output.index_fill(1, torch.tensor(1), -torch.inf))
    targets = torch.zeros(N, dtype=torch.long)
    Subject.from_module(infinite.to(dtype), torch.randn(N, IN, dtype=dtype), targets)


def test_complex_parameters_are_refused_and_complex_constants_are_not() -> None:
    class Spectral(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(IN, C)
            self.filter = nn.Parameter(torch.randn(3, dtype=torch.complex64))

        def forward(self, inputs: Tensor) -> Tensor:
            logits: Tensor = self.head(torch.fft.irfft(torch.fft.rfft(inputs) * self.filter, n=IN))
            return logits

    with pytest.raises(InvalidInput, match="parameter 'filter' is complex; hold real pairs"):
        Subject.from_module(Spectral(), X, Y)
    assert set(Subject.from_module(Spectral(), X, Y, parameters=["head.weight"]).params) == {"head.weight"}


def test_a_network_that_rewrites_its_weights_is_refused() -> None:
    class Renormed(nn.Linear):
        def forward(self, inputs: Tensor) -> Tensor:
            self.weight.data = self.weight.data / self.weight.data.norm()
            return super().forward(inputs)

    model = Renormed(IN, C)
    before = model.weight.detach().clone()
    with pytest.raises(InvalidInput, match="rewrites its parameter 'weight'"):
        subject(model)
    assert torch.equal(model.weight, before)
    ids = torch.randint(9, (5, 2))
    embedding = nn.Sequential(nn.Embedding(9, 3, max_norm=0.5), nn.Flatten(), nn.Linear(6, C))
    with pytest.raises(InvalidInput, match="max_norm rewrites its weight"):
        Subject.from_module(embedding, ids, torch.arange(5) % C)


class Two(nn.Linear):
    def forward(self, inputs: Tensor, other: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(inputs) + other


X, Y = torch.randn(6, IN), torch.arange(6) % C


@pytest.mark.parametrize(
    ("model", "inputs", "targets", "line"),
    [
        (nn.Linear(IN, C), (X, X), Y, r"inputs\[1\] \[1, 4\] .* say in forward= how it is called"),
        (nn.Linear(IN, C), [X, X], Y, r"does not run on inputs\[0\] \[1, 4\]"),
        (nn.Linear(IN, C), {"x": X}, Y, r"does not run on inputs\['x'\] \[1, 4\] of torch.float32"),
        (nn.Linear(IN, C), X.numpy(), Y, "inputs are a ndarray; expected a tensor"),
        (nn.Linear(IN, C), X, Y.tolist(), "targets are a list; expected one tensor"),
        (nn.Linear(IN, C), X.double(), Y, "does not run on inputs of shape .* and type torch.float64"),
        (nn.Linear(IN, C), X.long(), Y, "does not run on inputs of shape .* and type torch.int64"),
        (Two(IN, C), X, Y, "does not run on inputs of shape .* missing 1 required"),
        (nn.LazyLinear(C), X, Y, "'weight' has no shape yet; call the network once"),
        (nn.Linear(IN, C, device="meta"), X, Y, "'weight' is on the meta device"),
        (lambda inputs: inputs, X, Y, "the model is a function; expected a torch.nn.Module"),
    ],
)
def test_arguments_of_another_form_get_one_line(model: Any, inputs: Any, targets: Any, line: str) -> None:
    with pytest.raises(InvalidInput, match=line) as raised:
        Subject.from_module(model, inputs, targets)
    assert "\n" not in str(raised.value)


@pytest.mark.filterwarnings("ignore:`torch.jit")
def test_compiled_networks() -> None:
    with pytest.raises(InvalidInput, match=r"compiled by torch\.jit; give the module"):
        Subject.from_module(torch.jit.script(nn.Linear(IN, C)), X, Y)
    inner = nn.Linear(IN, C)
    assert Subject.from_module(torch.compile(inner, backend="eager"), X, Y).size == 15


def test_parameters_without_entries_are_left_out() -> None:
    model = nn.Linear(IN, C)
    model.register_parameter("empty", nn.Parameter(torch.zeros(0, 3)))
    assert set(Subject.from_module(model, X, Y).params) == {"weight", "bias"}
    with pytest.raises(InvalidInput, match="the parameters to measure have no entries"):
        Subject.from_module(model, X, Y, parameters=["empty"])
    with pytest.raises(InvalidInput, match="expected the names of parameters"):
        Subject.from_module(model, X, Y, parameters=list(model.parameters()))  # type: ignore[arg-type]


@pytest.mark.parametrize("differentiate", ["autograd", "functorch"])
def test_networks_that_differentiate_inside_are_taken(differentiate: str) -> None:
    class Field(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Linear(IN, 5), nn.Linear(5, 1)

        def energy(self, inputs: Tensor) -> Tensor:
            total: Tensor = self.two(self.one(inputs).tanh()).sum()
            return total

        def forward(self, inputs: Tensor) -> Tensor:
            if differentiate == "functorch":
                slope: Tensor = torch.func.grad(self.energy)(inputs)
                return slope
            leaf = inputs.detach().requires_grad_()
            return torch.autograd.grad(self.energy(leaf), leaf, create_graph=True)[0]

    assert Subject.from_module(Field(), X, Y).classes == IN


def test_places_are_spread_from_the_first_to_the_last() -> None:
    assert spread_places(100, 4).tolist() == [0, 33, 66, 99]
    assert spread_places(3, 4).tolist() == [0, 1, 2]
    assert spread_places(1, 4).tolist() == [0]


KEPT = list[Tensor]()


class Collecting(nn.Linear):
    """Stores what it computes: in itself, or in a list outside."""

    def __init__(self, *, outside: bool, detached: bool = False) -> None:
        super().__init__(2, 2)
        self.outside, self.detached, self.own = outside, detached, list[Tensor]()

    def forward(self, x: Tensor) -> Tensor:
        hidden = x.tanh()
        (KEPT if self.outside else self.own).append(hidden.detach() if self.detached else hidden)
        return super().forward(hidden)


@pytest.mark.parametrize("detached", [False, True])
def test_a_forward_pass_that_keeps_tensors_outside_is_refused(detached: bool) -> None:
    KEPT.clear()
    inputs, targets = torch.randn(4, 2), torch.tensor([0, 1, 0, 1])
    with pytest.raises(InvalidInput, match="the forward pass keeps tensors outside the network"):
        Subject.from_module(Collecting(outside=True, detached=detached), inputs, targets)
    KEPT.clear()
    Subject.from_module(Collecting(outside=False, detached=detached), inputs, targets)


def test_a_hook_that_collects_activations_is_refused() -> None:
    net, found = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 2)), dict[str, Tensor]()
    inputs, targets = torch.randn(4, 2), torch.tensor([0, 1, 0, 1])
    hook = net[1].register_forward_hook(lambda module, given, result: found.update(hidden=result))
    with pytest.raises(InvalidInput, match="what a hook writes to"):
        Subject.from_module(net, inputs, targets)
    hook.remove()
    Subject.from_module(net, inputs, targets)


@pytest.mark.parametrize("dtype", TYPES)
def test_numbers_that_hardly_ever_show_in_outputs_are_refused(dtype: torch.dtype) -> None:
    own = torch.Generator().manual_seed(0)
    rare: list[Callable[[Tensor], Tensor]] = [
        lambda x: F.dropout(x, 1e-6, training=True),
        lambda x: x + (torch.rand((), generator=own) < 1e-6),
        lambda x: x * x.new_empty(len(x), 1).bernoulli_(1 - 1e-6),
        lambda x: x if random.random() < 0.8 else 2 * x,
        lambda x: x if torch.rand(()) < 0.8 else 2 * x,
    ]
    for between in rare:
        with pytest.raises(InvalidInput, match="draws random numbers"):
            subject(Network(between), dtype)


def test_numbers_that_are_not_used_or_always_the_same_are_no_reason() -> None:
    def unused(hidden: Tensor) -> Tensor:
        dropped = torch.rand(3) < 0.5
        assert len(dropped) == 3
        assert float(torch.rand(())) >= 0
        return F.dropout(hidden, 0.5, training=False) if random.random() >= 0 else hidden

    def seeded(hidden: Tensor) -> Tensor:
        torch.manual_seed(0)
        fixed = torch.randn(6, 6, generator=torch.Generator().manual_seed(0)).to(hidden)
        return F.dropout(hidden @ fixed, 0.0, training=True) + torch.rand(6).to(hidden)

    for between in (unused, seeded):
        assert subject(Network(between)).n == N


def captured_in_closure() -> nn.Module:
    layer = nn.Linear(6, 6)
    weight = layer.weight
    model = Network(lambda x: F.linear(x, weight))
    model.layer = layer
    return model


def computed_before() -> nn.Module:
    model = Network(lambda x: F.linear(x, model.double_weight))  # type: ignore[arg-type]
    model.double_weight = model.one.weight[:6, :1] * 2 + torch.zeros(6, 6)  # type: ignore[assignment]
    return model


def copied_with_its_forward() -> nn.Module:
    """Its forward pass is still that of the network of which it is a copy."""
    model = nn.Sequential(nn.Linear(IN, 6), nn.Linear(6, C))
    forward = model.forward
    model.forward = lambda inputs: 2 * forward(inputs)  # type: ignore[method-assign]
    return copy.deepcopy(model)


@pytest.mark.parametrize("build", [captured_in_closure, computed_before, copied_with_its_forward])
def test_parameters_that_cannot_be_replaced_are_refused(build: Callable[[], nn.Module]) -> None:
    with pytest.raises(InvalidInput, match="that it does not read from itself"):
        subject(build())


def test_parameters_in_lists_of_the_network_are_followed() -> None:
    model = Network(lambda x: F.linear(x, model.held[0]))  # type: ignore[index]
    model.inner = nn.Linear(6, 6)
    model.held = [model.inner.weight]  # type: ignore[assignment]
    found = subject(model)
    assert measure("ggn-trace", found).parts["inner.weight"] > 0


def test_batches_of_one_example_do_not_hide_that_examples_are_mixed() -> None:
    with pytest.raises(InvalidInput, match="mixes the examples of a batch"):
        subject(Network(lambda x: x - x.mean(0)), batch_size=1)

    def only_one(hidden: Tensor) -> Tensor:
        assert len(hidden) == 1
        return hidden

    assert subject(Network(only_one), batch_size=1).n == N


@contextmanager
def scaling_hooks() -> Iterator[None]:
    """Hooks that triple what a backward pass keeps, and within them some that double it: torch takes the inner ones."""
    outer, inner = (
        torch.autograd.graph.saved_tensors_hooks(lambda value: value, lambda value, factor=factor: factor * value)
        for factor in (3, 2)
    )

    def slope() -> float:
        weight = torch.ones(1, requires_grad=True)
        return float(torch.autograd.grad(weight**2, weight)[0])

    with outer:
        with inner:
            yield
            assert slope() == 4  # the caller's are as before
        assert slope() == 6


@pytest.mark.parametrize(
    "mode", [torch.inference_mode, torch.no_grad, lambda: torch.autocast("cpu", torch.bfloat16), scaling_hooks]
)
def test_values_do_not_depend_on_the_mode_of_the_caller(mode: Callable[[], AbstractContextManager[None]]) -> None:
    torch.manual_seed(0)
    model = Network(torch.tanh)
    wanted = {words: measure(words, subject(model)).value for words in ("ggn-trace", "average", "gradient-norm")}
    with mode():
        found = subject(model)
        for words, value in wanted.items():
            assert measure(words, found).value == value, words


def test_networks_that_were_made_in_inference_mode_are_measured() -> None:
    def made() -> nn.Module:
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Tanh(), nn.Linear(5, 3))

    inputs, targets = torch.randn(6, 4), torch.arange(6) % 3
    with torch.inference_mode():
        model = made()
    found, wanted = (measure("trace,minimum", Subject.from_module(each, inputs, targets)) for each in (model, made()))
    assert [each.parts for each in found.values()] == [each.parts for each in wanted.values()]


def test_half_precision_inside_is_computed_in_float32() -> None:
    def cast(hidden: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return F.linear(hidden, torch.eye(6).to(hidden)).tanh()

    torch.manual_seed(0)
    model = Network(cast)
    found = subject(model)
    model.between = torch.tanh
    assert measure("trace", found).value == pytest.approx(measure("trace", subject(model)).value, rel=1e-4)


def test_a_forward_pass_without_derivatives_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"no derivative by any parameter: forward runs under torch\.no_grad"):
        subject(nn.Linear(IN, C), forward=torch.no_grad()(lambda model, inputs: model(inputs)))
