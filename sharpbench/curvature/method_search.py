"""Which method of taking second derivatives is right for a network, where the default one is not known to be.

Each method is tried on a few examples. H v has to be finite and symmetric, and to be the change of the plain gradient
along v in float64. Where the gradient is too rough for differences, or is not the derivative of the loss, H v has to
equal two plain backward passes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sharpbench.core.requirements import COMPARED
from sharpbench.core.subject import Params, Subject
from sharpbench.curvature.derivative_methods import METHODS, DerivativeMethod, probed_loss
from sharpbench.curvature.plain import ScalarFunction, inner_product, plain_gradient, plain_hvps
from sharpbench.curvature.surrogates import choose_compared
from sharpbench.errors import one_line

STEPS = (1e-5, 3e-6)
"""Steps of the differences, relative to each parameter's size."""
SYMMETRY = {torch.float64: 3e-7, torch.float32: 6e-2}
"""u . H v - v . H u may be this share of |H v|."""
DIFFERENCE = {torch.float64: 1e-5, torch.float32: 5e-3}
"""H v may be this share of its largest entry away from differences of gradients."""
PLAIN = {torch.float64: 1e-6, torch.float32: 2e-2}
"""The same for two plain backward passes."""


@dataclass(frozen=True, slots=True)
class Soundness:
    """method: of second derivatives, None where none is right. reasons: against the methods before it."""

    method: DerivativeMethod | None
    reasons: tuple[str, ...] = ()


def search_method(subject: Subject, *, surrogate: bool, more: Tensor | None = None) -> Soundness:
    """The first of METHODS that is right.

    surrogate: the gradient is not that of the loss; then methods that agree with plain backward passes are right.
    more: places of examples that are tried by themselves, in addition to those that are spread over the data.
    """
    trials = [_Trial(subject, choose_compared(subject, COMPARED))]
    if more is not None:
        trials.append(_Trial(subject, more.to(subject.device), trials[0].reference))
    reasons: list[str] = []
    for method in METHODS:
        if trials[0].makes_sense(method):
            reason = next(filter(None, (trial.objection(method) for trial in trials)), None)
            if reason is None:
                return Soundness(method, tuple(reasons))
            reasons.append(f"{method.name}: {reason}")
    if surrogate and not any(isinstance(trial.reference, str) for trial in trials):
        trials = [trial.without_differences() for trial in trials]
        sound = [
            method
            for method in METHODS
            if trials[0].makes_sense(method) and not any(trial.objection(method) for trial in trials)
        ]
        if any(method.plain for method in sound) and all(trial.alike(sound) for trial in trials):
            return Soundness(sound[0], tuple(reasons))
    return Soundness(None, tuple(reasons))


@dataclass(frozen=True, slots=True)
class _Reference:
    """Of the plain gradient in float64: its value, its change along a direction (None: too rough), that direction in
    the subject's type, and the rounding of the change."""

    gradient: Params
    change: Params | None
    direction: Params
    rounding: float


