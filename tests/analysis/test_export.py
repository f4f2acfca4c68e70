"""Scores as JSON: everything in the tables, and nothing that JSON has not."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from sharpbench.analysis.scores import score_records, scores_json
from sharpbench.core.record import Record

MakeMany = Callable[..., list[Record]]


def test_every_row_with_every_number(records: MakeMany) -> None:
    scores = score_records([*records(), *records(model="lenet", seeds=3)])
    found = json.loads(scores_json(scores), parse_constant=lambda text: pytest.fail(text))
    assert [(row["model"], row["label"], row["rank"]) for row in found] == [
        (row.model, row.label, row.rank) for row in scores
    ]
    first, judged = found[7], scores[7].correlations
    assert first["judgement"]["marginal"]["value"] == judged.marginal.value
    assert first["judgement"]["granulated"]["axes"]["label_noise"]["interval"] == {
        "low": judged.granulated.axes["label_noise"].interval.low,  # type: ignore[union-attr]
        "high": judged.granulated.axes["label_noise"].interval.high,  # type: ignore[union-attr]
    }
    assert judged.information.null is not None
    assert first["judgement"]["information"]["null"]["p"] == judged.information.null.p
    assert first["judgement"]["signs"]["at"] == "label_noise"
    assert found[0]["judgement"]["within"]["interval"] is None
    assert "needs 5" in found[0]["judgement"]["within"]["reason"]
    assert first["exactness"]["oracle"] == "definition"


def test_equal_records_give_equal_text_and_none_an_empty_array(records: MakeMany) -> None:
    assert scores_json(score_records(records())) == scores_json(score_records(records()[::-1]))
    assert scores_json([]) == "[]\n"
