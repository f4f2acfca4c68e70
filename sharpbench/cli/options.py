"""Words of the command line that name one object."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sharpbench.datasets.dataset import Dataset
    from sharpbench.models.model import Model


EXIT_FAILED, EXIT_INVALID, EXIT_CLAIMED, EXIT_REFUTED, EXIT_INTERRUPTED = 1, 2, 3, 4, 130


def parse_model(word: str, plugins: Sequence[Path]) -> Model:
    """The network that `word` names, a file's function among them."""
    from sharpbench.core.registry import available
    from sharpbench.core.spec import parse_spec
    from sharpbench.models.file import parse_file_model

    chosen: Model = parse_file_model(word) or parse_spec(word, available("models", plugins).classes, kind="model")
    return chosen


def parse_dataset(word: str, plugins: Sequence[Path]) -> Dataset:
    """The data set that `word` names."""
    from sharpbench.core.registry import available
    from sharpbench.core.spec import parse_spec

    chosen: Dataset = parse_spec(word, available("datasets", plugins).classes, kind="dataset")
    return chosen
