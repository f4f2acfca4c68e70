"""The losses of m networks of one architecture as a function of their parameters, and their gradients."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import vmap

from sharpbench.core.functional import private_attributes, swapped_tensors
from sharpbench.training.optimizers import Stack


def stacked_losses(module: nn.Module, params: Stack, buffers: Stack, inputs: Tensor, targets: Tensor) -> Tensor:
    """Each network's mean cross entropy on its own examples, [m].

    A single network is called directly, and writes to its buffers (running statistics) as a module does. Several
    networks are called together by vmap, which refuses random numbers; values that they store in attributes are
    dropped, because one module cannot hold them for all.

    Args:
        module: gives the structure and the mode (training or eval).
        params: parameters by name, each [m, ...].
        buffers: buffers and untrained parameters by name, each [m, ...].
        inputs: [m, B, ...].
        targets: [m, B].
    """

    single = len(targets) == 1

    def mean(params: Stack, buffers: Stack, inputs: Tensor, targets: Tensor) -> Tensor:
        tensors = {**params, **buffers}
        with swapped_tensors(module, tensors) if single else private_attributes(module, tensors, evaluate=False):
            logits: Tensor = module(inputs)
        return F.cross_entropy(logits, targets)

    if single:
        own = {name: value.squeeze(0) for name, value in params.items()}
        own_buffers = {name: value.squeeze(0) for name, value in buffers.items()}
        return mean(own, own_buffers, inputs.squeeze(0), targets.squeeze(0)).unsqueeze(0)
    together: Tensor = vmap(mean)(params, buffers, inputs, targets)
    return together


class BatchGradient:
    """The gradients of m networks on one batch each (see optimizers.Gradient), by one backward pass for all.

    The derivative of the sum of all losses by one network's parameters is that network's gradient.

    Attributes:
        size: examples in the batch of one network.
        total: the clean losses so far, summed over examples, float64 [m].
    """

    def __init__(self, module: nn.Module, buffers: Stack, inputs: Tensor, targets: Tensor) -> None:
        self.module, self.buffers, self.inputs, self.targets = module, buffers, inputs, targets
        self.size = targets.shape[1]
        self.total = torch.zeros(len(targets), dtype=torch.float64, device=targets.device)

    def __call__(self, params: Stack, *, part: slice | None = None, clean: bool = True) -> Stack:
        """See optimizers.Gradient."""
        part = part or slice(0, self.size)
        leaves = {name: value.detach().requires_grad_() for name, value in params.items()}
        buffers = self.buffers if clean else {name: value.clone() for name, value in self.buffers.items()}
        each = stacked_losses(self.module, leaves, buffers, self.inputs[:, part], self.targets[:, part])
        gradients = torch.autograd.grad(each.sum(), tuple(leaves.values()), materialize_grads=True)
        if clean:
            self.total += each.detach().double() * (part.stop - part.start)
        return dict(zip(leaves, gradients, strict=True))


def can_stack(module: nn.Module, inputs: Tensor) -> bool:
    """Whether several networks of this structure can be trained together, found by trying it with two of them.

    Networks that draw random numbers (dropout), that write to their buffers (batch norm) or that vmap cannot follow
    cannot be. `inputs`: a few examples [B, ...].
    """
    if not any(value.requires_grad for value in module.parameters()):
        return False
    mode, before = module.training, {name: value.clone() for name, value in module.named_buffers()}
    module.train()
    params, buffers = stack_modules([module, module])
    pair = torch.stack([inputs, inputs])
    try:
        gradient = BatchGradient(module, buffers, pair, torch.zeros(pair.shape[:2], dtype=torch.long).to(inputs.device))
        gradient(params)
    except Exception:  # from vmap, or from the network under it
        return False
    finally:
        module.train(mode)
    return all(torch.equal(buffers[name][0], value) for name, value in before.items())


def stack_modules(modules: list[nn.Module]) -> tuple[Stack, Stack]:
    """Two stacks of copies: the parameters that are trained; and buffers and the other parameters."""
    return _stack_tensors([_select_tensors(each, trained=True) for each in modules]), _stack_tensors(
        [_select_tensors(each) for each in modules]
    )


def _select_tensors(module: nn.Module, *, trained: bool = False) -> dict[str, Tensor]:
    chosen = {name: value.detach() for name, value in module.named_parameters() if value.requires_grad == trained}
    return chosen if trained else {**dict(module.named_buffers()), **chosen}


def _stack_tensors(each: list[dict[str, Tensor]]) -> Stack:
    return {name: torch.stack([one[name] for one in each]) for name in each[0]}
