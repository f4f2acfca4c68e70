"""Whether second derivatives of a subject's network are right, and by which method: found once a subject.

Torch's rules for forward derivatives are wrong for some operators and missing for others. H v by the default method is
compared with two plain backward passes: u . H v = v . H u for random vectors, and the same gradient. It has to be
symmetric. Only where that fails, or raises, the other methods are tried (see `method_search`).

That takes a few examples. Some operators have no derivative at single points, as the norm of a vector of zeros, where
torch's rules give numbers that are wrong, or none: examples on which they do are tried as well.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from sharpbench.core.measure import NotApplicable
from sharpbench.core.operator_survey import MAX_COMPARED
from sharpbench.core.requirements import COMPARED, TOGETHER, is_out_of_memory, spread_places
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
    if survey_operators(subject).verified:
        return Soundness(METHODS[0])
    surrogate = gradient_kind(subject).surrogate
    found = Soundness(METHODS[0]) if default_method_agrees(subject) else search_method(subject, surrogate=surrogate)
    singular = _singular_examples(subject, found.method)
    if not len(singular):
        return found
    tried = search_method(subject, surrogate=surrogate, more=singular)
    if tried.method is not None:
        return tried
    where = f"example {int(singular[0])} is where an operator has no finite derivative, as a norm or a root at 0"
    return Soundness(None, tuple(f"{reason} ({where})" for reason in tried.reasons))


def _singular_examples(subject: Subject, method: DerivativeMethod | None) -> Tensor:
    """The places of examples, at most COMPARED, on which gradients are finite and second derivatives are not, by plain
    backward passes or by `method`; of a batch, at least TOGETHER and at most MAX_COMPARED, spread over the data.

    Cost: two products with the Hessian of these examples; none where all operators have finite derivatives.
    """
    none = torch.empty(0, dtype=torch.long)
    if method is None or survey_operators(subject).finite:
        return none
    places = spread_places(subject.n, min(MAX_COMPARED, max(TOGETHER, subject.batch_size)))
    along = _repeated(subject.params, 0)

    def regular(some: Tensor) -> bool:
        function = probed_loss(subject, method.network(subject), some.to(subject.device))
        with method.operators():
            gradient, products = plain_hvps(function, subject.params, [along])
            products += [] if method.plain else [method.hvp(function, subject.params, along)]
        return all(map(_is_finite, products)) or (len(some) == 1 and not _is_finite(gradient))

    try:
        found = [each for some in places.split(subject.batch_size) if not regular(some) for each in some.split(1)]
        return torch.cat([none, *[each for each in found if not regular(each)][:COMPARED]])
    except Exception as error:  # torch cannot differentiate twice so, which the comparison has found
        if is_out_of_memory(error):
            raise
        return none


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


def _is_finite(params: Params) -> bool:
    return all(bool(value.isfinite().all()) for value in params.values())


def _norm(params: Params) -> Tensor:
    return inner_product(params, params).sqrt()
