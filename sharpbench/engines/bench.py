"""Bench: where cells are measured one after the other; all engines measure here."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from sharpbench.appraisal import Asked, appraise, lost
from sharpbench.cell import Cell
from sharpbench.core.fields import Scalar
from sharpbench.core.record import Record
from sharpbench.core.spec import configuration, label
from sharpbench.core.subject import Subject, Team
from sharpbench.datasets.dataset import Data, Dataset
from sharpbench.engines.isolation import Settings
from sharpbench.environment import environment
from sharpbench.models.model import Model
from sharpbench.training.examples import initial_module
from sharpbench.training.network import Truth, member
from sharpbench.training.recipe import network_key
from sharpbench.training.zoo import Zoo


@dataclass(frozen=True, slots=True)
class _Opened:
    """What the cells of one network share: its subject, and one in float64 for all oracles and rewrites."""

    network: str
    truth: Truth
    subject: Subject
    doubled: Subject


class Bench:
    """Measures cells, each on its own; what those of one network share is made once and kept until the next network.

    load: the data of a data set. team: the processes that share the batches, where there are several.
    """

    def __init__(self, cache: Path, load: Callable[[Dataset], Data], team: Team | None = None) -> None:
        self.cache, self.load, self.team = cache, load, team
        self._modules: dict[tuple[Model, Dataset], nn.Module] = {}
        self._opened: _Opened | None = None

    def record(self, cell: Cell, *, begun: Callable[[], object] = lambda: None) -> Record:
        """The record of the cell. Whatever its network or its measure raises is its status and reason.

        The network must stand in the zoo. begun: called when the network is there and the measure is next.
        """
        data = self.load(cell.recipe.dataset)
        try:
            found = self._network(cell, data)
        except Exception as error:  # weights that are not finite, or a network that runs in training mode alone
            return lost(blank(cell, data, self._truth(cell)), error)
        begun()
        settings = Settings()
        empty = replace(blank(cell, data, found.truth), pieces=1 if self.team is None else self.team.size)
        asked = Asked(timed=cell.timed, checked=cell.checked, rewritten=cell.rewritten)
        record = appraise(cell.measure, found.subject, found.doubled, blank=empty, asked=asked)
        if self.team is not None:
            record = _together(record, empty, self.team)
        changed = settings.put_back()
        if changed and record.status == "ok":
            return replace(
                empty, reason=f"the measure changed {', '.join(changed)}, which others stand on; set it back"
            )
        return record

    def _network(self, cell: Cell, data: Data) -> _Opened:
        network = cell.network
        if self._opened is None or self._opened.network != network:
            self._opened = None  # its memory is free before the next one's is taken
            self._opened = self._open(cell, data, network)
        return self._opened

    def _truth(self, cell: Cell) -> Truth | None:
        entry = Zoo(self.cache).load(network_key(cell.recipe, cell.data_sha256, cell.device))
        return None if entry is None else Truth(**entry[1])

    def _open(self, cell: Cell, data: Data, network: str) -> _Opened:
        recipe = cell.recipe
        found = member(recipe, data, cell.data_sha256, zoo=Zoo(self.cache), device=cell.device)
        if found is None:
            raise RuntimeError(f"{recipe.title} is not in the cache any more; give the same command again")
        form = (recipe.model, recipe.dataset)
        if form not in self._modules:
            self._modules[form] = initial_module(recipe, data.shape, data.classes)
        dtype = getattr(torch, cell.dtype)
        subject = found.subject(self._modules[form], examples=cell.examples, dtype=dtype, device=cell.device)
        if self.team is not None:
            subject = replace(subject, team=self.team)
        return _Opened(network, found.truth, subject, subject.to(dtype=torch.float64))


def _together(record: Record, empty: Record, team: Team) -> Record:
    """The same record where all of the team have come to the end of the measure; what failed says itself why."""
    try:
        team.finish()
    except RuntimeError as error:
        return lost(empty, error) if record.status == "ok" else record
    return record


def blank(cell: Cell, data: Data, truth: Truth | None) -> Record:
    """The record of a cell before it is run; `truth` is None where its network could not be trained."""
    trained = cell.recipe.train_size or len(data.train_inputs)
    return Record(
        key=cell.key,
        measure=cell.measure.name,
        label=label(cell.measure),
        configuration=configuration(cell.measure),
        recipe=cell.recipe.row(),
        truth={} if truth is None else truth.row(),
        data={
            "sha256": cell.data_sha256,
            "examples": cell.examples or trained,
            "test_examples": len(data.test_targets),
            **membership(cell),
        },
        seed=cell.seed,
        dtype=cell.dtype,
        device=cell.device,
        status="failed",
        reason="not run",
        environment=environment(cell.device),
        time=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    )


def membership(cell: Cell) -> dict[str, Scalar]:
    """What a record says of the population that the cell's network is part of in this run."""
    return {"population": cell.population, "design": cell.design, "position": cell.position}
