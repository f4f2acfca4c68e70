"""Where the networks of a run come from: their code and the preparation of their images are part of their keys."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from textwrap import dedent

import numpy as np
import pytest
from PIL import Image

from sharpbench.core.registry import available
from sharpbench.datasets import Digits, ImageFolder, Subset
from sharpbench.files import Workspace
from sharpbench.models import SmallMlp, Timm
from sharpbench.runner.networks import RunNetworks
from sharpbench.runner.plan import plan, select_recipes
from sharpbench.runner.run import run
from sharpbench.training.population import Population
from sharpbench.training.workers import Group, GroupLost

COHORT = "label-noise[ratios=2,seeds=1,train_size=32,max_epochs=2]"
PLUGIN = """
    from dataclasses import dataclass
    from torch import nn
    from sharpbench import Model

    @dataclass(frozen=True)
    class Net(Model):
        name, title, source = "edited-net", "a net", "me"
        def build(self, shape, classes):
            return nn.Sequential(nn.Flatten(), nn.Linear(784, 8), nn.ReLU(), nn.Linear(8, classes))

    MODELS = (Net,)
"""


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of images of different sizes, in both splits."""
    root = tmp_path_factory.mktemp("photos")
    generator = np.random.default_rng(0)
    for split in ("train", "test"):
        for number, kind in enumerate("ab"):
            (root / split / kind).mkdir(parents=True)
            for index in range(2):
                pixels = generator.integers(0, 256, (20 + number, 30 + index, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / split / kind / f"{index}.png")
    return root


def test_a_network_of_edited_code_is_not_taken_from_the_cache(tmp_path: Path) -> None:
    path, values = tmp_path / "net.py", []
    for text in (PLUGIN, PLUGIN.replace("nn.ReLU()", "nn.Tanh()"), PLUGIN):
        path.write_text(dedent(text))
        for name in [name for name in sys.modules if name.startswith("sharpbench_plugin_")]:
            del sys.modules[name]  # as in a new process
        models = [available("models", [path]).classes["edited-net"]()]
        cells = plan("gradient-norm", models, cohort=COHORT, timing=0, oracle=0, invariance=0, plugins=[path])
        records = list(run(cells, cache_dir=tmp_path / "cache", engine="inline", plugins=(path,)))
        assert all(str(record.recipe["code"]).startswith("source ") for record in records)
        values.append([record.value for record in records])
    assert values[0] == values[2]
    assert all(before != after for before, after in zip(*values[:2], strict=True))


def test_networks_of_timm_are_trained_on_the_images_that_measure_gives_them(photos: Path) -> None:
    """`run` and `measure` take timm's own size, crop and normalisation, and photos of any size."""
    model, dataset = Timm("test_resnet"), ImageFolder(str(photos))
    selected = select_recipes(
        [model], dataset=dataset, cohort="label-noise[ratios=2,seeds=1,train_size=4]", data_dir=None
    )
    recipe = next(iter(selected.populations))
    assert str(recipe.inputs).startswith("timm 3x160x160, bilinear, center crop 0.95, mean 0.5")
    assert str(recipe.code).startswith("timm ")
    examples = dataset.examples(None, Subset(), model.transform())
    assert selected.data_of(recipe).train_inputs.equal(examples.inputs)
    assert selected.data_of(recipe).test_inputs.shape == (4, 3, 160, 160)


def test_models_with_different_inputs_have_their_own_data() -> None:
    models = [SmallMlp(), Timm("test_resnet", size=32)]
    selected = select_recipes(models, dataset="digits", cohort=COHORT, data_dir=None)
    assert {recipe.inputs for recipe in selected.populations} == {None}
    assert len(selected.data) == 1
    assert {recipe.code is None for recipe in selected.populations if recipe.model == SmallMlp()} == {True}
    assert selected.data_of(next(iter(selected.populations))).sha256() == Digits().load(None).sha256()


def test_a_group_whose_training_failed_is_not_trained_again_for_other_cells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[int] = []

    def lose_all(population: Population, groups: Sequence[Group], *_: object, **__: object) -> Iterator[GroupLost]:
        tried.append(len(groups))
        yield from (GroupLost(group, "killed") for group in groups)

    monkeypatch.setattr("sharpbench.runner.networks.train_all", lose_all)
    cells = plan("gradient-norm", [SmallMlp()], cohort=COHORT, timing=0, oracle=0, invariance=0)
    networks = RunNetworks(cells, Workspace(cache_dir=tmp_path))
    for cell in cells:
        list(networks.train_missing([cell], workers=2))
    assert len(cells) == 2
    assert tried == [1, 0]
    with pytest.raises(RuntimeError, match="killed"):
        next(networks.prepare(cells[0]))
