"""`sharpbench score`: the board of networks that were trained elsewhere, from a table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sharpbench.cli.boards import write_boards
from sharpbench.cli.options import FullOption

NAMES_HELP = "Comma-separated; quote a name that contains a comma, as in CSV."


def score(
    table: Annotated[Path, typer.Argument(help="CSV, JSON lines or Parquet with one row per network.")],
    outcome: Annotated[
        str,
        typer.Option(help="Column of the generalization gap, or 'train_accuracy - test_accuracy' of two columns."),
    ] = "gap",
    by: Annotated[str, typer.Option(help=f"Columns of the hyperparameters. {NAMES_HELP}", show_default="none")] = "",
    seed: Annotated[
        str | None,
        typer.Option(
            help="Column that distinguishes networks of equal hyperparameters.",
            show_default="seed, else the order of the rows",
        ),
    ] = None,
    measures: Annotated[
        str | None,
        typer.Option(help="Columns of the measures.", show_default="all numbers that are not named otherwise"),
    ] = None,
    descending: Annotated[
        str,
        typer.Option(help="Measures that fall as the gap rises; scored with the opposite sign.", show_default="none"),
    ] = "",
    ignore: Annotated[str, typer.Option(help="Columns that are not measures.", show_default="none")] = "",
    design: Annotated[
        str, typer.Option(help="How hyperparameters were chosen: designed (all of a grid) or random.")
    ] = "designed",
    test_examples: Annotated[
        int | None,
        typer.Option(help="Number of test examples behind the accuracies.", show_default="none: no sign errors"),
    ] = None,
    model: Annotated[str, typer.Option(help="Name of the networks in headings.")] = "networks",
    dataset: Annotated[
        str | None, typer.Option(help="Name of the data set in headings.", show_default="the name of the file")
    ] = None,
    compare: Annotated[
        list[str] | None,
        typer.Option(help="Two measures, 'trace,margin', to compare on the same networks. May be repeated."),
    ] = None,
    output: Annotated[Path, typer.Option(help="Folder of LEADERBOARD.md, leaderboard.json and plots.")] = Path(
        "sharpbench-results/score"
    ),
    full: FullOption = False,
) -> int:
    """Score measures of networks that were trained elsewhere: the board of `run`, from a table.

    Exit status: 0 scored, 2 bad usage or a table that cannot be scored.
    """
    from sharpbench.analysis.table import read_table
    from sharpbench.analysis.table_population import TableColumns, TableOptions, make_population
    from sharpbench.errors import InvalidInput, shorten
    from sharpbench.report.format import plain_text
    from sharpbench.report.scored_table import score_table_population

    pairs = [_split_names(text) for text in compare or ()]
    for pair, text in zip(pairs, compare or (), strict=True):
        if len(pair) != 2:
            raise InvalidInput(
                f"--compare '{shorten(text)}' names {len(pair)} measures; name two, separated by a comma"
            )
    columns = TableColumns(
        outcome=outcome,
        by=_split_names(by),
        seed=seed,
        measures=None if measures is None else _split_names(measures),
    )
    options = TableOptions(
        descending=_split_names(descending),
        ignore=_split_names(ignore),
        design=design,  # type: ignore[arg-type]  # the options check it
        test_examples=test_examples,
        model=model,
        dataset=dataset,
    )
    from sharpbench.cli.bars import announce_step

    with announce_step(f"scoring the measures of '{table}'"):
        scored = score_table_population(make_population(read_table(table), columns, options))
        comparisons = [scored.compare(*pair) for pair in pairs]
    write_boards(scored.boards, output, full=full)
    for comparison in comparisons:
        typer.echo(str(comparison))
    if scored.unused:
        typer.echo(f"columns not used: {', '.join(plain_text(name, 40) for name in scored.unused[:10])}")
    return 0


def _split_names(text: str) -> list[str]:
    """The names of a comma-separated list, which may be quoted as in CSV."""
    import csv

    return [name.strip() for line in csv.reader([text], skipinitialspace=True) for name in line if name.strip()]
