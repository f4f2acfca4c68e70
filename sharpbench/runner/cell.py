"""Cell: one measure on one recipe, the key by which its record is found again, and shards of cells."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal

from sharpbench.core.measure import Measure
from sharpbench.core.record import Design
from sharpbench.core.spec import to_config
from sharpbench.errors import InvalidInput, short
from sharpbench.files import content_hash
from sharpbench.training.recipe import Recipe, network_key

Precision = Literal["float32", "float64"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One measure on one trained network.

    population: the model that was named, of which the cohort may have varied fields; its networks are judged
    together. design: how their configurations were chosen. position: of the network in its population, from 0: the
    order that fixes which networks train together.
    data_sha256: the content of the data set. examples: how many training examples the subject holds (None:
    all that the network was trained on). timed, checked, rewritten: whether its standalone cost is measured, its
    value compared with the measure's oracle, and its change under rewrites that keep the function found. None of
    these, population, design and position is part of the key, as none changes the value.
    """

    measure: Measure
    recipe: Recipe
    population: str
    design: Design
    position: int
    data_sha256: str
    examples: int | None
    seed: int
    dtype: Precision
    device: str
    timed: bool
    checked: bool
    rewritten: bool
    _key: str = field(default="", init=False, repr=False, compare=False)

    @property
    def network_key(self) -> str:
        """The hash by which the zoo knows the network."""
        return network_key(self.recipe, self.data_sha256, self.device)

    @property
    def network(self) -> str:
        """What cells have in common that share a subject."""
        return f"{self.network_key} {self.examples} {self.dtype}"

    @property
    def key(self) -> str:
        """The content hash by which a finished cell is known again; found once."""
        if not self._key:
            key = cell_key(
                self.measure,
                self.recipe,
                data_sha256=self.data_sha256,
                examples=self.examples,
                seed=self.seed,
                dtype=self.dtype,
                device=self.device,
            )
            object.__setattr__(self, "_key", key)
        return self._key


def cell_key(
    measure: Measure,
    recipe: Recipe,
    *,
    data_sha256: str,
    examples: int | None,
    seed: int,
    dtype: str,
    device: str,
) -> str:
    """The content hash of a cell; see `Cell`."""
    return content_hash(
        {
            "measure": measure.name,
            "version": measure.version,
            "configuration": to_config(measure),
            "recipe": recipe.row(),
            "data": data_sha256,
            "examples": examples,
            "seed": seed,
            "dtype": dtype,
            "device": device,
        }
    )


# Sharding: the part of a plan that one of several commands runs, chosen by content.

MOST = 10**6


@dataclass(frozen=True, slots=True)
class Shard:
    """The `index`-th of `count` parts of a plan, from 1; a network's cells are all in one part.

    Which one depends on the hash of the network alone: more measures or networks move none that were there.
    """

    index: int
    count: int

    def __post_init__(self) -> None:
        if not 1 <= self.index <= self.count <= MOST:
            bounds = f"from 1/{self.count} to {self.count}/{self.count}"
            raise InvalidInput(f"shard {self.index}/{self.count} must be {bounds}, of at most {MOST}")

    @staticmethod
    def parsed(text: str) -> Shard:
        """The shard that '3/8' names."""
        found = re.fullmatch(r"([0-9]{1,7})/([0-9]{1,7})", text)
        if found is None:
            raise InvalidInput(f"shard '{short(text)}' is no part of a whole; write 3/8 for the third of eight")
        return Shard(int(found[1]), int(found[2]))

    def holds(self, cell: Cell) -> bool:
        """Whether the cell is in this part."""
        return int(cell.network_key, 16) % self.count == self.index - 1
