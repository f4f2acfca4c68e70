"""The Fisher matrix's trace against gradients taken one by one."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from sharpbench import InvalidInput, NotApplicable, Subject, measure
from sharpbench.core.evaluate import parse_measure
from sharpbench.curvature import sampled_fisher_traces

WORDS = ("fisher-trace", "fisher-trace[fisher=monte-carlo]", "fisher-trace[fisher=empirical]")


def squared_gradients(subject: Subject) -> torch.Tensor:
    """|grad log p_i(k)|^2 of every example and class [n, C], by torch.autograd."""
    params = {name: value.clone().requires_grad_() for name, value in subject.params.items()}
    module = subject.module.eval()
    rows = []
    for example in subject.inputs:
        scores = torch.func.functional_call(module, {**subject.constants, **params}, (example[None],))[0].log_softmax(0)
        gradients = [torch.autograd.grad(score, list(params.values()), retain_graph=True) for score in scores]
        rows.append(torch.stack([sum((part.square().sum() for part in each), torch.zeros(())) for each in gradients]))
    return torch.stack(rows)


@pytest.mark.parametrize("name", ["chain", "conv", "smooth", "attention"])
def test_true_and_empirical_are_sums_over_gradients(name: str, request: pytest.FixtureRequest) -> None:
    subject = request.getfixturevalue(name)
    squares = squared_gradients(subject)
    probabilities = subject.apply(subject.params, subject.inputs).softmax(1)
    true = float((probabilities * squares).sum(1).mean())
    empirical = float(squares.gather(1, subject.targets[:, None]).mean())
    for word, truth in (("fisher-trace", true), ("fisher-trace[fisher=empirical]", empirical)):
        estimate = measure(word, subject)
        assert estimate.value == pytest.approx(truth, rel=1e-10)
        assert sum(estimate.parts.values()) == pytest.approx(truth, rel=1e-10)
        assert parse_measure(word).exact(subject) == pytest.approx(truth, rel=1e-10)
    assert true != pytest.approx(empirical, rel=1e-3)


def test_true_is_the_gauss_newton_trace(chain: Subject) -> None:
    assert measure("fisher-trace", chain).value == measure("ggn-trace", chain).value


def test_of_a_linear_model_in_closed_form() -> None:
    """(1/n) sum_i |x_i, 1|^2 (1 - |p_i|^2)."""
    torch.manual_seed(0)
    x, y = torch.randn(6, 4, dtype=torch.float64), torch.arange(6) % 3
    subject = Subject.from_module(nn.Linear(4, 3).double(), x, y)
    p = subject.apply(subject.params, x).softmax(1)
    truth = float(((x.square().sum(1) + 1) * (1 - p.square().sum(1))).mean())
    assert measure("fisher-trace", subject).value == pytest.approx(truth, rel=1e-12)


@pytest.mark.parametrize("name", ["chain", pytest.param("conv", marks=pytest.mark.slow)])
def test_draws_are_unbiased_with_a_standard_error(name: str, request: pytest.FixtureRequest) -> None:
    subject = request.getfixturevalue(name)
    truth = measure("fisher-trace", subject).value
    estimate = measure("fisher-trace[fisher=monte-carlo,draws=2000]", subject)
    assert estimate.stderr is not None
    assert 0 < estimate.stderr < 0.02 * truth
    assert abs(estimate.value - truth) < 4 * estimate.stderr
    assert sum(estimate.parts.values()) == pytest.approx(estimate.value, rel=1e-12)
    assert estimate.probes == 2000
    few = measure("fisher-trace[fisher=monte-carlo,draws=16]", subject)
    assert few.interval is not None
    assert few.interval[0] < few.value < few.interval[1]


def test_drawn_targets_follow_the_model(chain: Subject) -> None:
    """The variance over draws is that of independent targets, (1/n^2) sum_i Var_{y ~ p_i} |g_i(y)|^2."""
    squares, p = squared_gradients(chain), chain.apply(chain.params, chain.inputs).softmax(1)
    variance = float(((p * squares.square()).sum(1) - (p * squares).sum(1).square()).sum()) / len(chain.inputs) ** 2
    drawn = sampled_fisher_traces(chain, draws=4000, generator=torch.Generator().manual_seed(0)).sum(1)
    assert float(drawn.var()) == pytest.approx(variance, rel=0.15)


def test_a_seed_repeats_and_another_differs(chain: Subject) -> None:
    word = "fisher-trace[fisher=monte-carlo,draws=4]"
    assert measure(word, chain, seed=1).value == measure(word, chain, seed=1).value
    assert measure(word, chain, seed=1).value != measure(word, chain, seed=2).value


@pytest.mark.parametrize("word", WORDS)
def test_invariances(word: str, chain: Subject, attention: Subject, invariances_are_true) -> None:  # type: ignore[no-untyped-def]
    invariances_are_true(parse_measure(word), chain, attention)


@pytest.mark.parametrize("word", [WORDS[0], WORDS[2]])
def test_examples_do_not_matter(word: str, conv: Subject, examples_do_not_matter) -> None:  # type: ignore[no-untyped-def]
    examples_do_not_matter(parse_measure(word), conv)


def test_the_draws_depend_on_no_batch(conv: Subject) -> None:
    word = "fisher-trace[fisher=monte-carlo]"
    whole = measure(word, replace(conv, batch_size=9)).value
    assert measure(word, replace(conv, batch_size=2)).value == pytest.approx(whole, rel=1e-12)


def test_other_losses_have_no_likelihood_but_gradients(regression: Subject) -> None:
    other = Subject.from_module(
        regression.module,
        regression.inputs,
        regression.targets,
        loss=lambda outputs, targets: (outputs - targets).abs().sum(1),
    )
    for word in WORDS[:2]:
        with pytest.raises(NotApplicable, match="none is known for '<lambda>'; use ggn-trace, or fisher=empirical"):
            measure(word, other)
        assert parse_measure(word).exact(other) is None
    assert measure(WORDS[2], other).value == pytest.approx(parse_measure(WORDS[2]).exact(other), rel=1e-12)


def test_of_squared_errors_the_trace_is_exact_and_nothing_is_drawn(regression: Subject) -> None:
    assert measure(WORDS[0], regression).value == pytest.approx(measure("ggn-trace", regression).value, rel=1e-12)
    assert measure(WORDS[0], regression).value == pytest.approx(parse_measure(WORDS[0]).exact(regression), rel=1e-9)
    with pytest.raises(NotApplicable, match=r"targets are drawn for cross entropy, .* not for 'mse'; use fisher=true"):
        measure(WORDS[1], regression)
    assert parse_measure(WORDS[1]).exact(regression) is None
    assert measure(WORDS[2], regression).value == pytest.approx(parse_measure(WORDS[2]).exact(regression), rel=1e-12)
    with pytest.raises(InvalidInput, match="loss 'mse' gives no probabilities"):
        sampled_fisher_traces(regression, draws=2, generator=torch.Generator())


def test_draws_have_bounds() -> None:
    with pytest.raises(InvalidInput, match="samples=1 must be at least 2"):
        parse_measure("fisher-trace[draws=1]")
