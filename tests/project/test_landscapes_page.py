"""The scripts of docs/landscapes.md run as they are written."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "landscapes.md").read_text(encoding="utf-8")
SCRIPTS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
PRINTED = re.search(r"```text\n(the plane holds .*?)```", PAGE, re.DOTALL)


def test_there_are_two_scripts() -> None:
    assert len(SCRIPTS) == 2


@pytest.mark.parametrize("place", range(len(SCRIPTS)))
def test_scripts_run_as_they_are_written(
    place: int, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(SCRIPTS[place], "landscapes.md", "exec"), {"__name__": "script"})
    printed = capsys.readouterr().out
    if place == 0:
        assert PRINTED
        numbers = [[float(each) for each in re.findall(r"\d+\.\d+", text)] for text in (printed, PRINTED[1])]
        assert numbers[0] == pytest.approx(numbers[1], rel=0.1)
        names = {"LANDSCAPE.md", "landscape.svg", "landscape.png", "landscape.html"}
        assert {path.name for path in (tmp_path / "landscape").iterdir()} == names
    else:
        assert printed == "2 True 50\n"
