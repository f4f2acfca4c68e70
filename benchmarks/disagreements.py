"""Disagreements: why a library says another number than it claims, by hand, for every such cell of the matrix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Disagreement:
    """An explanation. measures: how their words begin. networks: their names, none for all."""

    kind: Literal["definition", "bug"]
    measures: str
    networks: tuple[str, ...]
    why: str

    def covers(self, measure: str, network: str) -> bool:
        return measure.startswith(self.measures) and (not self.networks or network in self.networks)


DISAGREEMENTS: tuple[Disagreement, ...] = ()
