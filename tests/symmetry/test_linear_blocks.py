"""Linear blocks: found on the graph of every form of attention, and of linear layers with nothing in between."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from sharpbench.symmetry import Float64Check, FullGroup, find_rewrites, full_group
from sharpbench.symmetry.linear_blocks import random_matrix

TOKENS, WIDTH, HEADS = 5, 8, 2
HEAD = WIDTH // HEADS


def split_heads(x: Tensor, heads: int = HEADS) -> Tensor:
    return x.unflatten(-1, (heads, -1)).transpose(-3, -2)


class Attention(nn.Module):
    """One attention layer with a norm before and a classifier behind it; subclasses change one thing."""

    key_heads, bias = HEADS, True

    def __init__(self) -> None:
        super().__init__()
        narrow = self.key_heads * HEAD
        self.norm = nn.LayerNorm(WIDTH)
        self.q = nn.Linear(WIDTH, WIDTH, self.bias)
        self.k, self.v = (nn.Linear(WIDTH, narrow, self.bias) for _ in range(2))
        self.out, self.head = nn.Linear(WIDTH, WIDTH, self.bias), nn.Linear(WIDTH, 3)

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        repeat = HEADS // self.key_heads
        q = split_heads(self.q(x))
        k, v = (split_heads(part(x), self.key_heads).repeat_interleave(repeat, 1) for part in (self.k, self.v))
        return q, k, v

    def mix(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return (q @ k.transpose(-2, -1) / HEAD**0.5).softmax(-1) @ v

    def forward(self, x: Tensor) -> Tensor:
        mixed = self.mix(*self.project(self.norm(x)))
        hidden = x + self.out(mixed.transpose(1, 2).flatten(2))
        return self.head(hidden.mean(1).tanh())


class NoBias(Attention):
    bias = False


class MultiQuery(Attention):
    key_heads = 1


class Kernel(Attention):
    def mix(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return nn.functional.scaled_dot_product_attention(q, k, v)


class SharedKernel(Attention):
    """Two heads of queries for one of keys and values, repeated by the kernel itself."""

    key_heads = 1

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        k, v = (split_heads(part(x), 1) for part in (self.k, self.v))
        return split_heads(self.q(x)), k, v

    def mix(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return nn.functional.scaled_dot_product_attention(q, k, v, enable_gqa=True)


class Causal(Attention):
    def mix(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        mask = torch.ones(TOKENS, TOKENS, dtype=torch.bool).tril()
        return (q @ k.transpose(-2, -1)).masked_fill(~mask, -1e9).softmax(-1) @ v


class Alibi(Attention):
    def mix(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        place = torch.arange(TOKENS, dtype=q.dtype)
        slopes = torch.tensor([0.5, 0.25], dtype=q.dtype)[:, None, None]
        return (q @ k.transpose(-2, -1) - slopes * (place[:, None] - place).abs()).softmax(-1) @ v


class Einsum(Attention):
    def mix(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return torch.einsum("bhqk,bhkd->bhqd", torch.einsum("bhqd,bhkd->bhqk", q, k).softmax(-1), v)


class Fused(Attention):
    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH)
        del self.q, self.k, self.v

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = (split_heads(part) for part in self.qkv(x).chunk(3, -1))
        return q, k, v


class Cross(Attention):
    def __init__(self) -> None:
        super().__init__()
        self.memory = nn.Parameter(torch.randn(3, WIDTH))

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        memory = self.memory.expand(len(x), -1, -1)
        return split_heads(self.q(x)), split_heads(self.k(memory)), split_heads(self.v(memory))


class Talking(Attention):
    def __init__(self) -> None:
        super().__init__()
        self.mixing = nn.Linear(HEADS, HEADS)

    def mix(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        scores = (q @ k.transpose(-2, -1)).movedim(1, -1)
        return self.mixing(scores).movedim(-1, 1).softmax(-1) @ v


class Rotary(Attention):
    def frequencies(self) -> Tensor:
        return torch.tensor([1.0, 0.1], dtype=self.q.weight.dtype)

    def mix(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        angle = torch.arange(TOKENS, dtype=q.dtype)[:, None] * self.frequencies()
        cos, sin = (torch.cat((each, each), -1) for each in (angle.cos(), angle.sin()))

        def turn(x: Tensor) -> Tensor:
            left, right = x.chunk(2, -1)
            return x * cos + torch.cat((-right, left), -1) * sin

        return super().mix(turn(q), turn(k), v)


class StoredRotary(Rotary):
    """Frequencies in a buffer, as those of Llama, which units could follow from queries to keys."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("stored", super().frequencies())

    def frequencies(self) -> Tensor:
        return self.stored


class LearnedRotary(Rotary):
    def __init__(self) -> None:
        super().__init__()
        self.learned = nn.Parameter(super().frequencies())

    def frequencies(self) -> Tensor:
        return self.learned


