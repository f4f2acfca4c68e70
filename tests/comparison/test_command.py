"""`sharpbench compare` through the front door, and what it refuses."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from sharpbench.cli.compare import parse_batch_sizes
from sharpbench.comparison import Comparison, find_contestants
from sharpbench.core.spec import format_spec
from sharpbench.errors import InvalidInput
from tests.commands import given


@pytest.mark.slow
def test_from_a_network_to_its_page_and_from_its_rows_to_the_same(
    words: tuple[str, str], plugin: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    chosen = ("--models", words[0], "--dataset", words[1], "--weights", "random", "--n", 12, "--batches", 12)
    measures = ("--measures", "trace,odd[way=raises]", "--repeats", 1, "--plugin", plugin)
    done = given("compare", *chosen, *measures, "--output", out)
    assert done.returncode == 1
    assert "trace (ours)" in done.stdout
    assert "nothing | works <b>" in done.stdout
    (picture,) = out.glob("comparison-*.svg")
    assert given("compare", "--from", out / "comparison.jsonl", "--output", tmp_path / "again").returncode == 1
    for name in ("COMPARISON.md", picture.name):
        assert (tmp_path / "again" / name).read_bytes() == (out / name).read_bytes()


def test_there_must_be_rows(tmp_path: Path) -> None:
    done = given("compare", "--from", "none.jsonl", "--output", str(tmp_path))
    assert done.returncode == 2
    assert "there is no file 'none" in done.stderr
    (tmp_path / "empty.jsonl").touch()
    done = given("compare", "--from", str(tmp_path / "empty.jsonl"), "--output", str(tmp_path))
    assert done.returncode == 2
    assert re.search(r"there are no rows of a comparison in '.*'; name another file", done.stderr)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"examples": 0}, "n=0 must be from 1 to"),
        ({"threads": 0}, "threads=0 must be from 1 to 1024"),
        ({"repeats": 0}, "repeats=0 must be from 1 to 1000"),
        ({"batches": ()}, "batches=.* must be whole numbers from 1"),
        ({"timeout": float("nan")}, "timeout=nan must be a number of seconds above 0"),
        ({"seed": -1}, "seed=-1 must be from 0"),
        ({"dtype": "float16"}, "dtype 'float16' is none of float32, float64"),
        ({"quantity": "rank"}, "quantity 'rank' is none of trace, top-eigenvalue, diagonal"),
        ({"quantity": "top-eigenvalue"}, "measure 'trace' does not compute quantity 'top-eigenvalue'; those that do: "),
    ],
)
def test_what_is_refused(settings: Callable[..., Comparison], options: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        settings("trace", **options)


def test_a_measure_of_no_quantity_is_refused(settings: Callable[..., Comparison]) -> None:
    with pytest.raises(InvalidInput, match="measure 'other' does not compute quantity 'trace'"):
        settings("other")


@pytest.mark.parametrize("name", ["gradient", "oracle"])
def test_a_name_that_rows_have_already_is_refused(name: str, settings: Callable[..., Comparison]) -> None:
    plain = settings("trace")
    named = type("Named", (type(plain.measures[0]),), {"name": name})
    with pytest.raises(InvalidInput, match=f"measure '{name}' has the name of a row that is not a measure; rename it"):
        replace(plain, measures=(named(),))


def test_contestants_are_all_of_the_quantity_in_all_their_ways(plugin: Path) -> None:
    words = [format_spec(measure) for measure in find_contestants("trace", [plugin])]
    assert {"trace", "trace[method=hutchpp,samples=99]", "ggn-trace", "odd", "odd[way=noisy]"} <= set(words)
    assert not any(word.startswith(("other", "top-eigenvalue", "minimum")) for word in words)
    assert {format_spec(measure) for measure in find_contestants("top-eigenvalue")} >= {"top-eigenvalue"}
    assert {format_spec(measure) for measure in find_contestants("diagonal")} >= {"trace", "ggn-trace"}


@pytest.mark.parametrize("text", ["", "4,x", "-1", "1.5"])
def test_batches_are_whole_numbers(text: str) -> None:
    with pytest.raises(InvalidInput, match="must be whole numbers joined by commas"):
        parse_batch_sizes(text)
