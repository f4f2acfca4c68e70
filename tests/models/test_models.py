"""What holds for every model of the catalogue."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sharpbench.core.registry import plugin_error
from sharpbench.core.spec import format_spec, parse_spec
from sharpbench.models import MODELS, HuggingFace, Model

OFFERED = {cls.name: cls for cls in MODELS}
ARGUMENTS = {"timm": "test_resnet", "hf": "somebody/vit"}
"""An argument for each model that requires one."""


def make(cls: type[Model]) -> Model:
    return cls(**({cls.argument: ARGUMENTS[cls.name]} if cls.argument else {}))


def test_names_differ() -> None:
    assert len(OFFERED) == len(MODELS)


@pytest.mark.parametrize("cls", MODELS, ids=lambda cls: cls.name)
def test_each_model_is_a_frozen_value_that_its_spec_names(cls: type[Model]) -> None:
    assert plugin_error("models", cls) is None
    assert make(cls) == make(cls)
    assert hash(make(cls)) == hash(make(cls))
    assert parse_spec(format_spec(make(cls)), OFFERED, kind="model") == make(cls)
    assert cls.title
    assert cls.source


@pytest.mark.parametrize("cls", [cls for cls in MODELS if cls is not HuggingFace], ids=lambda cls: cls.name)
def test_each_model_maps_inputs_to_logits_and_follows_the_seed(cls: type[Model]) -> None:
    shape = make(cls).input_shape or (1, 28, 28)
    built: list[nn.Module] = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        built.append(make(cls).build(shape, 7))
    assert built[0].eval()(torch.zeros(2, *shape)).shape == (2, 7)
    first, again, other = (list(module.parameters()) for module in built)
    assert all(torch.equal(one, two) for one, two in zip(first, again, strict=True))
    assert not all(torch.equal(one, two) for one, two in zip(first, other, strict=True))
