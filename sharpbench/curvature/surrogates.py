"""Gradients that are not those of the loss: straight-through, clipped, scaled and reversed ones.

A gradient that a network's code sets to 0, or passes through a step function, is that of a surrogate of the loss, and
the Hessian of the surrogate is another quantity: `details.gradient` says so. Gradients that are scaled, reversed or
changed by hooks are those of no function that has the network's values: such a network is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from sharpbench.core.measure import NotApplicable
from sharpbench.core.operator_survey import MAX_COMPARED, OperatorSurvey, autograd_nodes
from sharpbench.core.requirements import COMPARED, is_out_of_memory, spread_places
from sharpbench.core.subject import Params, Subject
from sharpbench.curvature.plain import as_leaves, differentiated, inner_product, plain_gradient, plain_vjp

MAX_CALLS, MAX_ENTRIES = 4, 16
"""Calls of one autograd.Function that are compared with differences, and entries of the input of each."""
STEPS = (1e-4, 1e-5)
"""Steps of the differences, relative to the size of what is moved. Where they disagree, they say nothing."""
TOLERANCE = 1e-2
"""Derivatives that differ by this share are others; code that computes in float32 inside is this exact."""


@dataclass(frozen=True, slots=True)
class GradientKind:
    """surrogate: whether the gradient is not that of the loss. refusal: why it is that of no function, or ''."""

    surrogate: bool = False
    refusal: str = ""


def survey_operators(subject: Subject) -> OperatorSurvey:
    """What the network and its loss consist of. Raises NotApplicable where they cannot be differentiated."""
    with differentiated():
        return subject.operators


def choose_compared(subject: Subject, usual: int) -> Tensor:
    """The places of the examples on which derivatives are compared, spread over the data: `usual`, or a batch."""
    count = survey_operators(subject).count_compared(usual, subject.batch_size)
    return spread_places(subject.n, count).to(subject.device)


def compared_chunks(subject: Subject, usual: int) -> list[Tensor]:
    """The same places in one chunk; all places in several, where the network's code has derivatives of its own."""
    if not survey_operators(subject).own_rules:
        return [choose_compared(subject, usual)]
    places = torch.arange(subject.n, device=subject.device)
    return list(places.split(min(subject.batch_size, MAX_COMPARED)))


def gradient_kind(subject: Subject) -> GradientKind:
    """What the gradient of the subject's loss is; noted in the estimate's details where it is a surrogate's.

    Found once a subject: on a few examples, or on all where the network's code has derivatives of its own. Raises
    NotApplicable where the gradient is scaled, reversed or hooked.
    """
    found = subject.settled(_gradient_kind)
    if found.refusal:
        raise NotApplicable(f"the gradient disagrees with differences of the loss: {found.refusal}")
    if found.surrogate:
        subject.notes["gradient"] = "surrogate"
    return found


def _gradient_kind(subject: Subject) -> GradientKind:
    if not survey_operators(subject).redefined:
        return GradientKind()
    try:
        return _compare(subject.to(dtype=torch.float64))
    except Exception as error:  # the network does not run in float64
        if is_out_of_memory(error):
            raise
        with differentiated():
            return _compare(subject)


def _compare(subject: Subject) -> GradientKind:
    surrogate = False
    for number, places in enumerate(compared_chunks(subject, COMPARED)):
        found = _compare_on(subject, places, calls=number == 0)
        if found.refusal:
            return found
        surrogate = surrogate or found.surrogate
    return GradientKind(surrogate)


def _compare_on(subject: Subject, places: Tensor, *, calls: bool) -> GradientKind:
    """The same on these examples; calls: compare single calls of Functions as well."""
    inputs, targets = subject.pick(places)

    def loss(params: Params) -> Tensor:
        return subject.criterion(subject.apply(params, inputs), targets).mean()

    leaves, recorded = as_leaves(subject.params), list[_Call]()
    with torch.enable_grad():
        value = loss(leaves)
    gradient = plain_vjp(value, leaves)
    functions = _functions(value) if calls else set()
    if functions:
        with _recorded_calls(functions, recorded), torch.enable_grad():
            loss(leaves)
    found = [_compare_call(call) for call in recorded]
    for kind in found:
        if kind.refusal:
            return kind
    if _changed_by_hooks(loss, subject.params, gradient):
        return GradientKind(refusal="a hook changes it; remove the hook")
    return GradientKind(any(kind.surrogate for kind in found) or _differs(loss, subject.params, gradient))


def _differs(loss: Callable[[Params], Tensor], params: Params, gradient: Params) -> bool:
    """Whether the loss changes otherwise than its gradient says, along a direction of the entries whose slope is not 0.

    A weight whose slope is exactly 0, such as the row of a padding, is a constant by its network's code.
    """
    generator = torch.Generator().manual_seed(0)
    direction = {}
    for name, value in params.items():
        drawn = torch.randn(value.shape, generator=generator, dtype=torch.float64).to(value)
        direction[name] = drawn * (gradient[name] != 0) * (float(value.square().mean().sqrt()) or 0.1)
    wanted = float(inner_product(gradient, direction))

    def along(step: float) -> float:
        with torch.enable_grad():  # some networks differentiate inside
            ahead, back = (
                float(loss({name: value + sign * step * direction[name] for name, value in params.items()}).detach())
                for sign in (1, -1)
            )
        return (ahead - back) / (2 * step)

    return all(abs(along(step) - wanted) > 1e-3 * max(abs(wanted), 1e-6) for step in STEPS)


