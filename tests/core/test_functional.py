"""Calls of a module as a pure function: whatever a forward pass stores, the module stays as it was."""

from __future__ import annotations

import copy
import io
import random
from collections import OrderedDict
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune, spectral_norm, weight_norm
from torch.utils.checkpoint import checkpoint

from sharpbench import InvalidInput, NotApplicable, Subject, measure
from sharpbench.core.functional import call_module, private_attributes, swapped_tensors
from sharpbench.core.registry import available

N, IN, C = 6, 4, 3
MEASURES = sorted(
    name for name, each in available("measures").classes.items() if each.__module__.startswith("sharpbench_measures")
)


def perceptron() -> nn.Sequential:
    return nn.Sequential(nn.Linear(IN, 4), nn.Tanh(), nn.Linear(4, C))


class Shared(nn.Module):
    """One submodule under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.one = self.other = nn.Linear(IN, IN)
        self.head = nn.Linear(IN, C)

    def forward(self, inputs: Tensor) -> Tensor:
        result: Tensor = self.head(self.other(self.one(inputs).relu()).tanh())
        return result


class Repeated(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([nn.Sequential(nn.Linear(IN, IN), nn.BatchNorm1d(IN))] * 3)
        self.head = nn.Linear(IN, C)

    def forward(self, inputs: Tensor) -> Tensor:
        for block in self.blocks:
            inputs = block(inputs).relu()
        result: Tensor = self.head(inputs)
        return result


class Siamese(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        branch = nn.Linear(2, 4)
        self.branches = nn.ModuleDict({"left": branch, "right": branch})
        self.head = nn.Linear(8, C)

    def forward(self, inputs: Tensor) -> Tensor:
        left, right = inputs.split(2, 1)
        result: Tensor = self.head(torch.cat((self.branches["left"](left), self.branches["right"](right)), 1).relu())
        return result


class Stores(nn.Module):
    """Keeps maps in an attribute, a list, a dictionary and a buffer, and counts its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.head = nn.Linear(IN, 4), nn.Linear(4, C)
        self.last: Tensor | None = None
        self.maps: list[Tensor] = []
        self.named: dict[str, Any] = {"inner": {}}
        self.named["itself"] = self.named
        self.count, self.calls = torch.zeros(1), 0
        self.register_buffer("seen", torch.zeros(1))

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.one(inputs)
        self.last = hidden
        self.maps.append(hidden)
        self.named["inner"]["hidden"] = hidden
        self.named["new"] = hidden
        self.count += 1
        self.calls += 1
        self.seen += 1
        result: Tensor = self.head(hidden.relu())
        return result


class Processor:
    """A plain object that a module holds, as attention processors are."""

    def __init__(self, layer: nn.Module) -> None:
        self.layer, self.map = layer, None

    def __call__(self, inputs: Tensor) -> Tensor:
        self.map = self.layer(inputs)
        return self.map  # type: ignore[return-value]


class Held(nn.Module):
    """A plain object, and a module in a plain list, which is not registered."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.head = nn.Linear(IN, 4), nn.Linear(4, C)
        self.processor = Processor(self.one)
        self.plain = [Stores()]

    def forward(self, inputs: Tensor) -> Tensor:
        result: Tensor = self.head(self.processor(inputs).relu()) + self.plain[0](inputs)
        return result


class Lazy(nn.Module):
    """Makes its buffer at the first call."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(IN, C)
        self.table: Tensor | None = None

    def forward(self, inputs: Tensor) -> Tensor:
        if self.table is None:
            self.table = torch.linspace(0, 1, IN, dtype=inputs.dtype)
            self.register_buffer("scale", self.table + 1)
        result: Tensor = self.head((inputs + self.table) * self.scale)
        return result


class Checkpointed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.head = nn.Linear(IN, 4), nn.Linear(4, 4), nn.Linear(4, C)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = checkpoint(lambda x: self.one(x).tanh(), inputs, use_reentrant=False)
        result: Tensor = self.head(checkpoint(lambda x: self.two(x).tanh(), hidden, use_reentrant=True))
        return result


def hooked() -> nn.Module:
    module = perceptron()

    def keep(part: nn.Module, given: tuple[Tensor], output: Tensor) -> Tensor:
        part.output = output
        return 2 * output

    module[0].register_forward_hook(keep)
    return module


def bound() -> nn.Module:
    """A forward method of an instance, which closes over the module."""
    module = perceptron()
    module.forward = lambda inputs: module[2](module[1](module[0](inputs)))  # type: ignore[method-assign]
    return module


def derived(derive: Callable[[nn.Module], object]) -> Callable[[], nn.Module]:
    """A perceptron whose first weight is computed in every forward pass; called once, as in training."""

    def build() -> nn.Module:
        module = perceptron()
        derive(module[0])
        module(torch.randn(3, IN))
        return module

    return build


