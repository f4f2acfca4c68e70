"""Random rewrites: they move what they should, never the function, and refuse what would."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sharpbench import InvalidInput, Subject, measure
from sharpbench.core.graph import Graph, current_graph
from sharpbench.symmetry import find_rewrites, permutation
from sharpbench.symmetry.permutation import Permutation, find_permutations
from sharpbench.symmetry.random_rewrites import _keep_function
from sharpbench.symmetry.rules.operation import homogeneous_rule

KINDS = ("layer", "unit", "permutation", "attention-rotation", "attention-gl")


class Mixed(nn.Module):
    """Convolutions (one depthwise), norms, a residual sum, gating, and attention of two heads."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.deep, self.point = nn.Conv2d(6, 6, 3, padding=1, groups=6), nn.Conv2d(6, 6, 1)
        self.gate = nn.Conv2d(6, 6, 1)
        self.before = nn.LayerNorm(6)
        self.qkv, self.proj = nn.Linear(6, 24), nn.Linear(8, 6)
        self.one, self.two = nn.Linear(6, 5), nn.Linear(5, 6)
        self.head = nn.Linear(6, 3)
        self.norm.running_mean.normal_()
        self.norm.running_var.uniform_(0.5, 2)

    def heads(self, values: Tensor) -> tuple[Tensor, ...]:
        return self.qkv(self.before(values)).unflatten(2, (3, 2, 4)).permute(2, 0, 3, 1, 4).unbind(0)

    def forward(self, inputs: Tensor) -> Tensor:
        image = self.norm(self.conv(inputs)).relu()
        image = image + F.gelu(self.point(self.deep(image)))
        image = image * self.gate(image.mean((2, 3), keepdim=True)).sigmoid()
        tokens = image.flatten(2).transpose(1, 2)
        mixed = F.scaled_dot_product_attention(*self.heads(tokens)).transpose(1, 2).flatten(2)
        tokens = tokens + self.proj(mixed)
        return self.head((tokens + self.two(F.gelu(self.one(tokens)))).mean(1))


def mixed() -> Mixed:
    torch.manual_seed(0)
    return Mixed().eval()


@pytest.fixture(scope="module")
def model() -> Mixed:
    """For tests that only read it: its graph is captured once."""
    return mixed()


INPUTS = torch.randn(2, 3, 5, 5, generator=torch.Generator().manual_seed(3))


def rewritten(model: nn.Module, kind: str, inputs: Tensor = INPUTS) -> tuple[object, dict[str, Tensor], float]:
    """The rewrites; the state in float64 rewritten; the relative change of the outputs."""
    generator = torch.Generator().manual_seed(0)
    found = find_rewrites(model, inputs, kind, generator=generator)
    state = {name: value.double() for name, value in model.state_dict().items() if value.is_floating_point()}
    moved = found(state, generator=generator)
    assert list(moved) == list(state)
    assert all(moved[name].dtype == value.dtype and moved[name].shape == value.shape for name, value in state.items())
    one, other = (torch.func.functional_call(model, each, (inputs.double(),)) for each in (state, moved))
    return found, moved, float((one - other).abs().max() / one.abs().max())


@pytest.mark.parametrize("kind", KINDS)
def test_the_function_stays_and_the_weights_do_not(model: Mixed, kind: str) -> None:
    found, moved, change = rewritten(model, kind)
    assert change < 1e-12
    assert found.kind == kind
    assert any(not torch.equal(value, model.state_dict()[name].double()) for name, value in moved.items())


def test_permutations_move_hidden_units_together(model: Mixed) -> None:
    found, moved, _ = rewritten(model, "permutation")
    sets = {frozenset(part.occurrences) for part in found.parts}
    assert frozenset({("one.weight", 0), ("one.bias", 0), ("two.weight", 1)}) in sets
    stream = next(each for each in sets if ("head.weight", 1) in each)
    assert {("conv.weight", 0), ("norm.weight", 0), ("norm.running_mean", 0), ("deep.weight", 0)} <= stream
    assert {("gate.weight", 0), ("gate.weight", 1), ("before.bias", 0), ("qkv.weight", 1), ("proj.weight", 0)} <= stream
    assert sum(("qkv.weight", 0) in each and len(each) == 2 for each in sets) == 1  # query and key of a head, alike
    before = model.state_dict()
    for name in ("norm.running_mean", "conv.bias", "one.bias"):
        assert not torch.equal(moved[name], before[name].double())
        assert torch.equal(moved[name].sort().values, before[name].double().sort().values)
    assert torch.equal(moved["head.bias"], before["head.bias"].double())


