"""The collections of benchmarks/populations.py: their words are valid, the colour population has its size, and what is
published is not computed again."""

from __future__ import annotations

import lzma
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.populations import (
    COLLECTIONS,
    GPU,
    RESULTS,
    command,
    latest_of_each,
    main,
    planned_recipes,
    publish_records,
    select_part,
    start_from_published,
)
from sharpbench.core.record import Record, Scalars
from sharpbench.core.records import RECORDS, read_last_records
from sharpbench.errors import InvalidInput
from sharpbench.leaderboard.collection import read_collection

AXES = ("learning_rate", "weight_decay", "batch_size", "augmentation", "optimizer")


@pytest.mark.parametrize("name", COLLECTIONS)
def test_the_words_of_every_run_are_valid(name: str) -> None:
    for number, run in enumerate(COLLECTIONS[name]):
        assert planned_recipes(run), number


@pytest.mark.parametrize("name", ["cifar10-jpeg", GPU])
def test_the_colour_population_has_100_networks_with_five_in_each_cell(name: str) -> None:
    each = [planned_recipes(run) for run in COLLECTIONS[name]]
    assert sum(map(len, each)) >= 100
    varying = {axis for recipes in each for axis in AXES if len({getattr(recipe, axis) for recipe in recipes}) == 2}
    assert varying == set(AXES)
    for recipes in each:
        cells = Counter(tuple(getattr(recipe, axis) for axis in AXES) for recipe in recipes)
        assert set(cells.values()) == {5}
        assert {(recipe.target_loss, recipe.label_noise, recipe.train_size) for recipe in recipes} == {(0.2, 0.0, 5000)}


def test_the_device_is_handed_to_the_run(tmp_path: Path) -> None:
    words = command(COLLECTIONS[GPU][0], tmp_path, workers=1, device="cuda")
    assert words[words.index("--device") + 1] == "cuda"


def measured(model: str, width: int, seed: int, label: str, *, value: float = 1.0, key: str = "") -> Record:
    recipe: Scalars = {"model": f"{model}[width={width}]", "dataset": "digits", "seed": seed}
    name = key or f"{model}-{width}-{seed}-{label}"
    return Record(
        key=name, measure=label, label=label, configuration={}, recipe=recipe, truth={}, data={"population": model},
        seed=0, dtype="float32", device="cpu", status="ok", value=value,
    )  # fmt: skip


def test_a_part_of_a_population_is_all_planned_networks_with_some_values() -> None:
    runs = COLLECTIONS["cifar10-jpeg"]
    records = [
        replace(measured(run[0], 4, 0, label, key=f"{run[0]}-{number}-{label}"), recipe=recipe.row())
        for run in runs
        for number, recipe in enumerate(planned_recipes(run))
        for label in run[2].split(",")
    ]
    of_cnn, _, of_vit = (len(run[2].split(",")) for run in runs)
    assert of_cnn != of_vit, "models may have different measures"
    part = select_part(records, runs, {"learning_rate": "1.5e-2", "optimizer": "sam", "augmentation": "0"})
    assert len(part) == of_cnn * 5
    assert {record.recipe["optimizer"] for record in part} == {"sam"}
    assert len(select_part(records, runs, {"optimizer": "adamw"})) == of_vit * 20
    unfinished = [record for record in records if record is not part[0]]
    with pytest.raises(InvalidInput, match=r"1 of 20 networks with learning_rate=0\.015 lack measures"):
        select_part(unfinished, runs, {"learning_rate": "0.015"})
    assert len(select_part(unfinished, runs, {"learning_rate": "0.03"})) == of_cnn * 20
    elsewhere = [replace(record, recipe={**record.recipe, "code": "timm 0.9"}) for record in records]
    assert len(select_part(elsewhere, runs, {"optimizer": "adamw"})) == of_vit * 20, "another version of timm"
    first, moved = records[0].recipe, {"device": "cuda"}
    for change in (moved, {"recipe": {**first, "code": "timm 0.9"}}):
        half = [replace(each, **change) if each.recipe == first and each.label > "m" else each for each in records]
        with pytest.raises(InvalidInput, match=r"1 of 20 networks with learning_rate=0\.015 were trained on several"):
            select_part(half, runs, {"learning_rate": "0.015"})
    sam = {"optimizer": "sam", "learning_rate": "0.015"}
    for replaced in (replace(part[0], status="failed", value=None), replace(part[0], label="planned-no-longer")):
        with pytest.raises(InvalidInput, match=r"1 of 10 networks with optimizer=sam,.* lack measures"):
            select_part([*unfinished, replaced], runs, sam)
    with pytest.raises(InvalidInput, match=r"no planned network has learning_rate=0\.5"):
        select_part(records, runs, {"learning_rate": "0.5"})
    with pytest.raises(InvalidInput, match="a recipe has no 'rate'"):
        select_part(records, runs, {"rate": "0.5"})


