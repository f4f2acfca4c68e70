"""One contestant over all rounds: its process, its batch size and its rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sharpbench.comparison.config import Comparison, Job
from sharpbench.comparison.libraries import imported_libraries
from sharpbench.comparison.measurement import GRADIENT, Measurement
from sharpbench.comparison.process import ContestantLost, ContestantProcess

ONLY_CALL_SECONDS = 10.0
"""If the first call takes longer, there are no rounds and that call is recorded."""
SECOND_CALL_SECONDS = 30.0
"""If that first call takes at most this long, a second batch size is tried and the faster call is recorded."""
SECOND_CALL_FACTOR = 2.0
"""The second call ends after this multiple of the first one's time."""
REPEATED_CALL_SECONDS = 1.0
"""Shorter calls follow an untimed call and are repeated (`worker.ROUND_SECONDS`); the search calls each batch size
twice."""
SEARCH_SECONDS = 20.0
"""After this much time no further batch size is tried."""
ALL_ROUNDS_SECONDS = 40.0
"""After this much timed time a contestant has no further round, if it has had MIN_ROUNDS."""
MIN_ROUNDS = 3
MAX_IDLE_BYTES = {"cpu": 2**30, "cuda": 2**32}
"""A process that holds more of the host's memory after its round is ended, with CUDA's libraries among it; a new one
makes an untimed call before the next round."""

Fields = dict[str, Any]
"""Fields of a Measurement, or of the answer of a contestant's process."""


