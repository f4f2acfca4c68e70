"""A benchmark harness and leaderboard suite for sharpness measures of neural networks.

>>> import torch
>>> import sharpbench
>>> model = torch.nn.Linear(3, 2, dtype=torch.float64)
>>> zeros = torch.nn.init.zeros_(model.weight), torch.nn.init.zeros_(model.bias)
>>> inputs = torch.tensor([[1.0, 2.0, 2.0]], dtype=torch.float64)
>>> subject = sharpbench.Subject.from_module(model, inputs, torch.tensor([0]))
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from sharpbench.version import __version__

if TYPE_CHECKING:
    from sharpbench import curvature as curvature
    from sharpbench import optim as optim
    from sharpbench import symmetry as symmetry
    from sharpbench.analysis.table_population import TableOptions as TableOptions
    from sharpbench.cli.progress import run_with_progress as run_with_progress
    from sharpbench.core.batch import Inputs as Inputs
    from sharpbench.core.catalog import list_measures as list_measures
    from sharpbench.core.evaluate import measure as measure
    from sharpbench.core.evaluate import measure_blocks as measure_blocks
    from sharpbench.core.fields import Scalar as Scalar
    from sharpbench.core.loss import with_class_axis as with_class_axis
    from sharpbench.core.measure import Dependence as Dependence
    from sharpbench.core.measure import Estimate as Estimate
    from sharpbench.core.measure import Invariance as Invariance
    from sharpbench.core.measure import Measure as Measure
    from sharpbench.core.measure import NotApplicable as NotApplicable
    from sharpbench.core.measure import Quantity as Quantity
    from sharpbench.core.record import Record as Record
    from sharpbench.core.records import read_records as read_records
    from sharpbench.core.subject import Params as Params
    from sharpbench.core.subject import Subject as Subject
    from sharpbench.curvature.spectrum import SpectrumOptions as SpectrumOptions
    from sharpbench.curvature.spectrum import measure_spectrum as measure_spectrum
    from sharpbench.datasets.dataset import Data as Data
    from sharpbench.datasets.dataset import Dataset as Dataset
    from sharpbench.errors import InvalidInput as InvalidInput
    from sharpbench.landscapes.landscape import measure_landscape as measure_landscape
    from sharpbench.landscapes.options import LandscapeOptions as LandscapeOptions
    from sharpbench.leaderboard.published_networks import NetworkPlace as NetworkPlace
    from sharpbench.leaderboard.published_networks import load_network as load_network
    from sharpbench.leaderboard.published_networks import load_population as load_population
    from sharpbench.models.model import Model as Model
    from sharpbench.report.scored_table import score as score
    from sharpbench.runner.cell import Cell as Cell
    from sharpbench.runner.compare_networks import NetworkComparisonOptions as NetworkComparisonOptions
    from sharpbench.runner.compare_networks import compare_networks as compare_networks
    from sharpbench.runner.foreign.plan import PopulationOptions as PopulationOptions
    from sharpbench.runner.foreign.plan import plan_population as plan_population
    from sharpbench.runner.plan import plan as plan
    from sharpbench.runner.plan_options import PlanOptions as PlanOptions
    from sharpbench.runner.run import RunOptions as RunOptions
    from sharpbench.runner.run import RunPlan as RunPlan
    from sharpbench.runner.run import plan_run as plan_run
    from sharpbench.runner.run import run as run
    from sharpbench.tracking.tracker import Tracker as Tracker
    from sharpbench.training.cohorts.cohort import Cohort as Cohort
    from sharpbench.training.optimizers.optimizer import Optimizer as Optimizer
    from sharpbench.training.recipe import Recipe as Recipe

# The module of each public name. A name is imported at its first use, so `import sharpbench` does not import torch.
# No module has the name of a public function: as an attribute of the package it would replace the function.
_HOME = {
    "Cell": "runner.cell",
    "Cohort": "training.cohorts.cohort",
    "Data": "datasets.dataset",
    "Dataset": "datasets.dataset",
    "Dependence": "core.measure",
    "Estimate": "core.measure",
    "Inputs": "core.batch",
    "InvalidInput": "errors",
    "Invariance": "core.measure",
    "LandscapeOptions": "landscapes.options",
    "Measure": "core.measure",
    "Model": "models.model",
    "NetworkComparisonOptions": "runner.compare_networks",
    "NetworkPlace": "leaderboard.published_networks",
    "NotApplicable": "core.measure",
    "Optimizer": "training.optimizers.optimizer",
    "Params": "core.subject",
    "PlanOptions": "runner.plan_options",
    "PopulationOptions": "runner.foreign.plan",
    "Quantity": "core.measure",
    "Recipe": "training.recipe",
    "Record": "core.record",
    "RunOptions": "runner.run",
    "RunPlan": "runner.run",
    "Scalar": "core.fields",
    "SpectrumOptions": "curvature.spectrum",
    "Subject": "core.subject",
    "TableOptions": "analysis.table_population",
    "Tracker": "tracking.tracker",
    "compare_networks": "runner.compare_networks",
    "list_measures": "core.catalog",
    "load_network": "leaderboard.published_networks",
    "load_population": "leaderboard.published_networks",
    "measure": "core.evaluate",
    "measure_blocks": "core.evaluate",
    "measure_landscape": "landscapes.landscape",
    "measure_spectrum": "curvature.spectrum",
    "plan": "runner.plan",
    "plan_population": "runner.foreign.plan",
    "plan_run": "runner.run",
    "read_records": "core.records",
    "run": "runner.run",
    "run_with_progress": "cli.progress",
    "score": "report.scored_table",
    "with_class_axis": "core.loss",
}
_PACKAGES = ("curvature", "optim", "symmetry")

__all__ = ["__version__", *_HOME, *_PACKAGES]


def __getattr__(name: str) -> Any:
    if name in _PACKAGES:
        return import_module(f"sharpbench.{name}")
    if name in _HOME:
        return getattr(import_module(f"sharpbench.{_HOME[name]}"), name)
    raise AttributeError(f"module 'sharpbench' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted(__all__)
