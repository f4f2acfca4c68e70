"""run() and iterate_events(): what one cell, one network or an interrupt costs, and what is on disk meanwhile."""

from __future__ import annotations

import json
import sys
from collections.abc import Generator, Sequence
from dataclasses import dataclass, fields, replace
from itertools import groupby
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from sharpbench_measures import Trace

from sharpbench import Cell, Estimate, InvalidInput, Measure, NotApplicable, Record, Subject, plan, run
from sharpbench.analysis.population import group_populations
from sharpbench.core.measure import Invariance
from sharpbench.core.records import RECORDS, iterate_records, read_cell_ends
from sharpbench.models import SmallMlp
from sharpbench.models.model import Model
from sharpbench.runner.cell import Shard
from sharpbench.runner.engines.pool import CellStarted
from sharpbench.runner.networks import UntrainedNetworks
from sharpbench.runner.run import RunKeywords, RunOptions, TornLineRemoved, iterate_events, plan_run
from sharpbench.training.population import TrainingEpoch

COHORT = "label-noise[ratios=2,seeds=1,train_size=32,max_epochs=2]"
DRAWN = float(torch.rand((), generator=torch.Generator().manual_seed(0), dtype=torch.float64))
"""What `Draw` gives for the usual seed."""
SIZE = sum(value.numel() for value in SmallMlp().build((1, 28, 28), 10).parameters())


@dataclass(frozen=True)
class Norm(Measure):
    """The sum of squares of the parameters."""

    name: ClassVar[str] = "norm"
    title: ClassVar[str] = "norm"
    source: ClassVar[str] = "tests"

    def __call__(self, subject: Subject, *, generator: torch.Generator) -> Estimate:
        return Estimate(sum(float(value.square().sum()) for value in subject.params.values()))

    def exact(self, subject: Subject) -> float | None:
        return None

    def invariances(self) -> frozenset[Invariance]:
        return frozenset()


@dataclass(frozen=True)
class Draw(Norm):
    name: ClassVar[str] = "draw"

    def __call__(self, subject: Subject, *, generator: torch.Generator) -> Estimate:
        value = float(torch.rand((), generator=generator, dtype=torch.float64))
        return Estimate(value, stderr=None, interval=(0.0, 1.0), parts={"all": value}, probes=1, details={"of": "rand"})


@dataclass(frozen=True)
class Odd(Norm):
    """Fails in as many ways as there are words."""

    name: ClassVar[str] = "odd"
    way: str = "raises"

    def __call__(self, subject: Subject, *, generator: torch.Generator) -> Estimate:
        held: dict[str, Any] = {"tensor": torch.ones(()), "text": "1.0", "truth": True}
        match self.way:
            case "raises":
                raise RuntimeError("out\n of luck \ud800")
            case "refuses":
                raise NotApplicable("not for\nthis network")
            case "invalid":
                raise InvalidInput("weights are odd")
            case "leaves":
                sys.exit(3)
            case "starves":
                raise MemoryError
            case "starves torch":
                raise torch.OutOfMemoryError("no memory\nleft")
            case "nothing":
                return None  # type: ignore[return-value]
            case "nested":
                return Estimate(1.0, details={"values": [1.0, 2.0]})  # type: ignore[dict-item]
            case "part":
                return Estimate(1.0, parts={"weight": torch.ones(())})  # type: ignore[dict-item]
        if self.way == "interrupts":
            raise KeyboardInterrupt
        return Estimate(held[self.way])


@dataclass(frozen=True)
class Oracle(Norm):
    name: ClassVar[str] = "oracle"
    oracle_limit: ClassVar[int | None] = SIZE - 1
    says: Any = 2.5

    def exact(self, subject: Subject) -> float | None:
        assert all(value.dtype == torch.float64 for value in subject.params.values())
        if self.says == "raises":
            raise ArithmeticError("no oracle")
        if self.says == "refuses":
            raise NotApplicable("not in closed form")
        return None if self.says is None else float(self.says)


