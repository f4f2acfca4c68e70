"""`make gpu` on a machine without a GPU: its sections are independent, in small it does all of its steps."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import gpu
from sharpbench import read_records
from sharpbench.comparison import read_measurements


def report(output: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((output / "report.json").read_text(encoding="utf-8"))
    return found


def test_a_section_cannot_stop_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writes = "from pathlib import Path; Path({!r}).write_text('1\\n')"
    scratch: list[Path] = []

    def sections(device: str, output: Path, folder: Path, *, tiny: bool) -> list[gpu.Section]:
        scratch.append(folder)
        (folder / "made").write_text("row\n", encoding="utf-8")
        return [
            gpu.Section("raises", 60, (), ("-c", "raise ValueError('no luck')")),
            gpu.Section("waits", 1, (), ("-c", "import time; time.sleep(600)"), ("made", "records.jsonl")),
            gpu.Section("lacks", 60, ("no_such_module",), ("-c", "pass")),
            gpu.Section("works", 60, ("json",), ("-c", writes.format(str(output / "tests.jsonl")))),
        ]

    monkeypatch.setattr(gpu, "sections", sections)
    (tmp_path / "tables.jsonl").write_text("of an earlier run", encoding="utf-8")
    words = ["--device", "cpu", "--output", str(tmp_path), "--sections"]
    assert gpu.main([*words, "raises,waits,lacks,works"]) == 1
    rows = report(tmp_path)["sections"]
    assert {name: row["status"] for name, row in rows.items()} == {
        "raises": "failed",
        "waits": "unfinished",
        "lacks": "skipped",
        "works": "ok",
    }
    assert rows["raises"]["reason"] == "exit status 1: ValueError: no luck"
    assert rows["waits"]["reason"] == "ended after its budget of 1 s; what it had found is kept"
    assert rows["lacks"]["reason"] == "this Python has no no_such_module"
    assert (tmp_path / "records.jsonl").read_text(encoding="utf-8") == "row\n"
    assert (tmp_path / "tests.jsonl").is_file()
    assert not (tmp_path / "tables.jsonl").exists()
    assert not scratch[0].exists()
    assert gpu.main([*words, "lacks,works"]) == 0
    with pytest.raises(SystemExit):
        gpu.main([*words, "tablse"])


def test_a_device_that_computes_nothing_ends_it_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # nor where there is one
    assert gpu.main(["--device", "cuda", "--output", str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: device cuda computes nothing: ")
    assert said.count("\n") == 1
    assert not (tmp_path / "report.json").exists()


def test_a_checkout_that_is_not_installed_finds_its_own_measures(tmp_path: Path) -> None:
    gpu.write_metadata(tmp_path)
    (entry_points,) = tmp_path.glob("sharpbench-*.dist-info/entry_points.txt")
    text = entry_points.read_text(encoding="utf-8")
    assert "[sharpbench.measures]\nsharpbench = sharpbench_measures\nsharpbench_peers = sharpbench_peers\n" in text
    assert "[sharpbench.cohorts]" in text


def test_budgets_add_up_to_less_than_eight_minutes(tmp_path: Path) -> None:
    assert sum(each.budget for each in gpu.sections("cuda", tmp_path, tmp_path, tiny=False)) < 8 * 60


def test_modules_of_all_requirements_are_known() -> None:
    assert gpu.missing_modules(list(gpu.requirements())) == []


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_in_small_every_section_finds_what_it_says(tmp_path: Path) -> None:
    words = [sys.executable, gpu.__file__, "--device", "cpu", "--tiny", "--output", str(tmp_path)]
    # in a worker of pytest-xdist, its tests would take themselves for that worker's and report nothing
    own = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    done = subprocess.run(words, capture_output=True, text=True, timeout=1400, check=False, env=own)
    assert done.returncode == 0, done.stdout + (tmp_path / "log.txt").read_text(encoding="utf-8")[-3000:]
    assert {row["status"] for row in report(tmp_path)["sections"].values()} == {"ok"}
    rows = [json.loads(line) for line in (tmp_path / "tests.jsonl").read_text(encoding="utf-8").splitlines()]
    assert {row["outcome"] for row in rows} == {"passed"}
    tables = [json.loads(line) for line in (tmp_path / "tables.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [row["network"] for row in tables] == ["small-mlp", "test_resnet"]
    assert all(row["gradients"] > 0 for row in tables)
    assert "small-mlp" in (tmp_path / "training.md").read_text(encoding="utf-8")
    assert set(read_records(tmp_path / "records.jsonl")["status"]) == {"ok"}
    assert all(row.status == "ok" for row in read_measurements(tmp_path / "comparison.jsonl"))
