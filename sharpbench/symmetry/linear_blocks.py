"""Blocks of units that a network mixes only linearly, so that any invertible matrix may act on them.

The queries and keys of an attention head enter the network only by their products, its values and its output
projection only by theirs, and so do two linear maps with nothing between them, as LoRA's. With h units between them,
one side may be multiplied by any invertible matrix M [h, h] and the other by M^-T: the group GL(h) of the block.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array
from torch import Tensor

from sharpbench.core.graph import Graph
from sharpbench.errors import InvalidInput
from sharpbench.symmetry.float64_check import Float64Check
from sharpbench.symmetry.group import RescalingGroup, group_of
from sharpbench.symmetry.permutation import Permutation, find_permutations
from sharpbench.symmetry.rules.propagation import IndexArray, compact

MAX_CHANGE = 1e-9
MAX_LOG_SCALE = 2.0
"""Log-scales of random matrices are cut to this size: their condition number is at most exp(4), about 55."""


@dataclass(frozen=True, slots=True, eq=False)
class Occurrence:
    """Where the h units of a block enter a parameter: row j of `indices` [h, entries] are the places of unit j.

    inverse: whether these entries are multiplied by M^-T, and not by M.
    """

    parameter: str
    axis: int
    indices: IndexArray
    inverse: bool

    @property
    def words(self) -> str:
        """'q.weight[0:32]' or 'o.weight[:, 0:32]': the range of the places."""
        return f"{self.parameter}[{':, ' * self.axis}{self.indices.min()}:{self.indices.max() + 1}]"


@dataclass(frozen=True, slots=True, eq=False)
class LinearBlock:
    """h units of which a network uses only linear combinations that cancel: every M of GL(h) keeps its function."""

    occurrences: tuple[Occurrence, ...]

    @property
    def units(self) -> int:
        """h, the number of units."""
        return len(self.occurrences[0].indices)

    @property
    def dimension(self) -> int:
        """h^2, the dimension of GL(h)."""
        return self.units**2

    @property
    def words(self) -> str:
        """The block in words: the rows or columns of the first parameters that it enters on both sides."""
        first, second = (next(each for each in self.occurrences if each.inverse == side) for side in (False, True))
        return f"{first.words} and {second.words}"

    def apply(self, state: Mapping[str, Tensor], matrix: Tensor, inverse: Tensor) -> dict[str, Tensor]:
        """`state` under M = `matrix` [h, h] with the given inverse, both float64, with its dtypes and devices.

        Raises InvalidInput where `state` lacks a parameter of the block.
        """
        moved = dict(state)
        for each in self.occurrences:
            if each.parameter not in moved:
                raise InvalidInput(f"state lacks {each.parameter}, in which units are mixed; give all parameters")
            value = moved[each.parameter]
            factor = (inverse.T if each.inverse else matrix).to(value.device)
            rows = value.detach().movedim(each.axis, 0).clone()
            for places in each.indices.T:
                picked = rows[places].to(factor.dtype)
                rows[places] = torch.tensordot(factor, picked, dims=1).to(value.dtype)
            moved[each.parameter] = rows.movedim(0, each.axis).contiguous()
        return moved

    def __call__(self, state: Mapping[str, Tensor], *, generator: torch.Generator) -> dict[str, Tensor]:
        """`state` under a random matrix, whose log-singular values are standard normal, cut to MAX_LOG_SCALE."""
        return self.apply(state, *random_matrix(self.units, generator))

    def apply_probe(self, state: Mapping[str, Tensor], number: int, *, generator: torch.Generator) -> dict[str, Tensor]:
        """`state` under a random matrix: a block that keeps the function there always does."""
        return self(state, generator=generator)


def random_matrix(size: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """A random invertible matrix [size, size] and its inverse, float64, of condition number at most exp(4)."""
    left, right = (
        torch.linalg.qr(torch.randn(size, size, generator=generator, dtype=torch.float64))[0] for _ in range(2)
    )
    logs = torch.randn(size, generator=generator, dtype=torch.float64).clamp(-MAX_LOG_SCALE, MAX_LOG_SCALE)
    return left @ (logs.exp()[:, None] * right), right.T @ ((-logs).exp()[:, None] * left.T)


def candidate_blocks(graph: Graph, parameters: Collection[str], shared: Collection[str] = ()) -> Iterator[LinearBlock]:
    """Sets of units that may be linear blocks: they can be permuted, and scaled against each other one by one.

    Both are part of GL(h). Whether the rest of it keeps the function is for a check in numbers to say: units between
    which a ReLU stands are candidates too.

    Args:
        parameters: the names of those that may be changed.
        shared: tensors that share memory with others, which are never changed.
    """
    group = group_of(graph, parameters, scope="unit")
    for units in find_permutations(graph, shared):
        if units.units > 1 and all(name in group.basis_rows for name, _ in units.occurrences):
            signs = _signs(group, units)
            if signs is not None:
                yield LinearBlock(
                    tuple(
                        Occurrence(name, axis, part, inverse)
                        for name, axis, indices in ((*place, found) for place, found in units.occurrences.items())
                        for part, inverse in _by_sign(indices, signs[name, axis])
                    )
                )


def verified_blocks(
    candidates: Sequence[LinearBlock], check: Float64Check, generator: torch.Generator
) -> tuple[LinearBlock, ...]:
    """The candidates under which the network keeps its function, in float64 at perturbed weights.

    They are tried together, each with its own random matrix, and halves of them apart where that changes the outputs.
    The outputs are analytic in the matrices: what changes them for some matrices changes them for almost all, and
    random matrices do not compensate each other.
    """
    moved = dict(check.state)
    for block in candidates:
        moved = block(moved, generator=generator)
    if not candidates or check.change(moved) <= MAX_CHANGE:
        return tuple(candidates)
    if len(candidates) == 1:
        return ()
    half = len(candidates) // 2
    return tuple(
        block for part in (candidates[:half], candidates[half:]) for block in verified_blocks(part, check, generator)
    )


def _signs(group: RescalingGroup, units: Permutation) -> dict[tuple[str, int], IndexArray] | None:
    """The sign at each place with which the units can be scaled against each other; None where that is not 1 or -1.

    What all units of the set have in common, as the scale of a head that later weights cancel, does not matter.
    """
    first: NDArray[np.float64] | None = None
    found: dict[tuple[str, int], IndexArray] = {}
    for (name, axis), indices in units.occurrences.items():
        rows = _rows_along(group, name, axis)
        if rows is None:
            return None
        potentials = csr_array(group.basis)[rows[indices.ravel()]].toarray().reshape(*indices.shape, -1)
        apart = potentials[1:] - potentials[:1]
        if first is None:
            first = apart[:, :1]
            if not np.abs(first).max(axis=(1, 2), initial=0).min() > 0:
                return None
        signs = np.isclose(apart, first).all(axis=2).astype(np.int64) - np.isclose(apart, -first).all(axis=2)
        if not signs.all() or not (signs == signs[:1]).all():
            return None
        found[name, axis] = signs[0]
    return found if any((signs < 0).any() for signs in found.values()) else None


def _rows_along(group: RescalingGroup, name: str, axis: int) -> IndexArray | None:
    """The rows of the basis for the indices along one axis of a parameter; None where they depend on more."""
    compacted = [compact(array) for array in group.basis_rows[name]]
    arrays = [array for array in compacted if array.ndim > axis and array.shape[axis] > 1]
    if len(arrays) != 1 or arrays[0].size != arrays[0].shape[axis]:
        return None
    return arrays[0].ravel()


def _by_sign(indices: IndexArray, signs: IndexArray) -> Iterator[tuple[IndexArray, bool]]:
    for inverse in (False, True):
        chosen = indices[:, (signs < 0) == inverse]
        if chosen.size:
            yield chosen, inverse
