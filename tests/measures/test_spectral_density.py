"""Summaries of the spectrum against all eigenvalues."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from sharpbench import InvalidInput, NotApplicable, Subject, measure
from sharpbench.core.evaluate import parse_measure
from sharpbench.curvature import MATRIX_LIMIT
from tests.measures.conftest import in_one_batch

Dense = Callable[[Subject], Tensor]


def summaries(values: list[float]) -> dict[str, float]:
    """By the definitions, one eigenvalue after the other."""
    total = sum(map(abs, values))
    shares = [abs(value) / total for value in values]
    return {
        "participation": sum(values) ** 2 / sum(value**2 for value in values),
        "effective-rank": math.exp(-sum(share * math.log(share) for share in shares if share > 0)),
        "negative-mass": sum(share for share, value in zip(shares, values, strict=True) if value < 0),
        "quantile,level=0.9": sorted(values)[math.ceil(0.9 * len(values)) - 1],
    }


@pytest.mark.parametrize("name", ["chain", "smooth"])
def test_oracles_are_the_definitions(name: str, request: pytest.FixtureRequest, hessian: Dense) -> None:
    subject = request.getfixturevalue(name)
    for summary, truth in summaries(torch.linalg.eigvalsh(hessian(subject)).tolist()).items():
        assert parse_measure(f"spectral-density[summary={summary}]").exact(subject) == pytest.approx(truth, rel=1e-7)


@pytest.mark.parametrize("summary", ["participation", "effective-rank", "negative-mass"])
def test_estimates_are_within_their_errors(summary: str, smooth: Subject) -> None:
    chosen = parse_measure(f"spectral-density[summary={summary},probes=40]")
    truth = chosen.exact(smooth)
    assert truth is not None
    estimate = measure(chosen, in_one_batch(smooth))
    assert estimate.stderr is not None
    assert 0 < estimate.stderr < 0.2 * truth
    assert abs(estimate.value - truth) < 4 * estimate.stderr
    assert estimate.interval is not None
    assert estimate.interval[0] < estimate.value < estimate.interval[1]


def test_standard_errors_are_the_spread_over_seeds(regression: Subject) -> None:
    whole = in_one_batch(regression)
    found = [measure("spectral-density[probes=8]", whole, seed=seed) for seed in range(14)]
    spread = float(torch.tensor([each.value for each in found]).std())
    said = sum(each.stderr or 0.0 for each in found) / len(found)
    assert said == pytest.approx(spread, rel=0.6)


def test_a_quantile_has_no_error(smooth: Subject) -> None:
    chosen = parse_measure("spectral-density[summary=quantile,level=0.97,probes=50]")
    estimate = measure(chosen, in_one_batch(smooth))
    assert estimate.stderr is None
    assert estimate.interval is None
    assert estimate.value == pytest.approx(chosen.exact(smooth), rel=0.05)


def test_of_least_squares_in_closed_form() -> None:
    """With orthonormal inputs all eigenvalues are the same: each one counts."""
    x = torch.eye(12, dtype=torch.float64)
    subject = Subject.from_module(
        nn.Linear(12, 1, bias=False).double(), x, torch.zeros(12, 1, dtype=torch.float64), loss="mse"
    )
    for summary in ("participation", "effective-rank"):
        estimate = measure(f"spectral-density[summary={summary}]", subject)
        assert estimate.value == pytest.approx(12, rel=1e-10)
    assert measure("spectral-density[summary=negative-mass]", subject).value == 0.0
    assert measure("spectral-density[summary=quantile]", subject).value == pytest.approx(1 / 6, rel=1e-10)


def test_of_a_flat_loss(chain: Subject) -> None:
    flat = Subject.from_module(chain.module, chain.inputs, chain.targets, loss=lambda f, y: 0 * f.sum(1))
    with pytest.raises(NotApplicable, match="every eigenvalue is 0"):
        measure("spectral-density", flat)


def test_matrix_chooses(smooth: Subject) -> None:
    words, whole = "summary=negative-mass,steps=20,probes=4", in_one_batch(smooth)
    assert measure(f"spectral-density[{words}]", whole).value > 0.01
    assert measure(f"spectral-density[{words},matrix=gauss-newton]", whole).value < 1e-6
    assert parse_measure("spectral-density[matrix=gauss-newton]").exact(smooth) != parse_measure(
        "spectral-density"
    ).exact(smooth)


def test_invariances(chain: Subject, invariances_are_true) -> None:  # type: ignore[no-untyped-def]
    invariances_are_true(parse_measure("spectral-density[probes=2,steps=30]"), chain)


def test_examples_do_not_matter(regression: Subject, examples_do_not_matter) -> None:  # type: ignore[no-untyped-def]
    examples_do_not_matter(parse_measure("spectral-density[probes=2]"), regression, rel=1e-6, single=1e-2)


def test_a_seed_repeats(chain: Subject) -> None:
    one, same, other = (measure("spectral-density[probes=2,steps=9]", chain, seed=seed).value for seed in (1, 1, 2))
    assert one == same != other


def test_there_is_no_oracle_for_large_networks() -> None:
    large = Subject.from_module(nn.Linear(MATRIX_LIMIT, 2), torch.zeros(2, MATRIX_LIMIT), torch.arange(2))
    assert parse_measure("spectral-density").exact(large) is None


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("level=1", r"level=1\.0 of a quantile must be above 0 and below 1"),
        ("probes=1", "probes=1, steps=60: both must be from 2 to 1000"),
        ("steps=1", "probes=16, steps=1: both must be from 2 to 1000"),
    ],
)
def test_hyperparameters_have_bounds(word: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        parse_measure(f"spectral-density[{word}]")
