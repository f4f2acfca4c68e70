"""Operators whose derivatives torch has wrong or not at all, written in terms of operators that have them.

All statements about torch are of version 2.13; the tests compare each definition with torch's own values.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch._ops import OpOverloadPacket
from torch.overrides import TorchFunctionMode

from sharpbench.errors import InvalidInput

aten = torch.ops.aten


def differentiable_operators() -> TorchFunctionMode:
    """Inside, the functions of DEFINITIONS are computed as their definitions say."""
    return _Definitions()


class _Definitions(TorchFunctionMode):
    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        return DEFINITIONS.get(func, func)(*args, **(kwargs or {}))


def weight_norm(v: Tensor, g: Tensor, dim: int = 0) -> Tensor:
    """g v / |v|, the norm over all dimensions but `dim`; over all of them with dim = -1.

    torch's has no forward derivative, and its second derivative by two backward passes is wrong: of a perceptron of
    4, 5 and 3 units the trace of the Hessian came out 14 % too large.
    """
    if dim == -1:
        norm: Tensor = torch.linalg.vector_norm(v.flatten())
        return v * (g / norm)
    norms: Tensor = torch.linalg.vector_norm(v.movedim(dim, 0).reshape(v.shape[dim], -1), dim=1)
    return v * (g / norms.view([-1 if each == dim % v.ndim else 1 for each in range(v.ndim)]))


def prelu(inputs: Tensor, weight: Tensor) -> Tensor:
    """x where x > 0, else slope x. torch's, vmapped over examples and columns, mixes up the two."""
    channels = (-1, *(1,) * (inputs.ndim - 2)) if inputs.ndim > 1 else ()
    return torch.where(inputs > 0, inputs, (weight.reshape(channels) if weight.numel() > 1 else weight) * inputs)


def hardsigmoid(input: Tensor, inplace: bool = False) -> Tensor:
    """min(max(x + 3, 0), 6) / 6. torch's has neither a forward nor a second derivative."""
    return F.relu6(input + 3) / 6


def cdist(x1: Tensor, x2: Tensor, p: float = 2.0, compute_mode: object = None) -> Tensor:
    """|a - b|_p of all pairs of rows. torch's has no second derivative, and its first is wrong under vmap."""
    distances: Tensor = torch.linalg.vector_norm(x1.unsqueeze(-2) - x2.unsqueeze(-3), p, -1)
    return distances


def cosine_similarity(x1: Tensor, x2: Tensor, dim: int = 1, eps: float = 1e-8) -> Tensor:
    """<a, b> / (|a| |b|). torch's second derivatives are wrong where one argument is broadcast."""
    one, other = torch.broadcast_tensors(x1, x2)
    norms = [torch.linalg.vector_norm(each, dim=dim, keepdim=True).clamp_min(eps) for each in (one, other)]
    similarity: Tensor = (one / norms[0] * (other / norms[1])).sum(dim)
    return similarity


SINC_SERIES = 0.05
"""Below this y = pi x, sin(y) / y is a series: its derivatives divide by y, and by nothing at 0."""


def sinc(input: Tensor) -> Tensor:
    """sin(pi x) / (pi x). torch's second derivative is not a number at 0, and its forward derivative wrong."""
    y = math.pi * input
    small = y.abs() < SINC_SERIES
    square = torch.where(small, y, 0.0).square()
    series = 1 - square / 6 * (1 - square / 20 * (1 - square / 42 * (1 - square / 72)))
    away = torch.where(small, 1.0, y)
    return torch.where(small, series, away.sin() / away)


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """-log p_y [B] of logits [B, C] and class indices: log(1 + sum_j exp(z_j - z_a)) + z_a - z_y, over the classes j
    but the most probable one, a.

    No derivative of any order subtracts nearly equal numbers: 1 - p_a is s / (1 + s), with s the sum. torch's
    gradient p - 1 is off by 40 % in float32 where the loss is 5e-8, and 0 where it is 2e-11.
    """
    top = logits.detach().argmax(1, keepdim=True)
    highest, chosen = logits.gather(1, top), logits.gather(1, targets[:, None])
    others = torch.ones_like(logits).scatter(1, top, 0.0)
    tail = ((logits - highest).exp() * others).sum(1)
    return tail.log1p() + torch.where(top == targets[:, None], 0.0, highest - chosen).squeeze(1)


