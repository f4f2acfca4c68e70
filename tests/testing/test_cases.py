"""The suite's own networks: their declared symmetries hold, and values that should be equal are distinguished."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from scipy import stats

from sharpbench import Estimate, Subject
from sharpbench.testing.cases import BATCH_SIZE, CLASSES, EXAMPLES, Case, make_cases
from sharpbench.testing.examination import estimates_agree, sampling_tolerance


def logits(subject: Subject) -> torch.Tensor:
    return subject.apply(subject.params, subject.inputs)


@pytest.mark.parametrize("case", make_cases(), ids=lambda case: case.name)
def test_rewrites_keep_the_function_and_scale_the_logits(case: Case) -> None:
    before = logits(case.subject)
    found = case.rewrites()
    for factor, other in zip((2.0, 0.5), found.pop("logit-scale"), strict=True):
        torch.testing.assert_close(logits(other), factor * before, rtol=1e-12, atol=1e-14)
    for others in found.values():
        for other in others:
            torch.testing.assert_close(logits(other), before, rtol=1e-11, atol=1e-13)
            assert any(not torch.equal(other.params[key], value) for key, value in case.subject.params.items())


def test_every_kind_has_a_case_and_elements_move_on_their_own() -> None:
    kinds = {kind for case in make_cases() for kind in case.rewrites()}
    assert kinds == {"layer", "unit", "element", "permutation", "attention-rotation", "attention-gl", "logit-scale"}
    (case,) = [case for case in make_cases() if case.free]
    for other in case.rewrites()["element"]:
        ratio = other.params["one.weight"] / case.subject.params["one.weight"]
        factors = {round(factor, 12) for factor in ratio[0].flatten().tolist()}
        assert len(factors) == ratio[0].numel() - 1  # the two centres move as their unit does
    # at other weights too, as the entries read only padding
    elsewhere = {key: torch.randn_like(value) for key, value in case.subject.params.items()}
    kernel = elsewhere["one.weight"]
    moved = torch.where(case.free["one.weight"], 3 * kernel, kernel)
    one, other = (case.subject.with_params({**elsewhere, "one.weight": each}) for each in (kernel, moved))
    torch.testing.assert_close(logits(one), logits(other), rtol=0, atol=0)


def test_the_cases_are_what_they_are_called() -> None:
    by = {case.name: case.subject for case in make_cases()}
    assert all(value.dtype == torch.float64 for subject in by.values() for value in subject.params.values())
    assert EXAMPLES % BATCH_SIZE
    assert all(subject.classes == CLASSES for subject in by.values())
    assert len(by["one example"].inputs) == 1
    assert by["mean squared error"].criterion.kind == "mse"
    kept = by["no initial weights, a layer under two names"]
    assert kept.initial is None
    assert kept.train_size is None
    assert kept.module.first is kept.module.alias
    assert kept.module.last is None  # though forward passes set it
    assert kept.module.seen == []
    assert torch.equal(logits(by["no biases"]).argmax(1), by["no biases"].targets)
    assert not any("bias" in key for key in by["no biases"].params)
    statistics = by["residual and batch norm"].constants["norm.running_mean"]
    assert float(statistics.min()) > 0.1


def test_making_cases_does_not_touch_the_process_s_randomness() -> None:
    state = torch.random.get_rng_state()
    again = make_cases.__wrapped__()
    assert torch.equal(torch.random.get_rng_state(), state)
    for one, other in zip(again, make_cases(), strict=True):
        assert torch.equal(one.subject.inputs, other.subject.inputs)
        assert all(torch.equal(value, other.subject.params[key]) for key, value in one.subject.params.items())


def test_chance_is_students() -> None:
    """A pair of estimates with standard errors 3 and 4 over 10 and 100 probes: 5 times the quantile at 9 degrees."""
    one, other = Estimate(1.0, stderr=3.0, probes=10), Estimate(1.0, stderr=4.0, probes=100)
    assert sampling_tolerance(one, other) == pytest.approx(5 * stats.t.isf(5e-7, 9), rel=1e-12)
    assert sampling_tolerance(Estimate(1.0), Estimate(2.0, stderr=None)) == 0.0
    assert sampling_tolerance(one, Estimate(1.0)) == pytest.approx(3 * stats.t.isf(5e-7, 9), rel=1e-12)


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        (1.0, 1.0 + 0.9e-6, True),
        (1.0, 1.0 + 1.2e-6, False),
        (0.0, 1e-15, True),
        (0.0, 1e-13, False),
        (-1.0, 1.0, False),
    ],
)
def test_equal_is_to_rounding(one: float, other: float, equal: bool) -> None:
    assert estimates_agree(Estimate(one), Estimate(other), 1e-6) == equal
    assert estimates_agree(Estimate(other), Estimate(one), 1e-6) == equal


def test_differences_within_chance_are_none() -> None:
    sampled = Estimate(1.0, stderr=0.01, probes=100)
    reach = sampling_tolerance(sampled)
    assert 0.04 < reach < 0.06
    assert estimates_agree(sampled, Estimate(1.0 + 0.99 * reach), 0.0)
    assert not estimates_agree(sampled, Estimate(1.0 + 1.01 * reach), 0.0)
    assert math.isclose(sampling_tolerance(replace(sampled, probes=1)), 0.01 * stats.t.isf(5e-7, 1), rel_tol=1e-12)
