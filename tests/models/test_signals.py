"""Networks for signals: sizes, and their functions against torch's own layers."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sharpbench.errors import InvalidInput
from sharpbench.models import SIGNAL_MODELS, Cnn1d, Mlp1d, Model, Transformer1d
from sharpbench.models.signals import Block

SHAPE = (1, 40)


def count(model: Model) -> int:
    return sum(value.numel() for value in model.build(SHAPE, 10).parameters())


def test_sizes_are_those_of_the_data_set_page() -> None:
    assert [count(cls()) for cls in SIGNAL_MODELS] == [15_210, 5_210, 10_402]


@pytest.mark.parametrize("cls", SIGNAL_MODELS, ids=lambda cls: cls.name)
def test_width_and_depth_change_the_network(cls: type[Model]) -> None:
    plain, wide, deep = (count(cls(**given)) for given in ({}, {"width": 30}, {"depth": 4}))  # type: ignore[arg-type]
    assert len({plain, wide, deep}) == 3
    assert cls(width=30, depth=4).build(SHAPE, 3)(torch.zeros(2, *SHAPE)).shape == (2, 3)  # type: ignore[call-arg]


def test_the_convnet_is_three_strided_convolutions() -> None:
    module = Cnn1d().build(SHAPE, 10)
    plain = nn.Sequential(
        nn.Conv1d(1, 25, 5, 2, 1), nn.ReLU(), nn.Conv1d(25, 25, 3, 2, 1), nn.ReLU(), nn.Conv1d(25, 25, 3, 2, 1),
        nn.ReLU(), nn.Flatten(), nn.Linear(125, 10),
    )  # fmt: skip
    plain.load_state_dict(dict(zip(plain.state_dict(), module.state_dict().values(), strict=True)))
    inputs = torch.randn(3, *SHAPE)
    torch.testing.assert_close(module(inputs), plain(inputs))


def test_a_block_is_that_of_torch() -> None:
    block = Block(6).double()
    plain = nn.TransformerEncoderLayer(
        6, 2, 12, dropout=0.0, activation="gelu", batch_first=True, norm_first=True, dtype=torch.float64
    )
    own = block.state_dict()
    names = {
        "self_attn.in_proj_weight": "attn.qkv.weight", "self_attn.in_proj_bias": "attn.qkv.bias",
        "self_attn.out_proj.weight": "attn.proj.weight", "self_attn.out_proj.bias": "attn.proj.bias",
        "linear1.weight": "fc1.weight", "linear1.bias": "fc1.bias", "linear2.weight": "fc2.weight",
        "linear2.bias": "fc2.bias", "norm1.weight": "norm1.weight", "norm1.bias": "norm1.bias",
        "norm2.weight": "norm2.weight", "norm2.bias": "norm2.bias",
    }  # fmt: skip
    plain.load_state_dict({name: own[ours] for name, ours in names.items()})
    tokens = torch.randn(2, 5, 6, dtype=torch.float64)
    torch.testing.assert_close(block(tokens), plain(tokens))


def test_tokens_are_four_neighbouring_numbers_and_positions_count() -> None:
    module = Transformer1d(depth=1).build(SHAPE, 10)
    inputs = torch.randn(1, *SHAPE)
    swapped = torch.cat([inputs[..., 4:8], inputs[..., :4], inputs[..., 8:]], -1)
    assert not torch.allclose(module(inputs), module(swapped))
    with torch.no_grad():
        module.get_parameter("position").zero_()  # without positions the order of the tokens is not seen
    torch.testing.assert_close(module(inputs), module(swapped))


@pytest.mark.parametrize(
    ("model", "shape", "message"),
    [
        (Cnn1d(), (1, 28, 28), r"signals of at least 1x3, got shape \[1, 28, 28\]; use 'mlp'"),
        (Cnn1d(), (1, 2), r"signals of at least 1x3, got shape \[1, 2\]"),
        (Transformer1d(), (1, 41), r"a multiple of 4, got shape \[1, 41\]"),
    ],
)
def test_inputs_of_another_shape_are_refused(model: Model, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        model.build(shape, 10)


def test_the_shortest_signal_is_taken() -> None:
    assert Cnn1d().build((2, 3), 10)(torch.zeros(1, 2, 3)).shape == (1, 10)


def test_an_odd_width_cannot_be_divided_among_the_heads() -> None:
    with pytest.raises(InvalidInput, match="width=25 must be a multiple of its 2 heads"):
        Transformer1d(width=25)
    with pytest.raises(InvalidInput, match="width=0 must be from 1 to 65,536"):
        Mlp1d(width=0)
