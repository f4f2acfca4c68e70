"""A rescaling group in words, with the change of the function under random elements of it."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from sharpbench.core.batch import Inputs
from sharpbench.core.functional import Forward
from sharpbench.errors import InvalidInput
from sharpbench.symmetry.float64_check import Float64Check, rounding_bound
from sharpbench.symmetry.full_group import full_group
from sharpbench.symmetry.group import RescalingGroup, Scope, rescaling_group

Array = NDArray[np.float64]
ROUNDING = 1e-9
"""Entries of a basis that differ from a simple number by less than this share are that number."""
MAX_DENOMINATOR = 12
"""A simple number is a fraction whose denominator is at most this."""


@dataclass(frozen=True, slots=True)
class GroupDescription:
    """The rescaling group of a network, or its full group, in words.

    scope, dimension: those of the group. generators: in words, in the order of the network; for units with a count, '64
    x conv1 against conv2'. pinned: operators without a rule, at which scales are fixed. change: the largest change of
    the network's outputs under random elements, relative to the largest output, in float64,
        at perturbed weights.
    """

    scope: Scope | Literal["full"]
    dimension: int
    generators: tuple[str, ...]
    pinned: tuple[str, ...]
    change: float


def describe(
    model: nn.Module,
    inputs: Inputs,
    *,
    scope: Scope = "layer",
    elements: int = 3,
    generator: torch.Generator,
    forward: Forward | None = None,
) -> GroupDescription:
    """The GroupDescription of the rescaling group of `model` for inputs [B, ...], verified on these inputs.

    Args:
        scope: 'layer', one scale per tensor, or 'unit', one per channel or hidden unit.
        elements: random elements of the group under which the function must not change, at perturbed weights.
        generator: the only source of randomness.
    Raises:
        InvalidInput: as `rescaling_group`, and where weights are not finite, the network does not return one tensor, or
            its function changes.

    Cost: a capture of the graph, and `elements` + 1 evaluations in float64.

    >>> symmetry.describe(model, inputs, generator=draws).generators
    ('0 against 2',)
    """
    group = rescaling_group(model, inputs, scope=scope, forward=forward)
    trial = Float64Check.of(model, inputs, generator=generator, forward=forward)
    change = group.verify_elements(
        trial.outputs, trial.state, [group.random_element(generator) for _ in range(elements)]
    )
    words = _describe_units(group) if scope == "unit" else _describe_layers(group)
    return GroupDescription(scope, group.dimension, tuple(words), group.unknown_operators, change)


def describe_full(
    model: nn.Module,
    inputs: Inputs,
    *,
    elements: int = 3,
    generator: torch.Generator,
    forward: Forward | None = None,
) -> GroupDescription:
    """The GroupDescription of the full group of `model`: scales of units, and the matrices of its linear blocks.

    Its generators are the blocks, counted by size, and how many attention layers have none between queries and keys.
    Arguments, errors and cost are those of `describe`, with a few more evaluations in float64.

    >>> linear = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Linear(2, 4)).double()
    >>> symmetry.describe_full(linear, inputs, generator=draws).generators
    ('1 x GL(2)',)
    """
    group = full_group(model, inputs, generator=generator, forward=forward)
    trial = Float64Check.of(model, inputs, generator=generator, forward=forward)
    change = max(trial.change(group.random_move(trial.state, generator)) for _ in range(elements))
    bound = rounding_bound(trial.state.values())
    if not change <= bound:
        raise InvalidInput(f"elements of the full group change the outputs by {change:.1e}, above {bound:.1e}")
    words = [group.words] if group.blocks else []
    if group.restricted:
        words.append(f"{group.restricted} attention layers, whose queries and keys allow scales or rotations at most")
    return GroupDescription("full", group.dimension, tuple(words), group.units.unknown_operators, change)


def _describe_layers(group: RescalingGroup) -> Iterator[str]:
    names = group.names
    for vector in sparse_basis(np.asarray(group.basis)):
        yield _format_generator([(names[row], round(float(vector[row]), 6)) for row in np.flatnonzero(vector)], names)


def _describe_units(group: RescalingGroup) -> Iterator[str]:
    """Generators of one unit each; those of the same parameters are counted together."""
    order = {name: place for place, name in enumerate(group.parameters)}
    owner = np.empty(group.basis.shape[0], dtype=np.int64)
    for name, arrays in group.basis_rows.items():
        for rows in arrays:
            owner[np.unique(rows)] = order[name]
    columns = group.basis.tocsc()  # type: ignore[union-attr]  # sparse for units
    counts: Counter[tuple[tuple[int, float], ...]] = Counter()
    for start, stop in itertools.pairwise(columns.indptr):
        powers = zip(owner[columns.indices[start:stop]].tolist(), columns.data[start:stop].tolist(), strict=True)
        counts[tuple(sorted({(place, float(np.sign(power))) for place, power in powers}))] += 1
    for pairs, count in counts.items():
        first = pairs[0][1]
        named = [(group.parameters[place], power * first) for place, power in pairs]
        yield f"{count} x {_format_generator(named, group.parameters)}"


def sparse_basis(basis: Array) -> Array:
    """Vectors [dimension, rows], mostly of small integers, that span the columns of `basis` and have few entries.

    The reduced echelon form, in which vectors then take others away as long as that makes them shorter, or their
    entries closer together. Fractions with small denominators are exact, so that the result does not depend on the
    last bits of `basis`.
    """
    vectors = _reduce_to_echelon(basis.T)
    improved = True
    while improved:
        improved = False
        for one, other in itertools.permutations(range(len(vectors)), 2):
            shared = np.flatnonzero((vectors[one] != 0) & (vectors[other] != 0))
            for factor in np.unique(vectors[one][shared] / vectors[other][shared]):
                less = _snap_to_fractions(vectors[one] - factor * vectors[other])
                if _extent(less) < _extent(vectors[one]):
                    vectors[one], improved = less, True
                    break
    first = [int(np.flatnonzero(vector)[0]) for vector in vectors]
    scaled = [_snap_to_fractions(vector / vector[place]) for vector, place in zip(vectors, first, strict=True)]
    return np.array([scaled[index] for index in np.argsort(first, kind="stable")]).reshape(vectors.shape)


def _extent(vector: Array) -> tuple[int, int]:
    places = np.flatnonzero(vector)
    return len(places), int(places[-1] - places[0])


def _reduce_to_echelon(rows: Array) -> Array:
    """The reduced row echelon form without rows of zeros."""
    rows, done = rows.copy(), 0
    for column in range(rows.shape[1]):
        if done == len(rows):
            break
        pivot = done + int(np.abs(rows[done:, column]).argmax())
        if abs(rows[pivot, column]) < ROUNDING:
            continue
        rows[[done, pivot]] = rows[[pivot, done]]
        rows[done] /= rows[done, column]
        others = np.arange(len(rows)) != done
        rows[others] -= np.outer(rows[others, column], rows[done])
        rows[np.abs(rows) < ROUNDING] = 0.0
        done += 1
    return _snap_to_fractions(rows[:done])


def _snap_to_fractions(values: Array) -> Array:
    """`values`, with the fraction itself in place of an entry that is one up to rounding."""
    snapped = values.copy()
    for denominator in range(MAX_DENOMINATOR, 0, -1):  # the smallest last: 2 and not 24/12
        nearest = np.rint(values * denominator) / denominator
        close = np.abs(values - nearest) < ROUNDING * np.maximum(1.0, np.abs(values))
        snapped[close] = nearest[close]
    return snapped


def _format_generator(powers: Sequence[tuple[str, float]], names: Sequence[str]) -> str:
    """'bn1 against conv2': what grows comes first; a module replaces its parameters where all of them scale alike."""
    found: dict[str, set[float]] = {}
    for name, power in powers:
        found.setdefault(name, set()).add(power)
    modules: dict[str, list[str]] = {}
    for name in names:
        modules.setdefault(_module_name(name), []).append(name)
    sides: dict[bool, list[str]] = {True: [], False: []}
    for module in dict.fromkeys(_module_name(name) for name in found):
        members = [name for name in modules[module] if name in found]
        alike = all(found[name] == found[members[0]] for name in members)
        whole = bool(module) and alike and len(members) == len(modules[module])
        for name in members[:1] if whole else members:
            for power in sorted(found[name]):
                size = abs(round(power, 6))
                sides[power > 0].append((module if whole else name) + (f"^{size:g}" if size != 1 else ""))
    return " against ".join(", ".join(side) for side in sides.values() if side)


def _module_name(name: str) -> str:
    """'blocks.0.qkv.weight[0:6]' -> 'blocks.0.qkv[0:6]'."""
    path, rows = re.fullmatch(r"([^\[]*)(\[.*\])?", name).groups("")  # type: ignore[union-attr]  # matches anything
    module = path.rpartition(".")[0]
    return module + rows if module else ""