def old_weight_norm(layer: nn.Module) -> None:
    with pytest.warns(FutureWarning):
        weight_norm(layer)


def tied() -> nn.Module:
    module = nn.Sequential(nn.Linear(IN, IN), nn.ReLU(), nn.Linear(IN, IN), nn.Linear(IN, C))
    module[2].weight = module[0].weight
    return module


def shared_norm() -> nn.Module:
    norm = nn.BatchNorm1d(IN)
    return nn.Sequential(nn.Linear(IN, IN), norm, nn.ReLU(), nn.Linear(IN, IN), norm, nn.Linear(IN, C))


MODULES: dict[str, Callable[[], nn.Module]] = {
    "shared submodule": Shared,
    "repeated block": Repeated,
    "siamese": Siamese,
    "shared norm": shared_norm,
    "tied weights": tied,
    "stores its maps": Stores,
    "held objects": Held,
    "lazy buffer": Lazy,
    "checkpoints": Checkpointed,
    "hook": hooked,
    "bound forward": bound,
    "spectral norm, hook": derived(spectral_norm),
    "spectral norm": derived(parametrizations.spectral_norm),
    "weight norm, hook": derived(old_weight_norm),
    "weight norm": derived(parametrizations.weight_norm),
    "pruned": derived(lambda layer: prune.random_unstructured(layer, "weight", 0.4)),
}
BY_ALL_MEASURES = {"stores its maps", "repeated block", "checkpoints", "spectral norm"}
FEW = ["asam", "average", "fisher-rao", "gradient-norm", "hessian-frobenius", "keskar", "margin", "minimum", "trace"]
"""One measure for each way to compute: graph, gradients, products, perturbations, outputs."""
UNCOPYABLE = {"weight norm, hook", "spectral norm, hook", "pruned"}
"""torch itself cannot copy these after a training step, as a weight is not a leaf."""


def built(name: str) -> nn.Module:
    """The module after a step of training, in training mode, one part in eval mode."""
    torch.manual_seed(0)
    module = MODULES[name]().train()
    list(module.modules())[-1].eval()
    inputs, targets = examples()
    F.cross_entropy(module(inputs), targets).backward()
    return module


def examples() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(N, IN, generator=generator), torch.randint(C, (N,), generator=generator)


def state(module: nn.Module) -> dict[str, object]:
    """All that can be seen of a module: each attribute's identity, each tensor's value, version, type and gradient."""
    found: dict[str, object] = {"random": random.getstate(), "numpy": str(np.random.get_state())}
    found["torch"] = torch.get_rng_state().tolist()
    for name, part in module.named_modules(remove_duplicate=False):
        _describe(f"{name} ", vars(part), found, set())
    return found


def _describe(place: str, value: object, found: dict[str, object], above: set[int]) -> None:
    if id(value) in above:
        return
    found[place] = id(value), type(value)
    if isinstance(value, Tensor):
        grad = value.grad if value.is_leaf else None
        described = None if grad is None else (id(grad), grad.tolist())
        found[place] = id(value), value.dtype, value.requires_grad, value._version, value.tolist(), described
    elif isinstance(value, dict | OrderedDict):
        for key, each in value.items():
            _describe(f"{place}.{key}", each, found, above | {id(value)})
    elif isinstance(value, list | tuple):
        for index, each in enumerate(value):
            _describe(f"{place}.{index}", each, found, above | {id(value)})
    elif isinstance(value, Processor):
        _describe(f"{place}.", vars(value), found, above | {id(value)})


@pytest.mark.filterwarnings("ignore:Full backward hook")
@pytest.mark.parametrize("name", MODULES)
def test_every_measure_leaves_the_module_as_it_was(name: str) -> None:
    module = built(name)
    before = state(module)
    subject = Subject.from_module(module, *examples())
    assert state(module) == before
    values, words = 0, MEASURES if name in BY_ALL_MEASURES else FEW
    for word in words:
        try:
            measure(word, subject)
            values += 1
        except (NotApplicable, InvalidInput):  # and it is as it was after these, as well
            pass
        assert state(module) == before, word
    assert values >= (15 if name in BY_ALL_MEASURES else 6)
    torch.save(module.state_dict(), io.BytesIO())
    if name not in UNCOPYABLE | {"stores its maps", "held objects", "hook"}:  # whose own maps are not leaves
        copy.deepcopy(module)


@pytest.mark.parametrize("name", MODULES)
def test_a_call_gives_what_the_module_gives(name: str) -> None:
    module = built(name)
    subject = Subject.from_module(module, *examples())
    other = built(name)
    other.load_state_dict(module.state_dict())
    wanted = other.eval()(subject.inputs).detach()
    with torch.no_grad():
        torch.testing.assert_close(subject.apply(subject.params, subject.inputs), wanted)


