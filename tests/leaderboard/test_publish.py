"""`sharpbench publish` through the front door: files, bytes, --check, and the numbers of `sharpbench run`."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from sharpbench import InvalidInput
from sharpbench.analysis.scores import score_records
from sharpbench.core.record import Record
from sharpbench.leaderboard.board import Leaderboard, make_leaderboard
from sharpbench.leaderboard.collection import Collection, read_collections
from sharpbench.leaderboard.pages import exactness, speed
from sharpbench.leaderboard.publish import NOTICE, generate_files, published_folder
from sharpbench.report import markdown
from sharpbench.report.page import Page, list_pictures
from sharpbench.report.plots import pareto_front
from tests.commands import given, refused

Make = Callable[..., list[Record]]
PUBLISHED = Path(__file__).parents[2] / "leaderboard"
HOSTILE = (
    "../../etc/a|b\n# <script>alert(1)</script> `x` [l](javascript:alert(1)) ![i](www.e.example) </script> <!-- \u202e "
    + "z" * 10_000
)
PAGES = ("README.md", "correlation.md", "exactness.md", "invariance.md", "outcomes.md", "speed.md", "which.md")


@pytest.fixture(scope="module")
def texts(board: Leaderboard) -> Mapping[str, str]:
    """The pages and plots of the two collections."""
    return generate_files(board)


@pytest.fixture
def no_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only their names: they take most of the time."""

    def name_plots(pages: Mapping[str, Page]) -> dict[str, str]:
        pictures = (picture for page in pages.values() for picture in list_pictures(page))
        return {f"{picture.name.removeprefix('../')}.svg": "" for picture in pictures}

    monkeypatch.setattr("sharpbench.leaderboard.publish.draw_plots", name_plots)


def publish(*words: str) -> tuple[int, str]:
    """The exit status of the command, and what it prints."""
    done = given("publish", *words)
    return done.returncode, done.stdout


def published(*collections: tuple[str, list[Record]], marks: Mapping[str, str] | None = None) -> Leaderboard:
    return make_leaderboard([Collection(name, tuple(records), 0) for name, records in collections], marks=marks)


