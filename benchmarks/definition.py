"""Derivatives of a tiny network by plain backward passes of its module, without any code of ours."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.unusual_layers import Kind, kind_subject, twin_module

STEP = 1e-5


class Definition:
    """Gradient, Hessian and Gauss-Newton matrix by plain backward passes of the module itself, in float64.

    The Hessian is central differences of gradients, or two backward passes where the gradient is a surrogate's.
    """

    def __init__(self, kind: Kind) -> None:
        self.module = twin_module(kind)
        subject = kind_subject(kind, torch.float64)
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

    def gauss_newton(self) -> Tensor:
        """The mean over examples of J^T L J, L the central differences of the loss's gradient by the logits."""
        total = torch.zeros(len(self.start), len(self.start), dtype=torch.float64)
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
            total += rows.T @ (curved + curved.T) @ rows / 2
        return total * self.kept * self.kept[:, None] / len(self.inputs)
