"""Certificate: for which parameters the Hessian's diagonal block equals Gauss-Newton's, read off the graph.

Where the logits are piecewise affine in a parameter, all others fixed, the two blocks are equal: the Hessian is
J^T Lambda J plus the second derivatives of the logits, which vanish. Every operator of the captured graph is
asked what it does to that property; one that is not known destroys it. So the certificate can only be too modest.
(Second derivatives at kinks are those of the linear piece, as automatic differentiation has them.)
"""

from __future__ import annotations

import operator
import weakref
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from torch import Tensor, fx

from sharpbench.core.graph import Graph, read_nodes
from sharpbench.core.subject import Subject
from sharpbench.curvature.affine_operators import ADDED, AFFINE, AFFINE_IN, CONSTANT, PIECEWISE, PRODUCTS
from sharpbench.curvature.vjp import faithful_graph
from sharpbench.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class _Status:
    """affine: the parameters that a tensor depends on; broken: those not piecewise affinely, with the operators."""

    affine: frozenset[str] = frozenset()
    broken: Mapping[str, frozenset[str]] = field(default_factory=dict)

    @property
    def all(self) -> frozenset[str]:
        return self.affine | frozenset(self.broken)


def certificate(subject: Subject) -> dict[str, tuple[str, ...]]:
    """For every measured parameter the operators, sorted, because of which its blocks of H and G may differ.

    An empty tuple certifies that the two diagonal blocks are equal. This depends only on the graph, not on the weights.
    Where the graph cannot be captured, the reason takes the place of the operators. A parameter that the logits do not
    depend on is certified, since both blocks are 0 (see `unused_parameters`).

    Cost: one capture of the graph, which the subject keeps.

    >>> curvature.certificate(subject)
    {'weight': (), 'bias': ()}
    """
    try:
        broken = _read(faithful_graph(subject)).broken
    except InvalidInput as error:
        return dict.fromkeys(subject.params, (str(error),))
    return {name: tuple(sorted(broken.get(name, ()))) for name in subject.params}


def unused_parameters(subject: Subject) -> tuple[str, ...]:
    """The names of the measured parameters that the logits do not depend on; none where the graph cannot be captured.

    >>> curvature.unused_parameters(subject)
    ()
    """
    try:
        used = _read(faithful_graph(subject)).all
    except InvalidInput:
        return ()
    return tuple(name for name in subject.params if name not in used)


_read_before: weakref.WeakKeyDictionary[Graph, _Status] = weakref.WeakKeyDictionary()


def _read(graph: Graph) -> _Status:
    """The status of the logits, read once a graph."""
    if graph not in _read_before:
        _read_before[graph] = _read_nodes(graph)
    return _read_before[graph]


def _read_nodes(graph: Graph) -> _Status:
    held: dict[fx.Node, _Status] = {place: _Status(frozenset({name})) for place, name in graph.parameters.items()}
    for node in graph.nodes:
        held[node] = _through(node, held)
    return held.get(graph.outputs[0], _Status())


def _through(node: fx.Node, held: Mapping[fx.Node, _Status]) -> _Status:
    name = _name(node)
    given = [held[source] for source in node.all_input_nodes if source in held]
    if not given or name in CONSTANT or _integer(node):
        return _Status()
    if name in PIECEWISE and any(_complex(source) for source in node.all_input_nodes):
        # |a + ib| is not piecewise affine in a and b
        everything = frozenset[str]().union(*(each.all for each in given))
        return _joined(given, everything, f"{node.target} of complex numbers")
    if name in AFFINE | PIECEWISE:
        return _joined(given, frozenset(), str(node.target))
    if name in PRODUCTS:
        return _joined(given, _several(node, held), str(node.target))
    everything = frozenset[str]().union(*(each.all for each in given))
    if name not in AFFINE_IN or (name == "batch_norm" and _argument(node, "training") is not False):
        return _joined(given, everything, str(node.target))
    kept = [source for argument in AFFINE_IN[name] for source in read_nodes(_argument(node, argument))]
    others = [held[source].all for source in node.all_input_nodes if source in held and source not in kept]
    return _joined(given, _several(node, held).union(*others), str(node.target))


def _joined(given: Iterable[_Status], spoiled: frozenset[str], name: str) -> _Status:
    """What the results depend on: everything that was given, `spoiled` no longer affinely, because of `name`."""
    broken: dict[str, frozenset[str]] = {}
    affine: frozenset[str] = frozenset()
    for each in given:
        affine |= each.affine
        for parameter, names in each.broken.items():
            broken[parameter] = broken.get(parameter, frozenset()) | names
    for parameter in spoiled:
        broken[parameter] = broken.get(parameter, frozenset()) | {name}
    return _Status(affine - frozenset(broken), broken)


def _several(node: fx.Node, held: Mapping[fx.Node, _Status]) -> frozenset[str]:
    """The parameters that enter a product more than once; what is only added to it does not count."""
    seen: set[str] = set()
    twice: set[str] = set()
    factors = read_nodes((node.args, node.kwargs))
    for added in read_nodes(_argument(node, ADDED[_name(node)])) if _name(node) in ADDED else ():
        factors.remove(added)
    for source in factors:
        depends = held[source].all if source in held else frozenset()
        twice |= seen & depends
        seen |= depends
    return frozenset(twice)


def _argument(node: fx.Node, name: str) -> object:
    """What an operator's argument of that name is given, by its schema."""
    schema = node.target._schema  # type: ignore[union-attr]  # an ATen operator
    position = [argument.name for argument in schema.arguments].index(name)
    return node.args[position] if position < len(node.args) else node.kwargs.get(name)


def _name(node: fx.Node) -> str:
    if node.target is operator.getitem:
        return "getitem"
    packet = getattr(node.target, "overloadpacket", None)
    return str(packet.__name__ if packet is not None else node.target)


def _integer(node: fx.Node) -> bool:
    """Whether the result is of integers or truth values, so piecewise constant."""
    value = node.meta.get("val")
    return isinstance(value, Tensor) and not (value.is_floating_point() or value.is_complex())


def _complex(node: fx.Node) -> bool:
    value = node.meta.get("val")
    return isinstance(value, Tensor) and value.is_complex()
