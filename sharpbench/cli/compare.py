"""`sharpbench compare`: measures of one quantity, ours and those of other libraries, side by side."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sharpbench.cli.options import EXIT_FAILED, EXIT_INTERRUPTED
from sharpbench.errors import InvalidInput, short
from sharpbench.version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sharpbench.comparison import Measurement
    from sharpbench.comparison.benchmark import ComparisonEvent

PAGE = "COMPARISON.md"


def compare(
    quantity: Annotated[str, typer.Option(help="trace, diagonal or top-eigenvalue, of the Hessian.")] = "trace",
    models: Annotated[str, typer.Option(help="Comma-separated, as for run; or 'net.py:make'.")] = "lenet,small-cnn",
    n: Annotated[int, typer.Option("--n", help="Examples.")] = 1024,
    measures: Annotated[
        str | None,
        typer.Option(
            help="Who takes part, as for run: 'trace,trace\\[method=xtrace]'.",
            show_default="every installed measure of the quantity, in all its ways",
        ),
    ] = None,
    dataset: Annotated[str, typer.Option(help="As for run.")] = "digits",
    weights: Annotated[
        str,
        typer.Option(help="trained: on the n examples, as run trains, and kept in the cache; random; or a file."),
    ] = "trained",
    dtype: Annotated[str, typer.Option(help="float32 or float64.")] = "float32",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    threads: Annotated[int, typer.Option(help="Threads of torch, fixed and recorded.")] = 1,
    repeats: Annotated[
        int, typer.Option(help="Rounds, in which contestants take turns; from 6 on ratios have intervals.")
    ] = 7,
    batches: Annotated[str, typer.Option(help="Batch sizes of which each contestant is given its best.")] = (
        "16,64,256,1024"
    ),
    timeout: Annotated[float, typer.Option(help="Seconds that a call may take.")] = 120.0,
    seed: Annotated[int, typer.Option(help="Of random probes, of random weights and of the order of turns.")] = 0,
    output: Annotated[
        Path, typer.Option(help=f"Folder of comparison.jsonl, {PAGE} and a plot for each network.")
    ] = Path("sharpbench-results/comparison"),
    from_: Annotated[
        Path | None, typer.Option("--from", help="Measure nothing: make the page of the rows in this file.")
    ] = None,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Have those play that failed before.")] = False,
    data_dir: Annotated[Path | None, typer.Option(help="As for run.", show_default="$SHARPBENCH_DATA")] = None,
    cache_dir: Annotated[
        Path | None, typer.Option(help="As for run.", show_default="$SHARPBENCH_CACHE, else the user's cache")
    ] = None,
    plugin: Annotated[list[Path] | None, typer.Option(help="As for run.")] = None,
) -> int:
    """Set measures of one quantity side by side: what each says, what it costs, and whether it is right.

    Contestants take turns, each in a process of its own. An interrupted comparison goes on where it stopped when the
    same command is given again. Exit status: 0 all have a value or are not applicable, 1 some failed or took too
    long, 2 bad usage or input, 130 interrupted.
    """
    from sharpbench.comparison import read_measurements

    if from_ is not None:
        if not from_.is_file():
            raise InvalidInput(f"there is no file '{short(str(from_))}'; name the comparison.jsonl of a comparison")
        return _publish(list(read_measurements(from_)), output)
    from sharpbench.cli.options import parse_dataset, parse_model
    from sharpbench.comparison import Comparison, find_contestants
    from sharpbench.comparison import compare as steps_of
    from sharpbench.core.spec import split_specs
    from sharpbench.environment import resolve_device
    from sharpbench.runner.plan import select_measures

    plugins = tuple(plugin or ())
    words = split_specs(models)
    if not words:
        raise InvalidInput("no model is named; `sharpbench list models` shows them")
    comparison = Comparison(
        quantity=quantity,  # type: ignore[arg-type]  # it checks
        models=tuple(dict.fromkeys(parse_model(word, plugins) for word in words)),
        measures=find_contestants(quantity, plugins) if measures is None else select_measures(measures, plugins),
        dataset=parse_dataset(dataset, plugins),
        examples=n,
        weights=weights,
        dtype=dtype,
        device=resolve_device(device),
        threads=threads,
        repeats=repeats,
        batches=_sizes(batches),
        timeout=timeout,
        seed=seed,
    )
    steps = steps_of(
        comparison,
        output=output,
        data_dir=data_dir,
        cache_dir=cache_dir,
        plugins=plugins,
        retry_failed=retry_failed,
    )
    try:
        turns = _attended(steps)
    except KeyboardInterrupt:
        steps.close()
        typer.echo("interrupted; give the same command again to go on", err=True)
        return EXIT_INTERRUPTED
    return _publish(turns, output)


def _sizes(text: str) -> tuple[int, ...]:
    words = [word.strip() for word in text.split(",") if word.strip()]
    if not words or not all(word.isdecimal() and len(word) < 10 for word in words):
        raise InvalidInput(f"batches '{short(text)}' must be whole numbers joined by commas: 16,64,256")
    return tuple(int(word) for word in words)


def _attended(steps: Iterator[ComparisonEvent]) -> list[Measurement]:
    """The rows, with a line on stderr that says who plays."""
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    from sharpbench.comparison import ContestantStarted, Measurement

    console = Console(stderr=True)
    turns: list[Measurement] = []
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bar:
        task = bar.add_task("reading data and weights", total=None)
        for step in steps:
            if isinstance(step, Measurement):
                turns.append(step)
            elif isinstance(step, ContestantStarted):
                bar.update(task, description=escape(f"{step.network}: {step.contestant}, {step.step}"))
            else:
                words = f"training {step.recipe.title}: epoch {step.epoch.number}, loss {step.epoch.loss:.3f}"
                bar.update(task, description=escape(words))
    return turns


def _publish(turns: Sequence[Measurement], output: Path) -> int:
    """Show and write the page; the exit status."""
    from rich.console import Console

    from sharpbench.comparison.page import command_line, comparison_page
    from sharpbench.comparison.results import network_results
    from sharpbench.report.page import show_page, write_page

    if not turns:
        raise InvalidInput("there are no rows of a comparison; give the file of one, or leave --from out")
    made = comparison_page(turns)
    show_page(made, Console())
    written = write_page(made, output, name=PAGE, version=__version__, command=command_line(turns))
    typer.echo(", ".join(str(path) for path in written if path.suffix != ".png"))
    bad = [status for each in network_results(turns) for _, status, _ in each.failures if status != "skipped"]
    return EXIT_FAILED if bad else 0
