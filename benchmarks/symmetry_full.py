"""Minimum sharpness over the full symmetry of attention on transformers of timm: whether it holds and what it gains.

    python benchmarks/symmetry_full.py             # all below, some minutes
    python benchmarks/symmetry_full.py test_vit    # one

Each architecture is small, with random weights of ordinary size, in float64, on three random images of three classes.
Prints one Markdown row per network: the blocks; the attention layers whose queries and keys are in none; the change of
the outputs under a random element, relative to their size; the minimum over units and over the full group; and the
relative difference of the latter after that element. Exit status 1 if a bound is broken. Nothing is downloaded.
"""

from __future__ import annotations

import sys
import time
import warnings
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from sharpbench import Subject
from sharpbench.environment import import_timm
from sharpbench.symmetry import Float64Check, diagonal_for, full_group, minimise_full, minimum_trace

EXAMPLES, CLASSES = 3, 3
MAX_CHANGE = 1e-10
"""Of the outputs, relative to their size, under a random element."""
MAX_DIFFERENCE = 1e-6
"""Between the minimum before and after a random element, relative to it."""


@dataclass(frozen=True)
class Network:
    """One of timm's architectures, made small. kind: its attention, in words. size: edge of its images."""

    name: str
    kind: str
    size: int = 32
    options: dict[str, Any] = field(default_factory=dict)


