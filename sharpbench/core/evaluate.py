"""Evaluation of one measure on one subject."""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, overload

import torch

from sharpbench.core.example_groups import check_groups, jackknife_groups
from sharpbench.core.fields import Scalar
from sharpbench.core.finiteness import describe_non_finite
from sharpbench.core.groups import Groups, assign_blocks, split_blocks, sum_parts
from sharpbench.core.measure import Estimate, Measure, NotApplicable
from sharpbench.core.precision import own_types
from sharpbench.core.random_state import random_state_kept
from sharpbench.core.registry import available
from sharpbench.core.requirements import is_out_of_memory
from sharpbench.core.spec import ALL, format_spec, parse_spec, parse_specs
from sharpbench.core.subject import Subject
from sharpbench.environment import keep_freed_memory
from sharpbench.errors import InvalidInput, describe_error, shorten


@overload
def measure(
    measures: Measure, subject: Subject, *, seed: int = 0, jackknife: int | None = None, groups: Groups | None = None
) -> Estimate: ...
@overload
def measure(
    measures: str, subject: Subject, *, seed: int = 0, jackknife: int | None = None, groups: Groups | None = None
) -> Any: ...
@overload
def measure(
    measures: Sequence[Measure | str],
    subject: Subject,
    *,
    seed: int = 0,
    jackknife: int | None = None,
    groups: Groups | None = None,
) -> dict[str, Estimate]: ...
def measure(
    measures: Measure | str | Sequence[Measure | str],
    subject: Subject,
    *,
    seed: int = 0,
    jackknife: int | None = None,
    groups: Groups | None = None,
) -> Estimate | dict[str, Estimate]:
    """The Estimate of a measure on `subject`: value, standard error, interval and parts.

    Of several measures, given as a list or as 'trace,minimum', it is a dictionary of estimates by the names of the
    measures with their hyperparameters. Of 'all' it holds the installed measures that have a value for this subject.

    Args:
        measures: a Measure, or its name with hyperparameters in brackets, 'normalized[diagonal=icml]'; or several.
        subject: network, loss and data.
        seed: from 0 to 2^64 - 1; the same seed gives the same estimate.
        jackknife: a number of groups of examples, such as 10. A measure that states no standard error over examples
            is then evaluated once without each group, with the same seed, and `stderr_examples` is the jackknife's.
            It stays None where one of these evaluations has no value; `details` give the reason.
        groups: sums the parts by blocks of parameters: 'layer', 'kind' (embedding, attention, mlp, ...), a mapping from
            names to blocks or a function of the name. Parts that are no summands of the value stay by parameter.
    Raises:
        InvalidInput: for an unknown name or an invalid hyperparameter.
        NotApplicable: where a measure has no value for this subject; the message states the reason.
        TypeError: where a measure does not return an Estimate.

    Cost: that of the measure, see `sharpbench info NAME`; with a jackknife as many again on most of the examples.

    >>> estimate = sharpbench.measure("trace", subject)
    >>> round(estimate.value, 9), estimate.stderr  # (1/2) (1 + |x|^2), and exact
    (5.0, 0.0)
    >>> list(sharpbench.measure("trace,normalized[diagonal=icml]", subject))
    ['trace', 'normalized[diagonal=icml]']
    """
    if isinstance(measures, str):
        chosen = parse_specs(measures, available("measures").classes, kind="measure")
    elif isinstance(measures, Sequence):
        chosen = tuple(parse_measure(each) if isinstance(each, str) else each for each in measures)
    else:
        chosen = (measures,)
    for each in chosen:
        if not isinstance(each, Measure):
            raise InvalidInput(f"{shorten(repr(each))} is not a measure; give a Measure or its name")
    blocks = None if groups is None else assign_blocks(_check_subject(subject), groups)

    def estimate(each: Measure) -> Estimate:
        found = estimate_with(each, subject, seed=seed, jackknife=jackknife)
        return found if blocks is None else sum_parts(found, blocks)

    single = len(chosen) == 1 and (isinstance(measures, str) or not isinstance(measures, Sequence))
    keep_freed_memory()
    with random_state_kept(_check_subject(subject).module):  # a network may draw numbers that it does not use
        if single:
            return estimate(chosen[0])
        found: dict[str, Estimate] = {}
        for each in chosen:
            with contextlib.suppress(*(NotApplicable,) * (measures == ALL)):
                found[format_spec(each)] = estimate(each)
        return found


def measure_blocks(
    measures: Measure | str | Sequence[Measure | str], subject: Subject, groups: Groups, *, seed: int = 0
) -> dict[str, dict[str, Estimate]]:
    """Estimates of measures of each block of parameters by itself, by the block's name and the measure's.

    The parameters of the other blocks are constant. So 'trace,top-eigenvalue' gives the trace and the largest
    eigenvalue of each diagonal block of the Hessian.

    Args:
        measures: as in `measure`.
        subject: as in `measure`.
        groups: as in `measure`.
        seed: as in `measure`.

    Raises:
        NotApplicable: where a measure has no value for a block; the message names it. Otherwise as `measure`.

    Cost: that of the measures, once per block.

    >>> found = sharpbench.measure_blocks("trace,top-eigenvalue", subject, lambda name: name)
    >>> [round(found[block]["trace"].value, 9) for block in ("weight", "bias")]
    [4.5, 0.5]
    """
    found: dict[str, dict[str, Estimate]] = {}
    several = [measures] if isinstance(measures, Measure | str) else list(measures)
    for block, part in split_blocks(_check_subject(subject), groups).items():
        found[block] = {}
        try:
            for each in several:
                estimates = measure(each, part, seed=seed)
                label = each if isinstance(each, str) else format_spec(each)
                found[block] |= estimates if isinstance(estimates, dict) else {label: estimates}
        except NotApplicable as reason:
            raise NotApplicable(f"block '{block}': {reason}") from reason
    return found


