"""What a subject requires of a network, its examples and its loss, each refused in one line where it does not hold."""

from __future__ import annotations

import gc
import math
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from numbers import Integral
from types import CellType

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from sharpbench.core.batch import (
    Inputs,
    count_entries,
    count_examples,
    describe_form,
    list_tensors,
    read_inputs,
    split_examples,
    take_examples,
)
from sharpbench.core.loss import PerExampleLoss
from sharpbench.core.operator_survey import OperatorSurvey, SurveyMode
from sharpbench.core.precision import hold
from sharpbench.core.random_draws import generator_states, uses_random_numbers
from sharpbench.errors import InvalidInput, describe_error

Network = Callable[[dict[str, Tensor], Inputs], object]

COMPARED = 4
"""Examples, spread over the data, on which a captured graph is compared with its module."""
TOGETHER = 16
"""Examples, spread over the data, that are taken as one batch, and in halves of it."""
BATCH_BYTES = 64 * 2**20
"""The activations of one batch are kept below this: larger batches leave the caches and gain nothing."""
UNKNOWN_RESULTS = 64
"""Where it cannot be seen what a network keeps, this many times its inputs, and its parameters once."""
OUTPUT_KEYS = ("logits", "out")
"""The keys of what is measured where a network returns a dictionary, as in transformers and torchvision."""
ALONE, MAX_ALONE = 2, 64
"""Examples that are evaluated one by one, and compared with the same ones in their batch; the second number for a
network that reads values, and may branch on them."""


def check_arguments(model: object, inputs: object, targets: object, batch_size: int | None) -> Inputs:
    """The inputs as a tree. Raises InvalidInput where the arguments have other types or shapes than a subject's."""
    if not isinstance(model, nn.Module):
        raise InvalidInput(f"the model is a {type(model).__name__}; expected a torch.nn.Module")
    tree = read_inputs(inputs)
    if not isinstance(targets, Tensor):
        remedy = "; give torch.as_tensor(targets)" if type(targets).__name__ == "ndarray" else ""
        raise InvalidInput(f"targets are a {type(targets).__name__}; expected one tensor, examples first{remedy}")
    if targets.ndim == 0 or len(targets) != count_examples(tree):
        raise InvalidInput(
            f"{count_examples(tree)} inputs and targets of shape {list(targets.shape)} do not match; "
            "give one target an input"
        )
    if batch_size is not None and (not isinstance(batch_size, Integral) or batch_size < 1):
        raise InvalidInput(f"batch_size={batch_size!r} must be an integer of at least 1, or None: chosen from memory")
    for name, value in (*model.named_parameters(), *model.named_buffers()):
        if is_lazy(value):
            raise InvalidInput(f"'{name}' has no shape yet; call the network once on a batch before it is measured")
        if value.is_meta:
            raise InvalidInput(f"'{name}' is on the meta device and has no values; load the weights first")
    return tree


@dataclass(frozen=True, slots=True)
class FirstPass:
    """What one forward pass of one example shows.

    logits: detached. saved_bytes: what a backward pass would keep, besides the parameters. operators: what the network
    consists of. Both are None where it cannot be differentiated so. reads_values: see `OperatorSurvey`. results: what
    it computed on the way, in references that do not keep it. draws: whether it drew random numbers, used or not.
    """

    logits: Tensor
    reads_values: bool
    saved_bytes: int | None = None
    operators: OperatorSurvey | None = None
    results: Sequence[weakref.ref[Tensor]] = ()
    draws: bool = False


def run_first_pass(network: Network, params: dict[str, Tensor], example: Inputs, half: str = "") -> FirstPass:
    """One forward pass of `network(params, example)` for an example [1, ...].

    half: the types of half precision of its weights, which are computed in float32. Raises InvalidInput where the
    network takes or returns anything else.
    """
    weights = {value.data_ptr() for value in params.values()}
    saved, kept = 0, list[Tensor]()

    def pack(tensor: Tensor) -> int:
        """Its place in `kept`: an operator that saved its own result would keep itself alive."""
        nonlocal saved
        saved += 0 if tensor.data_ptr() in weights else tensor.numel() * tensor.element_size()
        kept.append(tensor)
        return len(kept) - 1

    leaves = {key: value.detach().requires_grad_() for key, value in params.items()}
    given, states = (*list_tensors(example), *leaves.values()), generator_states()
    with torch.enable_grad(), SurveyMode(*given) as survey:  # some networks differentiate inside
        try:
            with torch.autograd.graph.saved_tensors_hooks(pack, kept.__getitem__):
                logits = network(leaves, example)
        except Exception:  # torch.func inside the network allows no such hooks, and some have no derivative
            first = _first_logits(network, params, example, half)
            draws = survey.draws or generator_states() != states
            return FirstPass(first, survey.reads_values, draws=draws)
    checked = _checked_logits(logits, example)
    for name, leaf in leaves.items():
        if leaf.data_ptr() != params[name].data_ptr():
            raise _rewritten(name)
    operators = survey.result(checked)
    if operators.redefined and not checked.requires_grad:
        raise InvalidInput(
            "the outputs have no derivative by any parameter: forward runs under torch.no_grad, or detaches all; "
            "remove that"
        )
    kept.clear()
    draws = survey.draws or generator_states() != states
    return FirstPass(checked.detach(), survey.reads_values, saved, operators, survey.results(), draws)


