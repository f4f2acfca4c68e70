"""The rule of each ATen operator for log-scales, and the propagation of scales through a graph.

A rescaling multiplies each tensor of the network, entry by entry, by exp(s). A rule gets an operator and returns the
scale of its result, or a list for several results. It adds to the propagation the equations under which scaling the
arguments in this way scales the result in that way, for all values. An operator without a rule sets s = 0 for all its
tensors, and a rule does so for arguments that it does not read: this can only make the group smaller. Rules cannot know
whether a network computes what its graph states, so groups are verified (`RescalingGroup.verify_elements`).
"""

from __future__ import annotations

import operator
from collections.abc import Mapping

from torch import Tensor, fx

from sharpbench.core.graph import Graph
from sharpbench.symmetry.rules import propagation
from sharpbench.symmetry.rules.contractions import (
    attention_rule,
    convolution_rule,
    einsum_rule,
    embedding_rule,
    linear_rule,
    matrix_product_rule,
)
from sharpbench.symmetry.rules.elementwise import (
    added_product_rule,
    clamp_rule,
    masked_fill_rule,
    pow_rule,
    power_rule,
    prelu_rule,
    product_rule,
    quotient_rule,
    sum_rule,
    where_rule,
)
from sharpbench.symmetry.rules.operation import (
    Operation,
    Rule,
    homogeneous_rule,
    map_indices,
    operator_name,
    pin_rule,
    reading_only,
    shape_of,
    unscaled_rule,
)
from sharpbench.symmetry.rules.propagation import UNSCALED, Axes, Blocks, ScalePropagation
from sharpbench.symmetry.rules.reductions import (
    along_axis_rule,
    extremum_rule,
    norm_rule,
    reduction_rule,
    uniform_rule,
    window_rule,
)
from sharpbench.symmetry.rules.shapes import (
    cat_rule,
    channel_shuffle_rule,
    expand_rule,
    index_rule,
    pad_rule,
    permute_rule,
    pixel_shuffle_rule,
    repeat_interleave_rule,
    repeat_rule,
    reshape_rule,
    roll_rule,
    select_rule,
    slice_rule,
    split_rule,
    stack_rule,
    unbind_rule,
)


def propagate_node(flow: ScalePropagation, node: fx.Node, rules: Mapping[str, Rule] | None = None) -> None:
    """Set the scale of one node by its rule in `rules`; None: RULES."""
    value = node.meta.get("val")
    if isinstance(value, Tensor) and not value.numel():
        flow.scales[node] = UNSCALED  # nothing to scale
        return
    if node.target is operator.getitem:
        source, index = node.args
        held = flow.scales.get(source, UNSCALED)  # type: ignore[arg-type]  # the node of a tuple
        flow.scales[node] = held[index] if isinstance(held, list) else UNSCALED  # type: ignore[index]
        return
    if not any(flow.scales.get(source) for source in node.all_input_nodes):
        flow.scales[node] = UNSCALED  # no argument is rescaled
        return
    rule = (RULES if rules is None else rules).get(operator_name(node))
    if rule is None:
        flow.unknown_operators[str(node.target)] = None
    if rule is None or (isinstance(value, Tensor) and not value.is_floating_point()):
        rule = pin_rule  # integers and booleans are not homogeneous functions
    operation = Operation(flow, node)
    result = rule(operation)
    operation.pin_unread()
    if isinstance(result, tuple) and isinstance(value, Tensor):
        result = map_indices(result, lambda places: propagation.lift(places, value.ndim))
    flow.scales[node] = result


def propagate_scales(
    graph: Graph, names: Mapping[fx.Node, str], unknowns: Axes | Blocks, unit_rules: Mapping[str, Rule] | None = None
) -> ScalePropagation:
    """The scales and equations of the whole graph, from the tensors in `names` to its unscaled outputs.

    unit_rules: rules that follow units that may be permuted, in place of RULES.
    """
    flow = ScalePropagation(names, units=unit_rules is not None)
    for node, name in names.items():
        if 0 in shape_of(node):
            continue
        if name not in flow.parameters:
            flow.parameters[name] = unknowns(flow, node, shape_of(node))
        flow.scales[node] = flow.parameters[name]
    for node in graph.nodes:
        propagate_node(flow, node, unit_rules)
    for output in graph.outputs:
        flow.require_zero(flow.scale_of(output))
    flow.fix_loose_shifts()
    return flow


def find_convolutions(graph: Graph) -> dict[fx.Node, int]:
    """Placeholder of a weight -> the number of groups of the convolution that reads it."""
    found = {}
    for node in graph.nodes:
        if RULES.get(operator_name(node)) is convolution_rule and isinstance(weight := node.args[1], fx.Node):
            found[weight] = Operation(ScalePropagation({}), node).get("groups")
    return found


