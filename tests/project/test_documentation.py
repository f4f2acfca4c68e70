"""Documentation and board as one site: it is built without a warning, and asks nothing of any other host."""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import typer

import sharpbench
from sharpbench.cli.app import app

pytest.importorskip("mkdocs", reason="mkdocs is not installed: pip install '.[docs]'")
ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_the_site_is_built_strictly_and_stands_alone(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(
        words, cwd=ROOT, capture_output=True, text=True, timeout=280, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    )
    assert done.returncode == 0, done.stderr
    pages = {path.relative_to(tmp_path / "site").as_posix() for path in (tmp_path / "site").rglob("*.html")}
    assert {
        "index.html",
        "reference/cli.html",
        "docs/leaderboard.html",
        "docs/measures/trace.html",
        "leaderboard/replays/index.html",
    } <= pages
    published = any((ROOT / "leaderboard" / "results").glob("*.jsonl"))
    assert {"board/index.html", "board/which.html", "readme.html"} <= pages or not published
    commands = (tmp_path / "site" / "reference" / "cli.html").read_text(encoding="utf-8")
    assert {f'id="{name}"' for name in ("run", "publish", "zoo-export", "score")} <= set(
        re.findall('id="[a-z-]+"', commands)
    )
    names = (tmp_path / "site" / "reference" / "api.html").read_text(encoding="utf-8")
    assert all(
        f"{name}" in re.findall(r'id="sharpbench\.[a-z_.]+\.(\w+)"', names) for name in ("Subject", "Tracker", "score")
    )
    for page in pages:
        text = (tmp_path / "site" / page).read_text(encoding="utf-8")
        loaded = re.findall(r"<(?:script|img|iframe)[^>]*\ssrc=[\"']?([^\"'\s>]+)", text)
        loaded += re.findall(r"<link[^>]*rel=[\"']?(?:stylesheet|icon|preconnect)[^>]*href=[\"']?([^\"'\s>]+)", text)
        assert loaded
        assert not [address for address in loaded if re.match("(https?:)?//", address)], page


def test_the_reference_has_every_command_option_and_public_name() -> None:
    found = runpy.run_path(str(ROOT / "docs" / "reference.py"))
    commands = found["describe_commands"]()
    for name, command in typer.main.get_command(app).commands.items():
        parts = getattr(command, "commands", {"": command})
        for part, each in parts.items():
            section = commands.partition(f"\n## {name} {part}".rstrip() + "\n")[2].partition("\n## ")[0]
            assert section, name
            assert all(
                f"`{option}`" in section for each_one in each.params for option in each_one.opts if option[0] == "-"
            )
    names = found["describe_names"]()
    missing = [name for name in sharpbench._HOME if name not in found["ALIASES"] and f".{name}\n" not in names]
    assert missing == []


def test_examples_of_docstrings_are_code_in_the_reference() -> None:
    pytest.importorskip("griffe", reason="mkdocstrings is not installed: pip install '.[docs]'")
    mark = runpy.run_path(str(ROOT / "docs" / "doctest_blocks.py"))["mark_examples"]
    text = "Text a[0][1].\n\n    >>> f(x)\n    {'a': 1}['a'][0]\n\nMore.\n\n>>> 2\n2"
    first = "    ```pycon\n    >>> f(x)\n    {'a': 1}['a'][0]\n    ```"
    fenced = f"Text a[0]\\[1].\n\n{first}\n\nMore.\n\n```pycon\n>>> 2\n2\n```"
    assert mark(text) == fenced
    assert mark("No example.") == "No example."
