"""Networks: where those of a submission come from here, and why they may not."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn

from sharpbench.datasets.data import Data, Dataset
from sharpbench.environment import resolve_device
from sharpbench.errors import InvalidInput, short
from sharpbench.ingredient import recipe_of
from sharpbench.models.model import Model
from sharpbench.population import Population
from sharpbench.recipe import Recipe
from sharpbench.submissions.cells import Installed, Recomputable
from sharpbench.submissions.submission import Submission
from sharpbench.training import initial_module

LARGEST = 1e13
"""Parameters times examples times epochs of a training: beyond, nobody who verifies a sample wants to wait."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """Where networks are kept and data lie; what is installed; after how many seconds no other cell begins."""

    cache: Path
    known: Installed
    data_dir: Path | None = None
    seconds: float = math.inf
    started: float = field(default_factory=time.monotonic)

    @property
    def late(self) -> bool:
        """Whether the time is up."""
        return time.monotonic() - self.started > self.seconds


class Elsewhere(Exception):
    """Cells that cannot be recomputed here; the message says why."""


class Populations:
    """The networks of a submission by data set and device, and their structures, each made once."""

    def __init__(self, submission: Submission, setting: Setting) -> None:
        self.submission, self.setting = submission, setting
        self.data: dict[Dataset, tuple[Data, str] | str] = {}
        self.made: dict[tuple[Dataset, str], Population] = {}
        self.modules: dict[tuple[Model, Dataset], nn.Module] = {}

    def of(self, cell: Recomputable) -> Population:
        """All networks on the data set and device of the cell. Raises Elsewhere where they cannot be had here."""
        dataset, device = cell.recipe.dataset, cell.record.device
        if device != resolve_device("cpu" if device == "cpu" else "auto"):
            raise Elsewhere(f"measured on {device}, which is not here")
        data, digest = self._data(dataset)
        if digest != cell.record.data["sha256"]:
            raise Elsewhere("the data here have another content")
        _affordable(cell.recipe, data)
        if (dataset, device) not in self.made:
            recipes = self._recipes(dataset, device)
            self.made[dataset, device] = Population(recipes, data, digest, cache=self.setting.cache, device=device)
        return self.made[dataset, device]

    def module(self, recipe: Recipe) -> nn.Module:
        """One structure for all networks of a model, which is captured once."""
        form = (recipe.model, recipe.dataset)
        if form not in self.modules:
            data, _ = self._data(recipe.dataset)
            self.modules[form] = initial_module(recipe, data.shape, data.classes)
        return self.modules[form]

    def _data(self, dataset: Dataset) -> tuple[Data, str]:
        """The data set and the hash of its content."""
        if dataset not in self.data:
            try:
                data = dataset.load(self.setting.data_dir)
                self.data[dataset] = data, data.sha256()
            except InvalidInput as error:
                self.data[dataset] = f"its data are not here: {error}"
        found = self.data[dataset]
        if isinstance(found, str):
            raise Elsewhere(found)
        return found

    def _recipes(self, dataset: Dataset, device: str) -> tuple[Recipe, ...]:
        """The recipes of the submission, in its order, as the run had them; what is unknown here is left out."""
        found: dict[Recipe, None] = {}
        for record in {str(each.recipe): each for each in self.submission.records if each.device == device}.values():
            try:
                recipe = recipe_of(record.recipe, self.setting.known.ingredients)
            except InvalidInput:
                continue
            if recipe.dataset == dataset:
                found[recipe] = None
        return tuple(found)


def _affordable(recipe: Recipe, data: Data) -> None:
    """Raises Elsewhere for a training beyond LARGEST, found without making its weights."""
    try:
        with torch.device("meta"):
            parameters = sum(value.numel() for value in recipe.model.build(data.shape, data.classes).parameters())
    except Exception as error:  # whatever a model raises
        raise Elsewhere(f"its network cannot be built here: {short(str(error))}") from None
    work = parameters * float(recipe.train_size or len(data.train_inputs)) * recipe.max_epochs
    if work > LARGEST:
        raise Elsewhere(f"its training may take {work:.0e} parameters x examples x epochs, over {LARGEST:.0e}")
