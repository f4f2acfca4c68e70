"""First derivatives of a subject's network: by torch.func, or by plain backward passes where it cannot follow."""

from __future__ import annotations

import torch
from torch import Tensor

from sharpbench.core.requirements import is_out_of_memory
from sharpbench.core.subject import Params, Subject
from sharpbench.curvature.all_examples import check_batches
from sharpbench.curvature.derivative_methods import DOUBLE_BACKWARD, METHODS, DerivativeMethod, probed_loss
from sharpbench.curvature.plain import differentiated, plain_gradient
from sharpbench.curvature.surrogates import choose_compared, gradient_kind, survey_operators

EXAMPLES = 2
"""Examples on which torch.func is compared with a plain backward pass, the first and the last."""
TOLERANCES = {torch.float64: 1e-8, torch.float32: 1e-3}
"""Gradients may differ by this share of their largest entry."""


def gradient_method(subject: Subject) -> DerivativeMethod:
    """By which method first derivatives of this network are what a plain backward pass gives; found once a subject.

    Noted in the estimate's details where it is not the default.

    Raises:
        NotApplicable: where the network cannot be differentiated, or its gradient is scaled, reversed or hooked.

    Cost: four gradients of two examples at the first call; none where all operators are verified.

    >>> method = curvature.gradient_method(subject)
    >>> gradient, loss = method.gradient_and_value(subject.loss, subject.params)
    >>> gradient["bias"], round(float(loss), 6)
    (tensor([-0.5000,  0.5000], dtype=torch.float64), 0.693147)
    """
    gradient_kind(subject)
    check_batches(subject)
    method = subject.settled(_gradient_method)
    if method.plain:
        subject.notes.setdefault("derivatives", "plain backward passes")
    return method


def _gradient_method(subject: Subject) -> DerivativeMethod:
    if survey_operators(subject).verified:
        return METHODS[0]
    function = probed_loss(subject, subject.apply, choose_compared(subject, EXAMPLES))
    with differentiated():
        plain = plain_gradient(function, subject.params)
    try:
        found = METHODS[0].gradient_and_value(function, subject.params)[0]
    except Exception as error:  # whatever torch, or the network's own code, raises
        if is_out_of_memory(error):
            raise
        return DOUBLE_BACKWARD
    return METHODS[0] if same_gradient(found, plain) else DOUBLE_BACKWARD


def same_gradient(one: Params, other: Params) -> bool:
    """Whether two gradients differ by rounding only, each tensor relative to its largest entry."""

    def near(name: str, value: Tensor) -> bool:
        gap, size = float((value - other[name]).abs().max()), float(other[name].abs().max())
        return gap <= TOLERANCES.get(value.dtype, 0.1) * max(size, 1e-30) or (gap != gap and size != size)

    return all(near(name, value) for name, value in one.items())
