"""Comparison: a number of a submission beside the one found here, as a finding."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from sharpbench.contract import Estimate, Scalar
from sharpbench.environment import environment
from sharpbench.errors import one_line
from sharpbench.record import Record
from sharpbench.submissions import tolerance
from sharpbench.submissions.verdict import LONGEST, Finding


def gap(record: Record, found: Mapping[str, Scalar], apart: float, *, train: int, test: int) -> Finding:
    """The finding on the gap of a network, with so many examples in each split."""
    claimed, here = float(record.truth["gap"] or 0.0), float(found["gap"] or 0.0)
    bound = tolerance.gap_bound(apart, train, test)
    finding = _finding(record, "gap", claimed=claimed, found=here, bound=bound)
    examples = int(str(record.data["test_examples"]))
    if examples != test:
        said = _finding(record, "test_examples", claimed=examples, found=test, bound=0)
        return replace(said, outcome="differs")
    beyond = abs(claimed - here) > bound
    if apart <= tolerance.SAME:
        return replace(finding, outcome="differs" if beyond else "agrees")
    if beyond and record.truth["fitted"] and found["fitted"]:
        return replace(finding, outcome="differs")
    return replace(finding, outcome="parted", reason=_parting(record.truth, found))


def value(record: Record, estimate: Estimate, apart: float, found: Mapping[str, Scalar]) -> Finding:
    """The finding on a value, on a network that far `apart` whose truth is `found`."""
    assert record.value is not None
    finding = _finding(record, "value", claimed=record.value, found=estimate.value)
    if apart > tolerance.SAME:
        both = record.truth["fitted"] and found["fitted"]
        if both and tolerance.magnitudes_part(record.value, estimate.value):
            limit = (tolerance.MAGNITUDE - 1) * min(abs(record.value), abs(estimate.value))
            return replace(finding, outcome="differs", bound=limit)
        return replace(finding, outcome="parted", reason=_parting(record.truth, found))
    here = environment(record.device)["torch"]
    if estimate.stderr is None and estimate.probes and record.environment.get("torch") != here:
        reason = f"drawn without a standard error, by the random numbers of torch {record.environment.get('torch')}"
        return replace(finding, outcome="unknown", reason=_cut(reason))
    bound = tolerance.value_bound(record, estimate, apart, torch=str(here))
    return replace(finding, bound=bound, outcome="differs" if abs(record.value - estimate.value) > bound else "agrees")


def none(record: Record, why: str, apart: float) -> Finding:
    """The finding where the measure has no value here: on the same network, with the same torch, it had none there."""
    finding = unknown(record, f"the measure has no value here: {why}")
    same = apart <= tolerance.SAME and record.environment.get("torch") == environment(record.device)["torch"]
    return replace(finding, outcome="differs") if same else finding


def _parting(claimed: Mapping[str, Scalar], found: Mapping[str, Scalar]) -> str:
    words = (
        f"{name} {_number(claimed.get(name))} there, {_number(found[name])} here" for name in ("steps", "train_loss")
    )
    return _cut(f"training led to another network here: {', '.join(words)}")


def _number(value: Scalar) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def unknown(record: Record, reason: str) -> Finding:
    """The finding that there is none."""
    return replace(_finding(record, "value", claimed=record.value), reason=_cut(reason))


def _finding(
    record: Record, what: str, *, claimed: float | None, found: float | None = None, bound: float | None = None
) -> Finding:
    recipe = record.recipe
    network = (
        f"{recipe['model']} on {recipe['dataset']}, label noise {recipe.get('label_noise')}, seed {recipe.get('seed')}"
    )
    return Finding(
        key=record.key,
        label=_cut(record.label),
        network=_cut(network),
        what=what,
        outcome="unknown",
        claimed=claimed,
        found=found,
        bound=bound,
    )


def _cut(text: str) -> str:
    line = one_line(text)
    return line if len(line) <= LONGEST else line[: LONGEST - 3] + "..."
