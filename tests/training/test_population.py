"""Populations: groups are trained once, kept, and taken up again where they were interrupted or killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn

from sharpbench import InvalidInput
from sharpbench.datasets import Digits
from sharpbench.datasets.dataset import Data
from sharpbench.models import SmallMlp
from sharpbench.models.model import Model
from sharpbench.training import population as population_module
from sharpbench.training.optimizers import FriendlySam, Sam
from sharpbench.training.population import (
    CHECKPOINT_FOLDER,
    NetworkDiscarded,
    Population,
    TrainedRecipe,
    TrainingEpoch,
    train_group,
)
from sharpbench.training.recipe import Recipe, network_key
from sharpbench.training.trainer import group_size
from sharpbench.training.zoo import RESULT, WEIGHTS, Zoo

RECIPE = Recipe(
    model=SmallMlp(), dataset=Digits(), train_size=48, batch_size=20, learning_rate=0.02, max_epochs=3, target_loss=1e-9
)
GROUP = tuple(replace(RECIPE, seed=seed, label_noise=seed / 4, max_epochs=3 + seed) for seed in range(4))


@pytest.fixture(scope="module")
def digits() -> Data:
    return Digits().load(None)


def population(recipes: tuple[Recipe, ...], data: Data, cache: Path) -> Population:
    return Population(recipes, data, "hash", cache=cache, device="cpu")


def stored(cache: Path) -> dict[str, tuple[bytes, dict[str, object]]]:
    """Weights and truth, without the seconds, of every entry of the zoo."""
    found = {}
    for entry in (cache / "networks").iterdir():
        row = json.loads((entry / RESULT).read_text(encoding="utf-8"))["result"]
        found[entry.name] = ((entry / WEIGHTS).read_bytes(), {key: row[key] for key in row if key != "seconds"})
    return found


def checkpoints(cache: Path) -> list[Path]:
    return list((cache / CHECKPOINT_FOLDER).glob("[0-9a-f]*"))


@pytest.fixture(scope="module")
def calm(digits: Data, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cache of an undisturbed training of GROUP."""
    cache = tmp_path_factory.mktemp("calm")
    list(train_group(GROUP, digits, "hash", cache=cache, device="cpu"))
    return cache


def test_a_group_is_trained_once_and_all_of_it_is_kept(digits: Data, tmp_path: Path, calm: Path) -> None:
    events = list(train_group(GROUP, digits, "hash", cache=tmp_path, device="cpu"))
    epochs = [event for event in events if isinstance(event, TrainingEpoch)]
    trained = [event for event in events if isinstance(event, TrainedRecipe)]
    assert [(event.recipe.seed, event.epoch.number) for event in epochs] == [
        (seed, number) for number in range(1, 7) for seed in range(4) if number <= 3 + seed
    ]
    assert {event.recipe for event in trained} == set(GROUP)
    assert not any(event.cached for event in trained)
    assert [event.result.epochs for event in sorted(trained, key=lambda event: event.recipe.seed)] == [3, 4, 5, 6]
    assert stored(tmp_path) == stored(calm)
    assert not checkpoints(tmp_path)
    again = list(train_group(GROUP, digits, "hash", cache=tmp_path, device="cpu"))
    assert [(event.recipe, event.cached) for event in again if isinstance(event, TrainedRecipe)] == [
        (recipe, True) for recipe in GROUP
    ]
    assert len(again) == 4


