"""The built-in measures on the paper's networks, in float64, against slow and obvious references."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch import Tensor

from sharpbench import Subject, measure
from sharpbench.core.evaluate import parse_measure
from sharpbench.curvature import exact_diagonal, exact_traces
from sharpbench.models import PAPER_MODELS, SmallMlp
from sharpbench.models.model import Model
from sharpbench.symmetry import rescaling_group

MEASURES = ("trace", "fisher-rao", "fisher-rao[fisher=empirical,root=true]", "normalized", "minimum")
NETWORKS = [model(bias=bias) for model in PAPER_MODELS for bias in (True, False)]


SIDE = 16
"""Of the images, so that the exact references take less time; LeNet needs 15."""


def subject_of(model: Model, *, n: int = 7, batch_size: int | None = None, side: int = SIDE) -> Subject:
    """A network part of the way through training, so that its probabilities are neither flat nor one-hot."""
    module, inputs, targets = trained(model, side)
    return Subject.from_module(module, inputs[:n], targets[:n], batch_size=batch_size)


@cache
def trained(model: Model, side: int) -> tuple[torch.nn.Module, Tensor, Tensor]:
    """Network, inputs and targets; made once, so that its graph is captured once."""
    torch.manual_seed(7)
    module = model.build((1, side, side), 10).double()
    inputs, targets = torch.randn(20, 1, side, side, dtype=torch.float64), torch.randint(10, (20,))
    optimizer = torch.optim.SGD(module.parameters(), lr=0.02)
    for _ in range(3):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(module(inputs), targets).backward()
        optimizer.step()
    return module, inputs, targets


def double_backward_diagonal(subject: Subject) -> dict[str, torch.Tensor]:
    """One derivative of one derivative a parameter, only by torch.autograd."""
    params = {key: value.clone().requires_grad_() for key, value in subject.params.items()}
    logits = torch.func.functional_call(subject.module, params, (subject.inputs,))
    loss = torch.nn.functional.cross_entropy(logits, subject.targets)
    slopes = dict(zip(params, torch.autograd.grad(loss, list(params.values()), create_graph=True), strict=True))
    diagonal = {}
    for key, slope in slopes.items():
        units = torch.eye(slope.numel(), dtype=slope.dtype).reshape(-1, *slope.shape)
        rows = [
            torch.autograd.grad(slope, params[key], chunk, retain_graph=True, is_grads_batched=True, allow_unused=True)[
                0
            ]
            for chunk in units.split(256)
        ]
        diagonal[key] = torch.cat([row.flatten(1) for row in rows]).diagonal().reshape(slope.shape)
    return diagonal


def test_trace_is_that_of_double_backward_on_small_mlp() -> None:
    subject = subject_of(SmallMlp(), side=6)
    reference = double_backward_diagonal(subject)
    estimate = measure("trace[method=exact]", subject)
    assert estimate.value == pytest.approx(sum(float(part.sum()) for part in reference.values()), rel=1e-9)
    for key, part in estimate.parts.items():
        assert part == pytest.approx(float(reference[key].sum()), rel=1e-9)
    for key, diagonal in exact_diagonal(subject).items():
        torch.testing.assert_close(diagonal, reference[key], rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("model", NETWORKS, ids=lambda model: f"{model.name}-{model.bias}")
def test_traces_are_sums_over_single_gradients(model: Model) -> None:
    """Per-example gradients of every class by torch.autograd, and the paper's subtraction in float64."""
    subject = subject_of(model, n=3)
    params = {key: value.clone().requires_grad_() for key, value in subject.params.items()}
    reference = dict.fromkeys(params, 0.0)
    for example in subject.inputs:
        logits = torch.func.functional_call(subject.module, params, (example[None],))[0]
        outputs = [(probability.detach(), logit) for probability, logit in zip(logits.softmax(0), logits, strict=True)]
        for weight, output in [*outputs, (torch.tensor(-1.0), logits.logsumexp(0))]:
            gradients = torch.autograd.grad(output, list(params.values()), retain_graph=True)
            for key, gradient in zip(params, gradients, strict=True):
                reference[key] += float(weight * gradient.square().sum()) / 3
    assert exact_traces(subject) == pytest.approx(reference, rel=1e-9)


@pytest.mark.parametrize("model", NETWORKS, ids=lambda model: f"{model.name}-{model.bias}")
def test_minimum_is_that_of_a_generic_optimiser(model: Model) -> None:
    """Over the paper's own parametrisation: weight l by alpha_l, bias l by alpha_1 ... alpha_l, product 1."""
    subject = subject_of(model)
    traces = exact_traces(subject)
    weights = np.array([traces[key] for key in traces if key.endswith("weight")])
    biases = np.array([traces[key] for key in traces if key.endswith("bias")] or [0.0] * len(weights))

    def rescaled(logarithms: np.ndarray) -> float:
        cumulative = np.append(logarithms, 0.0)
        alphas = np.diff(cumulative, prepend=0.0)
        return float(np.log(np.sum(weights * np.exp(-2 * alphas)) + np.sum(biases * np.exp(-2 * cumulative))))

    start = np.zeros(len(weights) - 1)
    best = minimize(
        rescaled,
        start,
        method="Nelder-Mead",
        options={"xatol": 1e-9, "fatol": 1e-15, "maxiter": 20000, "maxfev": 20000},
    )
    estimate = measure("minimum", subject)
    assert estimate.value == pytest.approx(np.exp(best.fun), rel=1e-9)
    assert estimate.value <= measure("trace", subject).value
    assert estimate.details["gap"] <= 1e-12
    assert sum(estimate.parts.values()) == pytest.approx(estimate.value, rel=1e-12)
    if not model.bias:
        assert estimate.details["method"] == "closed form"
        assert estimate.value == pytest.approx(len(weights) * np.prod(weights) ** (1 / len(weights)), rel=1e-12)


