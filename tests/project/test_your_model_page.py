"""The recipes of docs/your-model.md run as they are written."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from sharpbench.environment import import_torchvision

PAGE = (Path(__file__).parents[2] / "docs" / "your-model.md").read_text(encoding="utf-8")
RECIPES = dict(re.findall(r"^## ([^\n]+)\n.*?```python\n(.*?)```", PAGE, re.DOTALL | re.MULTILINE))
LIBRARIES = ("transformers", "peft")


def run(title: str, capsys: pytest.CaptureFixture[str]) -> list[float]:
    """The numbers that a recipe prints."""
    torch.manual_seed(0)
    exec(compile(RECIPES[title], title, "exec"), {"__name__": "recipe"})
    return [float(number) for number in re.findall(r"-?\d+\.?\d*(?:e-?\d+)?", capsys.readouterr().out)]


def uses_library(title: str) -> bool:
    return any(f"import {library}" in RECIPES[title] for library in LIBRARIES)


def test_there_are_eight_recipes() -> None:
    assert len(RECIPES) == 8


@pytest.mark.parametrize("title", [title for title in RECIPES if not uses_library(title)])
def test_recipes_run_as_they_are_written(title: str, capsys: pytest.CaptureFixture[str]) -> None:
    numbers = run(title, capsys)
    assert numbers[0] > 0


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("title", [title for title in RECIPES if uses_library(title)])
def test_recipes_of_hugging_face_run_as_they_are_written(title: str, capsys: pytest.CaptureFixture[str]) -> None:
    for library in LIBRARIES:
        if f"import {library}" in RECIPES[title]:
            import_torchvision()  # where it does not fit torch, transformers cannot be imported before it
            pytest.importorskip(library)
    assert run(title, capsys)[0] > 0
