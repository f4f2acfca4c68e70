"""The board in headless Chromium, opened from its files: skipped where there is no Chromium, or nothing to drive it."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from sharpbench.core.record import Record
from sharpbench.leaderboard.board import Board, Leaderboard, make_leaderboard
from sharpbench.leaderboard.collection import Collection, read_collections
from sharpbench.leaderboard.site.build import STATIC, build_board, build_site
from sharpbench.report.generated import write_files

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install '.[browser]'")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt-get install chromium"),
    pytest.mark.filterwarnings("default"),  # the driver's own do not concern the board
]
Make = Callable[..., list[Record]]
HOSTILE = "</script><script>window.hurt=1</script><img src=x onerror=window.hurt=2>\n|\u202e../../x" + "z" * 10_000
MEASURES, MODELS = 200, 50


class Opened:
    """A page in its own context that records errors and requests."""

    def __init__(self, browser: Any, address: Path, fragment: str = "", **context: Any) -> None:
        self.page = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **context}).new_page()
        self.wrong: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.wrong.append(message.text))
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(address.as_uri() + fragment)

    def rows(self) -> list[str]:
        names: list[str] = self.page.locator("tbody tr").evaluate_all("rows => rows.map(row => row.dataset.name)")
        return names

    def column(self, index: int) -> list[str]:
        texts: list[str] = self.page.locator(f"tbody tr td:nth-child({index})").all_inner_texts()
        return texts


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"] if os.getuid() == 0 else [])
        yield started
        started.close()


@pytest.fixture
def small(results: Path, tmp_path: Path) -> Path:
    board = make_leaderboard(read_collections(results), marks={"noisy": "claimed"})
    write_files(tmp_path / "site", build_site(board), remedy="")
    return tmp_path / "site"


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """The site of two published collections, of which one was timed."""
    (tmp_path / "results").mkdir()
    for name in ("mnist-label-noise", "digits-label-noise"):
        (path,) = (Path(__file__).parents[2] / "leaderboard" / "results").glob(f"{name}.jsonl*")  # it may be compressed
        shutil.copy(path, tmp_path / "results")
    write_files(tmp_path / "site", build_site(make_leaderboard(read_collections(tmp_path / "results"))), remedy="")
    return tmp_path / "site"


def test_tables_sort_and_filter(browser: Any, small: Path) -> None:
    opened = Opened(browser, small / "board" / "index.html")
    page = opened.page
    page.evaluate("location.hash = 'correlation'")
    heading = page.locator("thead th", has_text="tau").first
    heading.locator("button").click()
    assert heading.get_attribute("aria-sort") == "descending"
    shown = [float(text.split()[0]) for text in opened.column(5) if text != "-"]
    assert shown == sorted(shown, reverse=True)
    page.keyboard.press("Enter")  # the heading keeps the focus
    assert page.locator("thead th", has_text="tau").first.get_attribute("aria-sort") == "ascending"
    shown = [float(text.split()[0]) for text in opened.column(5) if text != "-"]
    assert shown == sorted(shown)
    assert page.locator("th[aria-sort]").count() == 1

    page.fill("#filter", "NOISY first")
    assert opened.rows() == ["noisy"]
    assert page.inner_text("#count") == "1 of 12 rows"
    assert page.inner_text("tbody .mark") == "claimed"
    page.fill("#filter", "nothing like that")
    assert page.inner_text("#table") == "No row matches."
    page.fill("#filter", "")
    page.select_option("#kind", "baseline")
    assert set(opened.rows()) == {"label noise", "training loss", "parameter norm", "random"}
    page.select_option("#kind", "measure")
    page.select_option("#board", label="second: small-mlp on digits")
    assert sorted(opened.rows()) == ["good", "other[p=1]"]
    page.click("#views >> text=Overview")
    heads = page.locator("thead th").all_inner_texts()
    assert "small-mlp, second (marginal)" in heads
    assert "small-mlp, first (marginal)" not in heads
    assert opened.wrong == []


def test_the_plot_tells_of_each_network(browser: Any, small: Path) -> None:
    opened = Opened(browser, small / "board" / "index.html")
    page = opened.page
    page.get_by_label("plot noisy").first.click()
    assert page.inner_text("#plot-title") == "noisy, first: small-mlp on digits"
    assert page.locator("#canvas circle").count() == 15
    assert page.locator("#canvas circle.hollow").count() == 1
    assert "excluded by the gate, not fitted (1)" in page.inner_text("#legend")
    page.locator("#canvas").scroll_into_view_if_needed()
    box = page.locator("#canvas circle.hollow").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2 + 2, box["y"] + box["height"] / 2)
    tip = page.inner_text("#tip")
    assert "label_noise: 1" in tip
    assert "excluded: budget ended" in tip
    page.mouse.move(5, 5)
    assert page.locator("#tip").is_hidden()

    page.focus("#canvas")
    seen = set()
    for _ in range(15):
        page.keyboard.press("ArrowRight")
        seen.add(page.inner_text("#tip"))
    assert len(seen) == 15
    page.keyboard.press("Escape")
    assert page.locator("#tip").is_hidden()
    page.click("#views >> text=Speed")
    assert page.inner_text("#plot-title") == "Error against cost, first: small-mlp on digits"
    assert page.locator("#canvas circle").count() == 2
    page.click("tbody >> text=good >> nth=0")
    page.wait_for_url("**/measures/good.html")
    assert page.inner_text("h1") == "good"
    assert page.locator("#kind").is_hidden(), "there are no baselines to choose"
    assert "no interval of tau within" in page.inner_text(".reasons")
    assert opened.wrong == []


def test_light_dark_and_narrow(browser: Any, small: Path) -> None:
    def paper(page: Any) -> int:
        return sum(
            page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).slice(0,3).map(Number)")
        )

    opened = Opened(browser, small / "board" / "index.html", color_scheme="dark")
    assert paper(opened.page) < 150
    opened.page.click("#theme")
    assert (opened.page.inner_text("#theme"), paper(opened.page) > 600) == ("Theme: light", True)
    opened.page.reload()
    assert paper(opened.page) > 600, "the choice is kept"
    assert paper(Opened(browser, small / "board" / "index.html", color_scheme="light").page) > 600

    phone = Opened(browser, small / "board" / "index.html", viewport={"width": 360, "height": 740})
    for view in ("Overview", "Correlation", "Speed"):
        phone.page.click(f"#views >> text={view}")
        assert phone.page.evaluate("document.documentElement.scrollWidth") <= 360
        assert phone.page.locator("#canvas").bounding_box()["width"] > 250
    phone.page.locator("#table").evaluate("table => { table.scrollLeft = 200 }")
    name = phone.page.locator("tbody th").first.bounding_box()
    assert name["x"] < 40, "the names stay in view"
    assert opened.wrong + phone.wrong == []


def test_all_of_it_works_by_keyboard(browser: Any, small: Path) -> None:
    page = Opened(browser, small / "board" / "index.html").page
    reached = []
    for _ in range(60):
        page.keyboard.press("Tab")
        place = page.evaluate("(document.activeElement.id || document.activeElement.textContent).trim()")
        reached.append(place)
        if place == "canvas":
            break
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none", place
    filters = {"filter", "board", "invariant", "cost", "family", "kind"}
    assert {"theme", "Correlation", *filters, "table", "measure", "noisy", "csv", "plot-row"} <= set(reached)
    assert reached[-1] == "canvas"


def test_nothing_leaves_and_hostile_names_are_text(browser: Any, make: Make, tmp_path: Path) -> None:
    hostile = [
        replace(
            each,
            measure=HOSTILE,
            label=HOSTILE + each.label,
            recipe={**each.recipe, "model": HOSTILE, HOSTILE: f"{HOSTILE}{each.recipe['label_noise']}"},
            environment={HOSTILE: HOSTILE},
            **({"status": "failed", "reason": HOSTILE, "value": None} if each.recipe["seed"] == 1 else {}),
        )
        for each in make()
    ]
    found = make_leaderboard([Collection("a", tuple(hostile), 0)], marks={hostile[0].label: HOSTILE})
    write_files(tmp_path / "site", build_site(found), remedy="")
    site = tmp_path / "site" / "board"
    for address in [tmp_path / "site" / "index.html", site / "which.html", *(site / "populations").iterdir()]:
        opened = Opened(browser, address)
        assert opened.page.evaluate("window.hurt") is None
        assert opened.page.locator("img").count() == 0
        assert "</script><script>" in opened.page.inner_text("main")
        assert opened.page.evaluate("document.documentElement.scrollWidth") <= 1280
        assert opened.wrong == []
    for address in [site / "index.html", *(site / "measures").iterdir()]:
        opened = Opened(browser, address, viewport={"width": 1280, "height": 900})
        for view in opened.page.locator("#views button").all():
            view.click()
        opened.page.focus("#canvas")
        opened.page.keyboard.press("ArrowRight")
        assert opened.page.evaluate("window.hurt") is None
        assert opened.page.locator("img").count() == 0
        assert opened.page.evaluate("document.documentElement.scrollWidth") <= 1280
        assert "</script><script>" in opened.page.inner_text("tbody th >> nth=0") + opened.page.inner_text("h1")
        assert opened.wrong == []
        assert all(url.startswith(("file:", "data:")) for url in opened.asked)


def many(records: list[Record]) -> Leaderboard:
    """200 measures on each of 50 models: one board with its scores, under other names and with other values."""
    first = make_leaderboard([Collection("a", tuple(records), 0)]).boards[0]
    score, row = first.measured[0], first.population.rows[0]
    rows, scores = [], []
    for index in range(MEASURES):
        name = f"measure-{index:03}"
        kept = {key: replace(record, measure=name, label=name) for key, record in row.records.items()}
        rows.append(replace(row, label=name, records=kept))
        tau = replace(score.marginal, value=((index * 37) % 199) / 199)
        scores.append(replace(score, label=name, correlations=replace(score.correlations, marginal=tau)))
    boards = tuple(
        Board("many", replace(first.population, model=f"model-{place:02}", rows=tuple(rows)), tuple(scores))
        for place in range(MODELS)
    )
    return Leaderboard(boards)


def test_200_measures_on_50_models_load_and_sort_in_a_second(browser: Any, make: Make, tmp_path: Path) -> None:
    """Seconds of the page's own thread, so that other work on the machine does not concern the page."""
    static = files("sharpbench.leaderboard.site") / "static"
    texts = {"board/index.html": build_board(many(make(measures=("good",))))}
    texts |= {f"board/{name}": (static / name).read_text() for name in STATIC}
    write_files(tmp_path / "site", texts, remedy="")
    (tmp_path / "empty.html").write_text("<!doctype html>")
    opened = Opened(browser, tmp_path / "empty.html")
    page = opened.page
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})

    def spent(action: Callable[[], object]) -> float:
        def busy() -> float:
            metrics = session.send("Performance.getMetrics")["metrics"]
            return float(next(each["value"] for each in metrics if each["name"] == "TaskDuration"))

        before = busy()
        action()
        page.evaluate("document.body.offsetHeight")
        return busy() - before

    times = {"load": spent(lambda: page.goto((tmp_path / "site" / "board" / "index.html").as_uri()))}
    assert page.inner_text("#count") == "200 of 200 rows"
    for name in ("Speed", "Overview", "Correlation"):
        times[name] = spent(page.locator(f"#views >> text={name}").click)
    assert page.inner_text("#count") == "10000 of 10000 rows"
    heading = page.locator("thead button", has_text=re.compile("^tau$"))
    times["sort"], times["sort back"] = spent(heading.click), spent(heading.click)
    assert {text[:4] for text in opened.column(6)[:50]} == {"0.00"}
    times["filter"] = spent(lambda: page.fill("#filter", "measure-007"))
    assert page.inner_text("#count") == "50 of 10000 rows"
    page.fill("#filter", "")
    drawn = page.locator("tbody tr").count()
    page.locator("#table").evaluate("table => { table.scrollTop = table.scrollHeight }")
    page.locator("tbody tr").nth(drawn).wait_for(state="attached")
    print(
        {name: round(seconds, 2) for name, seconds in times.items()}, f"{len(texts['board/index.html']) / 1e6:.1f} MB"
    )
    assert min(times.values()) > 0
    assert max(times.values()) < 1
    assert opened.wrong == []


