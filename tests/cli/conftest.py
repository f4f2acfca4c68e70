"""What several tests of the command share."""

from __future__ import annotations

import pytest


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Boards without their figures, which take longer than the rest of a command and are looked at in other tests."""
    monkeypatch.setattr("sharpbench.report.plots.plot_populations", lambda *_, **__: [])
