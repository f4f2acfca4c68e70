"""Populations in the layouts of other programs: model zoos of Ray Tune, lists of timm, folders of `zoo export`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from sharpbench import InvalidInput
from sharpbench.models import Timm
from sharpbench.runner.foreign.layouts import read_model_zoo
from sharpbench.runner.foreign.network import ForeignNetwork
from sharpbench.runner.foreign.plan import PopulationOptions, plan_population
from sharpbench.runner.foreign.zoo_export import ExportPlace, import_zoo_export
from sharpbench.runner.plan import plan
from sharpbench.runner.run import run
from sharpbench.training.zoo import Zoo
from sharpbench.training.zoo_transfer import export_networks
from tests.foreign_population import make_network, rewrite

UNCHECKED = PopulationOptions(timing=0, oracle=0, invariance=0, device="cpu")
ZOO = """
table = "zoo"
model = "net.py:make"
dataset = "npz:train.npz"
"""


def write_zoo(folder: Path) -> None:
    """Trials as Schürholt et al. 2022 publish them: the first epoch is 0, before the training, without an accuracy."""
    for number in range(6):
        trial = folder / f"NN_tune_trainable_4f2a1_{number:05d}_{number}_seed={number % 3}_2021-09-30_11-15-02"
        params = {"model::nlin": "tanh", "optim::lr": (1e-3, 1e-4)[number // 3], "seed": number % 3, "cuda": False}
        trial.mkdir(parents=True)
        (trial / "params.json").write_text(json.dumps({**params, "ray": {"nested": 1}}), encoding="utf-8")
        lines = []
        for epoch in (0, 1, 2):
            accuracies = {"train_acc": 0.3 * epoch, "test_acc": 0.25 * epoch - 0.01 * number}
            losses = {"train_loss": float("nan") if epoch == 0 else 0.5, "test_loss": 0.7}
            lines.append(json.dumps({**losses, **accuracies, "training_iteration": epoch, "config": params}))
            weights = trial / (f"checkpoint_{epoch:06d}" if number else f"checkpoint_{epoch}")
            weights.mkdir()
            torch.save(make_network(10 * number + epoch).state_dict(), weights / "checkpoints")
            torch.save({"state": {}}, weights / "optimizer")
        (trial / "result.json").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "config.json").write_text("{}", encoding="utf-8")


def test_a_model_zoo_is_read_at_its_last_checkpoints(population: Path) -> None:
    write_zoo(population / "zoo")
    (population / "mine.toml").write_text(ZOO, encoding="utf-8")
    cells = plan_population("parameter-norm", str(population), UNCHECKED)
    networks = [cell.recipe for cell in cells if isinstance(cell.recipe, ForeignNetwork)]
    assert [network.recipe["optim::lr"] for network in networks] == [1e-3] * 3 + [1e-4] * 3
    assert [network.recipe["seed"] for network in networks] == [0, 1, 2] * 2
    assert "model::nlin" not in networks[0].recipe
    assert networks[3].truth["gap"] == pytest.approx(0.6 - 0.47)
    assert networks[3].truth["epochs"] == 2
    record = next(iter(run(cells[3:4])))
    expected = torch.cat([value.detach().flatten() for value in make_network(32).parameters()]).norm()
    assert record.value == pytest.approx(float(expected) ** 2, rel=1e-6)


def test_a_model_zoo_that_cannot_be_read_is_refused(population: Path) -> None:
    write_zoo(population / "zoo")
    trial = min((population / "zoo").glob("NN_*"))
    rewrite(trial / "params.json", '{"model', "{model")
    with pytest.raises(InvalidInput, match=r"params.json: not JSON .*; fetch the folder again"):
        read_model_zoo(population / "zoo")
    (trial / "params.json").write_text("[" * 100_000, encoding="utf-8")
    with pytest.raises(InvalidInput, match=r"params.json: not JSON .*; fetch the folder again"):
        read_model_zoo(population / "zoo")
    (trial / "params.json").write_text("[]", encoding="utf-8")
    with pytest.raises(InvalidInput, match=r"params.json: not an object of JSON but list"):
        read_model_zoo(population / "zoo")
    (trial / "result.json").unlink()
    with pytest.raises(InvalidInput, match=r"result.json' cannot be read"):
        read_model_zoo(population / "zoo")
    for each in (population / "zoo").glob("NN_*"):
        (each / "result.json").write_text("", encoding="utf-8")
    with pytest.raises(InvalidInput, match=r"no trial of .* has a checkpoints file of an epoch that result.json lists"):
        read_model_zoo(population / "zoo")


def test_lines_of_results_that_are_no_epochs_are_left_out(tmp_path: Path) -> None:
    write_zoo(tmp_path / "zoo")
    for each in (tmp_path / "zoo").glob("NN_*"):
        lines = ['{"training_iteration": [1]}', '{"training_iteration": 1, "test_acc": [0.5], "train_acc": 0.25}']
        (each / "result.json").write_text("\n".join(lines), encoding="utf-8")
    found = read_model_zoo(tmp_path / "zoo").table
    assert set(found.columns["epochs"]) == {1}
    assert set(found.columns["train_accuracy"]) == {0.25}
    assert "test_accuracy" not in found.columns


def test_a_list_of_timm_needs_its_weights(population: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(self: Timm) -> None:
        raise InvalidInput(f"the weights of 'timm:{self.architecture}' cannot be loaded (no route to host)")

    monkeypatch.setattr(Timm, "pretrained", failing)
    names = ("test_resnet", "test_vit", "test_vit2")
    (population / "names.csv").write_text(
        "name,gap\n" + "".join(f"{name},0.{number}\n" for number, name in enumerate(names)), encoding="utf-8"
    )
    (population / "mine.toml").write_text(
        'table = "names.csv"\nmodel = "timm:{name}"\nweights = "pretrained"\n'
        'dataset = "npz:images.npz[classes=1000]"\n',
        encoding="utf-8",
    )
    np.savez(population / "images.npz", inputs=np.zeros((2, 8, 8, 3), np.uint8), targets=np.arange(2))
    message = r"names.csv:2: the weights of 'timm:test_resnet' cannot be loaded \(no route to host\)"
    with pytest.raises(InvalidInput, match=message):
        plan_population("parameter-norm", str(population), UNCHECKED)


@pytest.mark.slow
def test_a_folder_of_zoo_export_is_put_into_the_cache_and_measured(tmp_path: Path) -> None:
    cells = plan(
        *("parameter-norm,distance-from-initialisation", "small-mlp"),
        cohort="label-noise[ratios=2,seeds=1,train_size=8,max_epochs=1]",
        device="cpu",
        timing=0,
        oracle=0,
        invariance=0,
    )
    expected = list(run(cells, cache_dir=tmp_path / "theirs"))
    zoo = Zoo(tmp_path / "theirs")
    export_networks(zoo, zoo.entries()[0], tmp_path / "folder", command="sharpbench zoo export folder")
    options = PopulationOptions(cache_dir=tmp_path / "ours", timing=0, oracle=0, invariance=0, device="cpu")
    found = plan_population("parameter-norm,distance-from-initialisation", str(tmp_path / "folder"), options)
    assert {cell.key for cell in found} == {cell.key for cell in cells}
    records = {record.key: record for record in run(found, cache_dir=tmp_path / "ours")}
    assert [records[each.key].value for each in expected] == [each.value for each in expected]
    assert [records[each.key].truth for each in expected] == [each.truth for each in expected]
    place = ExportPlace(cache_dir=tmp_path / "ours")
    with pytest.raises(InvalidInput, match="was trained on cpu, which is not the device of this run, cuda"):
        list(import_zoo_export(tmp_path / "folder", place, device="cuda"))
