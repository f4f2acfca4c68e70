"""The examples that a loader gives, read once and held together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from numbers import Integral

import torch
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset

from sharpbench.core.batch import (
    Inputs,
    count_examples,
    describe_form,
    join_examples,
    list_tensors,
    named_tensors,
    read_inputs,
    take_examples,
)
from sharpbench.errors import InvalidInput, shorten

LABELS = "labels"
"""The key of the targets in batches that are dictionaries, as Hugging Face has it."""


def read_loader(loader: Iterable[object], limit: int | None = None, labels: str = LABELS) -> tuple[Inputs, Tensor]:
    """All examples that `loader` gives, or the first `limit`: inputs [n, ...] and targets [n, ...].

    labels: the key of the targets in batches that are dictionaries. Raises InvalidInput for an empty loader, for
    a dataset, which gives single examples, and for batches of another form.
    """
    if limit is not None and (not isinstance(limit, Integral) or limit < 1):
        raise InvalidInput(f"limit={shorten(repr(limit))} must be an integer of at least 1")
    if isinstance(loader, Dataset) and not isinstance(loader, IterableDataset):
        raise InvalidInput(
            f"the loader is a dataset ({type(loader).__name__}), which gives single examples; "
            "give torch.utils.data.DataLoader(dataset, batch_size=64)"
        )
    if not isinstance(loader, Iterable) or is_batch(loader):
        what = "one batch; give it to Subject.from_module" if is_batch(loader) else f"a {type(loader).__name__}"
        raise InvalidInput(f"the loader is {what}; expected an iterable of batches (inputs [B, ...], targets [B, ...])")
    inputs: list[Inputs] = []
    targets: list[Tensor] = []
    held = 0
    for batch in loader:
        part, target = _split_batch(batch, labels)
        if target.ndim == 0 or len(target) != count_examples(part):
            raise InvalidInput(
                f"a batch of the loader holds {count_examples(part)} inputs and targets of shape "
                f"{list(target.shape)}; give one target per input"
            )
        inputs.append(part)
        targets.append(target)
        held += len(target)
        forms = [_example_form(inputs[place], targets[place]) for place in (0, -1)]
        if forms[0] != forms[1]:
            shapes = [_describe_example(inputs[place], targets[place]) for place in (0, -1)]
            if shapes[0] == shapes[1]:
                shapes = [describe_form(take_examples(inputs[place], slice(1))) for place in (0, -1)]
            different = " and ".join(shapes)
            raise InvalidInput(
                f"the loader's batches hold examples of different shapes, {different}; make them alike, "
                "as by padding to one length"
            )
        if limit is not None and held >= limit:
            break
    if not inputs:
        raise InvalidInput("the loader gives no batch; a loss is a mean over at least 1 example")
    return take_examples(join_examples(inputs), slice(limit)), torch.cat(targets)[:limit]


def is_batch(data: object) -> bool:
    """Whether data is one batch: a dictionary, or a pair whose second part is a tensor of targets."""
    if isinstance(data, Mapping):
        return True
    return isinstance(data, tuple | list) and len(data) == 2 and isinstance(data[1], Tensor)


@contextmanager
def loader_state_kept(data: object) -> Iterator[None]:
    """Afterwards the generators of a DataLoader and its samplers are as before: its order of examples is the same."""
    parts = [data, *(getattr(data, name, None) for name in ("sampler", "batch_sampler"))]
    parts.append(getattr(parts[-1], "sampler", None))
    found = [each for each in (getattr(part, "generator", None) for part in parts) if isinstance(each, torch.Generator)]
    states = [each.get_state() for each in found]
    try:
        yield
    finally:
        for generator, state in zip(found, states, strict=True):
            generator.set_state(state)


def _split_batch(batch: object, labels: str) -> tuple[Inputs, Tensor]:
    """Inputs and targets of one batch: a pair, or a dictionary that holds the targets under `labels`."""
    if isinstance(batch, Mapping):
        if labels not in batch:
            keys = ", ".join(map(str, batch)) or "no key"
            raise InvalidInput(f"the loader's batches have no '{labels}'; they hold {keys}; name it in labels=")
        inputs, targets = {key: value for key, value in batch.items() if key != labels}, batch[labels]
    elif isinstance(batch, Sequence) and len(batch) == 2:
        inputs, targets = batch
    else:
        remedy = (
            "; where the last of several tensors are the targets, give "
            "[(tuple(batch[:-1]), batch[-1]) for batch in loader]"
            if isinstance(batch, Sequence) and len(batch) > 2 and not isinstance(batch, str)
            else ""
        )
        raise InvalidInput(
            f"the loader gives a {type(batch).__name__}; expected pairs (inputs [B, ...], targets [B]), "
            f"or dictionaries with '{labels}'{remedy}"
        )
    if not isinstance(targets, Tensor):
        raise InvalidInput(f"the loader's targets are a {type(targets).__name__}; expected a tensor, examples first")
    return read_inputs(inputs), targets


def _example_form(inputs: Inputs, targets: Tensor) -> dict[str, torch.Size]:
    """The shapes of one example's tensors by path; dictionaries are equal in any order of their keys."""
    return {path: leaf.shape[1:] for path, leaf in {**named_tensors(inputs), "targets": targets}.items()}


def _describe_example(inputs: Inputs, targets: Tensor) -> str:
    """The shapes of one example's inputs and target."""
    shapes = [list(leaf.shape[1:]) for leaf in list_tensors(inputs)]
    return f"{shapes[0] if len(shapes) == 1 else shapes} with targets {list(targets.shape[1:])}"
