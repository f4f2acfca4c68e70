"""The interactive page in headless Chromium, opened from its file: skipped where there is none to drive."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from sharpbench import LandscapeOptions
from sharpbench.landscapes.landscape import Landscape
from sharpbench.landscapes.plane import Mark

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install '.[browser]'")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt-get install chromium"),
    pytest.mark.filterwarnings("default"),
]
HOSTILE = "</script><script>window.hurt=1</script><img src=x onerror=window.hurt=2>"
AXIS = (-1.0, -0.5, 0.0, 0.5, 1.0)


@pytest.mark.parametrize("dimensions", [1, 2])
def test_the_page_draws_and_reads_values(tmp_path: Path, dimensions: Any) -> None:
    squares = torch.tensor(AXIS, dtype=torch.float64).square()
    losses = 0.25 + (squares if dimensions == 1 else squares + squares[:, None])
    marks = (Mark(HOSTILE, (0.0,) * dimensions, 0.0),)
    options, grid, labels = LandscapeOptions(dimensions=dimensions, points=5), (AXIS,) * dimensions, ("first", "second")
    found = Landscape(HOSTILE, 4, options, losses, grid, labels[:dimensions], marks)
    (tmp_path / "page.html").write_text(found.to_html(), encoding="utf-8")
    wrong: list[str] = []
    requests: list[str] = []
    with playwright.sync_playwright() as driver:
        flags = ["--no-sandbox"] if os.getuid() == 0 else []
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=flags)
        page = browser.new_page()
        page.on("console", lambda message: wrong.append(message.text))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        page.goto((tmp_path / "page.html").as_uri())
        box = page.locator("#map").bounding_box()
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        place = "0" if dimensions == 1 else "0, 0"
        assert page.locator("#value").text_content() == f"loss 0.25 at ({place})"
        before = page.evaluate("document.getElementById('surface').toDataURL()")
        if dimensions == 2:
            box = page.locator("#surface").bounding_box()
            page.mouse.move(box["x"] + 100, box["y"] + 100)
            page.mouse.down()
            page.mouse.move(box["x"] + 180, box["y"] + 120)
            page.mouse.up()
            assert page.evaluate("document.getElementById('surface').toDataURL()") != before
        assert page.evaluate("window.hurt") is None
        browser.close()
    assert wrong == []
    assert len(requests) == 1
