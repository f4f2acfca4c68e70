"""Tiny networks and losses on which torch's rules for derivatives, or a library's assumptions, are known to fail.

Operators without a forward or second derivative, weights that are shared, frozen, derived or read twice, derivatives
inside the network, and the layers and losses of other libraries' own test suites, each written anew.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, prune
from torch.utils.checkpoint import checkpoint

from benchmarks.layers import Net
from sharpbench import Subject

EXAMPLES, WIDTH, OUTPUTS = 5, 4, 3
Losses = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Kind:
    """A kind of network.

    build: makes it. shape: of one input. integers: inputs are indices below WIDTH. losses: of logits [B, C] and class
    indices; None for cross entropy. surrogate: its gradient is not that of the loss, by design: the definition is then
    two backward passes. constant: the name of a parameter and its row that is not trained. twin: makes a network of
    the same function and parameters, whose gradients are torch's own, where those of `build` cannot be had so.
    """

    build: Callable[[], nn.Module]
    shape: tuple[int, ...] = (WIDTH,)
    integers: bool = False
    losses: Losses | None = None
    surrogate: bool = False
    constant: tuple[str, int] | None = None
    twin: Callable[[], nn.Module] | None = None


class CubeOldStyle(torch.autograd.Function):
    """x^3 without rules for forward derivatives and vmap."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return 3 * x**2 * slopes[0]


