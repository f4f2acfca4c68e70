"""The workflows: sound, safe from what strangers send, and every step of them executed, made small by its variables."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks.compare import main as compare_commits
from sharpbench import Record
from sharpbench.leaderboard.submissions import Manifest, format_submission, read_verdicts
from sharpbench.leaderboard.submissions.submission import hash_records
from sharpbench.version import __version__

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / ".github" / "workflows"
pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="no workflows next to these tests")
FILES = sorted(path.name for path in FOLDER.glob("*.yml"))
SMALL = {
    "CI_STEPS": "docs pages",
    "COLLECTION": "ci-digits",
    "MEASURES": "parameter-norm,gradient-norm",
    "MODELS": "small-mlp",
    "COHORT": "label-noise[ratios=2,seeds=2,train_size=48,target_loss=0.3]",
    "SAMPLE": "2",
    "MINUTES": "5",
    "ASV_BENCH": r"^curvature\.Exactness.*small-mlp",
}
"""Variables that the workflows have themselves, with values that make their steps small."""
EXECUTED = {("ci", "check"), ("leaderboard", "check"), ("leaderboard", "run"), ("leaderboard", "commit")}
EXECUTED |= {("asv", "compare"), ("pages", "build"), ("release", "build")}
"""Jobs whose every `run` a test below executes; there is no other job with one."""
WRITERS = {("leaderboard", "commit"): {"contents"}, ("pages", "deploy"): {"pages", "id-token"}}
WRITERS |= {("release", "publish"): {"id-token"}}
UNDEFINED = "an expression in an environment variable that the tests give no value"


def workflow(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((FOLDER / f"{name.removesuffix('.yml')}.yml").read_text())
    return loaded


def jobs() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for file in FILES:
        name = file.removesuffix(".yml")
        for job, body in workflow(name)["jobs"].items():
            yield name, job, body


def program(name: str) -> str:
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        pytest.skip(f"no program {name}; it is in the extra dev")
    return found


def test_actionlint_finds_nothing() -> None:
    command = [program("actionlint"), *(str(FOLDER / name) for name in FILES)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("name", FILES)
def test_actions_are_pinned_and_say_their_version(name: str) -> None:
    for line in (FOLDER / name).read_text().splitlines():
        if "uses:" in line:
            assert re.search(r"uses: [\w.-]+/[\w.-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$", line), line


@pytest.mark.parametrize("name", FILES)
def test_strangers_words_reach_no_shell_and_their_code_no_secret(name: str) -> None:
    loaded = workflow(name)
    events = loaded[True]  # YAML 1.1 reads the key `on` so
    assert "pull_request_target" not in events
    assert "workflow_run" not in events
    assert loaded["permissions"] == {"contents": "read"}
    assert "secrets." not in (FOLDER / name).read_text()
    for job, body in loaded["jobs"].items():
        allowed = WRITERS.get((name.removesuffix(".yml"), job), set())
        writes = {scope for scope, right in body.get("permissions", {}).items() if right == "write"}
        assert writes == allowed
        assert not (writes and "pull_request" in events and "if" not in body)
        for step in body["steps"]:
            assert "${{" not in step.get("run", "")
            if step.get("uses", "").startswith("actions/checkout@"):
                assert step["with"]["persist-credentials"] is ("contents" in allowed)


def test_every_step_is_executed_by_a_test() -> None:
    assert {(name, job) for name, job, body in jobs() if any("run" in step for step in body["steps"])} == EXECUTED


class Scratch:
    """A separate repository with this tree in it, in which steps run; nothing of them reaches ours."""

    def __init__(self, folder: Path) -> None:
        self.root, self.summary = folder / "tree", folder / "summary.md"
        made = shutil.ignore_patterns(".git", ".venv", "*.egg-info", ".*_cache", "__pycache__", ".asv")
        shutil.copytree(ROOT, self.root, ignore=made, symlinks=True)
        shutil.rmtree(self.root / "site", ignore_errors=True)
        (self.root / ".venv").mkdir()
        for name in ("bin", "lib", "pyvenv.cfg"):
            if (Path(sys.prefix) / name).exists():
                (self.root / ".venv" / name).symlink_to(Path(sys.prefix) / name)
        for stamp in (".run", ".test", ".dev", ".docs", ".package"):  # what is installed already is not installed again
            (self.root / ".venv" / stamp).touch()
        self.environment = {
            **os.environ,
            "PYTHONPATH": f"{self.root}:{self.root / 'measures'}",
            "HOME": str(folder / "home"),
            "GITHUB_STEP_SUMMARY": str(self.summary),
            "GITHUB_OUTPUT": str(folder / "output"),
            "GIT_AUTHOR_NAME": "t",
            "GIT_AUTHOR_EMAIL": "t@t",
            "GIT_COMMITTER_NAME": "t",
            "GIT_COMMITTER_EMAIL": "t@t",
            "OMP_NUM_THREADS": "1",
        }
        (folder / "home").mkdir()
        self.git("init", "--quiet", "--initial-branch=main")
        self.base = self.commit("base")

    def git(self, *words: str) -> str:
        done = subprocess.run(
            ["git", *words], cwd=self.root, env=self.environment, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    def commit(self, message: str) -> str:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "-m", message)
        return self.git("rev-parse", "HEAD")

    def variables(self, name: str, job: str) -> dict[str, str]:
        """The variables of the job, small where they can be; each expression among them must be known here."""
        loaded = workflow(name)
        given = {**loaded.get("env", {}), **loaded["jobs"][job].get("env", {})}
        known = {
            "github.run_id": "7",
            "matrix.torch": "",
            "matrix.steps": "",
            "github.event.release.tag_name": f"v{__version__}",
            "github.event.pull_request.base.sha": self.base,
            "github.event.pull_request.base.sha || 'HEAD^'": self.base,
        }
        expression = re.compile(r"\$\{\{ (.*?) \}\}")
        assert all(found in known for value in given.values() for found in expression.findall(str(value))), UNDEFINED
        filled = {key: expression.sub(lambda found: known[found[1]], str(value)) for key, value in given.items()}
        return {**filled, **{key: value for key, value in SMALL.items() if key in filled}}

    def steps(self, name: str, job: str) -> dict[str, tuple[int, str]]:
        """Step -> exit status and output, of all that the job runs up to the first that fails."""
        done: dict[str, tuple[int, str]] = {}
        for step in workflow(name)["jobs"][job]["steps"]:
            if "run" in step:
                done[step["name"]] = self.step(step, self.variables(name, job))
                if done[step["name"]][0]:
                    break
        return done

    def step(self, step: Mapping[str, Any], variables: Mapping[str, str]) -> tuple[int, str]:
        """As a runner does: `shell: bash` means pipefail, none means not."""
        shell = ["bash", "--noprofile", "--norc", "-eo", "pipefail"] if step.get("shell") == "bash" else ["bash", "-e"]
        done = subprocess.run(
            [*shell, "-c", step["run"]],
            cwd=self.root,
            env={**self.environment, **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=500,
        )
        return done.returncode, done.stdout


@pytest.fixture
def scratch(tmp_path: Path) -> Scratch:
    for name in ("git", "make", "bash"):
        program(name)
    return Scratch(tmp_path)


def succeeded(done: Mapping[str, tuple[int, str]], *names: str) -> None:
    assert {name: status for name, (status, _) in done.items()} == dict.fromkeys(names, 0), done


def test_ci_tries_the_oldest_versions_that_are_supported() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    matrix = workflow("ci")["jobs"]["check"]["strategy"]["matrix"]["include"]
    assert {f"Programming Language :: Python :: {each['python']}" for each in matrix} == {
        each for each in project["classifiers"] if re.search(r"Python :: 3\.", each)
    }
    (least,) = (each.removeprefix("torch>=") for each in project["dependencies"] if each.startswith("torch>="))
    (oldest,) = {each["torch"] for each in matrix} - {""}
    assert oldest.startswith(f"{least}.")


@pytest.mark.slow
def test_ci(scratch: Scratch) -> None:
    """One step of `.ci/run`; the others are make's, by the same names."""
    succeeded(scratch.steps("ci", "check"), "Everything that must hold")
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    newest, *older = workflow("ci")["jobs"]["check"]["strategy"]["matrix"]["include"]
    wanted = newest["steps"].split()
    assert all(set(each["steps"].split()) <= set(wanted) for each in older)
    assert set(wanted) - {"docs", "pages", "run"} <= set(targets)
    assert " ".join(wanted) in (ROOT / ".ci" / "run").read_text()  # the same without the variable
    (scratch.root / "docs" / "measures" / "trace.md").write_text("stale")
    assert scratch.steps("ci", "check")["Everything that must hold"][0] != 0


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_leaderboard_from_a_run_to_a_commit_to_a_strangers_pull_request(scratch: Scratch, tmp_path: Path) -> None:
    shutil.rmtree(scratch.root / "leaderboard" / "results", ignore_errors=True)
    shutil.rmtree(scratch.root / "leaderboard" / "submissions", ignore_errors=True)
    origin = tmp_path / "origin.git"
    subprocess.run(["git", "init", "--quiet", "--bare", str(origin)], check=True)
    scratch.git("remote", "add", "origin", str(origin))
    scratch.base = scratch.commit("no results")
    results = scratch.root / "leaderboard" / "results" / "ci-digits.jsonl"

    done = scratch.steps("leaderboard", "run")
    names = ("Run, and add the records", "Verify submissions, and record the verdicts", "Publish")
    succeeded(done, "Note what this run stands on", "Install", *names)
    assert (tmp_path / "output").read_text() == f"commit={scratch.base}\n"
    assert len(results.read_text().splitlines()) == 8
    assert "gradient-norm" in scratch.summary.read_text()
    assert (scratch.root / "leaderboard" / "README.md").read_text().startswith("<!-- Generated")
    first = results.read_bytes()
    assert "ci-digits holds every cell." in scratch.steps("leaderboard", "run")["Run, and add the records"][1]
    assert results.read_bytes() == first

    kept = tmp_path / "artifact"  # what upload-artifact and download-artifact do
    shutil.copytree(scratch.root / "leaderboard", kept)
    scratch.git("checkout", "--quiet", "--", ".")
    scratch.git("clean", "--quiet", "-fd", "leaderboard")
    room, end = (step for step in workflow("leaderboard")["jobs"]["commit"]["steps"] if "run" in step)
    variables = scratch.variables("leaderboard", "run") | scratch.variables("leaderboard", "commit")
    assert scratch.step(room, variables)[0] == 0
    shutil.copytree(kept, scratch.root / "leaderboard")
    assert scratch.step(end, variables)[0] == 0
    assert scratch.git("ls-remote", "origin", "refs/heads/main").startswith(scratch.git("rev-parse", "HEAD"))
    assert scratch.git("status", "--porcelain") == ""
    status, said = scratch.step(end, variables)
    assert (status, said.splitlines()[-1]) == (0, "Nothing changed.")

    scratch.base = scratch.git("rev-parse", "HEAD")
    words = ["submit", str(results), "--name", "a-stranger"]
    sharpbench = str(scratch.root / ".venv" / "bin" / "sharpbench")
    subprocess.run([sharpbench, *words], cwd=scratch.root, env=scratch.environment, check=True, capture_output=True)
    submission = scratch.root / "leaderboard" / "submissions" / "a-stranger.jsonl"
    scratch.commit("$(touch /tmp/evil) a stranger's results")
    check = {step["name"]: step for step in workflow("leaderboard")["jobs"]["check"]["steps"] if "run" in step}
    variables = scratch.variables("leaderboard", "check")
    status, said = scratch.step(check["Verify new submissions"], variables)
    assert (status, "**verified**" in said, "1 submissions are new or changed" in said) == (0, True, True), said
    assert "**verified**" in scratch.summary.read_text()
    status, said = scratch.step(check["Pages are what records say"], variables)
    assert (status, "but for submissions that came after them" in said) == (0, True), said

    honest = submission.read_text()
    _forge(submission)
    evil = submission.with_name("x$(touch evil)`touch evil`.jsonl")
    evil.write_text("<script>\n")
    scratch.commit("a forger's results")
    status, said = scratch.step(check["Verify new submissions"], variables)
    assert (status, "**refuted**" in said, "**refused**" in said) == (1, True, True), said
    assert not (scratch.root / "evil").exists()
    evil.unlink()
    submission.write_text(honest)

    record = next(
        s for s in workflow("leaderboard")["jobs"]["run"]["steps"] if "record the verdicts" in s.get("name", "")
    )
    assert scratch.step(record, variables)[0] == 0
    verdict = read_verdicts(submission.with_name("a-stranger.verdicts.jsonl"))[-1]  # those before it are of one finding
    assert (verdict.state, verdict.seed) == ("verified", 7)
    scratch.commit("a stranger's verdict")
    status, said = scratch.step(check["Verify new submissions"], variables)
    assert (status, "Only the schedule records verdicts" in said) == (1, True)


