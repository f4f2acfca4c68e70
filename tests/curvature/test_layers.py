"""Every kind of layer against dense matrices in float64: traces, diagonals, and the certificate."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from sharpbench.core.subject import Subject
from sharpbench.curvature import certificate, chunking, dense_ggn, dense_hessian, exact_diagonal, exact_traces
from sharpbench.curvature.reference import parameter_blocks
from sharpbench.curvature.vjp import layerwise_network

C = 3
pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same':UserWarning")


class Custom(nn.Linear):
    pass


class Functional(nn.Module):
    """Bare parameters, layer scale, an unused parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.matrix = nn.Parameter(torch.randn(4, 5))
        self.scale = nn.Parameter(torch.rand(4) + 0.5)
        self.unused = nn.Parameter(torch.ones(2))
        self.head = nn.Linear(4, C)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(F.linear(x, self.matrix)) * self.scale)


class Twice(nn.Module):
    """One module applied twice in a row, and once next to itself."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.head = nn.Linear(4, C)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.layer(F.relu(self.layer(x)))))


class Parallel(nn.Module):
    """One module applied to two parts of the input: it never meets itself."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.head = nn.Linear(4, C)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.layer(x[:, :4])) + F.relu(self.layer(x[:, 4:])))


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(C, 4)
        self.middle = nn.Linear(4, 4)
        self.head = nn.Linear(4, C, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.middle(self.embedding(x).mean(1))))


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, 4, 3, padding=1)
        self.second = nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.norm.running_mean = torch.randn(4)  # type: ignore[assignment]
        self.norm.running_var = torch.rand(4) + 0.5  # type: ignore[assignment]
        self.head = nn.Linear(8, C)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu_(self.first(x))
        y = x + F.relu(self.norm(self.second(x)))
        return self.head(torch.cat((F.avg_pool2d(y, 4).flatten(1), y.amax((2, 3))), 1))


class Windows(nn.Module):
    """Windows folded into the batch: the leading dimension is not the example."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 4)
        self.conv = nn.Conv2d(1, 2, 2)
        self.head = nn.Linear(4 + 2, C)

    def forward(self, x: Tensor) -> Tensor:  # [B, 4, 3]
        B = len(x)
        folded = F.relu(self.layer(x.reshape(B * 4, 3))).reshape(B, 4, 4).mean(1)
        image = F.relu(self.conv(x.reshape(B * 2, 1, 2, 3))).reshape(B, 2, -1, 2).mean((1, 2))
        return self.head(torch.cat((folded, image), 1))


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(4, 12)
        self.norm = nn.LayerNorm(4)
        self.head = nn.Linear(4, C)

    def forward(self, x: Tensor) -> Tensor:  # [B, T, 4]
        q, k, v = self.qkv(self.norm(x)).reshape(*x.shape[:2], 3, 2, 2).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return self.head((x + y).mean(1))


class Frozen(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(5, 4).requires_grad_(False)
        self.head = nn.Linear(4, C)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.first(x)))


class Gated(nn.Module):
    """A product of two branches: affine in each one's own parameters, not in those before both."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(4, 4)
        self.left = nn.Linear(4, 4)
        self.right = nn.Linear(4, 4)
        self.head = nn.Linear(4, C)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        return self.head(self.left(x) * F.relu(self.right(x)))


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.RNN(3, 4, batch_first=True)
        self.head = nn.Linear(4, C)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(x)[0][:, -1])


@dataclass(frozen=True)
class Case:
    """build() -> network; shape of one input; prefixes of the parameters that must not, and all others that must
    be certified; integers: whether inputs are indices."""

    build: Callable[[], nn.Module]
    shape: tuple[int, ...]
    uncertified: tuple[str, ...] = ()
    integers: bool = False


def image(*layers: nn.Module, width: int) -> Callable[[], nn.Module]:
    return lambda: nn.Sequential(*layers, nn.ReLU(), nn.Flatten(), nn.Linear(width, C))


def dense(*between: nn.Module) -> Callable[[], nn.Module]:
    return lambda: nn.Sequential(nn.Linear(5, 4), *between, nn.Linear(4, C))