class CubeNewStyle(torch.autograd.Function):
    """x^3 with a generated rule for vmap, and none for forward derivatives."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x**3

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return 3 * x**2 * slopes[0]


def between(function: Callable[[Tensor], Tensor], width: int = 5) -> Callable[[], nn.Module]:
    """A function between two linear layers."""
    return lambda: Net(
        lambda net, x: net.head(function(net.one(x))), one=nn.Linear(WIDTH, width), head=nn.Linear(width, OUTPUTS)
    )


def layers(*between: Callable[[], nn.Module], width: int) -> Callable[[], nn.Module]:
    """Layers, flattened, and a linear head."""
    return lambda: nn.Sequential(*(make() for make in between), nn.Tanh(), nn.Flatten(), nn.Linear(width, OUTPUTS))


def mlp(middle: Callable[[], nn.Module], losses: Losses | None = None) -> Kind:
    return Kind(
        lambda: nn.Sequential(nn.Linear(WIDTH, 5), middle(), nn.Linear(5, OUTPUTS)), losses=losses, shape=(WIDTH,)
    )


def with_loss(losses: Losses) -> Kind:
    return mlp(nn.Tanh, losses)


def hot(logits: Tensor, targets: Tensor) -> Tensor:
    return F.one_hot(targets, OUTPUTS).to(logits)


def embedded(
    make: Callable[[], nn.Module], width: int = 3, *, twin: Callable[[], nn.Module] | None = None, **options: Any
) -> Kind:
    """Something that takes four indices, then tanh and a linear head."""

    def around(part: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
        return lambda: Net(
            lambda net, x: net.head(net.e(x).tanh().flatten(1)), e=part(), head=nn.Linear(width, OUTPUTS)
        )

    return Kind(around(make), (4,), integers=True, twin=around(twin) if twin else None, **options)


def recurrent(kind: type[nn.RNNBase], *, packed: bool) -> Kind:
    def run(net: Any, x: Tensor) -> Tensor:
        steps = x.reshape(len(x), 2, 2)
        if packed:
            lengths = torch.full((len(x),), 2)
            steps = nn.utils.rnn.pack_padded_sequence(steps, lengths, batch_first=True)
        state = net.cells(steps)[1]
        return net.head((state[0] if isinstance(state, tuple) else state)[-1])

    return Kind(lambda: Net(run, cells=kind(2, 3, batch_first=True), head=nn.Linear(3, OUTPUTS)))


def through_grad(net: Any, x: Tensor) -> Tensor:
    point = x.detach().requires_grad_()
    (slope,) = torch.autograd.grad(net.one(point).tanh().sum(), point, create_graph=True)
    return net.head(slope)


def through_func(net: Any, x: Tensor) -> Tensor:
    return net.head(torch.func.vmap(torch.func.grad(lambda each: net.one(each).tanh().sum()))(x))


def physics(net: Any, x: Tensor) -> Tensor:
    """Values of a field, its first derivative along the first input, and what is left of an equation."""

    def field(each: Tensor) -> Tensor:
        value: Tensor = net.head(net.one(each).tanh())[0]
        return value

    slopes = torch.func.vmap(torch.func.grad(field))(x)
    bends = torch.func.vmap(lambda each: torch.func.jvp(torch.func.grad(field), (each,), (each * 0 + 1,))[1])(x)
    return torch.stack((torch.func.vmap(field)(x), slopes[:, 0], bends[:, 0] + slopes[:, 1]), 1)


def low_rank(net: Any, x: Tensor) -> Tensor:
    adapted = net.base(x) + 2.0 * (x @ net.down.t() @ net.up.t())
    return net.head(adapted.tanh())


def lora() -> nn.Module:
    net = Net(
        low_rank,
        base=nn.Linear(WIDTH, 5),
        down=nn.Parameter(torch.randn(2, WIDTH)),
        up=nn.Parameter(0.3 * torch.randn(5, 2)),
        head=nn.Linear(5, OUTPUTS),
    )
    net.base.requires_grad_(False)
    return net


def shared() -> nn.Module:
    block = nn.Linear(WIDTH, WIDTH)
    return nn.Sequential(block, nn.Tanh(), block, nn.Tanh(), nn.Linear(WIDTH, OUTPUTS))


def siamese() -> nn.Module:
    branch = nn.Linear(2, 3)
    return Net(
        lambda net, x: net.head((net.a(x[:, :2]) * net.b(x[:, 2:])).tanh()),
        a=branch,
        b=branch,
        head=nn.Linear(3, OUTPUTS),
    )


def pruned() -> nn.Module:
    net = nn.Sequential(nn.Linear(WIDTH, 5), nn.Tanh(), nn.Linear(5, OUTPUTS))
    prune.custom_from_mask(net[0], "weight", torch.arange(20).reshape(5, 4) % 3 > 0)
    return net


def reparametrised(wrap: Callable[..., nn.Module], **options: Any) -> Kind:
    return Kind(
        lambda: nn.Sequential(wrap(nn.Linear(WIDTH, WIDTH), **options), nn.Tanh(), nn.Linear(WIDTH, OUTPUTS)).eval()
    )


def grid(hidden: Tensor) -> Tensor:
    image = torch.linspace(-1, 1, 16, dtype=hidden.dtype).reshape(1, 1, 4, 4).square().expand(len(hidden), 1, 4, 4)
    places = torch.stack((hidden.tanh(), hidden.roll(1, 1).tanh()), -1)[:, :, None]
    return F.grid_sample(image, places, align_corners=True).flatten(1)


def attended(net: Any, x: Tensor) -> Tensor:
    """A block of a small language model: causal attention, and a perceptron, with norms before them."""
    tokens = net.embed(x) + net.places
    normed = net.norm(tokens)
    q, k, v = net.qkv(normed).chunk(3, -1)
    tokens = tokens + F.scaled_dot_product_attention(q, k, v, is_causal=True)
    return net.head(F.gelu(net.up(net.last(tokens))).mean(1))


def language_model() -> nn.Module:
    parts: dict[str, Any] = {"embed": nn.Embedding(WIDTH, 4), "places": nn.Parameter(0.1 * torch.randn(3, 4))}
    parts |= {"norm": nn.LayerNorm(4), "qkv": nn.Linear(4, 12), "last": nn.RMSNorm(4), "up": nn.Linear(4, 5)}
    return Net(attended, **parts, head=nn.Linear(5, OUTPUTS))


def quantised(hidden: Tensor) -> Tensor:
    return torch.fake_quantize_per_tensor_affine(hidden, 0.1, 0, -8, 7)


def focal(logits: Tensor, targets: Tensor) -> Tensor:
    chosen = logits.softmax(1).gather(1, targets[:, None])[:, 0]
    return (1 - chosen) ** 2 * F.cross_entropy(logits, targets, reduction="none")


ISSUE: dict[str, Kind] = {
    "embedding with padding": embedded(lambda: nn.Embedding(WIDTH, 3, padding_idx=1), 12, constant=("e.weight", 1)),
    "embedding, scaled by frequency": embedded(
        lambda: nn.Embedding(WIDTH, 3, scale_grad_by_freq=True), 12, twin=lambda: nn.Embedding(WIDTH, 3)
    ),
    "sparse embedding": embedded(lambda: nn.Embedding(WIDTH, 3, sparse=True), 12, twin=lambda: nn.Embedding(WIDTH, 3)),
    "embedding bag, sum": embedded(lambda: nn.EmbeddingBag(WIDTH, 3, mode="sum")),
    "embedding bag, mean": embedded(lambda: nn.EmbeddingBag(WIDTH, 3)),
    "distances": Kind(
        lambda: Net(
            lambda net, x: net.head((-torch.cdist(x, net.centres).square()).exp()),
            centres=nn.Parameter(torch.randn(5, WIDTH)),
            head=nn.Linear(5, OUTPUTS),
        )
    ),
    "distances of order 3": Kind(
        lambda: Net(
            lambda net, x: net.head((-torch.cdist(x, net.centres, p=3.0)).exp()),
            centres=nn.Parameter(torch.randn(5, WIDTH)),
            head=nn.Linear(5, OUTPUTS),
        )
    ),
    "logcumsumexp": Kind(between(lambda x: torch.logcumsumexp(x * torch.tensor([1, 1, 80, 1, 1]).to(x), 1) / 10)),
    "hardsigmoid": Kind(between(F.hardsigmoid)),
    "grid sample": Kind(between(grid)),
    "packed LSTM": recurrent(nn.LSTM, packed=True),
    "GRU": recurrent(nn.GRU, packed=False),
    "checkpoint": Kind(between(lambda x: checkpoint(torch.tanh, x, use_reentrant=False))),
    "reentrant checkpoint": Kind(
        between(lambda x: checkpoint(torch.tanh, x, use_reentrant=True)), twin=between(torch.tanh)
    ),
    "Function of the old style": Kind(between(CubeOldStyle.apply)),
    "Function of the new style": Kind(between(CubeNewStyle.apply)),
    "autograd.grad inside": Kind(lambda: Net(through_grad, one=nn.Linear(WIDTH, 5), head=nn.Linear(WIDTH, OUTPUTS))),
    "torch.func inside": Kind(lambda: Net(through_func, one=nn.Linear(WIDTH, 5), head=nn.Linear(WIDTH, OUTPUTS))),
    "physics": Kind(lambda: Net(physics, one=nn.Linear(WIDTH, 5), head=nn.Linear(5, 1))),
    "fake quantisation": Kind(between(quantised), surrogate=True),
    "one module twice": Kind(shared),
    "siamese": Kind(siamese),
    "low-rank adapters": Kind(lora),
    "complex inside": Kind(between(lambda x: torch.fft.fft(x).abs().square() / 5)),
    "weight read twice": Kind(
        lambda: Net(
            lambda net, x: net.head(x) + F.linear(net.w, net.w).flatten()[:OUTPUTS],
            w=nn.Parameter(torch.randn(2, 2)),
            head=nn.Linear(WIDTH, OUTPUTS),
        )
    ),
    "weight norm": reparametrised(parametrizations.weight_norm),
    "spectral norm": reparametrised(parametrizations.spectral_norm),
    "Huber loss": with_loss(lambda z, y: F.huber_loss(z, hot(z, y), reduction="none", delta=0.3).sum(1)),
    "margin loss": with_loss(lambda z, y: F.multi_margin_loss(z, y, reduction="none", p=2)),
}
"""Kinds on which our own numbers were once wrong, or raised."""

OTHERS: dict[str, Kind] = {
    "embedding bag, maximum": embedded(lambda: nn.EmbeddingBag(WIDTH, 3, mode="max")),
    "distances of order 1": Kind(
        lambda: Net(
            lambda net, x: net.head((-torch.cdist(x, net.centres, p=1.0)).exp()),
            centres=nn.Parameter(torch.randn(5, WIDTH)),
            head=nn.Linear(5, OUTPUTS),
        )
    ),
    "packed GRU": recurrent(nn.GRU, packed=True),
    "LSTM": recurrent(nn.LSTM, packed=False),
    "RNN": recurrent(nn.RNN, packed=False),
    "sinc": Kind(between(torch.sinc)),
    "determinant": Kind(
        lambda: Net(
            lambda net, x: net.head(x) * torch.linalg.det(net.w),
            w=nn.Parameter(torch.eye(3) + 0.1 * torch.randn(3, 3)),
            head=nn.Linear(WIDTH, OUTPUTS),
        )
    ),
    "cumulated product": Kind(between(lambda x: x.tanh().cumprod(1))),
    "sorting": Kind(between(lambda x: x.sort(1).values.tanh())),
    "masked by its mean": Kind(between(lambda x: x.tanh() * (x > x.mean(1, keepdim=True)))),
    "cosine similarity": Kind(
        lambda: Net(
            lambda net, x: 5 * F.cosine_similarity(net.one(x)[:, None], net.prototypes[None], dim=-1),
            one=nn.Linear(WIDTH, 5),
            prototypes=nn.Parameter(torch.randn(OUTPUTS, 5)),
        )
    ),
    "weight standardisation": Kind(
        lambda: Net(
            lambda net, x: net.head(
                F.linear(x, (net.w - net.w.mean(1, keepdim=True)) / net.w.std(1, keepdim=True)).tanh()
            ),
            w=nn.Parameter(torch.randn(5, WIDTH)),
            head=nn.Linear(5, OUTPUTS),
        )
    ),
    "pruned": Kind(pruned),
    "orthogonal": reparametrised(parametrizations.orthogonal, orthogonal_map="cayley"),
    "bilinear": Kind(
        lambda: Net(
            lambda net, x: net.b(x[:, :2], x[:, 2:]).tanh() @ net.w,
            b=nn.Bilinear(2, 2, 4),
            w=nn.Parameter(torch.randn(4, OUTPUTS)),
        )
    ),
    "language model": Kind(language_model, (3,), integers=True),
    "ELU": mlp(nn.ELU),
    "SELU": mlp(nn.SELU),
    "CELU": mlp(nn.CELU),
    "log sigmoid": mlp(nn.LogSigmoid),
    "softplus": mlp(nn.Softplus),
    "softsign": mlp(nn.Softsign),
    "Mish": mlp(nn.Mish),
    "hardswish": mlp(nn.Hardswish),
    "hardshrink": mlp(nn.Hardshrink),
    "PReLU": mlp(nn.PReLU),
    "GLU": Kind(lambda: nn.Sequential(nn.Linear(WIDTH, 6), nn.GLU(), nn.Linear(3, OUTPUTS))),
    "batch norm, 1d": Kind(
        lambda: nn.Sequential(nn.Linear(WIDTH, 5), nn.BatchNorm1d(5), nn.Tanh(), nn.Linear(5, OUTPUTS))
    ),
    "layer norm": mlp(lambda: nn.LayerNorm(5)),
    "group norm": Kind(layers(lambda: nn.Conv1d(1, 4, 2), lambda: nn.GroupNorm(2, 4), width=12), (1, 4)),
    "instance norm": Kind(
        layers(lambda: nn.Conv1d(1, 3, 2), lambda: nn.InstanceNorm1d(3, affine=True), width=9), (1, 4)
    ),
    "local response norm": Kind(layers(lambda: nn.Conv1d(1, 3, 2), lambda: nn.LocalResponseNorm(2), width=9), (1, 4)),
    "convolution, 1d": Kind(layers(lambda: nn.Conv1d(2, 3, 2, stride=2, padding=1, dilation=2), width=6), (2, 4)),
    "convolution, 3d": Kind(layers(lambda: nn.Conv3d(1, 2, 2, groups=1), width=2), (1, 2, 2, 2)),
    "transposed convolution": Kind(
        layers(lambda: nn.ConvTranspose2d(2, 4, 2, stride=2, groups=2, output_padding=1), width=100), (2, 2, 2)
    ),
    "maximum and average pooling": Kind(
        layers(lambda: nn.Conv2d(1, 2, 2), lambda: nn.MaxPool2d(2, 1), lambda: nn.AvgPool2d(2, 1), width=8), (1, 5, 5)
    ),
    "adaptive pooling": Kind(layers(lambda: nn.Conv2d(1, 2, 2), lambda: nn.AdaptiveAvgPool2d(2), width=8), (1, 4, 4)),
    "padding and upsampling": Kind(
        layers(lambda: nn.ZeroPad2d(1), lambda: nn.Conv2d(1, 2, 3), lambda: nn.Upsample(scale_factor=2), width=72),
        (1, 3, 3),
    ),
    "pixel shuffle": Kind(layers(lambda: nn.Conv2d(1, 4, 2), lambda: nn.PixelShuffle(2), width=16), (1, 3, 3)),
    "permuted": Kind(lambda: nn.Sequential(nn.Linear(2, 3), nn.Flatten(), nn.Tanh(), nn.Linear(6, OUTPUTS)), (2, 2)),
    "bare scale and shift": Kind(
        lambda: Net(
            lambda net, x: net.head((net.one(x) * net.scale + net.shift).sigmoid()),
            one=nn.Linear(WIDTH, 5, bias=False),
            scale=nn.Parameter(torch.rand(5) + 0.5),
            shift=nn.Parameter(torch.randn(5)),
            head=nn.Linear(5, OUTPUTS),
        )
    ),
    "tied in transposition": Kind(
        lambda: Net(
            lambda net, x: net.head((x @ net.w).tanh() @ net.w.t()),
            w=nn.Parameter(torch.randn(WIDTH, 5)),
            head=nn.Linear(WIDTH, OUTPUTS),
        )
    ),
    "skip connections": Kind(
        lambda: Net(
            lambda net, x: net.head(x + net.two((x + net.one(x).tanh()).relu())),
            one=nn.Linear(WIDTH, WIDTH),
            two=nn.Linear(WIDTH, WIDTH),
            head=nn.Linear(WIDTH, OUTPUTS),
        )
    ),
    "label smoothing": with_loss(lambda z, y: F.cross_entropy(z, y, reduction="none", label_smoothing=0.1)),
    "temperature": with_loss(lambda z, y: F.cross_entropy(z / 0.5, y, reduction="none")),
    "binary cross entropy": with_loss(
        lambda z, y: F.binary_cross_entropy_with_logits(z, hot(z, y), reduction="none").mean(1)
    ),
    "Brier score": with_loss(lambda z, y: (z.softmax(1) - hot(z, y)).square().sum(1)),
    "focal loss": with_loss(focal),
    "Poisson loss": with_loss(lambda z, y: F.poisson_nll_loss(z, hot(z, y), reduction="none").sum(1)),
    "divergence": with_loss(lambda z, y: F.kl_div(z.log_softmax(1), hot(z, y) * 0.7 + 0.1, reduction="none").sum(1)),
    "absolute error": with_loss(lambda z, y: F.l1_loss(z, hot(z, y), reduction="none").sum(1)),
    "smooth absolute error": with_loss(lambda z, y: F.smooth_l1_loss(z, hot(z, y), reduction="none").sum(1)),
    "squared error": with_loss(lambda z, y: F.mse_loss(z, hot(z, y), reduction="none").mean(1)),
    "soft margin loss": with_loss(lambda z, y: F.soft_margin_loss(z, 2 * hot(z, y) - 1, reduction="none").sum(1)),
    "concave loss": with_loss(lambda z, y: -z.square().sum(1) + z.gather(1, y[:, None])[:, 0]),
}
"""Layers, losses and reductions as other libraries' test suites hold them."""

KINDS = {**ISSUE, **OTHERS}


def kind_module(kind: Kind) -> nn.Module:
    """The network of a kind, in eval mode, float64, the same each time."""
    return _build(kind.build)


def twin_module(kind: Kind) -> nn.Module:
    """The network by which the kind's values are defined."""
    return _build(kind.twin or kind.build)


def _build(build: Callable[[], nn.Module]) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build().double().eval()


def kind_subject(kind: Kind, dtype: torch.dtype, *, name: str | None = None) -> Subject:
    """The kind's network on EXAMPLES examples."""
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(EXAMPLES, *kind.shape, generator=generator, dtype=torch.float64)
    if kind.integers:
        inputs = torch.randint(0, WIDTH, (EXAMPLES, *kind.shape), generator=generator)
    else:
        inputs = inputs.to(dtype)
    targets = torch.arange(EXAMPLES) % OUTPUTS
    loss = kind.losses or "cross_entropy"
    return Subject.from_module(kind_module(kind).to(dtype), inputs, targets, loss=loss, name=name)
