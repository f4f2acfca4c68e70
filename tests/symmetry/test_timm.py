"""Networks of timm: groups at least as large as is known, verified; minimum sharpness unchanged by their elements."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from types import ModuleType

import pytest
import torch

from benchmarks.symmetry_full import NETWORKS, Network, examine
from sharpbench import Subject, measure
from sharpbench.symmetry import group_of, rescaling_group
from sharpbench.symmetry.float64_check import Float64Check


@pytest.fixture(scope="module")
def timm() -> Iterator[ModuleType]:
    if importlib.util.find_spec("timm") is None:
        pytest.skip("timm is not installed")
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):  # what torchvision misses next to CPU torch, and timm never calls
        if not hasattr(torch.ops.torchvision, name):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    yield importlib.import_module("timm")
    del library


def network(timm: ModuleType, name: str) -> torch.nn.Module:
    """In float64 and eval mode, with norm statistics away from their start."""
    torch.manual_seed(0)
    model = timm.create_model(name, pretrained=False).eval().double()
    for key, value in model.named_buffers():
        if key.endswith("running_mean"):
            value.normal_(0, 0.3)
        elif key.endswith("running_var"):
            value.uniform_(0.5, 2)
    return model


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("name", "least"),
    [("resnet18", 12), ("densenet121", 120), ("swin_tiny_patch4_window7_224", 28), ("vit_tiny_patch16_224", 25)],
)
def test_dimensions(timm: ModuleType, name: str, least: int) -> None:
    model = network(timm, name)
    trial = Float64Check.of(model, torch.randn(1, 3, 224, 224), generator=torch.Generator().manual_seed(0))
    for scope in ("layer", "unit"):
        group = rescaling_group(model, trial.inputs, scope=scope)
        assert group.dimension >= least
        assert group.unknown_operators == ()
        assert group.verify(trial.outputs, trial.state, generator=torch.Generator().manual_seed(1)) < 1e-12


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["test_resnet", "test_convnext", "test_vit"])
def test_the_minimum_is_unchanged_by_elements_of_its_group(timm: ModuleType, name: str) -> None:
    model = network(timm, name)
    generator = torch.Generator().manual_seed(0)
    size = 160 if name == "test_vit" else 64
    inputs, targets = torch.randn(2, 3, size, size, generator=generator).double(), torch.tensor([3, 9])
    weights = {key: value.clone() for key, value in Float64Check.of(model, inputs, generator=generator).state.items()}
    model.load_state_dict(weights)
    model.reset_classifier(10)  # enough classes
    model.double()
    subject = Subject.from_module(model, inputs, targets)
    words = {"layer": "minimum", "unit": "minimum[scope=unit]"}
    values = {scope: measure(word, subject).value for scope, word in words.items()}
    assert values["unit"] <= values["layer"]
    for scope in ("layer", "unit"):
        group = group_of(subject.graph, set(subject.params), scope=scope)
        moved = subject.with_params(group.apply(subject.params, group.random_element(generator)))
        assert measure(words["unit"], moved).value == pytest.approx(values["unit"], rel=1e-7)
        layers = measure(words["layer"], moved).value
        assert (layers == pytest.approx(values["layer"], rel=1e-7)) == (scope == "layer")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("timm")
@pytest.mark.parametrize(
    "network",
    [
        pytest.param(each, id=f"{each.name}, {each.kind}", marks=[] if "norms of" in each.kind else pytest.mark.slow)
        for each in NETWORKS
    ],
)
def test_the_full_symmetry_of_a_transformer(network: Network) -> None:
    row = examine(network)
    assert row.holds, row.markdown
