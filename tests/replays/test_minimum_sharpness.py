"""The page of the replay, from synthetic records and findings; figures that are equal when drawn again."""

from __future__ import annotations

import html
from collections.abc import Callable
from dataclasses import replace

import pandas as pd
import pytest
from matplotlib import style
from scipy.stats import kendalltau

from sharpbench.core.record import Record
from sharpbench.models.paper import LeNet, Mlp, SmallCnn, SmallMlp
from sharpbench.replays.minimum_sharpness_2021.archive import read_archive
from sharpbench.replays.minimum_sharpness_2021.replay import MinimumSharpness2021
from sharpbench.replays.minimum_sharpness_2021.studies import DiagonalStudy, TraceStudy
from sharpbench.replays.tables import networks_table
from sharpbench.report.page import Page, list_pictures, render_page
from sharpbench.report.plots import FIGURE_STYLE, render_svg

from .conftest import cohort

MakeMany = Callable[..., list[Record]]
REPLAY = MinimumSharpness2021()
TRACES = pd.DataFrame(
    [
        *({"kind": "entry", "model": "small-mlp", "parameter": index, "exact": 0.1 * index, "naive": 0.1 * index}
          for index in range(4)),
        {"kind": "entry", "model": "small-mlp", "parameter": 9, "exact": 0.5, "naive": 0.4},
        {"kind": "network", "model": "small-mlp", "parameters": 100, "examples": 1000, "entries": 5, "trace": 7.0,
         "error_exact": 1e-8, "error_paper": 1e-6, "error_paper_double": 1e-15, "seconds_exact": 0.5,
         "seconds_paper": 2.0, "batch_paper": 16, "seconds_naive": 50.0},
    ]
)  # fmt: skip
DIAGONALS = pd.DataFrame(
    {"model": "small-mlp", "kind": kind, "samples": count, "error": 10 / count, "negative": 0.25, "seconds": 1.5,
     "value": 1.25 if count == 10 else None}
    for kind in ("arxiv", "icml")
    for count in (1, 10)
)  # fmt: skip


def of(records: list[Record]) -> Page:
    return REPLAY.page("quick", records, {TraceStudy.name: TRACES, DiagonalStudy.name: DIAGONALS})


@pytest.fixture(scope="module")
def page() -> Page:
    return of(cohort(labels=("trace", "minimum", "normalized")))


def row(page: Page, *cells: str) -> list[str]:
    """The one line of a table that begins with `cells`."""
    lines = [
        [html.unescape(part).strip().replace("\\", "") for part in line.strip("| ").split(" | ")]
        for line in render_page(page, version="1", command="c").splitlines()
        if line.startswith("| ")
    ]
    (found,) = [line for line in lines if all(map(str.startswith, line, cells)) and len(line) >= len(cells)]
    return found


def test_the_archive_alone_needs_no_records_and_gives_the_known_figures() -> None:
    page = REPLAY.page("archive", [], {})
    assert REPLAY.experiment("archive") is None
    found = row(page, "mlp", "minimum sharpness")
    assert [text.partition(" ")[0] for text in found[2:]] == ["110", "0.864", "0.479", "107", "0.857", "0.472"]
    found = row(page, "lenet", "normalized sharpness")
    assert [text.partition(" ")[0] for text in found[2:]] == ["110", "0.723", "0.054", "110", "0.723", "0.054"]
    text = render_page(page, version="1", command="c")
    for left in ("trial 1 at label noise 0.1", "trial 4 at label noise 0 ", "trial 9 at label noise 0 "):
        assert left in text
    assert list(list_pictures(page)) == []


def test_here_and_the_archive_stand_side_by_side_with_their_difference(page: Page) -> None:
    found = row(page, "mlp", "minimum, converged", "all networks")
    archive, alike, here, gap = (text.partition(" ")[0] for text in found[3:])
    assert archive == "0.857"
    assert float(alike) != float(archive)  # its own networks at these three ratios
    assert float(here) - float(alike) == pytest.approx(float(gap), abs=2e-3)
    assert row(page, "mlp", "trace", "all networks")[3:5] == ["-", "-"]
    assert row(page, "mlp", "(label noise)", "equal label noise")[5:] == ["-", "-"]


def test_what_orders_networks_by_their_training_loss(records: MakeMany, page: Page) -> None:
    published = read_archive().query("model == 'mlp' and fitted")
    expected = kendalltau(published["minimum_sharpness"], published["train_loss"]).statistic
    here = networks_table(records(labels=("trace", "minimum", "normalized"))).query("model == 'mlp'")
    found = row(page, "mlp", "minimum sharpness", f"{expected:.3f} ")
    assert found[3].startswith(f"{kendalltau(here['minimum'], here['train_loss']).statistic:.3f} ")


def test_networks_that_did_not_fit_are_counted_and_left_out(records: MakeMany, page: Page) -> None:
    found = [
        replace(each, truth={**each.truth, "fitted": each.recipe["seed"] != 0})
        for each in records(labels=("trace", "minimum", "normalized"))
    ]
    without = of(found)
    text = render_page(without, version="1", command="c")
    assert "30 networks, 6 excluded as not fitted" in text
    assert "30 networks, 0 excluded as not fitted" in render_page(page, version="1", command="c")
    assert row(without, "mlp", "0.2")[2] == "4"


def test_speed_and_accuracy_are_those_that_were_found(page: Page) -> None:
    assert row(page, "small-mlp", "0.5") == ["small-mlp", "0.5", "2 @16", "50", "4", "100", "25", "606"]
    accuracy = row(page, "small-mlp", "100")
    assert accuracy[2:] == ["7", "1.0e-08", "1.0e-06", "1.0e-15", f"{0.1 / 0.4:.1e}"]
    assert row(page, "small-mlp", "arxiv") == ["small-mlp", "arxiv", "10", "1", "25%", "1.25", "1.5"]


def test_figures_are_equal_when_drawn_again(page: Page) -> None:
    """But for the second, which the same function draws of other values."""
    pictures = {picture.name: picture for picture in list_pictures(page)}
    assert list(pictures) == ["minimum", "normalized", "figure-1", "figure-3"]
    del pictures["normalized"]
    with style.context(["default", FIGURE_STYLE]):
        for picture in pictures.values():
            assert render_svg(picture.draw()) == render_svg(picture.draw())


def test_quick_and_paper_train_what_they_say() -> None:
    quick, paper = REPLAY.experiment("quick"), REPLAY.experiment("paper")
    assert quick is not None
    assert paper is not None
    assert len(quick.recipes) == 60
    assert {recipe.model for recipe in quick.recipes} == {Mlp(), LeNet()}
    assert len(paper.recipes) == 220
    assert {(recipe.batch_size, recipe.train_size) for recipe in paper.recipes} == {(1024, None)}
    assert [recipe.model for recipe in quick.studies[0].recipes] == [SmallMlp(), SmallCnn()]
    for experiment in (quick, paper):
        for study in experiment.studies:
            assert all((recipe.label_noise, recipe.seed) == (0.0, 0) for recipe in study.recipes)
