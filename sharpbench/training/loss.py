"""The losses of m networks of one architecture as a function of their parameters, and the gradients of each."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import vmap

from sharpbench.core.functional import private_attributes, swapped_tensors
from sharpbench.training.optimizers import Stack


def stacked_losses(module: nn.Module, params: Stack, buffers: Stack, inputs: Tensor, targets: Tensor) -> Tensor:
    """Each network's mean cross entropy on its own examples, [m]; `module` gives the structure and the mode.

    inputs [m, B, ...], targets [m, B]. One network is called as it is, and its buffers (running statistics) are
    written to as a module writes to them. Several are called together by vmap, which refuses randomness; what they
    store in attributes is dropped, as one module cannot hold it for all.
    """

    single = len(targets) == 1

    def mean(params: Stack, buffers: Stack, inputs: Tensor, targets: Tensor) -> Tensor:
        tensors = {**params, **buffers}
        with swapped_tensors(module, tensors) if single else private_attributes(module, tensors, evaluate=False):
            logits: Tensor = module(inputs)
        return F.cross_entropy(logits, targets)

    if single:
        own = {name: value.squeeze(0) for name, value in params.items()}
        kept = {name: value.squeeze(0) for name, value in buffers.items()}
        return mean(own, kept, inputs.squeeze(0), targets.squeeze(0)).unsqueeze(0)
    together: Tensor = vmap(mean)(params, buffers, inputs, targets)
    return together


class BatchGradient:
    """The gradients of m networks on one batch each (see optimizers.Gradient), by one backward pass for all.

    The sum of all losses has each network's own gradient as its derivative by that network's parameters.
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
    """Whether several networks of this structure can be trained together, found by doing it with two of them.

    Not those that draw random numbers (dropout) or write to their buffers (batch norm) in training, nor what vmap
    cannot follow. `inputs`: a few examples [B, ...].
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
    except Exception:  # whatever vmap, or a network under it, raises
        return False
    finally:
        module.train(mode)
    return all(torch.equal(buffers[name][0], value) for name, value in before.items())


def stack_modules(modules: list[nn.Module]) -> tuple[Stack, Stack]:
    """Copies of what is trained, and of the rest: buffers, and parameters that need no gradient."""
    return _stack_tensors([_select_tensors(each, trained=True) for each in modules]), _stack_tensors(
        [_select_tensors(each) for each in modules]
    )


def _select_tensors(module: nn.Module, *, trained: bool = False) -> dict[str, Tensor]:
    chosen = {name: value.detach() for name, value in module.named_parameters() if value.requires_grad == trained}
    return chosen if trained else {**dict(module.named_buffers()), **chosen}


def _stack_tensors(each: list[dict[str, Tensor]]) -> Stack:
    return {name: torch.stack([one[name] for one in each]) for name in each[0]}
