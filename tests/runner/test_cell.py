"""plan(): what will run, settled and checked before anything runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from sharpbench_measures import FisherRao, Normalized, Trace

from sharpbench import Cell, InvalidInput, Measure, plan
from sharpbench.core.measure import Estimate, Invariance
from sharpbench.core.subject import Subject
from sharpbench.datasets import Digits
from sharpbench.datasets.dataset import Data, Dataset
from sharpbench.models import LeNet, SmallMlp
from sharpbench.models.model import Model
from sharpbench.runner.cell import EvaluationSetting
from sharpbench.training.cohorts import LabelNoise
from sharpbench.training.cohorts.cohort import Cohort
from sharpbench.training.optimizers import Sgd
from sharpbench.training.recipe import Recipe

COHORT = "label-noise[ratios=2,seeds=2,train_size=64]"


@dataclass(frozen=True)
class Norm(Measure):
    name: ClassVar[str] = "norm"
    title: ClassVar[str] = "Euclidean norm"
    source: ClassVar[str] = "tests"
    power: float = 2.0

    def __call__(self, subject: Subject, *, generator: torch.Generator) -> Estimate:
        return Estimate(sum(float(value.norm(self.power)) for value in subject.params.values()))

    def exact(self, subject: Subject) -> float | None:
        return None

    def invariances(self) -> frozenset[Invariance]:
        return frozenset()


@dataclass(frozen=True)
class NormAgain(Norm):
    version: ClassVar[int] = 2


@dataclass(frozen=True)
class Brighter(Dataset):
    """The digits with one pixel of one image changed."""

    name: ClassVar[str] = "digits"
    title: ClassVar[str] = "digits, one bit off"
    source: ClassVar[str] = "tests"

    def load(self, folder: Path | None) -> Data:
        data = Digits().load(folder)
        inputs = data.test_inputs.clone()
        inputs[0, 0, 0, 0] += 0.125
        return replace(data, test_inputs=inputs)


def cells(measures: str | Sequence[Measure] = "trace", models: Any = "small-mlp", **options: Any) -> tuple[Cell, ...]:
    return plan(measures, models, **{"cohort": COHORT, "device": "cpu", **options})


def keys(planned: Sequence[Cell]) -> list[str]:
    return [cell.key for cell in planned]


def test_words_and_objects_give_the_same_cells() -> None:
    words = cells("trace,normalized[diagonal=icml]", "small-mlp[bias=false],lenet", dataset="digits")
    objects = plan(
        [Trace(), Normalized(diagonal="icml")],
        [SmallMlp(bias=False), LeNet()],
        dataset=Digits(),
        cohort=LabelNoise(ratios=2, seeds=2, train_size=64),
        device="cpu",
    )
    assert words == objects
    assert keys(words) == keys(objects)


def test_defaults_spelled_out_are_the_same_cell() -> None:
    assert keys(cells("trace[samples=100, method=auto]")) == keys(cells("trace"))
    assert keys(cells([Norm(power=2)])) == keys(cells([Norm(power=2.0)]))


@pytest.mark.parametrize(
    ("measures", "models"), [("trace,trace", "small-mlp,small-mlp"), ([Trace(), Trace()], [SmallMlp(), SmallMlp()])]
)
def test_what_is_named_twice_is_planned_once(measures: Any, models: Any) -> None:
    """Two cells of one key would be two records of one key."""
    planned = cells(measures, models)
    assert keys(planned) == keys(cells())
    assert len(set(keys(planned))) == len(planned)


def test_cells_come_network_by_network_and_measures_in_the_order_named() -> None:
    planned = cells("normalized,trace", "small-mlp,lenet")
    shown = [(c.recipe.model.name, c.recipe.label_noise, c.recipe.seed, c.measure.name) for c in planned]
    assert shown == [
        (model, noise, seed, measure)
        for model in ("small-mlp", "lenet")
        for noise in (0.0, 1.0)
        for seed in (0, 1)
        for measure in ("normalized", "trace")
    ]


def test_keys_are_hashes_and_all_different() -> None:
    planned = cells("trace,normalized,fisher-rao,minimum", "small-mlp,lenet,mlp")
    found = keys(planned)
    assert len(set(found)) == len(found) == 4 * 3 * 4
    assert all(len(key) == 64 and set(key) <= set("0123456789abcdef") for key in found)
    assert keys(cells("trace,normalized,fisher-rao,minimum", "small-mlp,lenet,mlp")) == found


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"dtype": "float64"},
        {"examples": 16},
        {"dataset": Brighter()},
        {"cohort": "label-noise[ratios=2,seeds=2,train_size=64,learning_rate=0.03]"},
        {"cohort": "label-noise[ratios=2,seeds=2,train_size=65]"},
        {"measures": "trace[samples=99]"},
        {"measures": "trace[method=hutchinson]"},
        {"measures": "fisher-rao"},
        {"models": "small-mlp[bias=false]"},
    ],
    ids=str,
)
def test_the_key_changes_with_all_that_changes_a_value(change: dict[str, Any]) -> None:
    assert not set(keys(cells())) & set(keys(cells(**change)))


def test_the_key_changes_with_device_recipe_data_and_version() -> None:
    cell = cells([Norm()])[0]
    changed = [
        replace(cell, setting=replace(cell.setting, device="cuda")),
        replace(cell, data_sha256="0" * 64),
        replace(cell, measure=NormAgain()),
        replace(cell, measure=Norm(power=3.0)),
        *(
            replace(cell, recipe=replace(cell.recipe, **{name: value}))
            for name, value in (
                ("seed", 9),
                ("label_noise", 0.5),
                ("optimizer", Sgd(momentum=0.8)),
                ("weight_decay", 0.0),
                ("decay", 0.0),
                ("batch_size", 32),
                ("max_epochs", 3),
                ("target_loss", 0.5),
            )
        ),
    ]
    assert len({cell.key, *keys(changed)}) == 1 + len(changed)


def test_the_key_does_not_change_with_timing_and_oracle() -> None:
    few, many = cells(timing=0, oracle=0), cells(timing=9, oracle=9)
    assert keys(few) == keys(many)
    assert not any(cell.checks.timed or cell.checks.compared for cell in few)
    assert all(cell.checks.timed and cell.checks.compared for cell in many)


def test_timing_and_oracle_count_the_networks_of_each_model() -> None:
    planned = cells("trace,normalized", "small-mlp,lenet", timing=1, oracle=3)
    assert [cell.checks.timed for cell in planned] == 2 * [True, True, *6 * [False]]
    assert [cell.checks.compared for cell in planned] == 2 * [*6 * [True], False, False]


def test_the_cells_hold_what_was_asked_for() -> None:
    cell = cells([FisherRao()], seed=7, dtype="float64", examples=5)[0]
    assert cell.setting == EvaluationSetting(seed=7, dtype="float64", device="cpu")
    assert cell.examples == 5
    assert cell.data_sha256 == Digits().load(None).sha256()
    assert cell.recipe == LabelNoise(ratios=2, seeds=2, train_size=64).recipes([SmallMlp()], Digits())[0]
    assert cells(examples=64)[0].examples == 64


def test_automatic_is_the_device_that_there_is() -> None:
    expected = "cuda" if torch.cuda.is_available() else "cpu"
    assert {cell.setting.device for cell in cells(device="auto")} == {expected}


def test_a_plan_leaves_torchs_generator_as_it_was() -> None:
    before = torch.random.get_rng_state()
    cells()
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_plugin_file_offers_every_kind(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from dataclasses import dataclass\n"
        "from typing import ClassVar\n"
        "from sharpbench import Cohort, Recipe\n"
        "@dataclass(frozen=True)\n"
        "class One(Cohort):\n"
        "    name: ClassVar[str] = 'one'\n"
        "    title: ClassVar[str] = 'one network'\n"
        "    source: ClassVar[str] = 'tests'\n"
        "    size: int = 10\n"
        "    def recipes(self, models, dataset):\n"
        "        return tuple(Recipe(model=m, dataset=dataset, train_size=self.size) for m in models)\n"
        "COHORTS = (One,)\n",
        encoding="utf-8",
    )
    planned = cells(cohort="one[size=20]", plugins=[tmp_path / "mine.py"])
    assert [cell.recipe for cell in planned] == [Recipe(model=SmallMlp(), dataset=Digits(), train_size=20)]
    with pytest.raises(InvalidInput, match="unknown cohort 'one'"):
        cells(cohort="one")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"measures": "minimun"}, r"unknown measure 'minimun'; did you mean 'minimum'\?"),
        ({"measures": ""}, "no measure is named"),
        ({"measures": "trace[samplse=3]"}, r"no parameter 'samplse'; did you mean 'samples'\?"),
        ({"measures": "trace[samples=1.5]"}, "samples=1.5 is not a whole number"),
        ({"measures": "trace[samples=1]"}, "samples=1 must be at least 2"),
        (
            {"measures": "trace[method=exactly]"},
            r"is none of auto, exact, .*, xtrace; did you mean 'exact'\?",
        ),
        ({"measures": "trace[method=exact"}, "unbalanced brackets"),
        ({"measures": "trace[exact]"}, "'exact' is not parameter=value"),
        ({"models": "lenett"}, r"unknown model 'lenett'; did you mean 'lenet'\?"),
        (
            {"models": "lenet,net.py:make"},
            r"'net.py:make' is a network of a file, which `measure` takes; to train it, ",
        ),
        ({"models": "mlp[bias=perhaps]"}, "bias=perhaps is neither true nor false"),
        ({"dataset": "digit"}, r"unknown dataset 'digit'; did you mean 'digits'\?"),
        ({"dataset": "digits[size=8]"}, "dataset 'digits' has no parameter 'size'; it takes none"),
        ({"cohort": "label-noize"}, r"unknown cohort 'label-noize'; did you mean 'label-noise'"),
        ({"cohort": "label-noise[ratios=1]"}, "ratios=1 must be at least 2"),
        ({"cohort": "label-noise[seeds=0]"}, "seeds=0 must be at least 1"),
        ({"cohort": "label-noise[learning_rate=-1]"}, "learning_rate=-1.0 must be above 0"),
        ({"cohort": "label-noise[learning_rate=nan]"}, "learning_rate=nan is not finite"),
        ({"cohort": "label-noise[train_size=0]"}, "train_size=0 must be at least 1"),
        ({"cohort": "label-noise[train_size=1438]"}, "train_size=1438 exceeds the 1437 training examples of 'digits'"),
        ({"examples": 65}, "examples=65 exceeds the 64 that each network is trained on"),
        (
            {"examples": 1438, "cohort": "label-noise[train_size=none]"},
            "examples=1438 exceeds the 1437 that each network is trained on",
        ),
        ({"examples": 0}, "examples=0 must be at least 1"),
        ({"timing": -1}, "timing=-1 must be at least 0"),
        ({"oracle": -2}, "oracle=-2 must be at least 0"),
        ({"dtype": "bfloat16"}, "dtype 'bfloat16' is none of float32, float64"),
        ({"device": "gpu"}, "device 'gpu' is none of auto, cpu, cuda"),
        ({"plugins": [Path("/nowhere/plugin.py")]}, "--plugin /nowhere/plugin.py is not a file"),
        ({"seed": 2**64}, "seed=18446744073709551616 must be from 0 to 18446744073709551615"),
        ({"seed": -1}, "seed=-1 must be from 0 to"),
        ({"dtype": "two\nlines"}, r"dtype 'two\\nlines' is none of float32, float64"),
        ({"dtype": torch.float32}, "dtype 'torch.float32' is none of float32, float64"),
    ],
    ids=str,
)
def test_bad_input_is_one_line_that_names_the_offender(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message) as caught:
        cells(**change)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        *({"measures": ["trace"]}, {"measures": [Trace]}, {"measures": [SmallMlp()]}, {"models": ["small-mlp"]}),
        *({"cohort": 3}, {"dataset": 3}, {"measures": [None]}, {"measures": ["x" * 10_000]}),
    ],
    ids=range(8),
)
def test_what_is_neither_word_nor_object_is_bad_input(change: dict[str, Any]) -> None:
    """Lists of words are what a newcomer tries first."""
    kind = next(iter(change)).removesuffix("s")
    with pytest.raises(
        InvalidInput, match=f" is not a {kind}; give objects, or one text of names and commas"
    ) as caught:
        cells(**change)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("given", [[], (), Trace(), None, 3], ids=repr)
def test_what_is_no_list_of_objects_is_bad_input(given: Any) -> None:
    with pytest.raises(InvalidInput, match="holds no measure; give a list of objects, or one text"):
        cells(given)


@dataclass(frozen=True)
class Scales(Norm):
    name: ClassVar[str] = "scales"
    scales: tuple[float, ...] = (1.0, 2.0)


def test_what_a_record_cannot_hold_is_no_parameter() -> None:
    """A tuple would be written as a list, which is refused when the record is read."""
    with pytest.raises(InvalidInput, match=r"measure \w+\(power=.*: scales must be a text, a finite"):
        cells([Scales()])
    with pytest.raises(InvalidInput, match="power=inf is not finite"):
        Norm(power=float("inf"))


def test_a_model_that_raises_when_it_is_built_is_bad_input() -> None:
    @dataclass(frozen=True)
    class Raises(Model):
        name: ClassVar[str] = "raises"
        title: ClassVar[str] = "no network"
        source: ClassVar[str] = "tests"

        def build(self, shape: tuple[int, ...], classes: int) -> torch.nn.Module:
            raise RuntimeError("out\nof luck")

    message = r"model 'raises' cannot be built for inputs of shape \[1, 28, 28\]: RuntimeError: out\\nof luck"
    with pytest.raises(InvalidInput, match=message):
        cells(models=[Raises()])


def test_the_edges_of_what_fits_are_accepted() -> None:
    assert cells(cohort="label-noise[ratios=2,seeds=1,train_size=1437]", examples=1437)
    assert cells(cohort="label-noise[ratios=2,seeds=1,train_size=none]", examples=1437)


@pytest.mark.skipif(torch.cuda.is_available(), reason="torch sees a CUDA device")
def test_a_device_that_is_not_there_is_bad_input() -> None:
    with pytest.raises(InvalidInput, match="device 'cuda' is requested, but torch sees no CUDA device"):
        cells(device="cuda")


def test_a_network_that_cannot_take_the_images_is_bad_input() -> None:
    @dataclass(frozen=True)
    class Tiny(Dataset):
        name: ClassVar[str] = "tiny"
        title: ClassVar[str] = "2x2 images"
        source: ClassVar[str] = "tests"

        def load(self, folder: Path | None) -> Data:
            images, targets = torch.zeros(6, 1, 2, 2), torch.arange(6)
            return Data(images, targets, images, targets, classes=6)

    cohort = "label-noise[ratios=2,seeds=1,train_size=6]"
    assert len(cells("trace", "mlp", dataset=Tiny(), cohort=cohort)) == 2
    with pytest.raises(InvalidInput, match=r"model 'lenet' takes images of at least 1x15x15, got shape \[1, 2, 2\]"):
        cells("trace", "mlp,lenet", dataset=Tiny(), cohort=cohort)


def test_a_cohort_without_networks_has_no_cells() -> None:
    @dataclass(frozen=True)
    class Empty(Cohort):
        name: ClassVar[str] = "empty"
        title: ClassVar[str] = "no networks"
        source: ClassVar[str] = "tests"

        def recipes(self, models: Any, dataset: Any) -> tuple[Recipe, ...]:
            return ()

    assert cells(cohort=Empty()) == ()
