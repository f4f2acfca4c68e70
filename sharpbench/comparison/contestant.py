"""Seat: one contestant over all rounds: its process, its batch size, its rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sharpbench.comparison.config import Comparison
from sharpbench.comparison.libraries import libraries_of
from sharpbench.comparison.measurement import Measurement
from sharpbench.comparison.process import ContestantLost, ContestantProcess, Job

LONG = 10.0
"""After a first call of more seconds no rounds are played: it is what is recorded."""
LONGEST = 30.0
"""Up to so many seconds a second batch size is tried then, and the faster of the two calls is recorded."""
SHORT = 1.0
"""Calls of fewer seconds follow one that is not timed and are repeated (see `worker.TURN`), and are searched twice at
each batch size."""
SEARCH = 20.0
"""Seconds after which no further batch size is tried."""
ENOUGH = 40.0
"""Seconds of timed calls after which a contestant plays no further round, if it has played LEAST."""
LEAST = 3
HELD = 2**30
"""A process that holds more bytes after its turn is ended, and a fresh one makes a call before its next turn."""

Row = dict[str, Any]


class Contestant:
    """A contestant. rows: of an earlier start of the same comparison, the preparation first. start: the batch size of
    its first call."""

    def __init__(
        self, name: str, job: Job, package: str, comparison: Comparison, rows: Sequence[Measurement], start: int
    ) -> None:
        self.name, self.job, self.package, self.comparison = name, job, package, comparison
        self.start = start
        self._process: ContestantProcess | None = None
        self._resident = 0
        self._batch = next((turn.batch for turn in rows if turn.batch is not None), None)
        self._played = {turn.round: turn.seconds or 0.0 for turn in rows if turn.round}
        self.out = any(turn.status != "ok" or turn.last for turn in rows)

    @property
    def ready(self) -> bool:
        """Whether its batch size is known."""
        return self._batch is not None

    def plays(self, number: int) -> bool:
        """Whether it takes part in a round."""
        return not self.out and number not in self._played

    def prepare(self, diagonal: Path | None) -> Iterator[Row]:
        """Find its batch size; its row, and where one call takes long that call's."""
        try:
            first = self._call(self.start, 1, diagonal, memory=True)
            about = {"round": 0, "libraries": libraries_of(first["imported"]), **self._where()}
            if first["seconds"] > LONG:
                calls = {self.start: first, **self._second(first["seconds"], diagonal)}
                batch = min(calls, key=lambda size: float(calls[size]["seconds"]))
                yield {**about, "batch": batch, "details": {str(size): calls[size]["seconds"] for size in calls}}
                yield self._ended(1, batch, calls[batch])
                return
            tried = self._search(diagonal)
        except ContestantLost as lost:
            yield self._lost(0, lost)
            return
        self._batch = min(tried, key=tried.__getitem__)
        self._rest()
        details = {str(size): seconds for size, seconds in tried.items()}
        yield {**about, "batch": self._batch, "details": details}

    def turn(self, number: int, diagonal: Path | None) -> Iterator[Row]:
        """One round; its last with the memory of one more call."""
        batch = self._batch or self.comparison.sizes[0]
        try:
            fresh = self._process is None
            if fresh:
                self._call(batch, number, diagonal)
            short = not fresh and min(self._played.values(), default=0.0) < SHORT
            said = self._call(batch, number, diagonal, repeated=short)
            self._played[number] = said["seconds"]
            row = {"round": number, "batch": batch, **_numbers(said), **self._where()}
            row["details"] = {"calls": said["calls"]}
            if self._last():
                said = self._call(batch, number, diagonal, memory=True)
                self.out = True
                row |= {"peak_bytes": said["peak_bytes"], "last": True}
        except ContestantLost as lost:
            yield self._lost(number, lost)
            return
        self._rest()
        yield row

    def _rest(self) -> None:
        """Until its next turn: memory that it holds is missed by the others, or by the machine."""
        if self.out or self._resident > HELD:
            self.close()

    def close(self) -> None:
        """End its process."""
        if self._process is not None:
            self._process.close()
            self._process = None

    def _above(self) -> list[int]:
        return [size for size in self.comparison.sizes if size > self.start]

    def _below(self) -> list[int]:
        return [size for size in reversed(self.comparison.sizes) if size < self.start]

    def _second(self, seconds: float, diagonal: Path | None) -> dict[int, Row]:
        """A call at the second batch size, where that is worth its time and ends well."""
        others = [*self._above(), *self._below()]
        if seconds > LONGEST or not others:
            return {}
        size = others[0]
        try:
            return {size: self._call(size, 1, diagonal, memory=True, within=2 * seconds)}
        except ContestantLost:
            return {}

    def _search(self, diagonal: Path | None) -> dict[int, float]:
        """Seconds by batch size: larger ones, then smaller ones, until one takes twice the best or cannot be used."""
        tried: dict[int, float] = {}
        for sizes in ([self.start, *self._above()], self._below()):
            for size in sizes:
                try:
                    seconds = self._tried(size, tried, diagonal)
                except ContestantLost:
                    if not tried:
                        raise
                    break
                tried[size] = seconds
                if sum(tried.values()) > SEARCH or seconds > 2 * min(tried.values()):
                    break
        return tried

    def _tried(self, size: int, tried: Mapping[int, float], diagonal: Path | None) -> float:
        """Seconds of a call at that batch size, the faster of two where it is short or its process is fresh."""
        fresh = self._process is None
        within = None if not tried else 5.0 + 4 * min(tried.values())
        first = float(self._call(size, 1, diagonal, within=within)["seconds"])
        return first if first > SHORT and not fresh else min(first, float(self._call(size, 1, diagonal)["seconds"]))

    def _call(
        self,
        batch: int,
        number: int,
        diagonal: Path | None,
        *,
        repeated: bool = False,
        memory: bool = False,
        within: float | None = None,
    ) -> Row:
        if self._process is None:
            self._process = ContestantProcess(self.job)
        timeout = self.comparison.timeout if within is None else min(within, self.comparison.timeout)
        words = {"repeated": repeated, "memory": memory, "oracle": None if diagonal is None else str(diagonal)}
        try:
            said = self._process.ask("call", timeout=timeout, batch=batch, seed=self.comparison.seed + number, **words)
        except ContestantLost:
            self.close()
            raise
        self._resident = int(said["resident"])
        return said

    def _last(self) -> bool:
        """Whether it has played all rounds, or enough of them."""
        enough = len(self._played) >= LEAST and sum(self._played.values()) > ENOUGH
        return enough or len(self._played) >= self.comparison.repeats

    def _where(self) -> Row:
        return {} if self._process is None else {"environment": self._process.environment}

    def _ended(self, number: int, batch: int, said: Row) -> Row:
        row = {"round": number, "batch": batch, "peak_bytes": said["peak_bytes"], "last": True}
        row |= {**_numbers(said), **self._where()}
        self.out = True
        self.close()
        return row

    def _lost(self, number: int, lost: ContestantLost) -> Row:
        self.out = True
        self.close()
        return {"round": number, "status": lost.status, "reason": lost.reason}


def _numbers(said: Row) -> Row:
    return {name: said.get(name) for name in ("seconds", "value", "error", "negative", "contended", "stochastic")}
