"""Worker processes: the same networks as in one process, and a death costs only one group."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from sharpbench.core.registry import available
from sharpbench.datasets import Digits
from sharpbench.datasets.dataset import Data
from sharpbench.errors import InvalidInput
from sharpbench.files import Workspace
from sharpbench.models import SmallCnn, SmallMlp
from sharpbench.processes import ChildProcess, preload_modules
from sharpbench.runner.engines.process import PRELOADED, builtin_modules
from sharpbench.training import workers as training_workers
from sharpbench.training.population import CHECKPOINT_FOLDER, Population, TrainedRecipe, TrainingEpoch, train_group
from sharpbench.training.recipe import Recipe
from sharpbench.training.workers import GroupLost, train_all
from sharpbench.training.zoo import RESULT, WEIGHTS
from tests.commands import COMMAND, Done, given, refused

RECIPE = Recipe(
    model=SmallMlp(), dataset=Digits(), train_size=48, batch_size=20, learning_rate=0.02, max_epochs=2, target_loss=1e-9
)
RECIPES = tuple(replace(RECIPE, seed=seed, model=model) for model in (SmallMlp(), SmallCnn()) for seed in range(2))

PLUGIN = """
import os, signal, time
from dataclasses import dataclass
import torch
from sharpbench.models import SmallMlp
from sharpbench.models.model import Model

class Net(torch.nn.Module):
    def __init__(self, inner, way, mark):
        super().__init__()
        self.inner, self.way, self.mark = inner, way, mark
    def forward(self, inputs):
        if self.training and len(inputs) > 4:  # in training, and not where it is tried out
            match self.way:
                case "dies":
                    os.kill(os.getpid(), signal.SIGKILL)
                case "dies once":
                    if not os.path.exists(self.mark):
                        open(self.mark, "w").close()
                        os.kill(os.getpid(), signal.SIGTERM)
                case "ends too soon":
                    raise EOFError("no more data")
                case "exits":
                    os._exit(3)
                case "raises":
                    raise RuntimeError("no such\\nluck")
                case "waits":
                    time.sleep(0.05)
        return self.inner(inputs)

@dataclass(frozen=True)
class Odd(Model):
    name, title, source = "odd", "a network that fails in training", "tests"
    way: str = "dies"
    mark: str = ""
    def build(self, shape, classes):
        return Net(SmallMlp().build(shape, classes), self.way, self.mark)

MODELS = (Odd,)
"""


@pytest.fixture(scope="module")
def digits() -> Data:
    return Digits().load(None)


@pytest.fixture(scope="module")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("plugin") / "odd.py"
    path.write_text(PLUGIN, encoding="utf-8")
    return path


@pytest.fixture
def copied_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers begin as copies of a process that has imported torch, instead of importing it for seconds."""
    preload_modules([*PRELOADED, *builtin_modules()])
    monkeypatch.setattr(training_workers, "ChildProcess", lambda *arguments, method: ChildProcess(*arguments))


def population(recipes: tuple[Recipe, ...], data: Data, cache: Path) -> Population:
    return Population(recipes, data, data.sha256(), cache=cache, device="cpu")


def workspace(cache: Path, *plugins: Path) -> Workspace:
    return Workspace(cache_dir=cache, plugins=plugins)


def stored(cache: Path) -> dict[str, tuple[bytes, dict[str, object]]]:
    found = {}
    for entry in (cache / "networks").iterdir():
        row = json.loads((entry / RESULT).read_text(encoding="utf-8"))["result"]
        found[entry.name] = ((entry / WEIGHTS).read_bytes(), {key: row[key] for key in row if key != "seconds"})
    return found


def test_workers_train_the_same_networks(digits: Data, tmp_path: Path) -> None:
    """Two workers, three groups; bit by bit what one process trains with as many threads. Each is a fresh process."""
    cache = tmp_path / "workers"
    networks = population(RECIPES, digits, cache)
    assert [len(group) for group in networks.groups] == [2, 1, 1]
    events = list(train_all(networks, networks.groups, workspace(cache), workers=2))
    assert {event.recipe for event in events if isinstance(event, TrainedRecipe)} == set(RECIPES)
    assert not any(event.cached for event in events if isinstance(event, TrainedRecipe))
    assert any(isinstance(event, TrainingEpoch) for event in events)
    for group in networks.groups:
        list(train_group(group, digits, digits.sha256(), cache=tmp_path / "here", device="cpu"))
    assert stored(cache) == stored(tmp_path / "here")
    again = list(train_all(networks, networks.groups, workspace(cache), workers=2))
    assert [(event.recipe, event.cached) for event in again if isinstance(event, TrainedRecipe)] == [
        (recipe, True) for recipe in RECIPES
    ]
    assert len(again) == 4


