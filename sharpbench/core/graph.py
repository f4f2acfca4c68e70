"""Graph: a network's computation on one example, as a flat list of ATen operators."""

from __future__ import annotations

import gc
import logging
import warnings
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, fx, nn
from torch._ops import HigherOrderOperator
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.modules import module as registration

from sharpbench.core.batch import Inputs, list_tensors, map_tensors, split_examples, tree_form
from sharpbench.core.definitions import ATEN_DEFINITIONS
from sharpbench.core.functional import Forward, call_by_form, call_module, differentiable_backends, private_attributes
from sharpbench.core.precision import half_types, held_type, hold, hold_all
from sharpbench.core.quick_export import quick_export
from sharpbench.core.requirements import are_close, is_out_of_memory
from sharpbench.errors import InvalidInput

_captured: weakref.WeakKeyDictionary[nn.Module, dict[tuple[object, ...], Graph]] = weakref.WeakKeyDictionary()


_disagreeing: weakref.WeakSet[Graph] = weakref.WeakSet()
"""Graphs that did not agree with their module just after they were captured, or again."""


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Graph:
    """The functional ATen graph that torch.export makes of a network in eval mode, for a batch of one.

    nodes: in order of execution. parameters: placeholder -> parameter name, for those that are used; a tied
    parameter has one name, its first. buffers: likewise. constants: placeholder -> tensor. inputs, outputs: the
    nodes of the tensors of an example, in their order, and of the logits. tied: every name of a parameter or buffer ->
    the tensor's first. forward: how the module was called, None for the usual way.
    """

    nodes: tuple[fx.Node, ...]
    parameters: Mapping[fx.Node, str]
    buffers: Mapping[fx.Node, str]
    constants: Mapping[fx.Node, Tensor]
    inputs: tuple[fx.Node, ...]
    outputs: tuple[fx.Node, ...]
    tied: Mapping[str, str]
    forward: Forward | None = None


def agreeing_graph(
    module: nn.Module, example: Inputs, agrees: Callable[[Graph], bool], forward: Forward | None = None
) -> tuple[Graph, bool]:
    """A graph of `module`, in eval mode, on `example` [1, ...], and whether it agrees with the module.

    agrees: compares a graph with the module. A graph is kept with the module by its structure. A kept graph that does
    not agree is captured again, once: the module may have been changed in ways that its structure does not show.
    Raises InvalidInput where torch.export cannot follow the network.
    """
    graph, kept = _kept_or_captured(module, example, forward)
    good = agrees(graph)
    if not good and kept and graph not in _disagreeing:
        graph = _kept_or_captured(module, example, forward, again=True)[0]
        good = agrees(graph)
    if not good:
        _disagreeing.add(graph)
    return graph, good


def current_graph(
    module: nn.Module,
    example: Inputs,
    examples: Inputs,
    values: Mapping[str, Tensor] | None = None,
    forward: Forward | None = None,
) -> Graph:
    """A graph of `module` on `example` [1, ...] that gives its outputs for `examples`, or one captured just now.

    values: parameters and buffers by name; by default the module's own. Raises InvalidInput as `agreeing_graph` does.
    """
    if values is None:
        own = (*module.named_parameters(), *module.named_buffers())
        values = {name: hold(value) for name, value in own}
        weight = next((value for value in module.parameters() if value.is_floating_point()), None)
        if weight is not None:
            dtype = held_type(weight.dtype)  # as the module's own weights take them
            examples = map_tensors(lambda leaf: leaf.to(dtype) if leaf.is_floating_point() else leaf, examples)
    held = values
    each = list(split_examples(examples))

    def agrees(graph: Graph) -> bool:
        with torch.enable_grad():  # some networks differentiate inside
            tensors = {name: value.clone() for name, value in held.items()}
            wanted = [call_module(module, tensors, map_tensors(Tensor.clone, one), forward).detach() for one in each]
        try:
            with torch.no_grad():
                found = [run_graph(graph, held, one)[graph.outputs[0]] for one in each]
        except RuntimeError as error:  # constants in the type in which it was captured
            if is_out_of_memory(error):
                raise
            return False
        return all(map(are_close, found, wanted))

    return agreeing_graph(module, example, agrees, forward)[0]


