"""What is installed, and what a broken plugin costs."""

from __future__ import annotations

import importlib
import importlib.metadata
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest

from sharpbench.core import installed_plugins, registry
from sharpbench.core.catalog import list_installed
from sharpbench.core.installed_plugins import KINDS, InstalledPlugins, Kind, PluginPoint
from sharpbench.core.measure import Measure
from sharpbench.core.registry import available
from sharpbench.errors import InvalidInput

GOOD = """
from dataclasses import dataclass
from sharpbench import Estimate, Measure

@dataclass(frozen=True)
class Extra(Measure):
    name, title, source = "{name}", "an extra", "tests"
    def __call__(self, subject, *, generator): return Estimate(1.0)
    def exact(self, subject): return None
    def invariances(self): return frozenset()

MEASURES = (Extra,)
"""


class Point:
    """A package that offers a module, or whose import raises."""

    def __init__(self, package: str, module: ModuleType | Exception) -> None:
        self.name, self.module = package, module

    def load(self) -> ModuleType:
        if isinstance(self.module, Exception):
            raise self.module
        return self.module


class Importable(Point):
    """A package that is imported by its name."""

    def load(self) -> ModuleType:
        return importlib.import_module(self.name)


def install(monkeypatch: pytest.MonkeyPatch, *points: Point) -> None:
    found = tuple(PluginPoint(point.name, "1", point.name, point.name, point.load) for point in points)
    points = {kind: found if kind == "measures" else () for kind in KINDS}
    monkeypatch.setattr(installed_plugins, "_read", lambda state: InstalledPlugins(points, {}))


def module(**attributes: object) -> ModuleType:
    made = ModuleType("plugin")
    made.__dict__.update(attributes)
    return made


def test_the_built_in_ones_come_in_by_the_same_door() -> None:
    for kind in KINDS:
        offered = available(kind)
        assert offered.faults == ()
        assert set(offered.packages.values()) == {"sharpbench"}
    assert {"trace", "fisher-rao", "normalized", "minimum"} <= set(available("measures").classes)
    assert all(issubclass(cls, Measure) for cls in available("measures").classes.values())