def test_the_address_holds_filters_order_and_plot(browser: Any, small: Path) -> None:
    opened = Opened(browser, small / "board" / "index.html", "#table=correlation")
    page = opened.page
    page.select_option("#board", label="first: small-mlp on digits")
    page.select_option("#invariant", "layer")
    page.select_option("#cost", "5")
    page.fill("#filter", "small")
    page.locator("thead th", has_text="tau").first.locator("button").click()
    page.get_by_label("plot noisy").first.click()
    shown, address = opened.rows(), page.url
    assert set(shown) == {"good", "noisy"}
    again = Opened(browser, small / "board" / "index.html", f"#{address.partition('#')[2]}")
    assert again.rows() == shown
    assert again.page.input_value("#filter") == "small"
    assert again.page.locator("th[aria-sort=descending]").inner_text().startswith("tau")
    assert again.page.inner_text("#plot-title") == "noisy, first: small-mlp on digits"
    again.page.select_option("#cost", "1")
    assert again.page.inner_text("#table") == "No row matches."
    again.page.evaluate("location.hash = ''")
    again.page.locator("tbody tr").nth(2).wait_for(state="attached")
    assert again.page.input_value("#cost") == ""
    hostile = Opened(browser, small / "board" / "index.html", "#table=x&population=y&sort=z&cost=w&plot=v&of=u")
    assert hostile.rows()
    assert opened.wrong + again.wrong + hostile.wrong == []


