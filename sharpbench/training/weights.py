"""Weights loaded into the network to which they belong, whatever wrappers put before their names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from sharpbench.errors import InvalidInput

NAME_PREFIXES = ("module.", "_orig_mod.", "_forward_module.", "model.", "network.", "net.", "backbone.", "ema_model.")
"""The prefixes that DataParallel, torch.compile, DeepSpeed, Lightning and wrappers put before the names."""
COMPILED_PART = "_orig_mod."
"""What torch.compile puts before the names of a part that is compiled."""
MAX_PREFIXES = 3
"""The largest number of prefixes before one name."""
UNUSED_COUNTERS = ("n_averaged", "num_batches_tracked")
"""Counts of updates, of averaged weights and of batch norm, which no network uses in eval mode."""


def load_weights(module: nn.Module, weights: Mapping[str, Tensor], *, where: str) -> tuple[str, ...]:
    """Load `weights` into `module`: every parameter and buffer, with equal shapes; the names that were left out.

    Prefixes of wrappers are removed if the names then fit. Names without the prefix belong to other parts of the
    wrapper, such as a metric or a loss, and are left out if the names with it are all that the network has.

    Args:
        module: the network; it is written to.
        weights: tensors by name, as `read_weights` returns them.
        where: the file, for the message.

    Raises:
        InvalidInput: for tensors that are missing, unknown, or of another shape or type; the message names them.
    """
    wanted = module.state_dict(keep_vars=True)
    tied = _tied_names(wanted)
    counters = {name for name in wanted if name.rpartition(".")[2] in UNUSED_COUNTERS}
    needed = [tied[name] for name in wanted if name not in counters]
    given, left_out = _strip_prefixes(dict(weights), needed)
    missing = [name for name in wanted if not given.keys() & tied[name] and name not in counters]
    unknown = [name for name in given if name not in wanted]
    shapes = [
        f"{name} {list(given[name].shape)} where the network has {list(wanted[name].shape)}"
        for name in given
        if name in wanted and given[name].shape != wanted[name].shape
    ]
    kinds = [
        f"{name} {given[name].dtype} where the network has {wanted[name].dtype}"
        for name in given
        if name in wanted and wanted[name].is_floating_point() != given[name].is_floating_point()
    ]
    differing = [
        f"{name} and {other}, which are one tensor in the network"
        for name in given
        for other in sorted(tied.get(name, set()))
        if name < other and other in given and not torch.equal(given[name], given[other])
    ]
    faults = [
        _describe_names("missing", missing, of=len(wanted)),
        _describe_names("unknown", unknown, of=len(given)),
        _describe_names("of another shape", shapes, of=len(given)),
        _describe_names("of another type", kinds, of=len(given)),
        _describe_names("different", differing, of=len(given)),
    ]
    if any(faults):
        raise InvalidInput(
            f"weights '{where}' do not fit {type(module).__name__}: {'; '.join(filter(None, faults))}; "
            "check --model, and --classes where only the last layer differs"
        )
    module.load_state_dict(given, strict=False)
    return left_out


def describe_left_out(names: Sequence[str], *, where: str) -> str:
    """A line about the names that `load_weights` left out, or '' where there are none."""
    if not names:
        return ""
    described = _describe_names("left out", list(names), of=len(names))
    return f"weights '{where}': {described}, since they belong to other parts than the network"


def _strip_prefixes(given: dict[str, Tensor], needed: Sequence[set[str]]) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The names of `given` that fit best when prefixes are removed, and the names without these prefixes.

    needed: for each tensor of the network its names, one of which is enough.
    """

    def count(names: Mapping[str, Tensor]) -> int:
        return sum(not each.isdisjoint(names) for each in needed)

    best: dict[str, Tensor] = given
    left_out: tuple[str, ...] = ()
    for stripped in _iterate_stripped(given):
        names = {new: given[old] for old, new in stripped.items()}
        others = tuple(name for name in given if name not in stripped and name not in UNUSED_COUNTERS)
        complete = not others or count(names) == len(needed)
        if complete and count(names) > count(best):
            best, left_out = names, others
    return best, left_out


def _iterate_stripped(given: Mapping[str, Tensor]) -> Iterator[dict[str, str]]:
    """Old name -> new name, for the names that begin with prefixes, which are removed; also for compiled parts."""
    waiting = [({name: name for name in given}, 0)]
    while waiting:
        names, removed = waiting.pop(0)
        if any(COMPILED_PART in new for new in names.values()):
            yield {old: new.replace(COMPILED_PART, "") for old, new in names.items()}
        for prefix in NAME_PREFIXES if removed < MAX_PREFIXES else ():
            fewer = {old: new.removeprefix(prefix) for old, new in names.items() if new.startswith(prefix)}
            if fewer:
                yield fewer
                waiting.append((fewer, removed + 1))


def _tied_names(state: Mapping[str, Tensor]) -> dict[str, set[str]]:
    """For each name, all names of the same tensor."""
    groups: dict[int, set[str]] = {}
    for name, value in state.items():
        groups.setdefault(id(value), set()).add(name)
    return {name: groups[id(value)] for name, value in state.items()}


def _describe_names(what: str, names: list[str], *, of: int) -> str:
    if not names:
        return ""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{len(names)} of {of} {what} ({', '.join(name[:120] for name in names[:3])}{more})"
