"""The numbers of one network: against the measure itself, along a training, resumed, refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from sharpbench import Estimate, InvalidInput, Measure, Recipe, Subject, measure
from sharpbench.core.measure import Invariance
from sharpbench.core.record import Record
from sharpbench.core.records import iterate_records
from sharpbench.datasets import Digits, Npz, Subset
from sharpbench.datasets.dataset import Data, Dataset
from sharpbench.models import SmallMlp, Timm
from sharpbench.models.file import File
from sharpbench.runner.cell import Checks, EvaluationSetting
from sharpbench.runner.network_evaluation import NetworkEvaluation
from sharpbench.runner.network_record import group_by_weights
from sharpbench.runner.plan import select_measures
from sharpbench.runner.single_network import RECORDS, WeightsStarted, evaluate_network
from sharpbench.training.examples import load_data
from tests.commands import given

BASE = NetworkEvaluation(
    model=SmallMlp(), measures=select_measures("trace,fisher-rao"), dataset=Digits(), subset=Subset(limit=40, seed=3)
)
QUICK = replace(BASE, measures=select_measures("sam,fisher-rao"))
"""Without a measure that needs the graph of the network, whose capture takes longer than all that is measured."""


def records(inspection: NetworkEvaluation, **options: Any) -> list[Record]:
    return [step for step in evaluate_network(inspection, threads=1, **options) if isinstance(step, Record)]


@dataclass(frozen=True)
class Failing(Measure):
    """Raises."""

    name: ClassVar[str] = "failing"
    title: ClassVar[str] = "raises"
    source: ClassVar[str] = "none"

    def __call__(self, subject: Subject, *, generator: torch.Generator) -> Estimate:
        """See Measure."""
        raise RuntimeError("out of luck")

    def exact(self, subject: Subject) -> float | None:
        """See Measure."""
        return None

    def invariances(self) -> frozenset[Invariance]:
        """See Measure."""
        return frozenset()


def saved(folder: Path, name: str = "net.safetensors", *, scale: float = 1.0) -> tuple[Path, nn.Module]:
    torch.manual_seed(5)
    module = SmallMlp().build((1, 28, 28), 10)
    with torch.no_grad():
        for value in module.parameters():
            value.mul_(scale)
    safetensors.torch.save_file(module.state_dict(), folder / name)
    return folder / name, module


def test_values_are_those_of_the_measure_on_the_drawn_examples(tmp_path: Path) -> None:
    path, module = saved(tmp_path)
    found = records(replace(BASE, weights=str(path)))
    data = Digits().load(None)
    chosen = torch.randperm(len(data.train_inputs), generator=torch.Generator().manual_seed(3))[:40].sort().values
    subject = Subject.from_module(module, data.train_inputs[chosen], data.train_targets[chosen])
    for record in found:
        assert record.value == pytest.approx(measure(record.label, subject).value, rel=1e-6)
    with torch.no_grad():
        logits = module(data.train_inputs[chosen])
    loss = nn.functional.cross_entropy(logits, data.train_targets[chosen])
    assert found[0].truth["loss"] == pytest.approx(float(loss), rel=1e-6)
    right = (logits.argmax(1) == data.train_targets[chosen]).double().mean()
    assert found[0].truth["accuracy"] == pytest.approx(float(right))


def test_the_record_says_what_was_measured_and_that_no_leaderboard_takes_it(tmp_path: Path) -> None:
    path, _ = saved(tmp_path)
    first = records(replace(QUICK, weights=str(path)))[0]
    assert first.recipe["model"] == "small-mlp"
    assert first.recipe["weights"] == str(path)
    assert len(str(first.recipe["weights_sha256"])) == 64
    assert first.data["leaderboard"] is False
    assert {key: first.data[key] for key in ("dataset", "split", "examples", "available", "limit", "subset_seed")} == {
        "dataset": "digits",
        "split": "train",
        "examples": 40,
        "available": 1437,
        "limit": 40,
        "subset_seed": 3,
    }


def test_random_weights_hang_on_the_seed_alone() -> None:
    state = torch.get_rng_state()
    one, two, other = records(QUICK), records(QUICK), records(replace(QUICK, setting=EvaluationSetting(seed=1)))
    assert torch.equal(state, torch.get_rng_state())
    assert one[0].value == two[0].value != other[0].value
    assert one[0].key == two[0].key != other[0].key


def test_the_test_split_may_be_measured() -> None:
    found = records(replace(QUICK, subset=Subset(split="test")))[0]
    assert (found.data["split"], found.data["examples"], found.data["subset_seed"]) == ("test", 360, None)


def test_a_pattern_gives_a_curve_in_the_order_of_the_files(tmp_path: Path) -> None:
    for number, scale in ((10, 2.0), (9, 1.0)):
        saved(tmp_path, f"epoch{number}.safetensors", scale=scale)
    states = group_by_weights(records(replace(QUICK, weights=str(tmp_path / "*.safetensors"))))
    assert [Path(name).name for name in states] == ["epoch9.safetensors", "epoch10.safetensors"]
    values = [row["fisher-rao"].value for row in states.values()]
    path, _ = saved(tmp_path, "alone.safetensors", scale=2.0)
    assert values[1] == records(replace(QUICK, weights=str(path)))[1].value != values[0]


def test_what_has_a_record_is_read_and_not_measured_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = tmp_path / "out"
    first = records(QUICK, output=output)
    kept = list(iterate_records(output / RECORDS))
    assert kept == first
    monkeypatch.setattr(
        "sharpbench.runner.single_network.evaluate_measure", lambda *_, **__: pytest.fail("measured again")
    )
    assert records(QUICK, output=output) == first
    assert list(iterate_records(output / RECORDS)) == kept


def test_an_interrupted_curve_goes_on_where_it_stopped(tmp_path: Path) -> None:
    for number in range(3):
        saved(tmp_path, f"{number}.safetensors", scale=1 + number)
    inspection = replace(BASE, weights=str(tmp_path / "*.safetensors"))
    steps: Iterator[object] = evaluate_network(inspection, threads=1, output=tmp_path / "out")
    taken = [next(steps) for _ in range(6)]
    steps.close()  # type: ignore[attr-defined]
    done = [step for step in taken if isinstance(step, Record)]
    assert list(iterate_records(tmp_path / "out" / RECORDS)) == done
    started = [step for step in taken if isinstance(step, WeightsStarted)]
    assert [step.first for step in started] == [step.measure == "trace" for step in started]  # it captures the graph
    assert {step.first for step in started} == {True, False}
    whole = records(inspection, output=tmp_path / "out")
    assert whole[: len(done)] == done
    assert len(whole) == 6
    assert len(list(iterate_records(tmp_path / "out" / RECORDS))) == 6


@pytest.mark.parametrize(
    "changes",
    [
        {"setting": EvaluationSetting(seed=1)},
        {"setting": EvaluationSetting(dtype="float64")},
        {"subset": Subset(limit=40, seed=4)},
        {"checks": Checks(jackknife=4)},
        {"measures": select_measures("sam[rho=0.1],fisher-rao")},
        {"model": SmallMlp(bias=False)},
    ],
)
def test_whatever_a_value_hangs_on_is_in_its_key(changes: dict[str, Any]) -> None:
    assert records(replace(QUICK, **changes))[0].key != records(QUICK)[0].key


def test_a_file_that_changes_has_other_keys(tmp_path: Path) -> None:
    code = "from torch import nn\ndef make(): return nn.Sequential(nn.Flatten(), nn.Linear(784, 10))\n"
    (tmp_path / "net.py").write_text(code)
    inspection = replace(BASE, model=File(str(tmp_path / "net.py"), "make"))
    before = records(inspection)
    assert [record.status for record in before] == ["ok", "ok"]
    assert before[0].recipe["model"] == f"{tmp_path / 'net.py'}:make"
    (tmp_path / "net.py").write_text(code.replace("nn.Flatten(),", "nn.Flatten(), nn.ReLU(),"))
    assert {record.key for record in before}.isdisjoint(record.key for record in records(inspection))


def test_equal_files_are_a_row_each_and_stay_so(tmp_path: Path) -> None:
    for name in ("epoch1.safetensors", "epoch2.safetensors"):
        saved(tmp_path, name)
    inspection = replace(QUICK, weights=str(tmp_path / "*.safetensors"))
    first = group_by_weights(records(inspection, output=tmp_path / "out"))
    again = group_by_weights(records(inspection, output=tmp_path / "out"))
    assert list(first) == list(again) == [str(tmp_path / f"epoch{number}.safetensors") for number in (1, 2)]


def test_checks_are_added_to_values_that_are_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = replace(QUICK, measures=select_measures("parameter-norm"))
    (first,) = records(small, output=tmp_path)
    calls: list[str] = []
    monkeypatch.setattr("sharpbench.runner.evaluate_cell.measure", lambda *_, **__: calls.append("value"))
    monkeypatch.setattr("sharpbench.runner.evaluate_cell.oracle_value", lambda *_: (first.value, "definition"))
    checked = replace(small, checks=Checks(compared=True))
    (added,) = records(checked, output=tmp_path)
    assert calls == []
    assert (added.key, added.value, added.exact) == (first.key, first.value, first.value)
    assert added.checks == {"oracle": None}
    assert records(small, output=tmp_path) == records(checked, output=tmp_path) == [added]
    assert [record.exact for record in iterate_records(tmp_path / RECORDS)] == [None, first.value]


def test_a_moved_file_is_known_again_under_its_new_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, _ = saved(tmp_path)
    records(replace(QUICK, weights=str(path)), output=tmp_path / "out")
    moved = path.rename(tmp_path / "moved.safetensors")
    monkeypatch.setattr(
        "sharpbench.runner.single_network.evaluate_measure", lambda *_, **__: pytest.fail("measured again")
    )
    assert records(replace(QUICK, weights=str(moved)), output=tmp_path / "out")[0].recipe["weights"] == str(moved)


PLUGIN = """
from dataclasses import dataclass
from sharpbench import Estimate, Measure
@dataclass(frozen=True)
class Constant(Measure):
    name, title, source = "constant", "a constant", "tests"
    def __call__(self, subject, *, generator): return Estimate(1.0)
    def exact(self, subject): return None
    def invariances(self): return frozenset()
