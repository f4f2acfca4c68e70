"""Per example: the traces of Proposition 1 as its authors compute them; slow, and what the exact trace is measured by.

Ibayashi, Hamaguchi, Imaizumi 2021, Proposition 1, after the description of their algorithm.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge

from sharpbench.errors import InvalidInput


def per_example_traces(model: nn.Module, inputs: Tensor, *, batch_size: int) -> dict[str, float]:
    """The trace of H_b for each parameter b, for the mean cross entropy over `inputs` [n, ...], as in the paper.

    tr H_b = (1/n) sum_i (sum_k p_k |d f_k / d theta_b|^2 - |d log Z / d theta_b|^2). The gradient of every example is
    formed, and the last term is subtracted, which costs digits where the network is confident.

    Args:
        model: linear layers on [B, in] and convolutions, each used once; only their parameters have traces.
        batch_size: examples at a time.
    Raises:
        InvalidInput: for grouped convolutions, and for padding other than a number of zeros.

    Cost: C + 1 passes.

    >>> chain = torch.nn.Sequential(model)
    >>> {name: round(trace, 9) for name, trace in curvature.per_example_traces(chain, inputs, batch_size=1).items()}
    {'0.weight': 4.5, '0.bias': 0.5}
    """
    layers = {name: layer for name, layer in model.named_modules() if isinstance(layer, nn.Linear | nn.Conv2d)}
    totals: dict[str, float] = {}
    for batch in inputs.split(batch_size):
        taken: dict[nn.Module, tuple[Tensor, GradientEdge]] = {}

        def take(module: nn.Module, args: tuple[Tensor], output: Tensor, taken: dict = taken) -> None:  # type: ignore[type-arg]
            taken[module] = args[0].detach(), get_gradient_edge(output)  # as it is before anything is done in place

        hooks = [layer.register_forward_hook(take) for layer in layers.values()]
        logits = model(batch)
        for hook in hooks:
            hook.remove()
        p = logits.softmax(1).detach()
        scalars = [(logits[:, k].sum(), p[:, k]) for k in range(logits.shape[1])]
        scalars.append((logits.logsumexp(1).sum(), -torch.ones_like(p[:, 0])))
        for scalar, weight in scalars:
            slopes = torch.autograd.grad(scalar, [taken[layer][1] for layer in layers.values()], retain_graph=True)
            for (name, layer), slope in zip(layers.items(), slopes, strict=True):
                each, bias = _gradients(layer, taken[layer][0], slope)
                totals[f"{name}.weight"] = totals.get(f"{name}.weight", 0.0) + _weighed(each, weight)
                if layer.bias is not None:
                    totals[f"{name}.bias"] = totals.get(f"{name}.bias", 0.0) + _weighed(bias, weight)
    return {name: total / len(inputs) for name, total in totals.items()}


def _gradients(layer: nn.Module, given: Tensor, slope: Tensor) -> tuple[Tensor, Tensor]:
    """The gradient of every example by weight [B, out, ...] and by bias [B, out]."""
    if isinstance(layer, nn.Conv2d):
        if isinstance(layer.padding, str) or layer.padding_mode != "zeros" or layer.groups > 1:
            raise InvalidInput(f"{layer} is in groups, or not padded by a number of zeros; use exact_traces")
        columns = F.unfold(
            given, layer.kernel_size, dilation=layer.dilation, padding=layer.padding, stride=layer.stride
        )  # [B, in * kernel, positions]
        return torch.bmm(slope.flatten(2), columns.transpose(1, 2)), slope.flatten(2).sum(2)
    return torch.einsum("bo,bi->boi", slope, given), slope


def _weighed(gradients: Tensor, weight: Tensor) -> float:
    """sum_i weight_i |gradient_i|^2."""
    return float((gradients.flatten(1).square().sum(1) * weight).sum())