CASES = {
    "linear": Case(dense(nn.ReLU()), (5,)),
    "no-bias": Case(lambda: nn.Sequential(nn.Linear(5, 4, bias=False), nn.ReLU(), nn.Linear(4, C, bias=False)), (5,)),
    "leaky": Case(dense(nn.LeakyReLU(0.1), nn.Hardtanh(-1, 1)), (5,)),
    "inplace": Case(dense(nn.ReLU(inplace=True)), (5,)),
    "prelu": Case(dense(nn.PReLU(4)), (5,)),
    "subclass": Case(lambda: nn.Sequential(Custom(5, 4), nn.ReLU(), Custom(4, C)), (5,)),
    "functional": Case(Functional, (5,)),
    "conv1d": Case(image(nn.Conv1d(2, 4, 3, stride=2, padding=1), width=16), (2, 7)),
    "conv1d-groups": Case(image(nn.Conv1d(2, 4, 2, groups=2, dilation=2), width=20), (2, 7)),
    "conv2d": Case(image(nn.Conv2d(2, 4, 3), width=16), (2, 4, 4)),
    "conv2d-stride": Case(image(nn.Conv2d(2, 4, (3, 2), stride=(2, 1), padding=(1, 2)), width=56), (2, 4, 4)),
    "conv2d-dilation": Case(image(nn.Conv2d(2, 4, 2, dilation=(1, 2)), width=24), (2, 4, 4)),
    "conv2d-groups": Case(image(nn.Conv2d(4, 6, 2, groups=2), width=24), (4, 3, 3)),
    "depthwise": Case(image(nn.Conv2d(4, 4, 2, groups=4, bias=False), width=16), (4, 3, 3)),
    "pointwise": Case(image(nn.Conv2d(4, 3, 1), width=27), (4, 3, 3)),
    "same": Case(image(nn.Conv2d(2, 3, (2, 3), padding="same"), width=27), (2, 3, 3)),
    "same-dilated": Case(image(nn.Conv1d(2, 3, 4, padding="same", dilation=2), width=24), (2, 8)),
    "valid": Case(image(nn.Conv2d(2, 3, 2, padding="valid"), width=12), (2, 3, 3)),
    "circular": Case(image(nn.Conv2d(2, 3, 3, padding=1, padding_mode="circular"), width=27), (2, 3, 3)),
    "reflect": Case(image(nn.Conv2d(2, 3, 3, padding=1, padding_mode="reflect"), width=27), (2, 3, 3)),
    "replicate": Case(image(nn.Conv1d(2, 3, 3, padding=1, padding_mode="replicate"), width=15), (2, 5)),
    "conv3d": Case(image(nn.Conv3d(1, 2, 2, stride=(1, 2, 1)), width=8), (1, 3, 3, 3)),
    "transposed1d": Case(image(nn.ConvTranspose1d(2, 3, 2, stride=2), width=24), (2, 4)),
    "transposed2d": Case(image(nn.ConvTranspose2d(2, 4, 2, groups=2, padding=1), width=16), (2, 3, 3)),
    "transposed3d": Case(image(nn.ConvTranspose3d(1, 2, 2), width=54), (1, 2, 2, 2)),
    "conv3d-all": Case(
        image(nn.Conv3d(4, 2, (2, 1, 2), (1, 2, 1), (1, 0, 1), (2, 1, 1), groups=2), width=60), (4, 3, 3, 4)
    ),
    "transposed1d-all": Case(image(nn.ConvTranspose1d(4, 6, 3, 3, 1, 2, groups=2, dilation=2), width=84), (4, 4)),
    "transposed2d-all": Case(
        image(nn.ConvTranspose2d(2, 3, (3, 2), (2, 1), (1, 0), (1, 0), bias=False, dilation=(1, 3)), width=108),
        (2, 3, 3),
    ),
    "transposed3d-all": Case(image(nn.ConvTranspose3d(2, 4, 2, 2, 1, 1, groups=2), width=108), (2, 2, 2, 2)),
    "transposed-gram": Case(image(nn.ConvTranspose1d(30, 9, 8), width=90), (30, 3)),
    "batchnorm": Case(image(nn.Conv2d(2, 3, 2), nn.BatchNorm2d(3), width=12), (2, 3, 3)),
    "pools": Case(image(nn.Conv2d(1, 3, 2), nn.MaxPool2d(2, 1), nn.AvgPool2d(2, 1), width=12), (1, 5, 5)),
    "sequence": Case(lambda: nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Flatten(), nn.Linear(16, C)), (4, 3)),
    "images-linear": Case(lambda: nn.Sequential(nn.Linear(3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(12, C)), (2, 3, 3)),
    "residual": Case(Residual, (2, 4, 4)),
    "windows": Case(Windows, (4, 3)),
    "parallel": Case(Parallel, (8,)),
    "frozen": Case(Frozen, (5,)),
    "dropout": Case(dense(nn.Dropout(0.5), nn.ReLU()), (5,)),
    "embedding": Case(lambda: nn.Sequential(nn.Embedding(7, 3), nn.Flatten(), nn.Linear(12, C)), (4,), integers=True),
    "twice": Case(Twice, (4,), ("layer.weight",)),
    "tied": Case(Tied, (2,), ("embedding.weight",), integers=True),
    "layernorm": Case(dense(nn.LayerNorm(4), nn.ReLU()), (5,), ("0.",)),
    "groupnorm": Case(image(nn.Conv2d(2, 4, 2), nn.GroupNorm(2, 4), width=16), (2, 3, 3), ("0.",)),
    "instancenorm": Case(image(nn.Conv2d(2, 4, 2), nn.InstanceNorm2d(4, affine=True), width=16), (2, 3, 3), ("0.",)),
    "rmsnorm": Case(dense(nn.RMSNorm(4)), (5,), ("0.",)),
    "gelu": Case(dense(nn.GELU()), (5,), ("0.",)),
    "silu": Case(dense(nn.SiLU()), (5,), ("0.",)),
    "hardswish": Case(dense(nn.Hardswish()), (5,), ("0.",)),
    "softmax": Case(dense(nn.Softmax(1)), (5,), ("0.",)),
    "weightnorm": Case(
        lambda: nn.Sequential(parametrizations.weight_norm(nn.Linear(5, 4)), nn.ReLU(), nn.Linear(4, C)),
        (5,),
        ("0.parametrizations.weight.original1",),
    ),
    "attention": Case(Attention, (3, 4), ("qkv.", "norm.")),
    "multihead": Case(
        lambda: nn.TransformerEncoderLayer(C, 1, 4, dropout=0.0, batch_first=True),
        (3,),
        ("self_attn.", "linear1.", "linear2.", "norm1."),
    ),
    "gated": Case(Gated, (4,), ("stem.",)),
    "recurrent": Case(Recurrent, (3, 3), ("layer.", "head.")),
}


