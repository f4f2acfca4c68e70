"""The minimum of the trace over rescalings of units and over the invertible matrices of all linear blocks at once.

For one block let A and B be the partial traces over everything but its h units: A of the entries that are multiplied by
M, B of those multiplied by M^-T. Under M the trace becomes tr(S^-1 A) + tr(S B), S = M^T M. Its minimum over S is
2 |A^(1/2) B^(1/2)|_*, the nuclear norm, at S = B^(-1/2) (B^(1/2) A B^(1/2))^(1/2) B^(-1/2): the theorem of the paper
(Ibayashi, Hamaguchi, Imaizumi 2021, Theorem 1, two layers) with matrices in place of numbers. The joint problem is
convex along geodesics in the scales and the S. It is solved by turns; the gradient by all of them is the certificate.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sharpbench.core.subject import Params, Subject
from sharpbench.curvature import Section, partial_traces
from sharpbench.symmetry.full_group import FullGroup
from sharpbench.symmetry.group import RescalingGroup
from sharpbench.symmetry.linear_blocks import LinearBlock, Occurrence
from sharpbench.symmetry.minimum.layers import check_finite, check_not_negative
from sharpbench.symmetry.minimum.terms import unit_terms
from sharpbench.symmetry.minimum.units import GRADIENT_TOLERANCE, balance_terms

Array = NDArray[np.float64]
Move = Callable[[Mapping[str, Tensor]], dict[str, Tensor]]
Curvature = Callable[[Subject, Sequence[Section]], tuple[Params, list[Tensor]]]
"""The diagonal by parameter, and the partial traces of each section, as `partial_traces` returns them."""

BLOCK_TOLERANCE = 1e-7
"""The largest derivative of log(sum) by a block's matrix at which the solution is accepted."""
MAX_TURNS = 200
"""Turns between scales and matrices."""
MAX_PASSES = 30
"""Evaluations of the curvature where blocks share a parameter, as in a chain of linear layers."""
PASS_TOLERANCE = 1e-10
"""Passes end when one lowers the value by less than this share."""
NOISE = 1e-14
"""Eigenvalues below this share of the largest are rounding."""
VANISHING = 1e-8
"""Directions of a block whose share of |A^(1/2) B^(1/2)|_* is below this one's of the largest are driven to 0."""
STRETCH = 1e4
"""The factor by which the weights that are returned are moved along directions that should go to infinity."""


@dataclass(frozen=True, slots=True, eq=False)
class FullMinimum:
    """The smallest trace over a rescaling group of units and the matrices of linear blocks.

    parts: its share by parameter. params: the weights of the network that has it, float64, or of one near the infimum
    where it is not attained. gap: to second order, how far the value may lie above the infimum, relative to it.
    gradient: the largest derivative of log(sum) by a scale or by an entry of a block's matrix. vanishing: what can be
    driven to 0, in words; empty where the infimum is attained, None where that is unknown. steps: turns between
    scales and matrices. passes: evaluations of the curvature.
    """

    value: float
    parts: Mapping[str, float]
    params: Params
    gap: float
    gradient: float
    converged: bool
    vanishing: str | None
    steps: int
    passes: int


def minimise_full(subject: Subject, group: FullGroup, curvature: Curvature = partial_traces) -> FullMinimum:
    """The smallest Gauss-Newton trace that rescalings of units and matrices of the blocks reach together.

    Args:
        curvature: how the diagonal and the partial traces are computed.
    Raises:
        InvalidInput: where an entry of the curvature is not finite, or one of the diagonal is negative.

    Cost: that of the exact diagonal and of h multiplications for each entry of a block's gradients, and a solve. Where
    two blocks act on different axes of one parameter, the curvature is evaluated again at the moved weights until the
    value is constant.

    >>> linear = torch.nn.Sequential(torch.nn.Linear(3, 2, bias=False), torch.nn.Linear(2, 2, bias=False)).double()
    >>> subject = Subject.from_module(linear, inputs, targets)
    >>> group = symmetry.full_group(linear, inputs, generator=draws)
    >>> solved = symmetry.minimise_full(subject, group)
    >>> parts = list(solved.parts.values())  # both layers are balanced
    >>> solved.converged, round(parts[0] / parts[1], 9)
    (True, 1.0)
    """
    params = {name: value.detach().double() for name, value in subject.params.items()}
    rounds = _rounds(group.blocks)
    value, turns, vanishing = np.inf, 0, _Vanishing()
    for passes in itertools.count(1):
        chosen = rounds[(passes - 1) % len(rounds)]
        like = {name: params[name].to(subject.params[name]) for name in params}
        frame = _Frame.of(subject.with_params(like), group.units, chosen, curvature)
        turns += frame.minimise()
        vanishing.add(frame.vanishing)  # what one pass drives towards 0 may look attained in the next
        params = frame.moved(params)
        if passes % len(rounds) == 0:
            done = len(rounds) == 1 or value - frame.value <= PASS_TOLERANCE * frame.value
            if done or passes >= MAX_PASSES:
                return frame.result(params, turns, passes, vanishing.words, settled=done)
            value = frame.value
    raise AssertionError("the passes are counted without end")


