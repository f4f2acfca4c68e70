"""The `sharpbench` command, and how it ends.

The module imports little, so that an interrupt in the imports of the commands also ends in one line.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType
from typing import NoReturn

from sharpbench.cli.exits import EXIT_INTERRUPTED, EXIT_INVALID, Interrupted
from sharpbench.cli.streams import guarded_streams
from sharpbench.errors import InvalidInput


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


RESEND_SECONDS = 0.05
"""After this time an interrupt is sent again that came where Python ignores exceptions."""


@contextlib.contextmanager
def _noted_interrupts() -> Iterator[list[int]]:
    """A list that each Ctrl-C in the block is added to, before it raises KeyboardInterrupt as usual.

    Where Python ignores the exception, as in the destructor of an object, the interrupt comes again a little later.
    """
    noted: list[int] = []
    timers: list[threading.Timer] = []
    usual_hook = sys.unraisablehook

    def note(number: int, frame: FrameType | None) -> None:
        noted.append(number)
        signal.default_int_handler(number, frame)

    def send_again(ignored: sys.UnraisableHookArgs) -> None:
        if not issubclass(ignored.exc_type, KeyboardInterrupt):
            usual_hook(ignored)
            return
        main_thread = threading.main_thread().ident or 0
        timers.append(threading.Timer(RESEND_SECONDS, signal.pthread_kill, (main_thread, signal.SIGINT)))
        timers[-1].daemon = True
        timers[-1].start()

    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:  # ignored, as for a job in the background
        yield noted
        return
    signal.signal(signal.SIGINT, note)
    sys.unraisablehook = send_again
    try:
        yield noted
    finally:
        for timer in timers:
            timer.cancel()
        sys.unraisablehook = usual_hook
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _run_app() -> int:
    try:
        os.getcwd()
    except OSError:
        return _report_error("the working folder was removed; change into another one")
    try:
        import typer

        from sharpbench.cli.app import USAGE_ERROR, root_command, usage_message
    except KeyboardInterrupt:
        return _report_interrupt(Interrupted(""))
    try:
        ended = root_command()(prog_name="sharpbench", standalone_mode=False) or 0
        if ended == EXIT_INTERRUPTED:  # what newer typer makes of a KeyboardInterrupt
            raise Interrupted("")
        return int(ended)
    except InvalidInput as error:
        return _report_error(str(error))
    except USAGE_ERROR as error:
        return _report_error(usage_message(error))
    except Interrupted as interrupt:
        return _report_interrupt(interrupt)
    except (KeyboardInterrupt, typer.Abort) as error:
        if isinstance(error.__cause__, EOFError):  # click takes it for the end of the user's input
            raise error.__cause__ from None
        return _report_interrupt(Interrupted(""))


def _report_interrupt(interrupt: Interrupted) -> int:
    """Print one line on stderr; the exit status."""
    _echo(str(interrupt))
    return EXIT_INTERRUPTED


def _report_error(message: str) -> int:
    """Print the message, if there is one, on stderr; the exit status."""
    if message:
        _echo(f"error: {message}")
    return EXIT_INVALID


def _echo(line: str) -> None:
    if sys.stderr is not None:  # where the caller has closed it, print would write to stdout
        print(line, file=sys.stderr)