def test_rotations_turn_queries_and_keys_alone(model: Mixed) -> None:
    found, moved, _ = rewritten(model, "attention-rotation")
    assert len(found.parts) == 1
    before = {name: value.double() for name, value in model.state_dict().items()}
    changed = {name for name, value in moved.items() if not torch.equal(value, before[name])}
    assert changed == {"qkv.weight", "qkv.bias"}
    assert torch.equal(moved["qkv.weight"][16:], before["qkv.weight"][16:])
    one, other = (each["qkv.weight"][:4] for each in (before, moved))
    torch.testing.assert_close(one.T @ one, other.T @ other)
    assert not torch.allclose(one, other)


def test_what_would_change_the_function_is_left_out() -> None:
    """Rotary angles forbid rotations, constants that differ by channel forbid permutations of these channels."""

    class Rotary(Mixed):
        def heads(self, values: Tensor) -> tuple[Tensor, ...]:
            query, key, value = super().heads(values)
            angle = torch.arange(25.0, dtype=values.dtype)[:, None] * torch.tensor([1.0, 0.3], dtype=values.dtype)
            cos, sin = angle.cos().repeat(1, 2), angle.sin().repeat(1, 2)
            turned = [x * cos + torch.cat((-x[..., 2:], x[..., :2]), -1) * sin for x in (query, key)]
            return turned[0], turned[1], value

    torch.manual_seed(0)
    found, _, change = rewritten(Rotary().eval(), "attention-rotation")
    assert (found.parts, change) == ([], 0.0)

    class Fixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two, self.three = nn.Linear(4, 6), nn.Linear(6, 5), nn.Linear(5, 3)

        def forward(self, inputs: Tensor) -> Tensor:
            weights = torch.arange(1.0, 7.0, dtype=inputs.dtype)
            return self.three(self.two(self.one(inputs).relu() * weights).relu())

    found, _, change = rewritten(Fixed().eval(), "permutation", torch.randn(2, 4))
    assert [set(part.occurrences) for part in found.parts] == [
        {("two.weight", 0), ("two.bias", 0), ("three.weight", 1)},
    ]
    assert change < 1e-13


def graph_of(model: nn.Module, inputs: Tensor) -> Graph:
    return current_graph(model, inputs, inputs)


def hidden(middle: Callable[[nn.Module, Tensor], Tensor], units: int = 4, **parts: object) -> nn.Module:
    """Linear, `middle`, linear."""

    class Hidden(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Linear(5, units), nn.Linear(units, 3)
            for name, part in parts.items():
                setattr(self, name, part)

        def forward(self, inputs: Tensor) -> Tensor:
            return self.two(middle(self, self.one(inputs)))

    torch.manual_seed(0)
    return Hidden().eval()


FIXED = {
    "mask": lambda net, x: x.relu().masked_fill(torch.arange(4) == 1, 0.0),
    "lower bound": lambda net, x: torch.clamp(x, min=torch.tensor([-0.5, 0.5, 0.3, 0.1]).to(x)),
    "upper bound": lambda net, x: torch.clamp(x, max=torch.tensor([-0.5, 0.5, 0.3, 0.1]).to(x)),
    "exponent": lambda net, x: (x.abs() + 0.1).pow(torch.tensor([0.5, 1.0, 2.0, 3.0]).to(x)),
    "base": lambda net, x: torch.pow(torch.tensor([0.5, 1.0, 2.0, 3.0]).to(x), x),
    "slope": lambda net, x: F.prelu(x, torch.tensor([0.1, 0.2, 0.3, 0.9]).to(x)),
    "choice": lambda net, x: torch.where(torch.arange(4) > 1, x, 2 * x),
}


@pytest.mark.parametrize("middle", FIXED.values(), ids=FIXED)
def test_a_constant_that_differs_by_unit_holds_the_units(middle: Callable[[nn.Module, Tensor], Tensor]) -> None:
    net = hidden(middle)
    found, _, _ = rewritten(net, "permutation", torch.randn(6, 5))
    assert found.trivial
    # not by being tried out: no false set was found at all
    assert list(find_permutations(graph_of(net, torch.randn(1, 5)))) == []


MOVING = {
    "slopes": lambda net, x: net.each(x),
    "bounds": lambda net, x: torch.clamp(x, min=net.each.weight),
    "exponents": lambda net, x: (x.abs() + 0.1).pow(net.each.weight),
}


@pytest.mark.parametrize("units", [2, 4])
@pytest.mark.parametrize("middle", MOVING.values(), ids=MOVING)
def test_parameters_that_differ_by_unit_move_along(middle: Callable[[nn.Module, Tensor], Tensor], units: int) -> None:
    model = hidden(middle, units, each=nn.PReLU(units)).double()
    nn.init.normal_(model.each.weight)
    inputs = torch.randn(6, 5, dtype=torch.float64)
    for seed in range(6):
        generator = torch.Generator().manual_seed(seed)
        found = find_rewrites(model, inputs, "permutation", generator=generator)
        (part,) = found.parts
        assert ("each.weight", 0) in part.occurrences
        moved = found(model.state_dict(), generator=generator)
        before, after = model(inputs), torch.func.functional_call(model, moved, (inputs,))
        torch.testing.assert_close(after, before, rtol=1e-12, atol=1e-12)


def test_slopes_of_images_and_a_single_slope() -> None:
    for count in (1, 4):
        model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.PReLU(count), nn.Conv2d(4, 5, 3)).eval()
        nn.init.normal_(model[1].weight)
        found, _, change = rewritten(model, "permutation")
        (part,) = found.parts
        assert part.units == 4
        assert (("1.weight", 0) in part.occurrences) == (count == 4)
        assert change < 1e-12


