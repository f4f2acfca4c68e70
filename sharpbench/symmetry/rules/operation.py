"""Operation: one operator of a graph as a rule sees it, and the rules that all others build on."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, fx

from sharpbench.symmetry.rules import propagation
from sharpbench.symmetry.rules.propagation import GROUND, IndexArray, Scale, ScalePropagation

Result = Scale | list[Scale]
Rule = Callable[["Operation"], Result]


@dataclass(frozen=True, slots=True, eq=False)
class Operation:
    """One operator of the graph, its arguments by the names of its schema.

    read: the arguments that a rule took into account; tensors among the others keep their scale.
    """

    flow: ScalePropagation
    node: fx.Node
    read: set[str] = field(default_factory=set)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the result, or of the first of several."""
        value = self.node.meta["val"]
        return tuple((value if isinstance(value, Tensor) else value[0]).shape)

    @property
    def names(self) -> list[str]:
        """Of all arguments."""
        return [str(argument.name) for argument in self.node.target._schema.arguments]  # type: ignore[union-attr]

    @property
    def first(self) -> str:
        """The name of the first argument."""
        return self.names[0]

    def get(self, name: str) -> Any:
        """The argument of that name, or the default that the schema gives it; None where there is none."""
        for position, argument in enumerate(self.node.target._schema.arguments):  # type: ignore[union-attr]
            if argument.name == name:
                given = self.node.args
                return given[position] if position < len(given) else self.node.kwargs.get(name, argument.default_value)
        return None

    def scale(self, name: str) -> Scale:
        """The scale of a tensor argument."""
        self.read.add(name)
        return self.flow.of(self.get(name))

    def scales(self, name: str) -> list[Scale]:
        """Those of an argument that is a list of tensors."""
        self.read.add(name)
        return [self.flow.of(node) for node in self.get(name)]

    def pin(self) -> None:
        """Every tensor that was not read keeps its scale."""
        for name in set(self.names) - self.read:
            for node in nodes_of(self.get(name)):
                held = self.flow.scales.get(node, GROUND)
                for scale in held if isinstance(held, list) else [held]:
                    self.flow.vanish(scale)

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


def nodes_of(value: Any) -> list[fx.Node]:
    """The nodes of an argument, be it one or a list."""
    return [node for node in (value if isinstance(value, list | tuple) else [value]) if isinstance(node, fx.Node)]


def packet_of(node: fx.Node) -> str:
    packet = getattr(node.target, "overloadpacket", None)
    return str(packet.__name__ if packet is not None else node.target)


def each(scale: Scale, change: Callable[[IndexArray], IndexArray]) -> Scale:
    return tuple((factor, change(places)) for factor, places in scale)


def passes(op: Operation) -> Result:
    """Positively homogeneous in the first argument, entry by entry."""
    return op.scale(op.first)


def pinned(op: Operation) -> Result:
    """Everything keeps its scale: smooth functions, and the rule of what is unknown."""
    op.read.clear()  # what was not read keeps its scale
    return GROUND


def fixed(op: Operation) -> Result:
    """Of the scale of numbers, whatever the arguments' is: what reads no more of them than shape and type."""
    op.read.update(op.names)
    return GROUND


def only(name: str, rule: Rule) -> Rule:
    """`rule`, of operators that read no more than shape and type of the tensors other than `name`."""

    def reading(op: Operation) -> Result:
        op.read.update(set(op.names) - {name})
        return rule(op)

    return reading


def alike(op: Operation, scales: Iterable[Scale]) -> Scale:
    """All of the same scale, which is the result's: the one that is shortest to write."""
    lifted = [each(scale, lambda places: propagation.lift(places, len(op.shape))) for scale in scales]
    best = min(lifted, key=lambda scale: sum(places.size for _, places in scale))
    for scale in lifted:
        op.flow.equal(best, scale)
    return best
