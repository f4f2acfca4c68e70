"""Output that cannot be written: a closed pipe, a full disk, an encoding without the characters."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import IO

import numpy as np
import pytest

from sharpbench.cli.main import main
from tests.commands import COMMAND, given

SMALL = (
    *("--models", "small-mlp", "--cohort", "label-noise[ratios=2,seeds=1,train_size=32,max_epochs=2]"),
    *("--threads", "1", "--measures", "parameter-norm", "--timing", "0", "--oracle", "0", "--invariance", "0"),
)
FULL = Path("/dev/full")


def status_with_stdout(file: IO[str], *words: object) -> int:
    """The exit status of the command in this process, with its stdout going into a file."""
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(file):
        patch.setattr(sys, "argv", ["sharpbench", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
    return int(ended.value.code or 0)


def closed_pipe() -> IO[str]:
    """A file whose reader is gone, as that of `| head` is."""
    read, write = os.pipe()
    os.close(read)
    return os.fdopen(write, "w", encoding="utf-8")


def test_a_closed_pipe_ends_the_command_quietly(capfd: pytest.CaptureFixture[str]) -> None:
    with closed_pipe() as file:
        assert status_with_stdout(file, "list", "optimizers") == 0
    assert capfd.readouterr().err == ""


@pytest.mark.skipif(not FULL.exists(), reason="the system has no /dev/full")
def test_a_full_disk_below_stdout_is_one_line_of_error(capfd: pytest.CaptureFixture[str]) -> None:
    with FULL.open("w", encoding="utf-8") as file:
        assert status_with_stdout(file, "list", "optimizers") == 2
    assert capfd.readouterr().err == "error: cannot write to standard output (No space left on device)\n"


def test_results_are_written_where_stdout_is_closed(tmp_path: Path) -> None:
    out, merged = tmp_path / "out", tmp_path / "merged"
    with closed_pipe() as file:
        assert status_with_stdout(file, "run", *SMALL, "--output", out, "--cache-dir", tmp_path / "cache") == 0
    with closed_pipe() as file:
        assert status_with_stdout(file, "merge", out, "--output", merged) == 0
    for folder in (out, merged):
        assert {"records.jsonl", "LEADERBOARD.md", "leaderboard.json", "plots"} <= {
            path.name for path in folder.iterdir()
        }


def test_characters_that_stdout_cannot_show_are_replaced(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "daté.npz", x=rng.normal(size=(8, 4)).astype("f4"), y=np.arange(8) % 2)
    words = ("measure", "--model", "small-mlp", "--dataset", "npz:daté.npz", "--measures", "parameter-norm")
    printed = []
    for further in ((), ("--json",)):
        with (tmp_path / "shown").open("w+b") as raw, io.TextIOWrapper(raw, encoding="ascii") as file:
            with pytest.MonkeyPatch.context() as patch:
                patch.chdir(tmp_path)
                assert status_with_stdout(file, *words, *further, "--threads", 1) == 0
            raw.seek(0)
            printed.append(raw.read().decode("ascii"))
    assert "npz:dat?.npz" in printed[0]
    assert json.loads(printed[1])[0]["data"]["dataset"] == "npz:daté.npz"


def test_a_replay_names_the_output_it_cannot_write_before_it_prints(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    done = given("replay", "minimum-sharpness-2021", "--output", tmp_path / "file")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ")


def test_a_command_without_any_stream_writes_its_files(tmp_path: Path) -> None:
    """The numbers of closed descriptors go to the null device, not to the file of records."""
    # the shell closes the descriptors
    words = " ".join(f"'{word}'" for word in ("docs", tmp_path / "pages"))
    done = subprocess.run(f"{COMMAND} {words} <&- >&- 2>&-", shell=True, timeout=60, check=False)
    assert done.returncode == 0
    assert (tmp_path / "pages" / "README.md").read_text(encoding="utf-8").startswith("<!--")


@pytest.mark.parametrize("library", ["passes it on", "raises another error"])
def test_ctrl_c_at_any_point_is_one_line(monkeypatch: pytest.MonkeyPatch, library: str) -> None:
    """A library that is interrupted while it is imported may be left broken."""

    def interrupt(*_: object, **__: object) -> None:
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            if library == "passes it on":
                raise
        raise RecursionError("a library that was imported in part")

    monkeypatch.setattr("sharpbench.core.catalog.list_installed", interrupt)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell's background jobs ignore
    try:
        done = given("list")
    finally:
        signal.signal(signal.SIGINT, before)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "interrupted\n")
