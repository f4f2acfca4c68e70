"""The rules, one by one: the group of a small network around each operator has the dimension that it should have,
for layers and for units, and leaves the function as it is.

Networks of one kind stand side by side in one network, so that there is one capture: each has its part of the group.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sharpbench.symmetry import RescalingGroup, rescaling_group


class Network(nn.Module):
    """Parts by name, and what is done with them."""

    def __init__(self, forward: Callable[[Network, Tensor], Tensor], **parts: nn.Module | Tensor) -> None:
        super().__init__()
        for name, part in parts.items():
            setattr(self, name, part if isinstance(part, nn.Module) else nn.Parameter(part))
        self.run = forward

    def forward(self, inputs: Tensor) -> Tensor:
        return self.run(self, inputs)


def linear(inputs: int, outputs: int, *, bias: bool = True) -> nn.Linear:
    return nn.Linear(inputs, outputs, bias=bias)


def chain(middle: Callable[[Tensor], Tensor], wide: int = 6, back: int = 6) -> Network:
    """Linear, ReLU, what is asked about, linear."""
    return Network(lambda net, x: net.two(middle(net.one(x).relu())), one=linear(5, wide), two=linear(back, 3))


def image(middle: Callable[[Tensor], Tensor], channels: int = 4, features: int = 4) -> Network:
    """Convolution, ReLU, what is asked about, mean over positions, linear."""
    return Network(
        lambda net, x: net.two(middle(net.one(x).relu()).mean((2, 3))),
        one=nn.Conv2d(3, channels, 3, padding=1),
        two=linear(features, 3),
    )


def norm(layer: nn.Module, *, two: int = 6, inputs: int = 5) -> Network:
    """Linear, norm, ReLU, linear: the first is pinned, the norm goes against the second."""
    torch.manual_seed(3)
    for value in layer.parameters():
        value.data = torch.randn_like(value)
    for name, buffer in layer.named_buffers():
        if buffer.is_floating_point():
            buffer.copy_(torch.rand_like(buffer) + (0.5 if name == "running_var" else -0.5))
    return Network(
        lambda net, x: net.two(net.norm(net.one(x)).relu()), one=linear(inputs, 6), norm=layer, two=linear(two, 3)
    )


def smooth(function: Callable[[Tensor], Tensor]) -> Network:
    """Two layers, the function, and a third: only the first two are free against each other."""
    return Network(
        lambda net, x: net.three(function(net.two(net.one(x).relu()))),
        one=linear(5, 4),
        two=linear(4, 6),
        three=linear(6, 3),
    )


VECTOR, IMAGE, TOKENS = (2, 5), (2, 3, 8, 8), (2, 7, 5)

HOMOGENEOUS = {
    "relu": (lambda x: x, 6),
    "leaky_relu": (lambda x: F.leaky_relu(x, 0.2), 6),
    "neg": (lambda x: -x, 6),
    "abs": (lambda x: (x - 0.0).abs(), 6),
    "clone": (lambda x: x.clone().contiguous(), 6),
    "dropout": (lambda x: F.dropout(x, 0.5, training=False), 6),
    "clamp at 0": (lambda x: x.clamp(min=0.0), 6),
    "threshold at 0": (lambda x: F.threshold(x, 0.0, 0.0), 6),
    "mul by a number": (lambda x: 3 * x * 0.5, 6),
    "div by a number": (lambda x: x / 7, 6),
    "div by a constant": (lambda x: x / torch.arange(1.0, 7.0, dtype=x.dtype), 6),
    "sum with itself": (lambda x: x + 2 * x - 0.5 * x, 6),
    "maximum": (lambda x: torch.maximum(x, 0.5 * x), 6),
    "where": (lambda x: torch.where(torch.arange(6) > 2, x, 2 * x), 6),
    "masked_fill with 0": (lambda x: x.masked_fill(torch.arange(6) > 4, 0.0), 6),
    "square and root": (lambda x: (x * x).sqrt(), 6),
    "pow": (lambda x: x.pow(2).pow(0.5), 6),
    "view": (lambda x: x.view(-1, 2, 3).reshape(-1, 6), 6),
    "flatten": (lambda x: x.unflatten(1, (3, 2)).flatten(1), 6),
    "transpose": (lambda x: x.t().transpose(0, 1), 6),
    "permute": (lambda x: x.view(-1, 2, 3).permute(0, 2, 1).reshape(-1, 6), 6),
    "squeeze": (lambda x: x.unsqueeze(1).unsqueeze(3).squeeze(3).squeeze(1), 6),
    "expand": (lambda x: x[:, None].expand(-1, 4, -1).mean(1), 6),
    "repeat": (lambda x: x[:, None].repeat(1, 4, 1).sum(1), 6),
    "roll": (lambda x: x.roll(2, 1), 6),
    "flip": (lambda x: x.flip(1), 6),
    "flip of nothing": (lambda x: torch.flip(x, ()), 6),
    "nothing beside it": (lambda x: torch.cat((x, x[:, :0], x[:, 6:].expand(-1, 0)), 1), 6),
    "a sum over nothing": (lambda x: x + x[:, 2:2].sum(1, keepdim=True).abs() * x, 6),
    "narrow from the end": (lambda x: torch.cat((x.narrow(1, -3, 3), x.narrow(1, 0, 3)), 1), 6),
    "type and size of another": (lambda x: x.type_as(x.flip(1)).view_as(x.flip(1)).expand_as(x.flip(1)), 6),
    "split and cat": (lambda x: torch.cat(x.split([2, 4], 1)[::-1], 1), 6),
    "chunk and stack": (lambda x: torch.stack(x.chunk(2, 1), 2).flatten(1), 6),
    "unbind": (lambda x: torch.stack(x.unbind(1)[::-1], 1), 6),
    "select": (lambda x: torch.stack([x.select(1, i) for i in (0, 3, 1, 2, 4, 5)], 1), 6),
    "slice": (lambda x: torch.cat((x[:, ::2], x[:, 1::2]), 1), 6),
    "narrow": (lambda x: torch.cat((x.narrow(1, 3, 3), x.narrow(1, 0, 3)), 1), 6),
    "pad": (lambda x: F.pad(x, (1, 2))[:, 1:-2], 6),
    "index_select": (lambda x: x.index_select(1, torch.tensor([3, 1, 2, 0, 5, 4])), 1),
    "index": (lambda x: x[:, torch.tensor([3, 1, 2, 0, 5, 4])], 1),
    "repeat_interleave": (lambda x: x.repeat_interleave(2, 1)[:, ::2] + x.repeat_interleave(2, 1)[:, 1::2], 6),
    "copy": (lambda x: torch.zeros_like(x).copy_(x), 6),
    "addcmul": (lambda x: torch.addcmul(x, x, torch.arange(6.0, dtype=x.dtype)), 6),
    "addcdiv": (lambda x: torch.addcdiv(x, x, torch.arange(1.0, 7.0, dtype=x.dtype)), 6),
    "cumsum": (lambda x: x.cumsum(1), 1),
    "tril": (lambda x: x.tril(), 1),
    "sum over channels": (lambda x: x + x.sum(1, keepdim=True) + x.amax(1, keepdim=True), 1),
    "max": (lambda x: x + x.max(1, keepdim=True).values - x.min() + torch.max(x, 2 * x), 1),
    "norm": (lambda x: x + torch.linalg.vector_norm(x, dim=1, keepdim=True), 1),
    "var": (lambda x: x + x.var(1, keepdim=True).sqrt() + x.std(1, keepdim=True), 1),
    "times its size": (lambda x: x * torch.linalg.vector_norm(x, dim=1, keepdim=True), 1),
}


def test_a_homogeneous_operator_hands_scales_on() -> None:
    nets = {name: chain(middle) for name, (middle, _) in HOMOGENEOUS.items()}
    check_each(nets, VECTOR, {name: (1, units) for name, (_, units) in HOMOGENEOUS.items()})


def test_types_are_converted_without_pinning() -> None:
    check(chain(lambda x: x.to(torch.float32).to(torch.float64)), VECTOR, layer=1, unit=6, tolerance=1e-5)


POSITIONS = {
    "max_pool": (lambda x: F.max_pool2d(x, 2), 4, 4),
    "avg_pool": (lambda x: F.avg_pool2d(x, 3, 1, 1), 4, 4),
    "adaptive": (lambda x: F.adaptive_avg_pool2d(x, 3) + F.adaptive_max_pool2d(x, 3), 4, 4),
    "nearest": (lambda x: F.interpolate(x, scale_factor=2), 4, 4),
    "bilinear": (lambda x: F.interpolate(x, size=(5, 5), mode="bilinear"), 4, 4),
    "bicubic": (lambda x: F.interpolate(x, size=(5, 5), mode="bicubic", antialias=True), 4, 4),
    "pad": (lambda x: F.pad(x, (1, 2, 0, 1)), 4, 4),
    "reflect": (lambda x: F.pad(x, (1, 2, 0, 1), mode="reflect"), 4, 4),
    "replicate": (lambda x: F.pad(x, (1, 2, 0, 1), mode="replicate"), 4, 4),
    "roll": (lambda x: x.roll((1, 2), (2, 3)), 4, 4),
    "pixel_unshuffle": (lambda x: F.pixel_unshuffle(x, 2), 16, 4),
    "pixel_shuffle": (lambda x: F.pixel_shuffle(x, 2), 1, 1),
    "channel_shuffle": (lambda x: F.channel_shuffle(x, 2), 4, 4),
    "unfold": (lambda x: F.unfold(x, 3)[..., None], 36, 1),
    "windows": (lambda x: x.unflatten(2, (2, 4)).unflatten(4, (2, 4)).permute(0, 2, 4, 1, 3, 5).flatten(0, 2), 4, 4),
}


def test_positions_share_the_scale_of_their_channel() -> None:
    nets = {name: image(middle, features=features) for name, (middle, features, _) in POSITIONS.items()}
    check_each(nets, IMAGE, {name: (1, units) for name, (_, _, units) in POSITIONS.items()})


SMOOTH = {
    name: getattr(F, name)
    for name in (
        *("gelu", "silu", "sigmoid", "tanh", "softplus", "elu", "selu", "celu", "mish", "hardswish", "hardsigmoid"),
        *("relu6", "hardtanh", "logsigmoid", "softsign"),
    )
} | {
    "softmax": lambda x: F.softmax(x, 1),
    "log_softmax": lambda x: F.log_softmax(x, 1),
    "exp": lambda x: torch.exp(-x),
    "clamp": lambda x: x.clamp(-0.3, 0.4),
    "a number is added": lambda x: x + 1.0,
    "from a number": lambda x: 1.0 - x,
    "masked_fill": lambda x: x.masked_fill(torch.arange(6) > 4, 0.5),
    "sign": lambda x: x * torch.sign(x - 0.1),
    "greater": lambda x: torch.where(x > 0.2, x, 2 * x),
    "rounded quotient": lambda x: torch.div(x, 0.1, rounding_mode="floor"),
}


def test_what_is_not_homogeneous_is_pinned() -> None:
    nets = {name: smooth(function) for name, function in SMOOTH.items()}
    check_each(nets, VECTOR, dict.fromkeys(nets, (1, 4)))


NORMS = {
    "batch": nn.BatchNorm1d(6),
    "batch without affine": nn.BatchNorm1d(6, affine=False),
    "layer": nn.LayerNorm(6),
    "layer without bias": nn.LayerNorm(6, bias=False),
    "rms": nn.RMSNorm(6),
    "group": nn.GroupNorm(3, 6),
}


def test_a_norm_goes_against_what_follows() -> None:
    nets = {name: norm(layer) for name, layer in NORMS.items()}
    check_each(nets, VECTOR, {**dict.fromkeys(nets, (1, 6)), "batch without affine": (0, 0)})


def test_a_norm_of_tokens_goes_against_what_follows() -> None:
    check(norm(nn.LayerNorm(6)), TOKENS, layer=1, unit=6)


def test_prelu_keeps_its_slope() -> None:
    net = chain(nn.Identity())
    net.slope = nn.PReLU(6)
    net.run = lambda net, x: net.two(net.slope(net.one(x)))
    group = check(net, VECTOR, layer=1, unit=6)
    assert abs(group.basis[group.names.index("slope.weight")]).max() == 0


def test_running_statistics_that_are_parameters_are_pinned() -> None:
    """What a rule does not read keeps its scale."""
    net = Network(
        lambda net, x: net.two(F.batch_norm(net.one(x), net.mean.detach(), net.var.detach(), net.gain).relu()),
        one=linear(5, 6),
        mean=torch.randn(6),
        var=torch.rand(6) + 0.5,
        gain=torch.randn(6),
        two=linear(6, 3),
    )
    group = check(net, VECTOR, layer=1, unit=6)
    rows = [group.names.index(name) for name in ("mean", "var", "one.weight")]
    assert abs(group.basis[rows]).max() == 0


def test_an_empty_parameter_is_none() -> None:
    net = chain(nn.Identity())
    net.none = nn.Parameter(torch.randn(1, 0))
    net.run = lambda net, x: net.two(torch.cat((net.one(x).relu(), net.none.expand(len(x), 0)), 1))
    assert "none" not in check(net, VECTOR, layer=1, unit=6).parameters


SEQUENCE, VOLUME = (2, 3, 9), (2, 3, 4, 4, 4)

CONVOLUTIONS = {
    SEQUENCE: {
        "1d": (nn.Conv1d(3, 4, 3), nn.Conv1d(4, 6, 3)),
        "transposed 1d": (nn.Conv1d(3, 4, 3), nn.ConvTranspose1d(4, 6, 3)),
    },
    IMAGE: {
        "2d": (nn.Conv2d(3, 4, 1), nn.Conv2d(4, 6, 3, stride=2, padding="valid", dilation=2)),
        "same": (nn.Conv2d(3, 4, 1), nn.Conv2d(4, 6, 3, padding="same")),
        "grouped": (nn.Conv2d(3, 4, 1), nn.Conv2d(4, 6, 3, groups=2)),
        "depthwise": (nn.Conv2d(3, 4, 1), nn.Conv2d(4, 8, 3, groups=4)),
        "transposed": (nn.Conv2d(3, 4, 1), nn.ConvTranspose2d(4, 6, 3, stride=2)),
        "transposed grouped": (nn.Conv2d(3, 4, 1), nn.ConvTranspose2d(4, 6, 3, groups=2)),
    },
    VOLUME: {"3d": (nn.Conv3d(3, 4, 1), nn.Conv3d(4, 6, 2))},
}


@pytest.mark.parametrize("shape", CONVOLUTIONS, ids=["sequences", "images", "volumes"])
def test_a_convolution(shape: tuple[int, ...]) -> None:
    """Its inputs are free against the convolution before it, its outputs against the linear layer after it."""
    nets = {
        name: Network(
            lambda net, x: net.head(net.conv(net.before(x).relu()).relu().flatten(2).mean(2)),
            before=before,
            conv=conv,
            head=linear(conv.out_channels, 3),
        )
        for name, (before, conv) in CONVOLUTIONS[shape].items()
    }
    check_each(nets, shape, {name: (2, 4 + net.conv.out_channels) for name, net in nets.items()})


def test_depthwise_with_cat_keeps_the_halves_apart() -> None:
    """Per unit all eight are free before the depthwise convolution, and all eight after it."""
    net = Network(
        lambda net, x: net.head(net.deep(torch.cat((net.one(x).relu(), net.two(x).relu()), 1)).relu().mean((2, 3))),
        one=nn.Conv2d(3, 4, 1),
        two=nn.Conv2d(3, 4, 1),
        deep=nn.Conv2d(8, 8, 3, groups=8),
        head=linear(8, 3),
    )
    check(net, IMAGE, layer=2, unit=16)


def test_residual_sums_are_alike() -> None:
    net = Network(
        lambda net, x: net.three((net.one(x) + net.two(net.mid(x).relu())).relu()),
        one=linear(5, 6),
        mid=linear(5, 4),
        two=linear(4, 6),
        three=linear(6, 3),
    )
    check(net, VECTOR, layer=2, unit=10)


def test_products_add() -> None:
    """Both factors are free, and what follows takes up their sum."""
    net = Network(
        lambda net, x: net.three(net.one(x) * net.two(x)), one=linear(5, 6), two=linear(5, 6), three=linear(6, 3)
    )
    check(net, VECTOR, layer=2, unit=12)


def test_quotients_subtract() -> None:
    net = Network(
        lambda net, x: net.three(net.one(x) / net.two(x).exp()), one=linear(5, 6), two=linear(5, 6), three=linear(6, 3)
    )
    check(net, VECTOR, layer=1, unit=6)


def test_squeeze_excite_and_layer_scale() -> None:
    net = Network(
        lambda net, x: net.head((net.gamma * gated(net, net.one(x).relu())).mean((2, 3))),
        one=nn.Conv2d(3, 4, 3),
        down=nn.Conv2d(4, 2, 1),
        up=nn.Conv2d(2, 4, 1),
        gamma=torch.randn(4, 1, 1),
        head=linear(4, 3),
    )

    def gated(net: Network, x: Tensor) -> Tensor:
        return x * net.up(net.down(x.mean((2, 3), keepdim=True)).relu()).sigmoid()

    check(net, IMAGE, layer=3, unit=4 + 2 + 4)


def test_a_gated_projection_is_two_blocks_of_rows() -> None:
    """x and gate of one weight: the gate is pinned, x goes against what follows."""

    def gated(net: Network, x: Tensor) -> Tensor:
        value, gate = net.one(x).chunk(2, dim=-1)
        return net.two(value * F.silu(gate))

    net = Network(gated, one=linear(5, 8), two=linear(4, 3))
    group = check(net, VECTOR, layer=1, unit=4)
    assert {"one.weight[0:4]", "one.weight[4:8]", "one.bias[0:4]", "two.weight"} <= set(group.names)


def attend(net: Network, x: Tensor, heads: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    count, tokens, _ = x.shape
    query, key, value = net.qkv(x).reshape(count, tokens, 3, heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
    return query, key, value


def merged(net: Network, values: Tensor) -> Tensor:
    return net.out(values.transpose(1, 2).flatten(2))


ATTENTION = {
    "fused": lambda net, x: merged(net, F.scaled_dot_product_attention(*attend(net, x))),
    "by hand": lambda net, x: merged(net, by_hand(*attend(net, x))),
    "with a mask": lambda net, x: merged(
        net, F.scaled_dot_product_attention(*attend(net, x), attn_mask=torch.ones(7, 7, dtype=torch.bool).tril())
    ),
    "einsum": lambda net, x: merged(net, by_einsum(*attend(net, x))),
    "bmm": lambda net, x: merged(net, by_bmm(*attend(net, x))),
}


def by_hand(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    return (query * 0.5 @ key.transpose(-2, -1)).softmax(-1) @ value


def by_einsum(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    weights = torch.einsum("bhnd,bhmd->bhnm", query, key).softmax(-1)
    return torch.einsum("bhnm,bhmd->bhnd", weights, value)


def by_bmm(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    flat = [each.flatten(0, 1) for each in (query, key, value)]
    zeros = torch.zeros(1, 1, 1, dtype=query.dtype)
    weights = torch.baddbmm(zeros, flat[0], flat[1].transpose(1, 2)).softmax(-1)
    return torch.bmm(weights, flat[2]).unflatten(0, query.shape[:2])


def test_attention_is_query_against_key_and_value_against_projection() -> None:
    """Of two heads of three channels: six scales of query against key, six of value against projection."""
    nets = {name: Network(forward, qkv=linear(5, 18), out=linear(6, 4)) for name, forward in ATTENTION.items()}
    group = check_each(nets, TOKENS, dict.fromkeys(nets, (2, 12)))
    row = dict(zip(group.names, group.basis, strict=True))
    for name in nets:
        assert row[f"{name}.qkv.weight[0:6]"] == pytest.approx(-row[f"{name}.qkv.weight[6:12]"], abs=1e-12)
        assert row[f"{name}.qkv.weight[12:18]"] == pytest.approx(-row[f"{name}.out.weight"], abs=1e-12)
        assert abs(row[f"{name}.qkv.weight[0:6]"]).max() > 0.1


def test_rotary_embedding_ties_the_channels_that_it_mixes() -> None:
    angles = torch.arange(7, dtype=torch.float64)[:, None] * torch.tensor([1.0, 0.1], dtype=torch.float64)
    cos, sin = angles.cos().repeat(1, 2), angles.sin().repeat(1, 2)

    def rotated(x: Tensor) -> Tensor:
        return x * cos + torch.cat((-x[..., 2:], x[..., :2]), -1) * sin

    def forward(net: Network, x: Tensor) -> Tensor:
        query, key, value = attend(net, x)
        return merged(net, F.scaled_dot_product_attention(rotated(query), rotated(key), value))

    check(Network(forward, qkv=linear(5, 24), out=linear(8, 4)), TOKENS, layer=2, unit=4 + 8)


def test_normalised_queries_pin() -> None:
    def forward(net: Network, x: Tensor) -> Tensor:
        query, key, value = attend(net, x)
        return merged(net, F.scaled_dot_product_attention(net.q(query), net.k(key), value))

    net = Network(forward, qkv=linear(5, 18), q=nn.LayerNorm(3), k=nn.LayerNorm(3), out=linear(6, 4))
    check(net, TOKENS, layer=2, unit=3 + 6)


def test_class_token_and_position_embedding() -> None:
    def forward(net: Network, x: Tensor) -> Tensor:
        tokens = torch.cat((net.token.expand(len(x), -1, -1), net.patch(x)), 1) + net.position
        return net.head(tokens.relu().mean(1))

    net = Network(
        forward,
        patch=linear(5, 6),
        token=torch.randn(1, 1, 6),
        position=torch.randn(1, 8, 6),
        head=linear(6, 3),
    )
    check(net, TOKENS, layer=1, unit=6)


def test_token_mixing() -> None:
    """A linear layer over tokens: its rows are free, whatever the channel."""
    net = Network(
        lambda net, x: net.head(net.back(net.mix(net.one(x).transpose(1, 2)).relu()).mean(2)),
        one=linear(5, 6),
        mix=linear(7, 4, bias=False),
        back=linear(4, 7, bias=False),
        head=linear(6, 3),
    )
    check(net, TOKENS, layer=3, unit=6 + 4 + 1)


def test_embedding_tables_have_one_scale_a_channel() -> None:
    class Words(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Embedding(11, 6)
            self.head = linear(6, 3)

        def forward(self, words: Tensor) -> Tensor:
            return self.head(self.table(words).mean(1).relu())

    torch.manual_seed(0)
    net, words = Words().double().eval(), torch.randint(11, (2, 7))
    for scope, dimension in (("layer", 1), ("unit", 6)):
        group = rescaling_group(net, words, scope=scope)
        assert (group.dimension, group.unknown_operators) == (dimension, ())
        assert changed(net, words, group) < 1e-12


def test_a_weight_used_twice_has_one_scale() -> None:
    """Shared by two layers of a chain: column against row, and once more."""
    net = Network(
        lambda net, x: net.head(net.same(net.same(net.one(x).relu()).relu()).relu()),
        one=linear(5, 4),
        same=linear(4, 4, bias=False),
        head=linear(4, 3),
    )
    check(net, VECTOR, layer=2, unit=5)


def test_a_table_that_is_also_the_head() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Embedding(11, 6)
            self.one = linear(6, 6)

        def forward(self, words: Tensor) -> Tensor:
            return F.linear(self.one(self.table(words).mean(1)).relu(), self.table.weight)

    torch.manual_seed(0)
    net, words = Tied().double().eval(), torch.randint(11, (2, 7))
    for scope, dimension in (("layer", 1), ("unit", 6)):
        group = rescaling_group(net, words, scope=scope)
        assert group.dimension == dimension
        assert changed(net, words, group) < 1e-12


def test_a_number_as_a_parameter() -> None:
    net = Network(
        lambda net, x: net.two(net.gain * net.one(x).relu()), one=linear(5, 6), gain=torch.tensor(0.7), two=linear(6, 3)
    )
    check(net, VECTOR, layer=2, unit=7)


def test_matrix_products_with_parameters() -> None:
    net = Network(
        lambda net, x: torch.addmm(net.bias, (x @ net.one).relu(), net.two),
        one=torch.randn(5, 6),
        two=torch.randn(6, 3),
        bias=torch.randn(3),
    )
    check(net, VECTOR, layer=1, unit=6)


def test_einsum_with_a_parameter() -> None:
    net = Network(
        lambda net, x: torch.einsum("tbi,oi->bo", torch.einsum("bti,io->tbo", x, net.one).relu(), net.two),
        one=torch.randn(5, 6),
        two=torch.randn(3, 6),
    )
    check(net, TOKENS, layer=1, unit=6)


def test_a_buffer_and_a_frozen_parameter_keep_their_scale() -> None:
    net = chain(nn.Identity())
    net.two.weight.requires_grad_(False)
    check(net, VECTOR, layer=0, unit=0)
    net = chain(nn.Identity())
    net.register_buffer("shift", torch.randn(6, dtype=torch.float64))
    net.run = lambda net, x: net.two((net.one(x) + net.shift).relu())
    check(net, VECTOR, layer=0, unit=0)


def test_an_unknown_operator_pins_what_is_at_it_and_is_named() -> None:
    net = smooth(torch.asinh)
    group = rescaling_group(net.double().eval(), torch.randn(VECTOR, dtype=torch.float64))
    assert group.unknown_operators == ("aten.asinh.default",)
    assert group.dimension == 1
    constant = chain(lambda x: x * torch.asinh(torch.ones(6, dtype=torch.float64)))
    assert rescaling_group(constant.double(), torch.randn(VECTOR, dtype=torch.float64)).unknown_operators == ()


class Together(nn.Module):
    """Networks side by side, on the same inputs; the outputs of an example are one row."""

    def __init__(self, nets: Mapping[str, Network]) -> None:
        super().__init__()
        self.nets = nets
        for name, net in nets.items():
            self.add_module(name, net)

    def forward(self, inputs: Tensor) -> Tensor:
        return torch.cat([net(inputs).reshape(len(inputs), -1) for net in self.nets.values()], 1)


def check_each(
    nets: Mapping[str, Network], shape: tuple[int, ...], wanted: Mapping[str, tuple[int, int]]
) -> RescalingGroup:
    """Each network's groups of layers and of units have the dimensions that `wanted` says; all else as in `check`."""

    def each_dimension(layer: RescalingGroup, unit: RescalingGroup) -> None:
        found = {name: (own_dimension(layer, name), own_dimension(unit, name)) for name in nets}
        assert found == wanted
        assert [layer.dimension, unit.dimension] == np.sum(list(wanted.values()), axis=0).tolist()

    return check_groups(Together(nets), shape, each_dimension)