def _rounds(blocks: Sequence[LinearBlock]) -> list[list[LinearBlock]]:
    """Blocks by rounds, in none of which two act on different axes of one parameter; at least one round."""
    rounds: list[tuple[dict[str, int], list[LinearBlock]]] = [({}, [])]
    for block in blocks:
        axes = {each.parameter: each.axis for each in block.occurrences}
        fits = (known for known in rounds if all(known[0].get(name, axis) == axis for name, axis in axes.items()))
        held = next(fits, None)
        if held is None:
            rounds.append(held := ({}, []))
        held[0].update(axes)
        held[1].append(block)
    return [chosen for _, chosen in rounds]


@dataclass(slots=True, eq=False)
class _Vanishing:
    """What can be driven to 0. terms: by parameter, how many; None where that is unknown. blocks: in words."""

    terms: dict[str, int] | None = field(default_factory=dict)
    blocks: dict[str, None] = field(default_factory=dict)

    def add(self, other: _Vanishing) -> None:
        """Take in what another pass drives to 0."""
        known = None if self.terms is None or other.terms is None else {**self.terms}
        for name, count in (other.terms or {}).items():
            if known is not None:
                known[name] = max(count, known.get(name, 0))
        self.terms = known
        self.blocks.update(other.blocks)

    @property
    def words(self) -> str | None:
        """In words; empty for nothing, None where it is unknown."""
        if self.terms is None:
            return None
        terms = [f"{count} of {name}" for name, count in self.terms.items()]
        return ", ".join([*terms, *(f"directions of {block}" for block in self.blocks)])


@dataclass(slots=True, eq=False)
class _Piece:
    """One set of h entries of a block, and its matrices [rest, k, k]; k is h until directions vanish."""

    at: Occurrence
    indices: NDArray[np.int64]
    matrices: Array

    def along(self, values: Array) -> Array:
        """The view [axis, rest...] of an array of the parameter's shape."""
        return np.moveaxis(values, self.at.axis, 0)


@dataclass(slots=True, eq=False)
class _Frame:
    """The curvature at weights that move with the solution: every step starts from the identity.

    diagonal: by parameter. pieces: of each block. moves: what was done to the weights, in order.
    """

    group: RescalingGroup
    blocks: Sequence[LinearBlock]
    diagonal: dict[str, Array]
    pieces: list[list[_Piece]]
    moves: list[Move]
    gap: float = np.inf
    gradient: float = np.inf
    vanishing: _Vanishing = field(default_factory=_Vanishing)

    @staticmethod
    def of(subject: Subject, group: RescalingGroup, blocks: Sequence[LinearBlock], curvature: Curvature) -> _Frame:
        """The frame at the subject's weights."""
        pieces = [
            [(each, indices) for each in block.occurrences for indices in np.ascontiguousarray(each.indices.T)]
            for block in blocks
        ]
        sections = [Section(each.parameter, each.axis, indices) for held in pieces for each, indices in held]
        diagonal, matrices = curvature(subject, sections)
        arrays = {name: _as_array(value) for name, value in diagonal.items()}
        for name, values in arrays.items():
            check_finite(f"the diagonal of {name}", values)
        check_not_negative({f"the diagonal of {name}": values for name, values in arrays.items()})
        for values in arrays.values():
            np.maximum(values, 0.0, out=values)
        given = iter(matrices)
        filled = [[_Piece(*each, _as_array(next(given))) for each in held] for held in pieces]
        return _Frame(group, blocks, arrays, filled, [])

    @property
    def value(self) -> float:
        """The trace."""
        return sum(float(values.sum()) for values in self.diagonal.values())

    def minimise(self) -> int:
        """Scales and matrices by turns; returns the number of turns."""
        for turn in itertools.count(1):
            solved = balance_terms(unit_terms(self.group, self.diagonal))
            self._rescale(solved.u)
            self.vanishing.terms = None if solved.vanishing is None else dict(solved.vanishing)
            slopes = [self._slope(pieces) for pieces in self.pieces]
            total = solved.value or 1.0
            self.gradient = max([solved.gradient, *(slope / total for slope, _ in slopes)])
            self.gap = solved.gap + sum(decrement for _, decrement in slopes) / total
            if self.gradient <= BLOCK_TOLERANCE or turn >= MAX_TURNS:
                break
            for block, pieces in zip(self.blocks, self.pieces, strict=True):
                if self._mix(block, pieces):
                    self.vanishing.blocks[block.words] = None
        return turn

    def _rescale(self, u: Array) -> None:
        logs = self.group.log_scales(u)
        for name, log in logs.items():
            self.diagonal[name] *= np.exp(-2 * log)
        for piece in itertools.chain.from_iterable(self.pieces):
            log = np.broadcast_to(logs[piece.at.parameter], self.diagonal[piece.at.parameter].shape)
            kept = piece.indices[: piece.matrices.shape[1]]
            factors = np.exp(-piece.along(log)[kept]).reshape(len(kept), -1).T  # [rest, k]
            piece.matrices *= factors[:, :, None] * factors[:, None, :]
        self.moves.append(lambda state: self.group.apply(state, u))

    def _sums(self, pieces: Sequence[_Piece]) -> tuple[Array, Array]:
        """A and B, of the entries multiplied by M and by M^-T."""
        first, second = (
            np.sum([piece.matrices.sum(0) for piece in pieces if piece.at.inverse == inverse], axis=0)
            for inverse in (False, True)
        )
        return first, second

    def _slope(self, pieces: Sequence[_Piece]) -> tuple[float, float]:
        """The largest derivative of the trace by M = exp(X) at 0, and half the squared Newton decrement.

        The derivative along a symmetric X is 2 tr(X (B - A)), the second one 4 tr(X^2 (A + B)).
        """
        a, b = self._sums(pieces)
        values, vectors = np.linalg.eigh(a + b)
        turned = vectors.T @ (b - a) @ vectors
        sums = values[:, None] + values[None, :]
        solid = sums > NOISE * max(values.max(), np.finfo(float).tiny)
        decrement = float((turned[solid] ** 2 / sums[solid]).sum()) / 2
        return 2 * float(np.abs(b - a).max()), decrement

    def _mix(self, block: LinearBlock, pieces: Sequence[_Piece]) -> bool:
        """Move to the block's best matrix; returns whether directions had to be driven to 0."""
        a, b = self._sums(pieces)
        if not (a.any() and b.any()):
            return bool(a.any() or b.any())
        balanced = _balance(a, b)
        for piece in pieces:
            sides = balanced.right if piece.at.inverse else balanced.left
            held = piece.along(self.diagonal[piece.at.parameter])
            piece.matrices = sides.T @ piece.matrices @ sides
            squares = np.zeros((len(piece.matrices), held[piece.indices].shape[0]))
            squares[:, : sides.shape[1]] = np.maximum(np.diagonal(piece.matrices, axis1=1, axis2=2), 0.0)
            held[piece.indices] = squares.T.reshape(held[piece.indices].shape)
        moved = tuple(_embed(part, block.units) for part in balanced.completed(a, b))
        self.moves.append(lambda state: block.apply(state, *moved))
        return bool(balanced.left.shape[1] < len(a))

    def moved(self, params: Mapping[str, Tensor]) -> Params:
        """The weights, with all that was done here."""
        state = dict(params)
        for move in self.moves:
            state = move(state)
        return state

    def result(self, params: Params, turns: int, passes: int, vanishing: str | None, *, settled: bool) -> FullMinimum:
        """What was found."""
        parts = {name: float(values.sum()) for name, values in self.diagonal.items()}
        converged = settled and self.gradient <= max(BLOCK_TOLERANCE, 10 * GRADIENT_TOLERANCE)
        return FullMinimum(self.value, parts, params, self.gap, self.gradient, converged, vanishing, turns, passes)


