"""Tiny networks of each kind that a measure will meet, with their known symmetries."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sharpbench.core.subject import Subject
from sharpbench.runner.invariance import rewrite_subjects

DTYPE = torch.float64
EXAMPLES = 7
BATCH_SIZE = 4
"""Does not divide EXAMPLES, so that the last batch is smaller."""
CLASSES = 3


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """A subject with its known symmetries.

    Args:
        name: the name of the case.
        subject: the network with its examples, in float64.
        head: names of the parameters of the last layer.
        free: by parameter name, a mask of the entries that no example reads.
    """

    name: str
    subject: Subject
    head: tuple[str, ...] = ()
    free: Mapping[str, Tensor] = field(default_factory=dict)

    def rewrites(self) -> dict[str, tuple[Subject, ...]]:
        """By kind of invariance, the subject at random other weights that give the same function.

        "element" rescales the units, and each free entry by its own factor. "logit-scale" multiplies the last layer by
        2 and by 1/2, which scales the function.
        """
        drawn = self.subject.once(rewrite_subjects)
        found = {kind: moved for kind, others in drawn.items() if (moved := tuple(filter(self._has_moved, others)))}
        if self.free:
            found["element"] = tuple(self._rescale_free(other) for other in found.get("unit", (self.subject,)))
        if self.head:
            found["logit-scale"] = (self._scale_head(2.0), self._scale_head(0.5))
        return found

    def _has_moved(self, other: Subject) -> bool:
        """Whether any weight differs: half of the random orders of two units are the original order."""
        return any(not torch.equal(value, self.subject.params[name]) for name, value in other.params.items())

    def _rescale_free(self, other: Subject) -> Subject:
        generator = torch.Generator().manual_seed(0)
        moved = dict(other.params)
        for name, mask in self.free.items():
            factors = torch.randn(mask.shape, generator=generator, dtype=DTYPE).exp()
            moved[name] = torch.where(mask, moved[name] * factors, moved[name])
        return replace(other, params=moved)

    def _scale_head(self, factor: float) -> Subject:
        params = self.subject.params
        return replace(self.subject, params={**params, **{name: factor * params[name] for name in self.head}})


@functools.cache
def make_cases() -> tuple[Case, ...]:
    """All cases, in float64. They are cached and share modules: capturing a graph takes longer than most measures."""
    chain = _make_module(lambda: _make_chain(nn.ReLU(), bias=True))
    plain = _make_module(lambda: _make_chain(nn.ReLU(), bias=False))
    kept = _make_module(_Kept)
    smooth = _make_module(lambda: _make_chain(nn.GELU(), bias=True))
    conv, padded = _make_module(lambda: _Convolution(3, padding=0)), _make_module(lambda: _Convolution(1, padding=1))
    residual, attention = _make_module(_Residual), _make_module(_Attention)
    border = torch.ones(3, 2, 3, 3, dtype=torch.bool)
    border[:, :, 1, 1] = False  # only the centre reads the image; the other entries read its padding
    specs = (
        _CaseSpec("biases", chain, (4,), head="2"),
        _CaseSpec("no biases", plain, (4,), head="2", batch_size=EXAMPLES, fitted=True),
        _CaseSpec("no initial weights, a layer under two names", kept, (4,), head="head", known_initial=False),
        _CaseSpec("one example", chain, (4,), head="2", examples=1, batch_size=1),
        _CaseSpec("mean squared error", chain, (4,), head="2", squared=True),
        _CaseSpec("convolution", conv, (1, 4, 4), head="head"),
        _CaseSpec("padding alone", padded, (2, 1, 1), head="head", free={"one.weight": border}),
        _CaseSpec("residual and batch norm", residual, (2, 3, 3), head="head"),
        _CaseSpec("smooth", smooth, (4,), head="2"),
        _CaseSpec("attention", attention, (3, 4), head="head"),
    )
    return tuple(spec.make() for spec in specs)


@dataclass(frozen=True)
class _CaseSpec:
    """What a case is made from.

    shape: of one example. fitted: the network is right on every example. squared: the loss is the mean squared error.
    known_initial: the weights before training are given. head, free: see Case.
    """

    name: str
    module: nn.Module
    shape: tuple[int, ...]
    head: str
    examples: int = EXAMPLES
    batch_size: int = BATCH_SIZE
    fitted: bool = False
    squared: bool = False
    known_initial: bool = True
    free: Mapping[str, Tensor] = field(default_factory=dict)

    def make(self) -> Case:
        """The case, with random examples."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            inputs = torch.randn(self.examples, *self.shape, dtype=DTYPE)
            labels = self.module(inputs).argmax(1) if self.fitted else torch.randint(CLASSES, (self.examples,))
            targets = torch.randn(self.examples, CLASSES, dtype=DTYPE) if self.squared else labels
            initial = {key: value + 0.3 * torch.randn_like(value) for key, value in self.module.named_parameters()}
        subject = Subject.from_module(
            self.module,
            inputs,
            targets,
            batch_size=self.batch_size,
            loss="mse" if self.squared else "cross_entropy",
            initial=initial if self.known_initial else None,
            train_size=self.examples if self.known_initial else None,
            name=self.name,
        )
        head = tuple(key for key in subject.params if key.startswith(f"{self.head}."))
        return Case(self.name, subject, head=head, free=self.free)


def _make_module(build: Callable[[], nn.Module]) -> nn.Module:
    """A module with the same weights whenever it is made; the generators of the process are not changed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build().to(DTYPE).eval()


def _make_chain(activation: nn.Module, *, bias: bool) -> nn.Module:
    return nn.Sequential(nn.Linear(4, 5, bias=bias), activation, nn.Linear(5, CLASSES, bias=bias))


class _Kept(nn.Module):
    """A perceptron whose first layer has two names, and which keeps what it computes in attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(4, 5), nn.Linear(5, CLASSES)
        self.alias = self.first
        self.last: Tensor | None = None
        self.seen: list[Tensor] = []

    def forward(self, inputs: Tensor) -> Tensor:
        self.last = self.first(inputs).relu()
        self.seen.append(self.last)
        logits: Tensor = self.head(self.last)
        return logits


class _Coupled(nn.Module):
    """A perceptron that centres its hidden units over the batch, as a batch norm without running statistics does."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.head = nn.Linear(4, 5), nn.Linear(5, CLASSES)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.one(inputs)
        logits: Tensor = self.head((hidden - hidden.mean(0)).relu())
        return logits


def make_coupled_subject() -> Subject:
    """A subject of a network that mixes the examples of a batch. Raises InvalidInput, as there is no such subject."""
    inputs = torch.randn(EXAMPLES, 4, generator=torch.Generator().manual_seed(0), dtype=DTYPE)
    return Subject.from_module(_make_module(_Coupled), inputs, torch.arange(EXAMPLES) % CLASSES)


class _Convolution(nn.Module):
    """Two convolutions. On images of one pixel, the first kernel reads padding except at its centre."""

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
    """A convolution, a batch norm with its own statistics, and a branch around both."""

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