def _kept_or_captured(
    module: nn.Module, example: Inputs, forward: Forward | None, *, again: bool = False
) -> tuple[Graph, bool]:
    """The graph, and whether it is one that was captured before."""
    graphs = _captured.setdefault(module, {})
    example = map_tensors(hold, example)
    dtypes = *(leaf.dtype for leaf in list_tensors(example)), *(value.dtype for value in module.parameters())
    form = (*tree_form(example), dtypes, id(forward), *module_structure(module))  # the graph keeps `forward`
    kept = form in graphs and not again
    if not kept:
        with _paused_collector(), differentiable_backends(), private_attributes(module, _held_tensors(module)):
            graphs[form] = _capture(module, example, forward)
    return graphs[form], kept


@contextmanager
def _paused_collector() -> Iterator[None]:
    """Inside, Python does not look for cycles of garbage: in the many small objects of a capture it would look often,
    for a quarter of the time."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


def _held_tensors(module: nn.Module) -> dict[str, Tensor]:
    """Copies of the module's parameters and buffers, if any is of half precision or of inference mode."""
    parameters, buffers = dict(module.named_parameters()), dict(module.named_buffers())
    every = (*parameters.values(), *buffers.values())
    if not half_types(every) and not any(value.is_inference() for value in every):
        return {}
    wide = hold_all(parameters)
    return {**{name: nn.Parameter(wide[name], parameters[name].requires_grad) for name in wide}, **hold_all(buffers)}


def run_graph(
    graph: Graph, values: Mapping[str, Tensor], example: Inputs, shifts: Mapping[fx.Node, Tensor] | None = None
) -> dict[fx.Node, Tensor]:
    """The result of each node for one example [1, ...], with parameters and buffers `values`.

    shifts: added to the results of some nodes. Constants, and tensors that operators make, are on the example's device.
    Operators are computed by the definitions that torch differentiates; attention's other back ends have no rule for
    vmap, forwards or backwards.
    """
    device = list_tensors(example)[0].device  # not always that on which the graph was captured
    results: dict[fx.Node, Tensor] = {place: tensor.to(device) for place, tensor in graph.constants.items()}
    results.update({place: values[name] for place, name in (*graph.parameters.items(), *graph.buffers.items())})
    results.update(zip(graph.inputs, list_tensors(example), strict=True))
    with sdpa_kernel(SDPBackend.MATH):
        for node in graph.nodes:
            arguments, options = fx.node.map_arg((node.args, node.kwargs), results.__getitem__)
            if "device" in options:
                options = {**options, "device": device}
            operator: Callable[..., Any] = ATEN_DEFINITIONS.get(node.target) or cast(Callable[..., Any], node.target)
            result = operator(*arguments, **options)
            results[node] = result + shifts[node] if shifts and node in shifts else result
    return results


def read_nodes(argument: object) -> list[fx.Node]:
    """The nodes in an operator's argument, or in all of them, as often as it reads them."""
    found: list[fx.Node] = []
    fx.node.map_arg(cast(fx.node.Argument, argument), found.append)
    return found


def module_structure(module: nn.Module) -> tuple[object, ...]:
    """What a user may change about a module without making a new one: its parts, what is tied; not their modes."""
    parts = tuple((name, type(part), part.extra_repr(), _attributes(part)) for name, part in module.named_modules())
    return parts, tuple(_first_names(module.named_parameters).items())


def _attributes(part: nn.Module) -> tuple[object, ...]:
    """What its code may read: numbers and texts by value, functions by identity; and its hooks."""
    plain = (bool, int, float, str, type(None))
    read = {
        key: value if isinstance(value, plain) else id(value)
        for key, value in vars(part).items()
        if key != "training" and (isinstance(value, plain) or callable(value))
    }
    return tuple(read.items()), tuple(part._forward_hooks), tuple(part._forward_pre_hooks)


class _Called(nn.Module):
    """A module with the way in which it is called, as one module of one argument."""

    def __init__(self, module: nn.Module, forward: Forward) -> None:
        super().__init__()
        self.module, self.call = module, forward
        self.training = False  # of this part only: the module's own modes stay

    def forward(self, inputs: Inputs) -> Any:
        return self.call(self.module, inputs)


