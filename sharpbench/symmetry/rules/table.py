"""Rules: what each ATen operator says about the log-scales of the tensors at it.

A rescaling multiplies each tensor of the network, entry by entry, by exp(s). A rule is given an operator and
returns the scale of its result (a list of them for several results), having put into the flow the equations
under which scaling the arguments so scales the result so, whatever the values. An operator without a rule pins
everything at it to s = 0, and so does a rule what it does not read: the group can only come out smaller. That a
network computes what its graph says is not for rules to know; groups are tried out (`RescalingGroup.verified`).
"""

from __future__ import annotations

import operator
from collections.abc import Mapping

from torch import Tensor, fx

from sharpbench.core.graph import Graph
from sharpbench.symmetry.rules import propagation
from sharpbench.symmetry.rules.contractions import (
    attention,
    convolved,
    embedded,
    linear,
    matrix_product,
    summed_product,
)
from sharpbench.symmetry.rules.elementwise import (
    added,
    added_product,
    chosen,
    clamped,
    divided,
    filled,
    multiplied,
    power,
    raised,
    sloped,
)
from sharpbench.symmetry.rules.operation import Operation, Rule, each, fixed, only, packet_of, passes, pinned, shape_of
from sharpbench.symmetry.rules.propagation import GROUND, Axes, Blocks, ScalePropagation
from sharpbench.symmetry.rules.reductions import along, extreme, normalised, over, reduced, uniform
from sharpbench.symmetry.rules.shapes import (
    expanded,
    indexed,
    interleaved,
    joined,
    mixed_channels,
    padded,
    permuted,
    repeated,
    reshaped,
    rolled,
    selected,
    shuffled,
    sliced,
    split,
    stacked,
    unbound,
)


def walk_graph(flow: ScalePropagation, node: fx.Node, rules: Mapping[str, Rule] | None = None) -> None:
    """Carry the flow through one node, by its rule in `rules`; None: RULES."""
    value = node.meta.get("val")
    if isinstance(value, Tensor) and not value.numel():
        flow.scales[node] = GROUND  # there is nothing to scale
        return
    if node.target is operator.getitem:
        source, index = node.args
        held = flow.scales.get(source, GROUND)  # type: ignore[arg-type]  # the node of a tuple
        flow.scales[node] = held[index] if isinstance(held, list) else GROUND  # type: ignore[index]
        return
    if not any(flow.scales.get(source) for source in node.all_input_nodes):
        flow.scales[node] = GROUND  # a function of what nothing rescales
        return
    rule = (RULES if rules is None else rules).get(packet_of(node))
    if rule is None:
        flow.unknown[str(node.target)] = None
    if rule is None or (isinstance(value, Tensor) and not value.is_floating_point()):
        rule = pinned  # whole numbers and truth values are no homogeneous functions
    operation = Operation(flow, node)
    result = rule(operation)
    operation.pin()
    if isinstance(result, tuple) and isinstance(value, Tensor):
        result = each(result, lambda places: propagation.lift(places, value.ndim))
    flow.scales[node] = result


def propagate_scales(
    graph: Graph, names: Mapping[fx.Node, str], unknowns: Axes | Blocks, rules: Mapping[str, Rule] | None = None
) -> ScalePropagation:
    """The graph walked through, from the tensors in `names` to its outputs, which keep their scale."""
    flow = ScalePropagation(names)
    for node, name in names.items():
        if 0 in shape_of(node):
            continue
        if name not in flow.parameters:
            flow.parameters[name] = unknowns(flow, node, shape_of(node))
        flow.scales[node] = flow.parameters[name]
    for node in graph.nodes:
        walk_graph(flow, node, rules)
    for output in graph.outputs:
        flow.vanish(flow.of(output))
    flow.settle()
    return flow


def convolutions(graph: Graph) -> dict[fx.Node, int]:
    """Placeholder of a weight -> the groups of the convolution that reads it."""
    found = {}
    for node in graph.nodes:
        if RULES.get(packet_of(node)) is convolved and isinstance(weight := node.args[1], fx.Node):
            found[weight] = Operation(ScalePropagation({}), node).get("groups")
    return found


