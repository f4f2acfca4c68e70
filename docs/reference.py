"""A hook of mkdocs: the reference of the command line from typer, and of the public names from their docstrings."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from rich.text import Text

import sharpbench
from sharpbench.cli.app import app
from sharpbench.report.escape import escape_cell, markdown_table

COMMANDS, NAMES = "reference/cli.md", "reference/api.md"
MAX_HELP_CHARS = 600
TOPICS = {
    "Measure a network": ("Subject", "measure", "measure_blocks", "Estimate", "list_measures", "with_class_axis"),
    "Write a measure": ("Measure", "NotApplicable"),
    "Train and measure populations": (
        *("Recipe", "Model", "Dataset", "Data", "Optimizer", "Cohort", "Cell", "plan", "PlanOptions", "run"),
        *("RunOptions", "run_with_progress", "plan_run", "RunPlan"),
        *("Record", "read_records"),
    ),
    "Networks of your own": (
        *("plan_population", "PopulationOptions", "score", "TableOptions"),
        *("compare_networks", "NetworkComparisonOptions", "Tracker"),
    ),
    "Published networks": ("load_network", "load_population", "NetworkPlace"),
    "Spectra and landscapes": ("measure_spectrum", "SpectrumOptions", "measure_landscape", "LandscapeOptions"),
    "Errors": ("InvalidInput",),
}
"""The classes and functions of `import sharpbench` by topic; names that are missing here are listed last."""
PACKAGES = ("sharpbench.optim", "sharpbench.symmetry", "sharpbench.curvature")
ALIASES = ("Dependence", "Inputs", "Invariance", "Params", "Quantity", "Scalar")
"""Types without a docstring, which the signatures explain."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Both pages, made while the site is built: they are never out of date."""
    files.append(File.generated(config, COMMANDS, content=describe_commands()))
    files.append(File.generated(config, NAMES, content=describe_names()))
    return files


def describe_commands() -> str:
    """The page of all commands with their arguments, options and defaults."""
    group = typer.main.get_command(app)
    words = (
        "Every command with its options, from the program itself: `sharpbench COMMAND --help`. "
        "[The command line](../docs/cli.md) explains them with examples."
    )
    return "\n\n".join(["# Commands and options", words, *_describe_group(group, "sharpbench")]) + "\n"


def _describe_group(group: Any, path: str) -> Iterator[str]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _describe_group(command, f"{path} {name}")
            continue
        yield f"## {path.partition(' ')[2]} {name}".replace("  ", " ")
        yield str(escape_cell(_plain(command.help), 2000))
        rows = [_describe_parameter(each) for each in command.params if not getattr(each, "hidden", False)]
        yield str(markdown_table(["option", "default", "what it does"], rows, right=set()))


def _describe_parameter(each: Any) -> list[str]:
    names = (*each.opts, *each.secondary_opts)
    if each.param_type_name != "option":
        names = (each.metavar or each.name.upper(),)
    words = each.default if isinstance(each.show_default, bool | None) else each.show_default
    unset = words is None or words is False or callable(words) or type(words).__name__ == "Sentinel" or words == ""
    default = "" if unset else str(escape_cell(str(words)))
    return [", ".join(f"`{name}`" for name in names), default, str(escape_cell(_plain(each.help), MAX_HELP_CHARS))]


def _plain(text: str | None) -> str:
    """Help without the marks of rich, on one line."""
    return re.sub(r"\s+", " ", Text.from_markup(text or "").plain).strip()


def describe_names() -> str:
    """The page of all public names, each a directive for mkdocstrings."""
    known = {name for topic in TOPICS.values() for name in topic} | set(ALIASES)
    others = tuple(name for name in sharpbench._HOME if name not in known)
    parts = ["# Python reference", "What `import sharpbench` offers, from the docstrings."]
    for topic, names in {**TOPICS, "Others": others}.items():
        if names:
            parts += [
                f"## {topic}",
                *(_directive(f"sharpbench.{sharpbench._HOME[name]}.{name}", name) for name in names),
            ]
    for package in PACKAGES:
        parts += [f"## {package}", _directive(package, package, members=True)]
    return "\n\n".join(parts) + "\n"


def _directive(path: str, heading: str, *, members: bool = False) -> str:
    options = [f"heading: {heading}", f"toc_label: {heading}", "heading_level: 3"]
    options += ["show_root_heading: false", "show_root_toc_entry: false"] if members else []
    return f"::: {path}\n    options:\n" + "\n".join(f"      {line}" for line in options)