def test_a_name_offered_twice_names_both_packages(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    measures = tuple(available("measures").classes.values())
    install(monkeypatch, Point("one", module(MEASURES=measures[:1])), Point("two", module(MEASURES=measures[:1])))
    with pytest.raises(
        InvalidInput, match=r"measure 'trace' is offered by both 'one' and 'two'; uninstall one of them"
    ):
        available("measures")


def test_broken_plugins_are_faults_and_break_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    good = next(iter(available("measures").classes.values()))
    install(
        monkeypatch,
        Point("good", module(MEASURES=(good,))),
        Point("raises", ImportError("no such thing")),
        Point("empty", module()),
        Point("odd", module(MEASURES=(3, Measure, type("Mutable", (), {"name": "m"})))),
    )
    offered = available("measures")
    assert list(offered.classes) == [good.name]
    causes = {(fault.package, fault.cause) for fault in offered.faults}
    assert ("raises", "ImportError: no such thing") in causes
    assert ("empty", "module empty has no MEASURES") in causes
    assert any(package == "odd" and "is not a frozen dataclass" in cause for package, cause in causes)
    assert any(package == "odd" and "does not define" in cause for package, cause in causes)


@pytest.mark.parametrize("name", ["Upper", "has space", "../path", "", "x" * 3 + "]"])
def test_names_are_plain(name: str, tmp_path: Path) -> None:
    path = tmp_path / "plugin.py"
    path.write_text(GOOD.format(name=name), encoding="utf-8")
    with pytest.raises(InvalidInput, match="names are lower-case letters, digits and hyphens"):
        available("measures", [path])


def test_a_file_adds_its_measures_to_every_kind_once(tmp_path: Path) -> None:
    path = tmp_path / "plugin.py"
    path.write_text(GOOD.format(name="extra"), encoding="utf-8")
    assert available("measures", [path]).classes["extra"] is available("measures", [path]).classes["extra"]
    assert "extra" not in available("models", [path]).classes
    assert "extra" not in available("measures").classes


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("def (", "fails to import: SyntaxError"),
        ("raise RuntimeError('no')", "fails to import: RuntimeError: no"),
        ("x = 1", "has none of MEASURES, MODELS, DATASETS, OPTIMIZERS, COHORTS"),
        (GOOD.format(name="trace"), "offered by both 'sharpbench' and"),
    ],
)
def test_bad_files_get_one_line(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "plugin.py"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(InvalidInput, match=message):
        available("measures", [path])


def test_missing_files_get_one_line(tmp_path: Path) -> None:
    for path in (tmp_path / "none.py", tmp_path):
        with pytest.raises(InvalidInput, match="is not a file; name a Python file"):
            available("measures", [path])
    (tmp_path / "plugin.txt").write_text("x = 1", encoding="utf-8")
    with pytest.raises(InvalidInput, match=r"is not a Python file; its name must end in \.py"):
        available("measures", [tmp_path / "plugin.txt"])


def test_a_listing_is_kept_until_something_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "kept_plugin.py"
    source.write_text(GOOD.format(name="first"), encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    install(monkeypatch, Importable("kept_plugin", module()))
    assert [row["name"] for row in list_installed("measures", cache_dir=tmp_path)] == ["first"]

    def refuse(*_: object) -> None:
        raise AssertionError("imported although nothing has changed")

    with monkeypatch.context() as patch:
        patch.setattr("sharpbench.core.catalog.available", refuse)
        assert [row["name"] for row in list_installed("measures", cache_dir=tmp_path)] == ["first"]
    del sys.modules["kept_plugin"]
    source.write_text(GOOD.format(name="second-one"), encoding="utf-8")
    assert [row["name"] for row in list_installed("measures", cache_dir=tmp_path)] == ["second-one"]
    for path in (tmp_path / "listing").iterdir():
        path.write_text("[1]", encoding="utf-8")
    assert [row["name"] for row in list_installed("measures", cache_dir=tmp_path)] == ["second-one"]
    row = list_installed("measures", cache_dir=tmp_path)[0]
    assert (row["kind"], row["parameters"], row["invariances"]) == ("measure", [], [])
    del sys.modules["kept_plugin"]


def test_a_folder_that_cannot_be_written_costs_only_time(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    assert [row["name"] for row in list_installed("models", cache_dir=tmp_path / "file")][:2] == ["mlp", "lenet"]


def test_packages_without_a_distribution_are_named_by_their_module() -> None:
    point = importlib.metadata.EntryPoint("kept", "some.module", "sharpbench.measures")
    assert [each.package for each in installed_plugins._sorted_points([point])] == ["some.module"]


@pytest.mark.parametrize("offer", ["Extra", "None", "3", "()", "'text'"])
def test_an_offer_that_is_no_tuple_of_classes_is_a_fault(
    offer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MEASURES = (Extra) lacks its comma: the easiest mistake there is, and it must not break what else is there."""
    made = module()
    exec(GOOD.format(name="extra").replace("(Extra,)", offer), made.__dict__)
    good = available("measures").classes["trace"]
    install(monkeypatch, Point("odd", made), Point("right", module(MEASURES=(good,))))
    offered = available("measures")
    assert list(offered.classes) == ["trace"]
    cause = f"MEASURES is {offer}, not a tuple of classes; write MEASURES = (YourClass,)"
    expected = [] if offer == "()" else [("odd", cause)]
    assert [(fault.package, fault.cause) for fault in offered.faults] == expected
    path = tmp_path / "plugin.py"
    path.write_text(GOOD.format(name="extra").replace("(Extra,)", offer), encoding="utf-8")
    if expected:
        with pytest.raises(InvalidInput, match=r"plugin\.py: MEASURES is .*, not a tuple of classes"):
            available("measures", [path])
    else:
        assert available("measures", [path]).faults == ()


def test_a_plugin_that_leaves_python_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """A script that is imported and calls sys.exit() must not end `sharpbench list` in silence."""

    class Leaves(Point):
        def load(self) -> ModuleType:
            raise SystemExit(3)

    install(monkeypatch, Leaves("leaves", module()))
    assert [fault.package for fault in available("measures").faults] == ["leaves"]


def test_only_measures_are_measures(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model under MEASURES is found out when it is offered, not in the middle of a run."""
    model = available("models").classes["mlp"]
    install(monkeypatch, Point("mixed", module(MEASURES=(model,))))
    offered = available("measures")
    assert offered.classes == {}
    assert [(fault.package, fault.cause) for fault in offered.faults] == [
        ("mixed", "Mlp is not a measure; inherit from sharpbench.Measure")
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_told_from_the_others(kind: Kind, tmp_path: Path) -> None:
    path = tmp_path / "plugin.py"
    other = KINDS[KINDS.index(kind) - 1]
    offer = f"{kind.upper()} = tuple(available('{other}').classes.values())"
    source = f"from sharpbench.core.registry import available\n{offer}"
    path.write_text(source, encoding="utf-8")
    with pytest.raises(InvalidInput, match=rf"is not an? {kind[:-1]}; inherit from sharpbench\."):
        available(kind, [path])
    package, _, name = registry.PUBLIC_CLASSES[kind].rpartition(".")
    assert isinstance(getattr(importlib.import_module(package), name), type)


def test_the_cause_of_a_fault_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, Point("raises", ImportError("two\nlines\x1b[31m")))
    assert [fault.cause for fault in available("measures").faults] == [r"ImportError: two lines\x1b[31m"]


@pytest.mark.parametrize("attribute", ["name", "title", "source"])
def test_what_a_class_must_say_is_named_where_it_is_missing(attribute: str, tmp_path: Path) -> None:
    said = {"name": "extra", "title": "an extra", "source": "tests"}
    del said[attribute]
    lines = "\n    ".join(f"{key} = {value!r}" for key, value in said.items())
    path = tmp_path / "plugin.py"
    path.write_text(GOOD.replace('name, title, source = "{name}", "an extra", "tests"', lines), encoding="utf-8")
    with pytest.raises(InvalidInput, match=rf"plugin\.py: Extra has no {attribute}$"):
        available("measures", [path])


def test_a_class_without_a_fault_is_checked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    found = list(available("measures").classes)
    monkeypatch.setattr(registry, "is_dataclass", lambda cls: pytest.fail(f"{cls} is checked again"))
    assert list(available("measures").classes) == found


def test_offers_are_judged_again_when_they_change(monkeypatch: pytest.MonkeyPatch) -> None:
    known = available("measures").classes
    first, second = known["trace"], known["minimum"]
    offered, listed = module(MEASURES=(first,)), module(MEASURES=[])
    install(monkeypatch, Point("one", offered))
    assert list(available("measures").classes) == ["trace"]
    with monkeypatch.context() as patch:
        patch.setattr(registry, "_usable_classes", lambda kind, module: pytest.fail("judged again"))
        found = available("measures")
        found.classes.clear()  # the caller's own
        assert available("measures").packages == {"trace": "one"}
        assert list(available("measures").classes) == ["trace"]
    offered.MEASURES = (second,)  # as a module that is reloaded
    assert list(available("measures").classes) == ["minimum"]
    install(monkeypatch, Point("two", listed))
    assert available("measures").classes == {}
    listed.MEASURES.append(first)
    assert available("measures").packages == {"trace": "two"}


def test_what_can_change_is_not_offered(monkeypatch: pytest.MonkeyPatch) -> None:
    @dataclass
    class Loose:
        name, title, source = "loose", "t", "s"

    good = available("measures").classes["trace"]
    install(monkeypatch, Point("mixed", module(MEASURES=(Loose, good))))
    offered = available("measures")
    assert [fault.cause for fault in offered.faults] == ["Loose is not a frozen dataclass"]
    assert list(offered.classes) == ["trace"]


@pytest.mark.parametrize("content", ["x = 1", "raise RuntimeError('no')", "MEASURES = 3", "MODELS = (3,)"])
def test_a_file_that_was_refused_is_refused_again(tmp_path: Path, content: str) -> None:
    """The command requests four kinds one after the other: the second must not take what the first refused."""
    path = tmp_path / "plugin.py"
    path.write_text(content, encoding="utf-8")
    messages = []
    for _ in range(2):
        with pytest.raises(InvalidInput, match=r"plugin\.py") as raised:
            available("measures", [path])
        messages.append(str(raised.value))
    assert messages[0] == messages[1]
    path.write_text(GOOD.format(name="extra") + "# mended", encoding="utf-8")
    assert "extra" in available("measures", [path]).classes


@pytest.mark.parametrize("content", [b"raise RuntimeError('two' + chr(10) + 'lines')", b"\xff\xfe", b"\x00"])
def test_every_refusal_is_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "plugin.py"
    path.write_bytes(content)
    with pytest.raises(InvalidInput, match="fails to import") as raised:
        available("measures", [path])
    assert "\n" not in str(raised.value)


def test_our_own_come_first_and_the_rest_by_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("zeta", "alpha", "tail"):
        install_package(tmp_path, name, f"[sharpbench.measures]\nx = {name}\n")
    monkeypatch.syspath_prepend(tmp_path)
    found = dict.fromkeys(point.package for point in installed_plugins.installed_plugins().points["measures"])
    assert list(found) == ["sharpbench", "alpha", "tail", "zeta"]


def test_packages_are_read_once_and_again_when_one_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call of `measure` must not read the metadata of everything; a plugin may come while a notebook runs."""
    monkeypatch.syspath_prepend(tmp_path)
    before = installed_plugins.installed_plugins()
    with monkeypatch.context() as patch:
        patch.delattr(importlib.metadata, "entry_points")
        (tmp_path / "results.txt").write_text("", encoding="utf-8")  # as scripts write next to themselves
        assert installed_plugins.installed_plugins() is before
        available("measures")
    (tmp_path / "late.py").write_text(GOOD.format(name="late"), encoding="utf-8")
    install_package(tmp_path, "late", "[sharpbench.measures]\nx = late\n")
    assert available("measures").packages["late"] == "late"
    (tmp_path / "late-1.0.dist-info").rename(tmp_path / "removed")
    assert "late" not in available("measures").classes
    del sys.modules["late"]


def install_package(folder: Path, package: str, entry_points: str) -> None:
    """Install a package's metadata as pip does, with this entry_points.txt."""
    place = folder / f"{package}-1.0.dist-info"
    place.mkdir()
    (place / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n", encoding="utf-8")
    (place / "entry_points.txt").write_text(entry_points, encoding="utf-8")


def test_a_malformed_package_does_not_affect_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = available("measures")
    install_package(tmp_path, "torn", "[sharpbench.measures]\nx = \n[sharpbench.measures\n=\n")
    install_package(tmp_path, "strange", "x = \n[other.group\n=\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(Exception, match=r".*"):  # the kind depends on the version of Python
        importlib.metadata.entry_points(group="sharpbench.measures")
    found = available("measures")
    assert found.classes == before.classes
    assert [fault.package for fault in found.faults] == ["torn"]
    assert "entry_points.txt cannot be read" in found.faults[0].cause
    rows = list_installed("measures", cache_dir=tmp_path)
    assert [row["package"] for row in rows if row["name"] is None] == ["torn"]


def test_a_file_that_is_named_twice_is_one_plugin(tmp_path: Path) -> None:
    path = tmp_path / "plugin.py"
    path.write_text(GOOD.format(name="extra"), encoding="utf-8")
    found = available("measures", [path, tmp_path / "." / "plugin.py"])
    assert found.packages["extra"] == str(path)
