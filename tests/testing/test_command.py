"""`sharpbench validate` through the front door, and how it finds what it is to check."""

from __future__ import annotations

import json
from functools import partial
from importlib import import_module
from pathlib import Path

import pytest

from sharpbench.core.installed_plugins import KINDS, InstalledPlugins, PluginPoint
from sharpbench.core.registry import available, find_measures
from sharpbench.errors import InvalidInput
from tests.commands import given, refused

PLUGIN = """
from dataclasses import dataclass
from sharpbench import Estimate, Measure

@dataclass(frozen=True)
class Norm(Measure):
    name, title, source = "norm", "p-norm", "tests"
    p: float = 2.0
    def __call__(self, subject, *, generator):
        return Estimate(float(sum(value.abs().pow(self.p).sum() for value in subject.params.values())))
    def exact(self, subject): return None
    def invariances(self): return frozenset({"permutation"})

@dataclass(frozen=True)
class False_(Norm):
    name = "false"
    def invariances(self): return frozenset({"layer"})

MEASURES = (Norm, False_)
"""


@pytest.fixture
def plugin(tmp_path: Path) -> str:
    path = tmp_path / "norms.py"
    path.write_text(PLUGIN, encoding="utf-8")
    return str(path)


def test_every_measure_of_a_file_has_its_table(plugin: str) -> None:
    result = given("validate", plugin)
    assert result.returncode == 1, result.stderr
    assert result.stderr == ""
    assert "norm: 16 ok, 0 failed, 9 skipped\n" in result.stdout
    assert "false: 15 ok, 1 failed, 9 skipped\n" in result.stdout
    assert "biases, layer: " in result.stdout


def test_some_may_be_chosen_with_parameters_and_told_as_json(plugin: str) -> None:
    result = given("validate", plugin, "--measures", "norm[p=1],norm", "--json")
    assert result.returncode == 0, result.stderr
    reports = json.loads(result.stdout)
    assert [report["measure"] for report in reports] == ["norm[p=1.0]", "norm"]
    assert reports[0]["checks"][0] == {
        "name": "declarations",
        "outcome": "ok",
        "detail": "not stated: definition, reduction, included, cost, bibtex",
    }


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("nowhere.py",), "nowhere.py is not a file"),
        (("sharpbenhc",), "no package 'sharpbenhc' that offers measures; did you mean 'sharpbench'?"),
        (("json",), "json: offers no measure; add MEASURES = (YourMeasure,)"),
        (
            ("sharpbench_measures", "--measures", "trase"),
            "unknown measure 'trase'; did you mean 'trace' or 'ggn-trace'",
        ),
    ],
    ids=str,
)
def test_bad_words_get_one_line(words: tuple[str, ...], expected: str) -> None:
    refused(given("validate", *words), expected)


def test_files_distributions_and_modules_offer_measures(plugin: str) -> None:
    assert list(find_measures(plugin)) == ["norm", "false"]
    installed = available("measures").classes
    assert find_measures("sharpbench") == installed
    built_in = {name: cls for name, cls in installed.items() if cls.__module__.startswith("sharpbench_measures.")}
    assert find_measures("sharpbench_measures") == built_in


def test_a_distribution_offers_what_all_its_modules_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """As sharpbench itself does: built-in measures, and adapters of other libraries."""
    modules = ("sharpbench_measures", "sharpbench_peers")
    points = tuple(PluginPoint("both", "1", name, name, partial(import_module, name)) for name in modules)
    installed = InstalledPlugins({kind: points if kind == "measures" else () for kind in KINDS}, {})
    monkeypatch.setattr("sharpbench.core.installed_plugins._read", lambda state: installed)
    assert find_measures("both") == {**find_measures("sharpbench_measures"), **find_measures("sharpbench_peers")}
    assert {"trace", "backpack-trace"} <= find_measures("both").keys()


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("broken.py", "raise RuntimeError('no luck')", r"broken\.py fails to import: RuntimeError: no luck"),
        ("empty.py", "", r"empty\.py has none of MEASURES, MODELS, DATASETS, OPTIMIZERS, COHORTS"),
        ("other.py", "MODELS = ()", r"other\.py: offers no measure"),
        ("odd.py", "MEASURES = (3,)", r"odd\.py: 3 is not a frozen dataclass"),
        ("text", "MEASURES = ()", r"text is not a Python file; its name must end in \.py"),
    ],
)
def test_files_that_cannot_be_used_are_refused_by_their_name(
    tmp_path: Path, name: str, text: str, expected: str
) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(InvalidInput, match=expected) as refused:
        find_measures(str(tmp_path / name))
    assert "--plugin" not in str(refused.value)


def test_modules_that_cannot_be_used_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "fails_at_import.py").write_text("import nothing_of_that_name", encoding="utf-8")
    with pytest.raises(InvalidInput, match=r"fails_at_import fails to import: ModuleNotFoundError: .*nothing_of_that"):
        find_measures("fails_at_import")
    with pytest.raises(InvalidInput, match=r"no package 'zzz\.q' that offers measures; name a Python file, or install"):
        find_measures("zzz.q")
    with pytest.raises(InvalidInput, match="fails to import: ValueError"):
        find_measures("")
    with pytest.raises(InvalidInput, match=r"no package 'xxx.*' that offers measures"):
        find_measures("x" * 5000)
    with pytest.raises(InvalidInput, match="is not a file"):
        find_measures("x" * 5000 + ".py")
