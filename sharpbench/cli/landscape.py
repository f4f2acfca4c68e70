"""`sharpbench landscape`: the loss on a line or a plane through the weights of a network, as a picture."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sharpbench.cli.command import ConfigOption, PrintConfigOption, format_options
from sharpbench.cli.exits import Interrupted
from sharpbench.cli.network_options import NetworkOptions, with_network_options
from sharpbench.cli.options import OwnModelOption, SeveralWeightsOption

if TYPE_CHECKING:
    from sharpbench.core.subject import Subject
    from sharpbench.landscapes.landscape import Landscape
    from sharpbench.landscapes.options import LandscapeOptions


@with_network_options
def landscape(
    context: typer.Context,
    model: OwnModelOption,
    weights: SeveralWeightsOption = None,
    *,
    network: NetworkOptions,
    directions: Annotated[
        str,
        typer.Option(
            help="random: with filter normalisation. eigenvectors: of the largest eigenvalues of the Hessian. between: "
            "from the first of two --weights to the second. trajectory: the principal axes of three or more."
        ),
    ] = "random",
    dimensions: Annotated[int, typer.Option(help="1 for a line, 2 for a plane.")] = 2,
    points: Annotated[int, typer.Option(help="Points along each axis.")] = 51,
    span: Annotated[
        float | None,
        typer.Option(
            help="Half the length of each axis.", show_default="1; eigenvectors: where the quadratic model rises by 1"
        ),
    ] = None,
    balance: Annotated[
        str,
        typer.Option(
            help="unit or layer: draw at the network of the same function whose trace is least over rescalings of "
            "units or layers. none: at the weights as they are."
        ),
    ] = "unit",
    output: Annotated[
        Path, typer.Option(help="Folder of LANDSCAPE.md, the figure, the interactive page and the finished rows.")
    ] = Path("sharpbench-results/landscape"),
    seed: Annotated[int, typer.Option(help="Seed of random weights and of the random directions.")] = 0,
    config: ConfigOption = None,  # its callback has made its options defaults
    print_config: PrintConfigOption = False,
) -> int:
    """Draw the loss around the weights of a network, on a plane or along a line.

    Networks that differ by a rescaling of their units give the same picture. Rows are written as they come, and the
    same command resumes an interrupted one. Exit status: 0 drawn, 2 bad usage or input, 130 interrupted.
    """
    if print_config:
        typer.echo(format_options(context))
        return 0
    from rich.console import Console

    from sharpbench.landscapes.options import LandscapeOptions
    from sharpbench.landscapes.page import landscape_page, write_landscape
    from sharpbench.report.page import show_page

    options = LandscapeOptions(
        directions=directions,  # type: ignore[arg-type]  # it checks
        dimensions=dimensions,  # type: ignore[arg-type]  # it checks
        points=points,
        span=span,
        balance=balance,  # type: ignore[arg-type]  # it checks
        seed=seed,
    )
    evaluation = network.evaluation(model, tuple(weights or ("random",)), seed=seed)
    found = _draw(_name_subjects(network.load_subjects(evaluation), model), options, output)
    written = write_landscape(found, output)
    show_page(landscape_page(found), Console())
    typer.echo(", ".join(str(each) for each in written if each.suffix != ".png"))
    return 0


def _draw(subjects: dict[str, Subject], options: LandscapeOptions, output: Path) -> Landscape:
    """The landscape, with progress."""
    from sharpbench.cli.bars import follow_steps
    from sharpbench.landscapes.landscape import Landscape, iterate_landscape

    found = None
    steps = iterate_landscape(subjects, options, folder=output)
    try:
        with contextlib.redirect_stdout(sys.stderr):  # networks may print
            for step in follow_steps(steps, lambda step: step if isinstance(step, str) else None, start="starting"):
                if isinstance(step, Landscape):
                    found = step
    except KeyboardInterrupt:
        raise Interrupted from None
    assert found is not None
    return found


def _name_subjects(subjects: dict[str, Subject], model: str) -> dict[str, Subject]:
    """The subjects by the names of their files, where these differ; a single one with its model before that."""
    names = [Path(source).name for source in subjects]
    if len(names) == 1:
        names = [f"{model} at {names[0]}"]
    return dict(zip(names, subjects.values(), strict=True)) if len(set(names)) == len(names) else subjects