def cells(measures: Sequence[Measure], models: Any = "small-mlp", **options: Any) -> tuple[Cell, ...]:
    settings = {"cohort": COHORT, "device": "cpu", "timing": 0, "oracle": 0, "invariance": 0, "examples": 8, **options}
    return plan(measures, models, **settings)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def ran(planned: Sequence[Cell], cache: Path, output: Path | None = None, **options: Any) -> list[Record]:
    return list(run(planned, output=output, cache_dir=cache, threads=1, **options))


def on_disk(output: Path) -> list[Record]:
    return list(iterate_records(output / RECORDS))


FAILURES = {
    "raises": ("failed", r"RuntimeError: out of luck \ud800"),
    "refuses": ("skipped", "not for this network"),
    "invalid": ("failed", "weights are odd"),
    "leaves": ("failed", "SystemExit: 3"),
    "starves": ("oom", "out of memory"),
    "starves torch": ("oom", "no memory left"),
    "nothing": ("failed", "TypeError: measure 'odd' returns None, not an Estimate; return Estimate(value)"),
    "nested": ("failed", "ValueError: an estimate's details must be finite JSON scalars, got values=[1.0, 2.0]"),
    "part": ("failed", "ValueError: field parts={'weight': tensor(1.)} has weight=tensor(1.), which is not a number"),
    "tensor": ("failed", "ValueError: field value=tensor(1.) is not a number"),
    "text": ("failed", "TypeError: must be real number, not str"),
    "truth": ("failed", "ValueError: field value=True is not a number"),
}
"""The ways of `Odd`, and what its record says of each."""


def test_a_cell_that_fails_costs_itself_alone(cache: Path, tmp_path: Path) -> None:
    """Each is followed by another that fails in its own way, and the last by one that has its value."""
    ways = list(FAILURES)
    records = ran(cells([Norm(), *map(Odd, ways), Draw()]), cache, tmp_path)
    assert [record.status for record in records] == 2 * ["ok", *(status for status, _ in FAILURES.values()), "ok"]
    assert [record.reason for record in records] == 2 * [None, *(reason for _, reason in FAILURES.values()), None]
    assert {record.value for record in records if record.measure == "draw"} == {DRAWN}
    for way, lost in zip(ways, records[1:], strict=False):
        assert (lost.value, lost.stderr, lost.seconds, lost.exact, lost.details, lost.parts) == (None,) * 4 + ({}, {})
        assert lost.truth == records[0].truth
        assert (lost.label, lost.configuration) == ("odd" if way == "raises" else f"odd[way={way}]", {"way": way})
    assert on_disk(tmp_path) == records


def test_a_record_says_what_was_estimated_on_what(cache: Path) -> None:
    planned = cells([Draw()], seed=3, dtype="float64")
    records = ran(planned, cache)
    expected = float(torch.rand((), generator=torch.Generator().manual_seed(3), dtype=torch.float64))
    for position, (cell, record) in enumerate(zip(planned, records, strict=True)):
        assert record.key == cell.key
        assert (record.value, record.stderr, record.low, record.high) == (expected, None, 0.0, 1.0)
        assert (record.probes, record.parts, record.details) == (1, {"all": expected}, {"of": "rand"})
        assert (record.seed, record.dtype, record.device) == (3, "float64", "cpu")
        assert record.data == {
            "sha256": cell.data_sha256,
            "examples": 8,
            "available": 32,
            "test_examples": 360,
            "population": "small-mlp",
            "design": "designed",
            "position": position,
        }
        assert record.recipe == cell.recipe.row()
        assert record.environment["threads"] == 1
        assert record.shared_seconds is not None
        assert record.shared_seconds > 0
        assert (record.seconds, record.gradients, record.peak_bytes, record.exact, record.oracle) == (None,) * 5
        assert record.time.endswith("+00:00")
    assert {record.data["examples"] for record in ran(cells([Norm()], examples=None), cache)} == {32}