@pytest.mark.parametrize("model", NETWORKS, ids=lambda model: f"{model.name}-{model.bias}")
def test_normalized_is_that_of_a_generic_optimiser(model: Model) -> None:
    """The scales t of columns by L-BFGS, those of rows eliminated: 2 sum_i sqrt((D t)_i (V t^-1)_i)."""
    subject = subject_of(model, n=20)
    diagonal = exact_diagonal(subject)
    estimate = measure("normalized", subject)
    key = next(reversed([key for key in subject.params if key.endswith("weight")]))
    D, V = diagonal[key].numpy(), subject.params[key].square().numpy()
    alive = D.sum(0) > 0
    D, V = D[:, alive], V[:, alive]

    def eliminated(log_t: np.ndarray) -> tuple[float, np.ndarray]:
        t = np.exp(log_t)
        curvature, weight = D @ t, V @ (1 / t)
        root = np.sqrt(curvature * weight)
        gradient = t * (D.T @ (weight / root)) - (V.T @ (curvature / root)) / t
        return 2 * float(root.sum()), gradient

    best = minimize(
        eliminated,
        np.zeros(D.shape[1]),
        jac=True,
        method="L-BFGS-B",
        options={"ftol": 0.0, "gtol": 1e-10, "maxiter": 50000, "maxfun": 50000},
    )
    assert estimate.parts[key] == pytest.approx(best.fun, rel=1e-9)
    assert estimate.converged
    assert not any(part.endswith("bias") for part in estimate.parts)


@pytest.mark.parametrize("word", MEASURES)
@pytest.mark.parametrize("model", [model() for model in PAPER_MODELS], ids=lambda model: model.name)
def test_neither_batches_nor_duplicates_change_anything(word: str, model: Model) -> None:
    """Seven examples in batches of 7, 3 (the last of one) and 2, and all of them twice."""
    whole = measure(word, subject_of(model, batch_size=7)).value
    subject = subject_of(model)
    twice = Subject.from_module(
        subject.module, subject.inputs.repeat(2, 1, 1, 1), subject.targets.repeat(2), batch_size=4
    )
    for other in (subject_of(model, batch_size=3), subject_of(model, batch_size=2), twice):
        assert measure(word, other).value == pytest.approx(whole, rel=1e-10)


@pytest.mark.parametrize("model", [model() for model in PAPER_MODELS], ids=lambda model: model.name)
def test_layerwise_rescaling_changes_the_trace_alone(model: Model) -> None:
    subject = subject_of(model)
    group = rescaling_group(subject.module, subject.inputs)
    assert group.dimension == sum(key.endswith("weight") for key in subject.params) - 1
    u = group.random_element(torch.Generator().manual_seed(3), spread=1.0)
    other = subject.with_params(group.apply(subject.params, u))
    torch.testing.assert_close(
        other.apply(other.params, subject.inputs), subject.apply(subject.params, subject.inputs), rtol=1e-10, atol=1e-12
    )
    for word in ("minimum", "normalized", "normalized[objective=icml]", "fisher-rao"):
        assert measure(word, other).value == pytest.approx(measure(word, subject).value, rel=1e-8)
    assert abs(measure("trace", other).value / measure("trace", subject).value - 1) > 0.01


@pytest.mark.parametrize("word", MEASURES)
def test_oracles_agree(word: str) -> None:
    torch.manual_seed(0)
    module = torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(12, 6), torch.nn.ReLU(), torch.nn.Linear(6, 4)
    ).double()
    subject = Subject.from_module(
        module, torch.randn(9, 3, 4, dtype=torch.float64), torch.randint(4, (9,)), batch_size=4
    )
    assert parse_measure(word).exact(subject) == pytest.approx(measure(word, subject).value, rel=1e-10)


def test_fisher_rao_of_a_network_without_biases_is_a_function_of_its_logits() -> None:
    """J theta = L f, so that theta^T F theta = L^2 mean Var_p(f) (Liang et al. 2019, theorem 1)."""
    subject = subject_of(SmallMlp(bias=False))
    logits = subject.apply(subject.params, subject.inputs)
    probabilities = logits.softmax(1)
    variance = (probabilities * logits.square()).sum(1) - (probabilities * logits).sum(1).square()
    assert measure("fisher-rao", subject).value == pytest.approx(9 * float(variance.mean()), rel=1e-10)
