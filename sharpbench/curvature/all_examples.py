"""Whether every example has the same logits by itself, in its batch and in another one: checked once a subject.

A few examples need not show a branch that others take, an input that changes those next to it, or a capacity that only
some batches exceed. A network of verified operators that compares and reads no values, and in which one example that is
not a number leaves the others as they are, has none of these and is not checked.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from sharpbench.core.batch import Inputs, list_tensors, map_tensors, split_examples, take_examples
from sharpbench.core.measure import NotApplicable
from sharpbench.core.requirements import are_close, is_out_of_memory
from sharpbench.core.subject import Subject
from sharpbench.curvature.surrogates import survey_operators

MAX_KEPT_ENTRIES = 2**22
"""Logits of all examples are kept between two checks up to this size, and computed again beyond it."""
MAX_REPEATED = 16
"""Examples that are evaluated again in float64 where their logits differ."""


def check_batches(subject: Subject) -> None:
    """Raise NotApplicable where the logits or losses of an example depend on the batch that it is in.

    All examples, in their batches and in others of strided places.

    Cost: two forward passes at the first call; none where no code treats single examples otherwise.
    """
    if refusal := subject.settled(_find_mixing):
        raise NotApplicable(refusal)


def agrees_on_all_examples(subject: Subject, single: Callable[[Subject, Inputs], Tensor]) -> bool:
    """Whether the logits of each example by itself are the module's.

    Args:
        single: the outputs [B, ...] of examples [B, ...], of which each is computed by itself.

    Cost: two forward passes, one of them of `single`; none where no code treats single examples otherwise.
    """
    if _treats_all_alike(subject):
        return True
    kept = subject.settled(_logits)
    for number, (inputs, _) in enumerate(subject.batches):
        wanted = _module_logits(subject, inputs) if kept is None else kept[number]
        found = single(subject, inputs)
        if not are_close(found, wanted) and not _close_in_float64(subject, inputs, found, wanted, single):
            return False
    return True


def _treats_all_alike(subject: Subject) -> bool:
    """Whether what holds for a few examples holds for all of them."""
    return survey_operators(subject).uniform and subject.settled(isolates_examples)


def isolates_examples(subject: Subject) -> bool:
    """Whether NaN in place of one example's inputs leaves the outputs of another one numbers.

    NaN passes through sums, products and ReLUs whatever the values are, so that it shows also what most examples hide:
    a mean over the batch that counts only above some size. Inputs that are whole numbers cannot be replaced so.
    """
    some = subject.pick(slice(2))[0]
    if not any(leaf.is_floating_point() for leaf in list_tensors(some)):
        return False

    def spoilt(leaf: Tensor) -> Tensor:
        if not leaf.is_floating_point():
            return leaf
        return torch.cat((torch.full_like(leaf[:1], torch.nan), leaf[1:]))

    return not bool(_module_logits(subject, map_tensors(spoilt, some))[1:].isnan().any())


def _find_mixing(subject: Subject) -> str:
    """Why the loss is not a mean over examples, or ''."""
    if subject.n == 1 or _treats_all_alike(subject):
        return ""
    kept = subject.settled(_logits)
    count = subject.n
    strides = max(2, -(-count // subject.batch_size))
    logits = torch.cat(list(kept)) if kept is not None else None
    for first in range(strides):
        places = torch.arange(first, count, strides, device=subject.device)
        other = _module_logits(subject, subject.pick(places)[0])
        wanted = _in_own_batches(subject, places) if logits is None else logits[places]
        if not are_close(other, wanted) and _mixes(subject, places, other, wanted):
            return (
                "the network mixes the examples of a batch: an output depends on the other inputs, "
                "so its loss is not a mean over examples"
            )
        if subject.criterion.kind == "custom" and _loss_mixes(subject, places, wanted):
            return (
                f"the loss '{subject.criterion.name}' mixes the examples of a batch: the loss of one depends on the "
                "others, so it is not a mean over examples"
            )
    return ""


def _loss_mixes(subject: Subject, places: Tensor, logits: Tensor) -> bool:
    """Whether the losses of these examples are others in the batches of their halves."""
    targets = subject.targets[places]
    with torch.no_grad():
        whole = subject.criterion(logits, targets)
        halves = [subject.criterion(logits[start::2], targets[start::2]) for start in range(min(2, len(places)))]
    return not all(are_close(half, whole[start::2]) for start, half in enumerate(halves))


def _logits(subject: Subject) -> tuple[Tensor, ...] | None:
    """The module's logits of each batch; None where they are too many to be kept."""
    if subject.n * subject.outputs.numel() > MAX_KEPT_ENTRIES:
        return None
    return tuple(_module_logits(subject, inputs) for inputs, _ in subject.batches)


def _module_logits(subject: Subject, inputs: Inputs) -> Tensor:
    with torch.enable_grad():  # some networks differentiate inside
        return subject.apply(subject.params, inputs).detach()


def _in_own_batches(subject: Subject, places: Tensor) -> Tensor:
    """The logits of these examples, each in the batch that the subject has it in."""
    found = []
    for batch in places.div(subject.batch_size, rounding_mode="floor").unique().tolist():
        start = batch * subject.batch_size
        inside = places[(places >= start) & (places < start + subject.batch_size)]
        found.append(_module_logits(subject, subject.pick(slice(start, start + subject.batch_size))[0])[inside - start])
    return torch.cat(found)


def _mixes(subject: Subject, places: Tensor, other: Tensor, wanted: Tensor) -> bool:
    """Whether the logits of some of these examples differ in float64 as well, in which no decision is near a tie."""
    chosen = _most_different(other, wanted)
    doubled = _doubled(subject)
    one = _module_logits(doubled, doubled.pick(places)[0])[chosen]
    two = _in_own_batches(doubled, places[chosen].sort().values)
    return not are_close(one[places[chosen].argsort()], two)


def _close_in_float64(
    subject: Subject, inputs: Inputs, found: Tensor, wanted: Tensor, single: Callable[[Subject, Inputs], Tensor]
) -> bool:
    """Whether the examples that differ most agree in float64."""
    doubled = _doubled(subject)
    chosen = take_examples(inputs, _most_different(found, wanted))
    again = map_tensors(lambda leaf: leaf.to(torch.float64) if leaf.is_floating_point() else leaf, chosen)
    if doubled is subject:
        again = chosen
    apart = torch.cat([_module_logits(doubled, each) for each in split_examples(again)])
    return are_close(single(doubled, again), apart)


def _most_different(one: Tensor, other: Tensor) -> Tensor:
    """The places, at most MAX_REPEATED, of the examples whose logits differ most."""
    gaps = torch.where((one == other) | (one.isnan() & other.isnan()), 0.0, (one - other).abs()).nan_to_num(torch.inf)
    return gaps.reshape(len(gaps), -1).amax(1).argsort(descending=True)[:MAX_REPEATED]


def _doubled(subject: Subject) -> Subject:
    """The subject in float64, or as it is where it does not run so."""
    doubled = subject.to(dtype=torch.float64)
    try:
        _module_logits(doubled, doubled.pick(slice(1))[0])
    except Exception as error:  # whatever the network's own code raises
        if is_out_of_memory(error):
            raise
        return subject
    return doubled
