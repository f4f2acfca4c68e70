"""The copy of a network that a library is given, and the settings that are restored when it has finished."""

from __future__ import annotations

import contextlib
import copy
import traceback
import warnings
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from sharpbench import InvalidInput, NotApplicable, Subject
from sharpbench_peers.library import Library

Batches = list[tuple[Tensor, Tensor]]
T = TypeVar("T")
OUR_PACKAGES = ("sharpbench", "sharpbench_peers")
_prepared: weakref.WeakKeyDictionary[Subject, dict[Callable[[Subject], Any], Any]] = weakref.WeakKeyDictionary()


@dataclass(frozen=True, slots=True, eq=False)
class Handover:
    """A network that a library may modify, with its loss and its examples.

    Args:
        module: a private copy in eval mode with the subject's weights, dtype and device. Exactly the parameters under
            measurement require gradients.
        batches: the subject's batches, in its order.
        loss: the mean over the examples of a batch.
        seed: the seed for a library that takes one. torch's generators are already seeded with it.
    """

    module: nn.Module
    batches: Batches
    loss: nn.CrossEntropyLoss | nn.MSELoss
    seed: int

    @property
    def parameters(self) -> dict[str, nn.Parameter]:
        """The parameters under measurement by name, in the subject's order."""
        return measured_parameters(self.module)

    def by_name(self, flat: Tensor) -> dict[str, Tensor]:
        """The entries of a vector over all parameters under measurement, shaped like them."""
        parameters = self.parameters
        parts = flat.split([value.numel() for value in parameters.values()])
        return {
            name: part.reshape(value.shape).detach()
            for (name, value), part in zip(parameters.items(), parts, strict=True)
        }


@contextmanager
def handover(subject: Subject, library: Library, *, generator: torch.Generator | None) -> Iterator[Handover]:
    """The Handover of `subject`, valid within the block.

    Within the block gradients are enabled, the default dtype is the subject's (two libraries make tensors of it),
    attention uses the back end that can be differentiated twice, and torch's generators are seeded. Afterwards all of
    these settings are restored.

    Args:
        subject: the network and its examples.
        library: the library that is called.
        generator: where the seed comes from; None for a library that draws nothing.

    Raises:
        NotApplicable: for a loss that libraries do not know, and for an error of the library, with the first line of
            its message. Errors raised by the adapter itself are not converted.
    """
    if subject.criterion.kind not in ("cross_entropy", "mse"):
        raise NotApplicable(f"{library.title} knows cross entropy and mse, not the loss '{subject.criterion.title}'")
    _plain_inputs(subject)
    device = subject.device
    seed = 0 if generator is None else int(torch.randint(2**31, (), generator=generator))
    usual, fused = torch.get_default_dtype(), torch.backends.mha.get_fastpath_enabled()
    try:
        with (
            torch.enable_grad(),
            torch.random.fork_rng(devices=[device] if device.type == "cuda" else []),
            sdpa_kernel(SDPBackend.MATH),
            warnings.catch_warnings(),
        ):
            for message in library.warns:
                warnings.filterwarnings("ignore", message=message)
            torch.manual_seed(seed)
            torch.set_default_dtype(next(iter(subject.params.values())).dtype)
            torch.backends.mha.set_fastpath_enabled(False)
            yield Handover(
                take_prepared(subject, copy_module),
                take_prepared(subject, _copy_examples),
                nn.CrossEntropyLoss() if subject.criterion.kind == "cross_entropy" else nn.MSELoss(),
                seed,
            )
    except (NotApplicable, InvalidInput, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # libraries raise errors of many types on unknown networks
        if "can't allocate memory" in str(error) or is_own_error(error, library):
            raise
        raise NotApplicable(f"{library.title} raises {describe_error(error)}") from error
    finally:
        torch.set_default_dtype(usual)
        torch.backends.mha.set_fastpath_enabled(fused)


def prepare(subject: Subject, *forms: Callable[[Subject], object]) -> None:
    """Make the copies for the next call on `subject`, and the first of the `forms` that can be made.

    This is the adapters' `Measure.prepare`. A form that raises NotApplicable is stored, and the next call raises it; a
    form that fails for another reason is left to the next call.
    """
    prepared = _prepared.setdefault(subject, {})
    with torch.enable_grad():
        for make in (copy_module, _copy_examples):
            with contextlib.suppress(Exception):
                prepared[make] = make(subject)
        for form in forms:
            try:
                prepared[form] = form(subject)
            except NotApplicable as refusal:
                prepared[form] = refusal.with_traceback(None)  # a traceback would keep the subject alive
            except Exception:
                continue
            else:
                return


def take_prepared(subject: Subject, make: Callable[[Subject], T]) -> T:
    """The prepared result of `make(subject)`, or a new one. It is used once, as a library may write to it."""
    prepared = _prepared.get(subject, {})
    result: T = prepared.pop(make) if make in prepared else make(subject)
    if isinstance(result, NotApplicable):
        raise result
    return result


def measured_parameters(module: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters under measurement of a module from `copy_module`, by name."""
    return {name: value for name, value in module.named_parameters() if value.requires_grad}


def is_own_error(error: Exception, library: Library) -> bool:
    """Whether our code raised the error, not the library or torch called by it."""
    frames = [frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_tb(error.__traceback__)]
    return library.package not in OUR_PACKAGES and bool(frames) and frames[-1].partition(".")[0] in OUR_PACKAGES


def describe_error(error: Exception) -> str:
    """The type of an error and the first line of its message."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__


def check_finite(value: float, library: Library) -> float:
    """The value. Raises NotApplicable if it is not finite."""
    if value != value or value in (float("inf"), float("-inf")):
        raise NotApplicable(f"{library.title} gives {value}")
    return value


def copy_module(subject: Subject) -> nn.Module:
    """A copy of the module with its own tensors, which hold the subject's values."""
    module = copy.deepcopy(subject.module).eval()
    for name, parameter in module.named_parameters():
        value = subject.params.get(name, subject.constants.get(name, parameter))
        parameter.data = value.detach().clone()
        parameter.grad = None
        parameter.requires_grad_(name in subject.params)
    for name, buffer in module.named_buffers():
        buffer.data = subject.constants.get(name, buffer).detach().clone()
    return module


def _copy_examples(subject: Subject) -> Batches:
    batches = zip(
        _plain_inputs(subject).split(subject.batch_size), subject.targets.split(subject.batch_size), strict=True
    )
    return [(inputs.clone(), targets.clone()) for inputs, targets in batches]


def _plain_inputs(subject: Subject) -> torch.Tensor:
    """The inputs as one tensor. Raises NotApplicable where the network takes several, or is called by `forward`."""
    if subject.forward is not None or not isinstance(subject.inputs, torch.Tensor):
        raise NotApplicable("adapters of other libraries take networks of one tensor, called as model(inputs)")
    return subject.inputs
