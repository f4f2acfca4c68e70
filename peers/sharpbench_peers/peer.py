"""Peer: a measure that another library computes."""

from __future__ import annotations

from dataclasses import dataclass

from sharpbench import Measure, Subject
from sharpbench_peers.handover import prepare


@dataclass(frozen=True)
class Peer(Measure):
    """A measure of another library, which works on a copy of the network of its own."""

    def prepare(self, subject: Subject) -> None:
        """That copy, which the library's own users would not need."""
        prepare(subject)
