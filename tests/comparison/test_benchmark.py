"""A comparison from start to end: who is right, who is lost and why, and that it goes on where it stopped."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from sharpbench.comparison import MEASUREMENTS, Comparison, Measurement, read_measurements
from sharpbench.comparison import contestant as seat
from sharpbench.comparison.benchmark import Benchmark, Event
from sharpbench.comparison.network import make_network
from sharpbench.comparison.process import ContestantProcess
from sharpbench.comparison.results import NetworkResult, network_results
from sharpbench.comparison.worker import MOST
from sharpbench.errors import InvalidInput

Compared = Callable[..., Iterator[Event]]
ALL = "trace,odd,odd[way=noisy],odd[way=raises],odd[way=exits],odd[way=hangs],odd[way=refuses],odd[way=late]"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("compared")


@pytest.fixture(scope="module")
def turns(compared: Compared, folder: Path) -> list[Measurement]:
    return [event for event in compared(ALL, folder, timeout=4.0) if isinstance(event, Measurement)]


@pytest.fixture(scope="module")
def standing(turns: list[Measurement]) -> NetworkResult:
    (found,) = network_results(turns)
    return found


def test_every_row_is_on_disk(turns: list[Measurement], folder: Path) -> None:
    assert list(read_measurements(folder / MEASUREMENTS)) == turns


def test_errors_are_relative_to_the_oracle(standing: NetworkResult) -> None:
    found = {each.name: each for each in standing.results}
    assert standing.oracle is not None
    assert standing.oracle.note == "definition"
    assert found["trace"].error == pytest.approx(0, abs=1e-5)
    assert found["trace"].exact
    assert found["trace"].ours
    assert found["odd"].error == pytest.approx(0.05, rel=1e-4)
    assert not found["odd"].exact
    assert not found["odd"].ours
    assert found["odd"].to_target is None


def test_a_stochastic_one_has_another_seed_each_round(standing: NetworkResult, turns: list[Measurement]) -> None:
    noisy = next(each for each in standing.results if each.name == "odd[way=noisy]")
    drawn = [float(torch.randn(1, generator=torch.Generator().manual_seed(seed))) for seed in (1, 2, 3)]
    expected = 0.03 * math.sqrt(sum(value**2 for value in drawn) / 3)
    assert noisy.stochastic
    assert noisy.rounds == 3
    assert noisy.error == pytest.approx(expected, rel=1e-4)
    assert noisy.to_target == pytest.approx(noisy.seconds * max(1, (expected / 0.01) ** 2), rel=1e-3)
    values = {turn.value for turn in turns if turn.contestant == "odd" and turn.round}
    assert len(values) == 1


def test_those_without_a_value_have_a_reason_and_the_others_go_on(standing: NetworkResult) -> None:
    lost = {name: (status, reason) for name, status, reason in standing.losses}
    assert lost == {
        "odd[way=raises]": ("failed", "RuntimeError: nothing | works <b>"),
        "odd[way=exits]": ("failed", "the process that measured it ended with status 3"),
        "odd[way=hangs]": ("timeout", "a call took longer than 4 s"),
        "odd[way=refuses]": ("skipped", "not here"),
    }
    assert all(each.rounds == 3 for each in standing.results)


def test_a_batch_size_that_cannot_be_used_costs_nothing_but_itself(standing: NetworkResult) -> None:
    late = next(each for each in standing.results if each.name == "odd[way=late]")
    assert late.batch == 4
    assert late.error == pytest.approx(0, abs=1e-5)


def test_the_gradient_takes_turns_and_the_last_row_has_the_memory(
    standing: NetworkResult, turns: list[Measurement]
) -> None:
    assert standing.gradient is not None
    assert standing.gradient.rounds == 3
    last = [turn for turn in turns if turn.last]
    assert {turn.contestant for turn in last} == {"gradient", *(each.name for each in standing.results)}
    assert all(turn.peak_bytes is not None and turn.peak_bytes >= 0 for turn in last)
    orders = [
        [turn.contestant for turn in turns if turn.round == number and turn.status == "ok"] for number in (1, 2, 3)
    ]
    assert sorted(orders[0]) == sorted(orders[1]) == sorted(orders[2])
    assert len({tuple(order) for order in orders}) > 1


def test_short_calls_are_repeated_and_what_is_prepared_is_not_timed(turns: list[Measurement]) -> None:
    timed = [turn for turn in turns if turn.contestant == "odd" and turn.seconds is not None]
    assert len(timed) == 3
    for turn in timed:
        assert turn.seconds is not None
        assert turn.seconds < 0.03
        assert 1 < int(turn.details["calls"] or 0) <= MOST


def test_the_same_again_measures_nothing_and_failed_ones_are_tried_again_when_asked(
    compared: Compared, turns: list[Measurement], folder: Path
) -> None:
    assert list(compared(ALL, folder, timeout=4.0)) == turns
    again = "odd[way=raises],trace"
    events = [
        event for event in compared(again, folder, timeout=4.0, retry_failed=True) if isinstance(event, Measurement)
    ]
    (added,) = events[len(turns) :]
    assert (added.contestant, added.status) == ("odd[way=raises]", "failed")


def test_rows_of_another_version_or_library_are_measured_again(
    compared: Compared, turns: list[Measurement], tmp_path: Path
) -> None:
    mine = [turn for turn in turns if turn.contestant in ("oracle", "gradient", "trace", "odd[way=noisy]")]
    other = {"trace": {"version": 0}, "odd[way=noisy]": {"libraries": {"pip": "0.0"}}}
    stale = [replace(turn, **other.get(turn.contestant, {})) for turn in mine]  # type: ignore[arg-type]
    (tmp_path / MEASUREMENTS).write_text("".join(turn.to_json() + "\n" for turn in stale), encoding="utf-8")
    again = [
        event for event in compared("trace,odd[way=noisy]", tmp_path, timeout=4.0) if isinstance(event, Measurement)
    ]
    fresh = again[len(stale) :]
    assert {turn.contestant for turn in fresh} == {"trace", "odd[way=noisy]"}
    known = {turn.contestant: turn.version for turn in mine}
    assert all(turn.version == known[turn.contestant] for turn in fresh)
    assert again[: len(stale)] == stale


def test_an_oracle_that_failed_is_asked_again_where_that_is_wanted(
    compared: Compared, turns: list[Measurement], tmp_path: Path
) -> None:
    mine = [turn for turn in turns if turn.contestant in ("oracle", "trace")]
    lost = [
        replace(turn, value=None, status="timeout", reason="late") if turn.role == "oracle" else turn for turn in mine
    ]
    (tmp_path / MEASUREMENTS).write_text("".join(turn.to_json() + "\n" for turn in lost), encoding="utf-8")
    options = {"timeout": 4.0, "retry_failed": True}
    again = [event for event in compared("trace", tmp_path, **options) if isinstance(event, Measurement)]
    assert [turn.value for turn in again if turn.role == "oracle"] == [None, mine[0].value]


@pytest.mark.slow
def test_an_interrupted_comparison_goes_on(compared: Compared, tmp_path: Path) -> None:
    events = compared("trace", tmp_path, repeats=2)
    for event in events:
        if isinstance(event, Measurement) and event.round == 1:
            break
    events.close()  # type: ignore[attr-defined]
    kept = list(read_measurements(tmp_path / MEASUREMENTS))
    assert [turn.round for turn in kept][-1] == 1
    with (tmp_path / MEASUREMENTS).open("a") as file:
        file.write('{"match":"torn')
    rest = list(compared("trace", tmp_path, repeats=2))
    assert [event for event in rest if isinstance(event, Measurement)][: len(kept)] == kept
    played = [(turn.contestant, turn.round) for turn in read_measurements(tmp_path / MEASUREMENTS)]
    wanted = {("oracle", 0), *((name, number) for name in ("gradient", "trace") for number in (0, 1, 2))}
    assert sorted(played) == sorted(wanted)


@pytest.mark.slow
def test_a_diagonal_is_compared_entry_by_entry(
    compared: Compared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seat, "HELD", 0)  # a fresh process each round
    events = list(compared("odd,odd[way=noisy]", tmp_path, quantity="diagonal", repeats=2))
    (standing,) = network_results(event for event in events if isinstance(event, Measurement))
    found = {each.name: each for each in standing.results}
    assert found["odd"].error == pytest.approx(0.05, rel=1e-4)
    assert found["odd"].negative == 0
    drawn = [float(torch.randn(1, generator=torch.Generator().manual_seed(seed))) for seed in (1, 2)]
    assert found["odd[way=noisy]"].stochastic
    assert found["odd[way=noisy]"].error == pytest.approx(math.sqrt(sum(value**2 for value in drawn) / 2), rel=1e-4)


def test_a_long_call_is_the_only_one(compared: Compared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seat, "LONG", 0.0)
    turns = [event for event in compared("trace", tmp_path) if isinstance(event, Measurement)]
    assert [(turn.contestant, turn.round, turn.last) for turn in turns] == [
        ("oracle", 0, False),
        ("gradient", 0, False),
        ("gradient", 1, True),
        ("trace", 0, False),
        ("trace", 1, True),
    ]
    assert turns[-1].error == pytest.approx(0, abs=1e-5)
    assert turns[-1].peak_bytes is not None
    tried = turns[-2].details
    assert set(tried) == {"4", "12"}
    assert turns[-1].seconds == min(tried.values())
    assert tried[str(turns[-1].batch)] == turns[-1].seconds


def test_a_contestant_ends_with_whoever_asks_it(
    settings: Callable[..., Comparison], plugin: Path, tmp_path: Path
) -> None:
    """In the middle of a call too, as where the command is killed."""
    comparison = settings("odd[way=hangs]")
    steps = make_network(comparison, comparison.models[0], tmp_path / "network", data_dir=None, cache_dir=None)
    with pytest.raises(StopIteration) as ended:
        next(steps)
    contestant = ContestantProcess(Benchmark(comparison, ended.value.value, (plugin,))._job("odd[way=hangs]"))
    question = {"do": "call", "batch": 4, "seed": 0, "repeated": False, "memory": False, "oracle": None}
    contestant._connection.send_bytes(json.dumps(question).encode())
    contestant._connection.close()
    contestant._process.join(30)
    assert not contestant._process.is_alive()


def test_a_pattern_of_weights_is_no_network(compared: Compared, tmp_path: Path) -> None:
    for name in ("a.pt", "b.pt"):
        torch.save({}, tmp_path / name)
    with pytest.raises(InvalidInput, match="name 2 files; name one"):
        list(compared("trace", tmp_path / "out", weights=str(tmp_path / "*.pt")))
    with pytest.raises(InvalidInput, match="cannot be trained here; give --weights random"):
        list(compared("trace", tmp_path / "out", weights="trained"))
    with pytest.raises(InvalidInput, match="'pretrained' cannot be compared on"):
        list(compared("trace", tmp_path / "out", weights="pretrained"))
