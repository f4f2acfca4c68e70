"""`sharpbench measure`: measures on one network, at weights of a file."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sharpbench.cli.command import ConfigOption, PrintConfigOption, format_options
from sharpbench.cli.exits import Interrupted, records_status, unwritable
from sharpbench.cli.network_options import NetworkOptions, with_network_options
from sharpbench.cli.options import (
    DEFAULT_MEASURES,
    GroupByOption,
    MeasuresOption,
    OwnModelOption,
    SeveralWeightsOption,
)
from sharpbench.cli.streams import escape_json
from sharpbench.errors import InvalidInput, shorten
from sharpbench.report.format import format_duration

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sharpbench.core.record import Record
    from sharpbench.runner.network_table import NetworkTable
    from sharpbench.runner.single_network import EvaluationStep


@with_network_options
def measure(
    context: typer.Context,
    model: OwnModelOption,
    weights: SeveralWeightsOption = None,
    table: Annotated[
        Path | None,
        typer.Option(
            help="A table with a row per network, instead of --weights: it is written into --output with a column for "
            "each measure, for `score`.",
            show_default="none",
        ),
    ] = None,
    weights_column: Annotated[
        str | None, typer.Option(help="Column of --table that names the files of weights.", show_default="weights")
    ] = None,
    measures: MeasuresOption = DEFAULT_MEASURES,
    *,
    network: NetworkOptions,
    group_by: GroupByOption = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Examples per batch; changes no value.", show_default="chosen from memory")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="Folder of records.jsonl and the pictures.", show_default="not written")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of random weights and of the random probes of measures.")] = 0,
    timing: Annotated[bool, typer.Option("--timing", help="Also time every measure by itself.")] = False,
    oracle: Annotated[bool, typer.Option("--oracle", help="Compare every measure with its oracle.")] = False,
    invariance: Annotated[
        bool,
        typer.Option("--invariance", help="Also evaluate every measure at other weights of the same function."),
    ] = False,
    jackknife: Annotated[
        int | None,
        typer.Option(
            help="Measures that state no standard error over examples get one from N evaluations, each without one of "
            "N groups of examples.",
            metavar="N",
            show_default="none",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON array of records instead of tables.")] = False,
    config: ConfigOption = None,  # its callback has made its options defaults
    print_config: PrintConfigOption = False,
) -> int:
    """Measure one network: its values, what each parameter contributes, and with --output a picture.

    A pattern of weight files, such as 'ckpt/*.safetensors', gives a curve along the training; --table measures the
    networks of a table. Images are prepared as
    timm does it for its networks and scaled to -1..1 for others; --mean and --std, or --transform, say how the network
    was trained. Exit status: 0 all ok or skipped, 1 some measure failed, 2 bad usage or input (also weights that are
    not finite or do not fit), 130 interrupted.
    """
    if print_config:
        typer.echo(format_options(context))
        return 0
    from sharpbench.cli.bars import follow_steps
    from sharpbench.core.record import Record
    from sharpbench.core.spec import format_spec
    from sharpbench.runner.cell import Checks
    from sharpbench.runner.plan import select_measures
    from sharpbench.runner.single_network import EvaluationNote, evaluate_network

    chosen = select_measures(measures, network.plugins)
    labels = [format_spec(each) for each in chosen]
    networks = _read_networks(table, weights_column, labels, weights=weights, output=output)
    evaluation = network.evaluation(
        model,
        networks.sources if networks else tuple(weights or ("random",)),
        seed=seed,
        measures=chosen,
        batch_size=batch_size,
        checks=Checks(timed=timing, compared=oracle, rewritten=invariance, jackknife=jackknife),
        group_by=group_by,
    )
    steps = evaluate_network(
        evaluation,
        output=output,
        data_dir=network.data_dir,
        threads=network.threads,
        forecast=sys.stderr is not None and sys.stderr.isatty(),
    )
    interrupted = False
    records: list[Record] = []
    try:
        with contextlib.redirect_stdout(sys.stderr):  # measures and networks may print
            for step in follow_steps(steps, lambda step: _describe(step, labels), start="reading data and weights"):
                if isinstance(step, Record):
                    records.append(step)
                elif isinstance(step, EvaluationNote):
                    typer.echo(step.text, err=True)
    except KeyboardInterrupt:
        interrupted = True
    if records:
        _show_and_draw(records, output, as_json=as_json)
    if interrupted:
        known = "; what was measured before is shown" if records else ""
        raise Interrupted(f"{known}; give the same command again to go on" if output else known)
    if networks and table and output:
        _write_networks(networks, records, labels, output / f"{table.stem}.csv", err=as_json)
    return records_status(records)


def _read_networks(
    table: Path | None, column: str | None, labels: Sequence[str], *, weights: list[str] | None, output: Path | None
) -> NetworkTable | None:
    """The networks of --table, where it is given. Raises InvalidInput for options that do not go with it."""
    from sharpbench.runner.network_table import WEIGHTS_COLUMN, read_network_table

    if table is None:
        if column is not None:
            raise InvalidInput("--weights-column names a column of --table, which is not given")
        return None
    if weights or output is None:
        wrong = "--weights is given as well; give one of them" if weights else "--output is missing; name a folder"
        raise InvalidInput(f"--table '{shorten(str(table))}': {wrong}")
    if output.resolve() == table.parent.resolve():
        raise InvalidInput(f"--output '{output}' is the folder of the table, which would be replaced; name another")
    return read_network_table(table, column or WEIGHTS_COLUMN, labels)


def _write_networks(
    networks: NetworkTable, records: Sequence[Record], labels: Sequence[str], path: Path, *, err: bool
) -> None:
    """Write the table with the values of the measures."""
    from sharpbench.files import atomic_write
    from sharpbench.runner.network_record import group_by_weights

    try:
        atomic_write(path, networks.to_csv(group_by_weights(records), labels))
    except OSError as error:
        raise unwritable(path.parent, error) from None
    typer.echo(str(path), err=err)


def _show_and_draw(records: Sequence[Record], output: Path | None, *, as_json: bool) -> None:
    """Draw the pictures of the records into the output folder, and print the records."""
    from sharpbench.core.records import RECORDS
    from sharpbench.report import single_network
    from sharpbench.runner.network_record import group_by_weights

    states = group_by_weights(records)
    try:
        files = [] if output is None else [output / RECORDS, *single_network.draw_network(states, output)]
    except OSError as error:
        raise unwritable(output or Path(), error) from None
    if as_json:
        typer.echo("[" + ",\n".join(escape_json(record.to_json()) for record in records) + "]")
    else:
        from rich.console import Console

        single_network.show_network(states, Console())
    if files:
        typer.echo(", ".join(map(str, files)), err=as_json)


def _describe(step: EvaluationStep, labels: Sequence[str]) -> str | None:
    from sharpbench.runner.single_network import WeightsStarted

    if not isinstance(step, WeightsStarted):
        return None
    forecast = "" if step.seconds is None else f", about {format_duration(step.seconds)}"
    once = ", after the capture of the network's graph" if step.first else ""
    return (
        f"{step.measure}, {labels.index(step.measure) + 1} of {len(labels)}, at weights {step.source}{forecast}{once}"
    )