def check_not_random(first: FirstPass, network: Callable[[], Tensor]) -> None:
    """Raise InvalidInput where the outputs of `network()` depend on random numbers.

    Cost: two forward passes where it draws any, else none. The process's random generators are moved.
    """
    if first.draws and uses_random_numbers(network):
        raise InvalidInput(
            "the network draws random numbers, on which its outputs depend (dropout that is always on, noise); "
            "switch them off while it is measured"
        )


def check_nothing_kept(first: FirstPass) -> None:
    """Raise InvalidInput where something that a first pass computed is held outside the network when it has ended.

    What the network stores in itself is dropped after each call. In lists and variables elsewhere the tensors of a
    derivative's trace would stay, which torch cannot use any more.
    """
    if any(known() is not None for known in first.results):
        gc.collect()  # some are only held by one another
        with _unfrozen():
            held = any(value is not None and _is_held(value) for value in (known() for known in first.results))
        if held:
            raise InvalidInput(
                "the forward pass keeps tensors outside the network, in a list, a global or what a hook writes to; "
                "remove that code or hook while it is measured"
            )


@contextmanager
def _unfrozen() -> Iterator[None]:
    """Inside, gc.get_referrers also sees what a worker froze after its imports."""
    frozen = gc.get_freeze_count()
    gc.unfreeze()
    try:
        yield
    finally:
        if frozen:
            gc.freeze()


def _is_held(value: Tensor) -> bool:
    """Whether a container or variable holds a tensor; torch itself leaks what a Function stores in its context."""
    for holder in gc.get_referrers(value):
        if isinstance(holder, dict):
            owners = gc.get_referrers(holder)
            if not any(isinstance(owner, torch.autograd.function.BackwardCFunction) for owner in owners):
                return True
        elif isinstance(holder, list | set | deque | CellType):
            return True
    return False


def _first_logits(network: Network, params: dict[str, Tensor], example: Inputs, half: str) -> Tensor:
    try:
        logits = network(params, example)
    except InvalidInput:
        raise
    except Exception as error:  # whatever the network's own code raises
        if is_out_of_memory(error):
            raise
        how = "" if isinstance(example, Tensor) else "; say in forward= how it is called: (model, inputs) -> outputs"
        hint = f" (its {half} weights are computed in float32; forward must not convert to {half})" if half else ""
        raise InvalidInput(
            f"the network does not run on {describe_form(example)}{hint}: {describe_error(error)}{how}"
        ) from error
    return _checked_logits(logits, example).detach()


def _checked_logits(logits: object, example: Inputs) -> Tensor:
    if not isinstance(logits, Tensor):
        raise InvalidInput(
            f"the network returns a {type(logits).__name__}; expected a tensor{_remedy(logits, example)}"
        )
    return logits


def _remedy(outputs: object, example: Inputs) -> str:
    """The argument that takes a tensor out of outputs of another type, as far as it can be seen."""
    if isinstance(getattr(outputs, "logits", None), Tensor):
        chosen = ".logits"
    elif isinstance(outputs, Mapping) and outputs:
        chosen = f"[{next((key for key in outputs if key in OUTPUT_KEYS), next(iter(outputs)))!r}]"
    elif isinstance(outputs, tuple | list) and outputs:
        chosen = "[0]"
    else:
        return ""
    stars = "*" if isinstance(example, tuple) else "**" if isinstance(example, dict) else ""
    return f"; give forward=lambda model, inputs: model({stars}inputs){chosen}"