class Interrupted(nn.Module):
    def __init__(self, error: type[BaseException]) -> None:
        super().__init__()
        self.one, self.error, self.last = nn.Linear(IN, C), error, None

    def forward(self, inputs: Tensor) -> Tensor:
        self.last = self.one(inputs)
        raise self.error


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_call_that_raises_leaves_the_module_as_it_was(error: type[BaseException]) -> None:
    module = Interrupted(error)
    before = state(module)
    with pytest.raises(error):
        call_module(module, {"one.weight": torch.zeros(C, IN)}, torch.ones(1, IN))
    assert state(module) == before


def test_nested_calls_see_their_own_tensors() -> None:
    module = nn.Linear(2, 2, bias=False)
    one, two = torch.ones(2, 2), 2 * torch.ones(2, 2)
    with private_attributes(module, {"weight": one}):
        assert module(torch.ones(1, 2)).tolist() == [[2, 2]]
        assert call_module(module, {"weight": two}, torch.ones(1, 2)).tolist() == [[4, 4]]
        assert module(torch.ones(1, 2)).tolist() == [[2, 2]]


@pytest.mark.parametrize(
    "hooks",
    [
        torch.autograd.graph.save_on_cpu,
        lambda: torch.autograd.graph.saved_tensors_hooks(lambda value: value.round(), lambda value: value),
    ],
)
def test_what_a_network_offloads_or_compresses_for_its_backward_pass_is_kept(hooks: Callable[[], Any]) -> None:
    class Offloading(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = perceptron()

        def forward(self, inputs: Tensor) -> Tensor:
            with hooks():
                return self.body(inputs)  # type: ignore[no-any-return]

    torch.manual_seed(0)
    model = Offloading()
    inputs, targets = torch.randn(N, IN), torch.arange(N) % C
    found, wanted = (
        measure("trace,ggn-trace,gradient-norm", Subject.from_module(each, inputs, targets))
        for each in (model, model.body)
    )
    assert [each.value for each in found.values()] == pytest.approx([each.value for each in wanted.values()], rel=1e-5)
    packed = []
    with torch.autograd.graph.saved_tensors_hooks(packed.append, lambda value: value):
        model.body(inputs)
    assert packed  # torch's own hooks are as before


@pytest.mark.parametrize("own", [False, True])
def test_weights_that_were_cached_before_are_computed_again(own: bool) -> None:
    """own: the network caches its weights within a forward pass as well."""

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(parametrizations.weight_norm(nn.Linear(4, 5)), nn.Tanh(), nn.Linear(5, 3))

        def forward(self, inputs: Tensor) -> Tensor:
            with parametrize.cached() if own else nullcontext():
                return self.body(inputs)  # type: ignore[no-any-return]

    torch.manual_seed(0)
    model = Network()
    inputs, targets = torch.randn(6, 4), torch.arange(6) % 3
    wanted = measure("trace", Subject.from_module(model, inputs, targets)).parts
    assert min(map(abs, wanted.values())) > 0
    with parametrize.cached():
        with torch.no_grad():
            weight = model.body[0].weight
        assert measure("trace", Subject.from_module(model, inputs, targets)).parts == wanted
        assert model.body[0].weight is weight


def test_swapped_tensors_are_written_to_and_other_attributes_too() -> None:
    module = nn.BatchNorm1d(IN).train()
    mean, own = torch.zeros(IN), module.running_mean
    parameters = dict(module.named_parameters())
    with swapped_tensors(module, {"running_mean": mean}):
        module(torch.randn(5, IN) + 3)
    assert module.running_mean is own
    assert own is not None
    assert own.tolist() == [0] * IN
    assert float(mean.abs().sum()) > 0
    assert all(value is parameters[name] for name, value in module.named_parameters())
    stores = Stores()
    with swapped_tensors(stores, {"one.weight": torch.zeros(4, IN)}):
        stores(torch.randn(1, IN))
    assert stores.calls == 1


def test_training_after_a_measure_is_that_of_a_module_that_was_never_measured() -> None:
    losses = []
    for measured in (False, True):
        module = built("shared submodule")
        if measured:
            measure("asam", Subject.from_module(module, *examples()))
        optimizer = torch.optim.SGD(module.parameters(), lr=0.5)
        for _ in range(20):
            optimizer.zero_grad()
            loss = F.cross_entropy(module(examples()[0]), examples()[1])
            loss.backward()
            optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[0] == losses[1]


def test_large_plain_tensors_and_data_sets_are_not_copied() -> None:
    module = perceptron()
    module.table = torch.zeros(2**20 + 1)
    module.data = torch.utils.data.TensorDataset(torch.zeros(3))
    attributes = vars(module)
    with private_attributes(module, {}):
        assert vars(module) is not attributes
        assert module.table is attributes["table"]
        assert module.data.tensors is attributes["data"].tensors