def test_each_record_is_on_disk_before_the_next_begins(cache: Path, tmp_path: Path) -> None:
    planned = cells([Norm(), Draw()])
    count = 0
    for event in iterate_events(planned, RunOptions(output=tmp_path, cache_dir=cache, threads=1)):
        if isinstance(event, CellStarted):
            assert event.cell == planned[count]
            assert len(on_disk(tmp_path)) == count
        if isinstance(event, Record):
            count += 1
            assert on_disk(tmp_path)[-1] == event
    assert count == len(planned) == 4


def test_networks_are_trained_once_and_say_so(tmp_path: Path) -> None:
    planned = cells([Norm(), Draw()])
    first = [
        event
        for event in iterate_events(planned, RunOptions(cache_dir=tmp_path, threads=1))
        if isinstance(event, TrainingEpoch)
    ]
    assert [(event.recipe, event.epoch.number) for event in first] == [
        (recipe, number) for number in (1, 2) for recipe in dict.fromkeys(cell.recipe for cell in planned)
    ]  # together
    again = list(iterate_events(planned, RunOptions(cache_dir=tmp_path, threads=1)))
    assert {type(event) for event in again} == {CellStarted, Record}


def test_a_resumed_run_does_what_is_left(cache: Path, tmp_path: Path) -> None:
    planned = cells([Norm(), Odd("raises"), Odd("refuses")])
    some = ran(planned[:2], cache, tmp_path)
    rest = ran(planned, cache, tmp_path)
    assert [record.key for record in rest] == [cell.key for cell in planned[2:]]
    assert on_disk(tmp_path) == some + rest
    assert ran(planned, cache, tmp_path) == []
    failed = [cell.key for cell in planned if cell.measure == Odd("raises")]
    again = ran(planned, cache, tmp_path, retry_failed=True)
    assert [record.key for record in again] == failed
    assert on_disk(tmp_path) == some + rest + again


def test_the_last_record_of_a_cell_counts(cache: Path, tmp_path: Path) -> None:
    planned = cells([Norm(), Draw()])
    done = ran(planned, cache)
    lines = [
        replace(done[0], status="failed", reason="once", value=None),
        done[0],
        done[1],
        replace(done[1], status="oom", reason="why", value=None),
        replace(done[2], status="skipped", reason="why", value=None),
    ]
    path = tmp_path / RECORDS
    path.write_text("".join(line.to_json() + "\n" for line in lines), encoding="utf-8")
    assert plan_run(planned, RunOptions(output=tmp_path)).left == (planned[3],)
    assert plan_run(planned, RunOptions(output=tmp_path, retry_failed=True)).left == (planned[1], planned[3])
    assert plan_run(planned, RunOptions(output=tmp_path / "none")).left == planned
    shown = plan_run(planned, RunOptions(output=tmp_path))
    assert str(shown).endswith(f"{len(planned)} cells, 1 to do")
    assert shown.to_frame()[["cells", "to do"]].sum().tolist() == [len(planned), 1]
    assert f"<p>{shown}</p>" in shown._repr_html_()


def test_a_torn_line_is_cut_off_and_its_cell_run_again(cache: Path, tmp_path: Path) -> None:
    planned = cells([Norm()])
    records = ran(planned, cache, tmp_path)
    path = tmp_path / RECORDS
    whole = path.read_bytes()
    path.write_bytes(whole[:-7])
    assert [cell.key for cell in plan_run(planned, RunOptions(output=tmp_path)).left] == [records[1].key]
    seen = list(iterate_events(planned, RunOptions(output=tmp_path, cache_dir=cache, threads=1)))
    assert seen[0] == TornLineRemoved(path, len(records[1].to_json().encode()) + 1 - 7)
    assert [record.key for record in seen if isinstance(record, Record)] == [records[1].key]
    assert [record.key for record in on_disk(tmp_path)] == [cell.key for cell in planned]


