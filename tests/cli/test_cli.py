"""The command through the front door: what it prints, what it writes, how it ends."""

from __future__ import annotations

import gzip
import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sharpbench import RunPlan, plan
from sharpbench.cli.dry_run import show_plan
from tests.commands import COMMAND, TIMEOUT, Done, given, imported, imported_in_turn, refused
from tests.synthetic import make

COMMANDS = (
    "run", "status", "merge", "train", "measure", "compare", "replay", "publish", "doctor", "list", "info", "validate",
    "docs", "symmetry", "submit", "verify", "zoo", "score", "track-report", "landscape", "spectrum",
)  # fmt: skip

SMALL = (
    *("--models", "small-mlp", "--cohort", "label-noise[ratios=2,seeds=2,train_size=32]"),
    *("--threads", "1", "--measures", "trace,minimum", "--examples", "4", "--oracle", "0"),
)
QUICK = (
    *("--cohort", "label-noise[ratios=2,seeds=1,train_size=16,max_epochs=2]", "--examples", "8", "--engine", "inline"),
    *("--timing", "0", "--invariance", "0"),
)

PLUGIN = """
from dataclasses import dataclass
from sharpbench import Estimate, Measure, NotApplicable

class Bad(Measure):
    title, source = "a measure that misbehaves", "tests"
    def exact(self, subject): return None
    def invariances(self): return frozenset()

@dataclass(frozen=True)
class Raises(Bad):
    name = "raises"
    def __call__(self, subject, *, generator): raise RuntimeError("out\\nof luck")

@dataclass(frozen=True)
class NotANumber(Bad):
    name = "not-a-number"
    def __call__(self, subject, *, generator): return Estimate(float("nan"))

@dataclass(frozen=True)
class Refuses(Bad):
    name = "refuses"
    def __call__(self, subject, *, generator): raise NotApplicable("not for this network")

@dataclass(frozen=True)
class Starves(Bad):
    name = "starves"
    def __call__(self, subject, *, generator): raise MemoryError

MEASURES = (Raises, NotANumber, Refuses, Starves)
"""


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("cache"))


def words_of(output: Path, cache: str, *words: str) -> tuple[str, ...]:
    return ("run", *SMALL, "--output", str(output), "--cache-dir", cache, *words)


def run(output: Path, cache: str, *words: str) -> Done:
    return given(*words_of(output, cache, *words))


IN_TURN = """
import sys
from sharpbench.cli.main import main
for words in {commands!r}:
    sys.argv = ["sharpbench", *words]
    try:
        main()
    except SystemExit as ended:
        print("ended with", ended.code, file=sys.stderr)
"""


def in_turn(*commands: tuple[str, ...]) -> Done:
    """The commands in a process of their own, which imports what they need."""
    code = IN_TURN.format(commands=commands)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=TIMEOUT, check=False)


