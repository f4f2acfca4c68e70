"""The `sharpbench` command: its subcommands, and how they end.

Each subcommand is a module of this package.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from types import FrameType
from typing import Annotated, Any, NoReturn

import typer

from sharpbench.cli.command import Command, Group
from sharpbench.cli.compare import compare
from sharpbench.cli.doctor import doctor
from sharpbench.cli.exits import EXIT_INTERRUPTED, EXIT_INVALID, Interrupted
from sharpbench.cli.list import docs, info, list_
from sharpbench.cli.measure import measure
from sharpbench.cli.publish import publish
from sharpbench.cli.replay import replay
from sharpbench.cli.run import run
from sharpbench.cli.score import score
from sharpbench.cli.status import merge, status
from sharpbench.cli.streams import guarded_streams
from sharpbench.cli.submit import submit
from sharpbench.cli.symmetry import symmetry
from sharpbench.cli.train import train
from sharpbench.cli.validate import validate
from sharpbench.cli.verify import verify
from sharpbench.cli.zoo import app as zoo
from sharpbench.errors import InvalidInput, one_line, shorten
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


def main() -> NoReturn:
    """Run the command. Bad usage and bad input end in one line on stderr and exit status 2.

    A closed pipe, as of `| head`, ends it quietly with the status that it has; a stdout that cannot be written for
    another reason, such as a full disk, ends it like bad input. In both cases all files are written.
    """
    os.environ.pop("MPLBACKEND", None)  # figures are files; an unknown backend would stop the import of matplotlib
    with guarded_streams() as stdout:
        status_code = _run_command()
    for stream in stdout:
        if stream.failure is not None and not isinstance(stream.failure, BrokenPipeError):
            status_code = _report_error(f"cannot write to standard output ({stream.failure.strerror})")
    sys.exit(status_code)


def _run_command() -> int:
    """Run the command, and report what ends it; its exit status.

    A library that is interrupted while it is imported may raise any other error, or raise it later.
    """
    with _noted_interrupts() as interrupts:
        try:
            return _run_app()
        except Exception:
            if not interrupts:
                raise
            return _report_interrupt(Interrupted(""))


@contextlib.contextmanager
def _noted_interrupts() -> Iterator[list[int]]:
    """A list that each Ctrl-C in the block is added to, before it raises KeyboardInterrupt as usual."""
    noted: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        noted.append(number)
        signal.default_int_handler(number, frame)

    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:  # ignored, as for a job in the background
        yield noted
        return
    signal.signal(signal.SIGINT, note)
    try:
        yield noted
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _run_app() -> int:
    try:
        ended = app(prog_name="sharpbench", standalone_mode=False) or 0
        if ended == EXIT_INTERRUPTED:  # what newer typer makes of a KeyboardInterrupt
            raise Interrupted("")
        return int(ended)
    except InvalidInput as error:
        return _report_error(str(error))
    except USAGE_ERROR as error:
        return _report_error(_usage_message(error))
    except Interrupted as interrupt:
        return _report_interrupt(interrupt)
    except (KeyboardInterrupt, typer.Abort) as error:
        if isinstance(error.__cause__, EOFError):  # click takes it for the end of the user's input
            raise error.__cause__ from None
        return _report_interrupt(Interrupted(""))


def _report_interrupt(interrupt: Interrupted) -> int:
    """Print one line on stderr; the exit status."""
    typer.echo(interrupt, err=True)
    return EXIT_INTERRUPTED


def _usage_message(error: Any) -> str:
    """One line of a usage error: the option, its value, what is expected, and where the options are listed.

    It is empty where no subcommand was given, as the help has then been printed.
    """
    message = one_line(error.format_message()).rstrip(".")
    inputs = error.__cause__.errors() if hasattr(error.__cause__, "errors") else []  # pydantic's, in newer typer
    if inputs:
        message = message.replace("Invalid value for", f"Invalid value '{shorten(str(inputs[0]['input']))}' for", 1)
    hint = "" if error.ctx is None or message.endswith("?") else f"; see `{error.ctx.command_path} --help`"
    return message + hint if message else ""


def _report_error(message: str) -> int:
    """Print the message, if there is one, on stderr; the exit status."""
    if message:
        typer.echo(f"error: {message}", err=True)
    return EXIT_INVALID


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
    ("score", score),
    ("train", train),
    ("measure", measure),
    ("compare", compare),
    ("replay", replay),
    ("publish", publish),
    ("doctor", doctor),
    ("list", list_),
    ("info", info),
    ("validate", validate),
    ("docs", docs),
    ("symmetry", symmetry),
    ("submit", submit),
    ("verify", verify),
):
    app.command(name, cls=Command)(function)
app.add_typer(zoo, name="zoo")
