"""Random rewrites: they move what they should, never the function, and refuse what would."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sharpbench import Subject, measure
from sharpbench.symmetry import rewrites

KINDS = ("layer", "unit", "permutation", "attention-rotation")


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


@pytest.fixture
def model() -> Mixed:
    torch.manual_seed(0)
    return Mixed().eval()


INPUTS = torch.randn(2, 3, 5, 5, generator=torch.Generator().manual_seed(3))


def rewritten(model: nn.Module, kind: str, inputs: Tensor = INPUTS) -> tuple[object, dict[str, Tensor], float]:
    """The rewrites; the state in float64 rewritten; the relative change of the outputs."""
    generator = torch.Generator().manual_seed(0)
    found = rewrites(model, inputs, kind, generator=generator)
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


def test_measures_change_or_stay_as_they_claim(model: Mixed) -> None:
    generator = torch.Generator().manual_seed(0)
    subject = Subject.from_module(model.double(), INPUTS.double(), torch.tensor([0, 2]))
    for kind, word, stays in (
        ("layer", "minimum", True),
        ("unit", "minimum", False),
        ("unit", "minimum[scope=unit]", True),
    ):
        value = measure(word, subject).value
        found = rewrites(model, INPUTS.double(), kind, generator=generator)
        moved = subject.with_params(found(subject.params, generator=generator))
        assert (measure(word, moved).value == pytest.approx(value, rel=1e-8)) == stays
