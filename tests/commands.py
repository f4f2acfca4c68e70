"""The `sharpbench` command as tests give it: in this process, or where processes are what is tested, in its own."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

import pytest

from sharpbench.cli.main import main
from sharpbench.runner.process_settings import ProcessSettings

COMMAND = str(Path(sys.executable).with_name("sharpbench"))
TIMEOUT = 240
HEAVY = ("torch", "numpy", "scipy", "pandas", "matplotlib", "jinja2", "sharpbench.training.population")
"""Modules whose import takes a noticeable part of a second; what only lists or prints help goes without them."""
LOADED = ("sharpbench_plugin_", "sharpbench_model_")
"""What the modules of users' files are called; a later command finds such a file as it is then."""

Done = subprocess.CompletedProcess[str]


def started(*words: object, cwd: Path | None = None, **environment: str) -> Done:
    """The command in its own process: seconds of imports, and the way in and out that users have."""
    settings = {**os.environ, **environment}
    settings.pop("SHARPBENCH_DATA", None)
    said = [COMMAND, *map(str, words)]
    return subprocess.run(said, capture_output=True, text=True, cwd=cwd, env=settings, timeout=TIMEOUT, check=False)


def given(*words: object, cwd: Path | None = None, **environment: str) -> Done:
    """The same in this process, which is afterwards set as it was: an exception that ends the command ends the test."""
    said, loaded, settings = ["sharpbench", *map(str, words)], set(sys.modules), ProcessSettings()
    with _captured() as (out, err), pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", said)
        patch.delenv("SHARPBENCH_DATA", raising=False)
        for name, value in environment.items():
            patch.setenv(name, value)
        if cwd is not None:
            patch.chdir(cwd)
        try:
            with pytest.raises(SystemExit) as ended:
                main()
        finally:
            settings.restore()
            for name in set(sys.modules) - loaded:
                if name.startswith(LOADED):
                    del sys.modules[name]
        return Done(said, int(ended.value.code or 0), _text(out), _text(err))


def imported(*words: object, **environment: str) -> tuple[Done, set[str]]:
    """The command in its own process, and the HEAVY modules that it imported."""
    done, ((_, heavy),) = imported_in_turn([words], **environment)
    return done, heavy


def imported_in_turn(
    commands: Sequence[Sequence[object]], **environment: str
) -> tuple[Done, list[tuple[int, set[str]]]]:
    """Several commands in one process; for each its exit status, and the HEAVY modules imported up to its end."""
    code = f"""
import json, sys
from sharpbench.cli.main import main
for words in {[[str(word) for word in words] for words in commands]!r}:
    sys.argv = ["sharpbench", *words]
    try:
        main()
    except SystemExit as ended:
        status = ended.code
    print(json.dumps([status, sorted({set(HEAVY)!r} & set(sys.modules))]), file=sys.stderr)
sys.exit(status)
"""
    settings = {**os.environ, **environment}
    ran = [sys.executable, "-c", code]
    done = subprocess.run(ran, capture_output=True, text=True, env=settings, timeout=TIMEOUT, check=False)
    lines = done.stderr.splitlines()[-len(commands) :]
    assert len(lines) == len(commands), done.stderr
    assert all(line.startswith("[") for line in lines), done.stderr
    return done, [(status, set(heavy)) for status, heavy in map(json.loads, lines)]


def refused(done: Done, *words: str) -> None:
    """One line on stderr that holds the words, nothing on stdout, exit status 2."""
    assert (done.returncode, done.stdout) == (2, ""), done.stdout + done.stderr
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1, done.stderr
    for word in words:
        assert word in done.stderr


@contextlib.contextmanager
def _captured() -> Iterator[tuple[IO[str], IO[str]]]:
    """Files that hold what is printed, by libraries below Python and by child processes too."""
    with tempfile.TemporaryFile("w+", encoding="utf-8") as out, tempfile.TemporaryFile("w+", encoding="utf-8") as err:
        kept = os.dup(1), os.dup(2)
        os.dup2(out.fileno(), 1)
        os.dup2(err.fileno(), 2)
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                yield out, err
        finally:
            for number, descriptor in enumerate(kept, start=1):
                os.dup2(descriptor, number)
                os.close(descriptor)


def _text(file: IO[str]) -> str:
    file.flush()
    file.seek(0)
    return file.read()
