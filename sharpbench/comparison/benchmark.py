"""Match: the contestants of one network take turns, each in a process of its own, one running at a time."""

from __future__ import annotations

import datetime
import random
import tempfile
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sharpbench.comparison.config import Comparison
from sharpbench.comparison.contestant import Contestant
from sharpbench.comparison.libraries import installed_versions
from sharpbench.comparison.measurement import GRADIENT, MEASUREMENTS, ORACLE, Measurement, read_measurements
from sharpbench.comparison.network import ComparedNetwork, make_network
from sharpbench.comparison.process import ContestantLost, ContestantProcess, Job
from sharpbench.comparison.reference import relative_error
from sharpbench.core.fields import Scalar
from sharpbench.core.jsonl import JsonlFile
from sharpbench.core.spec import format_spec
from sharpbench.environment import apply_settings, describe_environment
from sharpbench.files import content_hash
from sharpbench.training.population import TrainingEpoch

ORACLE_TIME = 900.0
"""Seconds that an oracle may take; then the engine in float64 is asked alone, as long again."""
SPARE = 3
"""The search begins at so small a share of the batch that fits one gradient: some take a hundred products at once."""


@dataclass(frozen=True, slots=True)
class ContestantStarted:
    """Progress: what begins."""

    network: str
    contestant: str
    what: str


Event = TrainingEpoch | ContestantStarted | Measurement


def compare(
    comparison: Comparison,
    *,
    output: Path | str,
    data_dir: Path | str | None = None,
    cache_dir: Path | str | None = None,
    plugins: Sequence[Path] = (),
    retry_failed: bool = False,
) -> Generator[Event, None, None]:
    """The rows of a comparison, network by network, and before each what begins.

    Rows are appended to comparison.jsonl in `output`, each on disk before the next begins. What stands there already,
    of the same settings on the same machine, is given instead of measured again, failures too unless `retry_failed`;
    rounds that are missing are played. Raises InvalidInput for networks and data that do not fit together.
    """
    apply_settings(comparison.device, comparison.threads)
    with JsonlFile(Path(output) / MEASUREMENTS) as file, tempfile.TemporaryDirectory(prefix="sharpbench-") as folder:
        known = list(read_measurements(file.path))
        for index, model in enumerate(comparison.models):
            place = Path(folder) / f"{index}.safetensors"
            found = yield from make_network(comparison, model, place, data_dir=data_dir, cache_dir=cache_dir)
            match = Benchmark(comparison, found, tuple(plugins))
            mine = [turn for turn in known if turn.match == match.key]
            yield from mine
            for event in match.play(mine, retry_failed=retry_failed):
                if isinstance(event, Measurement):
                    file.append(event)
                yield event


