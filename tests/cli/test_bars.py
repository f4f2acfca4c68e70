"""Progress where stderr is no terminal: lines from another thread, as often as the variable says."""

from __future__ import annotations

import io
import re
import time

import pytest
from rich.console import Console
from rich.progress import TextColumn

from sharpbench import InvalidInput
from sharpbench.cli.bars import ProgressLines, announce_step, follow_steps, line_period, progress_bar
from tests.commands import given, refused

WORDS = ("measure", "--model", "small-mlp", "--limit", "4", "--measures", "parameter-norm", "--threads", "1")


def wait_for(stream: io.StringIO, text: str) -> None:
    end = time.monotonic() + 60
    while text not in stream.getvalue():
        assert time.monotonic() < end, stream.getvalue()
        time.sleep(0.005)


def test_a_step_that_takes_long_has_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    monkeypatch.setenv("SHARPBENCH_PROGRESS", "0.01")
    with announce_step("reading net[width=3]"):
        wait_for(stream, "0:00:00 reading net[width=3]\n")
    seen = stream.getvalue()
    time.sleep(0.05)
    assert stream.getvalue() == seen  # none after the end
    assert "\x1b" not in seen


@pytest.mark.parametrize("counted", [True, False])
def test_a_narrow_terminal_cuts_the_description_and_no_number(monkeypatch: pytest.MonkeyPatch, counted: bool) -> None:
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    console = Console(file=terminal, width=60, force_terminal=True, color_system=None, _environ={"TERM": "xterm"})
    left = TextColumn("{task.fields[forecast]}")
    with progress_bar(left, counted=counted, console=console) as bar:
        bar.add_task(
            "minimum: small-mlp on digits, label noise 0.5, seed 4", total=30, completed=11, forecast="17 min left"
        )
        bar.refresh()
    (line, *_) = [each for each in re.split(r"\x1b\[2K|\r|\n", terminal.getvalue()) if "min" in each]
    assert len(line) <= 60
    assert "minimum:" in line
    assert "…" in line
    assert line.rstrip().endswith("0:00:00 17 min left")
    assert ("11/30" in line) == counted


def test_a_line_follows_the_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    monkeypatch.setenv("SHARPBENCH_PROGRESS", "0.01")
    for step in follow_steps(["one", "two"], lambda step: f"at {step}", start="beginning"):
        wait_for(stream, f"at {step}\n")


def test_a_line_counts_what_is_done() -> None:
    stream = io.StringIO()
    with ProgressLines(Console(file=stream, width=20), seconds=0.01) as lines:
        lines.add_task("trace: a network with a long name", total=4, completed=1, forecast="2 min left")
        lines.add_task("another", total=None)
        lines.add_task("a third", total=None)
        wait_for(stream, "0:00:00 trace: a network with a long name, 1 of 4, 2 min left; another\n")
    assert "third" not in stream.getvalue()


def test_a_terminal_without_a_cursor_has_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    for kind, lines in (("dumb", True), ("xterm", False)):
        console = Console(file=terminal, force_terminal=True, _environ={"TERM": kind})
        assert isinstance(progress_bar(counted=False, console=console), ProgressLines) is lines


def test_a_file_has_lines_also_where_colours_are_forced() -> None:
    console = Console(file=io.StringIO(), force_terminal=True)
    assert isinstance(progress_bar(counted=True, console=console), ProgressLines)


def test_the_variable_sets_the_time_between_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHARPBENCH_PROGRESS", "")
    assert line_period() == 10
    for text in ("often", "-1", "nan", "inf"):
        monkeypatch.setenv("SHARPBENCH_PROGRESS", text)
        with pytest.raises(InvalidInput, match=f"SHARPBENCH_PROGRESS is '{text}'; it must be a number of seconds"):
            line_period()
    refused(given(*WORDS, SHARPBENCH_PROGRESS="often"), "$SHARPBENCH_PROGRESS is 'often'")


@pytest.mark.parametrize("widgets", [True, False])
def test_a_notebook_has_a_bar_where_it_can_be_drawn(monkeypatch: pytest.MonkeyPatch, widgets: bool) -> None:
    monkeypatch.setattr("sharpbench.cli.bars.find_spec", lambda name: name if widgets else None)
    console = Console(file=io.StringIO(), force_jupyter=True)
    assert isinstance(progress_bar(counted=False, console=console), ProgressLines) is not widgets