def _forge(path: Path) -> None:
    """Every value a thousandth larger, under a digest that fits."""
    header, *lines = path.read_text().splitlines()
    records = [Record.from_json(line, where="") for line in lines]
    records = [replace(record, value=1.001 * (record.value or 0)) for record in records]
    path.write_text(format_submission(replace(Manifest.from_json(header), sha256=hash_records(records)), records))


@pytest.mark.slow
def test_leaderboard_check_says_which_pages_are_stale(scratch: Scratch) -> None:
    shutil.rmtree(scratch.root / "leaderboard" / "results", ignore_errors=True)
    shutil.rmtree(scratch.root / "leaderboard" / "submissions", ignore_errors=True)
    scratch.commit("no results")
    names = ("Install", "Pages are what records say", "Verify new submissions")
    done = scratch.steps("leaderboard", "check")
    succeeded(done, *names)
    assert "No results are published yet." in scratch.summary.read_text()
    page = scratch.root / "leaderboard" / "results"
    page.mkdir()
    (page / "x.jsonl").write_text("no record\n")
    assert scratch.steps("leaderboard", "check")["Pages are what records say"][0] == 1
    assert "x.jsonl:1: not a JSON record" in scratch.summary.read_text()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_asv_compares_base_and_head_and_gates_errors(scratch: Scratch) -> None:
    program("asv")
    engine = scratch.root / "sharpbench" / "curvature" / "__init__.py"
    engine.write_text(
        engine.read_text()
        + "\n\ndef worse(function):\n"
        + "    return lambda subject: {key: value * (1 + 1e-10) for key, value in function(subject).items()}\n\n\n"
        + "exact_diagonal = worse(exact_diagonal)\n"
    )
    scratch.commit("worse")
    status, said = scratch.steps("asv", "compare")["Base and head, one after the other on this machine"]
    assert (status, "fails: worse" in said) == (1, True), said
    assert "fails: worse" in scratch.summary.read_text()
    assert scratch.git("worktree", "list").count("\n") == 0
    scratch.git("revert", "--no-edit", "HEAD")
    status, said = scratch.steps("asv", "compare")["Base and head, one after the other on this machine"]
    assert (status, "1 numbers, 0 below the gate" in said) == (0, True), said


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_release(scratch: Scratch) -> None:
    program("twine")
    build, tag = "Build, check, install into an empty environment, and run", "The tag is the version"
    succeeded(scratch.steps("release", "build"), build, tag)
    assert len(list((scratch.root / "dist").iterdir())) == 2
    step = next(each for each in workflow("release")["jobs"]["build"]["steps"] if each.get("name") == tag)
    assert scratch.step(step, {"TAG": "v9.9.9"})[0] != 0


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_pages(scratch: Scratch) -> None:
    program("mkdocs")
    program("asv")
    succeeded(scratch.steps("pages", "build"), "Install", "Build the site")
    assert (scratch.root / "site" / "index.html").exists()
    assert (scratch.root / "site" / "asv" / "index.html").exists()