def _cross_entropy(given: Mapping[str, Any]) -> Tensor:
    defaults = given["weight"] is given["size_average"] is given["reduce"] is None and given["label_smoothing"] == 0
    plain = defaults and given["reduction"] == "none" and given["ignore_index"] < 0
    if plain and given["input"].ndim == 2 and given["target"].ndim == 1:
        return cross_entropy(given["input"], given["target"])
    return F.cross_entropy(**given)


def huber_loss(
    input: Tensor, target: Tensor, reduction: str = "mean", delta: float = 1.0, weight: Tensor | None = None
) -> Tensor:
    """d^2 / 2 up to delta, else delta (|d| - delta / 2). torch's has no forward derivative of its derivative."""
    gap = input - target
    losses = torch.where(gap.abs() <= delta, gap.square() / 2, delta * (gap.abs() - delta / 2))
    if weight is not None and reduction != "none":
        raise InvalidInput("huber_loss with a weight is supported with reduction='none' only")
    return _reduced(losses if weight is None else losses * weight, reduction)


def multi_margin_loss(
    input: Tensor, target: Tensor, p: int = 1, margin: float = 1.0, weight: Tensor | None = None
) -> Tensor:
    """sum_j max(0, margin - x_y + x_j)^p / C over the classes j but y. torch's has no second derivative."""
    chosen = input.gather(-1, target.unsqueeze(-1))
    gaps = (margin - chosen + input).clamp_min(0)
    terms = gaps if p == 1 else gaps.square()
    others = torch.ones_like(input).scatter(-1, target.unsqueeze(-1), 0.0)
    losses: Tensor = (terms * others).sum(-1) / input.shape[-1]
    return losses if weight is None else losses * weight[target]


def _multi_margin_loss(given: Mapping[str, Any]) -> Tensor:
    if given["size_average"] is not None or given["reduce"] is not None:
        return F.multi_margin_loss(**given)
    losses = multi_margin_loss(given["input"], given["target"], given["p"], given["margin"], given["weight"])
    return _reduced(losses, given["reduction"])


def _reduced(losses: Tensor, reduction: str) -> Tensor:
    if reduction == "none":
        return losses
    return losses.mean() if reduction == "mean" else losses.sum()


def embedding_rows(weight: Tensor, indices: Tensor, padding_idx: int | None = None) -> Tensor:
    """Rows of the weight. That of the padding is a constant, as it is in training.

    torch's backward pass drops the padding's row and its forward derivative does not, so that products with the
    Hessian are not those of a symmetric matrix. scale_grad_by_freq and sparse change gradients, not the function.
    """
    if padding_idx is not None:
        trained = torch.arange(len(weight), device=weight.device) != padding_idx % len(weight)
        weight = torch.where(trained[:, None], weight, weight.detach())
    return weight[indices]


def _embedding(given: Mapping[str, Any]) -> Tensor:
    if given["max_norm"] is not None:
        raise InvalidInput("an embedding with max_norm rewrites its weight in every forward pass; use max_norm=None")
    return embedding_rows(given["weight"], given["input"], given["padding_idx"])


def _embedding_bag(given: Mapping[str, Any]) -> Tensor:
    """Sums, means or maxima of rows. torch's has no second derivative, and none at all under vmap."""
    indices, offsets, padding = given["input"], given["offsets"], given["padding_idx"]
    rows = _embedding({**given, "padding_idx": None})
    counted = torch.ones_like(indices, dtype=rows.dtype) if padding is None else (indices != padding).to(rows)
    if given["mode"] == "max":
        if offsets is not None or padding is not None:
            raise InvalidInput("an embedding bag with mode='max' is supported without offsets and padding_idx only")
        largest: Tensor = rows.amax(1)
        return largest
    factors = given["per_sample_weights"]
    rows = rows * (counted if factors is None else counted * factors)[..., None]
    if offsets is None:
        sums, counts = rows.sum(1), counted.sum(1)
    else:
        starts = offsets[:-1] if given["include_last_offset"] else offsets
        bags = torch.searchsorted(starts, torch.arange(len(indices), device=indices.device), right=True) - 1
        sums = rows.new_zeros(len(starts), rows.shape[1]).index_add(0, bags, rows)
        counts = counted.new_zeros(len(starts)).index_add(0, bags, counted)
    return sums if given["mode"] == "sum" else sums / counts.clamp_min(1)[:, None]


def _by_name(function: Callable[..., Any], definition: Callable[[Mapping[str, Any]], Tensor]) -> Callable[..., Tensor]:
    """`definition` of the arguments of torch's function by their names, called as that function is."""
    signature = inspect.signature(function)

    def call(*arguments: object, **keywords: object) -> Tensor:
        bound = signature.bind(*arguments, **keywords)
        bound.apply_defaults()
        return definition(bound.arguments)

    return call