class Benchmark:
    """One network's contestants: the measures, and the gradient, whose seconds are the unit."""

    def __init__(self, comparison: Comparison, found: ComparedNetwork, plugins: tuple[Path, ...]) -> None:
        self.comparison, self.network, self.plugins = comparison, found, plugins
        here = describe_environment(comparison.device)
        where = {name: here[name] for name in ("sharpbench", "torch", "python", "processor", "cores", "device")}
        self.settings: dict[str, Scalar] = {**found.about, **comparison.row()}
        self.key = content_hash({"quantity": comparison.quantity, "settings": self.settings, "environment": where})
        self.versions = {format_spec(measure): measure.version for measure in comparison.measures}

    def play(self, known: Sequence[Measurement], *, retry_failed: bool) -> Iterator[ContestantStarted | Measurement]:
        """The rows that are missing."""
        measures = {format_spec(measure): measure for measure in self.comparison.measures}
        packages = {word: type(measure).__module__.partition(".")[0] for word, measure in measures.items()}
        names = [GRADIENT, *measures]
        rows = {name: self._kept(name, known, retry_failed) for name in names}
        fitting = [size for size in self.comparison.sizes if size * SPARE <= self.network.batch]
        start = max(fitting, default=self.comparison.sizes[0])
        with ExitStack() as stack:
            seats = [
                Contestant(name, self._job(name), packages.get(name, "sharpbench"), self.comparison, rows[name], start)
                for name in names
            ]
            for seat in seats:
                stack.callback(seat.close)
            if all(seat.out for seat in seats):
                return
            truth, diagonal = yield from self._oracle(known, retry_failed)
            for seat in seats:
                if not seat.out and not seat.ready:
                    yield ContestantStarted(self.network.word, seat.name, "search of its batch size")
                    yield from self._written(seat, seat.prepare(diagonal), truth)
            for number in range(1, self.comparison.repeats + 1):
                order = [seat for seat in seats if seat.plays(number)]
                random.Random(f"{self.comparison.seed} {number}").shuffle(order)
                for seat in order:
                    yield ContestantStarted(
                        self.network.word, seat.name, f"round {number} of {self.comparison.repeats}"
                    )
                    yield from self._written(seat, seat.turn(number, diagonal), truth)

    def _written(self, seat: Contestant, rows: Iterator[dict[str, Any]], truth: float | None) -> Iterator[Measurement]:
        """A seat's rows as turns; of a value with its error."""
        for row in rows:
            turn = self._row(seat.name, "gradient" if seat.job.measure is None else "measure", seat.package, **row)
            if truth is not None and turn.value is not None and turn.role == "measure" and turn.quantity != "diagonal":
                turn = replace(turn, error=relative_error(turn.value, truth))
            yield turn

    def _kept(self, name: str, known: Sequence[Measurement], retry_failed: bool) -> list[Measurement]:
        """The rows of a contestant that count: of this version of the measure, and with the libraries installed."""
        rows = last_measurements(
            [turn for turn in known if turn.contestant == name and turn.role != ORACLE], retry_failed
        )
        same = all(
            turn.version == self.versions.get(name)
            and all(installed_versions(library) == version for library, version in turn.libraries.items())
            for turn in rows
        )
        return rows if same else []

    def _oracle(
        self, known: Sequence[Measurement], retry_failed: bool
    ) -> Generator[ContestantStarted | Measurement, None, tuple[float | None, Path | None]]:
        """The truth, and the file of the diagonal; a row of it where there is none yet."""
        before = [turn for turn in known if turn.role == ORACLE and (turn.status == "ok" or not retry_failed)]
        if before and self.comparison.quantity != "diagonal":
            return before[-1].value, None
        yield ContestantStarted(self.network.word, ORACLE, "the truth, in float64")
        path = self.network.file.with_suffix(".diagonal")
        row: dict[str, Any] = {}
        for quick in (False, True):
            try:
                row = self._asked(quick, path)
                break
            except ContestantLost as lost:
                row = {"status": lost.status, "reason": lost.reason}
                if lost.status != "timeout":
                    break
        if not before:
            yield self._row(ORACLE, "oracle", "sharpbench", round=0, **row)
        return row.get("value"), path if path.exists() else None

    def _asked(self, quick: bool, path: Path) -> dict[str, Any]:
        contestant = ContestantProcess(replace(self._job(GRADIENT), dtype="float64"))
        try:
            return contestant.ask("oracle", timeout=ORACLE_TIME, quick=quick, path=str(path))
        finally:
            contestant.close()

    def _job(self, name: str) -> Job:
        comparison = self.comparison
        return Job(
            measure=None if name == GRADIENT else name,
            quantity=comparison.quantity,
            model=self.network.word,
            file=self.network.file,
            outputs=int(self.network.about["outputs"] or 0),
            dtype=comparison.dtype,
            device=comparison.device,
            threads=comparison.threads,
            plugins=self.plugins,
        )

    def _row(self, name: str, role: Any, package: str, **row: Any) -> Measurement:
        return Measurement(
            match=self.key,
            network=self.network.word,
            quantity=self.comparison.quantity,
            contestant=name,
            role=role,
            package=package,
            version=self.versions.get(name),
            settings=self.settings,
            time=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            **{"environment": describe_environment(self.comparison.device), **row},
        )


def last_measurements(rows: Sequence[Measurement], retry_failed: bool = False) -> list[Measurement]:
    """A contestant's rows since its last preparation; none where it failed and is tried again."""
    starts = [index for index, turn in enumerate(rows) if turn.round == 0]
    last = list(rows[starts[-1] :]) if starts else []
    failed = any(turn.status not in ("ok", "skipped") for turn in last)
    return [] if failed and retry_failed else last