def _check_subject(subject: object) -> Subject:
    if not isinstance(subject, Subject):
        raise InvalidInput(
            f"{shorten(repr(subject))} is not a subject; give Subject.from_module(model, inputs, targets)"
        )
    return subject


def estimate_with(chosen: Measure, subject: Subject, *, seed: int = 0, jackknife: int | None = None) -> Estimate:
    """What `measure` returns for one measure, which may leave the process's random generators in another state."""
    _check_subject(subject)
    if not 0 <= seed < 2**64:
        raise InvalidInput(f"seed={seed} must be from 0 to {2**64 - 1}")
    if jackknife is not None:
        check_groups(jackknife)
    decay = subject.criterion.weight_decay
    if decay and not chosen.penalised:
        raise NotApplicable(
            f"'{chosen.name}' is of a loss without penalty, and the subject has weight_decay={decay:g}; measure a "
            "subject without"
        )
    subject.notes.clear()
    found: object = _call(chosen, subject, seed)
    if not isinstance(found, Estimate):
        raise TypeError(f"measure '{chosen.name}' returns {found!r:.80}, not an Estimate; return Estimate(value)")
    notes: dict[str, Scalar] = {**subject.notes, **_precision(subject)}
    if decay:
        notes["weight_decay"] = decay
    noted = replace(found, details={**found.details, **notes}) if notes else found
    if jackknife is None or noted.stderr_examples is not None:
        return noted
    return _add_jackknife(noted, chosen, subject, seed=seed, groups=jackknife)


def _precision(subject: Subject) -> dict[str, str]:
    """Where weights have half precision: their type, and the one in which they are held and computed."""
    if not subject.half:
        return {}
    held = next(iter(subject.params.values())).dtype
    return {"weights": subject.half, "computed_in": str(held).removeprefix("torch.")}


def _call(chosen: Measure, subject: Subject, seed: int) -> Estimate:
    """What the measure returns. It has no value where it fails because losses or derivatives are not finite."""
    try:
        with own_types():
            return chosen(subject, generator=torch.Generator().manual_seed(seed))
    except InvalidInput:
        raise
    except (ValueError, torch.linalg.LinAlgError) as error:  # type: ignore[attr-defined]  # it is public
        reason = describe_non_finite(subject)
        if reason is None and "finite" in str(error):
            reason = _describe_overflow(chosen, subject, seed)
        if reason is None:
            raise
        raise NotApplicable(f"'{chosen.name}' has no finite value: {reason}") from error
    except RuntimeError as error:
        refusal = None if is_out_of_memory(error) else _describe_refusal(subject)
        if refusal is None:
            raise
        raise NotApplicable(f"the network or its loss cannot be differentiated: {refusal}") from error
    except KeyError as error:  # of torch's own tables, which have no such transform of an operator (torch.cond)
        if not _is_of_torch(error):
            raise
        raise NotApplicable(f"torch cannot differentiate the network: it has no rule for {error}") from error


def _is_of_torch(error: Exception) -> bool:
    """Whether torch's own code raised it."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    return Path(last.filename).is_relative_to(Path(torch.__file__).parent)


def _describe_refusal(subject: Subject) -> str | None:
    """Why torch's own backward pass refuses the network on its first example; None where it does not."""
    leaves = {name: value.detach().requires_grad_() for name, value in subject.params.items()}
    try:
        with torch.enable_grad():
            inputs, targets = next(subject.split())
            losses = subject.criterion(subject.apply(leaves, inputs), targets)
        torch.autograd.grad(losses.sum(), list(leaves.values()), allow_unused=True)
    except RuntimeError as error:
        return describe_error(error)
    return None


def _describe_overflow(chosen: Measure, subject: Subject, seed: int) -> str | None:
    """Why a measure fails in the subject's type and not in float64; None where it fails in both."""
    held = next(iter(subject.params.values())).dtype
    if held == torch.float64:
        return None
    try:
        chosen(subject.to(dtype=torch.float64), generator=torch.Generator().manual_seed(seed))
    except Exception:  # then the type is not the cause
        return None
    return f"numbers overflow in {str(held).removeprefix('torch.')}; use float64, or scale the inputs"


def _add_jackknife(estimate: Estimate, chosen: Measure, subject: Subject, *, seed: int, groups: int) -> Estimate:
    def of(left: Subject) -> float:
        return _call(chosen, left, seed).value

    try:
        error, how = jackknife_groups(estimate.value, subject, groups, of).stderr, f"jackknife of {groups} groups"
    except NotApplicable as reason:
        error, how = None, f"no jackknife: {reason}"
    return replace(estimate, stderr_examples=error, details={**estimate.details, "stderr_examples": how})


def parse_measure(word: str) -> Measure:
    """The installed measure with this name or spec, 'normalized[diagonal=icml]'."""
    chosen: Measure = parse_spec(word, available("measures").classes, kind="measure")
    return chosen