def test_a_later_version_of_a_measure_replaces_the_earlier_one_on_its_network() -> None:
    earlier, other = measured("mlp", 4, 0, "trace"), measured("mlp", 4, 1, "trace")
    later = measured("mlp", 4, 0, "trace", value=2.0, key="version-2")
    assert latest_of_each([earlier, other, later]) == [later, other]


@pytest.mark.parametrize("limit", [0, 10**6])
def test_a_run_starts_from_what_is_published(tmp_path: Path, limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.populations.MAX_PLAIN_BYTES", limit)
    records = list(read_collection(RESULTS / "digits-label-noise.jsonl").records[:2])
    publish_records(records, "some-name", tmp_path / "results")
    assert [path.name for path in (tmp_path / "results").iterdir()] == [f"some-name.jsonl{'' if limit else '.xz'}"]
    start_from_published(tmp_path / "run", "some-name", tmp_path / "results")
    assert read_last_records(tmp_path / "run" / RECORDS) == records
    publish_records(records[:1], "some-name", tmp_path / "results")
    start_from_published(tmp_path / "run", "some-name", tmp_path / "results")
    assert read_last_records(tmp_path / "run" / RECORDS) == records, "what a run has is kept"
    start_from_published(tmp_path / "other", "not-published", tmp_path / "results")
    assert not (tmp_path / "other").exists()


def test_a_damaged_file_of_results_is_named(tmp_path: Path) -> None:
    (tmp_path / "some-name.jsonl.xz").write_bytes(lzma.compress(b"a record\n" * 99)[:-9])
    with pytest.raises(InvalidInput, match=r"some-name\.jsonl\.xz is not an intact xz file \(.*\); restore it"):
        start_from_published(tmp_path / "run", "some-name", tmp_path)
    assert not (tmp_path / "run" / RECORDS).exists()


def test_records_that_contradict_each_other_are_not_published(tmp_path: Path) -> None:
    first, second = read_collection(RESULTS / "digits-label-noise.jsonl").records[:2]
    publish_records([first, second], "some-name", tmp_path)
    other_key = replace(first, key="0" * 64, recipe={**first.recipe, "seed": 77})
    with pytest.raises(InvalidInput, match="key"):
        publish_records([first, other_key], "some-name", tmp_path)
    trained_anew = replace(second, truth={**second.truth, "train_loss": 0.5})
    with pytest.raises(InvalidInput, match="train_loss"):
        publish_records([first, trained_anew], "some-name", tmp_path)
    assert read_last_records(tmp_path / "some-name.jsonl") == [first, second]


def test_a_run_that_was_killed_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    codes = iter([-9, 0, 0])
    monkeypatch.setattr("benchmarks.populations._run", lambda _: next(codes))
    monkeypatch.setattr("benchmarks.populations.publish_records", lambda *_: pytest.fail("an unfinished run"))
    assert main(["cifar10-jpeg", "--work", str(tmp_path)]) == 9


INTERRUPTED = """
import signal, sys
import benchmarks.populations as populations
child = '''
import signal, sys, time
def end(*_):
    time.sleep(0.3)
    print("kept")
    sys.exit(130)
signal.signal(signal.SIGINT, {handler})
print("begun", flush=True)
time.sleep(3600)
'''
signal.signal(signal.SIGINT, signal.default_int_handler)
for handler in ("end", "signal.SIG_DFL"):
    populations.command = lambda *_, **__: [sys.executable, "-c", child.format(handler=handler)]
    print("ended", populations.main([*sys.argv[1:], "mnist-timm", "cifar10-jpeg"]), flush=True)
"""


def test_ctrl_c_waits_for_the_run_to_end_and_begins_no_other(tmp_path: Path) -> None:
    """First a run that is ready for it, which prints once more and then ends; then one that the signal itself ends."""
    words = [sys.executable, "-c", INTERRUPTED, "--work", str(tmp_path)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, process_group=0) as driver:
        assert driver.stdout is not None
        for rest in (["kept\n", "ended 130\n"], ["ended 130\n"]):
            assert driver.stdout.readline() == "begun\n"
            os.killpg(driver.pid, signal.SIGINT)
            assert [driver.stdout.readline() for _ in rest] == rest
        printed, errors = driver.communicate()
    assert (driver.returncode, printed, errors) == (0, "", "")


def test_a_collection_that_cannot_be_published_keeps_no_other_from_its_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command that is replaced writes no records."""
    begun = []

    def end(words: list[str]) -> int:
        begun.append(words)
        return 0

    monkeypatch.setattr("benchmarks.populations._run", end)
    monkeypatch.setattr("benchmarks.populations.start_from_published", lambda *_: None)
    assert main(["mnist1d-thousand", "mnist-attention", "--work", str(tmp_path)]) == 2
    assert len(begun) == 2
    assert capsys.readouterr().err.count("error: ") == 2


def test_several_parts_are_published_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = (("mlp", "label-noise[ratios=3,seeds=2]", "margin", "digits"),)
    monkeypatch.setattr("benchmarks.populations.COLLECTIONS", {"few": runs})
    published: list[Record] = []
    monkeypatch.setattr("benchmarks.populations.publish_records", lambda records, _: published.extend(records))
    (tmp_path / "few-0").mkdir()
    rows = [
        replace(measured("mlp", 4, number, "margin"), recipe=recipe.row())
        for number, recipe in enumerate(planned_recipes(runs[0]))
        if (recipe.label_noise, recipe.seed) != (1.0, 1)
    ]
    (tmp_path / "few-0" / RECORDS).write_text("".join(f"{record.to_json()}\n" for record in rows))
    parts = ["--part", "label_noise=0.5", "--part", "seed=0"]
    assert main(["few", "--work", str(tmp_path), *parts]) == 0
    chosen = [(record.recipe["label_noise"], record.recipe["seed"]) for record in published]
    assert sorted(chosen) == [(0.0, 0), (0.5, 0), (0.5, 1), (1.0, 0)]
    assert main(["few", "--work", str(tmp_path), *parts, "--part", "label_noise=1"]) == 2
    assert len(published) == 4


def test_a_part_of_a_collection_whose_later_runs_have_not_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is published stands in for their records."""
    runs = tuple((model, "label-noise", "margin", "digits") for model in ("mlp", "lenet"))
    monkeypatch.setattr("benchmarks.populations.COLLECTIONS", {"few": runs})
    results, begun = tmp_path / "results", tmp_path / "work" / "few-1" / RECORDS
    monkeypatch.setattr(start_from_published, "__defaults__", (results,))
    monkeypatch.setattr(publish_records, "__defaults__", (results,))
    wanted = {"label_noise": 0.0, "seed": 0}
    found = {
        record.recipe["model"]: record
        for record in read_collection(RESULTS / "digits-label-noise.jsonl").records
        if record.measure == "margin" and wanted.items() <= record.recipe.items()
    }
    publish_records([found["mlp"]], "few")
    begun.parent.mkdir(parents=True)
    begun.write_text(f"{found['lenet'].to_json()}\n")
    assert main(["few", "--work", str(tmp_path / "work"), "--part", "label_noise=0,seed=0"]) == 0
    assert read_last_records(results / "few.jsonl") == [found["mlp"], found["lenet"]]


def test_ctrl_c_while_records_are_put_together_ends_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("benchmarks.populations._run", lambda _: 0)
    monkeypatch.setattr("benchmarks.populations.merge_records", interrupted)
    assert main(["mnist-timm", "mnist-attention", "--work", str(tmp_path)]) == 130


def test_a_part_without_records_gets_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["mnist-timm", "--work", str(tmp_path), "--part", "seed=1"]) == 2
    assert re.fullmatch(
        r"error: mnist-timm: no records at .*mnist-timm-0.records\.jsonl; .*\n", capsys.readouterr().err
    )


@pytest.mark.parametrize("words", [[], ["mnist-timm", "mnist-attention"], ["mnist-timm", "--dry-run"]])
def test_a_part_is_of_one_collection(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([*words, "--part", "learning_rate=0.01"])
    assert "--part is of one collection" in capsys.readouterr().err
