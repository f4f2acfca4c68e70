"""The scripts of docs/tracking.md run as they are written."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

PAGE = (Path(__file__).parents[2] / "docs" / "tracking.md").read_text(encoding="utf-8")
SCRIPTS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def test_there_are_two_scripts() -> None:
    assert len(SCRIPTS) == 2


@pytest.mark.parametrize("place", range(len(SCRIPTS)))
def test_scripts_run_as_they_are_written(
    place: int, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(SCRIPTS[place], "tracking.md", "exec"), {"__name__": "script"})
    printed = capsys.readouterr().out
    assert "nan" not in printed.lower()
    assert {path.name for path in tmp_path.iterdir()} == [{"sharpness.png"}, {"track.jsonl", "track.csv"}][place]
    assert torch.is_grad_enabled()
