"""The base of measures that another library computes."""

from __future__ import annotations

from dataclasses import dataclass

from sharpbench import Measure, Subject
from sharpbench_peers.handover import prepare


@dataclass(frozen=True)
class Peer(Measure):
    """A measure by another library, which works on its own copy of the network."""

    def prepare(self, subject: Subject) -> None:
        """Make that copy. It is not timed, as users of the library would not need it."""
        prepare(subject)
