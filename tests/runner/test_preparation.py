"""How inputs are prepared, and whether the accuracy that follows is the stated one."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sharpbench.core.measure import Measure
from sharpbench.core.record import Record
from sharpbench.datasets import Digits, ImageFolder, Npz, Subset
from sharpbench.datasets.dataset import in_colour
from sharpbench.environment import import_timm
from sharpbench.errors import InvalidInput
from sharpbench.models import SmallMlp, Timm
from sharpbench.runner.expectations import FoundAccuracy, check_accuracy, describe_shortfall
from sharpbench.runner.network_evaluation import NetworkEvaluation
from sharpbench.runner.plan import select_measures
from sharpbench.runner.preparation import Preparation
from sharpbench.runner.single_network import EvaluationNote, evaluate_network

FEW = Subset(limit=5)
NORM: tuple[Measure, ...] = select_measures("parameter-norm")


def test_pixels_are_normalized_as_in_training() -> None:
    plain = Digits().examples(None, FEW).inputs
    prepared = Preparation(mean=(0.1307,), std=(0.3081,)).examples(SmallMlp(), Digits(), None, FEW).inputs
    torch.testing.assert_close(prepared, ((plain + 1) / 2 - 0.1307) / 0.3081)
    assert Preparation().examples(SmallMlp(), Digits(), None, FEW).inputs.equal(plain)


def test_a_network_of_timm_keeps_its_crop_under_another_normalization() -> None:
    model, mean, std = Timm("test_resnet"), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    preparation = Preparation(mean=mean, std=std)
    prepared = preparation.examples(model, Digits(), None, FEW).inputs
    config = {
        **import_timm().data.resolve_data_config(pretrained_cfg=model._config().to_dict()),
        "mean": mean,
        "std": std,
    }
    transform = in_colour(import_timm().data.create_transform(**config))
    assert prepared.equal(Digits().examples(None, FEW, transform).inputs)
    assert "mean 0.485 0.456 0.406, std 0.229" in preparation.describe(model, images=False)
    assert "mean 0.5 0.5 0.5" in Preparation().describe(model, images=False)


def test_a_transform_of_the_users_sees_the_images_of_the_data_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    (tmp_path / "scaling.py").write_text("SCALE = 2.0\n")
    (tmp_path / "data.py").write_text(
        "import numpy as np\nimport torch\nfrom scaling import SCALE\n"
        "def small(image):\n    assert image.mode == 'L'\n"
        "    return torch.from_numpy(np.array(image.resize((4, 4)))).float()[None] / 255 * SCALE\n"
    )
    preparation = Preparation(transform=f"{tmp_path / 'data.py'}:small")
    inputs = preparation.examples(SmallMlp(), Digits(), None, FEW).inputs
    assert inputs.shape == (5, 1, 4, 4)
    assert 1 < float(inputs.max()) <= 2
    first = preparation.key_fields()
    (tmp_path / "data.py").write_text((tmp_path / "data.py").read_text().replace("(4, 4)", "(5, 5)"))
    assert preparation.examples(SmallMlp(), Digits(), None, FEW).inputs.shape == (5, 1, 5, 5)
    assert preparation.key_fields() != first


@pytest.mark.parametrize(
    ("body", "line"),
    [
        ("raise ValueError('no')", "raises on an image (L, 28x28): ValueError: no"),
        ("return image", "returns 'Image', not a tensor of floats; end it with torchvision's ToTensor()"),
        ("return torch.zeros(1, next(widths))", "returns [1, 3] for one image and [1, 2] for another"),
    ],
)
def test_transforms_that_fail_are_one_line(tmp_path: Path, body: str, line: str) -> None:
    (tmp_path / "data.py").write_text(f"import torch\nwidths = iter(range(2, 9))\ndef make(image):\n    {body}\n")
    preparation = Preparation(transform=f"{tmp_path / 'data.py'}:make")
    with pytest.raises(InvalidInput, match=re.escape(line)):
        preparation.examples(SmallMlp(), Digits(), None, FEW)


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({"mean": (0.5,)}, "mean is given without std"),
        ({"std": (0.5,)}, "std is given without mean"),
        ({"mean": (0.5,), "std": (0.0,)}, "std=0 must be above 0"),
        ({"mean": (0.5,), "std": (0.5,), "transform": "a.py:b"}, "put the normalisation into the transform"),
        ({"mean": (0.1, 0.2), "std": (0.1, 0.2, 0.3)}, "mean has 2 values, std 3"),
        ({"transform": "a.py"}, "transform 'a.py' is not written FILE.py:NAME"),
    ],
)
def test_options_that_do_not_fit_together(fields: dict[str, object], line: str) -> None:
    with pytest.raises(InvalidInput, match=line):
        Preparation(**fields)  # type: ignore[arg-type]


def test_normalization_needs_images_and_a_value_per_channel(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x=np.zeros((3, 2), np.float32), y=np.arange(3))
    with pytest.raises(InvalidInput, match="mean and std are for images"):
        Preparation(mean=(0.5,), std=(0.5,)).examples(SmallMlp(), Npz(str(tmp_path / "x.npz")), None, Subset())
    with pytest.raises(InvalidInput, match="images have 1 channels; give one value"):
        Preparation(mean=(0.5,) * 3, std=(0.5,) * 3).examples(SmallMlp(), Digits(), None, FEW)


def test_keys_of_records_hold_the_preparation_only_where_it_is_given() -> None:
    assert Preparation().key_fields() == {}
    assert Preparation(mean=(0.5,), std=(0.25,)).key_fields() == {"mean": "0.5", "std": "0.25"}


@pytest.fixture
def stated(tmp_path: Path) -> Path:
    """Weights of a network that always says class 0, in a file that states an accuracy of 98 %."""
    state = {name: torch.zeros_like(value) for name, value in SmallMlp().build((1, 28, 28), 10).state_dict().items()}
    torch.save({"state_dict": state, "best_acc": 98.0}, tmp_path / "net.pt")
    return tmp_path / "net.pt"


def steps_of(weights: Path, **fields: object) -> list[object]:
    evaluation = NetworkEvaluation(
        model=SmallMlp(),
        measures=NORM,
        dataset=Digits(),
        weights=str(weights),
        **fields,  # type: ignore[arg-type]
    )
    return list(evaluate_network(evaluation, threads=1))


def test_an_accuracy_far_below_the_stated_one_is_a_warning(stated: Path) -> None:
    notes = [step.text for step in steps_of(stated) if isinstance(step, EvaluationNote)]
    assert len(notes) == 1
    assert re.search(r"net.pt' state an accuracy of 98.0%, here it is 9.9% on 1,437 examples; check --mean", notes[0])


def test_another_accuracy_than_the_expected_one_is_an_error(stated: Path) -> None:
    with pytest.raises(InvalidInput, match=r"is 9.9% on 1,437 examples where 98.0% is expected \(within 0.5%\)"):
        steps_of(stated, expected_accuracy=0.98)
    records = [step for step in steps_of(stated, expected_accuracy=0.1) if isinstance(step, Record)]
    assert records[0].recipe["inputs"] == "(x - 0.5) / 0.5"
    with pytest.raises(InvalidInput, match=r"expected accuracy 98 must be from 0 to 1; write 0.98"):
        steps_of(stated, expected_accuracy=98)
    with pytest.raises(InvalidInput, match=r"at weights 'random' is .*% on 1,437 examples where 90.0% is expected"):
        steps_of(Path("random"), expected_accuracy=0.9)


def test_several_weights_are_measured_and_a_state_is_part_of_the_key(stated: Path, tmp_path: Path) -> None:
    state = torch.load(stated, weights_only=True)["state_dict"]
    raw = {name: value + 1 for name, value in state.items()}
    torch.save({"state_dict": raw, "state_dict_ema": state}, tmp_path / "both.pt")
    sources = (str(tmp_path / "both.pt"), f"{tmp_path / 'both.pt'}#state_dict_ema", "random")
    evaluation = NetworkEvaluation(model=SmallMlp(), measures=NORM, dataset=Digits(), weights=sources, subset=FEW)
    records = [step for step in evaluate_network(evaluation, threads=1) if isinstance(step, Record)]
    assert [record.recipe["weights"] for record in records] == list(sources)
    assert len({record.key for record in records}) == 3
    assert records[1].value == 0.0 != records[0].value


def test_tolerances_allow_for_the_draw_of_the_examples() -> None:
    def found(value: float, examples: int, *, sampled: bool) -> FoundAccuracy:
        return FoundAccuracy(value=value, examples=examples, sampled=sampled, classes=10)

    check_accuracy(found(0.96, 100, sampled=True), 0.98, where="net")
    with pytest.raises(InvalidInput, match=r"96.0% on 100 examples where 98.0% is expected \(within 0.5%\)"):
        check_accuracy(found(0.96, 100, sampled=False), 0.98, where="net")
    assert describe_shortfall(found(0.96, 1000, sampled=False), 0.98, where="net") == ""
    assert describe_shortfall(found(0.92, 1000, sampled=False), 0.98, where="net").startswith("warning: weights 'net'")
    assert "that of a guess" in describe_shortfall(found(0.11, 1000, sampled=False), None, where="net")
    assert describe_shortfall(found(0.4, 1000, sampled=False), None, where="net") == ""


def test_a_transform_receives_images_of_folders_in_colour_as_torchvision_gives_them(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    Image.new("L", (4, 4), 51).save(tmp_path / "a" / "x.png")
    seen = ImageFolder(str(tmp_path)).examples(None, Subset(), lambda image: torch.tensor([float(image.mode == "RGB")]))
    assert seen.inputs.tolist() == [[1.0]]
