"""Blocks of parameters: which parameter belongs to which, and the parts of an estimate summed by them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TypeAlias

from torch import nn

from sharpbench.core.measure import Estimate
from sharpbench.core.subject import Subject
from sharpbench.errors import InvalidInput, describe_error, shorten

Groups: TypeAlias = str | Mapping[str, str] | Callable[[str], str]
"""'layer', 'kind', or names of parameters to names of blocks."""

GROUPINGS = ("layer", "kind")
SUM_TOLERANCE = 1e-3
"""Parts are summed by block where they sum to the value up to this share of it."""
HEADS = frozenset(("head", "heads", "classifier", "lm_head", "fc", "score", "cls", "qa_outputs", "logits"))
"""Names of modules that make the outputs of networks of timm, torchvision and transformers."""


def assign_blocks(subject: Subject, groups: Groups) -> dict[str, str]:
    """The block of each measured parameter, by name, in the network's order.

    groups: 'layer' (the module that holds the parameter), 'kind' (embedding, attention, mlp, convolution, norm, head or
    other, by the type and the name of the module), a mapping from names to blocks, or a function of the name.
    Raises InvalidInput for another word, and where a parameter has no block.
    """
    if isinstance(groups, str):
        if groups not in GROUPINGS:
            raise InvalidInput(f"groups='{shorten(groups)}' is unknown; use {' or '.join(map(repr, GROUPINGS))}")
        known = _kinds(subject.module) if groups == "kind" else {name: _layer_of(name) for name in subject.params}
        return {name: known[name] for name in subject.params}
    if not isinstance(groups, Mapping) and not callable(groups):
        raise InvalidInput(
            f"groups= holds a {type(groups).__name__}; expected 'layer', 'kind', a mapping or a function"
        )
    find = groups.get if isinstance(groups, Mapping) else groups
    found: dict[str, object] = {}
    for name in subject.params:
        try:
            found[name] = find(name)
        except Exception as error:  # whatever the user's function raises
            raise InvalidInput(f"groups= raises {describe_error(error)} for the parameter '{name}'") from error
    for name, block in found.items():
        if not isinstance(block, str) or not block:
            raise InvalidInput(f"parameter '{name}' has the block {shorten(repr(block))}; expected the block's name")
    return {name: str(block) for name, block in found.items()}


def sum_parts(estimate: Estimate, blocks: Mapping[str, str]) -> Estimate:
    """The estimate with its parts summed by block.

    Parts that do not sum to the value stay by parameter, and the details say so. The standard errors of sums are not
    known, as those of their parts are correlated.
    """
    parts = estimate.parts
    if not parts:
        return estimate
    if not math.isclose(sum(parts.values()), estimate.value, rel_tol=SUM_TOLERANCE, abs_tol=1e-12):
        return replace(estimate, details={**estimate.details, "parts": "not summed by block: they are no summands"})
    return replace(estimate, parts=sum_by_block(parts, blocks), parts_stderr={})


def sum_by_block(parts: Mapping[str, float], blocks: Mapping[str, str]) -> dict[str, float]:
    """The sums of the parts by block; a part of another name than a parameter's stays as it is."""
    total: dict[str, float] = {}
    for name, part in parts.items():
        block = blocks.get(name, name)
        total[block] = total.get(block, 0.0) + part
    return total


def split_blocks(subject: Subject, groups: Groups) -> dict[str, Subject]:
    """The subject of each block, in which only that block's parameters are measured; the others are constant."""
    blocks = assign_blocks(subject, groups)
    return {
        block: subject.restrict([name for name in blocks if blocks[name] == block])
        for block in dict.fromkeys(blocks.values())
    }


def _layer_of(name: str) -> str:
    return name.rpartition(".")[0] or name


def _kinds(module: nn.Module) -> dict[str, str]:
    """The kind of each parameter of a network, by its first name."""
    parts = dict(module.named_modules())
    linear = [path for path, part in parts.items() if isinstance(part, nn.Linear)]
    last = linear[-1] if linear else None
    kinds = {}
    for name, _ in module.named_parameters():
        path, _, own = name.rpartition(".")
        words = path.split(".") if path else []
        around = [type(parts[".".join(words[:count])]).__name__.lower() for count in range(1, len(words) + 1)]
        kinds[name] = _kind(parts[path], [*(word.lower() for word in words), *around], own.lower(), last=path == last)
    return kinds


def _kind(part: nn.Module, words: list[str], own: str, *, last: bool) -> str:
    """The kind of a parameter `own` of `part`. words: names and types of the modules around it."""
    if "norm" in type(part).__name__.lower():
        return "norm"
    if isinstance(part, nn.Embedding | nn.EmbeddingBag) or any("embed" in word for word in (*words, own)):
        return "embedding"
    if any("attn" in word or "attention" in word for word in words):
        return "attention"
    if last or not HEADS.isdisjoint(words):
        return "head"
    if isinstance(part, nn.modules.conv._ConvNd):
        return "convolution"
    return "mlp" if isinstance(part, nn.Linear) or any("mlp" in word for word in words) else "other"
