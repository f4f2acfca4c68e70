"""`sharpbench compare-networks`: which of several networks is flatter, on the same examples."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sharpbench.cli.command import ConfigOption, PrintConfigOption, format_options
from sharpbench.cli.exits import EXIT_FAILED, unwritable
from sharpbench.cli.network_options import NetworkOptions, with_network_options
from sharpbench.cli.options import (
    DEFAULT_MEASURES,
    WEIGHTS_HELP,
    JsonObjectOption,
    MeasuresOption,
    ProbeSeedOption,
)
from sharpbench.errors import InvalidInput, one_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sharpbench.report.network_comparison import NetworkComparison


@with_network_options
def compare_networks(
    context: typer.Context,
    weights: Annotated[list[str], typer.Argument(help=f"Two to ten networks. {WEIGHTS_HELP}")],
    model: Annotated[
        list[str],
        typer.Option(help="The architecture, as in `measure`; given once for all weights, or once for each."),
    ],
    measures: MeasuresOption = DEFAULT_MEASURES,
    *,
    network: NetworkOptions,
    groups: Annotated[int, typer.Option(help="Groups of examples that are left out in turn for the intervals.")] = 20,
    scope: Annotated[
        str, typer.Option(help="Rescalings whose share is taken out: layer, one scale per tensor, or unit.")
    ] = "layer",
    output: Annotated[
        Path | None, typer.Option(help="Markdown file of the tables and the verdict.", show_default="not written")
    ] = None,
    seed: ProbeSeedOption = 0,
    as_json: JsonObjectOption = False,
    config: ConfigOption = None,  # its callback has made its options defaults
    print_config: PrintConfigOption = False,
) -> int:
    """Compare networks on the same data: which is flatter by each measure, and what a rescaling explains.

    Differences have intervals over the examples, which all networks share. Each is found again at the networks of the
    same functions whose trace is least over rescalings. Exit status: 0 compared, 1 some measure failed, 2 bad usage or
    input.
    """
    if print_config:
        typer.echo(format_options(context))
        return 0
    from sharpbench.cli.bars import announce_step, follow_steps
    from sharpbench.report.network_comparison import NetworkComparison
    from sharpbench.runner.compare_networks import NetworkComparisonOptions, iterate_comparison
    from sharpbench.runner.plan import select_measures
    from sharpbench.runner.single_network import load_checked_subject

    options = NetworkComparisonOptions(seed=seed, groups=groups, scope=scope)  # type: ignore[arg-type]  # it checks
    chosen = select_measures(measures, network.plugins)
    subjects = {}
    for name, (word, source) in _name_networks(model, weights).items():
        evaluation = network.evaluation(word, source, seed=seed, measures=chosen)
        with announce_step(f"reading data and '{name}'"), contextlib.redirect_stdout(sys.stderr):
            subjects[name], notes = load_checked_subject(evaluation, data_dir=network.data_dir, threads=network.threads)
        for note in notes:
            typer.echo(one_line(note), err=True)
    comparison = None
    steps = iterate_comparison(chosen, subjects, options)
    with contextlib.redirect_stdout(sys.stderr):  # measures and networks may print
        for step in follow_steps(steps, lambda step: step if isinstance(step, str) else None, start="comparing"):
            if isinstance(step, NetworkComparison):
                comparison = step
    assert comparison is not None
    _show(comparison, output, as_json=as_json)
    failed = any((each.given.reason or "").startswith("failed: ") for each in comparison.differences)
    return EXIT_FAILED if failed else 0


def _name_networks(models: Sequence[str], weights: Sequence[str]) -> dict[str, tuple[str, str]]:
    """The name of each network -> its model and weights."""
    if len(models) not in (1, len(weights)):
        raise InvalidInput(
            f"{len(models)} --model and {len(weights)} weights; give --model once for all, or once for each in order"
        )
    several = models if len(models) > 1 else [*models] * len(weights)
    pairs = list(zip(several, weights, strict=True))
    names = [source if list(weights).count(source) == 1 else f"{model} {source}" for model, source in pairs]
    if len(set(names)) < len(names):
        raise InvalidInput("the same network is given twice; name different weights or models")
    return dict(zip(names, pairs, strict=True))


def _show(comparison: NetworkComparison, output: Path | None, *, as_json: bool) -> None:
    """Print the comparison, and write it where a file was named."""
    if as_json:
        typer.echo(comparison.to_json())
    else:
        from rich.console import Console

        comparison.show(Console())
    if output is not None:
        from sharpbench.files import atomic_write

        try:
            atomic_write(output, comparison.to_markdown())
        except OSError as error:
            raise unwritable(output, error) from None
        typer.echo(str(output), err=as_json)
