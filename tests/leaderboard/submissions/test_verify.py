"""Recomputing a sample: honest submissions verify, one changed number refutes, what cannot be known is said."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sharpbench_measures import Average

from sharpbench import Estimate, Record, plan, run
from sharpbench.core.evaluate import measure
from sharpbench.datasets import Digits
from sharpbench.files import Workspace
from sharpbench.leaderboard.submissions import (
    Compared,
    Finding,
    Manifest,
    Verdict,
    VerificationSetting,
    draw_cells,
    find_installed,
    format_submission,
    read_submission,
    select_cells,
    tolerance,
    verify_submission,
)
from sharpbench.leaderboard.submissions import findings as comparison
from sharpbench.leaderboard.submissions.claims import hash_cell, hash_network
from sharpbench.leaderboard.submissions.networks import SubmittedPopulations
from sharpbench.leaderboard.submissions.sampling import resolve_record
from sharpbench.leaderboard.submissions.submission import hash_records
from sharpbench.training.examples import initial_module
from sharpbench.training.population import Population
from sharpbench.training.recipe import network_key
from sharpbench.training.zoo import Origin, Zoo

from .conftest import COHORT, MEASURES, forged


def verification(cache: Path, **setting: Any) -> VerificationSetting:
    return VerificationSetting(workspace=Workspace(cache_dir=cache), **setting)


def findings(path: Path, cache: Path, *, sample: int = 100, **setting: Any) -> list[Finding]:
    submission, known = read_submission(path), find_installed()
    drawn = draw_cells(submission, sample=sample, seed=0, known=known)
    steps = verify_submission(submission, drawn, verification(cache, known=known, **setting))
    return [finding for step in steps if isinstance(step, Compared) for finding in step.findings]


def state(found: list[Finding]) -> str:
    said = {"name": "honest", "sha256": "0" * 64, "seed": 0, "sample": 0, "time": "2026-11-21T20:00:00+00:00"}
    return Verdict(**said, environment={}, findings=tuple(found)).state  # type: ignore[arg-type]


def outcomes(found: list[Finding]) -> set[tuple[str, str]]:
    return {(each.what, each.outcome) for each in found}


def of(records: tuple[Record, ...], name: str) -> Record:
    return next(record for record in records if record.measure == name)


def test_an_honest_submission_verifies_on_networks_trained_anew_bit_by_bit(text: str, tmp_path: Path) -> None:
    found = findings(forged(text, tmp_path), tmp_path / "cache")
    assert outcomes(found) == {("value", "agrees"), ("gap", "agrees")}
    assert len(found) == 12 + 4
    assert {each.difference for each in found} == {0.0}  # the same groups, machine and versions
    assert state(found) == "verified"


@pytest.mark.parametrize("name", ["gradient-norm", "parameter-norm", "average"])
def test_one_changed_value_refutes(
    name: str, text: str, records: tuple[Record, ...], ran: Path, tmp_path: Path
) -> None:
    record = of(records, name)
    value = float(record.value or 0)
    wrong = value * 1.001
    found = findings(forged(text, tmp_path, [replace(record, value=wrong)]), ran / "cache")
    assert state(found) == "refuted"
    odd = [each for each in found if each.outcome == "differs"]
    assert [(each.key, each.what, each.claimed, each.found) for each in odd] == [(record.key, "value", wrong, value)]
    assert abs(odd[0].difference or 0) > (odd[0].bound or math.inf)
    assert {each.outcome for each in found if each.key != record.key} == {"agrees"}


def test_a_changed_gap_refutes(text: str, records: tuple[Record, ...], ran: Path, tmp_path: Path) -> None:
    truth = records[0].truth
    better = {"test_accuracy": float(str(truth["test_accuracy"])) - 0.1, "gap": float(str(truth["gap"])) + 0.1}
    lies = [replace(each, truth={**truth, **better}) for each in records if each.recipe == records[0].recipe]
    found = findings(forged(text, tmp_path, lies), ran / "cache")
    assert state(found) == "refuted"
    assert [each.what for each in found if each.outcome == "differs"] == ["gap", "test_accuracy"]


def test_a_wrong_number_of_test_examples_refutes(
    text: str, records: tuple[Record, ...], ran: Path, tmp_path: Path
) -> None:
    lies = [replace(each, data={**each.data, "test_examples": 10_000}) for each in records]
    found = findings(forged(text, tmp_path, lies), ran / "cache", sample=1)
    assert outcomes(found) == {("gap", "agrees"), ("test_examples", "differs"), ("value", "agrees")}


def test_a_network_with_forged_identity_is_never_verified(
    text: str, records: tuple[Record, ...], ran: Path, tmp_path: Path
) -> None:
    lies = [replace(each, truth={**each.truth, "steps": 7}, value=2 * (each.value or 0)) for each in records]
    found = findings(forged(text, tmp_path, lies), ran / "cache", sample=2)
    assert outcomes(found) == {("value", "parted"), ("gap", "parted")}
    assert state(found) == "claimed"
    assert all("training led to another network here: steps 7 there" in each.reason for each in found)
    huge = [replace(each, value=1e4 * (each.value or 0)) for each in lies]
    assert state(findings(forged(text, tmp_path, huge), ran / "cache", sample=2)) == "refuted"
    far = {"gap": 0.0, "train_accuracy": 1.0, "test_accuracy": 1.0}
    gaps = [replace(each, truth={**each.truth, **far}) for each in lies]
    found = findings(forged(text, tmp_path, gaps), ran / "cache", sample=2)
    assert ("gap", "differs") in outcomes(found)


def test_what_a_damaged_cache_says_refutes_nobody(text: str, ran: Path, tmp_path: Path) -> None:
    """The network in the cache is another one with the same steps, loss and norm; the one trained anew is not."""
    path = forged(text, tmp_path)
    cells = plan(MEASURES, "small-mlp", cohort=COHORT, device="cpu", examples=12)
    recipes = tuple(dict.fromkeys(cell.recipe for cell in cells))
    population = Population(recipes, Digits().load(None), cells[0].data_sha256, cache=tmp_path / "c", device="cpu")
    good, bad = Zoo(ran / "cache"), Zoo(tmp_path / "c")
    for recipe in recipes:
        key = network_key(recipe, cells[0].data_sha256, "cpu")
        weights, result = good.load(key) or ({}, {})
        first = next(name for name in weights if weights[name].ndim == 2)
        flipped = weights | {first: weights[first].flip(0)}
        bad.save(key, flipped, result, origin=Origin(recipe.row(), cells[0].data_sha256, "cpu"))
    assert population.stored_result(recipes[0]) is not None
    found = findings(path, tmp_path / "c")
    assert "differs" not in {each.outcome for each in found}


def test_a_network_that_another_group_trained_is_trained_again_in_that_of_the_claim(
    text: str, records: tuple[Record, ...], tmp_path: Path
) -> None:
    """In the cache lies a network that parted: other steps, as another group may give, and other weights."""
    recipes = tuple(dict.fromkeys(resolve_record(each, find_installed()).recipe for each in records))
    data = Digits().load(None)
    other = Population(recipes[:1], data, data.sha256(), cache=tmp_path / "alone", device="cpu")
    alone = Zoo(tmp_path / "alone")
    key = network_key(recipes[0], data.sha256(), "cpu")
    other.get_network(recipes[0])
    weights, result = alone.load(key) or ({}, {})
    elsewhere = {name: 1.5 * weight for name, weight in weights.items()}
    origin = Origin(recipes[0].row(), data.sha256(), "cpu")
    alone.save(key, elsewhere, {**result, "steps": 7}, origin=origin)
    found = findings(forged(text, tmp_path), tmp_path / "alone")
    assert outcomes(found) == {("value", "agrees"), ("gap", "agrees")}
    assert {each.difference for each in found} == {0.0}
    assert alone.load(key)[1]["steps"] == 7  # type: ignore[index]  # the cache stays as it was


def test_networks_train_in_the_groups_of_the_plan_whatever_the_order_of_the_records(
    text: str, records: tuple[Record, ...], tmp_path: Path
) -> None:
    def order(lines: Sequence[Record]) -> list[object]:
        header = Manifest.from_json(text.splitlines()[0])
        path = tmp_path / "honest.jsonl"
        path.write_text(format_submission(replace(header, sha256=hash_records(lines)), lines))
        populations = SubmittedPopulations(read_submission(path), verification(tmp_path, known=find_installed()))
        return [
            recipe.row()["label_noise"]
            for recipe in populations.of(resolve_record(records[0], find_installed())).recipes
        ]

    assert order(records) == order(records[::-1]) == order(records[5:] + records[:5]) == [0.0, 0.0, 1.0, 1.0]


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        (
            {"stderr": 1e-9, "converged": False, "exact": 0.0, "oracle": "definition", "invariance": {"layer": 1.0}},
            {"stderr", "converged", "exact", "invariance.layer", "invariance.unit", "invariance.permutation"},
        ),
        ({"stderr": None, "low": -1e9, "high": 1e9}, {"stderr", "low", "high"}),
        ({"truth": {"test_loss": 0.0, "epochs": 1, "diverged": True}}, {"test_loss", "epochs", "diverged"}),
        ({"truth": {"test_loss": None}}, {"test_loss"}),
    ],
)
def test_what_stands_beside_a_value_is_compared_too(
    change: dict[str, Any], wrong: set[str], text: str, records: tuple[Record, ...], ran: Path, tmp_path: Path
) -> None:
    record = of(records, "average")
    values = {name: {**getattr(record, name), **v} if isinstance(v, dict) else v for name, v in change.items()}
    lies = [replace(record, **values)]
    if "truth" in change:
        lies = [replace(each, truth=values["truth"]) for each in records if each.recipe == record.recipe]
    path = forged(text, tmp_path, lies)
    found = of_cell(path, record, ran)
    assert state(found) == "refuted"
    assert {each.what for each in found if each.outcome == "differs"} == wrong
    assert ("value", "agrees") in outcomes(found)


def of_cell(path: Path, record: Record, ran: Path) -> list[Finding]:
    submission, known = read_submission(path), find_installed()
    steps = verify_submission(
        submission,
        select_cells(submission, [record.key], known),
        verification(ran / "cache", known=known),
    )
    return [finding for step in steps if isinstance(step, Compared) for finding in step.findings]


def test_intervals_and_examples_are_compared_where_they_can_be(records: tuple[Record, ...]) -> None:
    record = of(records, "average")
    value, stderr = record.value or 0.0, record.stderr or 0.0
    claim = replace(record, low=value - 2 * stderr, high=value + 2 * stderr)
    here = Estimate(value, stderr=stderr, interval=(value - 2 * stderr, value + 2 * stderr), probes=record.probes)

    here = replace(here, stderr_examples=record.stderr_examples)

    def differs(claim: Record, apart: float = 0.0, examples: int = 12, available: int = 48) -> list[str]:
        counts = {"examples": examples, "available": available}
        return [each.what for each in comparison.compare_estimate(claim, here, apart, **counts)]

    assert differs(claim) == differs(replace(claim, low=claim.low * (1 + 1e-7))) == []  # type: ignore[operator]
    assert differs(replace(claim, high=value + stderr, low=value - stderr)) == ["low", "high"]
    assert differs(replace(claim, low=None, high=None)) == ["low", "high"]
    assert differs(claim, examples=48) == ["examples"]
    assert differs(claim, available=12) == ["available"]
    assert differs(replace(claim, data={"examples": 12})) == []  # as earlier versions wrote it
    assert record.stderr_examples
    assert differs(replace(claim, stderr_examples=1.1 * record.stderr_examples)) == ["stderr_examples"]
    assert differs(replace(claim, stderr_examples=0.0)) == ["stderr_examples"]
    assert differs(replace(claim, stderr_examples=None)) == []  # nothing is claimed
    assert differs(replace(claim, stderr=0.0), apart=1.0) == []  # on another network nothing can be decided
    other_torch = {**claim.environment, "torch": "1.0"}
    elsewhere = replace(claim, stderr=0.0, value=value + stderr, converged=False, environment=other_torch)
    assert differs(elsewhere) == []  # nor of other random numbers
    assert differs(replace(elsewhere, value=value)) == ["stderr"]  # which an equal value shows to be the same
    assert differs(replace(claim, probes=9, stderr=0.0)) == ["probes"]
    other_processor = {**claim.environment, "processor": "Z80"}
    assert differs(replace(claim, probes=9, environment=other_processor)) == []  # a stopping rule may fall otherwise
    assert differs(replace(claim, probes=0, environment=other_processor)) == ["probes"]
    assert list(comparison.compare_estimate(claim, replace(here, probes=0, stderr=0.0), 0.0, examples=12, available=48))
    assert differs(replace(claim, converged=False)) == ["converged"]
    assert differs(replace(claim, converged=False, environment={**claim.environment, "processor": "Z80"})) == []


def test_oracles_and_invariance_are_found_again(
    records: tuple[Record, ...], text: str, ran: Path, tmp_path: Path
) -> None:
    """Of the first network, as a run has them; one number of each changed by a little."""
    out = tmp_path / "checked"
    words = {"cohort": COHORT, "device": "cpu", "examples": 12, "timing": 0, "oracle": 1, "invariance": 1}
    checked = [
        record
        for record in run(plan("gradient-norm", "small-mlp", **words), output=out, cache_dir=ran / "cache", threads=1)
        if record.exact is not None
    ]
    assert [sorted(record.invariance) for record in checked] == [["layer", "permutation", "unit"]]
    found = of_cell(forged(text, tmp_path, checked), checked[0], ran)
    assert state(found) == "verified"
    told = [(each.what, each.outcome, each.difference) for each in found if each.what not in ("value", "gap")]
    kinds = ("exact", *(f"invariance.{kind}" for kind in checked[0].invariance))
    assert sorted(told) == sorted((kind, "agrees", 0.0) for kind in kinds)
    (one,) = checked
    little = {"exact": (one.exact or 0) * (1 + 1e-8), "oracle": "float64 engine"}
    for change, what in (
        ({**little, "invariance": {**one.invariance, "layer": 1.0}}, {"exact", "oracle", "invariance.layer"}),
        ({"invariance": {"layer": None}}, {f"invariance.{kind}" for kind in one.invariance}),
    ):
        found = of_cell(forged(text, tmp_path, [replace(one, **change)]), one, ran)
        assert {each.what for each in found if each.outcome == "differs"} == what


def test_what_was_refuted_before_is_drawn_first_and_is_half_of_a_sample_at_most(text: str, tmp_path: Path) -> None:
    submission, known = read_submission(forged(text, tmp_path)), find_installed()
    cells = submission.records[3], submission.records[10]
    wanted = {record.key for record in cells}
    before = frozenset(map(hash_cell, cells))
    for seed in range(6):
        drawn = draw_cells(submission, sample=4, seed=seed, known=known, doubted=before)
        assert {cell.record.key for cell in drawn.cells[:2]} == wanted
        assert len({cell.record.key for cell in drawn.cells}) == 4
        (first,) = draw_cells(submission, sample=1, seed=seed, known=known, doubted=before).cells
        assert first.record.key in wanted
        everywhere = frozenset(map(hash_network, submission.records))
        assert len(draw_cells(submission, sample=4, seed=seed, known=known, doubted=everywhere).cells) == 4


def test_a_measure_that_is_not_installed_stays_claimed_and_that_is_said(
    text: str, records: tuple[Record, ...], ran: Path, tmp_path: Path
) -> None:
    aliens = [
        replace(each, measure="alien", label="alien", key=each.key[::-1]) if each.measure == "gradient-norm" else each
        for each in records
    ]
    moved = {old.key: new for old, new in zip(records, aliens, strict=True)}
    lines = [moved[record.key] for record in records]
    path = forged(text, tmp_path, lines, measures={"alien": "x 1", "average": "y 1", "parameter-norm": "y 1"})
    # `forged` replaces by key: the aliens have their own keys, so they are put in by hand
    header = path.read_text().splitlines()[0]
    manifest = replace(Manifest.from_json(header), sha256=hash_records(lines))
    path.write_text(format_submission(manifest, lines))
    found = findings(path, ran / "cache")
    unknown = [each for each in found if each.outcome == "unknown"]
    assert [each.label for each in unknown] == ["alien"]
    assert unknown[0].reason.startswith("measure 'alien' is not installed here")
    assert state(found) == "claimed"  # eight of nine values agree
    only = [record for record in lines if record.measure == "alien"]
    path.write_text(format_submission(replace(manifest, sha256=hash_records(only), records=len(only)), only))
    assert state(findings(path, ran / "cache")) == "claimed"


def test_records_of_another_version_are_not_refuted(
    text: str, records: tuple[Record, ...], ran: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sharpbench_measures import GradientNorm

    monkeypatch.setattr(GradientNorm, "version", GradientNorm.version + 1)
    found = findings(forged(text, tmp_path), ran / "cache")
    assert [each.reason for each in found if each.label == "gradient-norm" and each.what == "value"] == [
        "the key of 'gradient-norm' is not that of its cell: another version of it, or altered"
    ]
    assert state(found) == "claimed"  # eight of nine values agree


def test_trainings_beyond_reason_are_not_begun(
    text: str, records: tuple[Record, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sharpbench.leaderboard.submissions.networks.MAX_TRAINING_WORK", 1e6)
    found = findings(forged(text, tmp_path), tmp_path / "cache", sample=3)
    assert {each.reason.split(" may take ")[0] for each in found} == {"its training"}
    assert not (tmp_path / "cache").exists()


def test_what_nobody_would_have_run_holds_up_no_group(
    text: str, records: tuple[Record, ...], ran: Path, tmp_path: Path
) -> None:
    """A forged record of a network that would train for ever, of the same kind as honest ones, and of a huge model."""
    endless = {"max_epochs": 2**62, "target_loss": 1e-300, "seed": 99}
    spent = {**records[0].truth, "fitted": False, "epochs": 2**62}
    forever = replace(records[0], key="0" * 64, recipe={**records[0].recipe, **endless}, truth=spent)
    huge = replace(records[0], key="1" * 64, recipe={**records[0].recipe, "model": "small-mlp[width=1000000000]"})
    lines = (forever, huge, *records)
    header = Manifest.from_json(text.splitlines()[0])
    path = tmp_path / "honest.jsonl"
    path.write_text(format_submission(replace(header, records=len(lines), sha256=hash_records(lines)), lines))
    found = findings(path, tmp_path / "cache", sample=3)
    assert outcomes(found) == {("value", "agrees"), ("gap", "agrees")}


def test_the_sample_takes_every_measure_in_turn_and_the_seed_chooses(text: str, tmp_path: Path) -> None:
    submission, known = read_submission(forged(text, tmp_path)), find_installed()
    drawn = [draw_cells(submission, sample=6, seed=seed, known=known) for seed in range(8)]
    for each in drawn:
        assert sorted(cell.record.measure for cell in each.cells) == sorted(
            2 * ["average", "parameter-norm", "gradient-norm"]
        )
    assert len({tuple(cell.record.key for cell in each.cells) for each in drawn}) > 4
    assert draw_cells(submission, sample=6, seed=3, known=known) == drawn[3]
    key = submission.records[5].key
    assert [cell.record.key for cell in select_cells(submission, [key[:12]], known).cells] == [key]
    with pytest.raises(ValueError, match="names 0 cells with a value"):
        select_cells(submission, ["ffffffffffff"], known)
    with pytest.raises(ValueError, match="give the beginning of one key, 8"):
        select_cells(submission, [key[:3]], known)


def test_a_stochastic_value_of_other_random_numbers_is_never_verified(records: tuple[Record, ...], ran: Path) -> None:
    """Values of 40 other seeds, as another torch would draw them, are unknown; beyond the noise they differ.

    With the same torch the seed gives the same numbers, and every one of them differs. An equal value shows that the
    other torch drew the same numbers.
    """
    record = of(records, "average")
    cell = resolve_record(record, find_installed())
    data = Digits().load(None)
    recipes = tuple(dict.fromkeys(resolve_record(each, find_installed()).recipe for each in records))
    population = Population(recipes, data, data.sha256(), cache=ran / "cache", device="cpu")
    module = initial_module(cell.recipe, data.shape, data.classes)
    subject = population.get_network(cell.recipe).subject(module, examples=12, dtype=torch.float32, device="cpu")
    chosen = Average(samples=50)
    here = measure(chosen, subject, seed=0)
    elsewhere = {**record.environment, "torch": "1.0"}
    claim = replace(record, value=here.value, stderr=here.stderr, probes=here.probes)
    assert compared(replace(claim, environment=elsewhere), here) == "agrees"
    for seed in range(1, 41):
        drawn = measure(chosen, subject, seed=seed)
        claim = replace(record, value=drawn.value, stderr=drawn.stderr, probes=drawn.probes)
        assert compared(claim, here) == "differs"
        assert compared(replace(claim, environment=elsewhere), here) == "unknown"
        assert compared(replace(claim, probes=49), here) == "unknown"
        far = replace(claim, value=here.value + 15 * (here.stderr or 0), stderr=1e9)
        assert compared(replace(far, environment=elsewhere), here) == "differs"
        assert compared(replace(far, probes=2), here) == "differs"
    assert compared(replace(claim, environment=elsewhere), replace(here, stderr=None)) == "unknown"


def compared(record: Record, found: Estimate) -> str:
    return comparison.compare_value(record, found, 0.0, record.truth).outcome


def test_a_value_that_converged_elsewhere_only_is_not_verified(records: tuple[Record, ...]) -> None:
    record = of(records, "gradient-norm")
    here = Estimate(record.value or 0.0, stderr=0.0, converged=False)
    assert compared(record, here) == "agrees"  # the number; the finding on `converged` refutes
    elsewhere = replace(record, environment={**record.environment, "processor": "Z80"})
    finding = comparison.compare_value(elsewhere, here, 0.0, record.truth)
    assert finding.outcome == "unknown"
    assert finding.reason.startswith("converged there, not converged here")


@pytest.mark.parametrize("probes", [8, 20, 100])
@pytest.mark.parametrize("law", ["normal", "exponential"])
def test_noise_seldom_refutes(probes: int, law: str) -> None:
    """40,000 pairs of means of probes, with their estimated standard errors; the exponential law is skewed."""
    draws = getattr(np.random.default_rng(0), law)(size=(2, 40_000, probes))
    means, errors = draws.mean(axis=2), draws.std(axis=2, ddof=1) / math.sqrt(probes)
    one = tolerance.noise_bound(Estimate(0.0, stderr=1.0, probes=probes))
    assert np.mean(np.abs(means[0] - means[1]) > one * errors[1]) < 2e-3


def test_a_claim_does_not_widen_the_bound_of_the_noise() -> None:
    assert tolerance.noise_bound(Estimate(1.0, stderr=0.1, probes=8)) == pytest.approx(10 * math.sqrt(2) * 0.1)
    assert tolerance.noise_bound(Estimate(1.0, stderr=0.1, probes=7)) == math.inf
    assert tolerance.noise_bound(Estimate(1.0, stderr=None, probes=50)) == math.inf


def test_networks_are_the_same_by_steps_loss_and_norm() -> None:
    truth = {"steps": 10, "fitted": True, "train_loss": 0.01, "parameter_norm": 5.0}
    assert tolerance.network_difference(truth, truth) == 0.0
    assert tolerance.network_difference(truth, {**truth, "parameter_norm": 5.0 * (1 + 1e-7)}) == pytest.approx(1e-7)
    assert tolerance.network_difference(truth, {**truth, "steps": 11}) == math.inf
    assert tolerance.network_difference(truth, {**truth, "fitted": False}) == math.inf
    assert tolerance.network_difference({**truth, "train_loss": None}, truth) == math.inf
    assert tolerance.network_difference({**truth, "train_loss": None}, {**truth, "train_loss": None}) == 0.0
