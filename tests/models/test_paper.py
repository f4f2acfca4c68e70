"""The paper's networks: their sizes, their names, and what they compute."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sharpbench.core.spec import format_spec
from sharpbench.errors import InvalidInput
from sharpbench.models import PAPER_MODELS, LeNet, Mlp, Model, SmallCnn, SmallMlp

SHAPES = {
    "mlp": [(512, 784), (128, 512), (512, 128), (10, 512)],
    "small-mlp": [(20, 784), (20, 20), (10, 20)],
    "lenet": [(6, 1, 5, 5), (16, 6, 5, 5), (120, 16, 5, 5), (84, 120 * 49), (10, 84)],
    "small-cnn": [(20, 1, 5, 5), (20, 20, 5, 5), (10, 20 * 16)],
}
# at 1x28x28 and 10 classes, with biases: as the paper's section 5 and its code have them
SIZES = {"mlp": 538_762, "small-mlp": 16_330, "lenet": 545_546, "small-cnn": 13_750}


def inputs(n: int = 3, shape: tuple[int, ...] = (1, 28, 28)) -> Tensor:
    return torch.randn(n, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def params(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach() for name, value in module.named_parameters()}


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("model", PAPER_MODELS, ids=lambda model: model.name)
def test_layers_have_the_papers_names_and_shapes(model: type[Model], bias: bool) -> None:
    module = model(bias=bias).build((1, 28, 28), 10)  # type: ignore[call-arg]
    expected: dict[str, tuple[int, ...]] = {}
    for index, shape in enumerate(SHAPES[model.name]):
        expected[f"layer{index}.weight"] = shape
        if bias:
            expected[f"layer{index}.bias"] = shape[:1]
    assert {name: tuple(value.shape) for name, value in module.named_parameters()} == expected
    assert list(module.state_dict()) == list(expected)
    if bias:
        assert sum(value.numel() for value in module.parameters()) == SIZES[model.name]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("model", [Mlp, SmallMlp])
def test_perceptrons_are_relu_between_affine_maps(model: type[Mlp | SmallMlp], bias: bool) -> None:
    module = model(bias=bias).build((1, 28, 28), 10).double()
    values = params(module)
    hidden = inputs().reshape(3, 784)
    layers = range(len(SHAPES[model.name]))
    for index in layers:
        hidden = hidden @ values[f"layer{index}.weight"].T
        if bias:
            hidden = hidden + values[f"layer{index}.bias"]
        if index != layers[-1]:
            hidden = hidden.clamp(min=0)
    torch.testing.assert_close(module(inputs()).detach(), hidden, rtol=1e-12, atol=1e-13)


def pool(images: Tensor, stride: int) -> Tensor:
    """Maxima over windows of 2x2, as a maximum of four slices."""
    height, width = ((side - 2) // stride + 1 for side in images.shape[2:])
    corners = [
        images[
            :, :, row : row + stride * (height - 1) + 1 : stride, column : column + stride * (width - 1) + 1 : stride
        ]
        for row in (0, 1)
        for column in (0, 1)
    ]
    return torch.stack(corners).amax(0)


def convolve(images: Tensor, weight: Tensor, bias: Tensor, padding: int = 0) -> Tensor:
    """A convolution as products of patches and kernels."""
    side = images.shape[-1] + 2 * padding - 4
    patches = F.unfold(images, 5, padding=padding)  # [B, C*25, side*side]
    mapped = weight.flatten(1) @ patches + bias[:, None]
    return mapped.reshape(len(images), len(weight), side, side)


def test_lenet_pads_first_and_pools_at_stride_1_then_2_then_not() -> None:
    module = LeNet().build((1, 28, 28), 10).double()
    p = params(module)
    hidden = pool(convolve(inputs(), p["layer0.weight"], p["layer0.bias"], padding=2).clamp(min=0), 1)
    assert hidden.shape == (3, 6, 27, 27)
    hidden = pool(convolve(hidden, p["layer1.weight"], p["layer1.bias"]).clamp(min=0), 2)
    assert hidden.shape == (3, 16, 11, 11)
    hidden = convolve(hidden, p["layer2.weight"], p["layer2.bias"]).clamp(min=0)
    assert hidden.shape == (3, 120, 7, 7)
    hidden = (hidden.reshape(3, -1) @ p["layer3.weight"].T + p["layer3.bias"]).clamp(min=0)
    expected = hidden @ p["layer4.weight"].T + p["layer4.bias"]
    torch.testing.assert_close(module(inputs()).detach(), expected, rtol=1e-11, atol=1e-13)


def test_small_cnn_pools_twice_at_stride_2() -> None:
    module = SmallCnn().build((1, 28, 28), 10).double()
    p = params(module)
    hidden = pool(convolve(inputs(), p["layer0.weight"], p["layer0.bias"]).clamp(min=0), 2)
    hidden = pool(convolve(hidden, p["layer1.weight"], p["layer1.bias"]).clamp(min=0), 2)
    assert hidden.shape == (3, 20, 4, 4)
    expected = hidden.reshape(3, -1) @ p["layer2.weight"].T + p["layer2.bias"]
    torch.testing.assert_close(module(inputs()).detach(), expected, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("shape", [(1, 15, 15), (1, 16, 16), (3, 32, 32), (2, 17, 23), (1, 28, 16)])
@pytest.mark.parametrize("model", PAPER_MODELS, ids=lambda model: model.name)
def test_other_shapes_and_classes_are_taken_or_refused(model: type[Model], shape: tuple[int, ...]) -> None:
    smallest = {"lenet": 15, "small-cnn": 16}.get(model.name, 1)
    if min(shape[1:]) < smallest:
        with pytest.raises(
            InvalidInput, match=f"model '{model.name}' takes images of at least 1x{smallest}x{smallest}"
        ):
            model().build(shape, 4)
    else:
        assert model().build(shape, 4).double()(inputs(2, shape)).shape == (2, 4)


@pytest.mark.parametrize("shape", [(28, 28), (784,), (), (1, 14, 28), (1, 28, 14), (1, 1, 28, 28)], ids=str)
@pytest.mark.parametrize("model", [LeNet, SmallCnn])
def test_convolutions_refuse_what_is_no_image_of_that_size(model: type[Model], shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidInput, match=rf"model '{model.name}' takes images .*; use 'mlp'") as raised:
        model().build(shape, 10)
    assert str(list(shape)) in str(raised.value)


def test_perceptrons_take_any_shape() -> None:
    for shape in ((7,), (2, 3), (2, 3, 4)):
        assert Mlp().build(shape, 5)(torch.zeros(2, *shape)).shape == (2, 5)


@pytest.mark.parametrize("model", PAPER_MODELS, ids=lambda model: model.name)
def test_initialisation_is_torchs_own_and_follows_the_seed(model: type[Model]) -> None:
    def weights(seed: int) -> dict[str, Tensor]:
        torch.manual_seed(seed)
        return params(model().build((1, 28, 28), 10))

    first, again, other = weights(0), weights(0), weights(1)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not any(torch.equal(first[name], other[name]) for name in first)
    for name, value in first.items():
        fan_in = first[name.replace("bias", "weight")][0].numel()
        assert float(value.abs().max()) <= fan_in**-0.5  # uniform on +-1 / sqrt(fan in)
        if value.numel() > 1000:
            assert float(value.abs().max()) > 0.98 * fan_in**-0.5


def test_models_are_values() -> None:
    assert {format_spec(model()) for model in PAPER_MODELS} == {"mlp", "lenet", "small-mlp", "small-cnn"}
    assert format_spec(Mlp(bias=False)) == "mlp[bias=false]"
    assert Mlp() == Mlp(bias=True) != Mlp(bias=False)
    assert all(one() != other() for one, other in pairwise(PAPER_MODELS))
