"""Keeper: what runs in a Ray actor. It measures nothing itself, and does without torch."""

from __future__ import annotations

from sharpbench.core.record import Record
from sharpbench.engines.outcome import Death
from sharpbench.engines.processes import Processes
from sharpbench.engines.site import Limits, Site


class Keeper:
    """The crew of one seat, asked for one cell at a time."""

    def __init__(self, site: Site, limits: Limits) -> None:
        self.crew = Processes(site, limits, seats=1)

    def measure(self, packed: bytes, network: str) -> Record | Death:
        """The end of a cell, which its network's name and its bytes stand for: its classes may be unknown here."""
        self.crew.send(0, packed, network)
        ((_, outcome),) = self.crew.finished()
        return outcome
