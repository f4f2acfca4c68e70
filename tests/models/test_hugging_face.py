"""Image classifiers of the Hugging Face hub; those that load one are slow, as importing transformers takes 5 s."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from sharpbench import plan_population
from sharpbench.core.spec import format_spec, parse_spec
from sharpbench.environment import import_torchvision
from sharpbench.errors import InvalidInput
from sharpbench.models import MODELS, HuggingFace, hugging_face
from sharpbench.runner.foreign.plan import PopulationOptions
from sharpbench.runner.run import run

OFFERED = {model.name: model for model in MODELS}
UNCHECKED = PopulationOptions(timing=0, oracle=0, invariance=0, device="cpu")
MEAN, STD = [0.5, 0.4, 0.3], [0.2, 0.25, 0.5]


def test_the_word_is_the_repository() -> None:
    model = parse_spec("hf:google/vit-base-patch16-224", OFFERED, kind="model")
    assert model == HuggingFace("google/vit-base-patch16-224")
    assert format_spec(HuggingFace("owner/name", revision="v1")) == "hf:owner/name[revision=v1]"


@pytest.mark.parametrize("name", ["../weights", "/etc/passwd", "a/b/c", "a/..", "", "a b", "~/vit", "C:\\x"])
def test_names_that_are_paths_are_refused(name: str) -> None:
    with pytest.raises(InvalidInput, match="is not a name of the hub; write hf:OWNER/NAME"):
        HuggingFace(name)
    with pytest.raises(InvalidInput, match=r"revision '\.\./x' is not a name of the hub"):
        HuggingFace("owner/name", revision="../x")


def test_without_transformers_a_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ImportError(name)

    hugging_face._transformers.cache_clear()
    monkeypatch.setattr(hugging_face, "import_module", missing)
    with pytest.raises(InvalidInput, match=r"need the library transformers; pip install 'sharpbench\[hf\]'"):
        HuggingFace("owner/name").transform()


class FakeProcessor:
    """An image processor that states its options and records those that it is given."""

    def __init__(self, **stated: Any) -> None:
        self.__dict__.update(stated)
        self.given: dict[str, Any] = {}

    def __call__(self, *, images: Image.Image, return_tensors: str, **given: Any) -> dict[str, torch.Tensor]:
        self.given = given
        if self.__dict__.get("fails"):
            raise ValueError("two\nlines")
        return {"pixel_values": torch.zeros(1, 3, 4, 4)}


@pytest.fixture
def processed(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function that makes a model with a fake image processor, and needs no library."""

    def make(**stated: Any) -> tuple[HuggingFace, FakeProcessor]:
        hugging_face._shape_of_images.cache_clear()
        processor = FakeProcessor(**stated)
        monkeypatch.setattr(hugging_face, "_cached_processor", lambda *given: processor)
        return HuggingFace("owner/name"), processor

    return make


@pytest.mark.parametrize(
    ("stated", "shown"),
    [
        ({"do_normalize": True, "image_mean": MEAN, "image_std": STD}, "mean 0.5 0.4 0.3, std 0.2 0.25 0.5"),
        ({"do_normalize": True, "image_mean": 0.5, "image_std": 0.25}, "mean 0.5, std 0.25"),
        ({"do_normalize": False, "image_mean": MEAN, "image_std": STD}, "not normalised"),
        ({"do_normalize": True, "image_mean": None}, "mean None, std None"),
        ({}, "not normalised"),
    ],
)
def test_the_description_says_what_the_processor_does(processed: Any, stated: dict[str, Any], shown: str) -> None:
    model, _ = processed(**stated)
    assert model.describe_transform() == f"FakeProcessor 3x4x4, {shown}"
    assert model.describe_transform((0.1,) * 3, (2.0,) * 3) == "FakeProcessor 3x4x4, mean 0.1 0.1 0.1, std 2 2 2"


def test_a_mean_is_used_also_where_the_processor_does_not_normalise(processed: Any) -> None:
    model, processor = processed(do_normalize=False, do_rescale=False)
    model.normalizing_transform((0.1,) * 3, (2.0,) * 3)(Image.new("RGB", (4, 4)))
    assert processor.given["do_normalize"]
    assert processor.given["do_rescale"]
    assert processor.given["image_mean"] == [0.1] * 3


def test_a_processor_that_fails_is_one_line(processed: Any) -> None:
    model, _ = processed(fails=True, do_normalize=False)
    for use in (model.describe_transform, lambda: model.input_shape):
        with pytest.raises(InvalidInput, match=r"'hf:owner/name' cannot be loaded \(ValueError: two lines\);"):
            use()