@pytest.mark.usefixtures("copied_workers")
def test_a_worker_that_dies_costs_its_group_alone(digits: Data, plugin: Path, tmp_path: Path) -> None:
    odd = available("models", [plugin]).classes["odd"]
    ways = tuple(replace(RECIPE, model=odd(way=way)) for way in ("dies", "raises", "exits", "ends too soon"))
    networks = population((*ways, *RECIPES[:2]), digits, tmp_path)
    events = list(train_all(networks, networks.groups, workspace(tmp_path, plugin), workers=1))
    assert {event.group[0]: event.reason for event in events if isinstance(event, GroupLost)} == {
        ways[0]: "the worker ended by SIGKILL, 4 times",
        ways[1]: "RuntimeError: no such\\nluck",
        ways[2]: "the worker ended with status 3",
        ways[3]: "EOFError: no more data",
    }
    assert [event.recipe for event in events if isinstance(event, TrainedRecipe)] == list(RECIPES[:2])


@pytest.mark.usefixtures("copied_workers")
def test_a_group_whose_worker_is_ended_is_trained_again(digits: Data, plugin: Path, tmp_path: Path) -> None:
    """By SIGTERM, as a batch system does: each network comes once, and none is lost."""
    odd = available("models", [plugin]).classes["odd"]
    model = odd(way="dies once", mark=str(tmp_path / "mark"))
    recipes = tuple(replace(RECIPE, model=model, seed=seed) for seed in range(2))
    networks = population(recipes, digits, tmp_path / "cache")
    events = list(train_all(networks, networks.groups, workspace(tmp_path / "cache", plugin), workers=1))
    assert (tmp_path / "mark").exists()
    assert sorted(event.recipe.seed for event in events if isinstance(event, TrainedRecipe)) == [0, 1]
    assert not any(isinstance(event, GroupLost) for event in events)


