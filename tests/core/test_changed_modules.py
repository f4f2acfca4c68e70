"""A module that is changed after it was measured is measured as it is now, whatever the change."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from sharpbench import Subject, measure

IN, C = 4, 3
FACTORS = {"global": 1.0}


class Config:
    def __init__(self) -> None:
        self.factor = 1.0


class Scaled(nn.Module):
    """A perceptron with relu whose logits are multiplied by a factor, kept in some place."""

    shared: ClassVar[float] = 1.0

    def __init__(self, read: Callable[[Any], Any]) -> None:
        super().__init__()
        self.one, self.head = nn.Linear(IN, 5), nn.Linear(5, C)
        self.read = read
        self.number, self.listed, self.named, self.members = 1.0, [1.0], {"factor": 1.0}, {1.0}
        self.plain, self.config, self.nested = torch.ones(1), Config(), {"adapters": [{"scaling": 1.0}]}
        self.register_buffer("buffer", torch.ones(1))

    def forward(self, inputs: Tensor) -> Tensor:
        logits: Tensor = self.head(self.one(inputs).relu()) * self.read(self)
        return logits


def set_plain(module: Any) -> None:
    module.plain = torch.full((1,), 3.0)


def set_members(module: Any) -> None:
    module.members = {3.0}


def set_forward(module: Any) -> None:
    forward = module.forward
    module.forward = lambda inputs: 3 * forward(inputs)


def add_hook(module: Any) -> None:
    module.register_forward_hook(lambda part, given, output: 3 * output)


CHANGES: dict[str, tuple[Callable[[Any], Any], Callable[[Any], object]]] = {
    "number": (lambda m: m.number, lambda m: setattr(m, "number", 3.0)),
    "list": (lambda m: m.listed[0], lambda m: m.listed.__setitem__(0, 3.0)),
    "dictionary": (lambda m: m.named["factor"], lambda m: m.named.update(factor=3.0)),
    "nested": (lambda m: m.nested["adapters"][0]["scaling"], lambda m: m.nested["adapters"][0].update(scaling=3.0)),
    "set": (lambda m: max(m.members), set_members),
    "tensor replaced": (lambda m: m.plain, set_plain),
    "tensor written to": (lambda m: m.plain, lambda m: m.plain.mul_(3)),
    "buffer": (lambda m: m.buffer, lambda m: m.buffer.mul_(3)),
    "object": (lambda m: m.config.factor, lambda m: setattr(m.config, "factor", 3.0)),
    "global": (lambda m: FACTORS["global"], lambda m: FACTORS.update({"global": 3.0})),
    "class attribute": (lambda m: type(m).shared, lambda m: setattr(Scaled, "shared", 3.0)),
    "forward": (lambda m: 1.0, set_forward),
    "hook": (lambda m: 1.0, add_hook),
}
WORDS = ("trace", "ggn-trace", "fisher-trace", "minimum", "normalized", "hessian-frobenius")


def built(name: str, dtype: torch.dtype) -> nn.Module:
    torch.manual_seed(0)
    return Scaled(CHANGES[name][0]).to(dtype)


def values(module: nn.Module, dtype: torch.dtype) -> list[float]:
    inputs = torch.randn(8, IN, generator=torch.Generator().manual_seed(0)).to(dtype)
    subject = Subject.from_module(module, inputs, torch.arange(8) % C)
    return [measure(word, subject).value for word in WORDS]


@functools.cache
def wanted(dtype: torch.dtype) -> list[float]:
    """The values of a module whose factor is 3 before it is measured at all; after each change it is the function."""
    module = built("number", dtype)
    CHANGES["number"][1](module)
    return values(module, dtype)


IN_FLOAT32 = ("number", "tensor replaced", "buffer")
"""A graph holds tensors in the type of its capture; what is no tensor is changed alike in all types."""


@pytest.mark.parametrize(
    ("name", "dtype"),
    [*((name, torch.float64) for name in CHANGES), *((name, torch.float32) for name in IN_FLOAT32)],
)
def test_a_changed_module_is_measured_as_it_is_now(
    name: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(FACTORS, "global", 1.0)
    monkeypatch.setattr(Scaled, "shared", 1.0)
    module = built(name, dtype)
    before = values(module, dtype)
    CHANGES[name][1](module)
    after = values(module, dtype)
    assert after[0] != pytest.approx(before[0], rel=0.1)
    assert after == pytest.approx(wanted(dtype), rel=1e-5 if dtype == torch.float32 else 1e-9)