class Last(nn.Module):
    """The logits of a sequence network at a single position."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(torch.stack((x, -x), 1))[:, 0]


def subject_of(case: Case, criterion: object = "cross_entropy", dtype: torch.dtype = torch.float64) -> Subject:
    torch.manual_seed(0)
    model = case.build()
    if isinstance(model, nn.TransformerEncoderLayer):
        model = Last(model)
    model = model.to(dtype)
    x = torch.randint(0, C, (5, *case.shape)) if case.integers else torch.randn(5, *case.shape, dtype=dtype)
    y = torch.randn(5, C, dtype=dtype) if criterion == "mse" else torch.randint(0, C, (5,))
    return Subject.from_module(model, x, y, batch_size=2, loss=criterion)  # type: ignore[arg-type]


def uncertified(case: Case, name: str) -> bool:
    return name.removeprefix("inner.").startswith(case.uncertified) if case.uncertified else False


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of two examples, so that the last one is ragged."""
    monkeypatch.setattr(chunking, "choose_chunk", lambda network, columns: chunking.ChunkSize(2, columns, 0))


@cache
def built(name: str) -> Subject:
    """A case's subject, captured once; nothing changes it."""
    return subject_of(CASES[name])


@pytest.mark.parametrize("name", CASES, scope="module")  # the tests of a case one after another
def test_exact(name: str) -> None:
    subject = built(name)
    dense = subject.once(dense_ggn).diagonal()
    diagonal, traces = exact_diagonal(subject), exact_traces(subject)
    rounding = 1e-14 * float(dense.max())
    for parameter, where in parameter_blocks(subject).items():
        torch.testing.assert_close(diagonal[parameter].flatten(), dense[where], rtol=1e-12, atol=rounding)
        assert diagonal[parameter].shape == subject.params[parameter].shape
        assert float(diagonal[parameter].min()) >= 0
        assert traces[parameter] == pytest.approx(float(dense[where].sum()), rel=1e-12, abs=rounding)
    if name.startswith(("conv", "transposed", "linear", "same")):  # no weight gradient is formed
        assert layerwise_network(subject).loose == ()


@pytest.mark.parametrize("name", CASES, scope="module")
def test_certificate(name: str) -> None:
    case = CASES[name]
    subject = built(name)
    proof = certificate(subject)
    hessian, ggn = dense_hessian(subject), subject.once(dense_ggn)
    for parameter, where in parameter_blocks(subject).items():
        equal = torch.allclose(hessian[where, where], ggn[where, where], rtol=1e-10, atol=1e-13)
        if not proof[parameter]:
            assert equal, parameter  # sound
        assert bool(proof[parameter]) == uncertified(case, parameter), (parameter, proof[parameter])
    assert list(proof) == list(subject.params)


def test_the_certificate_is_read_off_a_graph_once(monkeypatch: pytest.MonkeyPatch) -> None:
    subject = Subject.from_module(nn.Linear(2, C), torch.ones(2, 2), torch.arange(2))
    found = certificate(subject)
    module = importlib.import_module("sharpbench.curvature.certificate")
    monkeypatch.setattr(module, "_read_nodes", lambda graph: pytest.fail("the graph is read again"))
    assert certificate(subject.fresh()) == found
