"""`sharpbench measure`: the numbers of one network."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sharpbench.cli.options import EXIT_FAILED, EXIT_INTERRUPTED, parse_dataset, parse_model
from sharpbench.errors import InvalidInput


def measure(
    model: Annotated[
        str,
        typer.Option(help="As for run; 'timm:resnet18'; or your own, 'net.py:make', which executes that file."),
    ],
    weights: Annotated[
        str,
        typer.Option(help="A safetensors or torch file, a pattern of them for a curve, 'random', or 'pretrained'."),
    ] = "random",
    measures: Annotated[str, typer.Option(help="As for run.")] = "trace,fisher-rao,normalized,minimum",
    dataset: Annotated[str, typer.Option(help="As for run; or your own, 'npz:FILE', 'imagefolder:FOLDER'.")] = "digits",
    split: Annotated[str, typer.Option(help="train or test.")] = "train",
    limit: Annotated[
        int | None, typer.Option(help="Draw so many of the examples, by --subset-seed.", show_default="all")
    ] = None,
    subset_seed: Annotated[int, typer.Option(help="Of the examples that --limit draws.")] = 0,
    classes: Annotated[
        int | None, typer.Option(help="Outputs of the network.", show_default="the classes of the data")
    ] = None,
    batch_size: Annotated[int | None, typer.Option(help="Changes no value.", show_default="chosen from memory")] = None,
    output: Annotated[Path | None, typer.Option(help="Folder of records.jsonl and the pictures.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    dtype: Annotated[str, typer.Option(help="float32 or float64.")] = "float32",
    seed: Annotated[int, typer.Option(help="Of random weights and of the random probes of measures.")] = 0,
    timing: Annotated[bool, typer.Option("--timing", help="Time every measure alone, too.")] = False,
    oracle: Annotated[bool, typer.Option("--oracle", help="Compare every measure with its oracle.")] = False,
    invariance: Annotated[
        bool, typer.Option("--invariance", help="Find out how rewrites of the same function change it.")
    ] = False,
    threads: Annotated[int | None, typer.Option(help="As for run.", show_default="all cores")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="As for run.", show_default="$SHARPBENCH_DATA")] = None,
    plugin: Annotated[list[Path] | None, typer.Option(help="As for run.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON array of records instead of tables.")] = False,
) -> int:
    """Measure one network: its numbers, what its parameters contribute, and with --output a picture.

    With a pattern of weight files, 'ckpt/*.safetensors', a curve along the training. Exit status: 0 all ok or
    skipped, 1 some measure failed, 2 bad usage or input (weights that are not finite, that do not fit), 130
    interrupted.
    """
    from sharpbench.cli.progress import follow_measurements
    from sharpbench.core.records import RECORDS
    from sharpbench.datasets.dataset import Subset
    from sharpbench.environment import resolve_device
    from sharpbench.runner.cell import Checks, EvaluationSetting
    from sharpbench.runner.plan import select_measures
    from sharpbench.runner.single_network import NetworkEvaluation, evaluate_network, group_by_weights

    inspection = NetworkEvaluation(
        model=parse_model(model, plugin or ()),
        measures=select_measures(measures, plugin or ()),
        dataset=parse_dataset(dataset, plugin or ()),
        weights=weights,
        subset=Subset(split=split, limit=limit, seed=subset_seed),  # type: ignore[arg-type]  # it checks
        classes=classes,
        batch_size=batch_size,
        setting=EvaluationSetting(
            seed=seed,
            dtype=dtype,  # type: ignore[arg-type]  # it checks
            device=resolve_device(device),
        ),
        checks=Checks(timed=timing, compared=oracle, rewritten=invariance),
    )
    try:
        records = follow_measurements(evaluate_network(inspection, output=output, data_dir=data_dir, threads=threads))
    except KeyboardInterrupt:
        typer.echo("interrupted" + ("; give the same command again to go on" if output else ""), err=True)
        return EXIT_INTERRUPTED
    from sharpbench.report import single_network

    states = group_by_weights(records)
    try:
        files = [] if output is None else [output / RECORDS, *single_network.draw_network(states, output)]
    except OSError as error:
        raise InvalidInput(f"cannot write into '{output}' ({error.strerror}); choose another --output") from None
    if as_json:
        typer.echo("[" + ",\n".join(record.to_json() for record in records) + "]")
    else:
        from rich.console import Console

        single_network.show_network(states, Console())
    if files:
        typer.echo(", ".join(map(str, files)), err=as_json)
    return EXIT_FAILED if any(record.status not in ("ok", "skipped") for record in records) else 0