class _Trial:
    def __init__(self, subject: Subject, places: Tensor, usual: _Reference | str | None = None) -> None:
        """usual: the reference of other examples, along whose direction these are differentiated as well."""
        self.subject, self.places = subject, places
        self.dtype = next(iter(subject.params.values())).dtype
        generator = torch.Generator().manual_seed(0)
        self.u, self.v = (
            {
                name: torch.randn(value.shape, generator=generator, dtype=torch.float64).to(value)
                for name, value in subject.params.items()
            }
            for _ in range(2)
        )
        self.reference: _Reference | str
        try:
            self.reference = usual if isinstance(usual, str) else self._reference(usual)
        except Exception as error:  # the network does not run in float64, or has no plain gradient
            self.reference = f"cannot be checked in float64: {one_line(str(error))[:120]}"

    def makes_sense(self, method: DerivativeMethod) -> bool:
        """Whether the method is another one than those before it."""
        return method.onednn or (self.subject.device.type == "cpu" and self.dtype != torch.float64)

    def objection(self, method: DerivativeMethod) -> str | None:
        """What is wrong with a method; None where nothing is."""
        subject, reference = self.subject, self.reference
        if isinstance(reference, str):
            return reference
        try:
            function = _function(subject, method, self.places)
            with method.operators():
                hv, hu, moved = method.hvps(function, subject.params, [self.v, self.u, reference.direction])
        except Exception as error:  # whatever torch, or the network's own code, raises
            return one_line(str(error))[:160]
        if not all(bool(value.isfinite().all()) for product in (hv, hu, moved) for value in product.values()):
            return "second derivatives are not finite"
        left, right = _inner(self.u, hv), _inner(self.v, hu)
        size = max(_inner(hv, hv), _inner(hu, hu)) ** 0.5
        if abs(left - right) > SYMMETRY.get(self.dtype, 1.0) * max(size, 1e-30):
            return f"products are not symmetric: u.Hv = {left:.6g}, v.Hu = {right:.6g}"
        if reference.change is None:
            return self._against_plain(method, hv)
        gap = _largest({name: moved[name].double() - value for name, value in reference.change.items()})
        scale = _largest(reference.change)
        if gap > DIFFERENCE.get(self.dtype, 0.1) * scale + reference.rounding:
            return f"H v differs from differences of gradients by {gap / max(scale, 1e-300):.1e} of it"
        return None

    def without_differences(self) -> _Trial:
        """The same trial, whose methods are held against plain backward passes only."""
        assert not isinstance(self.reference, str)
        self.reference = replace(self.reference, change=None)
        return self

    def alike(self, methods: list[DerivativeMethod]) -> bool:
        """Whether all these methods give one product."""
        found = []
        for method in methods:
            with method.operators():
                found.append(method.hvp(_function(self.subject, method, self.places), self.subject.params, self.v))
        bound = PLAIN.get(self.dtype, 0.1) * _largest(found[0])
        return all(_largest({name: each[name] - found[0][name] for name in each}) <= bound for each in found)

    def _against_plain(self, method: DerivativeMethod, hv: Params) -> str | None:
        if method.plain:
            return None
        try:
            with method.operators():
                plain = plain_hvps(_function(self.subject, METHODS[0], self.places), self.subject.params, [self.v])[1][
                    0
                ]
        except Exception as error:  # whatever torch, or the network's own code, raises
            return f"has nothing to be compared with: {one_line(str(error))[:120]}"
        gap = _largest({name: hv[name] - plain[name] for name in hv})
        if gap <= PLAIN.get(self.dtype, 0.1) * _largest(plain):
            return None
        if gap != gap:
            return "two backward passes give no finite H v, as at 0 of a norm or root"
        return f"H v differs from two backward passes by {gap:.1e}"

    def _reference(self, usual: _Reference | None) -> _Reference:
        twin = _in_float64(self.subject)
        function = _function(twin, METHODS[0], self.places)
        gradient = plain_gradient(function, twin.params)
        slopes = gradient if usual is None else usual.gradient
        # what is not trained at all (the row of a padding) is not moved: its derivative is 0 by convention
        direction = {
            name: self.v[name].double() * (slopes[name] != 0) * (float(value.square().mean().sqrt()) or 0.1)
            for name, value in twin.params.items()
        }

        def change(step: float) -> Params:
            ahead, back = (plain_gradient(function, _moved(twin.params, direction, sign * step)) for sign in (1, -1))
            return {name: (ahead[name] - back[name]) / (2 * step) for name in ahead}

        found, again = map(change, STEPS)
        rounding = 1e3 * torch.finfo(torch.float64).eps * _largest(gradient) / STEPS[1]
        rough = _largest({name: found[name] - again[name] for name in found})
        smooth = rough <= 1e-5 * _largest(found) + rounding
        own = {name: value.to(self.subject.params[name]) for name, value in direction.items()}
        return _Reference(gradient, found if smooth else None, own, rounding)


def _function(subject: Subject, method: DerivativeMethod, places: Tensor) -> ScalarFunction:
    return probed_loss(subject, method.network(subject), places)


def _in_float64(subject: Subject) -> Subject:
    return subject.to(dtype=torch.float64)


def _moved(params: Params, direction: Params, step: float) -> Params:
    return {name: value + step * direction[name] for name, value in params.items()}


def _inner(one: Params, other: Params) -> float:
    wide = [{name: value.double() for name, value in each.items()} for each in (one, other)]
    return float(inner_product(wide[0], wide[1]))


def _largest(params: Params) -> float:
    """The largest entry; NaN where one is, which Python's max would pass over."""
    return float(torch.stack([value.abs().max().double() for value in params.values()]).max())