@dataclass(frozen=True, slots=True, eq=False)
class _Balanced:
    """left^T A left = right^T B right, diagonal, and right^T left = I, both [h, k]: k < h where directions vanish."""

    left: Array
    right: Array

    def completed(self, a: Array, b: Array) -> tuple[Array, Array]:
        """M [h, h] and its inverse, whose first k columns are `left`; along the others the trace is made small."""
        kept, rest = self.left.shape[1], len(a) - self.left.shape[1]
        if not rest:
            return self.right.T, self.left
        null, dual = (np.linalg.qr(each, mode="complete")[0][:, kept:] for each in (self.right, self.left))
        own, vectors = np.linalg.eigh(null.T @ a @ null / np.trace(a))
        null = null @ vectors
        dual = dual @ np.linalg.inv(null.T @ dual)
        other = np.einsum("ij,ik,kj->j", dual, b, dual) / np.trace(b)
        stretch = np.where(own > other, 1 / STRETCH, STRETCH)
        return np.vstack((self.right.T, dual.T / stretch[:, None])), np.hstack((self.left, null * stretch))


def _balance(a: Array, b: Array) -> _Balanced:
    """The matrices that balance A and B, from the singular values of roots of both, as of two Gramians."""
    first, second = _root(a), _root(b)
    left, values, right = np.linalg.svd(second.T @ first)
    kept = values > VANISHING * values[0]
    scale = 1 / np.sqrt(values[kept])
    return _Balanced(second @ left[:, kept] * scale, first @ right[kept].T * scale)


def _embed(matrix: Array, size: int) -> Tensor:
    """The matrix on the first coordinates of `size`, and the identity on those that have vanished before."""
    whole = np.eye(size)
    whole[: len(matrix), : len(matrix)] = matrix
    return torch.from_numpy(whole)


def _root(matrix: Array) -> Array:
    """R with R R^T = a symmetric positive semidefinite matrix, up to rounding."""
    values, vectors = np.linalg.eigh(matrix)
    root: Array = vectors * np.sqrt(np.maximum(values, 0.0))
    return root


def _as_array(value: Tensor) -> Array:
    return value.detach().to(device="cpu", dtype=torch.float64).numpy().copy()
