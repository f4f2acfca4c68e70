"""What is free on the machine."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sharpbench import environment


def test_free_memory_is_known_here_or_said_to_be_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    found = environment.free_bytes(torch.device("cpu"))
    assert found is None or found > 2**20
    monkeypatch.setattr(environment, "Path", lambda name: Path("/nowhere"))
    assert environment.free_bytes(torch.device("cpu")) is None
