"""The catalogue: rows that say what is installed, kept until something changes, and never in the way."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from sharpbench.core import catalog
from sharpbench.core.catalog import describe_measure, list_installed
from sharpbench.core.installed_plugins import KINDS, InstalledPlugins, Kind, PluginPoint
from sharpbench.core.registry import Available, PluginFault
from sharpbench.errors import InvalidInput

PLUGIN = """
from __future__ import annotations
from dataclasses import dataclass
from typing import Literal
from sharpbench import Estimate, Measure

@dataclass(frozen=True)
class Extra(Measure):
    name, title, source = "{name}", "an extra", "a paper"
    {first}
    samples: int = 3
    rate: float | None = None
    kind: Literal["one", "two"] = "two"
    flag: bool = True
    def __call__(self, subject, *, generator): return Estimate(1.0)
    def exact(self, subject): return None
    def invariances(self): {invariances}

MEASURES = (Extra,)
"""


def source(name: str = "extra", *, first: str = "", invariances: str = "return frozenset({'unit', 'layer'})") -> str:
    return PLUGIN.format(name=name, first=first, invariances=invariances)


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An importable package `listed_plugin` that is the only one to offer measures."""
    folder = tmp_path / "packages" / "listed_plugin"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text(source(), encoding="utf-8")
    monkeypatch.syspath_prepend(str(folder.parent))
    point = PluginPoint("listed_plugin", "", "listed", "listed_plugin", lambda: import_module("listed_plugin"))
    points = {kind: (point,) if kind == "measures" else () for kind in KINDS}
    monkeypatch.setattr("sharpbench.core.installed_plugins._read", lambda state: InstalledPlugins(points, {}))
    for name in ("listed_plugin", "listed_plugin.bad"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return folder


def names(rows: list[dict[str, Any]]) -> list[str | None]:
    return [row["name"] for row in rows]


def made_anew(monkeypatch: pytest.MonkeyPatch, package: Path, cache: Path) -> bool:
    """Whether the next listing imports what is installed."""
    calls: list[str] = []

    def counted(kind: Kind, plugins: Any) -> Any:
        calls.append(kind)
        return original(kind, plugins)

    original = catalog._make_rows
    with monkeypatch.context() as patch:
        patch.setattr(catalog, "_make_rows", counted)
        patch.delitem(sys.modules, "listed_plugin", raising=False)
        assert list_installed("measures", cache_dir=cache) == original("measures", ())
    return bool(calls)


@pytest.mark.parametrize("kind", KINDS)
def test_rows_are_json_and_the_same_from_the_cache(kind: Kind, tmp_path: Path) -> None:
    rows = list_installed(kind, cache_dir=tmp_path)
    assert json.loads(json.dumps(rows)) == rows
    assert list_installed(kind, cache_dir=tmp_path) == rows
    assert rows
    for row in rows:
        assert row["kind"] == kind[:-1]
        assert row["package"] == "sharpbench"
        assert row["title"]
        assert row["source"]
        assert ("invariances" in row) == (kind == "measures")
    assert [path.name for path in (tmp_path / "listing").iterdir() if path.suffix != ".json"] == []


def test_a_row_says_what_a_class_takes_and_claims(package: Path, tmp_path: Path) -> None:
    assert list_installed("measures", cache_dir=tmp_path) == [
        {
            "kind": "measure",
            "name": "extra",
            "title": "an extra",
            "source": "a paper",
            "package": "listed_plugin",
            "parameters": [
                {"name": "samples", "default": 3, "type": "int"},
                {"name": "rate", "default": None, "type": "float | None"},
                {"name": "kind", "default": "two", "type": "one|two"},
                {"name": "flag", "default": True, "type": "bool"},
            ],
            "invariances": ["layer", "unit"],
            "depends": [],
            "version": 1,
            "definition": "",
            "family": "other",
            "reduction": "",
            "included": "",
            "cost": "",
            "oracle": "",
            "oracle_limit": None,
            "docstring": "",
            "bibtex": "",
        }
    ]
    assert list_installed("models", cache_dir=tmp_path) == []


def test_a_catalogue_is_kept_until_a_file_changes(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert made_anew(monkeypatch, package, tmp_path)
    assert not made_anew(monkeypatch, package, tmp_path)
    inner = package / "deep" / "module.py"
    inner.parent.mkdir()
    inner.write_text("x = 1", encoding="utf-8")
    assert made_anew(monkeypatch, package, tmp_path)
    state = inner.stat()
    inner.write_text("x = 2", encoding="utf-8")
    os.utime(inner, ns=(state.st_atime_ns, state.st_mtime_ns + 1))
    assert made_anew(monkeypatch, package, tmp_path)
    inner.unlink()
    assert not made_anew(monkeypatch, package, tmp_path)  # as at first, and kept since then
    (package / "notes.txt").write_text("no module", encoding="utf-8")
    assert not made_anew(monkeypatch, package, tmp_path)


def test_a_catalogue_is_kept_for_one_version(package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert made_anew(monkeypatch, package, tmp_path)
    monkeypatch.setattr(catalog, "__version__", "99")
    assert made_anew(monkeypatch, package, tmp_path)
    assert not made_anew(monkeypatch, package, tmp_path)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"\xff\xfe", b"null", b'{"name": 1}', b"[1]", b'[{"name": "old"}, 2]', b"[" * 100_000],
    ids=["empty", "open", "no utf-8", "null", "object", "numbers", "mixed", "deep"],
)
def test_a_damaged_catalogue_is_made_anew(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    assert made_anew(monkeypatch, package, tmp_path)
    (path,) = (tmp_path / "listing").iterdir()
    path.write_bytes(content)
    assert made_anew(monkeypatch, package, tmp_path)
    assert not made_anew(monkeypatch, package, tmp_path)


def test_a_catalogue_that_cannot_be_kept_costs_only_time(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for blocked in (tmp_path / "file", tmp_path / "folder"):
        (blocked if blocked.name == "file" else blocked / "listing").parent.mkdir(exist_ok=True)
        (blocked if blocked.name == "file" else blocked / "listing").write_text("", encoding="utf-8")
        assert names(list_installed("measures", cache_dir=blocked)) == ["extra"]

    def full(*_: object, **__: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        assert names(list_installed("measures", cache_dir=tmp_path / "full")) == ["extra"]
    assert list((tmp_path / "full" / "listing").iterdir()) == []


def test_a_link_to_nowhere_among_the_sources_is_no_error(package: Path, tmp_path: Path) -> None:
    """Emacs leaves such a link, .#module.py, next to every file that is being edited."""
    (package / ".#module.py").symlink_to("user@host.123")
    assert names(list_installed("measures", cache_dir=tmp_path)) == ["extra"]


@pytest.mark.parametrize(
    "broken",
    [
        {"invariances": "raise RuntimeError('no luck')"},
        {"invariances": "return None"},
        {"first": "needed: int"},
        {"first": "odd: 'Nowhere' = 3"},
    ],
    ids=str,
)
def test_a_class_that_cannot_be_described_costs_its_own_row(
    package: Path, tmp_path: Path, broken: dict[str, str]
) -> None:
    """`sharpbench list` goes on for all others, as it does for a plugin that fails to import."""
    (package / "bad.py").write_text(source("bad", **broken), encoding="utf-8")
    with (package / "__init__.py").open("a", encoding="utf-8") as file:
        file.write("\nfrom listed_plugin.bad import Extra as Bad\nMEASURES = (Bad, Extra)\n")
    rows = list_installed("measures", cache_dir=tmp_path)
    assert [row["name"] for row in rows if row.get("title") == "an extra" and not row.get("fault")][-1] == "extra"
    assert len(rows) == 2


def test_faults_have_their_rows(package: Path, tmp_path: Path) -> None:
    (package / "__init__.py").write_text("raise RuntimeError('out of luck')", encoding="utf-8")
    assert list_installed("measures", cache_dir=tmp_path) == [
        {"kind": "measure", "name": None, "package": "listed_plugin", "fault": "RuntimeError: out of luck"}
    ]


def test_files_of_plugins_are_listed_and_not_kept(package: Path, tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(source("mine"), encoding="utf-8")
    cache = tmp_path / "cache"
    rows = list_installed("measures", plugins=[path], cache_dir=cache)
    assert names(rows) == ["extra", "mine"]
    assert rows[1]["package"] == str(path)
    assert not cache.exists()
    assert names(list_installed("measures", cache_dir=cache)) == ["extra"]


def test_a_measure_is_looked_up_by_its_word(package: Path, tmp_path: Path) -> None:
    (row,) = list_installed("measures", cache_dir=tmp_path)
    assert describe_measure("extra", cache_dir=tmp_path) == row
    given = describe_measure("extra[samples=5,flag=false]", cache_dir=tmp_path)
    assert [each["value"] for each in given["parameters"]] == [5, None, "two", False]
    assert given["invariances"] == row["invariances"]
    with pytest.raises(InvalidInput, match=r"unknown measure 'extro'; did you mean 'extra'\?"):
        describe_measure("extro", cache_dir=tmp_path)
    with pytest.raises(InvalidInput, match=r"unknown measure 'extro'; did you mean 'extra'\?"):
        describe_measure("extro[samples=5]", cache_dir=tmp_path)


def test_claims_are_those_of_the_parameters() -> None:
    assert describe_measure("minimum")["invariances"] == ["attention-rotation", "layer", "permutation"]
    assert describe_measure("minimum[scope=unit]")["invariances"] == ["layer", "permutation", "unit"]
    for row in list_installed("measures"):
        for said in ("definition", "reduction", "included", "cost", "oracle", "docstring", "bibtex"):
            assert row[said], (row["name"], said)
        assert row["bibtex"].count("{") == row["bibtex"].count("}")


@pytest.mark.parametrize("kind", KINDS)
def test_a_kept_catalogue_is_read_without_torch(kind: Kind, tmp_path: Path) -> None:
    rows = list_installed(kind, cache_dir=tmp_path)
    code = (
        "import json, sys\n"
        "from sharpbench.core.catalog import list_installed\n"
        f"rows = list_installed({kind!r}, cache_dir={str(tmp_path)!r})\n"
        "heavy = ('torch', 'numpy', 'scipy', 'pandas', 'matplotlib')\n"
        "print(json.dumps([rows, [name for name in heavy if name in sys.modules]]))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout) == [rows, []]


def test_faults_are_not_kept_as_they_may_be_mended_elsewhere(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        catalog, "available", lambda kind, plugins: Available(kind, {}, {}, (PluginFault(kind, "p", "no"),))
    )
    assert [row["fault"] for row in list_installed("measures", cache_dir=tmp_path)] == ["no"]
    monkeypatch.undo()
    assert not list((tmp_path / "listing").glob("*"))