def test_columns_are_explained_on_hover_and_focus(browser: Any, small: Path) -> None:
    opened = Opened(browser, small / "board" / "index.html", "#correlation")
    page, help_ = opened.page, opened.page.locator("#column-help")
    button = page.locator("thead button", has_text=re.compile("^tau$"))
    button.hover()
    assert help_.inner_text() == "Kendall's, over all networks"
    page.mouse.move(5, 5)
    assert help_.is_hidden()
    button.focus()
    assert help_.is_visible()
    page.keyboard.press("Escape")
    assert help_.is_hidden()
    for view in page.locator("#views button").all():
        view.click()
        for each in page.locator("thead button").all():
            described = each.get_attribute("aria-describedby")
            assert described, each.inner_text()
            assert page.locator(f"#{described}").text_content()
    assert opened.wrong == []


def test_what_is_shown_is_offered_as_files(browser: Any, small: Path) -> None:
    page = Opened(browser, small / "board" / "index.html", "#table=correlation&q=noisy").page
    with page.expect_download() as csv_file:
        page.click("#csv")
    lines = list(csv.reader(csv_file.value.path().read_text().splitlines()))
    assert [line[0] for line in lines] == ["measure", "noisy"]
    assert lines[0][1:4] == ["population", "rank", "n"]
    with page.expect_download() as json_file:
        page.click("#json")
    rows = json.loads(json_file.value.path().read_text())
    assert [row["populations"] for row in rows] == [["first--small-mlp--digits"]]
    assert [cell["text"] for cell in rows[0]["cells"]] == lines[1][1:]


