"""Networks are told apart by recipe, data and device: each value goes with the gap of its own network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from sharpbench.analysis.population import group_populations, recipe_text
from sharpbench.analysis.scores import score_records
from sharpbench.core.record import Record

MakeMany = Callable[..., list[Record]]


def elsewhere(record: Record, *, device: str = "cuda", sha256: str | None = None, gap: float | None = None) -> Record:
    """The record of the same recipe on another device or on other data, whose gap is the opposite one."""
    truth = {**record.truth, "gap": -float(str(record.truth["gap"])) if gap is None else gap}
    data = record.data if sha256 is None else {**record.data, "sha256": sha256}
    return replace(record, key=f"{record.key} {device} {sha256}", device=device, truth=truth, data=data)


@pytest.mark.parametrize("change", [{"device": "cuda"}, {"device": "cpu", "sha256": "cd" * 32}])
def test_merged_results_correlate_with_their_own_gaps(records: MakeMany, change: dict[str, str]) -> None:
    here = records()
    there = [elsewhere(record, **change) for record in here]
    alone = {score.label: score for score in score_records(here)}
    for merged in (here + there, there + here):
        found = score_records(merged)
        assert {score.model for score in found if score.kind == "measure"} != {"mlp"}
        for score in (score for score in found if score.label == "good"):
            sign = 1 if score.model in ("mlp (cpu)", f"mlp (data {str(here[0].data.get('sha256'))[:8]})") else -1
            assert score.marginal.value == pytest.approx(sign * (alone["good"].marginal.value or 0.0))
            assert (score.total, score.complete) == (alone["good"].total, True)
            assert score.setting == ""


def test_seeds_of_more_than_53_bits_are_different_networks(record: Callable[..., Record]) -> None:
    first = 2**60
    found = [record(seed=first + step, value=float(step), truth={"gap": step / 10}) for step in range(8)]
    (score,) = [score for score in score_records(found) if score.kind == "measure"]
    assert (score.total, score.marginal.value) == (8, 1.0)
    assert recipe_text({"seed": 2}) == recipe_text({"seed": 2.0}) == recipe_text({"seed": 2 + 0.0 * -1})
    assert recipe_text({"seed": 10**400}) != recipe_text({"seed": 10**400 + 1})


def test_an_extra_record_on_another_device_changes_no_gap(records: MakeMany) -> None:
    here = records()
    perfect = [elsewhere(record, gap=record.value) for record in here if record.label == "confounded"]
    before = {score.label: score.correlations for score in score_records(here) if score.kind == "measure"}
    for merged in (here + perfect, perfect + here):
        after = [score for score in score_records(merged) if score.model == "mlp (cpu)" and score.kind == "measure"]
        assert {score.label: score.correlations for score in after} == before


def test_data_whose_hashes_begin_alike_have_different_names(records: MakeMany) -> None:
    here = records()
    digests = ["ab" * 31 + last for last in ("00", "01")]
    merged = [elsewhere(record, device="cpu", sha256=digest) for digest in digests for record in here]
    found = group_populations(merged)
    assert len(found) == len({population.model for population in found}) == 2