@dataclass(frozen=True)
class Untrainable(Model):
    """Raises in the forward pass: in training mode, or only in eval mode."""

    name: ClassVar[str] = "untrainable"
    title: ClassVar[str] = "a network that raises"
    source: ClassVar[str] = "tests"
    error: str = "RuntimeError"
    mode: str = "train"

    def build(self, shape: tuple[int, ...], classes: int) -> torch.nn.Module:
        return Raises(SmallMlp().build(shape, classes), self)


class Raises(torch.nn.Module):
    def __init__(self, inner: torch.nn.Module, model: Untrainable) -> None:
        super().__init__()
        self.inner, self.model = inner, model

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        single = self.model.mode == "single" and len(inputs) == 1
        if single or (self.model.mode == "train" and self.training):
            raise {"RuntimeError": RuntimeError, "MemoryError": MemoryError}[self.model.error]("in the\nnetwork")
        logits: torch.Tensor = self.inner(inputs)
        return logits


@pytest.mark.parametrize(
    ("model", "status", "reason"),
    [
        (Untrainable(), "failed", "RuntimeError: in the network"),
        (Untrainable(error="MemoryError"), "oom", "in the network"),
        (
            *(Untrainable(mode="single"), "failed"),
            "the network does not run on inputs of shape [1, 1, 28, 28] and type torch.float32: "
            "RuntimeError: in the network",
        ),
    ],
    ids=["training", "memory", "measuring"],
)
def test_a_network_that_fails_costs_its_own_cells(
    model: Untrainable, status: str, reason: str, cache: Path, tmp_path: Path
) -> None:
    planned = cells([Norm(), Draw()], [model, SmallMlp()])
    records = ran(planned, cache, tmp_path)
    assert [record.key for record in records] == [cell.key for cell in planned]
    assert [record.status for record in records] == 4 * [status] + 4 * ["ok"]
    assert {record.reason for record in records[:4]} == {reason}
    assert {record.data["examples"] for record in records} == {8}
    assert all(bool(record.truth) == (model.mode == "single") for record in records[:4])
    assert on_disk(tmp_path) == records


def test_a_network_that_diverged_fails_and_the_next_is_measured(tmp_path: Path) -> None:
    wild = cells([Norm(), Draw()], cohort=COHORT.replace("max_epochs=2", "max_epochs=20,learning_rate=1e6"))
    records = ran([*wild, *cells([Norm()])], tmp_path)
    assert [record.status for record in records] == 4 * ["failed"] + 2 * ["ok"]
    assert all(str(record.reason).startswith("weights are not finite: layer0.weight holds ") for record in records[:4])
    assert records[0].truth["train_loss"] is None