def rules_by_operator(rules: Mapping[str, Rule]) -> dict[str, Rule]:
    """Operator -> rule, for keys of several names."""
    return {name: rule for names, rule in rules.items() for name in names.split()}


RULES: dict[str, Rule] = rules_by_operator(
    {
        # elementwise
        "relu leaky_relu neg abs clone contiguous to _to_copy detach alias lift_fresh_copy positive": homogeneous_rule,
        "type_as": reading_only("self", homogeneous_rule),
        "dropout alpha_dropout feature_dropout identity": homogeneous_rule,
        "clamp clamp_min clamp_max threshold": clamp_rule,
        "add sub rsub maximum minimum": sum_rule,
        "mul": product_rule,
        "div true_divide": quotient_rule,
        "addcmul": added_product_rule(1.0),
        "addcdiv": added_product_rule(-1.0),
        "pow": pow_rule,
        "copy": reading_only("src", lambda op: op.scale("src")),
        "zeros_like ones_like full_like empty_like new_zeros new_ones new_full new_empty": unscaled_rule,
        "square": power_rule(2.0),
        "sqrt": power_rule(0.5),
        "rsqrt": power_rule(-0.5),
        "reciprocal": power_rule(-1.0),
        "where": where_rule,
        "masked_fill": masked_fill_rule,
        "prelu _prelu_kernel": prelu_rule,
        "gelu silu sigmoid tanh softplus elu selu celu mish hardswish hardsigmoid relu6 hardtanh exp log": pin_rule,
        "log_sigmoid sin cos erf exp2 expm1 log1p atan arctan softmax _softmax log_softmax _log_softmax": pin_rule,
        "softsign eq ne lt le gt ge isnan isinf round floor ceil sign argmax argmin topk sort": pin_rule,
        # along axes
        "mean sum amax amin nansum linalg_vector_norm norm std": reduction_rule(),
        "var": reduction_rule(2.0),
        "max min": extremum_rule,
        "max_pool1d avg_pool1d adaptive_avg_pool1d adaptive_max_pool1d": window_rule(1),
        "upsample_linear1d upsample_nearest1d": window_rule(1),
        "max_pool2d avg_pool2d adaptive_avg_pool2d _adaptive_avg_pool2d adaptive_max_pool2d": window_rule(2),
        "max_pool2d_with_indices upsample_nearest2d upsample_bilinear2d upsample_bicubic2d": window_rule(2),
        "_upsample_bilinear2d_aa _upsample_bicubic2d_aa _upsample_nearest_exact2d": window_rule(2),
        "max_pool3d avg_pool3d adaptive_avg_pool3d _adaptive_avg_pool3d upsample_trilinear3d": window_rule(3),
        "upsample_nearest3d max_pool3d_with_indices adaptive_max_pool3d": window_rule(3),
        "cumsum index_select": along_axis_rule,
        "unfold im2col col2im as_strided diagonal tril triu unfold_copy": uniform_rule,
        "batch_norm _native_batch_norm_legit_no_training _native_batch_norm_legit native_batch_norm": norm_rule,
        "instance_norm layer_norm native_layer_norm group_norm native_group_norm rms_norm": norm_rule,
        # products over an axis
        "linear": linear_rule,
        "conv1d conv2d conv3d convolution": convolution_rule,
        "conv_transpose1d conv_transpose2d conv_transpose3d": convolution_rule,
        "matmul": matrix_product_rule(),
        "mm bmm": matrix_product_rule(other="mat2"),
        "addmm": matrix_product_rule("mat1", "mat2", plus="self"),
        "baddbmm": matrix_product_rule("batch1", "batch2", plus="self"),
        "einsum": einsum_rule,
        "scaled_dot_product_attention": attention_rule,
        "embedding": embedding_rule,
        # arrangement
        "view reshape _unsafe_view flatten unflatten squeeze unsqueeze": reshape_rule,
        "view_as": reading_only("self", reshape_rule),
        "expand broadcast_to": expand_rule,
        "expand_as": reading_only("self", expand_rule),
        "permute transpose t": permute_rule,
        "slice narrow": slice_rule,
        "split split_with_sizes chunk tensor_split": split_rule,
        "select": select_rule,
        "unbind": unbind_rule,
        "cat concat concatenate": cat_rule,
        "stack": stack_rule,
        "roll flip": roll_rule,
        "pad constant_pad_nd reflection_pad1d reflection_pad2d replication_pad1d replication_pad2d": pad_rule,
        "repeat": repeat_rule,
        "repeat_interleave": repeat_interleave_rule,
        "index _unsafe_index": index_rule,
        "pixel_shuffle pixel_unshuffle": pixel_shuffle_rule,
        "channel_shuffle native_channel_shuffle": channel_shuffle_rule,
        "sym_size": unscaled_rule,
    }
)
