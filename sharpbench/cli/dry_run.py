"""What `sharpbench run --dry-run` prints: the plan, and a forecast of its time."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sharpbench.files import Workspace
    from sharpbench.runner.cell import Cell
    from sharpbench.runner.forecast import ModelForecast
    from sharpbench.runner.run import RunPlan

FORECAST_SECONDS = 40.0
"""Time in which a dry run tries out all measures on all models."""
MAX_MODEL_CHARS, MAX_NOTE_CHARS = 80, 300
MAX_LISTED_NETWORKS = 40
"""Networks of a plan that are listed one by one; a plan of more has one row per model."""


def show_plan(run_plan: RunPlan, *, full: bool) -> None:
    """Print the measures and the numbers of networks and cells: by network if `full` or few, else by model."""
    from rich.console import Console
    from rich.text import Text

    from sharpbench.cli.tables import ruled_table
    from sharpbench.core.spec import format_spec
    from sharpbench.report.format import plain_text

    listed = full or len({cell.recipe for cell in run_plan.selected}) <= MAX_LISTED_NETWORKS
    frame = run_plan.to_frame() if listed else run_plan.count_by_model()
    table = ruled_table("plan", {name: "number" if index else "text" for index, name in enumerate(frame.columns)})
    for row in frame.itertuples(index=False):
        title, *counts = map(str, row)
        table.add_row(Text(title if listed else plain_text(title, MAX_MODEL_CHARS)), *counts)
    console = Console()
    console.print(table)
    if not listed:
        console.print("every network: --full")
    console.print(
        Text("measures: " + ", ".join(dict.fromkeys(format_spec(cell.measure) for cell in run_plan.selected)))
    )
    console.print(str(run_plan))


def show_forecast(left: Sequence[Cell], workspace: Workspace) -> None:
    """Print about how long training and measuring of each model would take, and what is not included."""
    from rich.console import Console
    from rich.text import Text

    from sharpbench.cli.bars import follow_steps
    from sharpbench.cli.tables import open_table
    from sharpbench.report.format import format_duration, plain_text
    from sharpbench.runner.forecast import ForecastStarted, forecast_cells

    table = open_table(
        "forecast",
        {
            "model": "text",
            "to train": "number",
            "training, at most": "number",
            "measuring": "number",
            "outcomes": "number",
        },
    )
    notes = ["forecast: one process on this machine, from one network of each model; oracles are not included"]

    def describe(step: ForecastStarted | ModelForecast) -> str | None:
        return f"trying out {step.measure} on {step.model}" if isinstance(step, ForecastStarted) else None

    steps = forecast_cells(left, workspace, seconds=FORECAST_SECONDS)
    for step in follow_steps(steps, describe, start="timing a step of training"):
        if not isinstance(step, ForecastStarted):
            durations = map(format_duration, (step.training, step.measuring, step.judging))
            table.add_row(Text(plain_text(step.model, MAX_MODEL_CHARS)), str(step.untrained), *durations)
            notes += [f"not included: {step.model}, {label}, {reason}" for label, reason in step.unknown]
    console = Console()
    console.print(table)
    for note in notes:
        console.print(Text(plain_text(note, MAX_NOTE_CHARS)))
