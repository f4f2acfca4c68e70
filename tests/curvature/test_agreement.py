"""Kinds of networks and losses on which derivatives are known to go wrong, compared with the definition."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.unusual_layers import ISSUE, KINDS, OTHERS, twin_module, unusual_subject
from sharpbench import measure

TYPES = (torch.float32, torch.float64)
STEP = 1e-5


@pytest.fixture(autouse=True)
def users_warnings() -> Iterator[None]:
    """As a user has them: a warning is no error."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


class Definition:
    """Gradient, Hessian and Gauss-Newton matrix by plain backward passes of the module itself, in float64.

    The Hessian is central differences of gradients, or two backward passes where the gradient is a surrogate's.
    """

    def __init__(self, name: str) -> None:
        kind, self.module = KINDS[name], twin_module(name)
        subject = unusual_subject(name, torch.float64)
        self.inputs, self.targets = subject.inputs, subject.targets
        self.losses = kind.losses or (lambda z, y: F.cross_entropy(z, y, reduction="none"))
        self.names = [key for key, value in self.module.named_parameters() if value.requires_grad]
        own = dict(self.module.named_parameters())
        self.shapes = [own[key].shape for key in self.names]
        self.start = torch.cat([own[key].detach().flatten() for key in self.names])
        self.kept = torch.ones_like(self.start)
        if kind.constant:
            name, row = kind.constant
            mask = {key: torch.ones_like(value) for key, value in own.items()}
            mask[name][row] = 0
            self.kept = torch.cat([mask[key].flatten() for key in self.names])
        self.gradient = self.slope(self.start)
        self.hessian = (self.twice() if kind.surrogate else self.differences()) * self.kept * self.kept[:, None]

    def logits(self, flat: Tensor, inputs: Tensor) -> Tensor:
        pieces = flat.split([shape.numel() for shape in self.shapes])
        values = {key: piece.reshape(shape) for key, piece, shape in zip(self.names, pieces, self.shapes, strict=True)}
        with sdpa_kernel(SDPBackend.MATH):
            found: Tensor = torch.func.functional_call(self.module, values, (inputs,))
        return found

    def slope(self, at: Tensor, *, graph: bool = False) -> Tensor:
        at = at if graph else at.clone().requires_grad_()
        loss = self.losses(self.logits(at, self.inputs), self.targets).mean()
        return torch.autograd.grad(loss, at, create_graph=graph)[0]

    def differences(self) -> Tensor:
        units = STEP * torch.eye(len(self.start), dtype=torch.float64)
        rows = [(self.slope(self.start + e) - self.slope(self.start - e)) / (2 * STEP) for e in units]
        return (torch.stack(rows) + torch.stack(rows).T) / 2

    def twice(self) -> Tensor:
        leaf = self.start.clone().requires_grad_()
        entries = self.slope(leaf, graph=True)
        return torch.stack([torch.autograd.grad(entry, leaf, retain_graph=True)[0] for entry in entries])

    def gauss_newton_trace(self) -> float:
        total = 0.0
        for example, target in zip(self.inputs.split(1), self.targets.split(1), strict=True):
            leaf = self.start.clone().requires_grad_()
            logits = self.logits(leaf, example)[0]
            rows = torch.stack([torch.autograd.grad(each, leaf, retain_graph=True)[0] for each in logits])

            def slope(at: Tensor, target: Tensor = target) -> Tensor:
                at = at.clone().requires_grad_()
                return torch.autograd.grad(self.losses(at[None], target)[0], at)[0]

            flat = logits.detach()
            units = STEP * torch.eye(len(flat), dtype=torch.float64)
            curved = torch.stack([(slope(flat + e) - slope(flat - e)) / (2 * STEP) for e in units])
            total += float((rows.T @ curved @ rows * torch.diag(self.kept)).trace())
        return total / len(self.inputs)


def check(name: str, dtype: torch.dtype) -> None:
    truth = Definition(name)
    subject = unusual_subject(name, dtype)
    spectrum = torch.linalg.eigvalsh((truth.hessian + truth.hessian.T) / 2)
    wanted = {
        "gradient-norm": float(truth.gradient.norm()),
        "trace[method=naive]": float(truth.hessian.trace()),
        "top-eigenvalue": float(spectrum[-1]),
        "hessian-frobenius[method=exact]": float(truth.hessian.norm()),
        "ggn-trace": truth.gauss_newton_trace(),
    }
    size = float(truth.hessian.norm())
    rtol, atol = (1e-3, 2e-4 * size) if dtype == torch.float32 else (1e-6, 1e-7 * size)
    for words, value in wanted.items():
        assert measure(words, subject).value == pytest.approx(value, rel=rtol, abs=atol), words
    found = measure("trace", subject)
    assert found.stderr is not None
    assert abs(found.value - wanted["trace[method=naive]"]) <= 5 * found.stderr + rtol * abs(found.value) + atol


@pytest.mark.parametrize("name", ISSUE)
def test_numbers_are_those_of_the_definition(name: str) -> None:
    check(name, torch.float64)


@pytest.mark.slow
@pytest.mark.parametrize("name", ISSUE)
def test_numbers_are_those_of_the_definition_in_float32(name: str) -> None:
    check(name, torch.float32)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("name", OTHERS)
def test_other_kinds_are_those_of_the_definition(name: str, dtype: torch.dtype) -> None:
    check(name, dtype)
