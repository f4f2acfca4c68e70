"""Cases: tiny networks, one of each kind that a measure will meet, with what is known of their symmetries."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sharpbench.core.subject import Subject
from sharpbench.runner.invariance import rewrite_subjects

WIDE = torch.float64
EXAMPLES = 7
BATCH = 4
"""Does not divide EXAMPLES: the last batch is ragged."""
CLASSES = 3


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """A subject with a name. head: its last layer's parameters. free: entries of parameters that no example reads."""

    name: str
    subject: Subject
    head: tuple[str, ...] = ()
    free: Mapping[str, Tensor] = field(default_factory=dict)

    def rewrites(self) -> dict[str, tuple[Subject, ...]]:
        """Kind of invariance -> the subject at other weights, random ones of the same function.

        element: a rescaling of units and, each by a factor of its own, of the free entries. logit-scale: the last
        layer times 2 and times 1/2, which changes the function.
        """
        drawn = self.subject.once(rewrite_subjects)
        found = {kind: moved for kind, others in drawn.items() if (moved := tuple(filter(self._moved, others)))}
        if self.free:
            found["element"] = tuple(self._freed(other) for other in found.get("unit", (self.subject,)))
        if self.head:
            found["logit-scale"] = (self._scaled(2.0), self._scaled(0.5))
        return found

    def _moved(self, other: Subject) -> bool:
        """Whether any weight is another: of two units, a random order is the old one every other time."""
        return any(not torch.equal(value, self.subject.params[name]) for name, value in other.params.items())

    def _freed(self, other: Subject) -> Subject:
        generator = torch.Generator().manual_seed(0)
        moved = dict(other.params)
        for name, free in self.free.items():
            factors = torch.randn(free.shape, generator=generator, dtype=WIDE).exp()
            moved[name] = torch.where(free, moved[name] * factors, moved[name])
        return replace(other, params=moved)

    def _scaled(self, factor: float) -> Subject:
        params = self.subject.params
        return replace(self.subject, params={**params, **{name: factor * params[name] for name in self.head}})


@functools.cache
def cases() -> tuple[Case, ...]:
    """All of them, in float64; made once, and of few modules: their graphs take longer than most measures."""
    chain = _module(lambda: _chain(nn.ReLU(), bias=True))
    plain = _module(lambda: _chain(nn.ReLU(), bias=False))
    around = torch.ones(3, 2, 3, 3, dtype=torch.bool)
    around[:, :, 1, 1] = False  # the centre alone meets the image, the rest its padding
    conv, padded = _module(lambda: _Convolution(3, padding=0)), _module(lambda: _Convolution(1, padding=1))
    return (
        _case("biases", chain, 4, head="2"),
        _case("no biases", plain, 4, head="2", batch=EXAMPLES, fitted=True),
        _case("no initial weights", chain, 4, head="2", known=False),
        _case("one example", chain, 4, head="2", examples=1, batch=1),
        _case("mean squared error", chain, 4, head="2", squared=True),
        _case("convolution", conv, 1, 4, 4, head="head"),
        _case("padding alone", padded, 2, 1, 1, head="head", free={"one.weight": around}),
        _case("residual and batch norm", _module(_Residual), 2, 3, 3, head="head"),
        _case("smooth", _module(lambda: _chain(nn.GELU(), bias=True)), 4, head="2"),
        _case("attention", _module(_Attention), 3, 4, head="head"),
    )


def _case(
    name: str,
    module: nn.Module,
    *shape: int,
    head: str,
    examples: int = EXAMPLES,
    batch: int = BATCH,
    fitted: bool = False,
    squared: bool = False,
    known: bool = True,
    free: Mapping[str, Tensor] | None = None,
) -> Case:
    """fitted: the network is right on every example. known: the weights before training are given."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        inputs = torch.randn(examples, *shape, dtype=WIDE)
        labels = module(inputs).argmax(1) if fitted else torch.randint(CLASSES, (examples,))
        targets = torch.randn(examples, CLASSES, dtype=WIDE) if squared else labels
        initial = {key: value + 0.3 * torch.randn_like(value) for key, value in module.named_parameters()}
    subject = Subject.from_module(
        module,
        inputs,
        targets,
        batch_size=batch,
        criterion="mse" if squared else "cross_entropy",
        initial=initial if known else None,
        train_size=examples if known else None,
        name=name,
    )
    last = tuple(key for key in subject.params if key.startswith(f"{head}."))
    return Case(name, subject, head=last, free=free or {})


def _module(build: Callable[[], nn.Module]) -> nn.Module:
    """The same whenever it is made; the process's own randomness is left alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build().to(WIDE).eval()


def _chain(activation: nn.Module, *, bias: bool) -> nn.Module:
    return nn.Sequential(nn.Linear(4, 5, bias=bias), activation, nn.Linear(5, CLASSES, bias=bias))


class _Convolution(nn.Module):
    """Two convolutions; on images of a single pixel the kernel of the first reads its padding but at the centre."""

    def __init__(self, pooled: int, *, padding: int) -> None:
        super().__init__()
        channels = 2 if padding else 1
        self.one = nn.Conv2d(channels, 3, 3 if padding else 2, padding=padding)
        self.pool = nn.MaxPool2d(2, 1) if pooled > 1 else nn.Identity()
        self.two = nn.Conv2d(3, 4, 1)
        self.head = nn.Linear(4 * (pooled - 1) ** 2 if pooled > 1 else 4, CLASSES)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.two(self.pool(self.one(inputs).relu())).relu()
        logits: Tensor = self.head(hidden.flatten(1))
        return logits


class _Residual(nn.Module):
    """A convolution, a batch norm with statistics of its own, and a branch around both."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 3, 1)
        self.branch = nn.Conv2d(3, 3, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(3)
        self.head = nn.Linear(3, CLASSES)
        for tensor in (self.norm.running_mean, self.norm.weight, self.norm.bias):
            nn.init.uniform_(torch.as_tensor(tensor), 0.5, 1.5)

    def forward(self, inputs: Tensor) -> Tensor:
        stem = self.stem(inputs).relu()
        logits: Tensor = self.head((stem + self.norm(self.branch(stem))).relu().mean((2, 3)))
        return logits


class _Attention(nn.Module):
    """Two heads with fused projections, after a layer norm."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.qkv, self.head = nn.LayerNorm(4), nn.Linear(4, 12), nn.Linear(4, CLASSES)

    def forward(self, inputs: Tensor) -> Tensor:
        query, key, value = self.qkv(self.norm(inputs)).unflatten(2, (3, 2, 2)).permute(2, 0, 3, 1, 4).unbind(0)
        mixed = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        logits: Tensor = self.head(mixed.mean(1))
        return logits
