"""Studies: measurements that do not fit into records, stored as JSON so that an interrupted replay can resume."""

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
from sharpbench.files import Workspace, atomic_write, content_hash
from sharpbench.training.examples import initial_module, load_data, training_examples
from sharpbench.training.population import Population
from sharpbench.training.recipe import Recipe

Row = dict[str, Scalar]


@dataclass(frozen=True, kw_only=True)
class Study(ABC):
    """A measurement on trained networks, as a frozen value.

    Args:
        name: the name of its file.
        version: incremented whenever its rows change in meaning, so that stored rows are measured again.
        recipes: the networks; empty for a study that trains one by a loop without a recipe.
    """

    name: ClassVar[str]
    version: ClassVar[int] = 1
    recipes: tuple[Recipe, ...]

    @abstractmethod
    def rows(self, workspace: Workspace) -> Iterator[Row]:
        """The rows that it measures, as JSON scalars by column. Trains the networks that are not in the zoo."""

    def key(self, workspace: Workspace) -> str:
        """The content hash by which stored rows are recognized as rows of this study."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        values["recipes"] = [recipe.row() for recipe in self.recipes]
        return content_hash({"name": self.name, "version": self.version, "device": workspace.device, **values})


def run_study(study: Study, workspace: Workspace, folder: Path) -> pd.DataFrame:
    """The rows of the study as a table.

    Args:
        study: the study.
        workspace: the device, and the folders of data and networks.
        folder: where the rows are stored. Rows that are stored there for the same study are not measured again.
    """
    path = folder / f"{study.name}.json"
    rows = _read_rows(path, study.key(workspace))
    if rows is None:
        rows = list(study.rows(workspace))
        _write_rows(
            path, {"key": study.key(workspace), "environment": describe_environment(workspace.device), "rows": rows}
        )
    return pd.DataFrame(rows)


def _read_rows(path: Path, key: str) -> list[Row] | None:
    """The rows in the file; None if there is none, it is damaged, or its key is another one."""
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        rows = stored["rows"] if stored["key"] == key else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    valid = isinstance(rows, list) and rows and all(isinstance(row, dict) and _has_scalars(row) for row in rows)
    return rows if valid else None


def _has_scalars(row: Row) -> bool:
    return all(is_scalar(value) for value in row.values())


def _write_rows(path: Path, content: dict[str, object]) -> None:
    try:
        atomic_write(path, json.dumps(content, indent=1, allow_nan=False))
    except OSError as error:
        raise InvalidInput(f"cannot write {path}: {error.strerror}; choose another folder with --output") from None


@dataclass(frozen=True, slots=True, eq=False)
class StudiedNetwork:
    """A trained network: its recipe, its module in eval mode (float32, on the CPU) and its data."""

    recipe: Recipe
    module: nn.Module
    data: Data

    def subject(self, examples: int, *, dtype: torch.dtype, device: str) -> Subject:
        """The subject on the first training examples, with labels without noise.

        Args:
            examples: the number of examples, which may exceed the number that the network was trained on.
            dtype: the type of its parameters and inputs.
            device: "cpu" or "cuda".

        Raises:
            InvalidInput: if the data set has fewer examples.
        """
        inputs, targets = training_examples(replace(self.recipe, train_size=examples, label_noise=0.0), self.data)
        subject = Subject.from_module(self.module, inputs, targets, name=self.recipe.model.name)
        return subject.to(dtype=dtype, device=device)


def open_network(recipe: Recipe, workspace: Workspace) -> StudiedNetwork:
    """The network of a recipe, from the zoo; it is trained and stored there if it is missing."""
    data = load_data(recipe, workspace.data_dir)
    population = Population((recipe,), data, data.sha256(), cache=workspace.cache_dir, device=workspace.device)
    module = initial_module(recipe, data.shape, data.classes)
    module.load_state_dict(population.get_network(recipe).weights)
    return StudiedNetwork(recipe, module.eval(), data)