def test_the_gate_of_asv_is_tracked_numbers_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "here"
    folder.mkdir()
    units = {"t": "seconds", "e": "relative error", "b": "bytes", "g": "gradients", "lost": "seconds"}
    (tmp_path / "benchmarks.json").write_text(json.dumps({"version": 2, **{k: {"unit": u} for k, u in units.items()}}))

    def compared(base: dict[str, Any], head: dict[str, Any]) -> tuple[int, str]:
        for commit, values in (("a" * 40, base), ("b" * 40, head)):
            rows = {name: [[value], [["'x'"]]] for name, value in values.items()}
            stored = {"result_columns": ["result", "params"], "results": rows}
            (folder / f"{commit[:8]}-existing.json").write_text(json.dumps(stored))
        status = compare_commits([str(folder), "a" * 40, "b" * 40])
        return status, capsys.readouterr().out

    usual = {"t": 1.0, "e": 1e-9, "b": 100, "g": 2.0}
    status, shown = compared(usual, {"t": 9.0, "e": 9e-9, "b": 119, "g": 9.0})
    assert (status, "4 numbers, 0 below the gate" in shown) == (0, True)
    assert "| `t('x')` | 1 | 9 | seconds | slower |" in shown
    assert compared({"e": 1e-16}, {"e": 1e-13})[0] == 0  # rounding
    for worse in ({"e": 2e-8}, {"b": 121}, {"t": None}):
        status, shown = compared(usual, {**usual, **worse})
        assert (status, "3 numbers" in shown, "1 below the gate" in shown) == (1, False, True)
        assert shown.splitlines()[2].count("fails") == 1
    assert compared({**usual, "lost": 1.0}, usual)[0] == 1
    assert compared({**usual, "lost": float("nan")}, usual)[0] == 0  # skipped
    assert compared({}, {})[0] == 1