def test_a_mask_along_tokens_leaves_the_channels_free() -> None:
    model = hidden(lambda net, x: x.relu().masked_fill(torch.tensor([[True], [False], [True]]), 0.0))
    found, _, change = rewritten(model, "permutation", torch.randn(2, 3, 5))
    assert [part.units for part in found.parts] == [4]
    assert change < 1e-12


@pytest.mark.parametrize(("groups", "free"), [(1, [4, 4]), (2, []), (4, [4])])
@pytest.mark.parametrize("kind", [nn.Conv2d, nn.ConvTranspose2d])
def test_units_of_grouped_convolutions_stay(kind: type[nn.Module], groups: int, free: list[int]) -> None:
    """But of depthwise ones move, before and after together."""
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), kind(4, 4, 3, groups=groups), nn.ReLU(), nn.Conv2d(4, 3, 1))
    model = model.eval()
    assert [part.units for part in find_permutations(graph_of(model, INPUTS[:1]))] == free
    found, _, change = rewritten(model, "permutation")
    assert [part.units for part in found.parts] == free
    assert change < 1e-12


@pytest.mark.parametrize("units", [2, 3, 7])
def test_two_orders_make_all(units: int) -> None:
    """Each moves what the other may leave, and products of both are all orders (for 3 units: all 6)."""
    part = Permutation({("a", 0): np.arange(units)[:, None]})
    state, generator = {"a": torch.arange(units)}, torch.Generator()
    shifted, swapped = (part.apply_probe(state, turn, generator=generator)["a"] for turn in range(2))
    assert not (shifted == state["a"]).any()
    assert swapped.tolist() == [1, 0, *range(2, units)]
    if units == 3:
        reached = {tuple(range(3))}
        for _ in range(6):
            reached |= {tuple(np.array(order)[move]) for order in reached for move in (shifted, swapped)}
        assert len(reached) == 6


