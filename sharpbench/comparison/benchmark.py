"""Rounds of all contestants on one network: each contestant has its own process, and one process runs at a time."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sharpbench.analysis.costs import relative_error
from sharpbench.comparison.config import Comparison, Job
from sharpbench.comparison.contestant import Contestant
from sharpbench.comparison.libraries import installed_version
from sharpbench.comparison.measurement import (
    GRADIENT,
    MEASUREMENTS_FILE,
    ORACLE,
    Measurement,
    Role,
    last_measurements,
    read_measurements,
)
from sharpbench.comparison.network import ComparedNetwork, make_network
from sharpbench.comparison.process import ContestantLost, ContestantProcess
from sharpbench.core.fields import Scalar
from sharpbench.core.jsonl import JsonlFile
from sharpbench.core.record import utc_now
from sharpbench.core.spec import format_spec
from sharpbench.environment import apply_settings, describe_environment
from sharpbench.files import Workspace, content_hash
from sharpbench.training.population import TrainingProgress

ORACLE_TIMEOUT_SECONDS = 900.0
"""Time limit of the oracle by its definition; after it the float64 engine is tried, within the same limit."""
START_BATCH_SHARE = 3
"""The search of the batch size starts at 1/3 of the batch that fits one gradient: some libraries compute a hundred
products at once."""


@dataclass(frozen=True, slots=True)
class ContestantStarted:
    """Progress: a contestant starts a step. step: in words, such as "round 2 of 7"."""

    network: str
    contestant: str
    step: str


ComparisonEvent = TrainingProgress | ContestantStarted | Measurement


def compare(
    comparison: Comparison,
    *,
    output: Path | str,
    data_dir: Path | str | None = None,
    cache_dir: Path | str | None = None,
    plugins: Sequence[Path] = (),
    retry_failed: bool = False,
) -> Generator[ComparisonEvent, None, None]:
    """The rows of a comparison, network by network; before each row the event that its contestant starts.

    Every row is appended to comparison.jsonl in `output` before the next contestant starts. Rows that the file
    already holds for the same settings on the same machine are yielded instead of measured again, and only missing
    rounds are measured.

    Args:
        comparison: what is compared, and how.
        output: the folder of comparison.jsonl.
        data_dir: the folder of data sets; None is the default folder.
        cache_dir: the folder of trained networks; None is the default folder.
        plugins: files of plugins.
        retry_failed: whether contestants that failed before are measured again.

    Raises:
        InvalidInput: for networks and data that do not fit together.
    """
    apply_settings(comparison.device, comparison.threads)
    workspace = Workspace.locate(
        cache_dir=cache_dir,
        data_dir=data_dir,
        device=comparison.device,
        threads=comparison.threads,
        plugins=plugins,
    )
    with JsonlFile(Path(output) / MEASUREMENTS_FILE) as file, tempfile.TemporaryDirectory(prefix="sharpbench-") as temp:
        known = list(read_measurements(file.path))
        for index, model in enumerate(comparison.models):
            path = Path(temp) / f"{index}.safetensors"
            network = yield from make_network(comparison, model, path, workspace)
            benchmark = Benchmark(comparison, network, workspace)
            known_here = [row for row in known if row.match == benchmark.key]
            yield from known_here
            for event in benchmark.run(known_here, retry_failed=retry_failed):
                if isinstance(event, Measurement):
                    file.append(event)
                yield event


class Benchmark:
    """All contestants on one network: the measures, and the gradient, whose seconds are the unit."""

    def __init__(self, comparison: Comparison, network: ComparedNetwork, workspace: Workspace) -> None:
        self.comparison, self.network, self.workspace = comparison, network, workspace
        environment = describe_environment(comparison.device)
        machine = {
            name: environment[name] for name in ("sharpbench", "torch", "python", "processor", "cores", "device")
        }
        self.settings: dict[str, Scalar] = {**network.about, **comparison.to_settings()}
        self.key = content_hash({"quantity": comparison.quantity, "settings": self.settings, "environment": machine})
        self.versions = {format_spec(measure): measure.version for measure in comparison.measures}

    def run(self, known: Sequence[Measurement], *, retry_failed: bool) -> Iterator[ContestantStarted | Measurement]:
        """The rows that `known` lacks."""
        with ExitStack() as stack:
            contestants = self._make_contestants(known, retry_failed)
            for contestant in contestants:
                stack.callback(contestant.close)
            if all(contestant.finished for contestant in contestants):
                return
            truth, diagonal = yield from self._measure_oracle(known, retry_failed)
            for contestant in contestants:
                if not contestant.finished and not contestant.ready:
                    yield ContestantStarted(self.network.spec, contestant.name, "search of its batch size")
                    yield from self._to_measurements(contestant, contestant.prepare(diagonal), truth)
            for number in range(1, self.comparison.repeats + 1):
                order = [contestant for contestant in contestants if contestant.needs_round(number)]
                random.Random(f"{self.comparison.seed} {number}").shuffle(order)
                for contestant in order:
                    step = f"round {number} of {self.comparison.repeats}"
                    yield ContestantStarted(self.network.spec, contestant.name, step)
                    yield from self._to_measurements(contestant, contestant.measure_round(number, diagonal), truth)

    def _make_contestants(self, known: Sequence[Measurement], retry_failed: bool) -> list[Contestant]:
        """The gradient and every measure, each with its valid rows of an earlier run."""
        measures = {format_spec(measure): measure for measure in self.comparison.measures}
        packages = {spec: type(measure).__module__.partition(".")[0] for spec, measure in measures.items()}
        fitting = [size for size in self.comparison.sizes if size * START_BATCH_SHARE <= self.network.batch]
        start = max(fitting, default=self.comparison.sizes[0])
        return [
            Contestant(
                self.make_job(name),
                packages.get(name, "sharpbench"),
                self.comparison,
                rows=self._valid_rows(name, known, retry_failed),
                start=start,
            )
            for name in (GRADIENT, *measures)
        ]

    def _valid_rows(self, name: str, known: Sequence[Measurement], retry_failed: bool) -> list[Measurement]:
        """The known rows of a contestant, if its version and its libraries are those that are installed; else none."""
        own = [row for row in known if row.contestant == name and row.role != ORACLE]
        rows = last_measurements(own, retry_failed=retry_failed)
        valid = all(
            row.version == self.versions.get(name)
            and all(installed_version(library) == version for library, version in row.libraries.items())
            for row in rows
        )
        return rows if valid else []

    def _measure_oracle(
        self, known: Sequence[Measurement], retry_failed: bool
    ) -> Generator[ContestantStarted | Measurement, None, tuple[float | None, Path | None]]:
        """The reference value, and the file of the reference diagonal; yields a row for it unless there is one."""
        before = [row for row in known if row.role == ORACLE and (row.status == "ok" or not retry_failed)]
        if before and self.comparison.quantity != "diagonal":
            return before[-1].value, None
        yield ContestantStarted(self.network.spec, ORACLE, "reference value in float64")
        path = self.network.file.with_suffix(".diagonal")
        fields: dict[str, Any] = {}
        for quick in (False, True):
            try:
                fields = self._ask_oracle(quick, path)
                break
            except ContestantLost as lost:
                fields = {"status": lost.status, "reason": lost.reason}
                if lost.status != "timeout":
                    break
        if not before:
            yield self._make_measurement(ORACLE, "oracle", "sharpbench", round=0, **fields)
        return fields.get("value"), path if path.exists() else None

    def _ask_oracle(self, quick: bool, path: Path) -> dict[str, Any]:
        process = ContestantProcess(replace(self.make_job(GRADIENT), dtype="float64"))
        try:
            return process.ask("oracle", timeout=ORACLE_TIMEOUT_SECONDS, quick=quick, path=str(path))
        finally:
            process.close()

    def make_job(self, name: str) -> Job:
        """The job of the contestant's process. name: the spec of a measure, or GRADIENT."""
        comparison = self.comparison
        return Job(
            measure=None if name == GRADIENT else name,
            quantity=comparison.quantity,
            model=self.network.spec,
            file=self.network.file,
            outputs=int(self.network.about["outputs"] or 0),
            dtype=comparison.dtype,
            workspace=self.workspace,
        )

    def _to_measurements(
        self, contestant: Contestant, rows: Iterator[dict[str, Any]], truth: float | None
    ) -> Iterator[Measurement]:
        """A contestant's rows as measurements; values of measures get their error."""
        role: Role = "gradient" if contestant.job.measure is None else "measure"
        for fields in rows:
            row = self._make_measurement(contestant.name, role, contestant.package, **fields)
            if truth is not None and row.value is not None and role == "measure" and row.quantity != "diagonal":
                row = replace(row, error=relative_error(row.value, truth))
            yield row

    def _make_measurement(self, name: str, role: Role, package: str, **fields: Any) -> Measurement:
        return Measurement(
            match=self.key,
            network=self.network.spec,
            quantity=self.comparison.quantity,
            contestant=name,
            role=role,
            package=package,
            version=self.versions.get(name),
            settings=self.settings,
            time=utc_now(),
            **{"environment": describe_environment(self.comparison.device), **fields},
        )
