"""A comparison from start to end: who is right, who is lost and why, and that it goes on where it stopped."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from sharpbench.comparison import MEASUREMENTS_FILE, Comparison, Measurement, read_measurements, worker
from sharpbench.comparison import contestant as contestant_module
from sharpbench.comparison.benchmark import Benchmark, ComparisonEvent
from sharpbench.comparison.config import Job
from sharpbench.comparison.network import make_network
from sharpbench.comparison.process import ContestantProcess
from sharpbench.comparison.results import NetworkResult, network_results
from sharpbench.comparison.worker import MAX_CALLS, ContestantServer
from sharpbench.errors import InvalidInput
from sharpbench.files import Workspace
from sharpbench.runner.preparation import Preparation

Compared = Callable[..., Iterator[ComparisonEvent]]
LIMIT_SECONDS = 200.0
"""Of a call; every contestant that answers does so within it, also while other work keeps the cores busy."""
ENDLESS_SECONDS = 0.5
"""Of a call that would never end, instead of its limit."""
PATIENCE = ("ONLY_CALL_SECONDS", "REPEATED_CALL_SECONDS", "SEARCH_SECONDS", "ALL_ROUNDS_SECONDS")
"""Times after which a contestant is measured less; other work may make each call longer."""
ALL = "trace,odd,odd[way=noisy],odd[way=raises],odd[way=exits],odd[way=hangs],odd[way=refuses],odd[way=late]"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("compared")


@pytest.fixture(scope="module")
def asked() -> list[dict[str, Any]]:
    """What the fixture `rows` asked the contestants' processes, each with its `measure` and its `timeout`."""
    return []


