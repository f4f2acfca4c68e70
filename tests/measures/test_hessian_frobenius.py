"""The Frobenius norm against all entries."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from sharpbench import InvalidInput, NotApplicable, Subject, measure
from sharpbench.core.evaluate import parse_measure
from sharpbench.curvature import DENSE_LIMIT, dense_ggn
from tests.measures.conftest import in_one_batch

Dense = Callable[[Subject], Tensor]


@pytest.mark.parametrize("name", ["chain", "conv", "smooth"])
def test_exact_is_the_root_of_the_sum_of_squares(name: str, request: pytest.FixtureRequest, hessian: Dense) -> None:
    subject = request.getfixturevalue(name)
    truth = float(hessian(subject).square().sum().sqrt())
    assert measure("hessian-frobenius[method=exact]", subject).value == pytest.approx(truth, rel=1e-10)
    assert parse_measure("hessian-frobenius").exact(subject) == pytest.approx(truth, rel=1e-10)
    gauss_newton = float(dense_ggn(subject).square().sum().sqrt())
    word = "hessian-frobenius[method=exact,matrix=gauss-newton]"
    assert measure(word, subject).value == pytest.approx(gauss_newton, rel=1e-10)
    assert parse_measure(word).exact(subject) == pytest.approx(gauss_newton, rel=1e-10)


@pytest.mark.parametrize(
    "method", ["hutchpp,samples=60", pytest.param("hutchinson,samples=400", marks=pytest.mark.slow)]
)
def test_sampled_norms_are_within_their_errors(method: str, conv: Subject, hessian: Dense) -> None:
    truth, whole = float(hessian(conv).square().sum().sqrt()), in_one_batch(conv)
    scores = []
    for seed in range(12):
        estimate = measure(f"hessian-frobenius[method={method}]", whole, seed=seed)
        assert estimate.stderr is not None
        assert 0 < estimate.stderr < 0.05 * truth
        assert estimate.interval is not None
        assert estimate.interval[0] < estimate.value < estimate.interval[1]
        scores.append((estimate.value - truth) / estimate.stderr)
    assert max(map(abs, scores)) < 5
    assert abs(sum(scores)) / len(scores) ** 0.5 < 4
    assert min(scores) < 0 < max(scores)


def test_projection_leaves_less_to_chance(conv: Subject) -> None:
    plain, projected = (measure(f"hessian-frobenius[method={method}]", conv) for method in ("hutchinson", "hutchpp"))
    assert projected.stderr is not None
    assert plain.stderr is not None
    assert projected.stderr < plain.stderr / 2


def test_of_networks_with_fewer_parameters_than_samples() -> None:
    x = torch.ones(4, 1, dtype=torch.float64)
    subject = Subject.from_module(nn.Linear(1, 2).double(), x, torch.arange(4) % 2)
    assert measure("hessian-frobenius", subject).value == pytest.approx(
        parse_measure("hessian-frobenius").exact(subject)
    )
    assert measure("hessian-frobenius", subject).stderr == 0.0


def test_of_a_flat_loss(chain: Subject) -> None:
    flat = Subject.from_module(chain.module, chain.inputs, chain.targets, loss=lambda f, y: 0 * f.sum(1))
    estimate = measure("hessian-frobenius", flat)
    assert (estimate.value, estimate.stderr) == (0.0, 0.0)


@pytest.mark.slow
def test_invariances(chain: Subject, attention: Subject, invariances_are_true) -> None:  # type: ignore[no-untyped-def]
    for method in ("exact", "hutchpp,samples=30", "hutchinson"):
        invariances_are_true(parse_measure(f"hessian-frobenius[method={method}]"), chain, attention)


@pytest.mark.slow
def test_examples_do_not_matter(conv: Subject, examples_do_not_matter) -> None:  # type: ignore[no-untyped-def]
    examples_do_not_matter(parse_measure("hessian-frobenius[method=exact]"), conv)
    examples_do_not_matter(parse_measure("hessian-frobenius"), conv, rel=1e-8)


def test_a_seed_repeats(chain: Subject) -> None:
    one, same, other = (measure("hessian-frobenius", chain, seed=seed).value for seed in (1, 1, 2))
    assert one == same != other


def test_it_is_refused_where_it_would_take_hours() -> None:
    wide = nn.Sequential(nn.Linear(5, DENSE_LIMIT // 8), nn.ReLU(), nn.Linear(DENSE_LIMIT // 8, 3))
    large = Subject.from_module(wide, torch.zeros(2, 5), torch.arange(2))
    with pytest.raises(NotApplicable, match="too many for one product each; the bound is 20,000, use method=hutchpp"):
        measure("hessian-frobenius[method=exact]", large)
    assert parse_measure("hessian-frobenius").exact(large) is None


def test_samples_have_bounds() -> None:
    with pytest.raises(InvalidInput, match="samples=5 must be at least 6"):
        parse_measure("hessian-frobenius[samples=5]")
    with pytest.raises(InvalidInput, match="samples=1 must be at least 2"):
        parse_measure("hessian-frobenius[method=hutchinson,samples=1]")
