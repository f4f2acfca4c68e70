"""Progress on stderr: a bar on a terminal, elsewhere a line every few seconds.

The module imports no library that takes long, so that the import of those is part of what it shows.
"""

from __future__ import annotations

import contextlib
import datetime
import math
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from importlib.util import find_spec
from typing import TypeVar

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Column
from rich.text import Text

from sharpbench.errors import InvalidInput, shorten

Step = TypeVar("Step")
PERIOD_VARIABLE = "SHARPBENCH_PROGRESS"
PERIOD_SECONDS = 10.0
"""Time between two lines of progress where the variable is not set."""
MAX_TASKS = 2
"""Tasks that one line shows."""


def progress_bar(*columns: ProgressColumn, counted: bool, console: Console) -> Progress:
    """A bar that disappears at its end; lines where the console can draw none.

    counted: with the number done of a known total, else with a spinner.
    """
    if not _draws_bars(console):
        return ProgressLines(console, seconds=line_period())
    text = _Description("{task.description}", table_column=Column())
    shown = (text, BarColumn(), MofNCompleteColumn()) if counted else (SpinnerColumn(), text)
    return Progress(
        *shown,
        TimeElapsedColumn(),
        *columns,
        console=console,
        transient=True,
        redirect_stdout=False,  # it would go to stderr, also where it is piped into a file
    )


class _Description(TextColumn):
    """What is being done, cut where the line is too narrow for it.

    Its table column may wrap: from such columns rich takes the width that is lacking, so from no number.
    """

    def render(self, task: Task) -> Text:
        text = super().render(task)
        text.no_wrap, text.overflow = True, "ellipsis"
        return text


def _draws_bars(console: Console) -> bool:
    """Whether it is a terminal that can move its cursor, or a notebook with the widgets that bars need."""
    if console.is_jupyter:
        return find_spec("ipywidgets") is not None
    return console.is_terminal and not console.is_dumb_terminal and console.file.isatty()


def line_period() -> float:
    """The seconds between two lines of progress, 0 for none, as $SHARPBENCH_PROGRESS says.

    Raises InvalidInput for other text than a number of seconds.
    """
    text = os.environ.get(PERIOD_VARIABLE) or str(PERIOD_SECONDS)
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise InvalidInput(f"${PERIOD_VARIABLE} is '{shorten(text)}'; it must be a number of seconds, 0 for no lines")
    return seconds


class ProgressLines(Progress):
    """Progress as lines: every `seconds` one that says what is being done, how many are done, and for how long.

    The lines come from another thread, so also while a single step takes long.
    """

    def __init__(self, console: Console, *, seconds: float) -> None:
        super().__init__(console=console, disable=True)
        self._seconds = seconds
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._print_lines, name="progress", daemon=True)

    def start(self) -> None:
        """Begin to print; no thread is started where no line would be printed."""
        if self._seconds > 0:
            self._thread.start()

    def stop(self) -> None:
        """Print no further line."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()

    def _print_lines(self) -> None:
        while not self._ended.wait(self._seconds):
            if self.tasks:
                self.console.print(self._line(), highlight=False, soft_wrap=True)

    def _line(self) -> str:
        texts = []
        for task in self.tasks[:MAX_TASKS]:
            count = "" if task.total is None else f"{task.completed:.0f} of {task.total:.0f}"
            texts.append(", ".join(filter(None, (task.description, count, task.fields.get("forecast")))))
        elapsed = datetime.timedelta(seconds=int(self.tasks[0].elapsed or 0))
        return f"{elapsed} {'; '.join(texts)}"


@contextlib.contextmanager
def announce_step(text: str) -> Iterator[None]:
    """Progress that says what the block does, until its end."""
    with progress_bar(counted=False, console=Console(stderr=True)) as bar:
        bar.add_task(escape(text), total=None)
        yield


def follow_steps(steps: Iterable[Step], describe: Callable[[Step], str | None], *, start: str) -> Iterator[Step]:
    """Yield the steps, with progress that describes the current one.

    Args:
        describe: the text for a step, or None where the line stays as it is.
        start: the text before the first step.
    """
    with progress_bar(counted=False, console=Console(stderr=True)) as bar:
        task = bar.add_task(escape(start), total=None)
        for step in steps:
            text = describe(step)
            if text is not None:
                bar.update(task, description=escape(text))
            yield step
