"""Timing, oracle and invariance are added to values that are known; the values are not measured again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import pytest

from sharpbench import Cell, Estimate, Measure, Record, Subject, plan, run
from sharpbench.core.jsonl import JsonlFile
from sharpbench.core.records import RECORDS, iterate_records, merge_records
from sharpbench.runner.engines.engine import Process
from sharpbench.runner.engines.limits import Limits
from sharpbench.runner.run import RunOptions, plan_run
from sharpbench.runner.status import read_status

CALLS: list[str] = []


@dataclass(frozen=True)
class Counted(Measure):
    name: ClassVar[str] = "counted"
    fails: bool = False

    @property
    def invariances(self) -> frozenset[str]:
        return frozenset()

    def __call__(self, subject: Subject, *, generator: object) -> Estimate:
        CALLS.append("value")
        return Estimate(float(len(CALLS)))

    def exact(self, subject: Subject) -> float | None:
        CALLS.append("oracle")
        if self.fails:
            raise ArithmeticError("no oracle today")
        return 2.0


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def cells(measures: str | Sequence[Measure], **checks: int) -> tuple[Cell, ...]:
    cohort = "label-noise[ratios=2,seeds=1,train_size=32,max_epochs=2]"
    asked = {"timing": 0, "oracle": 0, "invariance": 0, **checks}
    return plan(measures, "small-mlp", cohort=cohort, device="cpu", examples=8, **asked)


def ran(planned: Sequence[Cell], cache: Path, output: Path, **options: object) -> list[Record]:
    CALLS.clear()
    return list(run(planned, output=output, cache_dir=cache, threads=1, **options))  # type: ignore[arg-type]


def test_an_oracle_is_added_without_the_value(cache: Path, tmp_path: Path) -> None:
    first = ran(cells([Counted()]), cache, tmp_path)
    assert CALLS == ["value", "value"]
    (added,) = ran(cells([Counted()], oracle=1), cache, tmp_path)
    assert CALLS == ["oracle"]
    assert (added.exact, added.oracle, added.checks) == (2.0, "definition", {"oracle": None})
    bare = replace(added, exact=None, oracle=None, checks={}, time=first[0].time)
    assert bare == first[0]
    assert ran(cells([Counted()], oracle=1), cache, tmp_path) == []
    assert [record.key for record in iterate_records(tmp_path / RECORDS)] == [r.key for r in (*first, added)]
    merged = tmp_path / "merged"
    with JsonlFile(tmp_path / "later" / RECORDS) as file:
        file.append(replace(first[0], time="2999-01-01T00:00:00+00:00"))
    merge_records([tmp_path, tmp_path / "later"], merged)
    assert [record.exact for record in iterate_records(merged / RECORDS)] == [2.0, None]


def test_a_check_that_failed_is_tried_again_only_on_request(cache: Path, tmp_path: Path) -> None:
    first = ran(cells([Counted(fails=True)]), cache, tmp_path)
    planned = cells([Counted(fails=True)], oracle=1)
    (tried,) = ran(planned, cache, tmp_path)
    assert (tried.status, tried.value) == ("ok", first[0].value)
    assert tried.failed_checks == {"oracle": "failed: ArithmeticError: no oracle today"}
    assert ran(planned, cache, tmp_path) == []
    assert CALLS == []
    assert read_status(tmp_path).failed == (("without oracle", "failed: ArithmeticError: no oracle today", 1),)
    assert len(ran(planned, cache, tmp_path, retry_failed=True)) == 1
    assert CALLS == ["oracle"]


def test_timing_and_invariance_are_added_where_they_are_missing(cache: Path, tmp_path: Path) -> None:
    first = ran(cells("parameter-norm"), cache, tmp_path)
    planned = cells("parameter-norm", timing=1, invariance=2)
    left = plan_run(planned, RunOptions(output=tmp_path)).left
    assert [cell.checks.names for cell in left] == [("timing", "invariance"), ("invariance",)]
    added = ran(planned, cache, tmp_path)
    assert [record.value for record in added] == [record.value for record in first]
    assert [record.shared_seconds for record in added] == [record.shared_seconds for record in first]
    assert [record.seconds is None for record in added] == [False, True]
    assert [sorted(record.invariance) for record in added] == 2 * [["layer", "permutation", "unit"]]
    assert added[0].timed_environment == {}


def test_a_process_that_ends_in_a_check_leaves_the_value(cache: Path, tmp_path: Path) -> None:
    first = ran(cells("parameter-norm"), cache, tmp_path)
    (late,) = ran(cells("parameter-norm", oracle=1), cache, tmp_path, engine=Process(Limits(timeout=1e-9)))
    assert (late.status, late.value, late.exact) == ("ok", first[0].value, None)
    assert late.checks["oracle"] is not None
    assert late.checks["oracle"].startswith("timeout: took longer than 1e-09 s")


def test_seconds_from_elsewhere_carry_their_environment(cache: Path, tmp_path: Path) -> None:
    ran(cells("parameter-norm"), cache, tmp_path)
    elsewhere = [replace(record, environment={"processor": "abacus"}) for record in iterate_records(tmp_path / RECORDS)]
    with JsonlFile(tmp_path / "elsewhere" / RECORDS) as file:
        file.append(*elsewhere)
    (added,) = ran(cells("parameter-norm", timing=1), cache, tmp_path / "elsewhere")
    assert added.environment == {"processor": "abacus"}
    assert added.timed_environment["threads"] == 1


def test_the_value_is_measured_again_on_another_network(cache: Path, tmp_path: Path) -> None:
    """A network that was trained on another machine has another loss; a check of it is no check of this value."""
    (first, _) = ran(cells([Counted()], timing=1), cache, tmp_path)
    other = replace(first, truth={**first.truth, "train_loss": 7.0}, value=-1.0)
    with JsonlFile(tmp_path / "other" / RECORDS) as file:
        file.append(other, *list(iterate_records(tmp_path / RECORDS))[1:])
    (again,) = ran(cells([Counted()], oracle=1), cache, tmp_path / "other")
    assert again.value == 1.0
    assert again.truth == first.truth
    assert set(again.checks) == {"timing", "oracle"}
