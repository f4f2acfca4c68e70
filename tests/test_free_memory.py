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


def test_what_torch_keeps_for_its_next_tensors_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (100, 1000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 70)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 20)
    assert environment.free_bytes(torch.device("cuda")) == 150
