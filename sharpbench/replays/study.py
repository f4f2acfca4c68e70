"""Study: a measurement beside cells and records, kept as JSON so that an interrupted replay goes on."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import ClassVar

import pandas as pd
import torch
from torch import nn

from sharpbench.core.fields import Scalar, is_scalar
from sharpbench.core.subject import Subject
from sharpbench.datasets.dataset import Data
from sharpbench.environment import describe_environment
from sharpbench.errors import InvalidInput
from sharpbench.files import atomic_write, cache_folder, content_hash, data_folder
from sharpbench.training.examples import initial_module, training_examples
from sharpbench.training.population import Population
from sharpbench.training.recipe import Recipe

Row = dict[str, Scalar]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a replay works: the device, and the folders of data and of trained networks (None: the usual ones)."""

    device: str
    data_dir: Path | str | None = None
    cache_dir: Path | str | None = None


@dataclass(frozen=True, kw_only=True)
class Study(ABC):
    """A measurement as a frozen value. version: raised when what it finds would be another thing."""

    name: ClassVar[str]
    version: ClassVar[int] = 1
    recipes: tuple[Recipe, ...]

    @abstractmethod
    def rows(self, place: Place) -> Iterator[Row]:
        """What it finds; trains the networks of `recipes` where they are not there yet."""

    def key(self, place: Place) -> str:
        """By which what it found is known again."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        values["recipes"] = [recipe.row() for recipe in self.recipes]
        return content_hash({"name": self.name, "version": self.version, "device": place.device, **values})


def study_rows(study: Study, place: Place, folder: Path) -> pd.DataFrame:
    """The rows of the study as a table: those in `folder` where they are of this very study, else measured and kept."""
    path = folder / f"{study.name}.json"
    rows = _kept(path, study.key(place))
    if rows is None:
        rows = list(study.rows(place))
        _keep(path, {"key": study.key(place), "environment": describe_environment(place.device), "rows": rows})
    return pd.DataFrame(rows)


def _kept(path: Path, key: str) -> list[Row] | None:
    """The rows in the file; None where there is none, where it is damaged, or of something else."""
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        rows = stored["rows"] if stored["key"] == key else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    sound = isinstance(rows, list) and rows and all(isinstance(row, dict) and _scalars(row) for row in rows)
    return rows if sound else None


def _scalars(row: Row) -> bool:
    return all(is_scalar(value) for value in row.values())


def _keep(path: Path, content: dict[str, object]) -> None:
    try:
        atomic_write(path, json.dumps(content, indent=1, allow_nan=False))
    except OSError as error:
        raise InvalidInput(f"cannot write {path}: {error.strerror}; choose another folder with --output") from None


# Trained: the network of one recipe, from the zoo or by training, as a module and as subjects.


@dataclass(frozen=True, slots=True, eq=False)
class StudiedNetwork:
    """A trained network with its weights in `module`, in eval mode, float32 on the CPU."""

    recipe: Recipe
    module: nn.Module
    data: Data

    def subject(self, examples: int, *, dtype: torch.dtype, device: str) -> Subject:
        """The subject on the first training examples, labels without noise; more than it was trained on will do.

        Raises InvalidInput where the data set holds fewer.
        """
        inputs, targets = training_examples(replace(self.recipe, train_size=examples, label_noise=0.0), self.data)
        subject = Subject.from_module(self.module, inputs, targets, name=self.recipe.model.name)
        return subject.to(dtype=dtype, device=device)


def open_network(recipe: Recipe, place: Place) -> StudiedNetwork:
    """The recipe's network; it is kept in the zoo, like those of runs."""
    data = recipe.dataset.load(data_folder(place.data_dir))
    cache = cache_folder(place.cache_dir)
    population = Population((recipe,), data, data.sha256(), cache=cache, device=place.device)
    module = initial_module(recipe, data.shape, data.classes)
    module.load_state_dict(population.network(recipe).weights)
    return StudiedNetwork(recipe, module.eval(), data)
