"""Keys of cells and of single networks: those that were published are found again, byte by byte."""

from __future__ import annotations

import lzma
import re
from dataclasses import fields, replace
from pathlib import Path

import pytest
from torch import nn

from sharpbench.core.record import Record
from sharpbench.core.registry import available
from sharpbench.datasets import Digits
from sharpbench.models import SmallMlp
from sharpbench.runner.cell import Cell, Checks, EvaluationSetting, KeyContent
from sharpbench.runner.network_evaluation import NetworkEvaluation, NetworkWeights
from sharpbench.runner.network_record import network_record
from sharpbench.runner.plan import select_measures
from sharpbench.training.recipe import available_parts, parse_recipe

RESULTS = sorted((Path(__file__).parents[2] / "leaderboard" / "results").glob("*.jsonl*"))
LABEL = re.compile(r'"label": ?"[^"\\]*"')
INSPECTED = "52d505dcfee5dfe9b9bd7c141fc09ba08b71f69d521fe2cdb1d1d8ea16d8386b"
"""The key that the first version wrote for the evaluation of a single network below."""


def first_of_each_label(path: Path) -> list[Record]:
    """The first record of each measure with its hyperparameters."""
    found: dict[str, Record] = {}
    with lzma.open(path, "rt", encoding="utf-8") if path.suffix == ".xz" else path.open(encoding="utf-8") as lines:
        for line in lines:
            label = LABEL.search(line)  # parsing each line would take most of the time
            assert label
            if label[0] not in found:
                found[label[0]] = Record.from_json(line, where=str(path))
    return list(found.values())


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_published_keys_are_those_of_their_cells(path: Path) -> None:
    """The cell is made anew, from the measure, the recipe and the data set that the record names."""
    measures, parts, compared = available("measures").classes, available_parts(), 0
    for record in first_of_each_label(path):
        if set(record.configuration) != {field.name for field in fields(measures[record.measure])}:  # type: ignore[arg-type]
            continue  # the measure has other fields since, and with them another key
        cell = Cell(
            measure=measures[record.measure](**record.configuration),
            recipe=parse_recipe(record.recipe, parts),
            population=str(record.data["population"]),
            design="designed",
            position=0,
            data_sha256=str(record.data["sha256"]),
            examples=None,
            setting=EvaluationSetting(seed=record.seed, dtype=record.dtype, device=record.device),  # type: ignore[arg-type]
            checks=Checks(timed=True),
        )
        examples = int(record.data["examples"] or 0)
        keys = {cell.key, replace(cell, examples=examples).key}
        content = KeyContent.of_record(record, version=cell.measure.version)
        assert keys == {content.key(examples=None), content.key(examples=examples)}
        compared += record.key in keys
        older = [KeyContent.of_record(record, version=each) for each in range(1, cell.measure.version)]
        keys |= {each.key(examples=count) for each in older for count in (None, examples)}  # values have changed since
        assert record.key in keys, record.label
    assert compared


def test_the_key_of_a_single_network_is_what_it_was() -> None:
    evaluation = NetworkEvaluation(
        model=SmallMlp(),
        measures=select_measures("parameter-norm"),
        dataset=Digits(),
        setting=EvaluationSetting(seed=3),
        checks=Checks(timed=True, rewritten=True),
    )
    weights = NetworkWeights("x", "f" * 64, nn.Identity(), frozen=2)
    record = network_record(evaluation, evaluation.measures[0], weights, {"sha256": "e" * 64}, {})
    assert record.key == INSPECTED
    renamed = replace(weights, source="y")
    assert network_record(evaluation, evaluation.measures[0], renamed, {"sha256": "e" * 64}, {}).key == INSPECTED
