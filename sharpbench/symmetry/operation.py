"""Operation: one operator of a graph as a rule sees it, and the rules that all others build on."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, fx

from sharpbench.symmetry import layout
from sharpbench.symmetry.flow import GROUND, Flow, Scale
from sharpbench.symmetry.layout import Places

Result = Scale | list[Scale]
Rule = Callable[["Operation"], Result]


@dataclass(frozen=True, slots=True, eq=False)
class Operation:
    """One operator of the graph, its arguments by the names of its schema."""

    flow: Flow
    node: fx.Node

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the result, or of the first of several."""
        value = self.node.meta["val"]
        return tuple((value if isinstance(value, Tensor) else value[0]).shape)

    @property
    def first(self) -> str:
        """The name of the first argument."""
        return str(self.node.target._schema.arguments[0].name)  # type: ignore[union-attr]  # an ATen operator

    def get(self, name: str) -> Any:
        """The argument of that name, or the default that the schema gives it; None where there is none."""
        for position, argument in enumerate(self.node.target._schema.arguments):  # type: ignore[union-attr]
            if argument.name == name:
                given = self.node.args
                return given[position] if position < len(given) else self.node.kwargs.get(name, argument.default_value)
        return None

    def scale(self, name: str) -> Scale:
        """The scale of a tensor argument."""
        return self.flow.of(self.get(name))

    def size(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor argument."""
        return shape_of(self.get(name))

    def axes(self, name: str = "dim") -> list[int]:
        """An argument that names axes of the first argument; all of them where it is None or empty."""
        given, count = self.get(name), len(self.size(self.first))
        listed = [given] if isinstance(given, int) else list(given or range(count))
        return [axis % count for axis in listed] if count else []


def shape_of(node: Any) -> tuple[int, ...]:
    return tuple(node.meta["val"].shape) if isinstance(node, fx.Node) else ()


def packet_of(node: fx.Node) -> str:
    packet = getattr(node.target, "overloadpacket", None)
    return str(packet.__name__ if packet is not None else node.target)


def each(scale: Scale, change: Callable[[Places], Places]) -> Scale:
    return tuple((factor, change(places)) for factor, places in scale)


def passes(op: Operation) -> Result:
    """Positively homogeneous in the first argument, entry by entry."""
    return op.scale(op.first)


def pinned(op: Operation) -> Result:
    """Everything keeps its scale: smooth functions, and the rule of what is unknown."""
    for source in op.node.all_input_nodes:
        held = op.flow.scales.get(source, GROUND)
        for scale in held if isinstance(held, list) else [held]:
            op.flow.vanish(scale)
    return GROUND


def alike(op: Operation, scales: Iterable[Scale]) -> Scale:
    """All of the same scale, which is the result's: the one that is shortest to write."""
    lifted = [each(scale, lambda places: layout.lift(places, len(op.shape))) for scale in scales]
    best = min(lifted, key=lambda scale: sum(places.size for _, places in scale))
    for scale in lifted:
        op.flow.equal(best, scale)
    return best
