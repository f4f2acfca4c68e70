"""Images of one's own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sharpbench.datasets import ImageFolder, Subset
from sharpbench.environment import import_timm
from sharpbench.errors import InvalidInput
from sharpbench.models import Timm


def picture(path: Path, value: int, *, size: tuple[int, int] = (8, 8), mode: str = "L") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, value if mode == "L" else (value, 0, 255)).save(path)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two classes, a train and a val part."""
    root = tmp_path / "photos"
    for number in range(3):
        picture(root / "train" / "cat" / f"{number}.png", 10 * number)
        picture(root / "train" / "dog" / "deep" / f"{number}.PNG", 255)
    picture(root / "val" / "dog" / "9.png", 51)
    (root / "train" / "dog" / "notes.txt").write_text("no image")
    return root


def test_classes_are_folders_in_the_order_of_their_names(photos: Path) -> None:
    data = ImageFolder(str(photos)).load(None)
    assert data.train_targets.tolist() == [0, 0, 0, 1, 1, 1]
    assert data.test_targets.tolist() == [1]
    assert data.train_inputs.shape == (6, 1, 8, 8)
    assert data.train_inputs[:, 0, 0, 0].tolist() == pytest.approx([-1, 20 / 255 - 1, 40 / 255 - 1, 1, 1, 1])
    assert (data.classes, data.images) == (2, True)


def test_without_parts_all_images_are_training_examples(photos: Path) -> None:
    data = ImageFolder(str(photos / "train")).load(None)
    assert (len(data.train_inputs), len(data.test_inputs)) == (6, 0)
    with pytest.raises(InvalidInput, match="the test split of this data set holds no example"):
        ImageFolder(str(photos / "train")).examples(None, Subset(split="test"))


def test_colours_are_kept_where_any_image_has_them(photos: Path) -> None:
    picture(photos / "train" / "cat" / "red.jpg", 255, mode="RGB")
    data = ImageFolder(str(photos)).load(None)
    assert data.train_inputs.shape[1] == 3


def test_only_the_drawn_images_are_opened(photos: Path) -> None:
    (photos / "train" / "cat" / "0.png").write_bytes(b"broken")
    kept = next(seed for seed in range(40) if 0 not in Subset(limit=2, seed=seed).indices(6))
    taken = ImageFolder(str(photos)).examples(None, Subset(limit=2, seed=kept))
    assert len(taken.inputs) == 2
    with pytest.raises(InvalidInput, match=r"image '.*0.png' cannot be decoded"):
        ImageFolder(str(photos)).examples(None, Subset())


def test_a_network_of_timm_is_given_its_own_crop(photos: Path) -> None:
    picture(photos / "train" / "cat" / "wide.png", 255, size=(400, 300), mode="RGB")
    model = Timm("test_resnet")
    taken = ImageFolder(str(photos)).examples(None, Subset(), model.transform())
    assert taken.inputs.shape == (7, 3, 160, 160)
    options = import_timm().data.resolve_data_config(
        pretrained_cfg=import_timm().get_pretrained_cfg("test_resnet").to_dict()
    )
    white = (1 - torch.tensor(options["mean"])) / torch.tensor(options["std"])
    assert torch.allclose(taken.inputs[4, :, 80, 80], white)  # dog 0 is white


def test_tensors_and_files_reach_the_network_alike(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    (tmp_path / "a").mkdir()
    Image.fromarray(pixels).save(tmp_path / "a" / "x.png")
    np.savez(tmp_path / "x.npz", inputs=pixels[None], targets=np.array([0]))
    from sharpbench.datasets import Npz

    transform = Timm("test_resnet").transform()
    file = ImageFolder(str(tmp_path)).examples(None, Subset(), transform).inputs
    tensor = Npz(str(tmp_path / "x.npz")).examples(None, Subset(), transform).inputs
    assert torch.equal(file, tensor)


@pytest.mark.parametrize(
    ("break_it", "line"),
    [
        (
            lambda root: picture(root / "train" / "cat" / "odd.png", 0, size=(9, 8)),
            "odd.png' is 9x8, .* 8x8; give all one",
        ),
        (lambda root: picture(root / "val" / "bird" / "1.png", 0), "has the class 'bird', which the training examples"),
        (
            lambda root: (
                [path.unlink() for path in root.rglob("*.png")] + [path.unlink() for path in root.rglob("*.PNG")]
            ),
            "does not hold an image",
        ),
    ],
)
def test_what_cannot_be_used_is_said_in_a_line(photos: Path, break_it: object, line: str) -> None:
    break_it(photos)  # type: ignore[operator]
    with pytest.raises(InvalidInput, match=line):
        ImageFolder(str(photos)).load(None)


@pytest.mark.parametrize("mode", ["I;16", "I", "F"])
def test_more_than_8_bits_are_refused_and_not_clipped(tmp_path: Path, mode: str) -> None:
    (tmp_path / "a").mkdir()
    kind = {"I;16": np.uint16, "I": np.int32, "F": np.float32}[mode]
    Image.fromarray(np.full((4, 4), 300, kind)).save(tmp_path / "a" / "x.tif")
    with pytest.raises(InvalidInput, match="has more than 8 bits per channel"):
        ImageFolder(str(tmp_path)).load(None)


def test_hidden_folders_are_no_classes_and_empty_ones_are_named(photos: Path) -> None:
    picture(photos / "train" / ".git" / "x.png", 0)
    assert ImageFolder(str(photos)).load(None).classes == 2
    (photos / "train" / "emu").mkdir()
    with pytest.raises(InvalidInput, match=r"folder '.*emu' does not hold an image .*; remove it"):
        ImageFolder(str(photos)).load(None)


def test_without_a_train_folder_every_folder_is_a_class(tmp_path: Path) -> None:
    for name in ("valid", "invalid", "test"):
        picture(tmp_path / name / "1.png", 0)
    data = ImageFolder(str(tmp_path)).load(None)
    assert (data.classes, data.train_targets.tolist(), len(data.test_inputs)) == (3, [0, 1, 2], 0)


def test_folders_that_are_missing_or_empty(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"there is no folder '.*none'"):
        ImageFolder(str(tmp_path / "none")).load(None)
    with pytest.raises(InvalidInput, match="does not hold a folder; put the images of each class"):
        ImageFolder(str(tmp_path)).load(None)