class Contestant:
    """One measure, or the gradient, over all rounds.

    Args:
        job: what its process is started with.
        package: the package that the measure comes from.
        comparison: the settings.
        rows: its rows of an earlier start of the same comparison, the preparation first.
        start: the batch size of its first call.
    """

    def __init__(
        self, job: Job, package: str, comparison: Comparison, *, rows: Sequence[Measurement], start: int
    ) -> None:
        self.name, self.job, self.package, self.comparison = job.measure or GRADIENT, job, package, comparison
        self.start = start
        self._process: ContestantProcess | None = None
        self._resident_bytes = 0
        self._batch = next((row.batch for row in rows if row.batch is not None), None)
        self._seconds = {row.round: row.seconds or 0.0 for row in rows if row.round}
        self.finished = any(row.status != "ok" or row.last for row in rows)

    @property
    def ready(self) -> bool:
        """Whether its batch size is known."""
        return self._batch is not None

    def needs_round(self, number: int) -> bool:
        """Whether it takes part in a round and has not been measured in it."""
        return not self.finished and number not in self._seconds

    def prepare(self, diagonal: Path | None) -> Iterator[Fields]:
        """The row of the search of its batch size; if one call takes long, also the row of that call.

        diagonal: the file of the reference diagonal, if the quantity is one.
        """
        try:
            first = self._call(self.start, 1, diagonal, memory=True)
            about = {"round": 0, "libraries": imported_libraries(first["imported"]), **self._environment()}
            if first["seconds"] > ONLY_CALL_SECONDS:
                calls = {self.start: first, **self._try_second_size(first["seconds"], diagonal)}
                batch = min(calls, key=lambda size: float(calls[size]["seconds"]))
                yield {**about, "batch": batch, "details": {str(size): calls[size]["seconds"] for size in calls}}
                yield self._finish_with_call(batch, calls[batch])
                return
            tried = self._search_batch_size(diagonal)
        except ContestantLost as lost:
            yield self._finish_lost(0, lost)
            return
        self._batch = min(tried, key=tried.__getitem__)
        self._release_memory()
        details = {str(size): seconds for size, seconds in tried.items()}
        yield {**about, "batch": self._batch, "details": details}

    def measure_round(self, number: int, diagonal: Path | None) -> Iterator[Fields]:
        """The row of one round; that of the last round also states the memory of one additional call."""
        batch = self._batch or self.comparison.sizes[0]
        try:
            fresh = self._process is None
            if fresh:
                self._call(batch, number, diagonal)
            repeated = not fresh and min(self._seconds.values(), default=0.0) < REPEATED_CALL_SECONDS
            answer = self._call(batch, number, diagonal, repeated=repeated)
            self._seconds[number] = answer["seconds"]
            row = {"round": number, "batch": batch, **_measured_fields(answer), **self._environment()}
            row["details"] = {"calls": answer["calls"]}
            if self._has_all_rounds():
                answer = self._call(batch, number, diagonal, memory=True)
                self.finished = True
                row |= {"peak_bytes": answer["peak_bytes"], "last": True}
        except ContestantLost as lost:
            yield self._finish_lost(number, lost)
            return
        self._release_memory()
        yield row

    def close(self) -> None:
        """End its process."""
        if self._process is not None:
            self._process.close()
            self._process = None

    def _release_memory(self) -> None:
        """End a process that is not needed again, or that holds memory which the other contestants need."""
        if self.finished or self._resident_bytes > MAX_IDLE_BYTES[self.comparison.device]:
            self.close()

    def _larger_sizes(self) -> list[int]:
        return [size for size in self.comparison.sizes if size > self.start]

    def _smaller_sizes(self) -> list[int]:
        return [size for size in reversed(self.comparison.sizes) if size < self.start]

    def _try_second_size(self, seconds: float, diagonal: Path | None) -> dict[int, Fields]:
        """The answer of a call at the next batch size; empty if the first call took too long or this one fails."""
        others = [*self._larger_sizes(), *self._smaller_sizes()]
        if seconds > SECOND_CALL_SECONDS or not others:
            return {}
        size = others[0]
        try:
            return {size: self._call(size, 1, diagonal, memory=True, within=SECOND_CALL_FACTOR * seconds)}
        except ContestantLost:
            return {}

    def _search_batch_size(self, diagonal: Path | None) -> dict[int, float]:
        """Seconds by batch size: larger sizes, then smaller ones, until one takes twice the best time or fails."""
        tried: dict[int, float] = {}
        for sizes in ([self.start, *self._larger_sizes()], self._smaller_sizes()):
            for size in sizes:
                try:
                    seconds = self._time_size(size, tried, diagonal)
                except ContestantLost:
                    if not tried:
                        raise
                    break
                tried[size] = seconds
                if sum(tried.values()) > SEARCH_SECONDS or seconds > 2 * min(tried.values()):
                    break
        return tried

    def _time_size(self, size: int, tried: Mapping[int, float], diagonal: Path | None) -> float:
        """Seconds of a call at a batch size; the faster of two calls if they are short or the process is new."""
        fresh = self._process is None
        within = None if not tried else 5.0 + 4 * min(tried.values())
        first = float(self._call(size, 1, diagonal, within=within)["seconds"])
        if first > REPEATED_CALL_SECONDS and not fresh:
            return first
        return min(first, float(self._call(size, 1, diagonal)["seconds"]))

    def _call(
        self,
        batch: int,
        number: int,
        diagonal: Path | None,
        *,
        repeated: bool = False,
        memory: bool = False,
        within: float | None = None,
    ) -> Fields:
        """The answer to one call, by a new process if there is none. Raises ContestantLost if there is no answer."""
        if self._process is None:
            self._process = ContestantProcess(self.job)
        timeout = self.comparison.timeout if within is None else min(within, self.comparison.timeout)
        seed = self.comparison.seed + number
        words = {"repeated": repeated, "memory": memory, "oracle": None if diagonal is None else str(diagonal)}
        try:
            answer = self._process.ask("call", timeout=timeout, batch=batch, seed=seed, **words)
        except ContestantLost:
            self.close()
            raise
        self._resident_bytes = int(answer["resident"])
        return answer

    def _has_all_rounds(self) -> bool:
        """Whether it has been measured in all rounds, or in enough of them."""
        enough = len(self._seconds) >= MIN_ROUNDS and sum(self._seconds.values()) > ALL_ROUNDS_SECONDS
        return enough or len(self._seconds) >= self.comparison.repeats

    def _environment(self) -> Fields:
        return {} if self._process is None else {"environment": self._process.environment}

    def _finish_with_call(self, batch: int, answer: Fields) -> Fields:
        """The row of the only call that is recorded."""
        row = {"round": 1, "batch": batch, "peak_bytes": answer["peak_bytes"], "last": True}
        row |= {**_measured_fields(answer), **self._environment()}
        self.finished = True
        self.close()
        return row

    def _finish_lost(self, number: int, lost: ContestantLost) -> Fields:
        """The row that states why there is no value."""
        self.finished = True
        self.close()
        return {"round": number, "status": lost.status, "reason": lost.reason}


def _measured_fields(answer: Fields) -> Fields:
    return {name: answer.get(name) for name in ("seconds", "value", "error", "negative", "contended", "stochastic")}