def test_a_false_set_of_two_units_is_never_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a wrong rule: no random order is asked, which for two units would be none every other time."""
    model = hidden(lambda net, x: x.relu() * torch.tensor([1.0, 2.0]).to(x), units=2)
    monkeypatch.setitem(permutation.UNIT_RULES, "mul", homogeneous_rule)
    assert len(list(find_permutations(graph_of(model, torch.randn(1, 5))))) == 1
    for seed in range(10):
        generator = torch.Generator().manual_seed(seed)
        assert find_rewrites(model, torch.randn(6, 5), "permutation", generator=generator).trivial


@pytest.mark.parametrize("count", [2, 3, 8])
def test_sets_that_must_move_together_are_told_apart(count: int) -> None:
    """The function of two tensors whose orders make up for each other, among others that matter to nothing."""
    state = {f"t{index}": torch.arange(2.0) + index for index in range(count)}
    parts = [Permutation({(name, 0): np.arange(2)[:, None]}) for name in state]

    class Stub:
        def __init__(self, *names: str) -> None:
            self.state, self.names = state, names

        def change(self, moved: dict[str, Tensor]) -> float:
            one, other = self.names
            return float((moved[one] @ moved[other] - state[one] @ state[other]).abs())

    generator = torch.Generator()
    for one, other in itertools.combinations(state, 2):
        assert not _keep_function(parts, Stub(one, other), generator)
        both = Permutation({(one, 0): np.arange(2)[:, None], (other, 0): np.arange(2)[:, None]})
        assert _keep_function([both], Stub(one, other), generator)


@pytest.mark.parametrize("kind", ["layer", "unit", "permutation", "attention-rotation"])
def test_tied_names_and_states_without_shared_memory(kind: str) -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.qkv, self.again = nn.Linear(4, 12), nn.Linear(4, 12)
            self.again.weight, self.again.bias = self.qkv.weight, self.qkv.bias
            self.out, self.one, self.same = nn.Linear(4, 4), nn.Linear(4, 6), nn.Linear(4, 6)
            self.same.weight, self.same.bias = self.one.weight, self.one.bias
            self.two, self.three = nn.Linear(6, 3), nn.Linear(6, 3)

        def forward(self, x: Tensor) -> Tensor:
            q, k, v = self.again(x).chunk(3, 2)
            x = self.out(F.scaled_dot_product_attention(q, k, v)).mean(1)
            return self.two(self.one(x).relu()) + self.three(self.same(x).relu().square())

    torch.manual_seed(0)
    model, inputs = Tied().double().eval(), torch.randn(3, 5, 4, dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    found = find_rewrites(model, inputs, kind, generator=generator)
    assert not found.trivial
    before = model(inputs)
    moved = found({name: value.clone() for name, value in model.state_dict().items()}, generator=generator)
    for one, other in (("qkv", "again"), ("one", "same")):
        assert torch.equal(moved[f"{one}.weight"], moved[f"{other}.weight"])
    assert any(not torch.equal(value, model.state_dict()[name]) for name, value in moved.items())
    model.load_state_dict(moved)
    torch.testing.assert_close(model(inputs), before, rtol=1e-11, atol=1e-12)


def test_frozen_parameters_are_neither_rescaled_nor_rotated() -> None:
    model = mixed()
    model.qkv.requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    assert find_rewrites(model, INPUTS, "attention-rotation", generator=generator).trivial
    everything = [name for name, _ in model.named_parameters()]
    assert not find_rewrites(model, INPUTS, "attention-rotation", generator=generator, parameters=everything).trivial
    state = dict(model.state_dict())
    for kind in ("layer", "unit"):
        for names, moves in ((None, False), (everything, True)):
            found = find_rewrites(model, INPUTS, kind, generator=generator, parameters=names)
            assert not found.trivial
            assert torch.equal(found(state, generator=generator)["qkv.weight"], state["qkv.weight"]) != moves


def test_wrong_words_and_states_are_one_line(model: Mixed) -> None:
    generator = torch.Generator().manual_seed(0)
    with pytest.raises(
        InvalidInput, match=r"kind='bogus' is not a kind of rewrite; use one of layer, unit, permutation"
    ):
        find_rewrites(model, INPUTS, "bogus", generator=generator)
    params = {name: value.detach() for name, value in model.named_parameters()}
    with pytest.raises(InvalidInput, match=r"state lacks norm.running_mean, in which units are permuted; give"):
        find_rewrites(model, INPUTS, "permutation", generator=generator)(params, generator=generator)
    del params["qkv.bias"]
    with pytest.raises(InvalidInput, match=r"state lacks qkv.bias, in which heads are rotated; give all parameters"):
        find_rewrites(model, INPUTS, "attention-rotation", generator=generator)(params, generator=generator)


def test_measures_change_or_stay_as_they_claim() -> None:
    model = mixed()
    generator = torch.Generator().manual_seed(0)
    subject = Subject.from_module(model.double(), INPUTS.double(), torch.tensor([0, 2]))
    for kind, word, stays in (
        ("layer", "minimum", True),
        ("unit", "minimum", False),
        ("unit", "minimum[scope=unit]", True),
    ):
        value = measure(word, subject).value
        found = find_rewrites(model, INPUTS.double(), kind, generator=generator)
        moved = subject.with_params(found(subject.params, generator=generator))
        assert (measure(word, moved).value == pytest.approx(value, rel=1e-8)) == stays