def test_a_cache_that_cannot_be_written_is_refused_before_the_training(
    digits: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(population_module, "_train_epochs", lambda *_: pytest.fail("trained"))
    with pytest.raises(InvalidInput, match=r"cannot write .*networks: Not a directory; choose another folder"):
        next(train_group(GROUP, digits, "hash", cache=tmp_path / "file", device="cpu"))


def test_asking_for_one_trains_its_group(digits: Data, tmp_path: Path) -> None:
    other = replace(RECIPE, batch_size=16)
    networks = population((GROUP[0], other, *GROUP[1:]), digits, tmp_path)
    assert networks.groups == (GROUP, (other,))
    member = networks.get_network(GROUP[2])
    assert member.result.epochs == 5
    assert [networks.stored_result(recipe) is None for recipe in (*GROUP, other)] == [False] * 4 + [True]
    assert list(networks.obtain_network(GROUP[1])) == []


def test_seconds_are_shared(digits: Data, tmp_path: Path) -> None:
    start = time.perf_counter()
    events = list(train_group(GROUP, digits, "hash", cache=tmp_path, device="cpu"))
    truths = [event.result for event in events if isinstance(event, TrainedRecipe)]
    assert 0 < sum(truth.seconds for truth in truths) < time.perf_counter() - start


@pytest.mark.parametrize("epochs", [1, 2, 3, 4])
def test_an_interrupt_keeps_the_last_epoch(epochs: int, digits: Data, tmp_path: Path, calm: Path) -> None:
    steps = train_group(GROUP, digits, "hash", cache=tmp_path, device="cpu")
    while not (isinstance(event := next(steps), TrainingEpoch) and event.epoch.number > epochs):
        pass
    del steps
    assert not list((tmp_path / "networks").iterdir())
    assert len(checkpoints(tmp_path)) == 1
    rest = list(train_group(GROUP, digits, "hash", cache=tmp_path, device="cpu"))
    assert min(event.epoch.number for event in rest if isinstance(event, TrainingEpoch)) == epochs + 2
    assert stored(tmp_path) == stored(calm)
    assert not checkpoints(tmp_path)


def test_an_interrupt_within_an_epoch_keeps_the_one_before(
    digits: Data, tmp_path: Path, calm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0
    step = type(RECIPE.optimizer).step

    def interrupted(*arguments: object) -> object:
        nonlocal calls
        calls += 1
        if calls == 8:  # three steps an epoch
            raise KeyboardInterrupt
        return step(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(type(RECIPE.optimizer), "step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        list(train_group(GROUP, digits, "hash", cache=tmp_path, device="cpu"))
    events = list(train_group(GROUP, digits, "hash", cache=tmp_path, device="cpu"))
    assert min(event.epoch.number for event in events if isinstance(event, TrainingEpoch)) == 3
    assert stored(tmp_path) == stored(calm)


@pytest.mark.parametrize("kept", [1, 2, 3])
def test_a_stop_between_two_entries_ends_in_the_same_networks(
    kept: int, digits: Data, tmp_path: Path, calm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = Zoo.save

    def stopped(zoo: Zoo, key: str, *content: object, **named: object) -> None:
        if zoo.folder.name == "networks" and len(list(zoo.folder.glob("[0-9a-f]*"))) == kept:
            raise KeyboardInterrupt
        save(zoo, key, *content, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(Zoo, "save", stopped)
    with pytest.raises(KeyboardInterrupt):
        list(train_group(GROUP, digits, "hash", cache=tmp_path, device="cpu"))
    monkeypatch.setattr(Zoo, "save", save)
    assert len(stored(tmp_path)) == kept
    events = list(train_group(GROUP, digits, "hash", cache=tmp_path, device="cpu"))
    assert (
        sorted(event.cached for event in events if isinstance(event, TrainedRecipe))
        == [False] * (4 - kept) + [True] * kept
    )
    assert not any(isinstance(event, TrainingEpoch) for event in events)
    assert stored(tmp_path) == stored(calm)


def test_a_group_that_grew_trains_what_is_missing(digits: Data, tmp_path: Path, calm: Path) -> None:
    list(train_group(GROUP[:2], digits, "hash", cache=tmp_path, device="cpu"))
    before = stored(tmp_path)
    events = list(train_group(GROUP, digits, "hash", cache=tmp_path, device="cpu"))
    assert {event.recipe for event in events if isinstance(event, TrainingEpoch)} == set(GROUP[2:])
    after = stored(tmp_path)
    assert {key: after[key] for key in before} == before
    assert after.keys() == stored(calm).keys()


@pytest.mark.parametrize("file", [WEIGHTS, RESULT])
def test_a_damaged_checkpoint_is_not_believed(file: str, digits: Data, tmp_path: Path, calm: Path) -> None:
    steps = train_group(GROUP, digits, "hash", cache=tmp_path, device="cpu", every=0.0)
    for _ in range(9):
        next(steps)
    del steps
    (path,) = (entry / file for entry in checkpoints(tmp_path))
    path.write_bytes(path.read_bytes()[:-2])
    events = list(train_group(GROUP, digits, "hash", cache=tmp_path, device="cpu"))
    assert min(event.epoch.number for event in events if isinstance(event, TrainingEpoch)) == 1
    assert stored(tmp_path) == stored(calm)


def test_checkpoints_come_in_time(digits: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(population_module.time, "monotonic", lambda: now)
    seen = []
    for event in train_group((GROUP[3],), digits, "hash", cache=tmp_path, device="cpu", every=30.0):
        now += 12.0
        if isinstance(event, TrainingEpoch):
            seen.append(epoch_of(tmp_path))
    assert seen == [0, 0, 0, 3, 3, 3]
    assert not checkpoints(tmp_path)


@dataclass(frozen=True)
class Failing(Model):
    name: ClassVar[str] = "failing"
    title: ClassVar[str] = "a network that raises in its third pass"
    source: ClassVar[str] = "tests"
    passes: ClassVar[list[int]] = []

    def build(self, shape: tuple[int, ...], classes: int) -> nn.Module:
        return Raises(SmallMlp().build(shape, classes))


class Raises(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, inputs: Tensor) -> Tensor:
        Failing.passes.append(len(inputs))
        if len(Failing.passes) > 5:
            raise RuntimeError("no more")
        logits: Tensor = self.inner(inputs)
        return logits


def test_a_group_that_cannot_be_trained_is_tried_once(digits: Data, tmp_path: Path) -> None:
    recipes = tuple(replace(recipe, model=Failing()) for recipe in GROUP)
    networks = population(recipes, digits, tmp_path)
    assert networks.groups == (recipes,)
    for recipe in recipes:
        tried = len(Failing.passes)
        with pytest.raises(RuntimeError, match="no more"):
            networks.get_network(recipe)
    assert len(Failing.passes) == tried
    networks.give_up((GROUP[0],), ArithmeticError("given up"))
    with pytest.raises(RuntimeError, match="no more"):
        networks.get_network(recipes[0])


def test_groups_are_those_of_the_recipes_whatever_is_in_the_zoo(digits: Data, calm: Path, tmp_path: Path) -> None:
    assert population(GROUP, digits, calm).groups == population(GROUP, digits, tmp_path).groups == (GROUP,)
    assert group_size(SmallMlp().build((1, 28, 28), 10), digits.train_inputs[:4], device="cpu") > 4


KILLED = """
import sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from dataclasses import replace
from sharpbench.datasets import Digits
from sharpbench.models import SmallMlp
from sharpbench.training.optimizers import FriendlySam
from sharpbench.training.population import train_group
from sharpbench import Recipe
recipe = Recipe(model=SmallMlp(), dataset=Digits(), train_size=256, optimizer=FriendlySam(), max_epochs=40,
                target_loss=1e-9, learning_rate=0.02)
group = [replace(recipe, seed=seed, label_noise=seed / 8, max_epochs=40 - 4 * seed) for seed in range(8)]
for event in train_group(group, Digits().load(None), "hash", cache=Path(sys.argv[1]), device="cpu", every=0.05):
    pass
"""


@pytest.mark.slow
def test_a_training_killed_again_and_again_ends_in_the_same_networks(tmp_path: Path) -> None:
    """kill -9 in the middle of a vectorised training; what is in the zoo in the end is the same bit by bit."""

    def start(cache: Path) -> subprocess.Popen[bytes]:
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        return subprocess.Popen([sys.executable, "-c", KILLED, str(cache)], stderr=subprocess.PIPE, env=environment)

    undisturbed = start(tmp_path / "calm")
    _, errors = undisturbed.communicate(timeout=200)
    assert undisturbed.returncode == 0, errors.decode()
    cache, epochs = tmp_path / "killed", [0]
    for _ in range(4):
        process = start(cache)
        while process.poll() is None and (now := epoch_of(cache)) <= epochs[-1] + 3:
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        epochs.append(max(now, epoch_of(cache)))
    assert epochs == sorted(set(epochs))
    assert 0 < epochs[-1] < 40
    final = start(cache)
    _, errors = final.communicate(timeout=200)
    assert final.returncode == 0, errors.decode()
    assert len(stored(cache)) == 8
    assert stored(cache) == stored(tmp_path / "calm")
    assert not checkpoints(cache)


def epoch_of(cache: Path) -> int:
    """The epoch of the checkpoint, 0 where none can be read at the moment."""
    for entry in checkpoints(cache):
        try:
            return int(json.loads((entry / RESULT).read_text(encoding="utf-8"))["result"]["stage"]["epoch"])
        except (OSError, ValueError):
            pass
    return 0


def test_optimizers_of_a_group_may_have_other_numbers(digits: Data, tmp_path: Path) -> None:
    recipes = (replace(RECIPE, optimizer=Sam(rho=0.1)), replace(RECIPE, optimizer=Sam(rho=0.2)))
    networks = population((*recipes, replace(RECIPE, optimizer=FriendlySam())), digits, tmp_path)
    assert networks.groups[0] == recipes
    weights = [networks.get_network(recipe).weights["layer0.weight"] for recipe in recipes]
    assert not torch.equal(*weights)


def test_networks_that_train_together_have_one_thread_and_others_what_was_settled(
    digits: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: set[int] = set()
    step = type(RECIPE.optimizer).step

    def counted(*arguments: object) -> object:
        seen.add(torch.get_num_threads())
        return step(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(type(RECIPE.optimizer), "step", counted)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        list(train_group(GROUP[:2], digits, "hash", cache=tmp_path, device="cpu"))
        assert (seen, torch.get_num_threads()) == ({1}, 2)
        list(train_group(GROUP[2:3], digits, "hash", cache=tmp_path, device="cpu"))
        assert (seen, torch.get_num_threads()) == ({1, 2}, 2)
    finally:
        torch.set_num_threads(before)


def test_a_stored_network_of_other_code_is_trained_again(digits: Data, tmp_path: Path) -> None:
    """The entry is intact, but its weights do not give the training loss that it states."""
    recipe, key = GROUP[0], network_key(GROUP[0], "hash", "cpu")
    trained = population((recipe,), digits, tmp_path).get_network(recipe)
    Zoo(tmp_path).save(key, {name: value * 1.5 for name, value in trained.weights.items()}, trained.result.row())
    events = list(population((recipe,), digits, tmp_path).obtain_network(recipe))
    discarded = [event for event in events if isinstance(event, NetworkDiscarded)]
    assert [event.stored for event in discarded] == [trained.result.train_loss]
    assert discarded[0].found != pytest.approx(trained.result.train_loss, rel=1e-3)
    assert len(events) == 1 + recipe.max_epochs
    again = population((recipe,), digits, tmp_path)
    assert list(again.obtain_network(recipe)) == []
    assert again.get_network(recipe).result.train_loss == trained.result.train_loss


def test_stored_weights_of_another_shape_are_trained_again(digits: Data, tmp_path: Path) -> None:
    recipe, key = GROUP[0], network_key(GROUP[0], "hash", "cpu")
    trained = population((recipe,), digits, tmp_path).get_network(recipe)
    Zoo(tmp_path).save(key, {"other": torch.zeros(2)}, trained.result.row())
    first = next(population((recipe,), digits, tmp_path).obtain_network(recipe))
    assert first == NetworkDiscarded(recipe, trained.result.train_loss, None)
