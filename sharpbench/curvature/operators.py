"""Operators: what each ATen operator does to a function that is piecewise affine in a parameter, by its name.

An operator that stands in none of these tables is taken to destroy the property.
"""
# ruff: noqa: SIM905 - words between blanks read better than a column of quoted names

from __future__ import annotations

AFFINE = frozenset(
    """add sub rsub neg mean sum cumsum view reshape _unsafe_view view_as permute transpose t squeeze unsqueeze
    flatten unflatten expand expand_as repeat repeat_interleave slice select narrow split split_with_sizes chunk
    unbind cat stack movedim roll flip rot90 tile diagonal diag_embed unfold im2col col2im pad constant_pad_nd
    reflection_pad1d reflection_pad2d reflection_pad3d replication_pad1d replication_pad2d replication_pad3d
    _pad_circular clone contiguous alias detach_ lift_fresh_copy to _to_copy type_as identity dropout dropout_
    alpha_dropout avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d
    _adaptive_avg_pool2d _adaptive_avg_pool3d upsample_nearest1d upsample_nearest2d upsample_nearest3d
    upsample_linear1d upsample_bilinear2d upsample_trilinear3d upsample_bicubic2d pixel_shuffle pixel_unshuffle
    channel_shuffle tril triu as_strided copy slice_scatter select_scatter getitem""".split()
)
"""Operators that are affine in all their floating-point tensors together."""

PIECEWISE = frozenset(
    """relu relu_ relu6 leaky_relu leaky_relu_ threshold threshold_ hardtanh hardtanh_ clamp clamp_min clamp_max abs
    maximum minimum amax amin max_pool1d max_pool2d max_pool3d max_pool2d_with_indices max_pool3d_with_indices
    adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d max min sort topk
    where masked_fill""".split()
)
"""Operators that are piecewise affine in all their tensors together."""

PRODUCTS = frozenset(
    """mul linear mm bmm matmul dot mv addmm baddbmm addmv conv1d conv2d conv3d conv_transpose1d conv_transpose2d
    conv_transpose3d convolution prelu _prelu_kernel bilinear einsum""".split()
)
"""Operators that are affine in each of their tensors with the others fixed, so in what enters only one of them."""

ADDED = {
    **dict.fromkeys(("linear", "conv1d", "conv2d", "conv3d", "convolution", "bilinear"), "bias"),
    **dict.fromkeys(("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"), "bias"),
    **dict.fromkeys(("addmm", "baddbmm", "addmv"), "self"),
}
"""Of those, the argument that is a summand."""

AFFINE_IN = {
    "layer_norm": ("weight", "bias"),
    "native_layer_norm": ("weight", "bias"),
    "group_norm": ("weight", "bias"),
    "native_group_norm": ("weight", "bias"),
    "rms_norm": ("weight",),
    "instance_norm": ("weight", "bias"),
    "batch_norm": ("input", "weight", "bias"),
    "_native_batch_norm_legit_no_training": ("input", "weight", "bias"),
    "scaled_dot_product_attention": ("value",),
    "div": ("self",),
    "embedding": ("weight",),
    "_weight_norm": ("g",),
    "_weight_norm_interface": ("g",),
    "_unsafe_index": ("self",),
    "index": ("self",),
    "index_select": ("self",),
    "gather": ("self",),
}
"""Operators that are affine in each of the named arguments with the others fixed, in nothing else."""

CONSTANT = frozenset(
    """gt ge lt le eq ne logical_and logical_or logical_not isnan argmax argmin sign floor ceil round full full_like
    zeros zeros_like ones ones_like new_zeros new_ones new_full new_empty arange empty empty_like scalar_tensor eye
    bitwise_and bitwise_or bitwise_not sym_size""".split()
)
"""Operators whose result is piecewise constant."""
