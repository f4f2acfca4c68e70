"""Images of one's own."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sharpbench.core.registry import available
from sharpbench.core.spec import format_spec, parse_spec
from sharpbench.datasets import ImageFolder, Npz, Subset
from sharpbench.datasets.dataset import in_colour
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
        picture(root / "train" / "dog" / ("deep" if number else ".") / f"{number}.PNG", 255)
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
    transform = model.transform()
    assert transform is not None
    taken = ImageFolder(str(photos)).examples(None, Subset(), in_colour(transform))
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
    transform = Timm("test_resnet").transform()
    assert transform is not None
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


def test_classes_are_numbered_as_torchvision_or_as_timm_does(tmp_path: Path) -> None:
    """timm's reader orders the numbers in the names as numbers, and does not regard their case."""
    names = ["0", "1", "2", "10", "11", "Zebra", "apple"]
    for number, name in enumerate(names):
        picture(tmp_path / name / "x.png", number)
    folder = ImageFolder(str(tmp_path))
    assert folder.pictures("train").classes == tuple(sorted(names))
    natural = ImageFolder(str(tmp_path), order="natural")
    reader = import_timm().data.create_dataset("", root=str(tmp_path)).reader
    theirs = sorted(reader.class_to_idx, key=reader.class_to_idx.get)
    assert list(natural.pictures("train").classes) == theirs == ["0", "1", "2", "10", "11", "apple", "Zebra"]
    counts, warning = folder.notes(None)
    assert counts.endswith(": 7 classes (0, 1, 10, 11, 2 and 2 more), 7 training and 0 test images")
    assert "timm's reader numbers them 0, 1, 2, 10, 11 and 2 more" in warning
    assert warning.endswith(f"write '{format_spec(natural)}'")
    assert len(natural.notes(None)) == 1


@pytest.mark.parametrize("text", ["dog\nbird\ncat\n", '{"cat": 2, "dog": 0, "bird": 1}'])
def test_a_class_map_numbers_the_classes_and_may_hold_more(photos: Path, tmp_path: Path, text: str) -> None:
    (tmp_path / "map.txt").write_text(text)
    folder = ImageFolder(str(photos), class_map=str(tmp_path / "map.txt"))
    data = folder.load(None)
    assert data.classes == 3
    assert data.train_targets.tolist() == [0, 0, 0, 2, 2, 2]
    assert data.test_targets.tolist() == [0]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("dog\n", "has no number for the folder 'cat'"),
        ("dog\ncat\ndog\n", "names a class twice"),
        ('{"cat": 1, "dog": 2}', "are not 0 to 1, each once"),
        ('{"cat": "0", "dog": 1}', "is not an object of names and whole numbers"),
        ("{", "is not JSON"),
    ],
)
def test_class_maps_that_cannot_be_used(photos: Path, tmp_path: Path, text: str, line: str) -> None:
    (tmp_path / "map.txt").write_text(text)
    with pytest.raises(InvalidInput, match=line):
        ImageFolder(str(photos), class_map=str(tmp_path / "map.txt")).load(None)
    with pytest.raises(InvalidInput, match=r"class map '.*none.txt' cannot be read"):
        ImageFolder(str(photos), class_map=str(tmp_path / "none.txt")).load(None)


@pytest.mark.parametrize(("train", "test"), [("training", "validation"), ("Train", "Test"), ("TRAIN", "Val")])
def test_splits_are_found_under_the_usual_names_in_any_case(tmp_path: Path, train: str, test: str) -> None:
    for split in (train, test):
        picture(tmp_path / split / "a" / "1.png", 0)
        picture(tmp_path / split / "b" / "1.png", 0)
    data = ImageFolder(str(tmp_path)).load(None)
    assert (data.train_targets.tolist(), data.test_targets.tolist()) == ([0, 1], [0, 1])


def test_a_folder_that_is_one_level_too_high_is_refused(photos: Path) -> None:
    with pytest.raises(InvalidInput, match=r"photos' holds only folders, so it is not a class; name the folder whose"):
        ImageFolder(str(photos.parent)).load(None)


def test_test_examples_without_classes_are_refused(photos: Path) -> None:
    picture(photos / "test" / "1.png", 0)
    with pytest.raises(InvalidInput, match=r"folder '.*test' has no class; give it the folders"):
        ImageFolder(str(photos)).load(None)


def test_files_that_systems_leave_are_no_images_and_no_classes(photos: Path) -> None:
    (photos / "train" / "cat" / "._0.png").write_bytes(b"AppleDouble")
    picture(photos / "train" / "cat" / ".ipynb_checkpoints" / "0.png", 0)
    picture(photos / "train" / "__MACOSX" / "cat" / "0.png", 0)
    data = ImageFolder(str(photos)).load(None)
    assert (data.classes, len(data.train_inputs)) == (2, 6)


def png_of_16_bits(path: Path) -> None:
    """A PNG in colour with 16 bits per channel, which PIL cannot write."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    rows = zlib.compress((b"\0" + struct.pack(">3H", 1000, 30000, 60000) * 2) * 2)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 2, 16, 2, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", rows) + chunk(b"IEND", b""))


@pytest.mark.parametrize("name", ["x.png", "x.ppm"])
def test_16_bits_in_colour_are_refused_though_pil_opens_them_as_8(tmp_path: Path, name: str) -> None:
    (tmp_path / "a").mkdir()
    if name == "x.png":
        png_of_16_bits(tmp_path / "a" / name)
    else:
        (tmp_path / "a" / name).write_bytes(b"P6 1 1 65535\n" + struct.pack(">3H", 1000, 30000, 60000))
    with Image.open(tmp_path / "a" / name) as image:
        assert image.mode == "RGB"
    with pytest.raises(InvalidInput, match="has more than 8 bits per channel"):
        ImageFolder(str(tmp_path)).load(None)


def test_images_of_different_sizes_are_made_one_size(photos: Path) -> None:
    picture(photos / "train" / "cat" / "wide.png", 51, size=(40, 20))
    data = ImageFolder(str(photos), size=6).load(None)
    assert data.train_inputs.shape == (7, 1, 6, 6)
    assert torch.allclose(data.train_inputs[3], torch.tensor(51 / 127.5 - 1))
    transform = Timm("test_resnet").transform()
    with pytest.raises(InvalidInput, match="size=6 of 'imagefolder' is for networks without a transform"):
        ImageFolder(str(photos), size=6).examples(None, Subset(), transform)


@pytest.mark.parametrize("name", ["photos [1]", "a[1]", "x[y=1"])
def test_a_path_may_end_in_brackets(name: str) -> None:
    classes = available("datasets").classes
    for given in (ImageFolder(name), ImageFolder(name, order="natural"), Npz(f"{name}.npz", classes=3)):
        assert parse_spec(format_spec(given), classes, kind="dataset") == given
