"""The process engine: whatever a measure does costs its own cell, with the true reason."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch

from sharpbench import Cell, Estimate, InvalidInput, Measure, Record, Subject, plan
from sharpbench.child_output import MAX_OUTPUT_BYTES
from sharpbench.core.measure import Invariance
from sharpbench.runner.engines import scheduler
from sharpbench.runner.engines.engine import Inline, Process, default_gpus, make_engine
from sharpbench.runner.engines.limits import MAX_MEMORY_BYTES, MIN_MEMORY_BYTES, Limits, parse_bytes
from sharpbench.runner.engines.pool import worker_death

Plan = Callable[..., tuple[Cell, ...]]
Ran = Callable[..., list[Record]]


def first_network(cells: tuple[Cell, ...]) -> list[Cell]:
    return [cell for cell in cells if cell.recipe == cells[0].recipe]


def test_each_misdeed_costs_its_own_cell(
    planned: Plan, ran: Ran, odd: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One process after the other does them all, with a sound cell before and after each that ends it."""
    monkeypatch.setattr(scheduler, "MAX_RETRIES", 1)
    folder = str(tmp_path)
    ways = ["segfaults", "exits", "leaves", "refuses", "killed", "killed once", "prints", "says", "sets", "interrupts"]
    ways += ["ended once", "forks", "garbles"]
    wanted = [odd("looks", 0), *(odd(way, folder=folder) for way in ways), odd("looks", 1)]
    records = ran(first_network(planned(wanted)), Process())
    found = {record.configuration["way"]: record for record in records}
    assert [record.configuration["way"] for record in records] == ["looks", *ways, "looks"]
    assert {way: (record.status, record.reason) for way, record in found.items()} == {
        "looks": ("ok", None),
        "segfaults": ("failed", "killed: the process that measured it ended by SIGSEGV"),
        "exits": ("failed", "the process that measured it ended with status 3"),
        "leaves": ("failed", "SystemExit: 7"),
        "refuses": ("skipped", "not here"),
        "killed": ("failed", "killed: the process that measured it ended by SIGKILL, 2 times"),
        "killed once": ("ok", None),
        "prints": ("ok", None),
        "says": ("ok", None),
        "sets": (
            "failed",
            "the measure changed the global settings torch's default dtype; restore them before returning",
        ),
        "interrupts": ("failed", "KeyboardInterrupt:"),
        "ended once": ("ok", None),
        "forks": ("ok", None),
        "garbles": ("failed", "the process that measured it sent bytes that are not an answer, 2 times"),
    }
    assert records[0].status == records[-1].status == "ok"
    assert (tmp_path / "times").read_text() == "xx"  # once and once more
    assert "Fatal Python error: Segmentation fault" in str(found["segfaults"].printed)
    assert found["says"].printed == "and one more\na word \ufffd[2J\n"
    shown = str(found["prints"].printed)
    assert shown.startswith("line 0\nline 1\n")
    assert shown.endswith("line 99998\nline 99999\n")
    assert "bytes left out" in shown
    assert len(shown) < 2 * MAX_OUTPUT_BYTES + 50
    assert found["looks"].printed is None
    assert {record.truth["gap"] for record in records} == {records[0].truth["gap"]}  # the lost ones also have it