MEASURES = (Constant,)
"""


def test_a_measure_of_a_plugin_file_is_measured_again_when_that_changes(tmp_path: Path) -> None:
    path = tmp_path / "plugin.py"
    path.write_text(PLUGIN)
    words = [
        "measure",
        "--model",
        "small-mlp",
        "--limit",
        "8",
        "--measures",
        "constant",
        "--plugin",
        str(path),
        "--json",
    ]
    values = []
    for constant in ("1.0", "2.0"):
        path.write_text(PLUGIN.replace("1.0", constant))
        values.append(json.loads(given(*words, "--output", tmp_path / "out").stdout)[0]["value"])
    assert values == [1.0, 2.0]


def test_weights_that_overflow_cost_their_rows_alone(tmp_path: Path) -> None:
    saved(tmp_path, "1.safetensors")
    saved(tmp_path, "2.safetensors", scale=1e30)
    measures = select_measures("gradient-norm,fisher-rao")
    found = records(replace(QUICK, weights=str(tmp_path / "*.safetensors"), measures=measures))
    assert [record.status for record in found] == ["ok", "ok", "skipped", "skipped"]
    assert all("of example 0 is" in (record.reason or "") for record in found[2:])
    assert found[2].truth["loss"] is None


def test_float64_weights_stay_float64(tmp_path: Path) -> None:
    path, module = saved(tmp_path)
    state = {name: value.double() * (1 + 1e-10) for name, value in module.state_dict().items()}
    safetensors.torch.save_file(state, tmp_path / "double.safetensors")
    one = records(
        replace(QUICK, weights=str(tmp_path / "double.safetensors"), setting=EvaluationSetting(dtype="float64"))
    )
    other = records(replace(QUICK, weights=str(path), setting=EvaluationSetting(dtype="float64")))
    assert one[1].value != other[1].value == pytest.approx(one[1].value, rel=1e-7)


@pytest.mark.parametrize("change", [".double()", ".half()", ".bfloat16()"])
def test_a_network_of_another_type_is_measured_in_the_one_asked_for(tmp_path: Path, change: str) -> None:
    code = f"from torch import nn\ndef make(): return nn.Sequential(nn.Flatten(), nn.Linear(784, 10)){change}\n"
    (tmp_path / "net.py").write_text(code)
    found = records(replace(BASE, model=File(str(tmp_path / "net.py"), "make")))
    assert [record.status for record in found] == ["ok", "ok"]


@pytest.mark.parametrize("part", ["nn.LazyLinear(10)", "nn.Linear(784, 10, device='meta')"])
def test_networks_without_plain_tensors_are_refused(tmp_path: Path, part: str) -> None:
    code = f"from torch import nn\ndef make(): return nn.Sequential(nn.Flatten(), {part})\n"
    (tmp_path / "net.py").write_text(code)
    with pytest.raises(InvalidInput, match="is not a set of plain tensors"):
        records(replace(QUICK, model=File(str(tmp_path / "net.py"), "make")))


def test_frozen_tensors_are_counted(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(
        "from torch import nn\ndef make():\n"
        "    net = nn.Sequential(nn.Flatten(), nn.Linear(784, 5), nn.ReLU(), nn.Linear(5, 10))\n"
        "    net[1].requires_grad_(False)\n    return net\n"
    )
    assert records(replace(QUICK, model=File(str(tmp_path / "net.py"), "make")))[0].recipe["frozen"] == 2


def test_weights_of_timms_network_fit_behind_an_enlargement(tmp_path: Path) -> None:
    state = Timm("test_resnet").build((1, 40, 40), 10).state_dict()
    safetensors.torch.save_file(state, tmp_path / "net.safetensors")
    model, few = Timm("test_resnet", size=40), Subset(limit=2)
    weights = str(tmp_path / "net.safetensors")
    found = records(
        replace(QUICK, model=model, weights=weights, subset=few, measures=select_measures("parameter-norm"))
    )
    assert found[0].status == "ok"


def test_cost_oracle_and_invariance_are_found_where_asked() -> None:
    checks, small = Checks(timed=True, compared=True, rewritten=True), SmallMlp(width=3)
    trace = select_measures("trace")
    found = records(replace(BASE, checks=checks, model=small, measures=trace, subset=Subset(limit=4)))[0]
    assert found.exact == pytest.approx(found.value, rel=1e-5)
    assert found.seconds is not None
    assert found.invariance["layer"] is not None


def test_a_measure_that_raises_costs_its_own_record_alone() -> None:
    found = records(replace(QUICK, measures=(Failing(), *QUICK.measures)))
    assert [record.status for record in found] == ["failed", "ok", "ok"]
    assert found[0].reason == "RuntimeError: out of luck"


def test_a_network_of_timm_is_given_its_own_images() -> None:
    found = records(
        replace(QUICK, model=Timm("test_resnet"), measures=select_measures("fisher-rao"), subset=Subset(limit=2))
    )
    assert found[0].status == "ok"
    assert found[0].recipe["timm"]


def poisoned(folder: Path) -> str:
    path, module = saved(folder)
    state: dict[str, Tensor] = dict(module.state_dict())
    state["layer1.bias"][3] = float("nan")
    safetensors.torch.save_file(state, path)
    return str(path)


def hundred(folder: Path) -> Npz:
    inputs, targets = np.zeros((4, 1, 28, 28), np.uint8), np.array([0, 1, 2, 30])
    np.savez(folder / "x.npz", inputs=inputs, targets=targets)
    return Npz(str(folder / "x.npz"))


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        (lambda folder: {"weights": poisoned(folder)}, "weights are not finite: layer1.bias holds 1 NaN or infinite"),
        (lambda folder: {"weights": "nowhere.pt"}, "there is no file 'nowhere.pt'"),
        (lambda folder: {"weights": "pretrained"}, "'small-mlp' has no pretrained weights; use 'timm:NAME'"),
        (lambda folder: {"weights": str(saved(folder)[0]), "classes": 12}, "do not fit Perceptron: 2 of 6 of another"),
        (lambda folder: {"classes": 5}, "target 9 is out of range for a network of 5 outputs"),
        (lambda folder: {"dataset": hundred(folder), "subset": Subset(), "classes": 10}, "target 30 is out of range"),
        (lambda folder: {"model": Timm("test_vit"), "weights": "pretrained"}, "have 1000 classes, 'digits' has 10"),
    ],
)
def test_what_does_not_fit_together_is_said_in_a_line(tmp_path: Path, changes: Any, line: str) -> None:
    with pytest.raises(InvalidInput, match=line) as caught:
        records(replace(QUICK, **changes(tmp_path)))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"classes": 0}, "classes=0 must be from 1 to 1000000"),
        ({"classes": 5, "model": File("net.py", "make")}, "classes=5 has no effect on 'net.py:make', which fixes its"),
        ({"batch_size": 2**63}, "batch_size=9223372036854775808 must be from 1"),
    ],
)
def test_settings_are_checked(changes: dict[str, Any], line: str) -> None:
    with pytest.raises(InvalidInput, match=line):
        replace(QUICK, **changes)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"seed": -1}, "seed=-1 must be from 0"),
        ({"seed": 2**64}, "seed=18446744073709551616 must be from 0 to 18446744073709551615"),
        ({"dtype": "float16"}, "dtype 'float16' is none of float32, float64"),
    ],
)
def test_a_setting_is_checked(changes: dict[str, Any], line: str) -> None:
    with pytest.raises(InvalidInput, match=line):
        EvaluationSetting(**changes)


def test_a_network_that_does_not_take_the_inputs_is_said_in_a_line(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text("from torch import nn\ndef make(): return nn.Linear(5, 10)\n")
    with pytest.raises(InvalidInput, match=r"does not run on inputs of shape \[1, 1, 28, 28\] .*: RuntimeError: .*"):
        records(replace(QUICK, model=File(str(tmp_path / "net.py"), "make")))
    with pytest.raises(InvalidInput, match="threads=0 must be from 1 to 1024"):
        list(evaluate_network(QUICK, threads=0))


class Writing(Failing):
    """Writes to the weights that it is given."""

    name: ClassVar[str] = "writing"

    def __call__(self, subject: Subject, *, generator: torch.Generator) -> Estimate:
        """See Measure."""
        next(iter(subject.params.values())).zero_()
        return Estimate(1.0)


def test_a_measure_that_writes_to_the_network_fails_and_ends_the_evaluation(tmp_path: Path) -> None:
    (other, *_) = QUICK.measures
    with pytest.raises(InvalidInput, match=r"measure 'writing' changed params\[layer0.weight\], .*; leave it out"):
        records(replace(QUICK, measures=(Writing(), other)), output=tmp_path)
    (found,) = iterate_records(tmp_path / RECORDS)
    assert (found.status, found.value) == ("failed", None)
    assert records(replace(QUICK, measures=(other, Writing())))[1].status == "failed"


@dataclass(frozen=True)
class Torn(Dataset):
    """A plugin's data set that raises, or returns something else."""

    name: ClassVar[str] = "torn"
    title: ClassVar[str] = "ends too soon"
    source: ClassVar[str] = "none"
    error: BaseException | None = None

    def load(self, folder: Path | None) -> Data:
        """See Dataset.load."""
        if self.error is not None:
            raise self.error
        return None  # type: ignore[return-value]  # a plugin's mistake


@pytest.mark.parametrize("error", [EOFError("no end-of-stream marker"), SystemExit(3), None], ids=str)
def test_data_sets_that_cannot_be_loaded_are_refused_in_one_line(error: BaseException | None) -> None:
    """`measure` ended in a traceback where `run` had one line, and `run` did where `load` returned nothing."""
    dataset, words = Torn(error), f"{type(error).__name__}: {error}" if error else "not as Data"
    with pytest.raises(InvalidInput, match=f"dataset 'torn' .*{words}"):
        load_data(Recipe(model=SmallMlp(), dataset=dataset), None)
    words = words if error else "AttributeError"
    with pytest.raises(InvalidInput, match=f"dataset 'torn' cannot be loaded: {words}"):
        records(replace(QUICK, dataset=dataset))
