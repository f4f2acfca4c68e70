"""Whether second derivatives of a subject's network are right, and by which method: found once a subject.

Torch's rules for forward derivatives are wrong for some operators and missing for others. H v by the default method is
compared with two plain backward passes: u . H v = v . H u for random vectors, and the same gradient. It has to be
symmetric. Only where that fails, or raises, the other methods are tried (see `method_search`).
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from sharpbench.core.measure import NotApplicable
from sharpbench.core.subject import Params, Subject
from sharpbench.curvature.all_examples import check_batches
from sharpbench.curvature.derivative_methods import DOUBLE_BACKWARD, DRAWN, METHODS, DerivativeMethod, probed_loss
from sharpbench.curvature.first_derivatives import EXAMPLES, TOLERANCES, gradient_method, same_gradient
from sharpbench.curvature.method_search import Soundness, search_method
from sharpbench.curvature.plain import inner_product, plain_hvps
from sharpbench.curvature.surrogates import choose_compared, gradient_kind, survey_operators


def soundness(subject: Subject) -> Soundness:
    """By which method second derivatives of this network are right; not computed again for `fresh` subjects."""
    return subject.settled(_soundness)


def sound_method(subject: Subject) -> DerivativeMethod:
    """The method of `soundness`; noted in the estimate's details where it is not the default.

    Raises NotApplicable where second derivatives are right by no method.
    """
    gradient_kind(subject)
    check_batches(subject)
    found = soundness(subject)
    if found.method is None:
        raise NotApplicable(f"second derivatives of this network are right by no method: {found.reasons[0]}")
    return _noted(subject, found)


def jacobian_method(subject: Subject) -> DerivativeMethod:
    """The same for products with the network's Jacobian, which plain backward passes have where it has no Hessian."""
    gradient_method(subject)
    found = soundness(subject)
    return _noted(subject, found if found.method else replace(found, method=DOUBLE_BACKWARD))


def _noted(subject: Subject, found: Soundness) -> DerivativeMethod:
    assert found.method is not None
    if found.method != METHODS[0]:
        subject.notes["derivatives"] = found.method.name
    return found.method


def _soundness(subject: Subject) -> Soundness:
    if survey_operators(subject).verified or default_method_agrees(subject):
        return Soundness(METHODS[0])
    return search_method(subject, surrogate=gradient_kind(subject).surrogate)


def default_method_agrees(subject: Subject) -> bool:
    """Whether the default method and plain backward passes agree on a few examples; False decides nothing."""
    places = choose_compared(subject, EXAMPLES)
    function = probed_loss(subject, subject.apply, places)
    params = subject.params
    u, v, w = (_repeated(params, seed) for seed in range(3))
    try:
        gradient = torch.func.grad(function)(params)
        hv, hw = METHODS[0].hvps(function, params, [v, w])
        plain, (hu,) = plain_hvps(function, params, [u])
    except Exception:  # whatever torch, or the network's own code, raises
        return False
    tolerance = TOLERANCES.get(next(iter(params.values())).dtype, 0.1)
    if not same_gradient(gradient, plain):
        return False
    size = max(float(_norm(product)) for product in (hu, hv, hw))
    pairs = ((u, hv, v, hu), (u, hw, w, hu), (w, hv, v, hw))  # the last for symmetry: the others hold for H and H^T
    gaps = [float(inner_product(a, b)) - float(inner_product(c, d)) for a, b, c, d in pairs]
    return all(abs(gap) <= tolerance * max(size, 1e-30) for gap in gaps)


def _repeated(params: Params, seed: int) -> Params:
    """A random direction of the parameters' shapes, made of few random numbers."""
    drawn = torch.randn(DRAWN, generator=torch.Generator().manual_seed(seed))
    result, start = {}, 0
    for name, value in params.items():
        count = value.numel()
        repeats = -(-count // DRAWN)
        result[name] = drawn.roll(-start).to(value).repeat(repeats)[:count].reshape(value.shape)
        start += count
    return result


def _norm(params: Params) -> Tensor:
    return inner_product(params, params).sqrt()