@pytest.fixture(scope="module")
def rows(compared: Compared, folder: Path, asked: list[dict[str, Any]]) -> list[Measurement]:
    class Impatient(ContestantProcess):
        """Waits only ENDLESS_SECONDS for the calls that would never end."""

        def __init__(self, job: Job) -> None:
            super().__init__(job)
            self.measure = job.measure

        def ask(self, do: str, *, timeout: float, **arguments: Any) -> dict[str, Any]:
            asked.append({"measure": self.measure, "timeout": timeout, **arguments})
            endless = self.measure == "odd[way=hangs]" or (self.measure == "odd[way=late]" and arguments["batch"] > 4)
            return super().ask(do, timeout=ENDLESS_SECONDS if endless else timeout, **arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(contestant_module, "ContestantProcess", Impatient)
        for name in PATIENCE:
            patch.setattr(contestant_module, name, math.inf)
        return [event for event in compared(ALL, folder, timeout=LIMIT_SECONDS) if isinstance(event, Measurement)]


@pytest.fixture
def make_job(settings: Callable[..., Comparison], plugin: Path, tmp_path: Path) -> Callable[[str], Job]:
    """The job of a contestant on the network of such a comparison."""

    def of(measure: str) -> Job:
        comparison = settings(measure)
        workspace = Workspace(cache_dir=tmp_path, plugins=(plugin,))
        steps = make_network(comparison, comparison.models[0], tmp_path / "network", workspace)
        with pytest.raises(StopIteration) as ended:
            next(steps)
        return Benchmark(comparison, ended.value.value, workspace).make_job(measure)

    return of


@pytest.fixture(scope="module")
def result(rows: list[Measurement]) -> NetworkResult:
    (found,) = network_results(rows)
    return found


def test_every_row_is_on_disk(rows: list[Measurement], folder: Path) -> None:
    assert list(read_measurements(folder / MEASUREMENTS_FILE)) == rows


def test_errors_are_relative_to_the_oracle(result: NetworkResult) -> None:
    found = {each.name: each for each in result.results}
    assert result.oracle is not None
    assert result.oracle.note == "definition"
    assert found["trace"].error == pytest.approx(0, abs=1e-5)
    assert found["trace"].exact
    assert found["trace"].built_in
    assert found["odd"].error == pytest.approx(0.05, rel=1e-4)
    assert not found["odd"].exact
    assert not found["odd"].built_in
    assert found["odd"].seconds_to_target is None


def test_a_stochastic_one_has_another_seed_each_round(result: NetworkResult, rows: list[Measurement]) -> None:
    noisy = next(each for each in result.results if each.name == "odd[way=noisy]")
    drawn = [float(torch.randn(1, generator=torch.Generator().manual_seed(seed))) for seed in (1, 2, 3)]
    expected = 0.03 * math.sqrt(sum(value**2 for value in drawn) / 3)
    assert noisy.stochastic
    assert noisy.rounds == 3
    assert noisy.error == pytest.approx(expected, rel=1e-4)
    assert noisy.seconds_to_target == pytest.approx(noisy.seconds * max(1, (expected / 0.01) ** 2), rel=1e-3)
    values = {row.value for row in rows if row.contestant == "odd" and row.round}
    assert len(values) == 1


def test_those_without_a_value_have_a_reason_and_the_others_go_on(result: NetworkResult) -> None:
    lost = {name: (status, reason) for name, status, reason in result.failures}
    assert lost == {
        "odd[way=raises]": ("failed", "RuntimeError: nothing | works <b>"),
        "odd[way=exits]": ("failed", "the process that measured it ended with status 3"),
        "odd[way=hangs]": ("timeout", f"a call took longer than {ENDLESS_SECONDS:g} s"),
        "odd[way=refuses]": ("skipped", "not here"),
    }
    assert all(each.rounds == 3 for each in result.results)


def test_a_batch_size_that_cannot_be_used_costs_nothing_but_itself(result: NetworkResult) -> None:
    late = next(each for each in result.results if each.name == "odd[way=late]")
    assert late.batch == 4
    assert late.error == pytest.approx(0, abs=1e-5)


def test_the_limit_of_a_call_is_the_given_one_and_of_a_further_batch_size_a_shorter_one(
    rows: list[Measurement], asked: list[dict[str, Any]]
) -> None:
    assert [each["timeout"] for each in asked if each["measure"] == "odd[way=hangs]"] == [LIMIT_SECONDS]
    (further,) = (each["timeout"] for each in asked if each["measure"] == "odd[way=late]" and each["batch"] == 12)
    (late,) = (row for row in rows if row.contestant == "odd[way=late]" and row.round == 0)
    assert further == pytest.approx(5 + 4 * float(late.details["4"] or 0))


def test_the_gradient_takes_turns_and_the_last_row_has_the_memory(
    result: NetworkResult, rows: list[Measurement]
) -> None:
    assert result.gradient is not None
    assert result.gradient.rounds == 3
    last = [row for row in rows if row.last]
    assert {row.contestant for row in last} == {
        "gradient",
        *(each.name for each in result.results),
    }
    assert all(row.peak_bytes is not None and row.peak_bytes >= 0 for row in last)
    orders = [[row.contestant for row in rows if row.round == number and row.status == "ok"] for number in (1, 2, 3)]
    assert sorted(orders[0]) == sorted(orders[1]) == sorted(orders[2])
    assert len({tuple(order) for order in orders}) > 1


def test_short_calls_are_repeated_in_every_round(rows: list[Measurement], asked: list[dict[str, Any]]) -> None:
    timed = [row for row in rows if row.contestant == "odd" and row.seconds is not None]
    assert len(timed) == sum(each["repeated"] for each in asked if each["measure"] == "odd") == 3
    for row in timed:
        assert row.seconds is not None
        assert row.seconds > 0
        assert 1 <= int(row.details["calls"] or 0) <= MAX_CALLS


@pytest.mark.parametrize(
    ("seconds", "repeated", "calls"), [(0.05, True, 4), (1e-9, True, MAX_CALLS), (9.0, True, 1), (0.05, False, 1)]
)
def test_repeated_calls_fill_a_fifth_of_a_second_and_what_is_prepared_is_not_timed(
    seconds: float, repeated: bool, calls: int, make_job: Callable[[str], Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = ContestantServer(make_job("odd"))
    steps: list[str] = []

    def time_call(call: Callable[[], object], device: torch.device) -> float:
        steps.append("start")
        call()
        steps.append("end")
        return seconds

    monkeypatch.setattr(worker, "time_call", time_call)
    monkeypatch.setattr(type(server.measure), "prepare", lambda self, subject: steps.append("prepare"))
    answer = server.call(batch=4, seed=0, repeated=repeated, memory=False, oracle=None)
    assert (answer["calls"], answer["seconds"]) == (calls, seconds)
    assert steps == ["prepare", "start", "end"] * (calls + repeated)


def test_the_same_again_measures_nothing_and_failed_ones_are_tried_again_when_asked(
    compared: Compared, rows: list[Measurement], folder: Path
) -> None:
    assert list(compared(ALL, folder, timeout=LIMIT_SECONDS)) == rows
    again = "odd[way=raises],trace"
    events = [
        event
        for event in compared(again, folder, timeout=LIMIT_SECONDS, retry_failed=True)
        if isinstance(event, Measurement)
    ]
    (added,) = events[len(rows) :]
    assert (added.contestant, added.status) == ("odd[way=raises]", "failed")


def test_rows_of_another_version_or_library_are_measured_again(
    compared: Compared, rows: list[Measurement], tmp_path: Path
) -> None:
    mine = [row for row in rows if row.contestant in ("oracle", "gradient", "trace", "odd[way=noisy]")]
    other = {"trace": {"version": 0}, "odd[way=noisy]": {"libraries": {"pip": "0.0"}}}
    stale = [replace(row, **other.get(row.contestant, {})) for row in mine]  # type: ignore[arg-type]
    (tmp_path / MEASUREMENTS_FILE).write_text("".join(row.to_json() + "\n" for row in stale), encoding="utf-8")
    again = [
        event
        for event in compared("trace,odd[way=noisy]", tmp_path, timeout=LIMIT_SECONDS)
        if isinstance(event, Measurement)
    ]
    fresh = again[len(stale) :]
    assert {row.contestant for row in fresh} == {"trace", "odd[way=noisy]"}
    known = {row.contestant: row.version for row in mine}
    assert all(row.version == known[row.contestant] for row in fresh)
    assert again[: len(stale)] == stale


def test_an_oracle_that_failed_is_asked_again_where_that_is_wanted(
    compared: Compared, rows: list[Measurement], tmp_path: Path
) -> None:
    mine = [row for row in rows if row.contestant in ("oracle", "trace")]
    lost = [replace(row, value=None, status="timeout", reason="late") if row.role == "oracle" else row for row in mine]
    (tmp_path / MEASUREMENTS_FILE).write_text("".join(row.to_json() + "\n" for row in lost), encoding="utf-8")
    options = {"timeout": LIMIT_SECONDS, "retry_failed": True}
    again = [event for event in compared("trace", tmp_path, **options) if isinstance(event, Measurement)]
    assert [row.value for row in again if row.role == "oracle"] == [None, mine[0].value]


@pytest.mark.slow
def test_an_interrupted_comparison_goes_on(compared: Compared, tmp_path: Path) -> None:
    events = compared("trace", tmp_path, repeats=2)
    for event in events:
        if isinstance(event, Measurement) and event.round == 1:
            break
    events.close()  # type: ignore[attr-defined]
    kept = list(read_measurements(tmp_path / MEASUREMENTS_FILE))
    assert [row.round for row in kept][-1] == 1
    with (tmp_path / MEASUREMENTS_FILE).open("a") as file:
        file.write('{"match":"torn')
    rest = list(compared("trace", tmp_path, repeats=2))
    assert [event for event in rest if isinstance(event, Measurement)][: len(kept)] == kept
    played = [(row.contestant, row.round) for row in read_measurements(tmp_path / MEASUREMENTS_FILE)]
    wanted = {("oracle", 0), *((name, number) for name in ("gradient", "trace") for number in (0, 1, 2))}
    assert sorted(played) == sorted(wanted)


@pytest.mark.slow
def test_a_diagonal_is_compared_entry_by_entry(
    compared: Compared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(contestant_module.MAX_IDLE_BYTES, "cpu", 0)  # a fresh process each round
    events = list(compared("odd,odd[way=noisy]", tmp_path, quantity="diagonal", repeats=2))
    (result,) = network_results(event for event in events if isinstance(event, Measurement))
    found = {each.name: each for each in result.results}
    assert found["odd"].error == pytest.approx(0.05, rel=1e-4)
    assert found["odd"].negative == 0
    drawn = [float(torch.randn(1, generator=torch.Generator().manual_seed(seed))) for seed in (1, 2)]
    assert found["odd[way=noisy]"].stochastic
    assert found["odd[way=noisy]"].error == pytest.approx(math.sqrt(sum(value**2 for value in drawn) / 2), rel=1e-4)


def test_a_long_call_is_the_only_one(compared: Compared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contestant_module, "ONLY_CALL_SECONDS", 0.0)
    monkeypatch.setattr(contestant_module, "SECOND_CALL_FACTOR", math.inf)  # other work may slow the second call down
    rows = [event for event in compared("trace", tmp_path) if isinstance(event, Measurement)]
    assert [(row.contestant, row.round, row.last) for row in rows] == [
        ("oracle", 0, False),
        ("gradient", 0, False),
        ("gradient", 1, True),
        ("trace", 0, False),
        ("trace", 1, True),
    ]
    assert rows[-1].error == pytest.approx(0, abs=1e-5)
    assert rows[-1].peak_bytes is not None
    tried = rows[-2].details
    assert set(tried) == {"4", "12"}
    assert rows[-1].seconds == min(tried.values())
    assert tried[str(rows[-1].batch)] == rows[-1].seconds


def test_a_contestant_ends_with_its_client(make_job: Callable[[str], Job]) -> None:
    """In the middle of a call too, as where the command is killed."""
    contestant = ContestantProcess(make_job("odd[way=hangs]"))
    question = {"do": "call", "batch": 4, "seed": 0, "repeated": False, "memory": False, "oracle": None}
    contestant._child.send_bytes(json.dumps(question).encode())
    contestant._child.hang_up()
    contestant._child._process.join(200)
    assert not contestant._child.is_alive


def test_a_pattern_of_weights_is_no_network(compared: Compared, tmp_path: Path) -> None:
    for name in ("a.pt", "b.pt"):
        torch.save({}, tmp_path / name)
    with pytest.raises(InvalidInput, match="name 2 files; name one"):
        list(compared("trace", tmp_path / "out", weights=str(tmp_path / "*.pt")))
    with pytest.raises(InvalidInput, match="cannot be trained here; give --weights random"):
        list(compared("trace", tmp_path / "out", weights="trained"))
    with pytest.raises(InvalidInput, match="mean, std and transform are for networks trained elsewhere"):
        list(compared("trace", tmp_path / "out", weights="trained", preparation=Preparation(mean=(0.5,), std=(0.5,))))
    with pytest.raises(InvalidInput, match="mean and std are for images; these inputs are arrays"):
        list(compared("trace", tmp_path / "out", preparation=Preparation(mean=(0.1,), std=(0.3,))))
    with pytest.raises(InvalidInput, match="'pretrained' cannot be compared on"):
        list(compared("trace", tmp_path / "out", weights="pretrained"))
