"""Merging: what shards made is what one run makes; each cell once, the best of what there is."""

from __future__ import annotations

import lzma
from dataclasses import replace
from pathlib import Path

import pytest

from sharpbench import InvalidInput, Record, plan, run
from sharpbench.core.jsonl import JsonlFile
from sharpbench.core.records import RECORDS, Merged, iterate_records, merge_records
from sharpbench.runner.cell import Shard
from sharpbench.training.zoo import Zoo

RECORD = Record(
    key="a", measure="m", label="m", configuration={}, recipe={}, truth={}, data={}, seed=0, dtype="float32",
    device="cpu", status="ok", value=1.0, time="2026-01-02T00:00:00+00:00",
)  # fmt: skip
FAILED = replace(RECORD, status="failed", reason="why", value=None)
EARLIER, LATER = "2026-01-01T00:00:00+00:00", "2026-01-03T00:00:00+00:00"


def written(folder: Path, *records: Record) -> Path:
    with JsonlFile(folder / RECORDS) as file:
        file.append(*records)
    return folder


def held(folder: Path) -> list[Record]:
    return list(iterate_records(folder / RECORDS))


def test_shards_together_are_the_whole(tmp_path: Path) -> None:
    """Also the networks: which train together does not depend on the shard."""
    cells = plan(
        "parameter-norm", "small-mlp", cohort="label-noise[ratios=2,seeds=3,train_size=32,max_epochs=2]", device="cpu",
        timing=0, oracle=0, invariance=0, examples=8,
    )  # fmt: skip
    whole = {record.key: record.value for record in run(cells, cache_dir=tmp_path / "one", threads=1)}
    folders = []
    for index in (1, 2):
        shard, folders = Shard(index, 2), [*folders, tmp_path / f"shard{index}"]
        made = list(run(cells, output=folders[-1], cache_dir=tmp_path / "two", threads=1, shard=shard))
        assert [record.key for record in made] == [cell.key for cell in cells if shard.holds(cell)]
        assert 0 < len(made) < len(cells)
    assert merge_records(folders, tmp_path / "out") == Merged(read=6, added=6, cells=6)
    assert {record.key: record.value for record in held(tmp_path / "out")} == whole
    assert merge_records(folders, tmp_path / "out") == Merged(read=6, added=0, cells=6)
    assert len(held(tmp_path / "out")) == 6
    assert len(Zoo(tmp_path / "two").entries()[0]) == 6


def test_the_best_record_of_a_cell_is_taken(tmp_path: Path) -> None:
    one = written(tmp_path / "one", FAILED, replace(FAILED, key="b", time=LATER), replace(RECORD, key="c"))
    two = written(tmp_path / "two", replace(RECORD, time=EARLIER), replace(FAILED, key="b"), replace(FAILED, key="c"))
    (two / RECORDS).write_text((two / RECORDS).read_text() + '{"torn', encoding="utf-8")
    assert merge_records([one, two], tmp_path / "out") == Merged(read=6, added=3, cells=3)
    assert {record.key: (record.status, record.time) for record in held(tmp_path / "out")} == {
        "a": ("ok", EARLIER),
        "b": ("failed", LATER),
        "c": ("ok", RECORD.time),
    }
    three = written(tmp_path / "three", replace(RECORD, key="b"), replace(RECORD, key="c", value=2.0, time=LATER))
    assert merge_records([three], tmp_path / "out") == Merged(read=2, added=2, cells=3)
    last = {record.key: record for record in held(tmp_path / "out")}
    assert (last["b"].status, last["c"].value) == ("ok", 2.0)
    again = merge_records([one, two, three], tmp_path / "out")
    assert again.added == 0
    assert {record.key: record for record in again.records} == last


def test_a_file_of_records_is_merged_as_its_folder(tmp_path: Path) -> None:
    folder = written(tmp_path / "one", RECORD)
    compressed = tmp_path / "name.jsonl.xz"
    compressed.write_bytes(lzma.compress(f"{replace(RECORD, key='b').to_json()}\n".encode()))
    assert merge_records([folder / RECORDS, compressed], tmp_path / "out") == Merged(read=2, added=2, cells=2)
    assert [record.key for record in held(tmp_path / "out")] == ["a", "b"]
    with pytest.raises(InvalidInput, match=r"records\.jsonl is merged into itself; name another --output"):
        merge_records([folder / RECORDS], folder)


def test_what_cannot_be_merged_is_named(tmp_path: Path) -> None:
    folder = written(tmp_path / "one", RECORD)
    with pytest.raises(InvalidInput, match=r"no records at .*none.records\.jsonl; name folders .*, or files"):
        merge_records([folder, tmp_path / "none"], tmp_path / "out")
    with pytest.raises(InvalidInput, match="is merged into itself; name another --output"):
        merge_records([folder], tmp_path / "one")