def own_dimension(group: RescalingGroup, name: str) -> int:
    """The dimension of what the group does to the network of that name."""
    rows = [array.ravel() for key, arrays in group.basis_rows.items() if key.startswith(f"{name}.") for array in arrays]
    basis = group.basis[np.unique(np.concatenate(rows))]
    dense = basis if isinstance(basis, np.ndarray) else basis.toarray()
    return int(np.linalg.matrix_rank(dense, tol=1e-9)) if dense.size else 0


def check(net: Network, shape: tuple[int, ...], *, layer: int, unit: int, tolerance: float = 1e-11) -> RescalingGroup:
    """Both groups have these dimensions, know every operator, and leave the function; returns that of layers."""

    def dimensions(layers: RescalingGroup, units: RescalingGroup) -> None:
        assert [layers.dimension, units.dimension] == [layer, unit]

    return check_groups(net, shape, dimensions, tolerance)


def check_groups(
    net: nn.Module,
    shape: tuple[int, ...],
    check_dimensions: Callable[[RescalingGroup, RescalingGroup], None],
    tolerance: float = 1e-11,
) -> RescalingGroup:
    """Both groups have the right dimensions, know every operator and leave the function; returns that of layers."""
    torch.manual_seed(0)
    net = net.double().eval()
    inputs = torch.randn(shape, dtype=torch.float64)
    layers, units = (rescaling_group(net, inputs, scope=scope) for scope in ("layer", "unit"))
    check_dimensions(layers, units)
    for group in (layers, units):
        assert group.unknown_operators == ()
        assert changed(net, inputs, group) < tolerance
    return layers


def changed(net: nn.Module, inputs: Tensor, group: RescalingGroup) -> float:
    params = {name: value.detach() for name, value in net.named_parameters()}

    def function(values: dict[str, Tensor]) -> Tensor:
        return torch.func.functional_call(net, values, (inputs,))

    return group.verify(function, params, generator=torch.Generator().manual_seed(1), elements=3)
