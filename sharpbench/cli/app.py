"""The commands of `sharpbench`, each a module of this package, and how their usage errors read."""

from __future__ import annotations

import functools
from typing import Annotated, Any

import typer
from typer.main import get_command

from sharpbench.cli.command import Command, Group, checking_paths
from sharpbench.cli.compare import compare
from sharpbench.cli.compare_networks import compare_networks
from sharpbench.cli.doctor import doctor
from sharpbench.cli.export import export
from sharpbench.cli.landscape import landscape
from sharpbench.cli.list import docs, info, list_
from sharpbench.cli.measure import measure
from sharpbench.cli.publish import publish
from sharpbench.cli.replay import replay
from sharpbench.cli.run import run
from sharpbench.cli.score import score
from sharpbench.cli.spectrum import spectrum
from sharpbench.cli.status import merge, status
from sharpbench.cli.submit import submit
from sharpbench.cli.symmetry import symmetry
from sharpbench.cli.track_report import track_report
from sharpbench.cli.train import train
from sharpbench.cli.validate import validate
from sharpbench.cli.verify import verify
from sharpbench.cli.zoo import app as zoo
from sharpbench.errors import one_line, shorten
from sharpbench.version import __version__

USAGE_ERROR: Any = typer.BadParameter.__mro__[1]  # click's UsageError, which typer does not export

app = typer.Typer(
    name="sharpbench",
    cls=Group,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def usage_message(error: Any) -> str:
    """One line of a usage error: the option, its value, what is expected, and where the options are listed.

    It is empty where no subcommand was given, as the help has then been printed.
    """
    message = one_line(error.format_message()).rstrip(".")
    inputs = error.__cause__.errors() if hasattr(error.__cause__, "errors") else []  # pydantic's, in newer typer
    if inputs:
        message = message.replace("Invalid value for", f"Invalid value '{shorten(str(inputs[0]['input']))}' for", 1)
    hint = "" if error.ctx is None or message.endswith("?") else f"; see `{error.ctx.command_path} --help`"
    return message + hint if message else ""


def _print_version(requested: bool) -> None:
    if requested:
        typer.echo(f"sharpbench {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Benchmark sharpness measures of neural networks: speed, exactness, invariance, correlation with generalization.

    Start with  [bold]sharpbench run --measures minimum,normalized --models lenet,mlp[/bold]  (digits, no download).
    """


for name, function in (
    ("run", run),
    ("status", status),
    ("merge", merge),
    ("export", export),
    ("score", score),
    ("train", train),
    ("measure", measure),
    ("compare-networks", compare_networks),
    ("landscape", landscape),
    ("spectrum", spectrum),
    ("compare", compare),
    ("replay", replay),
    ("publish", publish),
    ("doctor", doctor),
    ("list", list_),
    ("info", info),
    ("validate", validate),
    ("docs", docs),
    ("symmetry", symmetry),
    ("track-report", track_report),
    ("submit", submit),
    ("verify", verify),
):
    app.command(name, cls=Command)(checking_paths(function))
app.add_typer(zoo, name="zoo")


@functools.cache
def root_command() -> Any:
    """The command with all its subcommands. To read their options takes a tenth of a second, so it is done once."""
    return get_command(app)
