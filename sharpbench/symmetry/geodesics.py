"""Geodesics of the quotient of the weights by GL(h) of each linear block, to second order (da Silva et al. 2025).

A block's weights are G [n, h] and H [m, h], of which the network uses only G H^T: every G A^-1, H A^T gives the same
function. A metric that is the same at all of these is one of the quotient; its geodesics start along horizontal
vectors, orthogonal to the directions (G L, -H L^T) in which the function does not change. Other weights w have the
metric of adaptive sharpness, |xi / w|^2, and straight lines.

Everything is computed at the representative G = P D^(1/2), H = Q D^(1/2) of the singular value decomposition
G H^T = P D Q^T, where both Gram matrices are D. The result is the same at every other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sharpbench.errors import InvalidInput
from sharpbench.symmetry.linear_blocks import LinearBlock

Metric = Literal["inv", "mix"]
MIN_SINGULAR_VALUE = 1e-10
"""A block counts as of full rank where each singular value of G H^T is above this share of the largest."""


@dataclass(frozen=True, slots=True, eq=False)
class _BlockGeometry:
    """One block at its balanced representative.

    g_places [n, h], h_places [m, h]: of its entries among all parameters. g, h: the representative. values [h]: D.
    to_g, to_h [h, h]: what leads back from there, G = g to_g and H = h to_h.
    """

    g_places: Tensor
    h_places: Tensor
    g: Tensor
    h: Tensor
    values: Tensor
    to_g: Tensor
    to_h: Tensor

    @staticmethod
    def of(vector: Tensor, g_places: Tensor, h_places: Tensor, words: str) -> _BlockGeometry:
        """Raises InvalidInput where G or H has no full rank."""
        given_g, given_h = vector[g_places], vector[h_places]
        refused = f"{words}: the weights of one side have a rank below {g_places.shape[1]}, their number of units"
        if min(len(given_g), len(given_h)) < g_places.shape[1]:
            raise InvalidInput(refused)
        left, first = torch.linalg.qr(given_g)
        right, second = torch.linalg.qr(given_h)
        turn, values, back = torch.linalg.svd(first @ second.T)
        if not bool(values[-1] > MIN_SINGULAR_VALUE * values[0]):
            raise InvalidInput(refused)
        root = values.sqrt()
        return _BlockGeometry(
            g_places,
            h_places,
            g=left @ turn * root,
            h=right @ back.T * root,
            values=values,
            to_g=(turn.T @ first) / root[:, None],
            to_h=(back @ second) / root[:, None],
        )

    def horizontal(self, u_g: Tensor, u_h: Tensor, metric: Metric) -> tuple[Tensor, Tensor]:
        """The horizontal part of the vector whose coordinates, in which the metric is Euclidean, are u_g and u_h."""
        d = self.values
        scale = d.sqrt() if metric == "inv" else d.rsqrt()
        g, h = u_g * scale, u_h * scale
        if metric == "inv":
            turn = (d[:, None] * (self.h.T @ h) - (g.T @ self.g) * d) / (d[:, None] ** 2 + d**2)
        else:
            turn = ((self.h.T @ h) / d[:, None] - (g.T @ self.g) / d) / 2
        return g + self.g @ turn.T, h - self.h @ turn

    def bend(self, g: Tensor, h: Tensor, metric: Metric) -> tuple[Tensor, Tensor]:
        """The Christoffel symbols applied twice to a horizontal vector: minus the geodesic's second derivative."""
        d = self.values
        if metric == "inv":
            return (
                -(g / d) @ (g.T @ self.g + self.g.T @ g) + (self.g / d) @ (g.T @ g),
                -(h / d) @ (h.T @ self.h + self.h.T @ h) + (self.h / d) @ (h.T @ h),
            )
        return (
            (g @ (h.T @ self.h + self.h.T @ h) - self.g @ (h.T @ h)) / d,
            (h @ (g.T @ self.g + self.g.T @ g) - self.h @ (g.T @ g)) / d,
        )


@dataclass(frozen=True, slots=True, eq=False)
class Geodesics:
    """Geodesics that start at given weights, of unit time, to second order in their initial velocity.

    Velocities are given as points [P] of coordinates in which the metric is Euclidean, so that a geodesic ball is the
    image of a ball.

    metric: 'inv', tr (G^T G)^-1 xi_G^T xi_G + tr (H^T H)^-1 xi_H^T xi_H, or 'mix', tr (H^T H) xi_G^T xi_G +
        tr (G^T G) xi_H^T xi_H.
    scales [P]: |w| of the weights outside of blocks.
    """

    metric: Metric
    scales: Tensor
    blocks: tuple[_BlockGeometry, ...]

    @staticmethod
    def of(params: Mapping[str, Tensor], blocks: Sequence[LinearBlock], metric: Metric) -> Geodesics:
        """The geodesics from `params`, whose names are those of the blocks.

        Raises:
            InvalidInput: where two blocks have an entry in common, or the rank of one is not full.

        >>> linear = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Linear(2, 4)).double()
        >>> found = symmetry.full_group(linear, inputs, generator=draws)
        >>> params = dict(linear.named_parameters())
        >>> geodesics = symmetry.Geodesics.of(params, found.blocks, "inv")
        >>> geodesics(torch.zeros(20, dtype=torch.float64)).abs().max().item()
        0.0
        """
        vector = torch.cat([value.detach().double().flatten() for value in params.values()])
        starts = dict(zip(params, np.cumsum([0, *(value.numel() for value in params.values())]), strict=False))
        used = np.zeros(len(vector), dtype=bool)
        made = []
        for block in blocks:
            sides = [_places(params, starts, block, inverse) for inverse in (False, True)]
            for places in sides:
                if used[places].any():
                    raise InvalidInput(
                        f"{block.words}: entries are in two blocks, as in a chain of linear layers, whose geodesics "
                        "are not known; leave one of these parameters out of parameters="
                    )
                used[places] = True
            g, h = (torch.from_numpy(places).to(vector.device) for places in sides)
            made.append(_BlockGeometry.of(vector, g, h, block.words))
        return Geodesics(metric, vector.abs().masked_fill(torch.from_numpy(used).to(vector.device), 0), tuple(made))

    def __call__(self, point: Tensor) -> Tensor:
        """The displacement [P] from the weights at the end of the geodesic, in float64, differentiable."""
        point = point.double()
        moved = self.scales * point
        for block in self.blocks:
            g, h = block.horizontal(point[block.g_places], point[block.h_places], self.metric)
            bend_g, bend_h = block.bend(g, h, self.metric)
            moved = moved.index_put((block.g_places,), (g - bend_g / 2) @ block.to_g)
            moved = moved.index_put((block.h_places,), (h - bend_h / 2) @ block.to_h)
        return moved


def _places(
    params: Mapping[str, Tensor], starts: Mapping[str, int], block: LinearBlock, inverse: bool
) -> NDArray[np.int64]:
    """The places among all parameters of the entries of one side of a block, [rest, h]."""
    found = []
    for each in block.occurrences:
        if each.inverse == inverse:
            shape = params[each.parameter].shape
            whole = np.moveaxis(np.arange(shape.numel()).reshape(shape), each.axis, 0) + starts[each.parameter]
            found += [whole[indices].reshape(len(indices), -1).T for indices in each.indices.T]
    return np.concatenate(found)
