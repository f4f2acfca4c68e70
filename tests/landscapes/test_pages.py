"""The files of a landscape: complete, without anything from elsewhere, and with harmless names."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from sharpbench import LandscapeOptions
from sharpbench.landscapes.description import describe_landscape
from sharpbench.landscapes.html import render_html
from sharpbench.landscapes.landscape import Landscape
from sharpbench.landscapes.page import write_landscape
from sharpbench.landscapes.plane import Mark, TraceShare
from sharpbench.landscapes.pools import SlicedPools, pool_by_slices

HOSTILE = "</script><img src=x onerror=alert(1)>.pt"


def make_landscape(dimensions: int = 2, *, marks: bool = False) -> Landscape:
    axis = (-1.0, -0.5, 0.0, 0.5, 1.0)
    x = torch.tensor(axis, dtype=torch.float64)
    losses = 0.01 + x.square() if dimensions == 1 else 0.01 + x.square() + 3 * x.square()[:, None]
    losses.view(-1)[0] = math.nan
    places = [(0.5, 0.0), (0.0, 0.5), (0.0, 0.0)]
    return Landscape(
        HOSTILE,
        24,
        LandscapeOptions(dimensions=dimensions, points=5),  # type: ignore[arg-type]  # 1 or 2
        losses,
        (axis,) * dimensions,
        ("first", "second")[:dimensions],
        tuple(Mark(HOSTILE, place[:dimensions], 0.1) for place in places) if marks else (),
        ("eigenvalues 3, 2",),
        TraceShare(10.0, 5.0, 0.02, 0.0),
    )


@pytest.mark.parametrize(("dimensions", "marks"), [(1, True), pytest.param(2, False, marks=pytest.mark.slow)])
def test_the_files_are_written_again_to_the_bit(tmp_path: Path, dimensions: int, marks: bool) -> None:
    names = ["LANDSCAPE.md", "landscape.svg", "landscape.png", "landscape.html"]
    contents = []
    for folder in ("one", "two"):
        written = write_landscape(make_landscape(dimensions, marks=marks), tmp_path / folder)
        assert [path.name for path in written] == names
        contents.append([path.read_bytes() for path in written])
    assert contents[0] == contents[1]
    text = contents[0][0].decode()
    assert "the loss is not finite at 1 points" in text.lower()
    assert "<img" not in text


@pytest.mark.parametrize("dimensions", [1, 2])
def test_the_page_needs_nothing_from_elsewhere_and_escapes_names(dimensions: int) -> None:
    page = render_html(make_landscape(dimensions, marks=True))
    assert not re.search(r"https?:|<link (?!rel=\"icon\" href=\"data:,\")|src=\"", page)
    assert "<img" not in page
    assert "default-src 'none'; script-src 'sha256-" in page
    assert page.count("<script") == 2
    found = re.search(r'type="application/json">(.*?)</script>', page, re.DOTALL)
    assert found
    data = json.loads(found[1])
    assert len(data["losses"]) == 5
    assert len(data["losses"][0]) == (1 if dimensions == 1 else 5)
    assert data["losses"][0][0] is None
    assert data["logarithmic"]


def test_what_the_plane_holds_is_stated() -> None:
    lines = describe_landscape(make_landscape(marks=True))
    assert lines[0] == "Loss on 5 x 5 points, mean over 24 examples, from 0.01 to 4.01."
    assert any("the plane holds 5, 50 % of it. A uniformly random plane holds 2 % on average" in line for line in lines)
    assert lines[-1] == "Largest distance of a checkpoint from the plane 0.1."


@pytest.mark.parametrize("shape", [(2, 3, 9, 8), (3, 7, 7)])
@pytest.mark.parametrize("options", [{}, {"stride": 1}, {"stride": (1, 2)}, {"kernel_size": 3, "stride": 2}])
def test_sliced_pools_are_torchs_to_the_bit(shape: tuple[int, ...], options: dict[str, object]) -> None:
    images = torch.randn(shape)
    chosen: dict[str, object] = {"kernel_size": 2, **options}
    wanted = F.max_pool2d(images, **chosen)  # type: ignore[arg-type]
    found = pool_by_slices(images, **chosen)
    assert found is not None
    assert torch.equal(found, wanted)
    with SlicedPools():
        assert torch.equal(F.max_pool2d(images, **chosen), wanted)  # type: ignore[arg-type]
        assert torch.equal(torch.vmap(lambda each: F.max_pool2d(each, 2))(images[None])[0], F.max_pool2d(images, 2))


@pytest.mark.parametrize("options", [{"padding": 1}, {"ceil_mode": True}, {"dilation": 2}, {"kernel_size": 5}])
def test_other_pools_are_left_to_torch(options: dict[str, object]) -> None:
    images = torch.randn(1, 2, 9, 9)
    chosen: dict[str, object] = {"kernel_size": 2, **options}
    assert pool_by_slices(images, **chosen) is None
    with SlicedPools():
        inside = F.max_pool2d(images, **chosen)  # type: ignore[arg-type]
    assert torch.equal(inside, F.max_pool2d(images, **chosen))  # type: ignore[arg-type]
