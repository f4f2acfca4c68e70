"""The figures: which files, that they are stable, and that names from records harm neither fonts nor folders."""

from __future__ import annotations

import io
import random
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from matplotlib.figure import Figure
from PIL import Image

from sharpbench.analysis.headline import score_headline
from sharpbench.analysis.population import group_populations
from sharpbench.analysis.scores import score_population
from sharpbench.core.record import Record
from sharpbench.report import plots
from sharpbench.report.format import OutcomeLabel
from sharpbench.report.headline_plots import draw_heat
from sharpbench.report.plots import render_figure
from tests.analysis.test_headline import records
from tests.synthetic import cohort

Make = Callable[..., Record]
MakeMany = Callable[..., list[Record]]


def plot_populations(found: list[Record], folder: Path) -> list[Path]:
    """The figures of the populations in `found`."""
    return plots.plot_populations(group_populations(found), folder)


def draw_measure(found: list[Record], folder: Path) -> Path:
    """The SVG of the only measure in `found`; what `plot_populations` draws, without its overview."""
    (population,) = group_populations(found)
    (row,) = population.rows
    return plots._save_measure(plots.collect_points(population, row), OutcomeLabel(), folder)[0]


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The figures of one measure on 25 networks, which tests only read."""
    return plot_populations(cohort(measures=("good",)), tmp_path_factory.mktemp("drawn"))


def marks(svg: Path) -> list[str]:
    """The fill of each mark of the scatter collections in the axes, 'none' for hollow ones."""
    root = ElementTree.parse(svg).getroot()
    found = []
    for group in root.iter("{http://www.w3.org/2000/svg}g"):
        if group.get("id", "").startswith("PathCollection"):
            for use in group.iter("{http://www.w3.org/2000/svg}use"):
                found.append(dict(part.split(": ") for part in use.get("style", "").split("; "))["fill"])
    return found


def test_a_figure_for_every_row_and_an_overview(records: MakeMany, tmp_path: Path) -> None:
    written = plot_populations(
        [*records(measures=("good",)), *records(model="lenet", seeds=3, measures=("good",))], tmp_path / "new"
    )
    assert [path.name for path in written] == [
        "digits--lenet--good.svg", "digits--lenet--good.png",
        "digits--mlp--good.svg", "digits--mlp--good.png",
        "overview.svg", "overview.png",
    ]  # fmt: skip
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == sorted(path.name for path in written)
    assert all(path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n" for path in written if path.suffix == ".png")
    fills = marks(written[2])
    assert len(fills) == 25
    assert len(set(fills)) == 5


def test_equal_records_give_equal_files(drawn: list[Path], records: MakeMany, tmp_path: Path) -> None:
    found = records(measures=("good",))
    other = plot_populations(random.Random(0).sample(found, len(found)), tmp_path)
    for first, second in zip(drawn, other, strict=True):
        assert first.read_bytes() == second.read_bytes()
    assert b"<dc:date>" not in drawn[0].read_bytes()


def test_excluded_networks_are_hollow(records: MakeMany, tmp_path: Path) -> None:
    found = [
        replace(row, truth={**row.truth, "fitted": row.recipe["seed"] != 0}) for row in records(measures=("good",))
    ]
    fills = marks(draw_measure(found, tmp_path))
    assert fills.count("none") == 5
    all_excluded = [replace(row, truth={**row.truth, "fitted": False}) for row in found]
    assert set(marks(draw_measure(all_excluded, tmp_path))) == {"none"}


def test_no_points_no_figure(record: Make, tmp_path: Path) -> None:
    assert plot_populations([record(status="failed", value=None, reason="why")], tmp_path) == []
    assert plot_populations([], tmp_path) == []


def test_one_point_constants_and_unknown_noise_are_drawn(record: Make, tmp_path: Path) -> None:
    assert len(plot_populations([record()], tmp_path)) == 4
    bare = [replace(record(seed=seed), recipe={"model": "m", "dataset": "d", "seed": seed}) for seed in range(3)]
    assert len(plot_populations(bare, tmp_path)) == 4


def test_names_of_outcomes_are_cut_and_have_characters_of_the_font_only() -> None:
    populations = group_populations(records("a", outcomes=("\u4e2d" * 99,)))
    (axes, _) = draw_heat(score_headline(populations, ["a"])).axes
    shown = [label.get_text() for label in axes.get_xticklabels()]
    assert shown[:2] == ["gap", "loss-gap"]
    assert len(shown[2]) <= 34
    assert set(shown[2]) <= set("?.\u2026")


def test_noise_that_all_networks_share_is_no_colour(record: Make, tmp_path: Path) -> None:
    found = [[record(seed=seed, ratio=step * seed / 4, value=seed) for seed in range(3)] for step in (0, 1)]
    written = [draw_measure(each, tmp_path / str(number)) for number, each in enumerate(found)]
    assert [len(set(marks(path))) for path in written] == [1, 3]
    assert ["label noise" in path.read_text() for path in written] == [False, True]


def test_hostile_names_stay_in_the_folder_and_warn_of_nothing(record: Make, tmp_path: Path) -> None:
    name = "../../x/$\\frac{1}$ 漢字 \U0001f600 <b>&\x00\n" + "y" * 10_000
    folder = tmp_path / "plots"
    written = plot_populations(
        [record(name, ratio=r, value=r, model=name, recipe={"dataset": name}) for r in (0.0, 1.0)], folder
    )
    assert {path.parent for path in written} == {folder}
    assert sorted(tmp_path.iterdir()) == [folder]
    assert all(path.exists() and len(path.name) < 130 for path in written)
    ElementTree.parse(written[0])


def test_no_figure_is_left_open_and_no_setting_changed(records: MakeMany, tmp_path: Path) -> None:
    import matplotlib

    before = dict(matplotlib.rcParams)
    plot_populations(records(seeds=1, measures=("good",)), tmp_path)
    assert dict(matplotlib.rcParams) == before
    assert "matplotlib.pyplot" not in sys.modules or not sys.modules["matplotlib.pyplot"].get_fignums()


def test_values_near_the_largest_number_are_drawn(record: Make, tmp_path: Path) -> None:
    extremes = (1.7e308, -1.7e308, 5e-324, -5e-324, 0.0, 1e308, 3.0)
    for name, values in (("both", extremes), ("positive", tuple(abs(value) for value in extremes))):
        records = [record(value=value, seed=seed) for seed, value in enumerate(values)]
        assert len(plot_populations(records, tmp_path / name)) == 4


def test_panels_of_many_points_are_pictures(
    drawn: list[Path], records: MakeMany, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plots, "MAX_VECTOR_POINTS", 10)
    many = draw_measure(records(measures=("good",)), tmp_path)
    pictures = [path.read_bytes().count(b"<image") for path in (drawn[0], many)]
    assert pictures[1] == pictures[0] + 1  # the colour bar is one in both
    assert marks(many) == []


def test_figures_drawn_side_by_side_are_the_same(
    drawn: list[Path], records: MakeMany, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sharpbench.analysis.scores.MIN_NETWORKS_OF_WORKERS", 1)
    monkeypatch.setattr(plots, "count_workers", lambda: 2)
    side_by_side = plot_populations(records(measures=("good",)), tmp_path)
    assert [path.name for path in side_by_side] == [path.name for path in drawn]
    assert [path.read_bytes() for path in side_by_side] == [path.read_bytes() for path in drawn]


def test_known_scores_are_not_found_again(
    drawn: list[Path], records: MakeMany, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    populations = group_populations(records(measures=("good",)))
    scores = score_population(populations[0])
    monkeypatch.setattr(plots, "marginal_tau", None)
    (svg, *_) = plots.plot_populations(populations, tmp_path, scores=scores)
    assert svg.name == "digits--mlp--good.svg"
    assert svg.read_bytes() == drawn[0].read_bytes()


def test_a_png_has_the_resolution_of_its_figure() -> None:
    """Which drawing the SVG, always at 72 points an inch, does not change."""
    figure = Figure(figsize=(2.0, 1.0), dpi=150)
    with Image.open(io.BytesIO(render_figure(figure)[".png"])) as image:
        assert image.size == (300, 150)
    assert figure.dpi == 150
