"""The scripts of docs/sam.md run as they are written."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

PAGE = (Path(__file__).parents[2] / "docs" / "sam.md").read_text(encoding="utf-8")
SCRIPTS = dict(re.findall(r"^## ([^\n]+)\n(?:(?!^## ).)*?```python\n(.*?)```", PAGE, re.DOTALL | re.MULTILINE))


@pytest.mark.parametrize("title", ["In a closure", "In two steps", "Accumulated gradients", "Mixed precision"])
def test_scripts_run_as_they_are_written(title: str, capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(0)
    exec(compile(SCRIPTS[title], title, "exec"), {"__name__": "script"})
    assert 0 < float(capsys.readouterr().out) < 1.2