OUT_OF_MEMORY = ("can't allocate memory", "CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED")
"""What errors say of memory whose class does not."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether something did not fit into memory; the CPU's allocator and CUDA's libraries raise plain RuntimeErrors."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in OUT_OF_MEMORY)


def choose_batch_size(first: FirstPass, inputs: Inputs, params: Mapping[str, Tensor]) -> int:
    """As many examples of `inputs` as keep what a backward pass saves below BATCH_BYTES, a power of 2, or all."""
    saved = first.saved_bytes
    if saved is None:
        size = sum(value.numel() for value in params.values())
        guess = UNKNOWN_RESULTS * count_entries(inputs) + size
        saved = guess * next(iter(params.values())).element_size()
    fits = max(1, BATCH_BYTES // max(1, saved))
    return min(count_examples(inputs), 1 << int(math.log2(fits)))


def choose_examples(first: FirstPass, total: int, batch_size: int) -> tuple[Tensor, int]:
    """The places of the examples of `total` on which a network is checked, and how many of them are taken one by one.

    A whole batch where the network reads values, and may branch on them; at least two examples also in batches of one.
    """
    batch_size = max(batch_size, 2)
    if first.reads_values:
        return spread_places(total, batch_size), MAX_ALONE
    return spread_places(total, min(TOGETHER, batch_size)), ALONE


def runs_on(network: Callable[[Inputs], Tensor], inputs: Inputs) -> bool:
    """Whether the network takes these examples as one batch."""
    try:
        with torch.enable_grad():  # some networks differentiate inside
            network(inputs)
    except Exception as error:  # whatever the network's own code raises
        if is_out_of_memory(error):
            raise
        return False
    return True


def check_unwritten(model: nn.Module, params: Mapping[str, Tensor]) -> None:
    """Raise InvalidInput where a forward pass has written to one of these copies of the model's parameters."""
    own = dict(model.named_parameters())
    for name, value in params.items():
        if value._version or not torch.equal(value, hold(own[name])):
            raise _rewritten(name)


def _rewritten(name: str) -> InvalidInput:
    return InvalidInput(f"the network rewrites its parameter '{name}' in every forward pass; measure it without")


def check_network(
    network: Callable[[Inputs], Tensor],
    criterion: PerExampleLoss,
    inputs: Inputs,
    targets: Tensor,
    *,
    first: Tensor,
    alone: int = ALONE,
) -> None:
    """Raise InvalidInput where the loss of a batch [B, ...] is not a mean over its examples, or is random.

    Examples are taken in the whole batch, in half of it, and as many as `alone` one by one: about 1.5 forward passes.

    Args:
        first: the logits of the first example alone, [1, C].
    """
    places = spread_places(len(targets), alone).to(targets.device)
    singles = list(split_examples(inputs))
    with torch.enable_grad():  # some networks differentiate inside
        whole, half = network(inputs).detach(), network(take_examples(inputs, slice(None, None, 2))).detach()
        apart = [first, *(network(singles[place]).detach() for place in places[1:].tolist())]
        if not are_close(whole[::2], half) or not are_close(whole[places], torch.cat(apart)):
            some = take_examples(inputs, slice(COMPARED))
            if len(targets) == 1 or not are_close(network(some).detach(), network(some).detach()):
                raise InvalidInput("the network gives different outputs for the same input: it draws random numbers")
            raise InvalidInput(
                "the network mixes the examples of a batch: an output depends on the other inputs (batch norm without "
                "running statistics, attention over the batch), so its loss is not a mean over examples"
            )
        if criterion.kind != "custom":  # a loss of ours is of one example
            return
        losses = criterion(whole, targets).detach()
        single = [criterion(*pair).detach() for pair in zip(apart, targets[places].split(1), strict=True)]
        if not are_close(losses[places], torch.cat(single)):
            raise InvalidInput(
                f"criterion '{criterion.name}' mixes the examples of a batch: the loss of one depends on the others, "
                "so it is not a mean over examples"
            )


def spread_places(total: int, count: int) -> Tensor:
    """The places of at most `count` examples of `total`, from the first to the last, evenly spread."""
    places: Tensor = torch.linspace(0, total - 1, min(total, count)).round().long().unique()
    return places


def are_close(one: Tensor, other: Tensor) -> bool:
    """Whether two results differ by rounding only, relative to the largest finite entry."""
    if one.shape != other.shape:
        return False
    bound = torch.finfo(other.dtype).eps ** 0.6 if other.is_floating_point() else 0.0
    return small((one - other).abs(), other.abs(), bound) or small(
        torch.where((one == other) | (one.isnan() & other.isnan()), 0.0, (one - other).abs()), other.abs(), bound
    )


def small(gaps: Tensor, sizes: Tensor, bound: float) -> bool:
    """Whether all gaps >= 0 are at most `bound` times the largest finite size; False where one is not a number."""
    if not sizes.numel():
        return not gaps.numel()
    largest = float(sizes.max())
    if not math.isfinite(largest):
        finite = sizes[sizes.isfinite()]
        largest = float(finite.max()) if finite.numel() else 0.0
    return float(gaps.max()) <= bound * largest