def test_a_cache_that_cannot_be_written_ends_the_run(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(InvalidInput, match=r"cannot write .*; choose another folder with --cache-dir"):
        ran(cells([Norm()]), tmp_path / "file")


def test_an_interrupt_keeps_what_is_finished(cache: Path, tmp_path: Path) -> None:
    planned = cells([Norm(), Odd("interrupts"), Draw()])
    with pytest.raises(KeyboardInterrupt):
        ran(planned, cache, tmp_path)
    assert [record.key for record in on_disk(tmp_path)] == [planned[0].key]
    rest = [cell for cell in planned if cell.measure != Odd("interrupts")]
    assert [record.key for record in ran(rest, cache, tmp_path)] == [cell.key for cell in rest[1:]]


def test_a_run_that_is_left_in_the_middle_lets_the_file_go(cache: Path, tmp_path: Path) -> None:
    planned = cells([Norm()])
    records = run(planned, output=tmp_path, cache_dir=cache, threads=1)
    next(records)
    with pytest.raises(InvalidInput, match="is being written by another run"):
        ran(planned, cache, tmp_path)
    assert isinstance(records, Generator)
    records.close()
    assert len(ran(planned, cache, tmp_path)) == 1


ORACLES: dict[Any, tuple[str | None, float | None]] = {
    2.5: (None, 2.5),
    None: (None, None),
    "raises": ("failed: ArithmeticError: no oracle", None),
    "nan": ("failed: ValueError: the oracle of 'oracle' returns nan", None),
    "refuses": ("skipped: not in closed form", None),
}
"""What `Oracle` says; what its record holds of it, and the exact value."""


def test_the_oracle_is_asked_in_float64_where_it_was_asked_for(cache: Path) -> None:
    """An oracle that fails costs its own result only: the value stays."""
    records = ran(cells([Oracle(says) for says in ORACLES], oracle=1), cache)
    asked, others = records[: len(ORACLES)], records[len(ORACLES) :]
    for (says, (reason, exact)), record in zip(ORACLES.items(), asked, strict=True):
        assert (record.status, record.exact, record.checks) == ("ok", exact, {"oracle": reason})
        assert record.oracle == (None if exact is None else "float64 engine")
        assert bool(record.failed_checks) == (says in ("raises", "nan"))
    assert len(others) == len(ORACLES)
    assert {(record.status, record.exact, "oracle" in record.checks) for record in others} == {("ok", None, False)}


@dataclass(frozen=True)
class Limited(Oracle):
    name: ClassVar[str] = "limited"
    oracle_limit: ClassVar[int | None] = SIZE


@dataclass(frozen=True)
class Unlimited(Oracle):
    name: ClassVar[str] = "unlimited"
    oracle_limit: ClassVar[int | None] = None


def test_an_oracle_says_what_it_is(cache: Path) -> None:
    """The engine in float64 above the measure's limit; up to it, or without one, the definition."""
    records = ran(cells([Oracle(), Limited(), Unlimited()], oracle=1)[:3], cache)
    assert [record.oracle for record in records] == ["float64 engine", "definition", "definition"]


def test_costs_are_measured_where_they_were_asked_for(cache: Path) -> None:
    records = ran(cells([Norm()], timing=1), cache)
    assert [record.seconds is None for record in records] == [False, True]
    assert records[0].seconds is not None
    assert records[0].gradients is not None
    assert records[0].seconds > 0
    assert 0 < records[0].gradients < 100


def test_no_cells_are_no_records_and_threads_have_a_bound(tmp_path: Path) -> None:
    assert ran([], tmp_path, tmp_path) == []
    assert on_disk(tmp_path) == []
    with pytest.raises(InvalidInput, match="threads=0 must be from 1 to 1024"):
        list(run(cells([Norm()]), threads=0))


def test_the_order_in_which_cells_share_a_network_changes_no_value(cache: Path) -> None:
    planned = cells([Norm(), Draw(), Trace()])
    forward, backward = ran(planned, cache), ran(planned[::-1], cache)
    assert {record.key: record.value for record in forward} == {record.key: record.value for record in backward}
    assert json.loads(forward[0].to_json())["value"] == forward[0].value


@pytest.mark.slow
def test_workers_train_what_is_measured_here(tmp_path: Path) -> None:
    """The same values as without; a network whose class only this process knows costs its own cells."""

    @dataclass(frozen=True)
    class Local(Untrainable):
        mode: str = "never"

    planned = cells([Norm()], [SmallMlp(), Local()])
    records = ran(planned, tmp_path / "two", workers=2)
    assert [record.status for record in records] == ["ok"] * 2 + ["failed"] * 2
    assert all("Local" in str(record.reason) and "pickle" in str(record.reason) for record in records[2:])
    alone = ran(planned[:2], tmp_path / "one")
    assert [record.value for record in records[:2]] == [record.value for record in alone]
    steps = list(iterate_events(planned[:2], RunOptions(cache_dir=tmp_path / "three", threads=1, workers=2)))
    assert [type(step) for step in steps[:2]] == [UntrainedNetworks, TrainingEpoch]
    assert not any(isinstance(step, TrainingEpoch) for step in steps[steps.index(CellStarted(planned[0])) :])
    with pytest.raises(InvalidInput, match="workers=0 must be at least 1"):
        list(run(planned, workers=0))


@pytest.mark.slow
def test_several_workers_measure_a_portion_of_the_networks_before_they_train_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The values of one worker, and no network of the second portion is touched before the first is measured."""
    planned = cells([Norm(), Trace()], [SmallMlp(width=8), SmallMlp(width=9)])  # two groups
    monkeypatch.setattr("sharpbench.runner.run.PORTION_NETWORKS", 1)
    options = RunOptions(cache_dir=tmp_path / "two", threads=1, workers=2)
    steps = [
        step.recipe.model if isinstance(step, TrainingEpoch) else "measured"
        for step in iterate_events(planned, options)
        if isinstance(step, TrainingEpoch | Record)
    ]
    order = [name for name, _ in groupby(steps)]
    assert order == [SmallMlp(width=8), "measured", SmallMlp(width=9), "measured"]
    alone = ran(planned, tmp_path / "one")
    assert [record.value for record in ran(planned, tmp_path / "two", workers=2)] == [each.value for each in alone]


def test_options_are_a_value_or_keywords(cache: Path, tmp_path: Path) -> None:
    planned = cells([Norm()])
    options = RunOptions(output=tmp_path / "value", cache_dir=cache, threads=1)
    by_value = list(run(planned, options))
    by_keywords = list(run(planned, output=tmp_path / "keywords", cache_dir=cache, threads=1))
    assert [record.key for record in by_value] == [record.key for record in by_keywords] == [c.key for c in planned]
    assert {item.name for item in fields(RunOptions)} == set(RunKeywords.__annotations__)
    with pytest.raises(InvalidInput, match=r"'xxx.*' cannot be looked up .*; name another path"):
        run(planned, output="x" * 300)
    for bad in ({"workers": 0}, {"threads": 0}):
        with pytest.raises(InvalidInput, match=r"=0 must be (at least|from) 1"):
            run(planned, **bad)  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="options and workers, threads are given; give either"):
        run(planned, options, workers=2, threads=1)
    with pytest.raises(TypeError, match="colour"):
        run(planned, colour="red")  # type: ignore[call-arg]


def test_a_plan_reads_the_records_once_and_again_where_another_run_wrote(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned = cells([Norm(), Draw()])
    options = RunOptions(output=tmp_path, cache_dir=cache, threads=1)
    first, stale = plan_run(planned[:1], options), plan_run(planned, options)
    assert (first.left, stale.left) == (planned[:1], planned)
    reads: list[Path] = []

    def counted(path: Path) -> Any:
        reads.append(path)
        return read_cell_ends(path)

    monkeypatch.setattr("sharpbench.runner.run.read_cell_ends", counted)
    assert [record.key for record in run(first, options)] == [planned[0].key]
    assert reads == []
    assert [record.key for record in run(stale, options)] == [cell.key for cell in planned[1:]]
    assert reads == [tmp_path / RECORDS]
    assert list(run(planned, options)) == []
    assert len(reads) == 2


def test_a_plan_holds_its_shard(tmp_path: Path) -> None:
    planned = cells([Norm(), Draw()])
    parts = [plan_run(planned, RunOptions(shard=Shard(index, 2))) for index in (1, 2)]
    assert all(part.cells == planned and part.left == part.selected for part in parts)
    assert sorted(cell.key for part in parts for cell in part.left) == sorted(cell.key for cell in planned)


def test_one_record_of_each_network_has_its_training_curve(cache: Path, tmp_path: Path) -> None:
    """Also where the run was interrupted in between."""
    planned = cells([Norm(), Draw()])
    output = tmp_path / "out"
    found = [*ran(planned[:1], cache, output), *ran(planned, cache, output)]
    assert [list(record.training_curve) for record in found] == [["1", "2"], [], ["1", "2"], []]
    assert 0 < (found[0].training_curve["2"] or 0) < (found[0].training_curve["1"] or 0)
    networks = group_populations(on_disk(output))[0].networks
    curves = [record.training_curve for record in found[::2]]
    assert sorted(map(str, curves)) == sorted(str(network.training_curve) for network in networks)
