"""A population that was trained elsewhere, in a folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.foreign_population import write_population


@pytest.fixture
def population(tmp_path: Path) -> Path:
    """The folder, with the description mine.toml."""
    return write_population(tmp_path / "lab")
