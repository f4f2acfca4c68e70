"""The steps of the leaderboard's workflow in a separate repository, with a `sharpbench` that ends as each test sets."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / ".ci" / "leaderboard"
needed = ("bash", "git", "shuf", "timeout", "tar")
pytestmark = [
    pytest.mark.skipif(not SCRIPT.exists(), reason="no workflows next to these tests"),
    pytest.mark.skipif(any(shutil.which(name) is None for name in needed), reason=f"needs {', '.join(needed)}"),
]
TOLD = """#!/usr/bin/env bash
echo "$@" >> "$CALLS"
case $1 in
    verify) test ! -e "$2.hangs" || sleep 60; cat "$2.ends" > "$CALLS.said"; exit "$(cat "$2.ends")" ;;
    publish) exec "$PUBLISH" "$@" ;;
esac
"""
PUBLISH = """#!/usr/bin/env bash
# A page is the names of the submissions; publish [--check] [--submissions S] [--output O]
from=leaderboard/submissions to=leaderboard check=
while shift; do
    case ${1:-} in --check) check=1 ;; --submissions) from=$2 ;; --output) to=$2 ;; esac
done
ls "$from"/*.bad > /dev/null 2>&1 && echo "bad submission" >&2 && exit 2
wanted=$(cat leaderboard/results/*.jsonl; cd "$from" 2> /dev/null && ls)
if [[ $check ]]; then [[ $wanted == "$(cat "$to/README.md")" ]] && exit || exit 1; fi
mkdir -p "$to" && echo "$wanted" > "$to/README.md"
"""


class Repository:
    """A clone with one commit in it, and where it came from."""

    def __init__(self, folder: Path) -> None:
        self.root, self.origin, self.calls = folder / "tree", folder / "origin.git", folder / "calls"
        for name, text in (("sharpbench", TOLD), ("publish", PUBLISH)):
            (folder / "bin").mkdir(exist_ok=True)
            (folder / "bin" / name).write_text(text)
            (folder / "bin" / name).chmod(0o755)
        who = {f"GIT_{role}_{what}": "t" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("GIT_")},
            **who,
            "HOME": str(folder),
            "BIN": str(folder / "bin"),
            "CALLS": str(self.calls),
            "PUBLISH": str(folder / "bin" / "publish"),
            "SAMPLE": "3",
            "SEED": "7",
            "MINUTES": "10",
            "COLLECTION": "ci",
            "GITHUB_REF_NAME": "main",
        }
        self.git("init", "--quiet", "--bare", "--initial-branch=main", str(self.origin), where=folder)
        self.git("clone", "--quiet", str(self.origin), str(self.root), where=folder)
        (self.root / ".ci").mkdir()
        shutil.copy2(SCRIPT, self.root / ".ci" / "leaderboard")
        shutil.copy2(ROOT / ".gitattributes", self.root)
        self.write("results/ours.jsonl", "1\n")
        self.write("submissions/old.jsonl", "old\n")
        self.write("submissions/old.verdicts.jsonl", "first\nsecond\n")
        self.step("publish")
        self.base = self.commit("base")
        self.git("push", "--quiet", "origin", "HEAD:main")

    def git(self, *words: str, where: Path | None = None) -> str:
        done = subprocess.run(
            ["git", *words], cwd=where or self.root, env=self.environment, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    def write(self, name: str, text: str) -> None:
        path = self.root / "leaderboard" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def submit(self, name: str, ends: int, *, hangs: bool = False) -> None:
        """A submission of which `verify` ends with that status."""
        self.write(f"submissions/{name}.jsonl", name)
        beside = self.root / "leaderboard" / "submissions" / f"{name}.jsonl"
        ignored = self.root / ".git" / "info" / "exclude"
        ignored.write_text("*.ends\n*.hangs\n")
        beside.with_name(f"{beside.name}.ends").write_text(str(ends))
        if hangs:
            beside.with_name(f"{beside.name}.hangs").touch()

    def commit(self, message: str) -> str:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "-m", message)
        return self.git("rev-parse", "HEAD")

    def step(self, *words: str, where: Path | None = None, **variables: str) -> tuple[int, str]:
        environment: Mapping[str, str] = {**self.environment, **variables}
        done = subprocess.run(
            ["bash", ".ci/leaderboard", *words],
            cwd=where or self.root,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
        )
        return done.returncode, done.stdout


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "this file is removed, put it back"),
        ("first\n", "this file was changed, restore it"),
        ("second\nfirst\n", "this file was changed"),
        ("first\nsecond\nthird\n", "this file was changed"),
    ],
)
def test_a_pull_request_takes_no_line_from_a_verdict_and_adds_none(
    text: str | None, said: str, repository: Repository
) -> None:
    path = repository.root / "leaderboard" / "submissions" / "old.verdicts.jsonl"
    path.unlink() if text is None else path.write_text(text)
    repository.commit("verdicts")
    status, told = repository.step("verify", repository.base)
    assert (status, said in told, "old.verdicts.jsonl" in told) == (1, True, True), told
    assert not repository.calls.read_text().startswith("verify")


def test_a_pull_request_may_withdraw_a_submission_and_its_verdicts_stay(repository: Repository) -> None:
    (repository.root / "leaderboard" / "submissions" / "old.jsonl").unlink()
    repository.write("results/ours.jsonl", "2\n")
    repository.commit("withdrawn")
    status, told = repository.step("verify", repository.base)
    assert (status, "**withdrawn**; the verdicts on it stay" in told) == (0, True), told
    assert "**The project's own results are changed**" in told
    repository.git("mv", "leaderboard/submissions/old.verdicts.jsonl", "leaderboard/submissions/new.verdicts.jsonl")
    repository.commit("renamed")
    status, told = repository.step("verify", repository.base)
    assert (status, "is removed, put it back" in told, "leave this file out" in told) == (1, True, True), told


def test_a_name_that_the_workflow_needs_is_not_given_away(repository: Repository) -> None:
    repository.submit("ci", 0)
    repository.submit("old", 0)
    repository.write("submissions/old.jsonl", "another")
    repository.commit("a name of ours")
    status, told = repository.step("verify", repository.base)
    assert (status, "collection of this workflow's own" in told, "is this its author?" in told) == (1, True, True), told
    assert "1 submissions are new or changed." in told


@pytest.mark.parametrize(
    ("ends", "fails", "said"),
    [
        (0, 0, "**verified**"),
        (3, 0, "**claimed**"),
        (4, 1, "**refuted**"),
        (5, 1, "**unfinished**: a limit of time or memory was reached"),
        (124, 1, "**unfinished**: it did not end in its time"),
        (2, 1, "**refused**"),
        (1, 1, "verify itself failed, which is not a refutation"),
        (139, 1, "verify itself failed, which is not a refutation"),
    ],
)
def test_a_crash_is_never_taken_for_a_refutation(ends: int, fails: int, said: str, repository: Repository) -> None:
    repository.submit("new", ends)
    repository.commit("new")
    status, told = repository.step("verify", repository.base)
    assert (status, said in told, "**refuted**" in told) == (fails, True, ends == 4), told
    assert "1 submissions are new or changed." in told


def test_the_minutes_are_those_of_all_submissions_together(repository: Repository) -> None:
    for name in ("a", "b", "c"):
        repository.submit(name, 0)
    repository.submit("old", 0)
    assert repository.step("record")[0] == 0
    verified = [line.split() for line in repository.calls.read_text().splitlines() if line.startswith("verify")]
    assert sorted(words[1] for words in verified) == [
        f"leaderboard/submissions/{n}.jsonl" for n in ("a", "b", "c", "old")
    ]
    minutes = [float(words[words.index("--minutes") + 1]) for words in verified]
    assert minutes == pytest.approx([2.5, 3.3, 5.0, 10.0], abs=0.2)
    assert {"--record", "--seed", "7", "--sample", "3"} <= set(verified[0])
    orders = set()
    for seed in ("1", "2", "3", "4"):
        repository.calls.unlink()
        repository.step("record", SEED=seed)
        orders.add(tuple(line.split()[1] for line in repository.calls.read_text().splitlines()))
    assert len(orders) > 1  # another one comes first
    repository.calls.unlink()
    status, told = repository.step("record", MINUTES="0")
    assert (status, told.count("**unfinished**: the 0 minutes were up before its turn")) == (0, 4)
    assert not repository.calls.exists()


def test_words_of_others_are_no_commands_of_the_runner(repository: Repository) -> None:
    """The runner finds commands behind spaces, and in an earlier form anywhere in a line, until they are stopped."""
    repository.submit("new", 3)
    told = (repository.root.parent / "bin" / "sharpbench").read_text()
    lie = 'echo "::error title=Verified by the maintainers::all good"; echo "##[error]x"; '
    (repository.root.parent / "bin" / "sharpbench").write_text(told.replace('exit "$(cat', lie + 'exit "$(cat'))
    repository.commit("new")
    status, out = repository.step("verify", repository.base)
    lines = out.splitlines()
    assert (status, lines[0][:17], len(lines[0])) == (0, "::stop-commands::", 17 + 32)
    assert any("all good" in line for line in lines)
    assert not any(line.lstrip().startswith("::") for line in lines[1:])


def test_a_submission_alone_needs_no_pages(repository: Repository) -> None:
    status, told = repository.step("check")
    assert (status, told.splitlines()[1:]) == (0, ["The leaderboard's pages are what the records say."])
    repository.submit("new", 0)
    repository.commit("a stranger's")
    status, told = repository.step("check")
    assert (status, "but for submissions that came after them" in told) == (0, True), told
    repository.write("README.md", "by hand\n")
    repository.commit("forged page")
    status, told = repository.step("check")
    assert (status, "**The leaderboard's pages are not what the records say.**" in told) == (1, True), told
    repository.step("publish")
    repository.commit("pages")
    status, told = repository.step("check")
    assert (status, told.splitlines()[1:]) == (0, ["The leaderboard's pages are what the records say."])
    repository.write("results/ours.jsonl", "2\n")
    repository.commit("results without pages")
    assert repository.step("check")[0] == 1
    repository.write("results/ours.jsonl", "1\n")
    repository.write("submissions/x.bad", "")
    repository.commit("what publish refuses")
    status, told = repository.step("check")
    assert (status, "bad submission" in told) == (1, True), told


def test_a_push_in_between_loses_no_run(repository: Repository, tmp_path: Path) -> None:
    other = tmp_path / "other"
    repository.git("clone", "--quiet", str(repository.origin), str(other), where=tmp_path)
    submissions = other / "leaderboard" / "submissions"
    (submissions / "theirs.jsonl").write_text("theirs\n")
    (submissions / "old.verdicts.jsonl").write_text("first\nsecond\nby hand\n")
    (other / "leaderboard" / "README.md").write_text("theirs\n")
    repository.git("commit", "--quiet", "--all", "-m", "x", where=other)
    repository.git("add", "--all", where=other)
    repository.git("commit", "--quiet", "-m", "meanwhile", where=other)
    repository.git("push", "--quiet", "origin", "HEAD:main", where=other)
    repository.git("checkout", "--quiet", "--detach")  # as the job has it
    repository.write("results/ci.jsonl", "run\n")
    repository.write("submissions/old.verdicts.jsonl", "first\nsecond\nof the run\n")
    repository.step("publish")
    status, told = repository.step("commit", PUSH="1")
    assert (status, "Put behind what was pushed meanwhile." in told) == (0, True), told
    repository.git("pull", "--quiet", "origin", "main", where=other)
    assert (other / "leaderboard" / "results" / "ci.jsonl").read_text() == "run\n"
    assert (submissions / "theirs.jsonl").exists()
    kept = (submissions / "old.verdicts.jsonl").read_text().splitlines()
    assert (kept[:2], sorted(kept[2:])) == (["first", "second"], ["by hand", "of the run"])
    assert "run" in (other / "leaderboard" / "README.md").read_text()
    assert repository.git("log", "--format=%s", "-3", "origin/main", where=other).splitlines()[1:] == ["meanwhile", "x"]


def test_pushing_is_tried_five_times(repository: Repository) -> None:
    hook = repository.origin / "hooks" / "pre-receive"
    hook.write_text("#!/bin/sh\necho locked >&2\nexit 1\n")
    hook.chmod(0o755)
    (repository.root / ".ci" / "leaderboard").write_text(SCRIPT.read_text().replace('sleep "$try"', "echo again"))
    repository.commit("no sleep")
    repository.write("results/ci.jsonl", "run\n")
    status, told = repository.step("commit", PUSH="1")
    assert (status, told.count("again"), "**Not pushed** after five tries" in told, "locked" in told) == (
        1,
        5,
        True,
        True,
    )


def test_what_hangs_is_ended_and_the_run_goes_on(repository: Repository) -> None:
    """The five minutes in addition to its share are set to zero."""
    text = SCRIPT.read_text()
    assert "$((seconds + 300))" in text
    (repository.root / ".ci" / "leaderboard").write_text(text.replace("$((seconds + 300))", "1"))
    repository.submit("new", 0, hangs=True)
    repository.submit("old", 4)
    status, told = repository.step("record")
    assert (status, "it did not end in its time" in told, "**refuted**" in told) == (0, True, True), told