def test_three_clicks_lead_to_the_cheapest_invariant_measure_that_predicts_the_gap(
    browser: Any, published: Path
) -> None:
    """A stranger's path, on a population that is published."""
    opened = Opened(browser, published / "index.html")
    page = opened.page
    page.click("text=Which measure should I use?")  # one
    page.select_option("#invariant", label="rescaling of units")  # two
    page.select_option("#population", label="mnist-label-noise: mlp on mnist")  # three
    answers = page.locator("#answers section")
    assert answers.count() == 1
    words = answers.locator(".answer").first.inner_text()
    assert words.startswith("Cheapest measure that predicts the gap: path-norm, tau 0.82 ["), words
    assert "gradients." in words
    address = page.url
    page.click("text=These measures on the board")
    page.wait_for_selector("#count:not(:empty)")
    assert {"path-norm", "adaptive-trace"} <= set(opened.rows())
    assert "trace" not in opened.rows(), "it changes when units are rescaled"
    again = Opened(browser, published / "board" / "which.html", f"#{address.partition('#')[2]}")
    assert again.page.locator(".answer").first.inner_text() == words
    assert opened.wrong + again.wrong == []
    assert all(url.startswith(("file:", "data:")) for url in opened.asked)


def test_a_mark_of_the_plot_opens_the_page_of_its_network(browser: Any, small: Path) -> None:
    opened = Opened(browser, small / "board" / "measures" / "good.html")
    page = opened.page
    page.locator("#multiples button").nth(1).click()
    assert page.inner_text("#plot-title") == "good, second: small-mlp on digits"
    page.focus("#canvas")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    page.wait_for_url("**/networks/*.html")
    assert page.inner_text("h1").endswith("second: small-mlp on digits")
    page.click("header p a")
    page.wait_for_url("**/populations/second--small-mlp--digits.html")
    assert opened.wrong == []