SMALL = {"img_size": 32, "depth": 2, "embed_dim": 48, "num_heads": 3}
NETWORKS = (
    Network("test_vit", "fused qkv", options={"img_size": 32, "depth": 2}),
    Network("test_vit2", "fused qkv, registers", options={"img_size": 32, "depth": 2}),
    Network("vit_tiny_patch16_224", "fused qkv", options=SMALL),
    Network("vit_tiny_patch16_224", "norms of queries and keys", options={**SMALL, "qk_norm": True}),
    Network("vit_tiny_patch16_224", "no bias", options={**SMALL, "qkv_bias": False}),
    Network("deit_tiny_distilled_patch16_224", "fused qkv, two heads", options=SMALL),
    Network("deit3_small_patch16_224", "fused qkv, layer scale", options=SMALL),
    Network("vit_relpos_small_patch16_224", "relative positions", options=SMALL),
    Network("vit_small_patch16_rope_224", "rotary, fixed", options=SMALL),
    Network("vit_small_patch16_rope_mixed_224", "rotary, learned", options=SMALL),
    Network("eva02_tiny_patch14_224", "rotary, separate qkv", 28, {**SMALL, "img_size": 28, "qkv_fused": False}),
    Network("beit_base_patch16_224", "fused qkv, no key bias", options=SMALL),
    Network(
        "swin_tiny_patch4_window7_224", "windows",
        options={"img_size": 32, "window_size": 4, "embed_dim": 24, "depths": (2, 2), "num_heads": (2, 4)},
    ),
    Network(
        "swinv2_tiny_window8_256", "windows, cosines",
        options={"img_size": 32, "window_size": 4, "embed_dim": 24, "depths": (2, 2), "num_heads": (2, 4)},
    ),
    Network("cait_xxs24_224", "class attention, talking heads", options={**SMALL, "depth_token_only": 1}),
    Network(
        "coat_tiny", "factorised, convolutional positions",
        options={"img_size": 32, "embed_dims": (32, 32, 32, 32), "serial_depths": (1, 1, 1, 1), "parallel_depth": 1},
    ),
    Network("xcit_nano_12_p16_224", "over channels", options=SMALL),
    Network("convit_tiny", "gated positions", options=SMALL),
    Network(
        "pvt_v2_b0", "separate q and kv, reduced", 64,
        {"depths": (1, 1, 1, 1), "embed_dims": (16, 16, 32, 32), "num_heads": (1, 2, 2, 2)},
    ),
    Network(
        "twins_svt_small", "windows, separate q and kv", 64,
        {"depths": (2, 2, 2, 2), "embed_dims": (16, 16, 32, 32), "num_heads": (1, 2, 2, 2), "img_size": 64},
    ),
    Network(
        "levit_128s", "norms between", 64,
        {"img_size": 64, "embed_dim": (16, 16, 16), "key_dim": 8, "num_heads": (2, 2, 2), "depth": (1, 1, 1)},
    ),
    Network(
        "visformer_tiny", "convolutions", 64,
        {"img_size": 64, "init_channels": 8, "embed_dim": 48, "depth": (1, 1, 1), "num_heads": 3},
    ),
    Network(
        "tnt_s_legacy_patch16_224", "two levels",
        options={"img_size": 32, "depth": 1, "embed_dim": 48, "num_heads_outer": 3, "inner_dim": 8,
                 "num_heads_inner": 2},
    ),
    Network("test_maxvit", "windows and grid", 160),
    Network(
        "davit_tiny", "windows and channels", 64,
        {"depths": (1, 1), "embed_dims": (24, 48), "num_heads": (3, 3), "window_size": 4},
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    """What was found for one network."""

    network: Network
    blocks: str
    restricted: int
    change: float
    unit: float
    full: float
    difference: float
    seconds: float

    @property
    def holds(self) -> bool:
        """Whether the function is kept, the minimum is invariant and not above that over units."""
        kept = self.change <= MAX_CHANGE and self.difference <= MAX_DIFFERENCE
        return kept and self.full <= self.unit * (1 + MAX_DIFFERENCE)

    @property
    def markdown(self) -> str:
        """One row of the table."""
        cells = (
            f"{self.network.name} | {self.network.kind} | {self.blocks} | {self.restricted} | {self.change:.1e}",
            f"{self.unit:.5g} | {self.full:.5g} | {self.difference:.1e} | {self.seconds:.0f}",
        )
        return f"| {' | '.join(cells)} |"


def build(network: Network) -> tuple[nn.Module, Tensor]:
    """The network in float64 and eval mode, images, and weights at which every parameter has an effect."""
    torch.manual_seed(0)
    model: nn.Module = import_timm().create_model(network.name, num_classes=CLASSES, **network.options).eval().double()
    images = torch.randn(EXAMPLES, 3, network.size, network.size, dtype=torch.float64)
    for key, value in model.named_buffers():
        if key.endswith("running_mean"):
            value.normal_(0, 0.3)
        elif key.endswith("running_var"):
            value.uniform_(0.5, 2)
    with torch.no_grad():  # some start at 0 and would hide what comes before
        for value in model.parameters():
            value.normal_(0, value[0].numel() ** -0.5 if value.ndim > 1 else 0.3).add_(value.ndim <= 1)
    return model, images


def examine(network: Network) -> Row:
    """The row of one network."""
    start = time.perf_counter()
    model, images = build(network)
    generator = torch.Generator().manual_seed(0)
    group = full_group(model, images, generator=generator)
    check = Float64Check.of(model, images, generator=generator)
    change = check.change(group.random_move(check.state, generator))
    subject = Subject.from_module(model, images, torch.arange(EXAMPLES) % CLASSES)
    unit = minimum_trace(group.units, diagonal_for(group.units, subject)).value
    full = minimise_full(subject, group).value
    moved = subject.with_params(group.random_move(subject.params, generator))
    difference = abs(minimise_full(moved, group).value / full - 1)
    seconds = time.perf_counter() - start
    return Row(network, group.words, group.restricted, change, unit, full, difference, seconds)


def main(names: list[str]) -> int:
    """Print the table; 1 if a bound is broken."""
    warnings.simplefilter("ignore")
    print("| network | attention | blocks | restricted | change | minimum, unit | full | difference | s |")
    print("|---|---|---|---:|---:|---:|---:|---:|---:|")
    broken = []
    for network in NETWORKS:
        if not names or network.name in names:
            row = examine(network)
            print(row.markdown, flush=True)
            broken += [] if row.holds else [network.name]
    print(f"\nbounds broken: {', '.join(broken) or 'none'}")
    return int(bool(broken))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
