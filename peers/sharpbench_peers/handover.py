"""Handover: what a library is handed of a subject, and what is put back when it is done."""

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
OURS = ("sharpbench", "sharpbench_peers")
_prepared: weakref.WeakKeyDictionary[Subject, dict[Callable[[Subject], Any], Any]] = weakref.WeakKeyDictionary()


@dataclass(frozen=True, slots=True, eq=False)
class Handover:
    """A network that the library may do with what it likes, its loss and its examples.

    module: a private copy in eval mode at the subject's weights, type and device; exactly the parameters under
    measurement require gradients. batches: the subject's, in its order. loss: of a batch, the mean over its
    examples. seed: for a library that takes one; torch's own generators are seeded with it already.
    """

    module: nn.Module
    batches: Batches
    loss: nn.CrossEntropyLoss | nn.MSELoss
    seed: int

    @property
    def parameters(self) -> dict[str, nn.Parameter]:
        """Those under measurement, by name, in the subject's order."""
        return measured(self.module)

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
    """The Handover of `subject`, as long as the block lasts. generator: None for what draws nothing.

    Inside: gradients are on, the default type is the subject's (two libraries make tensors of it), attention runs
    on the back end that can be differentiated twice, torch's generators are seeded from `generator`. Afterwards
    all of that is as before. What the library raises becomes NotApplicable with the first line of its reason; what
    the adapter's own lines raise is not the library's fault, and stays what it is.
    """
    if subject.criterion.kind == "custom":
        raise NotApplicable(f"{library.title} knows cross entropy and mse, not the loss '{subject.criterion.name}'")
    device = subject.inputs.device
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
                made(subject, private),
                made(subject, _examples),
                nn.CrossEntropyLoss() if subject.criterion.kind == "cross_entropy" else nn.MSELoss(),
                seed,
            )
    except (NotApplicable, InvalidInput, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # whatever a library raises on a network that it does not know
        if "can't allocate memory" in str(error) or own(error, library):
            raise
        raise NotApplicable(f"{library.title} raises {reason(error)}") from error
    finally:
        torch.set_default_dtype(usual)
        torch.backends.mha.set_fastpath_enabled(fused)


def prepare(subject: Subject, *forms: Callable[[Subject], object]) -> None:
    """Make for the next call on `subject` what is handed over, and the first of the `forms` that can be made;
    `Measure.prepare` of the adapters.

    A form's refusal is kept, and stated by that call; what cannot be made for another reason is left to it.
    """
    ready = _prepared.setdefault(subject, {})
    with torch.enable_grad():
        for make in (private, _examples):
            with contextlib.suppress(Exception):
                ready[make] = make(subject)
        for form in forms:
            try:
                ready[form] = form(subject)
            except NotApplicable as refusal:
                ready[form] = refusal.with_traceback(None)  # which would keep the subject, and so this very entry
            except Exception:
                continue
            else:
                return


def made(subject: Subject, make: Callable[[Subject], T]) -> T:
    """`make(subject)`, prepared or made now; used up, as a library may write to what it is given."""
    ready = _prepared.get(subject, {})
    result: T = ready.pop(make) if make in ready else make(subject)
    if isinstance(result, NotApplicable):
        raise result
    return result


def measured(module: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters under measurement of a `private` module, by name."""
    return {name: value for name, value in module.named_parameters() if value.requires_grad}


def own(error: Exception, library: Library) -> bool:
    """Whether a line of ours raised it, not one of the library, or of torch on its behalf."""
    frames = [frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_tb(error.__traceback__)]
    return library.package not in OURS and bool(frames) and frames[-1].partition(".")[0] in OURS


def reason(error: Exception) -> str:
    """The kind of an error and the first line that it says."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__


def finite(value: float, library: Library) -> float:
    """`value`; NotApplicable where it is none."""
    if value != value or value in (float("inf"), float("-inf")):
        raise NotApplicable(f"{library.title} gives {value}")
    return value


def private(subject: Subject) -> nn.Module:
    """A copy of the module that holds the subject's values in tensors of its own."""
    module = copy.deepcopy(subject.module).eval()
    for name, parameter in module.named_parameters():
        value = subject.params.get(name, subject.constants.get(name, parameter))
        parameter.data = value.detach().clone()
        parameter.grad = None
        parameter.requires_grad_(name in subject.params)
    for name, buffer in module.named_buffers():
        buffer.data = subject.constants.get(name, buffer).detach().clone()
    return module


def _examples(subject: Subject) -> Batches:
    return [(inputs.clone(), targets.clone()) for inputs, targets in subject.batches]
