"""One operator of a graph as a rule sees it, and the basic rules."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, fx

from sharpbench.symmetry.rules import propagation
from sharpbench.symmetry.rules.propagation import UNSCALED, IndexArray, Scale, ScalePropagation

Result = Scale | list[Scale]
Rule = Callable[["Operation"], Result]


@dataclass(frozen=True, slots=True, eq=False)
class Operation:
    """One operator of the graph, with its arguments by the names of its schema.

    read: the arguments that a rule has used; tensors among the others keep their scale.
    """

    flow: ScalePropagation
    node: fx.Node
    read: set[str] = field(default_factory=set)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the result, or of the first of several."""
        value = self.node.meta["val"]
        return tuple((value if isinstance(value, Tensor) else value[0]).shape)

    @property
    def names(self) -> list[str]:
        """The names of all arguments."""
        return [str(argument.name) for argument in self.node.target._schema.arguments]  # type: ignore[union-attr]

    @property
    def first(self) -> str:
        """The name of the first argument."""
        return self.names[0]

    def get(self, name: str) -> Any:
        """The argument of that name, or its default in the schema; None where there is none."""
        for position, argument in enumerate(self.node.target._schema.arguments):  # type: ignore[union-attr]
            if argument.name == name:
                given = self.node.args
                return given[position] if position < len(given) else self.node.kwargs.get(name, argument.default_value)
        return None

    def scale(self, name: str) -> Scale:
        """The scale of a tensor argument."""
        self.read.add(name)
        return self.flow.scale_of(self.get(name))

    def scales(self, name: str) -> list[Scale]:
        """The scales of an argument that is a list of tensors."""
        self.read.add(name)
        return [self.flow.scale_of(node) for node in self.get(name)]

    def pin_unread(self) -> None:
        """Add the equations that every tensor that was not read keeps its scale."""
        for name in set(self.names) - self.read:
            for node in nodes_of(self.get(name)):
                held = self.flow.scales.get(node, UNSCALED)
                for scale in held if isinstance(held, list) else [held]:
                    self.flow.require_zero(scale)

    def size(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor argument."""
        return shape_of(self.get(name))

    def axes(self, name: str = "dim") -> list[int]:
        """The axes of the first argument that an argument names; all of them where it is None or empty."""
        given, count = self.get(name), len(self.size(self.first))
        listed = [given] if isinstance(given, int) else list(given or range(count))
        return [axis % count for axis in listed] if count else []


def shape_of(node: Any) -> tuple[int, ...]:
    return tuple(node.meta["val"].shape) if isinstance(node, fx.Node) else ()


def nodes_of(value: Any) -> list[fx.Node]:
    """The nodes of an argument that is a node or a list."""
    return [node for node in (value if isinstance(value, list | tuple) else [value]) if isinstance(node, fx.Node)]


def operator_name(node: fx.Node) -> str:
    packet = getattr(node.target, "overloadpacket", None)
    return str(packet.__name__ if packet is not None else node.target)


def map_indices(scale: Scale, change: Callable[[IndexArray], IndexArray]) -> Scale:
    return tuple((factor, change(places)) for factor, places in scale)


def homogeneous_rule(op: Operation) -> Result:
    """Positively homogeneous in the first argument, entry by entry."""
    return op.scale(op.first)


def pin_rule(op: Operation) -> Result:
    """All tensors keep their scale: for smooth functions and for unknown operators."""
    op.read.clear()  # tensors that were not read keep their scale
    return UNSCALED


def unscaled_rule(op: Operation) -> Result:
    """The result keeps its scale for any scale of the arguments: for operators that read only their shape and dtype."""
    op.read.update(op.names)
    return UNSCALED


def reading_only(name: str, rule: Rule) -> Rule:
    """`rule`, for operators that read only shape and dtype of the tensors other than `name`."""

    def reading(op: Operation) -> Result:
        op.read.update(set(op.names) - {name})
        return rule(op)

    return reading


def equate_scales(op: Operation, scales: Iterable[Scale]) -> Scale:
    """Require all scales to be equal; returns the one with the fewest indices, the scale of the result."""
    lifted = [map_indices(scale, lambda places: propagation.lift(places, len(op.shape))) for scale in scales]
    best = min(lifted, key=lambda scale: sum(places.size for _, places in scale))
    for scale in lifted:
        op.flow.require_equal(best, scale)
    return best
