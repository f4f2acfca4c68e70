"""Options from a file, completion, and the help of flags."""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path

import pytest

from sharpbench.cli.main import main
from tests.commands import given, refused

SMALL = """
models = ["small-mlp"]
measures = ["parameter-norm", "path-norm"]
cohort = "label-noise[ratios=2,seeds=1]"
retry-failed = true
"""


def config(folder: Path, text: str) -> Path:
    path = folder / "run.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_file_gives_the_options(tmp_path: Path) -> None:
    done = given("run", "--config", config(tmp_path, SMALL), "--print-config")
    assert done.returncode == 0, done.stderr
    found = tomllib.loads(done.stdout)
    assert found["measures"] == "parameter-norm,path-norm"
    assert found["retry-failed"] is True
    fewer = given("run", "--config", tmp_path / "run.toml", "--measures", "path-norm", "--print-config")
    assert tomllib.loads(fewer.stdout) == {**found, "measures": "path-norm"}


def test_printed_options_are_such_a_file(tmp_path: Path) -> None:
    words = ("--seed", "4", "--timeout", "2.5", "--plugin", "a.py", "--plugin", "b.py", "--measures", "minimum")
    printed = given("run", *words, "--print-config").stdout
    again = given("run", "--config", config(tmp_path, printed), "--print-config").stdout
    assert again == printed
    found = tomllib.loads(printed)
    assert (found["seed"], found["timeout"], found["plugin"]) == (4, 2.5, ["a.py", "b.py"])
    assert "examples" not in found


@pytest.mark.parametrize(
    "words",
    [
        (
            "measure",
            "--model",
            "net.py:make",
            "--weights",
            "a.pt",
            "--weights",
            "b.pt",
            "--mean",
            "0.5,0.4",
            "--timing",
        ),
        ("train", "--models", "mlp", "--workers", "3"),
        ("compare", "--n", "7", "--from", "rows.jsonl"),
    ],
)
def test_other_commands_of_many_options_take_a_file(tmp_path: Path, words: tuple[str, ...]) -> None:
    printed = given(*words, "--print-config")
    again = given(words[0], "--config", config(tmp_path, printed.stdout), "--print-config")
    assert again.stdout == printed.stdout
    assert len(tomllib.loads(again.stdout)) > 5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("measure = 'trace'", r"run.toml:1: unknown option 'measure'; did you mean 'measures'"),
        ("\nworkers = true", r"run.toml:2: workers must be text, a number, or a list of them, not True"),
        ("dry-run = 1", r"run.toml:1: dry-run must be true or false, not 1"),
        ("seed = 'x'", r"Invalid value 'x' for '--seed'"),
        ("seed = {a = 1}", r"seed must be text, a number, or a list of them, not {'a': 1}"),
        ("seed", r"run.toml:1: not TOML"),
        ("config = 'run.toml'", r"unknown option 'config'"),
        ("output = ''", r"run.toml:1: --output is empty, which would be the working folder"),
    ],
)
def test_a_wrong_file_is_refused(tmp_path: Path, text: str, message: str) -> None:
    done = given("run", "--config", config(tmp_path, text), "--dry-run")
    refused(done)
    assert re.search(message, done.stderr), done.stderr


def test_a_file_that_is_not_there_is_refused() -> None:
    refused(given("run", "--config", "no/such.toml"), "--config 'no/such.toml' is not a file")


@pytest.mark.parametrize("given_folder", [("--output", ""), ("--output=",), ("--cache-dir", "")])
def test_an_empty_folder_is_not_the_working_folder(given_folder: tuple[str, ...]) -> None:
    done = given("run", *given_folder, "--print-config")
    refused(done, f"{given_folder[0].rstrip('=')} is empty, which would be the working folder; name it '.'")


@pytest.mark.parametrize(
    "words",
    [
        ("run", "--output", "{}"),
        ("run", "--plugin", "{}"),
        ("run", "--config", "{}"),
        ("status", "{}"),
        ("merge", "{}", "--output", "merged"),
        ("export", "{}"),
        ("publish", "--results", "{}"),
        ("verify", "{}"),
    ],
)
def test_a_path_that_cannot_be_looked_up_gets_one_line(words: tuple[str, ...], tmp_path: Path) -> None:
    done = given(*(word.format("x" * 300) for word in words), cwd=tmp_path)
    refused(done, "xxx...' cannot be looked up (File name too long); name another path")


def test_no_backend_of_matplotlib_is_taken_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """An unknown one would stop its import, with a traceback."""
    monkeypatch.setenv("MPLBACKEND", "nonsense")
    monkeypatch.setattr("sys.argv", ["sharpbench", "--version"])
    with pytest.raises(SystemExit):
        main()
    assert "MPLBACKEND" not in os.environ


@pytest.mark.parametrize("words", [(), ("run",), ("zoo",), ("zoo", "list")])
def test_the_help_shows_no_type_for_flags(words: tuple[str, ...]) -> None:
    shown = given(*words, "--help", COLUMNS="200").stdout
    assert re.search(r"--help .*Show this message", shown)
    assert "bool" not in shown.lower()


def test_the_shell_completes_measures(tmp_path: Path) -> None:
    words = {"COMP_WORDS": "sharpbench run --measures trace,mini", "COMP_CWORD": "3", "SHARPBENCH_CACHE": str(tmp_path)}
    done = given(_SHARPBENCH_COMPLETE="complete_bash", **words)
    assert done.stdout.split() == ["trace,minimum"]