def rows(text: str) -> list[list[str]]:
    """The cells of all table lines, links as their text."""
    plain = re.sub(r"(?<!\\)\[((?:\\.|[^\]\\])*)\]\([^)]*\)", r"\1", text)
    lines = [line for line in plain.splitlines() if line.startswith("|")]
    return [[part.strip() for part in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines if "---" not in line]


def tau_rows(texts: Mapping[str, str]) -> list[list[str]]:
    """The table of taus by population on the first page."""
    return rows(texts["README.md"].split("## Tau with the gap by population")[1])


def test_publish_writes_and_check_finds_what_differs(
    results: Path, board: Leaderboard, texts: Mapping[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Five commands on the same records, for which the pages are made once."""

    def take_made(leaderboard: Leaderboard) -> dict[str, str]:
        assert [each.records for each in leaderboard.boards] == [each.records for each in board.boards]
        return dict(texts)

    monkeypatch.setattr("sharpbench.leaderboard.publish.generate_files", take_made)
    output = tmp_path / "board"
    words = ("--results", str(results), "--output", str(output))
    status, shown = publish(*words, "--check")
    assert status == 1
    assert f"{output / 'README.md'} is missing" in shown
    assert not output.exists()

    assert publish(*words)[0] == 0
    measures = {f"measures/{name}.md" for name in ("good", "noisy", "other")}
    plots = {f"plots/measure-{name}.svg" for name in ("good", "noisy", "other")}
    plots |= {f"plots/{place}--small-mlp--digits{kind}.svg" for place in ("first", "second") for kind in ("", "--cost")}
    plots.add("plots/outcomes.svg")
    there = {path.relative_to(output).as_posix() for path in output.rglob("*") if path.is_file()}
    assert there == {*PAGES, *measures, *plots}
    assert all((output / name).read_text().startswith(NOTICE + "\n") for name in there)
    assert publish(*words, "--check") == (0, "")

    (output / "speed.md").write_text((output / "speed.md").read_text().replace("2.5", "1.5"))
    (output / "measures" / "good.md").unlink()
    (output / "plots" / "gone.svg").write_text(NOTICE)
    (output / "plots" / "mine.svg").write_text("<svg/>")
    status, shown = publish(*words, "--check")
    assert status == 1
    assert shown.splitlines() == [
        f"{output / 'measures' / 'good.md'} is missing",
        f"{output / 'plots' / 'gone.svg'} is stale",
        f"{output / 'speed.md'} differs",
    ]
    assert publish(*words)[1].splitlines() == [
        f"{output / 'measures' / 'good.md'} written",
        f"{output / 'plots' / 'gone.svg'} removed",
        f"{output / 'speed.md'} written",
    ]
    assert (output / "plots" / "mine.svg").exists()


@pytest.mark.parametrize("folder", ["results", "none"])
def test_bad_records_and_missing_ones_are_one_line(results: Path, tmp_path: Path, folder: str) -> None:
    (results / "first.jsonl").write_text("{}\n")
    words = ("--results", str(tmp_path / folder), "--output", str(tmp_path / "board"))
    expected = "first.jsonl:1: record schema None" if folder == "results" else "no record files in"
    refused(given("publish", *words), expected)
    assert not (tmp_path / "board").exists()


def test_what_was_written_by_hand_is_not_overwritten(results: Path, tmp_path: Path) -> None:
    wanted = {"README.md": f"{NOTICE}\nx", "speed.md": f"{NOTICE}\ny"}
    (tmp_path / "README.md").write_text("mine")
    with pytest.raises(InvalidInput, match=r"README\.md was not generated and would be overwritten"):
        published_folder(tmp_path).update(wanted)
    assert not (tmp_path / "speed.md").exists()


@pytest.mark.slow  # all that is published is judged and drawn again; .ci/run also does it
def test_the_published_board_is_what_its_records_say() -> None:
    if not list((PUBLISHED / "results").glob("*.jsonl")):
        pytest.skip("leaderboard/results holds no records yet")
    words = ("--results", str(PUBLISHED / "results"), "--output", str(PUBLISHED))
    assert publish(*words, "--check") == (0, ""), "`sharpbench publish` writes them"


def test_equal_records_give_equal_bytes_in_any_order(make: Make, texts: Mapping[str, str]) -> None:
    first, second = make(), make(measures=("good", "other[p=1]"), seeds=3)
    random.Random(0).shuffle(first)
    random.Random(1).shuffle(second)
    assert generate_files(published(("first", first), ("second", second))) == texts


def test_the_numbers_are_those_of_the_run(shared_results: Path, texts: Mapping[str, str]) -> None:
    for collection in read_collections(shared_results):
        records = collection.records
        run = rows(markdown.markdown_leaderboard(score_records(records), records, version="1"))
        correlation = texts["correlation.md"].split("\n## ")
        section = next(part for part in correlation if part.startswith(f"{collection.name}: "))
        assert rows(section)[: len(rows(section))] == run[: len(rows(section))]
        costs = {row[0]: row for row in run[len(rows(section)) :]}
        header, fast = costs["measure"], costs["good"]
        part = next(part for part in texts["speed.md"].split("\n## ") if part.startswith(f"{collection.name}: "))
        shown = dict(zip(rows(part)[0], next(row for row in rows(part) if row[0] == "good"), strict=True))
        assert shown["gradients"] == fast[header.index("gradients")]
        assert shown["seconds A"] == fast[header.index("seconds")]
        errors = next(part for part in texts["exactness.md"].split("\n## ") if part.startswith(f"{collection.name}: "))
        assert next(row for row in rows(errors) if row[0] == "good")[1] == fast[header.index("relative error")]


def test_the_headline_has_a_row_a_measure_and_a_column_a_population(texts: Mapping[str, str]) -> None:
    header, *lines = tau_rows(texts)
    assert header[:3] == ["measure", "small-mlp, first (marginal)", "small-mlp, second (marginal)"]
    assert [line[0] for line in lines][-4:] == ["*label noise*", "*training loss*", "*parameter norm*", "*random*"]
    found = {line[0]: line for line in lines}
    assert found["noisy"][2] == "-"
    assert re.fullmatch(r"0\.\d\d \(1\)", found["good"][1])
    assert found["good"][-1] == "layer"
    assert "- first: small-mlp on digits: 15 networks, 1 excluded by the gate; 2 measures" in texts["README.md"]


def vary_rates(records: list[Record], seal: Callable[..., Record]) -> list[Record]:
    """The records with a learning rate in place of the label noise, and an outcome."""
    return [
        seal(
            replace(
                each,
                recipe={**each.recipe, "label_noise": 0.0, "learning_rate": each.recipe["label_noise"]},
                outcomes={"quantised-4": float(str(each.truth["gap"])) ** 2},
            )
        )
        for each in records
    ]


@pytest.mark.usefixtures("no_plots")
def test_the_first_table_holds_the_headline_scores(make: Make, seal: Callable[..., Record]) -> None:
    found = published(("rates", vary_rates(make(), seal)), ("noise", make()))
    texts = generate_files(found)
    header, *lines = rows(texts["README.md"].split("## Headline score")[1].split("## Tau with")[0])
    assert header == ["rank", "measure", "score", "95 % interval", "without a score because"]
    by = {line[1]: line for line in lines}
    assert by["good"][:3] == ["1", "good", f"{found.headline.scores[0].tau.value:.2f}"]
    assert by["*label noise*"][2:] == ["-", "-", "the same value for all networks on rates: small-mlp on digits"]
    assert "Populations that enter: rates: small-mlp on digits." in texts["README.md"]
    assert {"plots/headline.svg", "plots/outcomes.svg"} <= set(texts)
    section = next(part for part in texts["outcomes.md"].split("\n## ") if part.startswith("rates: "))
    assert rows(section)[0] == ["measure", "gap", "quantised-4"]
    assert "enters the headline score" in section
    assert "does not enter the headline score" in texts["outcomes.md"]


@pytest.mark.usefixtures("no_plots")
def test_a_handful_of_networks_has_no_column_and_says_so(make: Make) -> None:
    single = [each for each in make(model="timm:tiny") if each.recipe["seed"] == 1 and each.recipe["label_noise"] == 0]
    texts = generate_files(published(("a", make()), ("timm", single)))
    assert tau_rows(texts)[0][1:3] == ["small-mlp, a (marginal)", "worst sign error"]
    assert (
        "- timm: timm:tiny on digits: 1 network, 0 excluded by the gate; 2 measures; too few networks for a"
        in (texts["README.md"])
    )
    assert texts["correlation.md"].split("## timm: ")[1].split("\n\n")[1] == "1 network: too few for a correlation."
    assert "timm: timm:tiny on digits" in texts["measures/good.md"]


@pytest.mark.usefixtures("no_plots")
def test_a_partial_row_has_no_place_in_the_headline(make: Make) -> None:
    records = [each for each in make() if not (each.label == "good" and each.recipe["seed"] == 3)]
    found = {line[0]: line for line in tau_rows(generate_files(published(("a", records))))}
    assert found["good"][1] == "-"


@pytest.mark.usefixtures("no_plots")
def test_seconds_of_different_machines_never_share_a_column(make: Make) -> None:
    other = {"environment": {"processor": "P 2", "threads": 4}, "seconds": 9.0}
    slow = [replace(each, **other) if each.label == "noisy" else each for each in make()]  # type: ignore[arg-type]
    text = generate_files(published(("a", slow)))["speed.md"]
    header, *lines = rows(text)
    assert header == ["measure", "gradients", "seconds A", "seconds B", "peak memory"]
    found = {line[0]: line[2:4] for line in lines}
    assert found == {"good": ["0.01", "-"], "noisy": ["-", "9"]}
    assert "- B: processor P 2, threads 4" in text


def test_the_front_is_what_nothing_beats_in_both() -> None:
    found = [speed.Offer("a", 1.0, 1e-3), speed.Offer("b", 2.0, 1e-3), speed.Offer("c", 3.0, 0.0)]
    found.append(speed.Offer("d", 4.0, 1e-9))
    assert [each.name for each in pareto_front(found, lambda each: (each.gradients, each.error))] == ["a", "c"]


@pytest.mark.usefixtures("no_plots")
def test_coverage_counts_stated_intervals_that_hold_the_truth(make: Make) -> None:
    stated = replace(make()[0], stderr=0.1, low=1.0, high=2.0, exact=1.5)
    records = [stated, replace(stated, exact=2.5), replace(stated, exact=None), replace(stated, stderr=0.0)]
    assert exactness.count_coverage(records) == exactness.Coverage(1, 2)
    every = [replace(each, stderr=0.1, low=-9.0, high=9.0) for each in make()]
    assert rows(generate_files(published(("a", every)))["exactness.md"])[-1] == ["noisy", "1 of 1", "21% to 100%"]


@pytest.mark.usefixtures("no_plots")
def test_a_mark_stands_beside_its_measure(make: Make) -> None:
    texts = generate_files(published(("a", make()), marks={"noisy": "refuted|"}))
    for name in (*PAGES[:3], "invariance.md", "speed.md"):
        assert any(row and "noisy (refuted\\|)" in row for row in rows(texts[name])), name
    assert "noisy: refuted\\|." in texts["measures/noisy.md"]
    assert "refuted" not in texts["measures/good.md"]


def test_hostile_names_and_reasons_harm_neither_pages_nor_files(make: Make, tmp_path: Path, seal: Callable) -> None:  # type: ignore[type-arg]
    hostile = [
        seal(
            replace(
                each,
                measure=HOSTILE if each.label == "noisy" else each.measure,
                label=HOSTILE + "[p=1]" if each.label == "noisy" else each.label,
                recipe={**each.recipe, "model": HOSTILE, "dataset": "../" + HOSTILE},
                environment={**each.environment, HOSTILE: HOSTILE},
                oracle=HOSTILE,
                invariance={HOSTILE: 2.0} if each.invariance else {},
                **({"status": "failed", "reason": HOSTILE, "value": None} if each.recipe["seed"] == 1 else {}),
            )
        )
        for each in make()
    ]
    wanted = generate_files(published(("a", hostile)))
    folder = published_folder(tmp_path / "deep" / "board")
    folder.update(wanted)
    assert folder.find_stale(wanted) == {}
    there = [path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file()]
    assert len(there) == len(wanted)
    for path in there:
        assert path.parts[:2] == ("deep", "board")
        assert len(path.name) < 130
        assert re.fullmatch(r"[A-Za-z0-9.-]+", path.name)
    for name, text in wanted.items():
        body = text.removeprefix(NOTICE)
        assert "<script" not in body
        assert "\u202e" not in body
        assert "zzzz" * 100 not in body
        if name.endswith(".md"):
            assert "<" not in body
            assert not re.search(r"(?<!\\)\]\((?!measures/|plots/|\.\./|[A-Za-z]+\.md)", body), "a link of their own"
            assert {len(row) for row in rows(body.split("\n## ")[0])} <= {len(rows(body)[0])} if rows(body) else True
