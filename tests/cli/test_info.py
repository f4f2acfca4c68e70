"""`sharpbench info` and `sharpbench docs` through the front door."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.commands import Done, given, refused

SHOWN = {"COLUMNS": "120"}

PLUGIN = """
from dataclasses import dataclass
from sharpbench import Estimate, Measure

@dataclass(frozen=True)
class Plain(Measure):
    name, title, source = "plain", "says little", "tests"
    def __call__(self, subject, *, generator): return Estimate(1.0)
    def exact(self, subject): return None
    def invariances(self): return frozenset()

MEASURES = (Plain,)
"""


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("cache"))


def sharpbench(cache: str, *words: str, **environment: str) -> Done:
    return given(*words, **{"SHARPBENCH_CACHE": cache, **SHOWN, **environment})


def test_everything_is_printed(cache: str) -> None:
    result = sharpbench(cache, "info", "normalized")
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("normalized: normalized sharpness\n")
    for said in (
        "W_ij^2 / (s_i t_j)", "Tsuzuku", "mean over examples", "biases and other vectors excluded",
        "layer, permutation",
        "neither the data set's size", "C - 1 backward passes", "The same minimum over the reference diagonal",
        "20,000", "exact|arxiv|icml", "1e-05", "alternating exact", "@inproceedings{tsuzuku2020",
    ):  # fmt: skip
        assert said in result.stdout, said
    assert "value" not in sharpbench(cache, "info", "fisher-rao").stdout


def test_the_list_shows_what_measures_cost_and_claim(cache: str) -> None:
    shown = sharpbench(cache, "list", "measures", COLUMNS="400").stdout
    assert "invariant to" in shown
    assert "cost in gradients" in shown
    for invariance in ("attention-rotation", "element", "layer", "permutation", "unit"):
        assert f" {invariance} " in shown
    assert "1: about two forward passes" in shown
    assert "cost in gradients" not in sharpbench(cache, "list", "models").stdout


@pytest.mark.parametrize("columns", ["40", "80", "120"])
def test_a_narrow_terminal_breaks_no_name(cache: str, columns: str) -> None:
    rows = json.loads(sharpbench(cache, "list", "measures", "--json").stdout)
    shown = sharpbench(cache, "list", "measures", COLUMNS=columns).stdout
    assert max(map(len, shown.splitlines())) <= int(columns)
    for row in rows:
        assert f"{row['name']} " in shown
        assert all(f"{each['name']}=" in shown for each in row["parameters"])


def test_values_in_brackets_change_what_is_claimed(cache: str) -> None:
    given = json.loads(sharpbench(cache, "info", "normalized[diagonal=arxiv,samples=3]", "--json").stdout)
    assert given["invariances"] == []
    assert {each["name"]: each["value"] for each in given["parameters"]} == {
        "diagonal": "arxiv", "objective": "arxiv", "samples": 3, "radius": 1e-5,
    }  # fmt: skip
    shown = sharpbench(cache, "info", "normalized[diagonal=arxiv]").stdout
    assert "nothing" in shown
    assert "value" in shown


def test_a_file_may_offer_it_and_may_say_little(cache: str, tmp_path: Path) -> None:
    (tmp_path / "plain.py").write_text(PLUGIN, encoding="utf-8")
    result = sharpbench(cache, "info", "plain", "--plugin", str(tmp_path / "plain.py"))
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("not stated") == 7
    assert "parameters\n" not in result.stdout


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("info", "minimun"), "unknown measure 'minimun'; did you mean 'minimum'?"),
        (("info", "minimum[scop=unit]"), "no parameter 'scop'; did you mean 'scope'?"),
        (("docs", "pages", "--package", "nowhere"), "package 'nowhere' offers no measure"),
    ],
    ids=str,
)
def test_bad_words_get_one_line(cache: str, words: tuple[str, ...], expected: str) -> None:
    refused(sharpbench(cache, *words), expected)


def test_pages_are_written_and_checked(cache: str, tmp_path: Path) -> None:
    folder = tmp_path / "pages"
    stale = sharpbench(cache, "docs", str(folder), "--check")
    assert stale.returncode == 1
    assert f"{folder / 'minimum.md'} is stale" in stale.stdout
    assert not folder.exists()
    written = sharpbench(cache, "docs", str(folder))
    assert written.returncode == 0, written.stderr
    assert f"{folder / 'minimum.md'} written" in written.stdout
    assert sharpbench(cache, "docs", str(folder), "--check").returncode == 0
    generated = (folder / "README.md").read_text(encoding="utf-8").splitlines()[0]
    (folder / "old.md").write_text(generated, encoding="utf-8")
    assert sharpbench(cache, "docs", str(folder)).stdout == f"{folder / 'old.md'} removed\n"
