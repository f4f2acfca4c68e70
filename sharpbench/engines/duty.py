"""Duty: what a worker is started with, and how it starts; known to those who watch it without torch."""

from __future__ import annotations

from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from sharpbench.engines.site import Site

BEGUN = "begun"
"""What a worker says when the network is there and the measure is next."""
APART = "the processes that share its batches do not ask for the same sums; measure it without --split"
"""What a team says whose members have lost each other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Duty:
    """What a worker is started with. memory: the limit in bytes; place, rank, size: of its team, where it has one."""

    site: Site
    memory: int | None = None
    place: Path | None = None
    rank: int = 0
    size: int = 1


def start(connection: Connection, output: Connection, duty: Duty) -> None:
    """What a worker process runs: `worker.serve`."""
    from sharpbench.engines.worker import serve

    serve(connection, output, duty)