def list_commands() -> Iterator[bytes]:
    """The commands of all processes; empty without /proc."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            yield path.read_bytes()


HARMS = {
    "writes": "wrote to params[layer0.bias], params[layer0.weight], params[layer1.bias] and 3 more; measure copies",
    "removes": "wrote to params[layer2.bias]; measure copies",
    "replaces": "replaced Tensor.abs; put them back before returning",
    "waits on": "left running the thread 'Thread-",
    "starts a process": "left running the process ",
}


@pytest.mark.parametrize("engine", ["inline", "process"])
def test_a_measure_that_leaves_something_behind_harms_itself_only(
    engine: str, planned: Plan, ran: Ran, odd: Any
) -> None:
    """Each cell after such a measure has the value that it has without it, on both engines."""
    measures = [odd("sums")]
    for number, way in enumerate(HARMS, start=1):
        measures += [odd(way), odd("sums", number)]
    records = ran(first_network(planned(measures)), engine)
    sums = [record for record in records if record.configuration["way"] == "sums"]
    assert [record.status for record in sums] == ["ok"] * len(sums)
    assert len({record.value for record in sums}) == 1
    for record in records:
        if record.configuration["way"] != "sums":
            assert record.status == "failed"
            assert str(record.reason).startswith(f"the measure {HARMS[str(record.configuration['way'])]}")


def test_what_this_process_cannot_undo_ends_the_run_there(planned: Plan, ran: Ran, odd: Any, tmp_path: Path) -> None:
    """In other processes it costs a worker. Here the record is kept, and the same command goes on elsewhere."""
    cells = first_network(planned([odd("pid"), odd("starts a thread"), odd("pid", 1)]))
    message = r"'odd\[way=starts a thread\]' changed the thread 'left', which this process cannot undo; .* process"
    with pytest.raises(InvalidInput, match=message):
        ran(cells, "inline", output=tmp_path)
    left: Any = next(thread for thread in threading.enumerate() if thread.name == "left")
    left.ended.set()
    assert [record.key for record in ran(cells, "process", output=tmp_path)] == [cells[2].key]
    records = ran(cells, "process")
    assert [record.status for record in records] == ["ok", "failed", "ok"]
    assert records[0].value != records[2].value


def test_a_cell_that_never_ends_is_ended(planned: Plan, ran: Ran, odd: Any) -> None:
    """And with its process that which its measure had started."""
    seconds = "61.0625"
    cells = first_network(planned([odd(), odd("starts and never ends", folder=seconds), odd("sleeps", 1)]))
    records = ran(cells, Process(Limits(timeout=3)))
    assert [record.status for record in records] == ["ok", "timeout", "ok"]
    assert not any(f"sleep\0{seconds}".encode() in command for command in list_commands())
    assert records[1].reason == "took longer than 3 s (--timeout)"


@pytest.mark.parametrize("way", ["leaks", pytest.param("hoards", marks=pytest.mark.slow)])
def test_a_leak_meets_the_limit_and_its_memory_is_given_back(way: str, planned: Plan, ran: Ran, odd: Any) -> None:
    limits = Limits(memory=parse_bytes("2GiB"))
    records = ran(first_network(planned([odd("pid", 0), odd(way), odd("pid", 1)])), Process(limits))
    assert [record.status for record in records] == ["ok", "oom", "ok"]
    assert "--memory-limit is 2 GiB" in str(records[1].reason)
    before, after = (int(record.value or 0) for record in records[::2])
    assert before != after
    assert not Path(f"/proc/{before}").exists()


def test_a_process_is_used_again_and_none_is_left(planned: Plan, ran: Ran, odd: Any) -> None:
    """The same process serves the next network."""
    cells = planned([odd("pid", number) for number in range(20)])
    records = list(ran(cells, Process()))
    assert len({record.value for record in records}) == 1
    pid = int(records[0].value or 0)
    assert pid != os.getpid()
    assert not Path(f"/proc/{pid}").exists()


def test_values_are_those_of_this_process(planned: Plan, ran: Ran) -> None:
    cells = planned("fisher-rao,ggn-trace", oracle=1)
    here, there = ran(cells, "inline"), ran(cells, "process")
    assert [record.key for record in there] == [record.key for record in here]

    def kept(record: Record) -> Record:
        """Without what takes time."""
        return replace(record, time="", shared_seconds=None)

    assert [kept(record) for record in there] == [kept(record) for record in here]
    assert there[0].exact is not None


@pytest.mark.slow
def test_timed_networks_come_first_and_alone(planned: Plan, ran: Ran, odd: Any, tmp_path: Path) -> None:
    """Two workers; of three networks one is timed, which is measured when nothing else is."""
    measures = [odd("alone", number, 0.01, str(tmp_path)) for number in range(2)]
    cells = planned(measures, ratios=3, timing=1)
    last = cells[-1].recipe
    cells = tuple(replace(cell, checks=replace(cell.checks, timed=cell.recipe == last)) for cell in cells)
    records = ran(cells, Process(), workers=2)
    assert {record.key for record in records} == {cell.key for cell in cells}
    assert [record.key for record in records[:2]] == [cell.key for cell in cells[-2:]]
    assert all(record.seconds for record in records[:2])
    steps = [path.name.split()[1] for path in sorted(tmp_path.iterdir())]
    calls = 2 * (1 + 1 + 5 + 1)  # two cells: the value, the warm-up, five that are timed, one for memory
    assert steps[: 2 * calls] == ["begin", "end"] * calls  # none overlaps


@dataclass(frozen=True)
class Local(Measure):
    """Stands in a test file, which no other process imports."""

    name: ClassVar[str] = "local"
    title: ClassVar[str] = "local"
    source: ClassVar[str] = "tests"

    def __call__(self, subject: Subject, *, generator: torch.Generator) -> Estimate:
        return Estimate(2.0)

    def exact(self, subject: Subject) -> float | None:
        return None

    def invariances(self) -> frozenset[Invariance]:
        return frozenset()


def test_what_cannot_be_sent_fails_with_a_word_and_is_measured_inline(planned: Plan, ran: Ran, odd: Any) -> None:
    @dataclass(frozen=True)
    class Inner(Local):
        name: ClassVar[str] = "inner"

    cells = first_network(planned([Inner(), odd()]))
    records = ran(cells, "process")
    assert [record.status for record in records] == ["failed", "ok"]
    assert "Inner" in str(records[0].reason)
    assert "engine inline measures it in this process" in str(records[0].reason)
    assert [record.value for record in ran(cells, Inline())] == [2.0, 1.0]


def test_settings_are_put_back_inline_too(planned: Plan, ran: Ran, odd: Any) -> None:
    before = torch.get_rng_state()
    records = ran(first_network(planned([odd("sets"), odd("looks")])), "inline")
    assert [record.status for record in records] == ["failed", "ok"]
    assert torch.equal(before, torch.get_rng_state())


def test_a_divided_cell_has_the_value_of_a_whole_one(planned: Plan, ran: Ran, odd: Any) -> None:
    """Two processes, three ragged batches; who loses the others costs the cell, and the next goes on."""
    ways = ["divided", "outside", "apart", "lost one", "batchless"]
    cells = first_network(planned([odd(way) for way in ways]))
    whole = {record.configuration["way"]: record for record in ran(cells, "inline")}
    found = {record.configuration["way"]: record for record in ran(cells, Process(Limits(pieces=2)), workers=2)}
    for way in ("divided", "outside", "batchless"):
        assert found[way].status == "ok", found[way].reason
        assert found[way].value == pytest.approx(whole[way].value, rel=1e-6)
        assert (whole[way].pieces, found[way].pieces) == (1, 2)
    assert whole["outside"].value == pytest.approx(whole["batchless"].value, rel=1e-5)
    assert found["apart"].status == "failed"
    assert "do not ask for the same sums; measure it without --split" in str(found["apart"].reason)
    assert (found["lost one"].status, found["lost one"].reason) == ("failed", "ArithmeticError: only the second")
    with pytest.raises(InvalidInput, match="split=2 exceeds workers=1"):
        ran(cells, Process(Limits(pieces=2)))


def test_workers_on_ray_have_a_gpu_where_cells_are_for_cuda() -> None:
    (cell, *_) = plan("trace", "small-mlp", cohort="label-noise[ratios=2,seeds=1,train_size=8]", device="cpu")
    of_gpu = replace(cell, setting=replace(cell.setting, device="cuda"))
    assert default_gpus("ray", [cell, of_gpu]) == 1.0
    assert default_gpus("ray", [cell]) is None
    assert default_gpus("process", [of_gpu]) is None


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (lambda: make_engine("proces"), "engine 'proces' is none of inline, process, ray"),
        (lambda: make_engine("inline", limits=Limits(timeout=1)), "'inline' knows no timeout, memory limit or split"),
        (lambda: make_engine("process", address="auto"), "address is for engine 'ray', not 'process'"),
        (lambda: make_engine("process", gpus=1), "gpus is for engine 'ray', not 'process'"),
        (lambda: make_engine("ray", gpus=-1), "gpus=-1 must be from 0 to 1, or a whole number"),
        (lambda: make_engine("ray", gpus=1.5), "gpus=1.5 must be from 0 to 1, or a whole number"),
        (lambda: make_engine("ray", gpus=float("nan")), "gpus=nan must be from 0 to 1, or a whole number"),
        (lambda: Limits(timeout=0), "timeout=0 must be a number of seconds above 0"),
        (lambda: Limits(timeout=float("nan")), "timeout=nan must be a number of seconds above 0"),
        (lambda: Limits(pieces=0), "split=0 must be at least 1"),
        (
            lambda: Limits(memory=MAX_MEMORY_BYTES + 1),
            f"memory limit {MAX_MEMORY_BYTES + 1} must be at least .* and at most {MAX_MEMORY_BYTES}; leave it out",
        ),
        (
            lambda: Limits(memory=MIN_MEMORY_BYTES - 1),
            f"memory limit {MIN_MEMORY_BYTES - 1} must be at least {MIN_MEMORY_BYTES} bytes",
        ),
        (lambda: parse_bytes("2 gigs"), "memory limit '2 gigs' is not a size; write 2GiB, or 500MB"),
    ],
)
def test_bad_input_is_named(given: Callable[[], object], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        given()


def test_sizes_are_read() -> None:
    sizes = [parse_bytes(text) for text in ("2GiB", "500MB", "1.5 KiB", "7")]
    assert sizes == [2 * 2**30, 500 * 10**6, 1536, 7]


def test_a_death_says_what_it_was_and_only_a_killed_one_is_tried_again() -> None:
    assert all(worker_death(-number).retry for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGHUP))
    assert worker_death(255).retry  # what started it may have died
    assert not any(worker_death(status).retry for status in (-11, -6, 0, 1, None))
    assert worker_death(-64).reason.endswith("SIGRTMAX")
    assert worker_death(-63).reason.endswith("signal 63")


def test_a_process_that_only_watches_does_without_torch() -> None:
    """As a Ray actor, of which there may be many on a node."""
    code = "import sys, sharpbench.runner.engines.ray; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout == "False\n"
