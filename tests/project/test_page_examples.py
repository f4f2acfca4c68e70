"""The first example of each reference page prints what the page shows."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
PAGES = ("architecture", "curvature", "data", "losses", "measures", "performance", "protocol", "quickstart")


@pytest.mark.parametrize("name", PAGES)
def test_the_first_example_prints_what_the_page_shows(name: str) -> None:
    page = (DOCS / f"{name}.md").read_text(encoding="utf-8")
    example, output = re.findall(r"^```python\n(.*?)^```\n\n```(?:text)?\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)[
        0
    ]
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(example, {})
    assert _split_numbers(printed.getvalue()) == _split_numbers(output)


def _split_numbers(text: str) -> list[object]:
    """Words, and numbers to three digits, as other processors round the last ones otherwise."""
    parts = re.findall(r"-?\d+\.\d+|[^\s\d]+|\d+", text)
    return [float(f"{float(part):.3g}") if re.fullmatch(r"-?\d+\.\d+", part) else part for part in parts]
