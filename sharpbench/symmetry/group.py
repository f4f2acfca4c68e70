"""The rescaling group of a network: the scales of its parameters that leave its function as it is."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import null_space, orth
from torch import Tensor, fx, nn

from sharpbench.graph import Graph, capture
from sharpbench.symmetry.rules import RULES, Constraint, pinned, tensors

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class RescalingGroup:
    """All rescalings theta_b -> exp((basis u)_b) theta_b that leave the network's function as it is.

    names: the parameters, one a row of `basis`. basis: float64 [parameters, dimension], orthonormal columns.
    unknown: the operators without a rule, at which everything was pinned.
    """

    names: tuple[str, ...]
    basis: Array
    unknown: tuple[str, ...]

    @property
    def dimension(self) -> int:
        """The number of independent rescalings."""
        return int(self.basis.shape[1])

    def apply(self, params: Mapping[str, Tensor], u: Array | Tensor) -> dict[str, Tensor]:
        """`params` rescaled by the element u [dimension]; same keys, types and devices."""
        scales = np.exp(self.basis @ np.asarray(u, dtype=np.float64))
        factor = dict(zip(self.names, scales.tolist(), strict=True))
        return {name: value * factor.get(name, 1.0) for name, value in params.items()}

    def verify(
        self,
        function: Callable[[dict[str, Tensor]], Tensor],
        params: Mapping[str, Tensor],
        *,
        generator: torch.Generator,
        elements: int = 1,
    ) -> float:
        """The largest change of `function(params)` under random elements, relative to its largest value."""
        with torch.no_grad():
            before = function(dict(params))
            changes = [
                (function(self.apply(params, self.random_element(generator))) - before).abs().max()
                for _ in range(elements)
            ]
        return float(torch.stack(changes).max() / before.abs().max())

    def random_element(self, generator: torch.Generator, *, spread: float = 1.0) -> Array:
        """A random u [dimension]; the log-scales of the parameters are of the size of `spread`."""
        drawn = torch.randn(self.dimension, generator=generator, dtype=torch.float64).numpy()
        return np.asarray(drawn * spread, dtype=np.float64)


def rescaling_group(model: nn.Module, inputs: Tensor, *, parameters: Collection[str] | None = None) -> RescalingGroup:
    """The group of `model` (in eval mode) for inputs [B, ...] of that shape.

    parameters: the names that may be rescaled, all others keep their scale; None: all.
    Found on the ATen graph: one unknown a tensor, one rule an operator (see `rules`), the null space read at
    the parameters. Network inputs and outputs, buffers and constants keep scale 0.
    """
    return group_of(capture(model, inputs[:1]), parameters)


def group_of(graph: Graph, parameters: Collection[str] | None = None) -> RescalingGroup:
    """The group read off a captured graph."""
    names = tuple(name for name in dict.fromkeys(graph.parameters.values()) if parameters is None or name in parameters)
    unknowns: dict[fx.Node | str, int] = {name: row for row, name in enumerate(names)}

    def column(node: fx.Node) -> int:
        """A parameter's column is its name's, so that tied tensors share one."""
        return unknowns.setdefault(graph.parameters.get(node, node), len(unknowns))

    rows = [
        {column(node): coefficient for node, coefficient in constraint.items()}
        for constraint in _constraints(graph, names)
    ]
    matrix = np.zeros((max(1, len(rows)), max(1, len(unknowns))))
    for index, row in enumerate(rows):
        for place, coefficient in row.items():
            matrix[index, place] += coefficient
    basis = orth(null_space(matrix)[: len(names)], rcond=1e-10) if names else np.zeros((0, 0))
    return RescalingGroup(names, basis, _unknown(graph))


def _constraints(graph: Graph, free: Collection[str]) -> Iterator[Constraint]:
    """All linear constraints on the log-scales of the graph's tensors."""
    for node in graph.nodes:
        yield from RULES.get(node.target, pinned)(node)
        for source in tensors(node):
            if source.op == "placeholder" and graph.parameters.get(source) not in free:
                yield {source: 1.0}  # examples, buffers, constants, parameters that keep their scale
    for output in graph.outputs:
        yield {output: 1.0}


def _unknown(graph: Graph) -> tuple[str, ...]:
    return tuple(dict.fromkeys(str(node.target) for node in graph.nodes if node.target not in RULES))
