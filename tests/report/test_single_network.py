"""What is shown of one network."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from matplotlib.image import imread
from rich.console import Console

from sharpbench.analysis.population import group_populations
from sharpbench.analysis.value_errors import combined_interval
from sharpbench.core.record import Record
from sharpbench.report import single_network
from sharpbench.report.single_network import MAX_ROWS, draw_network, show_network

MakeRecord = Callable[..., Record]
DATA = {
    "dataset": "digits",
    "split": "train",
    "examples": 40,
    "available": 1437,
    "limit": 40,
    "subset_seed": 3,
    "sha256": "ab",
    "leaderboard": False,
}


def of(make: MakeRecord, label: str, *, weights: str = "net.pt", **changes: Any) -> Record:
    recipe = {"model": "lenet", "weights": weights}
    return make(label, recipe=recipe, data=DATA, truth={"loss": 0.01234, "accuracy": 0.975}, **changes)


def shown(states: dict[str, dict[str, Record]]) -> str:
    stream = io.StringIO()
    show_network(states, Console(file=stream, width=80))
    return stream.getvalue()


def test_values_intervals_and_parts_are_shown(record: MakeRecord) -> None:
    exact = of(record, "trace", value=12.5, stderr=0.0, parts={"a": 10.0, "b": 2.5}, details={"method": "exact"})
    sampled = of(record, "sampled", value=3.0, stderr=0.5, low=2.0, high=4.25, parts={"a": 1.0, "c": 2.0})
    text = shown({"net.pt": {"trace": exact, "sampled": sampled}})
    assert "lenet, weights net.pt, on 40 train examples of digits drawn from 1,437 with seed 3: " in text
    assert "loss 0.0123, accuracy 97.5%" in text
    rows = {line.split()[0]: line.split()[1:] for line in text.splitlines() if line.split()}
    assert rows["trace"][:2] == ["12.5", "-"]
    assert rows["sampled"][:4] == ["3", "2", "to", "4.25"]
    assert rows["a"] == ["10", "1"]
    assert rows["b"] == ["2.5", "-"]
    assert rows["c"] == ["-", "2"]


def test_standard_errors_over_examples_are_shown_where_these_are_a_draw(record: MakeRecord) -> None:
    exact = of(record, "trace", value=12.5, stderr=0.0, stderr_examples=0.375)
    lost = of(record, "sam", value=2.0, stderr=0.0)
    text = shown({"net.pt": {"trace": exact, "sam": lost}})
    rows = {line.split()[0]: line.split()[1:] for line in text.splitlines() if line.split()}
    assert rows["trace"][:4] == ["12.5", "-", "±", "0.38"]
    assert rows["sam"][:3] == ["2", "-", "unknown"]
    assert "so the value is exact on these examples\n" in text
    assert "over examples: the standard error for another draw of as many examples\n" in text
    whole = replace(exact, data={**DATA, "examples": 1437, "limit": None})
    text = shown({"net.pt": {"trace": whole}})
    assert "on all 1,437 train examples of digits" in text
    assert "exact on these examples, which are all there are" in text
    assert "over examples: the standard error for as many other examples of the same distribution\n" in text
    text = shown({"net.pt": {"trace": replace(whole, stderr_examples=None)}})
    assert "over examples" not in text


def test_values_of_two_matrices_say_which(record: MakeRecord) -> None:
    trace = of(record, "trace", value=2.84, details={"matrix": "hessian"})
    minimum = of(record, "minimum", value=3.32, details={"matrix": "gauss-newton"})
    text = shown({"net.pt": {"trace": trace, "minimum": minimum, "sam": of(record, "sam", value=2.0)}})
    assert "2.84 (Hessian)" in text
    assert "3.32 (Gauss-Newton)" in text
    alike = replace(minimum, details={"matrix": "hessian"})
    assert "(Hessian)" not in shown({"net.pt": {"trace": trace, "minimum": alike}})


def test_bars_of_curves_hold_both_errors(record: MakeRecord) -> None:
    both = of(record, "trace", value=10.0, stderr=0.5, low=9.0, high=11.0, stderr_examples=0.5)
    low, high = combined_interval(both) or (0.0, 0.0)
    half = math.hypot(1.0, 2.0227 * 0.5)  # Student's t with 39 degrees of freedom
    assert (low, high) == pytest.approx((10 - half, 10 + half), rel=1e-4)
    whole = replace(both, data={**DATA, "examples": 1437})
    assert combined_interval(whole) == (9.0, 11.0)
    assert combined_interval(replace(whole, stderr=0.0, low=10.0, high=10.0)) is None


def test_what_has_no_value_is_named_with_its_reason(record: MakeRecord) -> None:
    lost = of(record, "fisher-rao", value=None, status="skipped", reason="not for this\nloss")
    text = shown({"net.pt": {"fisher-rao": lost}})
    assert "fisher-rao, skipped: not for this loss" in text


def test_names_of_records_are_plain_text(record: MakeRecord) -> None:
    odd = of(record, "[bold]x[/bold]\x1b[31m", parts={"[red]p": 1.0, "q\u202e": 2.0})
    text = shown({"net.pt": {odd.label: odd}})
    assert "[bold]x[/bold]" in text
    assert "[red]p" in text
    assert "\x1b" not in text
    assert "\u202e" not in text


def test_of_many_parts_the_largest_are_shown_and_the_rest_summed(record: MakeRecord) -> None:
    parts = {f"p{number}": float(number) for number in range(100)}
    table = single_network._collect_parts([of(record, "trace", parts=parts)])
    assert len(table) == MAX_ROWS
    assert list(table)[:-1] == [f"p{number}" for number in range(71, 100)]
    assert table[single_network.REST_NAME]["trace"] == sum(range(71))


def test_many_states_are_a_row_each(record: MakeRecord) -> None:
    states = {
        f"epoch{number}.pt": {"trace": of(record, "trace", weights=f"epoch{number}.pt", value=2.0**number)}
        for number in range(3)
    }
    text = shown(states)
    assert [line.split()[-1] for line in text.splitlines() if line.strip().startswith("epoch")] == ["1", "2", "4"]


@pytest.mark.parametrize("count", [1, 30])
def test_pictures_show_parts_or_curves(record: MakeRecord, tmp_path: Path, count: int) -> None:
    states = {
        f"epoch{number}.pt": {
            "trace": of(
                record, "trace", value=10.0 ** (number % 3), low=0.5, high=200.0, parts={"a": 1.0, "$b_$": 3.0}
            ),
            "lost": of(record, "lost", value=None, status="failed", reason="no"),
        }
        for number in range(count)
    }
    paths = draw_network(states, tmp_path)
    assert [path.name for path in paths] == (["parts.svg", "parts.png"] if count == 1 else ["curve.svg", "curve.png"])
    image = imread(paths[1])
    assert float(image.min()) < 0.5 < float(image.max())
    before = paths[0].read_bytes()
    draw_network(states, tmp_path)
    assert paths[0].read_bytes() == before


def test_without_parts_there_is_no_picture(record: MakeRecord, tmp_path: Path) -> None:
    assert draw_network({"net.pt": {"fisher-rao": of(record, "fisher-rao")}}, tmp_path) == []


def test_no_leaderboard_takes_these_records(record: MakeRecord) -> None:
    assert group_populations([of(record, "trace")]) == ()
    assert len(group_populations([record("trace")])) == 1


def test_headings_are_the_whole_labels_and_no_markup(record: MakeRecord) -> None:
    """Brackets are not markup of the terminal, and labels that are equal when cut are shown whole."""
    long = "measure-with-a-very-long-name-and-options"
    labels = ["trace", "trace[method=exact]", f"{long}[a=1]", f"{long}[a=2]"]
    states = {name: {label: of(record, label, weights=name, value=1.0) for label in labels} for name in ("e1", "e2")}
    columns = single_network._curve_columns(states)
    assert [column.heading for column in columns] == ["weights", "loss", "accuracy", *labels]


def test_what_is_wider_than_a_terminal_is_several_tables_of_whole_words(record: MakeRecord) -> None:
    """39 measures on a terminal of 80 columns: no name is cut between words, no number, and nothing is left out."""
    labels = [f"measure-of-some-length-{number}" for number in range(12)]
    names = ["layer3.0.downsample.1.weight", "bias"]
    parts = {name: 1.23456e-5 * (number + 2) for number, name in enumerate(names)}
    measured = {"value": 1.23456e-7, "stderr": 1.0, "low": -1.234e-7, "high": 12345.0, "parts": parts}
    table = {label: of(record, label, details={"method": "lanczos quadrature"}, **measured) for label in labels}
    stream = io.StringIO()
    show_network({"net.pt": table}, Console(file=stream, width=80, force_terminal=True, color_system=None))
    lines = stream.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    words = [word for line in lines for word in line.split()]
    for label in labels:
        assert words.count(label) >= 3, label  # twice in tables of values, once as a heading
    assert words.count("2.47e-05") == words.count("3.7e-05") == words.count("1.23456e-07") == len(labels)
    assert words.count("quadrature") == len(labels)
