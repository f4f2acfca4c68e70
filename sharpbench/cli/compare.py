"""`sharpbench compare`: measures of one quantity, ours and other libraries', side by side."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sharpbench.cli.command import ConfigOption, PrintConfigOption, format_options
from sharpbench.cli.exits import Interrupted, failure_status
from sharpbench.cli.options import (
    MEASURES_HELP,
    THREADS_HELP,
    CacheDirOption,
    DataDirOption,
    DeviceOption,
    DtypeOption,
    MeanOption,
    OwnDatasetOption,
    PluginOption,
    StdOption,
    TransformOption,
    parse_preparation,
)
from sharpbench.errors import InvalidInput, shorten
from sharpbench.version import __version__

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sharpbench.comparison import Measurement
    from sharpbench.comparison.benchmark import ComparisonEvent

PAGE = "COMPARISON.md"


def compare(
    context: typer.Context,
    quantity: Annotated[str, typer.Option(help="trace, diagonal or top-eigenvalue, of the Hessian.")] = "trace",
    models: Annotated[
        str, typer.Option(help="Comma-separated, from `list models`; or your own, 'net.py:make'.")
    ] = "lenet,small-cnn",
    n: Annotated[int, typer.Option("--n", help="Number of examples.")] = 1024,
    measures: Annotated[
        str | None,
        typer.Option(help=MEASURES_HELP, show_default="every installed measure of the quantity, by each method"),
    ] = None,
    dataset: OwnDatasetOption = "digits",
    weights: Annotated[
        str,
        typer.Option(help="trained (on the n examples, as run trains, kept in the cache), random, or a file."),
    ] = "trained",
    mean: MeanOption = None,
    std: StdOption = None,
    transform: TransformOption = None,
    dtype: DtypeOption = "float32",
    device: DeviceOption = "auto",
    threads: Annotated[int, typer.Option(help=THREADS_HELP)] = 1,
    repeats: Annotated[
        int, typer.Option(help="Rounds in which contestants take turns; ratios have intervals from 6 on.")
    ] = 7,
    batches: Annotated[
        str, typer.Option(help="Batch sizes to try; each contestant is measured at its best.")
    ] = "16,64,256,1024",
    timeout: Annotated[float, typer.Option(help="Seconds that a call may take.")] = 120.0,
    seed: Annotated[int, typer.Option(help="Seed of random probes, of random weights and of the order of turns.")] = 0,
    output: Annotated[
        Path, typer.Option(help=f"Folder of comparison.jsonl, {PAGE} and a plot for each network.")
    ] = Path("sharpbench-results/comparison"),
    from_: Annotated[
        Path | None,
        typer.Option("--from", help="Measure nothing; make the page from the rows in this file.", show_default="none"),
    ] = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Measure contestants again that failed in an earlier comparison.")
    ] = False,
    data_dir: DataDirOption = None,
    cache_dir: CacheDirOption = None,
    plugin: PluginOption = None,
    config: ConfigOption = None,  # its callback has made its options defaults
    print_config: PrintConfigOption = False,
) -> int:
    """Compare measures of one quantity, ours and other libraries': their values, errors and costs.

    Contestants take turns, each in its own process. Give the same command again to continue an interrupted comparison.
    Exit status: 0 all have a value or are not applicable, 1 some failed or took too long, 2 bad usage or input,
    130 interrupted.
    """
    if print_config:
        typer.echo(format_options(context))
        return 0
    from sharpbench.comparison import read_measurements

    if from_ is not None:
        if not from_.is_file():
            raise InvalidInput(f"there is no file '{shorten(str(from_))}'; name the comparison.jsonl of a comparison")
        rows = list(read_measurements(from_))
        if not rows:
            raise InvalidInput(
                f"there are no rows of a comparison in '{shorten(str(from_))}'; name another file, or leave --from out"
            )
        return _show_and_write(rows, output)
    from sharpbench.cli.bars import announce_step, follow_steps

    with announce_step("planning"):
        from sharpbench.comparison import Comparison, Measurement, find_contestants
        from sharpbench.comparison import compare as steps_of
        from sharpbench.core.spec import ALL, split_specs
        from sharpbench.environment import resolve_device
        from sharpbench.runner.named_parts import parse_dataset, parse_model
        from sharpbench.runner.plan import select_measures

        plugins = tuple(plugin or ())
        words = split_specs(models)
        if not words:
            raise InvalidInput(f"--models '{shorten(models)}' names no model; `sharpbench list models` shows them")
        comparison = Comparison(
            quantity=quantity,  # type: ignore[arg-type]  # it checks
            models=tuple(dict.fromkeys(parse_model(word, plugins) for word in words)),
            measures=find_contestants(quantity, plugins)
            if measures in (None, ALL)
            else select_measures(measures, plugins),
            dataset=parse_dataset(dataset, plugins),
            examples=n,
            weights=weights,
            preparation=parse_preparation(mean, std, transform),
            dtype=dtype,
            device=resolve_device(device),
            threads=threads,
            repeats=repeats,
            batches=parse_batch_sizes(batches),
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
        following = follow_steps(steps, _describe, start="reading data and weights")
        rows = [step for step in following if isinstance(step, Measurement)]
    except KeyboardInterrupt:
        steps.close()
        raise Interrupted() from None
    return _show_and_write(rows, output)


def parse_batch_sizes(text: str) -> tuple[int, ...]:
    """The numbers in '16,64,256'. Raises InvalidInput for anything else."""
    words = [word.strip() for word in text.split(",") if word.strip()]
    if not words or not all(word.isdecimal() and len(word) < 10 for word in words):
        raise InvalidInput(f"batches '{shorten(text)}' must be whole numbers joined by commas: 16,64,256")
    return tuple(int(word) for word in words)


def _describe(step: ComparisonEvent) -> str | None:
    from sharpbench.cli.progress import describe_training
    from sharpbench.comparison import ContestantStarted, Measurement

    if isinstance(step, ContestantStarted):
        return f"{step.network}: {step.contestant}, {step.step}"
    return None if isinstance(step, Measurement) else describe_training(step)


def _show_and_write(rows: Sequence[Measurement], output: Path) -> int:
    """Write the page into the output folder and print it; the exit status."""
    from rich.console import Console

    from sharpbench.comparison.page import command_line, comparison_page
    from sharpbench.comparison.results import network_results
    from sharpbench.report.page import show_page, write_page

    page = comparison_page(rows)
    written = write_page(page, output, name=PAGE, version=__version__, command=command_line(rows))
    show_page(page, Console())
    typer.echo(", ".join(str(path) for path in written if path.suffix != ".png"))
    return failure_status(status for each in network_results(rows) for _, status, _ in each.failures)
