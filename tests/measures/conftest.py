"""Tiny networks in float64 that the measures' tests share, and what is asked of every measure."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import cache

import pytest
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from sharpbench import Measure, Subject, measure
from sharpbench.runner.invariance import invariance_factors

with warnings.catch_warnings():  # forward mode compiles its decompositions at first use, with torch's own warning
    warnings.simplefilter("ignore")
    torch.func.jvp(torch.sin, (torch.ones(1),), (torch.ones(1),))

Check = Callable[..., None]


class Attention(nn.Module):
    """Two heads on a fused query, key and value."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.qkv, self.head = nn.Linear(3, 4), nn.Linear(4, 12), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:  # [B, T, 3]
        x = self.embed(x)
        q, k, v = self.qkv(x).reshape(*x.shape[:2], 3, 2, 2).permute(2, 0, 3, 1, 4)
        y = nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        logits: Tensor = self.head(y.mean(1))
        return logits


def subject_of(module: nn.Module, *shape: int, n: int = 9) -> Subject:
    """n examples of three classes in ragged batches of 4."""
    torch.manual_seed(0)
    inputs = torch.randn(n, *shape, dtype=torch.float64)
    return Subject.from_module(module.double(), inputs, torch.arange(n) % 3, batch_size=4)


@pytest.fixture(scope="session")
def chain() -> Subject:
    """A perceptron with biases."""
    torch.manual_seed(1)
    return subject_of(nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 3)), 5)


@pytest.fixture(scope="session")
def conv() -> Subject:
    """Convolutions, one with a batch norm, and a max pool."""
    torch.manual_seed(2)
    norm = nn.BatchNorm2d(3)
    module = nn.Sequential(
        *(nn.Conv2d(1, 3, 3, bias=False), norm, nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(3, 4, 2), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3)),
    )
    for value in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
        assert value is not None
        nn.init.uniform_(value, 0.3, 1.5)
    return subject_of(module, 1, 8, 8)


@pytest.fixture(scope="session")
def smooth() -> Subject:
    """A perceptron whose first layer is not certified."""
    torch.manual_seed(3)
    return subject_of(nn.Sequential(nn.Linear(5, 6), nn.GELU(), nn.Linear(6, 3)), 5)


@pytest.fixture(scope="session")
def attention() -> Subject:
    torch.manual_seed(4)
    return subject_of(Attention(), 5, 3)


@pytest.fixture(scope="session")
def regression() -> Subject:
    """Mean squared error."""
    torch.manual_seed(5)
    module = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 2)).double()
    inputs, targets = torch.randn(7, 4, dtype=torch.float64), torch.randn(7, 2, dtype=torch.float64)
    return Subject.from_module(module, inputs, targets, loss="mse", batch_size=3)


@pytest.fixture(scope="session")
def invariances_are_true() -> Check:
    def check(chosen: Measure, *subjects: Subject) -> None:
        """What is claimed leaves the value to 1e-6, what is not claimed moves it."""
        for subject in subjects:
            found = invariance_factors(chosen, in_one_batch(subject))
            assert found
            for kind, factor in found.items():
                assert (factor is not None and factor < 1 + 1e-6) == (kind in chosen.invariances()), (kind, factor)

    return check


@pytest.fixture(scope="session")
def examples_do_not_matter() -> Check:
    def check(chosen: Measure, subject: Subject, *, rel: float = 1e-9, single: float = 1e-4) -> None:
        """Neither how five of them are batched, nor their order, nor a second copy of each; and float32 is near."""
        subject = subject.take(slice(5))
        assert subject.batch_size < subject.n < 2 * subject.batch_size  # a batch, and a smaller one
        value = measure(chosen, subject).value
        wanted = pytest.approx(value, rel=rel)
        for size in (1, subject.n):
            assert measure(chosen, replace(subject, batch_size=size)).value == wanted
        order = torch.arange(subject.n).flip(0)
        assert measure(chosen, subject.take(order)).value == wanted
        twice = subject.take(torch.arange(subject.n).repeat(2))
        assert measure(chosen, in_one_batch(twice)).value == wanted
        single_precision = in_one_batch(subject).to(dtype=torch.float32)
        assert measure(chosen, single_precision).value == pytest.approx(value, rel=single)

    return check


@pytest.fixture(scope="session")
def hessian() -> Callable[[Subject], Tensor]:
    @cache
    def dense(subject: Subject) -> Tensor:
        """The Hessian of the mean loss, only by torch.autograd, [P, P]."""
        sizes = [value.numel() for value in subject.params.values()]

        def loss(flat: Tensor) -> Tensor:
            pieces = flat.split(sizes)
            params = {
                name: piece.reshape(value.shape)
                for piece, (name, value) in zip(pieces, subject.params.items(), strict=True)
            }
            logits = torch.func.functional_call(subject.module.eval(), {**subject.constants, **params}, subject.inputs)
            return subject.criterion(logits, subject.targets).mean()

        flat = torch.cat([value.flatten() for value in subject.params.values()])
        with sdpa_kernel(SDPBackend.MATH):  # the others have no second derivative
            found: Tensor = torch.autograd.functional.hessian(loss, flat)
        return found

    return dense


@cache
def in_one_batch(subject: Subject) -> Subject:
    """The same subject with all its examples in one batch; made once, so that what it keeps is found once."""
    return replace(subject, batch_size=subject.n)


@cache
def build(kind: str, seed: int) -> tuple[nn.Module, tuple[int, ...]]:
    """A network of that kind and the shape of its inputs; made once, so that its graph is captured once."""
    torch.manual_seed(seed)
    module, shape = fresh(kind)
    return module.double(), shape


def fresh(kind: str) -> tuple[nn.Module, tuple[int, ...]]:
    """At random weights."""
    if kind == "attention":
        return Attention(), (5, 3)
    if kind == "conv":
        convolutions = nn.Sequential(nn.Conv2d(1, 3, 2), nn.ReLU(), nn.Conv2d(3, 4, 2), nn.ReLU())
        return nn.Sequential(*convolutions, nn.Flatten(), nn.Linear(16, 3)), (1, 4, 4)
    smooth = nn.GELU if kind == "gelu" else nn.ReLU
    return nn.Sequential(nn.Linear(5, 6), smooth(), nn.Linear(6, 4), smooth(), nn.Linear(4, 3)), (5,)


@cache
def tiny_subject(kind: str, n: int = 9, batch_size: int = 4, seed: int = 0) -> Subject:
    """The subject of `tiny`; made once, with its graph and what else is settled."""
    module, shape = build(kind, seed)
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(n, *shape, generator=generator, dtype=torch.float64)
    return Subject.from_module(module, inputs, torch.arange(n) % 3, batch_size=batch_size)


@pytest.fixture(scope="session")
def tiny() -> Callable[..., Subject]:
    """tiny(kind, n=9, batch_size=4, seed=0): an 'mlp', 'gelu', 'conv' or 'attention' network of three classes."""

    def make(kind: str = "mlp", *, n: int = 9, batch_size: int = 4, seed: int = 0) -> Subject:
        return tiny_subject(kind, n, batch_size, seed).fresh()

    return make


@pytest.fixture(scope="session")
def rewritable() -> Callable[..., Subject]:
    """rewritable(kind, seed=0): `tiny` in one batch, the same subject each time, so that rewrites are found once."""
    return lambda kind, seed=0: tiny_subject(kind, batch_size=9, seed=seed)
