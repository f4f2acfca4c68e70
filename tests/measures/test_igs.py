"""Information-geometric sharpness against the two matrices in full, and its identity without truncation."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from sharpbench import InvalidInput, NotApplicable, Subject, measure
from sharpbench.core.evaluate import parse_measure
from sharpbench.curvature import MATRIX_LIMIT


def matrices(subject: Subject) -> tuple[Tensor, Tensor]:
    """F and C as sums of outer products of the gradients of log p_i(k), by torch.autograd; means over examples."""
    params = {name: value.clone().requires_grad_() for name, value in subject.params.items()}
    fisher = torch.zeros(subject.size, subject.size, dtype=torch.float64)
    empirical = torch.zeros_like(fisher)
    for example, target in zip(subject.inputs, subject.targets, strict=True):
        scores = torch.func.functional_call(subject.module.eval(), {**subject.constants, **params}, (example[None],))
        for label, score in enumerate(scores[0].log_softmax(0)):
            parts = torch.autograd.grad(score, list(params.values()), retain_graph=True)
            gradient = torch.cat([part.flatten() for part in parts])
            outer = torch.outer(gradient, gradient) / len(subject.inputs)
            fisher += score.detach().exp() * outer
            empirical += outer * (label == target)
    return fisher, empirical


@pytest.mark.parametrize("truncation", [1e-1, 1e-2, 1e-3])
@pytest.mark.parametrize("name", ["chain", "conv", "smooth"])
def test_it_is_the_trace_over_the_kept_eigenvectors(
    name: str, truncation: float, request: pytest.FixtureRequest
) -> None:
    subject = request.getfixturevalue(name)
    fisher, empirical = matrices(subject)
    values, vectors = torch.linalg.eigh(fisher)
    kept = values > truncation * values[-1]
    truth = float(((vectors.T @ empirical @ vectors).diagonal()[kept] / values[kept]).sum())
    chosen = parse_measure(f"igs[truncation={truncation}]")
    estimate = measure(chosen, subject)
    assert estimate.converged
    assert estimate.details["rank"] == int(kept.sum())
    assert estimate.value == pytest.approx(truth, rel=1e-7)
    assert chosen.exact(subject) == pytest.approx(truth, rel=1e-8)


@pytest.mark.parametrize("name", ["chain", "conv", "smooth", "attention"])
def test_without_truncation_it_is_a_function_of_the_losses(name: str, request: pytest.FixtureRequest) -> None:
    """sum_i (exp(loss_i) - 1) where the network has the rank to fit any targets: n (C - 1)."""
    subject = request.getfixturevalue(name)
    losses = subject.criterion(subject.apply(subject.params, subject.inputs), subject.targets)
    estimate = measure("igs[truncation=0]", subject)
    assert estimate.details["rank"] == len(losses) * 2
    assert estimate.value == pytest.approx(float(losses.expm1().sum()), rel=1e-9)


def test_with_fewer_parameters_than_targets_it_is_less() -> None:
    """A linear model on repeated inputs: the pseudo-inverse of a matrix of low rank, by the definition."""
    torch.manual_seed(0)
    x = torch.randn(4, 2, dtype=torch.float64).repeat(5, 1)
    subject = Subject.from_module(nn.Linear(2, 3).double(), x, torch.arange(20) % 3)
    fisher, empirical = matrices(subject)
    truth = float((torch.linalg.pinv(fisher, rtol=1e-12, hermitian=True) * empirical).sum())
    estimate = measure("igs[truncation=0]", subject)
    assert estimate.details["rank"] == 6
    assert estimate.value == pytest.approx(truth, rel=1e-9)
    assert parse_measure("igs[truncation=0]").exact(subject) == pytest.approx(truth, rel=1e-9)
    losses = subject.criterion(subject.apply(subject.params, subject.inputs), subject.targets)
    assert estimate.value < 0.9 * float(losses.expm1().sum())


def zero_head() -> Subject:
    """A last layer of zeros: F is a matrix of the features times I / C - 1 1^T / C^2, each eigenvalue C - 1 fold."""
    torch.manual_seed(3)
    module = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 4)).double()
    for value in module[2].parameters():
        nn.init.zeros_(value)
    return Subject.from_module(module, torch.randn(9, 4, dtype=torch.float64), torch.arange(9) % 4)


def one_hot() -> Subject:
    """Inputs of the standard basis and equal rows: every example has the same F in its own parameters."""
    module = nn.Linear(6, 3, bias=False).double()
    nn.init.constant_(module.weight, 0.0)
    nn.init.constant_(module.weight[0], 1.0)
    return Subject.from_module(module, torch.eye(6, dtype=torch.float64), torch.arange(6) % 3)


@pytest.mark.parametrize("build", [zero_head, one_hot])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_repeated_eigenvalues_are_all_found(build: Callable[[], Subject], dtype: torch.dtype) -> None:
    subject = build()
    fisher, empirical = matrices(subject)
    values, vectors = torch.linalg.eigh(fisher)
    kept = values > 0.01 * values[-1]
    truth = float(((vectors.T @ empirical @ vectors).diagonal()[kept] / values[kept]).sum())
    for seed in range(3):
        estimate = measure("igs", subject.to(dtype=dtype), seed=seed)
        assert estimate.converged
        assert estimate.details["rank"] == int(kept.sum())
        assert estimate.value == pytest.approx(truth, rel=1e-7 if dtype == torch.float64 else 1e-4)


def test_what_steps_do_not_suffice_for_is_not_called_found() -> None:
    """Six eigenvalues of one space: as many steps find some of them."""
    estimate = measure("igs[steps=6]", one_hot())
    assert not estimate.converged
    assert estimate.stderr is None


@pytest.mark.slow
def test_invariances(chain: Subject, attention: Subject, invariances_are_true) -> None:  # type: ignore[no-untyped-def]
    invariances_are_true(parse_measure("igs"), chain)
    invariances_are_true(parse_measure("igs[truncation=0]"), chain, attention)


@pytest.mark.slow
def test_examples_do_not_matter(conv: Subject, examples_do_not_matter) -> None:  # type: ignore[no-untyped-def]
    examples_do_not_matter(parse_measure("igs"), conv, single=1e-3)


def test_what_has_not_converged_says_so(conv: Subject) -> None:
    estimate = measure("igs[steps=4,truncation=0.001]", conv)
    assert not estimate.converged
    assert estimate.stderr is None


@pytest.mark.parametrize("truncation", [0, 0.01])
def test_a_model_that_is_certain_has_no_metric(truncation: float) -> None:
    x, y = torch.ones(4, 2, dtype=torch.float64), torch.zeros(4, dtype=torch.int64)
    module = nn.Linear(2, 2).double()
    nn.init.constant_(module.weight, 0)
    module.bias.data = torch.tensor([1e4, 0.0], dtype=torch.float64)
    with pytest.raises(NotApplicable, match="certain of every example"):
        measure(f"igs[truncation={truncation}]", Subject.from_module(module, x, y))
    with pytest.raises(NotApplicable, match="the Fisher matrix is 0: "):
        measure(f"igs[truncation={truncation}]", Subject.from_module(nn.Linear(2, 1).double(), x, y))


def test_what_is_refused(regression: Subject) -> None:
    with pytest.raises(NotApplicable, match="not for 'mse'"):
        measure("igs", regression)
    assert parse_measure("igs").exact(regression) is None
    large = Subject.from_module(nn.Linear(MATRIX_LIMIT, 3), torch.zeros(700, MATRIX_LIMIT), torch.arange(700) % 3)
    with pytest.raises(NotApplicable, match="too many to be decomposed; the bound is 16,000,000, use truncation > 0"):
        measure("igs[truncation=0]", large)
    assert parse_measure("igs").exact(large) is None
    with pytest.raises(InvalidInput, match=r"truncation=1\.0 of the spectrum must be at least 0 and below 1"):
        parse_measure("igs[truncation=1]")