@pytest.mark.slow
def test_a_cache_that_cannot_be_written_ends_all(digits: Data, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    networks = population(RECIPES, digits, tmp_path / "file")
    with pytest.raises(InvalidInput, match=r"cannot write .*; choose another folder with --cache-dir"):
        list(train_all(networks, networks.groups, workspace(tmp_path / "file"), workers=1))


@pytest.mark.slow
def test_what_is_left_keeps_checkpoints_and_goes_on(digits: Data, plugin: Path, tmp_path: Path) -> None:
    odd = available("models", [plugin]).classes["odd"]
    slow = replace(RECIPE, model=odd(way="waits"), max_epochs=6)
    networks = population((slow,), digits, tmp_path / "left")
    steps = train_all(networks, networks.groups, workspace(tmp_path / "left", plugin), workers=1)
    assert isinstance(next(steps), TrainingEpoch)
    steps.close()
    (entry,) = (tmp_path / "left" / CHECKPOINT_FOLDER).glob("[0-9a-f]*")
    kept = json.loads((entry / RESULT).read_text())["result"]["stage"]["epoch"]
    assert 1 <= kept < 6
    rest = list(train_group(networks.groups[0], digits, digits.sha256(), cache=tmp_path / "left", device="cpu"))
    assert [event.epoch.number for event in rest if isinstance(event, TrainingEpoch)] == list(range(kept + 1, 7))
    list(train_group(networks.groups[0], digits, digits.sha256(), cache=tmp_path / "whole", device="cpu"))
    assert stored(tmp_path / "left") == stored(tmp_path / "whole")


def called(*words: str, cache: Path) -> Done:
    return given("train", "--cache-dir", cache, *words)


COHORT = "label-noise[ratios=2,seeds=2,train_size=64]"


def rows(table: str) -> dict[str, int]:
    """The rows of the summary."""
    cells = [line.strip("│ \n").split("│") for line in table.splitlines() if line.startswith("│")]
    return {name.strip(): int(count) for name, count in cells}


@pytest.mark.usefixtures("copied_workers")
def test_the_command_trains_and_sums_up(tmp_path: Path) -> None:
    plan = called("--models", "small-mlp,small-cnn", "--cohort", COHORT, "--dry-run", cache=tmp_path)
    assert plan.returncode == 0, plan.stderr
    assert "8 networks in 5 groups that train together, 8 to do" in plan.stdout
    assert not (tmp_path / "networks").exists()
    first = called("--models", "small-mlp", "--cohort", COHORT, "--workers", "1", cache=tmp_path)
    assert (first.returncode, first.stderr) == (0, "")
    summary = rows(first.stdout)
    assert (summary["trained"], summary["from the cache"], summary["could not be trained"]) == (4, 0, 0)
    assert summary["fitted"] + summary["not fitted, excluded by the gate"] == 4
    again = rows(called("--models", "small-mlp", "--cohort", COHORT, cache=tmp_path).stdout)
    assert again == {**summary, "trained": 0, "from the cache": 4}


@pytest.mark.slow
def test_the_summary_says_why_networks_did_not_fit(tmp_path: Path) -> None:
    short = rows(called("--models", "small-mlp", "--cohort", COHORT[:-1] + ",max_epochs=1]", cache=tmp_path).stdout)
    assert (short["fitted"], short["the budget of epochs ended"], short["diverged"]) == (0, 4, 0)
    wild = rows(called("--models", "small-mlp", "--cohort", COHORT[:-1] + ",learning_rate=1e9]", cache=tmp_path).stdout)
    assert (wild["fitted"], wild["the budget of epochs ended"], wild["diverged"]) == (0, 0, 4)
    assert wild["not fitted, excluded by the gate"] == 4


@pytest.mark.slow
def test_a_group_that_is_lost_is_an_error_line_and_status_1(plugin: Path, tmp_path: Path) -> None:
    done = called("--models", "odd,small-mlp", "--cohort", COHORT, "--plugin", str(plugin), cache=tmp_path)
    assert done.returncode == 1
    lines = done.stderr.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("error: odd on digits, label noise 0, seed 0 and 3 more that train with it: the worker")
    assert (rows(done.stdout)["trained"], rows(done.stdout)["could not be trained"]) == (4, 4)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--threads", "0"], "threads=0 must be at least 1"),
        (["--models", "small-mpl"], "unknown model 'small-mpl'; did you mean 'small-mlp'"),
        (["--cohort", "label-noise[train_size=99999]"], "train_size=99999 exceeds the 1437 training examples"),
    ],
)
def test_bad_input_gets_one_line(words: list[str], message: str, tmp_path: Path) -> None:
    refused(called(*words, cache=tmp_path), f"error: {message}")


@pytest.mark.slow
def test_an_interrupted_command_keeps_checkpoints_and_leaves_no_process(plugin: Path, tmp_path: Path) -> None:
    """SIGINT to the process group, as a terminal sends it."""
    words = ["--models", "odd[way=waits]", "--cohort", COHORT[:-1] + ",max_epochs=40000,target_loss=1e-9]"]
    command = [COMMAND, "train", "--cache-dir", str(tmp_path), "--workers", "2", "--plugin", str(plugin), *words]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    time.sleep(1)
    while process.poll() is None and not children_busy(process.pid):
        time.sleep(0.2)
    time.sleep(2)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert errors == "interrupted; give the same command again to go on\n"
    assert list((tmp_path / CHECKPOINT_FOLDER).glob("[0-9a-f]*"))
    until = time.monotonic() + 20  # what multiprocessing keeps next to the workers ends when it sees that we did
    while alive(process.pid) and time.monotonic() < until:
        time.sleep(0.1)
    assert not alive(process.pid)


def processes() -> Iterator[list[str]]:
    """What /proc/PID/stat says of every process behind its name: state, parent, group, ..."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            yield path.read_text().rpartition(")")[2].split()


def alive(group: int) -> bool:
    return any(int(words[2]) == group and words[0] != "Z" for words in processes())


def children_busy(parent: int) -> bool:
    """Whether a worker has used some seconds of processor time, and so has begun to train."""
    ticks = os.sysconf("SC_CLK_TCK")
    return any(int(words[1]) == parent and (int(words[11]) + int(words[12])) / ticks > 3.5 for words in processes())