def _table(rules: Mapping[str, Rule]) -> dict[str, Rule]:
    """Operator -> rule, for keys of several names."""
    return {name: rule for names, rule in rules.items() for name in names.split()}


RULES: dict[str, Rule] = _table(
    {
        # elementwise
        "relu leaky_relu neg abs clone contiguous to _to_copy detach alias lift_fresh_copy positive": passes,
        "type_as": only("self", passes),
        "dropout alpha_dropout feature_dropout identity": passes,
        "clamp clamp_min clamp_max threshold": clamped,
        "add sub rsub maximum minimum": added,
        "mul": multiplied,
        "div true_divide": divided,
        "addcmul": added_product(1.0),
        "addcdiv": added_product(-1.0),
        "pow": raised,
        "copy": only("src", lambda op: op.scale("src")),
        "zeros_like ones_like full_like empty_like new_zeros new_ones new_full new_empty": fixed,
        "square": power(2.0),
        "sqrt": power(0.5),
        "rsqrt": power(-0.5),
        "reciprocal": power(-1.0),
        "where": chosen,
        "masked_fill": filled,
        "prelu _prelu_kernel": sloped,
        "gelu silu sigmoid tanh softplus elu selu celu mish hardswish hardsigmoid relu6 hardtanh exp log": pinned,
        "log_sigmoid sin cos erf exp2 expm1 log1p atan arctan softmax _softmax log_softmax _log_softmax": pinned,
        "softsign eq ne lt le gt ge isnan isinf round floor ceil sign argmax argmin topk sort": pinned,
        # along axes
        "mean sum amax amin nansum linalg_vector_norm norm std": reduced(),
        "var": reduced(2.0),
        "max min": extreme,
        "max_pool1d avg_pool1d adaptive_avg_pool1d adaptive_max_pool1d upsample_linear1d upsample_nearest1d": over(1),
        "max_pool2d avg_pool2d adaptive_avg_pool2d _adaptive_avg_pool2d adaptive_max_pool2d": over(2),
        "max_pool2d_with_indices upsample_nearest2d upsample_bilinear2d upsample_bicubic2d": over(2),
        "_upsample_bilinear2d_aa _upsample_bicubic2d_aa _upsample_nearest_exact2d": over(2),
        "max_pool3d avg_pool3d adaptive_avg_pool3d _adaptive_avg_pool3d upsample_trilinear3d": over(3),
        "upsample_nearest3d max_pool3d_with_indices adaptive_max_pool3d": over(3),
        "cumsum index_select": along,
        "unfold im2col col2im as_strided diagonal tril triu unfold_copy": uniform,
        "batch_norm _native_batch_norm_legit_no_training _native_batch_norm_legit native_batch_norm": normalised,
        "instance_norm layer_norm native_layer_norm group_norm native_group_norm rms_norm": normalised,
        # products over an axis
        "linear": linear,
        "conv1d conv2d conv3d convolution": convolved,
        "conv_transpose1d conv_transpose2d conv_transpose3d": convolved,
        "matmul": matrix_product(),
        "mm bmm": matrix_product(other="mat2"),
        "addmm": matrix_product("mat1", "mat2", plus="self"),
        "baddbmm": matrix_product("batch1", "batch2", plus="self"),
        "einsum": summed_product,
        "scaled_dot_product_attention": attention,
        "embedding": embedded,
        # arrangement
        "view reshape _unsafe_view flatten unflatten squeeze unsqueeze": reshaped,
        "view_as": only("self", reshaped),
        "expand broadcast_to": expanded,
        "expand_as": only("self", expanded),
        "permute transpose t": permuted,
        "slice narrow": sliced,
        "split split_with_sizes chunk tensor_split": split,
        "select": selected,
        "unbind": unbound,
        "cat concat concatenate": joined,
        "stack": stacked,
        "roll flip": rolled,
        "pad constant_pad_nd reflection_pad1d reflection_pad2d replication_pad1d replication_pad2d": padded,
        "repeat": repeated,
        "repeat_interleave": interleaved,
        "index _unsafe_index": indexed,
        "pixel_shuffle pixel_unshuffle": shuffled,
        "channel_shuffle native_channel_shuffle": mixed_channels,
        "_assert_tensor_metadata sym_size": fixed,
    }
)
