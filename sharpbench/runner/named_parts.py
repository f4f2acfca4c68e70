"""The model and the data set that a word names, also where they are in a file of the user."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sharpbench.core.registry import available
from sharpbench.core.spec import parse_spec
from sharpbench.datasets.dataset import Dataset
from sharpbench.datasets.loader_file import parse_loader_file
from sharpbench.models.file import parse_file_model
from sharpbench.models.model import Model


def parse_model(word: str, plugins: Sequence[Path]) -> Model:
    """The model that `word` names, by its name or as a function of a file. Raises InvalidInput for an unknown one."""
    chosen: Model = parse_file_model(word) or parse_spec(word, available("models", plugins).classes, kind="model")
    return chosen


def parse_dataset(word: str, plugins: Sequence[Path]) -> Dataset:
    """The data set that `word` names. Raises InvalidInput for an unknown one."""
    chosen: Dataset = parse_loader_file(word) or parse_spec(
        word, available("datasets", plugins).classes, kind="dataset"
    )
    return chosen
