"""Networks of timm by name."""

from __future__ import annotations

import pytest
import torch
from PIL import Image
from torch import nn

from sharpbench import Subject
from sharpbench.core.spec import format_spec, parse_spec
from sharpbench.environment import import_timm
from sharpbench.errors import InvalidInput
from sharpbench.models import MODELS, Timm

OFFERED = {model.name: model for model in MODELS}


def test_the_word_is_timms_own_name() -> None:
    model = parse_spec("timm:test_vit[size=64]", OFFERED, kind="model")
    assert model == Timm("test_vit", size=64)
    assert format_spec(model) == "timm:test_vit[size=64]"
    assert format_spec(Timm("resnet18.a1_in1k")) == "timm:resnet18.a1_in1k"


def test_it_is_timms_network_at_its_own_input_size() -> None:
    model = Timm("test_resnet")
    assert model.input_shape == (3, 160, 160)
    torch.manual_seed(0)
    module = model.build((3, 160, 160), 7)
    torch.manual_seed(0)
    twin = import_timm().create_model("test_resnet", num_classes=7)
    assert {name: value.shape for name, value in module.state_dict().items()} == {
        name: value.shape for name, value in twin.state_dict().items()
    }
    assert all(torch.equal(value, twin.state_dict()[name]) for name, value in module.state_dict().items())
    assert module.training


@pytest.mark.parametrize(("name", "shape"), [("test_resnet", (1, 28, 28)), ("test_vit", (1, 32, 48))])
def test_it_takes_the_shape_of_the_data(name: str, shape: tuple[int, ...]) -> None:
    module = Timm(name).build(shape, 4).eval()
    assert module(torch.zeros(2, *shape)).shape == (2, 4)


def test_images_may_be_enlarged() -> None:
    model = Timm("test_vit", size=64)
    module = model.build((1, 28, 28), 4).eval()
    images = torch.randn(2, 1, 28, 28)
    larger = nn.functional.interpolate(images, size=(64, 64), mode="bilinear", align_corners=False)
    assert torch.equal(module(images), module.get_submodule("network")(larger))
    assert model.input_shape is None
    assert model.transform() is None


def test_images_of_that_size_stay_as_they_are_and_the_graph_holds_no_interpolation() -> None:
    module = Timm("test_resnet", size=32).build((3, 32, 32), 4).eval()
    images, targets = torch.randn(2, 3, 32, 32), torch.tensor([0, 1])
    same = nn.functional.interpolate(images, size=(32, 32), mode="bilinear", align_corners=False)
    assert torch.equal(module(images), module.get_submodule("network")(same))
    operators = [str(node.target) for node in Subject.from_module(module, images, targets).graph.nodes]
    assert "aten.conv2d.default" in operators
    assert not any("upsample" in operator for operator in operators)


def test_the_transform_is_timms() -> None:
    transform = Timm("test_resnet").transform()
    assert transform is not None
    config = import_timm().get_pretrained_cfg("test_resnet")
    grey = transform(Image.new("RGB", (40, 28), (51, 51, 51)))
    assert grey.shape == (3, 160, 160)
    expected = (0.2 - torch.tensor(config.mean)) / torch.tensor(config.std)
    assert torch.allclose(grey[:, 80, 80], expected, atol=1e-6)


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        (lambda: Timm("resnt18"), "has no network 'resnt18'; did you mean 'timm:resnet18'"),
        (lambda: Timm("hf-hub:somebody/something"), "has no network 'hf-hub:somebody/something'"),
        (lambda: Timm("resnet18.nonsense"), r"has no weights 'resnet18.nonsense'; it has resnet18.a1_in1k"),
        (lambda: Timm("vit_tiny_patch16_224_in21k"), "is an old name; use 'timm:vit_tiny_patch16_224.augreg_in21k'"),
        (lambda: Timm("test_vit", size=7).build((1, 28, 28), 10), "does not take images of 1x7x7: "),
        (lambda: Timm("test_vit", size=0), "size=0 must be from 1 to 4096"),
        (lambda: Timm("test_vit").build((1, 28, 28), 10), r"does not take images of 1x28x28: .*\[size=160\]'"),
        (lambda: Timm("test_vit").build((784,), 10), r"takes images, got inputs of shape \[784\]"),
        (lambda: parse_spec("timm", OFFERED, kind="model"), "model 'timm' is written timm:ARCHITECTURE"),
        (lambda: parse_spec("timm:", OFFERED, kind="model"), "model 'timm:' is written timm:ARCHITECTURE"),
        (lambda: parse_spec("lenet:5", OFFERED, kind="model"), "model 'lenet:5' is written 'lenet', without a colon"),
        (
            lambda: parse_spec("timm:resnet18[architecture=resnet50]", OFFERED, kind="model"),
            "gives 'architecture' twice",
        ),
    ],
)
def test_what_cannot_be_used_is_said_in_a_line(wrong: object, line: str) -> None:
    with pytest.raises(InvalidInput, match=line) as caught:
        wrong()  # type: ignore[operator]
    assert "\n" not in str(caught.value)


def test_weights_that_cannot_be_had_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*arguments: object, **options: object) -> None:
        raise ConnectionError("no route to host")

    monkeypatch.setattr(import_timm(), "create_model", failing)
    with pytest.raises(InvalidInput, match=r"weights of 'timm:test_vit' cannot be loaded \(ConnectionError: no route"):
        Timm("test_vit").pretrained()
    without = next(
        name for name in import_timm().list_models() if not import_timm().get_pretrained_cfg(name).has_weights
    )
    with pytest.raises(InvalidInput, match="timm has no weights for"):
        Timm(without).pretrained()


def test_pretrained_weights_keep_their_classes_and_inputs(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, object] = {}
    create = import_timm().create_model

    def recording(name: str, *, pretrained: bool, **options: object) -> nn.Module:
        asked.update(pretrained=pretrained, **options)
        module: nn.Module = create(name, pretrained=False, **options)
        return module

    monkeypatch.setattr(import_timm(), "create_model", recording)
    Timm("test_resnet").pretrained()
    assert asked == {"pretrained": True, "num_classes": 1000}
    assert Timm("test_resnet").classes == 1000


def test_attention_that_keeps_what_it_made_of_earlier_weights_does_not() -> None:
    from sharpbench import Subject

    model = Timm("levit_128s", size=None)
    module = model.build((3, 224, 224), 3)
    inputs = torch.randn(1, 3, 224, 224)
    subject = Subject.from_module(module, inputs, torch.tensor([1]))
    with torch.no_grad():
        before = subject.apply(subject.params, inputs)
        moved = {
            name: value + 1.0 * ("attention_biases" in name) * torch.arange(value.shape[-1])
            for name, value in subject.params.items()
        }
        between = subject.apply(moved, inputs)
        after = subject.apply(subject.params, inputs)
    assert not torch.allclose(before, between)
    assert torch.equal(before, after)
