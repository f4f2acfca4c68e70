"""The examples in docstrings, of public names and of all other modules, run as they are written."""

from __future__ import annotations

import doctest
import importlib
import inspect
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import sharpbench
from sharpbench import curvature, optim, symmetry

PACKAGES = {"sharpbench": sharpbench, "curvature": curvature, "optim": optim, "symmetry": symmetry}
PUBLIC = [(package, name) for package, module in PACKAGES.items() for name in module.__all__]

ROOT = Path(str(sharpbench.__file__)).parent
SLOW = ("testing.suite",)
"""Modules whose examples take seconds."""
MODULES = [
    pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name
    for path in sorted(ROOT.rglob("*.py"))
    if path.name != "__init__.py" and ">>>" in path.read_text(encoding="utf-8")
    for name in (".".join(path.relative_to(ROOT).with_suffix("").parts),)
]


def run_examples(docstring: str, names: dict[str, Any], *, where: str) -> doctest.DocTest:
    """The examples of the docstring, run with these names; its `globs` are the names afterwards."""
    test = doctest.DocTestParser().get_doctest(docstring, names, where, None, None)
    report: list[str] = []
    doctest.DocTestRunner(verbose=False).run(test, out=report.append, clear_globs=False)
    assert not report, "".join(report)
    return test


@cache
def names_of(package: str) -> dict[str, Any]:
    """What the example in the docstring of the package defines, which those of its functions use."""
    test = run_examples(PACKAGES[package].__doc__ or "", {}, where=package)
    assert test.examples
    return test.globs


@pytest.mark.parametrize(("package", "name"), PUBLIC, ids=str)
def test_examples_print_what_they_say(package: str, name: str) -> None:
    public = getattr(PACKAGES[package], name)
    if not inspect.isclass(public) and not inspect.isfunction(public):
        return
    documented = {name: inspect.getdoc(public)}
    if inspect.isclass(public):
        methods = {key: value for key, value in vars(public).items() if not key.startswith("_")}
        documented |= {f"{name}.{key}": inspect.getdoc(value) for key, value in methods.items()}
    for where, docstring in documented.items():
        test = run_examples(docstring or "", names_of(package), where=f"{package}.{where}")
        assert test.examples or inspect.isclass(public), f"{where} has no example"


@pytest.mark.parametrize("name", MODULES)
def test_examples_of_other_names_print_what_they_say(name: str) -> None:
    module = importlib.import_module(f"sharpbench.{name}")
    public = {id(getattr(PACKAGES[package], each)) for package, each in PUBLIC}
    for test in doctest.DocTestFinder(exclude_empty=True).find(module, "module"):
        owner = test.name.split(".")[1:2]
        if test.examples and not (owner and id(getattr(module, owner[0])) in public):
            run_examples(str(test.docstring), dict(test.globs), where=f"{name}, {test.name}")