class QueryKeyNorm(Attention):
    def __init__(self) -> None:
        super().__init__()
        self.q_norm, self.k_norm = nn.LayerNorm(HEAD), nn.LayerNorm(HEAD)

    def mix(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return super().mix(self.q_norm(q), self.k_norm(k), v)


class Lora(nn.Module):
    """A frozen layer with an update of rank 2."""

    def __init__(self) -> None:
        super().__init__()
        self.base, self.a, self.b = nn.Linear(WIDTH, 6), nn.Linear(WIDTH, 2, bias=False), nn.Linear(2, 6, bias=False)
        self.base.requires_grad_(False)
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = x.mean(1)
        return self.head((self.base(x) + self.b(self.a(x))).relu())


class Chain(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Flatten(), nn.Linear(40, 4), nn.Linear(4, 5), nn.Linear(5, 3))


class Convolutions(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(
            nn.Unflatten(1, (1, TOKENS)), nn.Conv2d(1, 3, (3, 1)), nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Flatten(),
            nn.Linear(96, 3),
        )  # fmt: skip


class Nonlinear(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Flatten(), nn.Linear(40, 4), nn.ReLU(), nn.Linear(4, 3))


class Bare(nn.Sequential):
    """A norm between two linear maps leaves scales at most."""

    def __init__(self) -> None:
        super().__init__(nn.Flatten(), nn.Linear(40, 4), nn.LayerNorm(4), nn.Linear(4, 3))


CASES: list[tuple[Callable[[], nn.Module], str, int]] = [
    (Attention, "4 x GL(4)", 0),
    (NoBias, "4 x GL(4)", 0),
    (MultiQuery, "2 x GL(4)", 0),
    (Kernel, "4 x GL(4)", 0),
    (SharedKernel, "2 x GL(4)", 0),
    (Causal, "4 x GL(4)", 0),
    (Alibi, "4 x GL(4)", 0),
    (Einsum, "4 x GL(4)", 0),
    (Fused, "4 x GL(4)", 0),
    (Cross, "4 x GL(4), 1 x GL(8)", 0),
    (Talking, "4 x GL(4)", 0),
    (Rotary, "2 x GL(4)", 1),
    (StoredRotary, "2 x GL(4)", 1),
    (LearnedRotary, "2 x GL(4)", 1),
    (QueryKeyNorm, "2 x GL(4)", 1),
    (Lora, "1 x GL(2)", 0),
    (Chain, "1 x GL(4), 1 x GL(5)", 0),
    (Convolutions, "1 x GL(3)", 0),
    (Nonlinear, "", 0),
    (Bare, "", 0),
]


def found(make: Callable[[], nn.Module]) -> tuple[nn.Module, Tensor, FullGroup]:
    torch.manual_seed(0)
    model, inputs = make().double().eval(), torch.randn(4, TOKENS, WIDTH, dtype=torch.float64)
    return model, inputs, full_group(model, inputs, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("make", "blocks", "restricted"), CASES)
def test_the_blocks_of_every_form_of_attention_are_found(
    make: Callable[[], nn.Module], blocks: str, restricted: int
) -> None:
    model, inputs, group = found(make)
    assert group.words == blocks
    assert group.restricted == restricted
    generator = torch.Generator().manual_seed(2)
    check = Float64Check.of(model, inputs, generator=generator)
    for _ in range(3):
        moved = group.random_move(check.state, generator)
        assert check.change(moved) < 1e-10
    if group.blocks:
        assert any(not torch.allclose(moved[name], value) for name, value in check.state.items())


def test_a_block_that_is_moved_on_one_side_only_changes_the_function() -> None:
    model, inputs, group = found(Attention)
    check = Float64Check.of(model, inputs, generator=torch.Generator().manual_seed(2))
    for block in group.blocks:
        half = type(block)(tuple(each for each in block.occurrences if not each.inverse))
        assert check.change(half(check.state, generator=torch.Generator().manual_seed(3))) > 1e-6


def test_the_dimension_counts_scales_once() -> None:
    _, _, group = found(Attention)
    assert group.dimension == group.units.dimension + 4 * (16 - 4)


def test_frozen_parameters_and_those_left_out_are_not_moved() -> None:
    model, inputs, _ = found(Attention)
    group = full_group(
        model, inputs, generator=torch.Generator().manual_seed(0), parameters=["q.weight", "q.bias", "k.weight"]
    )
    assert not group.blocks  # the keys' bias would have to move


def test_random_matrices_have_their_inverse_and_a_bounded_condition() -> None:
    matrix, inverse = random_matrix(6, torch.Generator().manual_seed(0))
    assert torch.allclose(matrix @ inverse, torch.eye(6, dtype=torch.float64), atol=1e-13)
    assert torch.linalg.cond(matrix) <= 55.0


def test_the_rewrite_attention_gl_keeps_the_function_in_float32_also() -> None:
    torch.manual_seed(0)
    model, inputs = Fused().eval(), torch.randn(4, TOKENS, WIDTH)
    rewrite = find_rewrites(model, inputs, "attention-gl", generator=torch.Generator().manual_seed(0))
    assert not rewrite.trivial
    before = model(inputs)
    state = rewrite(model.state_dict(), generator=torch.Generator().manual_seed(1))
    model.load_state_dict(state)
    assert torch.allclose(model(inputs), before, atol=1e-5)
    assert {value.dtype for value in state.values()} == {torch.float32}
