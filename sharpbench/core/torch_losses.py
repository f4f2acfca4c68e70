"""Losses of torch.nn as closed forms."""

from __future__ import annotations

import math
from functools import partial
from typing import cast

from torch import Tensor, nn

from sharpbench.core import pointwise
from sharpbench.core.output_losses import ClosedForm, ElementwiseLoss, GaussianLoss, SoftmaxLoss
from sharpbench.errors import InvalidInput

SQUARED = ElementwiseLoss(pointwise.squared_error, pointwise.constant_second, likelihood=True)
BINARY = ElementwiseLoss(
    pointwise.binary_cross_entropy, pointwise.binary_cross_entropy_second, least=0, most=1, likelihood=True
)
ABSOLUTE = ElementwiseLoss(pointwise.absolute_error, pointwise.zero_second, curved=False)
SEVERAL_OUTPUTS = (
    *(nn.CosineEmbeddingLoss, nn.MarginRankingLoss, nn.TripletMarginLoss, nn.TripletMarginWithDistanceLoss),
    nn.CTCLoss,
)
"""Losses of several tensors, of which a network's output is only one."""


def closed_form(module: nn.Module) -> ClosedForm | None:
    """The closed form of a loss of torch.nn, None where there is none: then it is a callable.

    Raises InvalidInput for reduction='sum', for arguments out of range, and for losses that take more than one output
    and one target.
    """
    if isinstance(module, SEVERAL_OUTPUTS):
        raise InvalidInput(
            f"loss '{type(module).__name__}' takes several outputs of a network; give a callable (outputs, targets) -> "
            "losses [B], one an example"
        )
    make = _FORMS.get(type(module))  # a subclass may compute something else
    if make is None or module.reduction == "none":
        return None
    if module.reduction != "mean":
        raise InvalidInput(
            f"loss '{type(module).__name__}' has reduction='{module.reduction}'; measures are of a mean over examples: "
            "use reduction='mean', and multiply the value by torch's divisor for that of the sum"
        )
    _check_arguments(module)
    return make(module)


_LEAST_AND_MOST = {
    "weight": (0.0, math.inf),
    "pos_weight": (0.0, math.inf),
    "label_smoothing": (0.0, 1.0),
    "delta": (math.ulp(0.0), math.inf),
    "beta": (0.0, math.inf),
    "eps": (math.ulp(0.0), math.inf),
}
"""The arguments of losses and their finite range. A weight below 0 makes a loss without a lower bound."""


def _check_arguments(module: nn.Module) -> None:
    for name, (least, most) in _LEAST_AND_MOST.items():
        given = getattr(module, name, None)
        for value in given.flatten().tolist() if isinstance(given, Tensor) else [] if given is None else [given]:
            if not (least <= value <= most and math.isfinite(value)):
                bounds = "in 0 to 1" if most == 1 else f"{'at least' if least == 0 else 'above'} 0 and finite"
                raise InvalidInput(f"loss '{type(module).__name__}' has {value:g} in {name}=; it must be {bounds}")


def _softmax(module: nn.Module) -> ClosedForm:
    loss = cast(nn.CrossEntropyLoss, module)
    return SoftmaxLoss(
        loss.weight,
        loss.ignore_index,
        getattr(loss, "label_smoothing", 0.0),
        log_outputs=type(module) is nn.NLLLoss,
    )


def _binary(module: nn.Module) -> ClosedForm:
    loss = cast(nn.BCEWithLogitsLoss, module)
    return ElementwiseLoss(
        BINARY.value,
        BINARY.second,
        loss.weight,
        least=0,
        most=1,
        likelihood=True,
        target_weight=loss.pos_weight,
    )


def _huber(module: nn.Module) -> ClosedForm:
    delta = cast(nn.HuberLoss, module).delta
    return ElementwiseLoss(partial(pointwise.huber, delta=delta), partial(pointwise.huber_second, delta=delta))


def _smooth_l1(module: nn.Module) -> ClosedForm:
    beta = cast(nn.SmoothL1Loss, module).beta
    if beta == 0:
        return ABSOLUTE
    return ElementwiseLoss(partial(pointwise.smooth_l1, beta=beta), partial(pointwise.smooth_l1_second, beta=beta))


def _poisson(module: nn.Module) -> ClosedForm:
    loss = cast(nn.PoissonNLLLoss, module)
    if loss.log_input:
        value = partial(pointwise.poisson, full=loss.full)
        return ElementwiseLoss(value, pointwise.poisson_second, least=0, likelihood=True)
    rate = partial(pointwise.poisson_rate, eps=loss.eps, full=loss.full)
    return ElementwiseLoss(rate, partial(pointwise.poisson_rate_second, eps=loss.eps), least=0)


def _gaussian(module: nn.Module) -> ClosedForm:
    loss = cast(nn.GaussianNLLLoss, module)
    return GaussianLoss(loss.eps, loss.full)


_FORMS = {
    nn.CrossEntropyLoss: _softmax,
    nn.NLLLoss: _softmax,
    nn.BCEWithLogitsLoss: _binary,
    nn.MSELoss: lambda module: SQUARED,
    nn.L1Loss: lambda module: ABSOLUTE,
    nn.HuberLoss: _huber,
    nn.SmoothL1Loss: _smooth_l1,
    nn.PoissonNLLLoss: _poisson,
    nn.GaussianNLLLoss: _gaussian,
}