def test_names_of_measures_are_whole_on_a_phone(browser: Any, make: Make, tmp_path: Path) -> None:
    records = make(measures=("minimum[scope=unit]", "distance-from-initialisation"))
    write_files(tmp_path / "site", build_site(make_leaderboard([Collection("a", tuple(records), 0)])), remedy="")
    board = tmp_path / "site" / "board"
    for address in (tmp_path / "site" / "index.html", board / "index.html", next((board / "networks").iterdir())):
        opened = Opened(browser, address, viewport={"width": 390, "height": 844})
        names = opened.page.locator("tbody th")
        assert any("minimum[scope=unit]" in text for text in names.all_inner_texts())
        assert names.evaluate_all("all => all.filter(one => one.scrollWidth > one.clientWidth).length") == 0, address
        opened.page.context.close()


def test_no_page_has_barriers_of_level_aa(browser: Any, small: Path) -> None:
    axe_module = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed")
    axe, network = axe_module.Axe(), next((small / "board" / "networks").iterdir())
    levels = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]}
    board = small / "board"
    addresses = [small / "index.html", board / "index.html", board / "which.html", board / "measures" / "good.html"]
    addresses += [board / "populations" / "first--small-mlp--digits.html", network]
    for scheme, width in (("light", 1280), ("dark", 390), ("light", 390), ("dark", 1280)):
        for address in addresses:
            opened = Opened(browser, address, color_scheme=scheme, viewport={"width": width, "height": 844})
            found = axe.run(opened.page, options=levels).response["violations"]
            told = [(each["id"], each["nodes"][0]["html"][:200], each["nodes"][0]["failureSummary"]) for each in found]
            assert told == [], (scheme, width, address)
            assert opened.page.evaluate("document.documentElement.scrollWidth") <= width, address
            opened.page.context.close()


def test_the_fourth_question_asks_for_the_outcome(browser: Any, make: Make, tmp_path: Path) -> None:
    stated = [replace(each, outcomes={"calibration": each.truth["test_accuracy"]}) for each in make(seeds=5)]
    collections = [Collection("a", tuple(stated), 0), Collection("b", tuple(make()), 0)]
    write_files(tmp_path / "site", build_site(make_leaderboard(collections)), remedy="")
    which = tmp_path / "site" / "board" / "which.html"
    opened = Opened(browser, which)
    page = opened.page
    first = page.locator("#answers section").first
    assert "Cheapest measure that predicts the gap: good, tau" in first.inner_text()
    assert first.locator("thead th").all_inner_texts() == ["measure", "tau", "rank", "gradients", "unchanged by"]
    page.select_option("#outcome", "calibration")
    assert "No measure that meets these conditions predicts calibration here." in first.inner_text(), "it is reversed"
    assert first.locator("thead th").all_inner_texts() == ["measure", "Psi", "gradients", "unchanged by"]
    assert "By Psi with calibration." in first.inner_text()
    second = page.locator("#answers section").nth(1).inner_text()
    assert "The records of these networks do not state calibration." in second
    again = Opened(browser, which, f"#{page.url.partition('#')[2]}")
    assert again.page.input_value("#outcome") == "calibration"
    older = Opened(browser, which, "#model=small-mlp")
    assert older.page.input_value("#population") == "model:small-mlp"
    assert older.page.locator("#answers section").count() == 2
    assert opened.wrong + again.wrong + older.wrong == []


def test_every_picture_is_offered_as_svg_and_png(browser: Any, small: Path) -> None:
    board = small / "board"
    pages = [small / "index.html", board / "populations" / "first--small-mlp--digits.html"]
    pages += [next((board / "networks").iterdir()), board / "measures" / "good.html"]
    for address in pages:
        opened = Opened(browser, address, color_scheme="dark")
        page = opened.page
        pictures = page.locator("svg.picture, #canvas").count()
        assert pictures
        for kind, begins in (("SVG", b"<svg "), ("PNG", b"\x89PNG\r\n")):
            buttons = page.get_by_role("button", name=f"{kind} of this picture")
            assert buttons.count() == pictures
            with page.expect_download() as file:
                buttons.last.click()
            content = file.value.path().read_bytes()
            assert content.startswith(begins)
            assert len(content) > 2_000
            if kind == "SVG":  # it needs no style sheet
                assert b"var(" not in content
                assert b'fill="rgb(' in content
        assert opened.wrong == []
        opened.page.context.close()
