"""The public names: reached lazily, in any order, again and again, and without torch until it is needed."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import sharpbench

FUNCTIONS = (
    "compare_networks",
    "list_measures",
    "load_network",
    "load_population",
    "measure",
    "measure_blocks",
    "measure_landscape",
    "measure_spectrum",
    "plan",
    "plan_population",
    "plan_run",
    "run",
    "run_with_progress",
    "read_records",
    "score",
    "with_class_axis",
)
TYPES = (
    *("Cell", "Cohort", "Data", "Dataset", "Estimate", "Measure"),
    *("LandscapeOptions", "SpectrumOptions"),
    *("Model", "NetworkComparisonOptions", "NetworkPlace", "Optimizer", "PopulationOptions", "Recipe"),
    *("PlanOptions", "Record", "RunOptions", "RunPlan", "Subject", "TableOptions", "Tracker"),
)
ALIASES = ("Dependence", "Inputs", "Invariance", "Params", "Quantity", "Scalar")
MODULES = (
    *("core.evaluate", "core.measure", "core.record", "core.records", "core.subject", "core.catalog", "curvature"),
    *("datasets", "models", "runner.cell", "runner.plan", "runner.run", "symmetry", "training.recipe", "cli.main"),
)


def python(code: str) -> str:
    """What a fresh interpreter prints."""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_import_brings_neither_torch_nor_anything_else_that_is_heavy() -> None:
    code = (
        "import sys, json, sharpbench, sharpbench.core.measure, sharpbench.core.registry, sharpbench.core.spec\n"
        "dir(sharpbench); sharpbench.Measure; sharpbench.Estimate; sharpbench.NotApplicable; sharpbench.InvalidInput\n"
        "print(json.dumps([name for name in ('torch', 'numpy', 'scipy', 'pandas', 'matplotlib', 'rich')"
        " if name in sys.modules]))"
    )
    assert json.loads(python(code)) == []


CALL = """
import sys
subject = sharpbench.Subject.from_module(torch.nn.Linear(3, 2), torch.zeros(4, 3), torch.zeros(4).long())
for _ in range(2):
    for name in FUNCTIONS:
        assert callable(getattr(sharpbench, name)), (name, getattr(sharpbench, name))
    assert sharpbench.measure("parameter-norm", subject).value > 0
    cells = sharpbench.plan("trace", "small-mlp", cohort="label-noise[ratios=2,seeds=1,train_size=8,max_epochs=1]")
    assert len(cells) == 2
    assert list(sharpbench.run([])) == []
    try:
        sharpbench.read_records("/nowhere/at/all")
    except sharpbench.InvalidInput as error:
        assert "no records at" in str(error)
    else:
        raise AssertionError("read_records found something")
    assert callable(sharpbench.curvature.exact_traces)
    assert callable(sharpbench.symmetry.minimise)
"""
LANDSCAPE = """
sharpbench.measure_landscape(subject, sharpbench.LandscapeOptions(dimensions=1, points=3, balance="none"))
assert "matplotlib" not in sys.modules, "needed to draw, not to measure"
"""
DONE = """
assert all(callable(getattr(sharpbench, name)) for name in FUNCTIONS)
print("done")
"""


def test_functions_stay_functions_in_both_import_orders() -> None:
    """A submodule that is imported becomes an attribute of the package, and must not shadow a function."""
    names = f"FUNCTIONS = {FUNCTIONS}\nfrom sharpbench import {', '.join(FUNCTIONS)}\n"
    modules = "import sharpbench, torch\n" + "".join(f"import sharpbench.{name}\n" for name in MODULES)
    assert python(names + modules + CALL + LANDSCAPE + DONE) == "done\n"
    assert python(modules + names + CALL + DONE) == "done\n"


def test_every_name_is_listed_once_and_can_be_had_twice() -> None:
    assert len(set(sharpbench.__all__)) == len(sharpbench.__all__)
    assert dir(sharpbench) == sorted(sharpbench.__all__)
    expected = {"NotApplicable", "InvalidInput", *TYPES, *FUNCTIONS}
    assert expected | {"__version__", "curvature", "optim", "symmetry", *ALIASES} == set(sharpbench.__all__)
    for name in sharpbench.__all__:
        assert getattr(sharpbench, name) is getattr(sharpbench, name)
        if name in expected:
            assert getattr(sharpbench, name).__name__ == name


def test_an_unknown_attribute_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'sharpbench' has no attribute 'mesure'"):
        sharpbench.mesure  # noqa: B018
    with pytest.raises(ImportError, match="cannot import name 'mesure'"):
        from sharpbench import mesure  # noqa: F401
    assert not hasattr(sharpbench, "torch")


def test_invalid_input_is_an_ordinary_value_error() -> None:
    assert issubclass(sharpbench.InvalidInput, ValueError)
    assert not issubclass(sharpbench.NotApplicable, ValueError)