class _Unhooked(TorchFunctionMode):
    """Inside, hooks on tensors are not registered."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        return func(args[0], lambda slope: None) if func is Tensor.register_hook else func(*args, **(kwargs or {}))


@contextmanager
def _without_module_hooks() -> Iterator[None]:
    """Inside, modules have no backward hooks."""
    names: dict[str, object] = {"_get_backward_hooks": ([], []), "_get_backward_pre_hooks": []}
    own = {name: getattr(nn.Module, name) for name in names}
    try:
        for name, none in names.items():
            setattr(nn.Module, name, lambda module, none=none: none)
        yield
    finally:
        for name, method in own.items():
            setattr(nn.Module, name, method)


def _changed_by_hooks(loss: Callable[[Params], Tensor], params: Params, gradient: Params) -> bool:
    with _Unhooked(), _without_module_hooks():
        other = plain_gradient(loss, params)
    return any(not torch.allclose(other[name], value, rtol=1e-6, atol=1e-12) for name, value in gradient.items())


@dataclass(frozen=True, slots=True, eq=False)
class _Call:
    """A call of an autograd.Function, with copies of its arguments."""

    function: type[torch.autograd.Function]
    arguments: tuple[Any, ...]

    def outputs(self, moved: Mapping[int, Tensor]) -> list[Tensor]:
        """The results that have derivatives, with some arguments replaced."""
        given = [moved.get(place, each) for place, each in enumerate(self.arguments)]
        given = [each.clone() if isinstance(each, Tensor) else each for each in given]
        result = self.function.apply(*given)
        every = result if isinstance(result, tuple) else (result,)
        return [each for each in every if isinstance(each, Tensor) and each.is_floating_point()]


def _functions(value: Tensor) -> set[type[torch.autograd.Function]]:
    """The classes of the Functions that a value was computed by, but torch's own."""
    nodes = (type(node) for node in autograd_nodes(value))
    found = {node._forward_cls for node in nodes if issubclass(node, torch.autograd.function.BackwardCFunction)}  # type: ignore[attr-defined]
    return {each for each in found if not each.__module__.startswith("torch.")}


@contextmanager
def _recorded_calls(functions: Iterable[type[torch.autograd.Function]], calls: list[_Call]) -> Iterator[None]:
    """Inside, the calls of these Functions are recorded, up to MAX_CALLS of each."""
    own = {each: each.__dict__.get("forward") for each in functions}
    try:
        for each in own:
            each.forward = staticmethod(_recorder(each, calls))  # type: ignore[method-assign]
        yield
    finally:
        for each, forward in own.items():
            if forward is None:
                del each.forward
            else:
                each.forward = forward  # type: ignore[method-assign]


def _recorder(function: type[torch.autograd.Function], calls: list[_Call]) -> Callable[..., Any]:
    """The forward pass of a Function that appends its arguments to `calls`."""
    original = function.forward
    takes_context = function.setup_context is torch.autograd.Function.setup_context

    def forward(*arguments: Any) -> Any:
        if sum(call.function is function for call in calls) < MAX_CALLS:
            given = arguments[1:] if takes_context else arguments
            kept = (each.detach().clone() if isinstance(each, Tensor) else each for each in given)
            calls.append(_Call(function, tuple(kept)))
        return original(*arguments)

    return forward


def _compare_call(call: _Call) -> GradientKind:
    """What the backward pass of a Function gives, entry by entry, compared with differences of its forward pass."""
    try:
        pairs = list(_derivatives(call))
    except Exception as error:  # the Function does not take these arguments again
        if is_out_of_memory(error):
            raise
        return GradientKind()
    size = max((max(abs(given), abs(wanted)) for given, wanted in pairs), default=0.0)
    others = [pair for pair in pairs if abs(pair[0] - pair[1]) > TOLERANCE * max(*map(abs, pair), 1e-3 * size)]
    if any(given != 0 and wanted != 0 for given, wanted in others):
        name = call.function.__name__
        return GradientKind(refusal=f"the backward pass of {name} is not the derivative of its forward pass")
    return GradientKind(surrogate=bool(others))


def _derivatives(call: _Call) -> Iterator[tuple[float, float]]:
    """By its backward pass and by differences, of a random combination of the results by entries of the arguments."""
    tensors = {
        place: each
        for place, each in enumerate(call.arguments)
        if isinstance(each, Tensor) and each.is_floating_point() and each.numel()
    }
    leaves = as_leaves({str(place): each for place, each in tensors.items()})
    generator = torch.Generator().manual_seed(0)
    with torch.enable_grad():
        results = call.outputs({place: leaves[str(place)] for place in tensors})
        kept = [place for place, each in enumerate(results) if each.requires_grad]
        factors = [torch.randn(results[place].shape, generator=generator).to(results[place]) for place in kept]
        value = sum((results[place] * factor).sum() for place, factor in zip(kept, factors, strict=True))
        assert isinstance(value, Tensor)
        slopes = torch.autograd.grad(value, list(leaves.values()), allow_unused=True, materialize_grads=True)

    def combined(moved: Mapping[int, Tensor]) -> float:
        found = call.outputs(moved)
        return sum(float((found[place] * factor).sum()) for place, factor in zip(kept, factors, strict=True))

    for slope, (place, given) in zip(slopes, tensors.items(), strict=True):
        size = float(given.abs().max()) or 1.0
        for entry in spread_places(given.numel(), MAX_ENTRIES).tolist():
            unit = torch.zeros_like(given).flatten()
            unit[entry] = size
            unit = unit.reshape(given.shape)
            found = [
                (combined({place: given + step * unit}) - combined({place: given - step * unit})) / (2 * step * size)
                for step in STEPS
            ]
            if abs(found[0] - found[1]) <= 1e-3 * max(*map(abs, found)):
                yield float(slope.flatten()[entry]), found[1]