RECURRENT: dict[Callable[..., Any], OpOverloadPacket[..., Any]] = {
    torch.lstm: aten.lstm,
    torch.gru: aten.gru,
    torch.rnn_tanh: aten.rnn_tanh,
    torch.rnn_relu: aten.rnn_relu,
}
"""torch's recurrent layer -> its operators, of whole and of packed sequences."""


def _recurrent(function: Callable[..., Any], operators: OpOverloadPacket[..., Any]) -> Callable[..., Any]:
    """torch's recurrent layer; on a GPU step by step.

    cuDNN's has no gradient in eval mode and no second derivative. torch's own on a GPU has neither a forward
    derivative nor a rule for vmap.
    """
    stepwise = step_by_step(operators)

    def call(*arguments: Any, **keywords: Any) -> Any:
        data: Any = arguments[0] if arguments else keywords.get("input", keywords.get("data"))
        return (function if data.device.type == "cpu" else stepwise)(*arguments, **keywords)

    return call


def step_by_step(operators: OpOverloadPacket[..., Any]) -> Callable[..., Any]:
    """A recurrent layer by torch's decomposition into matrix products and activations, called as the layer is."""

    def call(*arguments: Any, **keywords: Any) -> Any:
        from torch._decomp import get_decompositions

        # (input, state, weights, with biases, ...), or (data, batch sizes, state, weights, ...) of packed sequences
        packed = "batch_sizes" in keywords or (len(arguments) > 3 and not isinstance(arguments[3], bool))
        operator = operators.data if packed else operators.input
        return get_decompositions([operator])[operator](*arguments, **keywords)

    return call


DEFINITIONS: dict[object, Callable[..., Any]] = {
    torch._weight_norm: weight_norm,
    torch.prelu: prelu,
    torch.cdist: cdist,
    torch.cosine_similarity: cosine_similarity,
    torch.sinc: sinc,
    Tensor.sinc: sinc,
    torch.special.sinc: sinc,
    F.hardsigmoid: hardsigmoid,
    F.embedding: _by_name(F.embedding, _embedding),
    F.embedding_bag: _by_name(F.embedding_bag, _embedding_bag),
    F.cross_entropy: _by_name(F.cross_entropy, _cross_entropy),
    F.huber_loss: huber_loss,
    F.multi_margin_loss: _by_name(F.multi_margin_loss, _multi_margin_loss),
    torch.embedding: lambda weight, indices, padding_idx=-1, scale=False, sparse=False: embedding_rows(
        weight, indices, padding_idx if padding_idx >= 0 else None
    ),
    torch._C._nn.hardsigmoid: hardsigmoid,
    **{function: _recurrent(function, operators) for function, operators in RECURRENT.items()},
}
"""torch's function -> its definition."""


def _batch_norm(
    inputs: Tensor, weight: Tensor | None, bias: Tensor | None, mean: Tensor, variance: Tensor, *numbers: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Batch norm in eval mode by its definition: torch's has no rule for vmap. numbers: momentum and epsilon."""
    scale = (variance + numbers[1]).rsqrt() * (1 if weight is None else weight)
    shift = -mean * scale + (0 if bias is None else bias)
    channels = (-1, *(1,) * (inputs.ndim - 2))
    empty = inputs.new_empty(0)
    return inputs * scale.reshape(channels) + shift.reshape(channels), empty, empty


def _copy(target: Tensor, source: Tensor, non_blocking: bool = False) -> Tensor:
    """A copy, functionalised: torch has no derivative of it."""
    return source.to(target.dtype).expand_as(target)


ATEN_DEFINITIONS: dict[object, Callable[..., Any]] = {
    aten.prelu.default: prelu,
    aten.view.default: aten.reshape.default,
    aten.copy.default: _copy,
    aten._native_batch_norm_legit_no_training.default: _batch_norm,
    aten.embedding.default: DEFINITIONS[torch.embedding],
    aten.cdist.default: cdist,
    aten.hardsigmoid.default: hardsigmoid,
    aten.cosine_similarity.default: cosine_similarity,
    aten.sinc.default: sinc,
    **{
        form: _recurrent(form, operators)
        for operators in RECURRENT.values()
        for form in (operators.input, operators.data)
    },
}
"""Operator of a captured graph -> its definition, also where torch's derivative is only slow under vmap."""