def test_a_folder_is_not_read_in_place_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "owner" / "name").mkdir(parents=True)
    hugging_face._cached_processor.cache_clear()
    for use in (HuggingFace("owner/name").pretrained, HuggingFace("owner/name").transform):
        with pytest.raises(InvalidInput, match=r"working folder has a 'owner/name', .*; rename that, or run in"):
            use()


@pytest.fixture
def transformers() -> Any:
    """The library, where it is installed."""
    pytest.importorskip("transformers")
    import_torchvision()  # where it does not fit torch, transformers cannot be imported before it
    import transformers

    return transformers


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, transformers: Any) -> Path:
    """A cache of the hub, from which files are read without network, with two networks of one architecture."""
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    sizes = {"image_size": 16, "patch_size": 8, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    processor = transformers.ViTImageProcessor(size={"height": 16, "width": 16}, image_mean=MEAN, image_std=STD)
    for seed in range(3):
        folder = tmp_path / "hub" / f"models--somebody--vit{seed}"
        snapshot = folder / "snapshots" / "0123456789abcdef0123456789abcdef01234567"
        (folder / "refs").mkdir(parents=True)
        (folder / "refs" / "main").write_text(snapshot.name, encoding="utf-8")
        torch.manual_seed(seed)
        config = transformers.ViTConfig(intermediate_size=8, num_labels=3, **sizes)
        transformers.ViTForImageClassification(config).save_pretrained(snapshot)
        processor.save_pretrained(snapshot)
    for each in (hugging_face._cached_config, hugging_face._cached_processor, hugging_face._shape_of_images):
        each.cache_clear()
    return tmp_path


@pytest.mark.slow
def test_it_is_the_network_of_the_hub_with_its_weights_and_images(hub: Path, transformers: Any) -> None:
    model = HuggingFace("somebody/vit1")
    assert model.input_shape == (3, 16, 16)
    assert model.classes == 3
    image = Image.fromarray(np.full((9, 12, 3), 51, np.uint8))
    expected = (0.2 - torch.tensor(MEAN)) / torch.tensor(STD)
    assert torch.allclose(model.transform()(image)[:, 3, 3], expected, atol=1e-6)
    other = model.normalizing_transform((0.1,) * 3, (2.0,) * 3)(image)
    assert torch.allclose(other[:, 3, 3], torch.full((3,), 0.05), atol=1e-6)
    assert model.describe_transform() == "ViTImageProcessor 3x16x16, mean 0.5 0.4 0.3, std 0.2 0.25 0.5"
    assert "mean 0.1 0.1 0.1" in model.describe_transform((0.1,) * 3, (2.0,) * 3)
    torch.manual_seed(7)
    state = torch.get_rng_state()
    module = model.pretrained().eval()
    assert torch.equal(torch.get_rng_state(), state)
    twin = transformers.ViTForImageClassification.from_pretrained("somebody/vit1").eval()
    inputs = torch.randn(2, 3, 16, 16)
    assert torch.equal(module(inputs), twin(inputs).logits)
    assert model.build((3, 16, 16), 5)(inputs).shape == (2, 5)
    with pytest.raises(InvalidInput, match="takes images of 3x16x16, not 1x28x28"):
        model.build((1, 28, 28), 5)


@pytest.mark.slow
def test_a_list_of_names_is_a_population(hub: Path) -> None:
    (hub / "names.csv").write_text("name,gap\nvit0,0.1\nvit1,0.3\nvit2,0.2\n", encoding="utf-8")
    (hub / "mine.toml").write_text(
        'table = "names.csv"\nmodel = "hf:somebody/{name}"\nweights = "pretrained"\n'
        'dataset = "npz:images.npz[classes=3]"\n',
        encoding="utf-8",
    )
    images = np.random.default_rng(0).integers(0, 255, (6, 8, 8, 3), dtype=np.uint8)
    np.savez(hub / "images.npz", inputs=images, targets=np.arange(6) % 3)
    cells = plan_population("parameter-norm,ggn-trace", str(hub), UNCHECKED)
    records = list(run(cells, cache_dir=hub / "cache"))
    assert [record.status for record in records] == ["ok"] * 6
    assert len({record.value for record in records}) == 6
    assert cells[0].recipe.title == "hf:somebody/vit0 at pretrained"
    assert {record.truth["gap"] for record in records} == {0.1, 0.2, 0.3}
    assert cells[0].recipe.content["transformers"]


@pytest.mark.slow
def test_what_cannot_be_loaded_is_said_in_a_line(hub: Path) -> None:
    for model in (HuggingFace("somebody/none"), HuggingFace("somebody/vit0", revision="other")):
        with pytest.raises(InvalidInput, match=r"'hf:somebody/\w+' cannot be loaded \(\w+: .*fetch it once") as caught:
            model.pretrained()
        assert "\n" not in str(caught.value)
