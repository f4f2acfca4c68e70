"""Documentation and board as one site: it is built without a warning, and asks nothing of any other host."""

from __future__ import annotations

import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer

import sharpbench
from sharpbench.cli.app import app

pytest.importorskip("mkdocs", reason="mkdocs is not installed: pip install '.[docs]'")
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the site, which mkdocs builds without a warning."""
    folder = tmp_path_factory.mktemp("documentation") / "site"
    words = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(
        words, cwd=ROOT, capture_output=True, text=True, timeout=580, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_site_stands_alone(site: Path) -> None:
    pages = {path.relative_to(site).as_posix() for path in site.rglob("*.html")}
    assert {
        "index.html",
        "reference/cli.html",
        "docs/leaderboard.html",
        "docs/measures/trace.html",
        "leaderboard/replays/index.html",
    } <= pages
    published = any((ROOT / "leaderboard" / "results").glob("*.jsonl"))
    assert {"board/index.html", "board/which.html", "readme.html"} <= pages or not published
    commands = (site / "reference" / "cli.html").read_text(encoding="utf-8")
    assert {f'id="{name}"' for name in ("run", "publish", "zoo-export", "score")} <= set(
        re.findall('id="[a-z-]+"', commands)
    )
    names = (site / "reference" / "api.html").read_text(encoding="utf-8")
    assert all(
        f"{name}" in re.findall(r'id="sharpbench\.[a-z_.]+\.(\w+)"', names) for name in ("Subject", "Tracker", "score")
    )
    for page in pages:
        text = (site / page).read_text(encoding="utf-8")
        loaded = re.findall(r"<(?:script|img|iframe)[^>]*\ssrc=[\"']?([^\"'\s>]+)", text)
        loaded += re.findall(r"<link[^>]*rel=[\"']?(?:stylesheet|icon|preconnect)[^>]*href=[\"']?([^\"'\s>]+)", text)
        assert loaded
        assert not [address for address in loaded if re.match("(https?:)?//", address)], page


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.filterwarnings("default")  # the driver's own do not concern the site
@pytest.mark.skipif(shutil.which("chromium") is None, reason="no Chromium here: apt-get install chromium")
def test_no_page_of_the_documentation_has_barriers_of_level_aa(site: Path) -> None:
    driver = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install '.[browser]'")
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed").Axe()
    levels = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]}
    pages = ("readme", "docs/quickstart", "docs/protocol", "docs/symmetry", "docs/measures/trace", "reference/cli")
    with driver.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"] if os.getuid() == 0 else []
        )
        for scheme, width in (("light", 1280), ("dark", 375)):
            for name in pages:
                page = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 844}).new_page()
                page.goto((site / f"{name}.html").as_uri())
                page.wait_for_function(
                    "document.querySelectorAll('.md-typeset__scrollwrap:not([tabindex])').length === 0"
                )
                found = axe.run(page, options=levels).response["violations"]
                told = [
                    (each["id"], each["nodes"][0]["html"][:200], each["nodes"][0]["failureSummary"]) for each in found
                ]
                assert told == [], (scheme, width, name)
                assert page.evaluate("document.documentElement.scrollWidth") <= width, name
                page.context.close()
        browser.close()


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


MAX_COLUMNS = 120
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for pattern in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "docs/**/*.md")
    for path in ROOT.glob(pattern)
)


def _wide_lines(page: str) -> list[int]:
    """The numbers of the lines of text wider than MAX_COLUMNS: not code, tables, headings and single links."""
    found, fenced = [], False
    for number, line in enumerate(page.splitlines(), start=1):
        fence = re.match(r"\s*(```|~~~)", line) is not None
        fenced ^= fence
        unbreakable = re.match(r"\s*(\||#|!?\[[^]]*\]\(\S*\)$|<?https?://\S*$)", line)
        if len(line) > MAX_COLUMNS and not (fence or fenced or unbreakable):
            found.append(number)
    return found


@pytest.mark.parametrize("name", PAGES)
def test_text_of_a_page_is_at_most_120_columns_wide(name: str) -> None:
    assert _wide_lines((ROOT / name).read_text(encoding="utf-8")) == []


def test_a_wide_line_of_text_is_found_and_one_of_code_is_not() -> None:
    wide = "word " * 30
    assert _wide_lines(f"{wide}\n```\n{wide}\n```\n| {wide} |\n- {wide}\n[{wide}](a.md)\n## {wide}") == [1, 6]


def test_examples_of_docstrings_are_code_in_the_reference() -> None:
    pytest.importorskip("griffe", reason="mkdocstrings is not installed: pip install '.[docs]'")
    mark = runpy.run_path(str(ROOT / "docs" / "doctest_blocks.py"))["mark_examples"]
    text = "Text a[0][1].\n\n    >>> f(x)\n    {'a': 1}['a'][0]\n\nMore.\n\n>>> 2\n2"
    first = "    ```pycon\n    >>> f(x)\n    {'a': 1}['a'][0]\n    ```"
    fenced = f"Text a[0]\\[1].\n\n{first}\n\nMore.\n\n```pycon\n>>> 2\n2\n```"
    assert mark(text) == fenced
    assert mark("No example.") == "No example."