def records(output: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (output / "records.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.mark.usefixtures("undrawn")  # of the second
def test_a_run_writes_records_page_and_plots_and_the_next_one_reads_them(tmp_path: Path, cache: str) -> None:
    """One process for several commands, which together import all that commands import: libraries may print then."""
    words = words_of(tmp_path / "out", cache, "--engine", "inline")
    wrong = ("run", "--models", "x"), ("compare", "--quantity", "x"), ("publish", "--results", "/nowhere")
    first = in_turn(words, *wrong)
    said = [line.partition(": ")[0] for line in first.stderr.splitlines()]
    assert said == ["ended with 0", *["error", "ended with 2"] * 3], first.stderr  # no bar where there is no terminal
    assert "\x1b" not in first.stdout
    for word in ("minimum", "trace", "label noise", "training loss", "parameter norm", "small-mlp on digits"):
        assert word in first.stdout
    written = records(tmp_path / "out")
    assert len(written) == 2 * 2 * 2
    assert {record["status"] for record in written} == {"ok"}
    page = (tmp_path / "out" / "LEADERBOARD.md").read_text(encoding="utf-8")
    assert "| minimum" in page
    assert "*label noise*" in page
    plots = {path.name for path in (tmp_path / "out" / "plots").iterdir()}
    assert {f"digits--small-mlp--{name}.{kind}" for name in ("minimum", "trace") for kind in ("svg", "png")} <= plots
    again = given(*words)
    assert again.returncode == 0
    assert again.stdout == first.stdout
    assert records(tmp_path / "out") == written


@pytest.mark.slow
def test_costs_and_oracles_stand_on_the_networks_that_were_asked_for(tmp_path: Path, cache: str) -> None:
    assert run(tmp_path / "one", cache, "--timing", "1", "--oracle", "2", "--examples", "4").returncode == 0
    for name in ("trace", "minimum"):
        of = [record for record in records(tmp_path / "one") if record["measure"] == name]
        assert [record["seconds"] is not None for record in of] == [True, False, False, False]
        assert [record["exact"] is not None for record in of] == [True, True, False, False]
        assert of[0]["oracle"] == "definition"
        assert of[0]["exact"] == pytest.approx(of[0]["value"], rel=1e-5)
    assert run(tmp_path / "none", cache, "--timing", "0", "--oracle", "0").returncode == 0
    assert all(record["seconds"] is None and record["exact"] is None for record in records(tmp_path / "none"))


@pytest.mark.usefixtures("undrawn")
def test_a_measure_that_fails_costs_its_own_cells(tmp_path: Path, cache: str) -> None:
    (tmp_path / "plugin.py").write_text(PLUGIN, encoding="utf-8")
    words: tuple[str, ...] = (*QUICK, "--measures", "raises,not-a-number,refuses,starves,parameter-norm")
    words += ("--plugin", str(tmp_path / "plugin.py"))
    result = run(tmp_path / "out", cache, *words)
    assert result.returncode == 1
    assert "Traceback" not in result.stdout + result.stderr
    by = {record["measure"]: record for record in records(tmp_path / "out")}
    assert (by["raises"]["status"], by["raises"]["reason"]) == ("failed", "RuntimeError: out of luck")
    assert by["not-a-number"]["status"] == "failed"
    assert (by["refuses"]["status"], by["refuses"]["reason"]) == ("skipped", "not for this network")
    assert by["starves"]["status"] == "oom"
    assert by["parameter-norm"]["status"] == "ok"
    count = len(records(tmp_path / "out"))
    assert run(tmp_path / "out", cache, *words, "--allow-failures").returncode == 0
    assert len(records(tmp_path / "out")) == count
    assert run(tmp_path / "out", cache, *words, "--retry-failed").returncode == 1
    assert len(records(tmp_path / "out")) == count + 3 * 2


@pytest.mark.usefixtures("undrawn")
def test_weights_that_are_not_finite_fail_and_the_run_goes_on(tmp_path: Path) -> None:
    """A rate of 1e6 diverges at once; the cells of the other model are done."""
    words = ("--cohort", "label-noise[ratios=2,seeds=1,train_size=64,learning_rate=1e6,max_epochs=20]")
    result = run(tmp_path / "out", str(tmp_path / "cache"), *words, "--engine", "inline")
    assert result.returncode == 1, result.stderr
    assert {record["status"] for record in records(tmp_path / "out")} == {"failed"}
    assert "weights are not finite: layer0.weight" in str(records(tmp_path / "out")[0]["reason"])


def test_a_dry_run_of_many_networks_counts_them_by_model(capsys: pytest.CaptureFixture[str]) -> None:
    few = plan("path-norm", "small-mlp", cohort="label-noise[ratios=2,seeds=20]", device="cpu")
    many = plan("path-norm,parameter-norm", "small-mlp", cohort="label-noise[ratios=2,seeds=25]", device="cpu")
    show_plan(RunPlan(many, many, many[:7]), full=False)
    shown = capsys.readouterr().out
    assert re.search(r"small-mlp +│ +50 │ +100 │ +7 ", shown)
    assert "every network: --full" in shown
    assert "50 networks, 100 cells, 7 to do" in shown
    assert len(shown.splitlines()) < 12
    for cells, full, networks in ((many, True, 50), (few, False, 40)):
        show_plan(RunPlan(cells, cells, cells), full=full)
        assert capsys.readouterr().out.count("small-mlp on digits, label noise") == networks


def test_a_dry_run_writes_nothing(tmp_path: Path) -> None:
    cache = str(tmp_path / "cache")  # with nothing trained yet
    result = run(tmp_path / "out", cache, "--measures", "parameter-norm,path-norm", "--dry-run")
    assert result.returncode == 0
    assert "4 networks, 8 cells, 8 to do" in result.stdout
    assert re.search(r"small-mlp +4 +\d+ (s|min)", result.stdout)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--measures", "minimun"), ["unknown measure 'minimun'", "did you mean 'minimum'?"]),
        (("--models", "lenett"), ["unknown model 'lenett'", "did you mean 'lenet'?"]),
        (("--dataset", "digit"), ["unknown dataset 'digit'", "did you mean 'digits'?"]),
        (("--cohort", "label"), ["unknown cohort 'label'"]),
        (("--measures", "normalized[diagnal=icml]"), ["no parameter 'diagnal'", "did you mean 'diagonal'?"]),
        (("--measures", "normalized[diagonal=icm]"), ["diagonal=icm is none of exact, arxiv, icml", "'icml'"]),
        (("--measures", "trace[samples=many]"), ["samples=many is not a whole number"]),
        (("--measures", "trace[samples=1]"), ["samples=1 must be at least 2"]),
        (("--measures", "trace[method=exact"), ["unbalanced brackets"]),
        (("--measures", ","), ["no measure is named"]),
        (("--models", "mlp[bias=perhaps]"), ["bias=perhaps is neither true nor false"]),
        (("--cohort", "label-noise[ratios=1]"), ["ratios=1 must be at least 2"]),
        (("--cohort", "label-noise[train_size=99999]"), ["train_size=99999 exceeds the 1437"]),
        (("--examples", "33"), ["examples=33 exceeds the 32"]),
        (("--examples", "0"), ["examples=0 must be at least 1"]),
        (("--timing", "-1"), ["timing=-1 must be at least 0"]),
        (("--threads", "0"), ["threads=0 must be from 1 to 1024"]),
        (("--dtype", "half"), ["dtype 'half' is none of float32, float64"]),
        (("--device", "gpu"), ["device 'gpu' is none of auto, cpu, cuda"]),
        (("--seed", "x"), ["--seed"]),
        (("--unknown",), ["--unknown"]),
        (("--plugin", "/nowhere/plugin.py"), ["--plugin /nowhere/plugin.py is not a file"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_bad_words_get_one_line(tmp_path: Path, cache: str, words: tuple[str, ...], expected: list[str]) -> None:
    refused(run(tmp_path / "out", cache, *words), *expected)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("run", "--models", "lenett"), "unknown model 'lenett'; did you mean 'lenet'?"),
        (("train", "--workers", "0"), "workers=0 must be at least 1"),
        (("replay", "minimum-sharpness-2021", "--workers", "0"), "workers=0 must be at least 1"),
        (("zoo", "list", "--cache-dir", __file__), "cannot read"),
        (("compare", "--quantity", "tracee"), "quantity 'tracee' is none of trace, top-eigenvalue, diagonal"),
        (("zoo", "show", "x", "--cache-dir", "none"), "no trained network"),
        (("list", "measure"), "unknown kind 'measure'; did you mean 'measures'?"),
        (("validate", "nowhere.py"), "nowhere.py is not a file"),
        (("status", "/nowhere"), "no records at /nowhere/records.jsonl"),
        (("publish", "--results", "none"), "no record files in"),
        (("merge", "/nowhere", "--output", "out"), "no records at /nowhere/records.jsonl"),
        (("docs", "pages", "--package", "nowhere"), "package 'nowhere' offers no measure"),
        (("doctor", "--device", "gpu"), "device 'gpu' is none of auto, cpu, cuda"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_a_command_that_refuses_prints_its_line_alone(tmp_path: Path, words: tuple[str, ...], expected: str) -> None:
    refused(given(*words, cwd=tmp_path), expected)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_gets_one_line(tmp_path: Path, cache: str) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    refused(run(tmp_path / "file" / "out", cache), "cannot write", "--output")
    refused(run(tmp_path / "out", str(tmp_path / "file")), "cannot write", "--cache-dir")


def test_damaged_records_get_one_line(tmp_path: Path, cache: str) -> None:
    (tmp_path / "records.jsonl").write_text('{"schema":2}\n', encoding="utf-8")
    refused(run(tmp_path, cache), "records.jsonl:1", "missing or unknown fields")


def test_missing_and_damaged_mnist_files_get_one_line(tmp_path: Path, cache: str) -> None:
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"):
        (raw / f"{name}-ubyte.gz").write_bytes(gzip.compress(bytes(1000))[:50])
    refused(run(tmp_path / "out", cache, "--dataset", "mnist", "--data-dir", str(tmp_path)), "ubyte.gz", "damaged")


def test_an_interrupt_ends_in_one_line_and_130(tmp_path: Path) -> None:
    words = (
        "--cohort",
        "label-noise[ratios=5,seeds=9]",
        "--output",
        str(tmp_path / "out"),
        "--cache-dir",
        str(tmp_path / "c"),
    )
    process = subprocess.Popen(
        [COMMAND, "run", *SMALL, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # ignored in what a shell put aside
    )
    while not (tmp_path / "out" / "records.jsonl").exists() and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=200)
    assert process.returncode == 130, errors
    assert errors.count("\n") == 1
    assert "give the same command again to go on" in errors


@pytest.mark.slow
def test_a_second_writer_is_refused(tmp_path: Path) -> None:
    words = (
        "--cohort",
        "label-noise[ratios=5,seeds=9]",
        "--output",
        str(tmp_path / "out"),
        "--cache-dir",
        str(tmp_path / "c"),
    )
    process = subprocess.Popen([COMMAND, "run", *SMALL, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        while not (tmp_path / "out" / "records.jsonl").exists():
            assert process.poll() is None
            time.sleep(0.05)
        refused(given("run", *SMALL, *words), "is being written by another run")
    finally:
        process.kill()
        process.communicate()


def test_answers_need_no_heavy_import(cache: str) -> None:
    """Once the catalog is cached, nothing is imported that would make a user wait.

    All in one process, where the first command to import something heavy is the one to mend.
    """
    answers = [("list",), ("list", "measures", "--json"), ("info", "minimum")]
    for words in answers:
        assert given(*words, SHARPBENCH_CACHE=cache).returncode == 0
    commands = [("--version",), ("--help",), *((name, "--help") for name in COMMANDS), *answers]
    _, found = imported_in_turn(commands, SHARPBENCH_CACHE=cache)
    heavy = [(words, *of) for words, of in zip(commands, found, strict=True) if of != (0, set())]
    assert heavy[:1] == []


def test_status_needs_no_torch(tmp_path: Path) -> None:
    lines = [make(seed=seed).to_json() + "\n" for seed in range(8)]
    (tmp_path / "records.jsonl").write_text("".join(lines), encoding="utf-8")
    done, heavy = imported("status", tmp_path)
    assert "8 ok" in done.stdout
    assert "torch" not in heavy


@pytest.mark.parametrize("words", [(), ("zoo",)], ids=["sharpbench", "zoo"])
def test_without_a_subcommand_the_help_is_shown(words: tuple[str, ...]) -> None:
    done = given(*words)
    assert (done.returncode, done.stderr) == (2, "")
    assert done.stdout.rstrip() == given(*words, "--help").stdout.rstrip()


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_each_command_needs_no_other(name: str) -> None:
    text = " ".join(given(name, "--help", COLUMNS="200").stdout.replace("\u2502", " ").split())
    assert "As for" not in text
    if "--data-dir" in text:
        assert "Folder of the data sets." in text
    if "--plugin" in text:
        assert "it is executed. May be repeated." in text


def test_the_page_of_the_command_line_lists_the_options_of_run() -> None:
    page = (Path(__file__).parents[2] / "docs" / "cli.md").read_text(encoding="utf-8")
    section = page.partition("## `run`\n")[2].partition("\n## ")[0]
    documented = re.findall(r"(?m)^\| `(--[a-z-]+)` \|", section)
    offered = re.findall(r"(?m)^\W*(--[a-z-]+)", given("run", "--help", COLUMNS="200").stdout)
    assert documented == [option for option in offered if option != "--help"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("nothing",), "No such command 'nothing'; see `sharpbench --help`"),
        (("ru",), "No such command 'ru'. Did you mean 'run'?"),
        (("zoo", "lost"), "'lost'"),
        (("measure",), "Missing option '--model'; see `sharpbench measure --help`"),
        (("run", "extra"), "(extra); see `sharpbench run --help`"),
        (("run", "--workers", "x"), "'x'"),
        (("run", "--workers", "0"), "workers=0 must be at least 1"),
        (("run", "--shard", "0/0"), "shard 0/0 must be from 1/1 to"),
        (("run", "--gpus", "1"), "gpus is for engine 'ray', not 'process'; choose ray, or leave it out"),
        (("publish", "--check", "--site", "html"), "give one of them"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_bad_usage_names_offender_and_remedy(tmp_path: Path, words: tuple[str, ...], expected: str) -> None:
    refused(given(*words, cwd=tmp_path), expected)


def test_lists_are_json_arrays(cache: str) -> None:
    measures = json.loads(given("list", "measures", "--json", "--cache-dir", cache).stdout)
    assert {"trace", "fisher-rao", "normalized", "minimum"} <= {row["name"] for row in measures}
    everything = json.loads(given("list", "--json", "--cache-dir", cache).stdout)
    assert {row["kind"] for row in everything} == {"measure", "model", "dataset", "optimizer", "cohort"}


def test_help_is_understood() -> None:
    text = given("run", "--help", COLUMNS="120").stdout
    for word in ("--measures", "--cohort", "normalized[diagonal=icml,samples=20]", "--retry-failed", "130 interrupted"):
        assert word in text