@contextmanager
def _kept_registration_hooks() -> Iterator[None]:
    """Afterwards torch's hooks on every buffer that is assigned are those of before: export leaves its own if it fails.

    That of torch 2.9 refuses each later assignment of a buffer of the module.
    """
    table = registration._global_buffer_registration_hooks
    before = dict(table)
    try:
        yield
    finally:
        for key in table.keys() - before.keys():
            del table[key]


@contextmanager
def _quiet_export() -> Iterator[None]:
    """Inside, torch.export does not print the graph of a network that it cannot follow: its error says why."""
    from torch.export import _trace as export_trace  # takes seconds, and not all runs capture
    from torch.fx.experimental import symbolic_shapes

    log = logging.getLogger(symbolic_shapes.__name__)
    level = log.level
    vars(export_trace)["print"] = lambda *values, **options: None  # of that module only
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)
        vars(export_trace).pop("print", None)


def _capture(module: nn.Module, example: Inputs, forward: Forward | None) -> Graph:
    plain = forward is None and isinstance(example, Tensor)
    called, prefix = (module, "") if plain else (_Called(module, forward or call_by_form), "module.")
    tensors = (*list_tensors(example), *module.parameters(), *module.buffers())
    devices = {tensor.device.type for tensor in tensors}
    try:
        with warnings.catch_warnings(), _kept_registration_hooks(), _quiet_export(), quick_export(devices):
            warnings.simplefilter("ignore", FutureWarning)  # torch.export's own, about its own pytrees
            warnings.filterwarnings("ignore", ".*during export", UserWarning)  # what a forward pass stores is dropped
            program = torch.export.export(called, (example,)).run_decompositions({})
    except Exception as error:  # export raises whatever the network's own code does under it
        raise InvalidInput(f"torch.export cannot follow {type(module).__name__}: {_first_line(error)}") from error
    for node in program.graph.nodes:
        if node.op == "get_attr" or isinstance(node.target, HigherOrderOperator):
            raise InvalidInput(f"torch.export cannot follow {type(module).__name__} through {node.target}")
        if any(isinstance(size, torch.SymInt) for size in getattr(node.meta.get("val"), "shape", ())):
            raise InvalidInput(f"torch.export cannot follow {type(module).__name__}: a shape depends on values")
    signature = program.graph_signature
    if held := signature.inputs_to_lifted_custom_objs:  # such as a random generator
        raise InvalidInput(f"torch.export cannot follow {type(module).__name__} through {', '.join(held.values())}")
    nodes = {node.name: node for node in program.graph.nodes}
    parameters, buffers = _first_names(module.named_parameters), _first_names(module.named_buffers)
    return Graph(
        nodes=tuple(node for node in program.graph.nodes if node.op == "call_function" and not _asserts_type(node)),
        parameters=_used(nodes, signature.inputs_to_parameters, parameters, prefix),
        buffers=_used(nodes, signature.inputs_to_buffers, buffers, prefix),
        constants={
            nodes[place]: program.constants[name]
            for place, name in signature.inputs_to_lifted_tensor_constants.items()
            if nodes[place].users
        },
        inputs=tuple(nodes[place] for place in signature.user_inputs if isinstance(place, str)),
        outputs=tuple(nodes[name] for name in signature.user_outputs if name in nodes),  # not what it writes into
        tied={**parameters, **buffers},
        forward=forward,
    )


def _asserts_type(node: fx.Node) -> bool:
    """Whether it only asserts the type of the capture, as before a cast; the graph runs in other types also."""
    return node.target is torch.ops.aten._assert_tensor_metadata.default and not node.users


def _used(
    nodes: Mapping[str, fx.Node], places: Mapping[str, str], first: Mapping[str, str], prefix: str
) -> dict[fx.Node, str]:
    """Placeholder -> first name, for the placeholders that something reads."""
    names = {place: name.removeprefix(prefix) for place, name in places.items()}
    return {nodes[place]: first.get(name, name) for place, name in names.items() if nodes[place].users}


def _first_names(named: Callable[..., Iterator[tuple[str, Tensor]]]) -> dict[str, str]:
    """Every name of a tensor -> the first name of that tensor."""
    first = {id(value): name for name, value in named()}
    return {name: first[id(value)] for name, value in named(remove_duplicate=False)}


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
