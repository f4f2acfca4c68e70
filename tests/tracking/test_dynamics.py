"""Each measure of the dynamics against its definition, from dense matrices and plain searches."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sharpbench import Subject, curvature
from sharpbench.core.measure import Estimate, NotApplicable
from sharpbench.errors import InvalidInput
from sharpbench.tracking.dynamics import (
    BatchSharpness,
    CriticalSharpness,
    FollowedTopEigenvalue,
    GradientNorm,
    Moment,
    PreconditionedSharpness,
)
from sharpbench.tracking.optimizer import OptimizerReader


def make_model(seed: int = 0) -> torch.nn.Module:
    torch.manual_seed(seed)
    return torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.Tanh(), torch.nn.Linear(6, 3)).double()


def make_moment(model: torch.nn.Module, optimizer: torch.optim.Optimizer | None = None, examples: int = 30) -> Moment:
    draws = torch.Generator().manual_seed(1)
    inputs = torch.randn(examples, 4, dtype=torch.float64, generator=draws)
    subject = Subject.from_module(model, inputs, torch.randint(3, (examples,), generator=draws))
    reader = None if optimizer is None else OptimizerReader.of(optimizer, model)
    return Moment(subject, reader, torch.Generator().manual_seed(0), {})


def train(model: torch.nn.Module, optimizer: torch.optim.Optimizer, moment: Moment, steps: int = 5) -> None:
    for _ in range(steps):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(moment.subject.inputs), moment.subject.targets).backward()
        optimizer.step()


def test_the_top_eigenvalue_and_the_gradient_norm() -> None:
    moment = make_moment(make_model())
    dense = curvature.dense_hessian(moment.subject)
    for matrix, whole in (("hessian", dense), ("gauss-newton", curvature.dense_ggn(moment.subject))):
        found = FollowedTopEigenvalue(matrix=matrix, tolerance=1e-6)(moment)  # type: ignore[arg-type]
        assert found.value == pytest.approx(float(torch.linalg.eigvalsh(whole)[-1]), rel=1e-9)
        assert found.converged
    gradient = curvature.flatten(curvature.plain_gradient(moment.subject.loss, moment.subject.params))
    assert GradientNorm()(moment).value == pytest.approx(float(gradient.norm()))


def test_the_preconditioned_sharpness_of_two_groups() -> None:
    model = make_model()
    groups = [{"params": model[0].parameters()}, {"params": model[2].parameters(), "lr": 0.002}]  # type: ignore[index]
    optimizer = torch.optim.Adam(groups, lr=0.01)
    train(model, optimizer, make_moment(model))
    moment = make_moment(model, optimizer)
    found = PreconditionedSharpness(tolerance=1e-6)(moment)
    scale = []
    for name, value in model.named_parameters():
        state, rate = optimizer.state[value], 1.0 if name.startswith("0") else 0.2
        scale.append(rate / ((1 - 0.9**5) * ((state["exp_avg_sq"] / (1 - 0.999**5)).sqrt() + 1e-8)).flatten())
    root = torch.cat(scale).sqrt()
    dense = root[:, None] * curvature.dense_hessian(moment.subject) * root
    assert found.value == pytest.approx(float(torch.linalg.eigvalsh(dense)[-1]), rel=1e-8)
    assert found.details["bound"] == pytest.approx(38 / 0.01)


def critical_step(moment: Moment, direction: Tensor) -> float:
    """The first step on a fine grid at which the loss is above its value."""
    subject = moment.subject
    start = float(subject.loss(subject.params))
    for step in torch.arange(0.01, 300, 0.01).tolist():
        if float(curvature.perturbed_loss(subject, -step * direction)) > start:
            return step
    raise AssertionError("no rise")


def test_the_critical_sharpness_is_where_the_loss_begins_to_rise() -> None:
    model = make_model()
    moment = make_moment(model)
    step = critical_step(moment, curvature.flatten(moment.gradient))
    for tolerance in (0.01, 1e-5):
        moment.memory.clear()
        measure = CriticalSharpness(tolerance=tolerance)
        assert 2 / measure(moment).value == pytest.approx(step, rel=max(tolerance, 0.01 / step))
        again = measure(moment)  # from the step that it found
        assert 2 / again.value == pytest.approx(step, rel=max(tolerance, 0.01 / step))


def test_the_critical_sharpness_of_a_quadratic_along_its_top_eigenvector_is_its_eigenvalue() -> None:
    model = torch.nn.Linear(1, 1, bias=False).double()
    inputs = torch.full((4, 1), 3.0, dtype=torch.float64)
    subject = Subject.from_module(model, inputs, torch.zeros(4, 1, dtype=torch.float64), loss="mse")
    moment = Moment(subject, None, torch.Generator(), {})
    assert CriticalSharpness(tolerance=1e-8)(moment).value == pytest.approx(18.0)  # 2 x^2


def test_the_critical_sharpness_is_refused_where_no_step_raises_or_none_lowers_the_loss() -> None:
    model = torch.nn.Linear(1, 1, bias=False).double()
    with torch.no_grad():
        model.weight.fill_(1.0)

    def linear(outputs: Tensor, targets: Tensor) -> Tensor:
        return outputs[:, 0]

    data = torch.ones(2, 1, dtype=torch.float64), torch.zeros(2, 1, dtype=torch.float64)
    falling = Moment(Subject.from_module(model, *data, loss=linear), None, torch.Generator(), {})
    with pytest.raises(NotApplicable, match="times the update raises the loss"):
        CriticalSharpness()(falling)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    optimizer.state[model.weight]["momentum_buffer"] = torch.full_like(model.weight, -100.0)
    rising = Moment(falling.subject, OptimizerReader.of(optimizer, model), torch.Generator(), {})
    with pytest.raises(NotApplicable, match="does not lower the loss"):
        CriticalSharpness()(rising)


def test_batch_sharpness_is_the_mean_of_the_batches_quotients() -> None:
    moment = make_moment(make_model(), examples=7)
    quotients = []
    for first in range(7):
        for second in range(first + 1, 7):
            batch = moment.subject.take(torch.tensor([first, second]))
            gradient = curvature.flatten(curvature.plain_gradient(batch.loss, batch.params))
            quotients.append(float(gradient @ curvature.dense_hessian(batch) @ gradient / gradient.square().sum()))
    found = BatchSharpness(size=2, batches=60)(moment)
    assert found.stderr is not None
    assert abs(found.value - sum(quotients) / len(quotients)) < 4 * found.stderr
    assert found.stderr < 0.2 * found.value
    whole = BatchSharpness(size=7, batches=2)(moment)
    gradient = curvature.flatten(moment.gradient)
    along = float(gradient @ curvature.dense_hessian(moment.subject) @ gradient / gradient.square().sum())
    assert whole.value == pytest.approx(along)


def test_options_out_of_bounds_are_refused() -> None:
    with pytest.raises(InvalidInput, match="tolerance=2"):
        FollowedTopEigenvalue(tolerance=2.0)
    with pytest.raises(InvalidInput, match="steps=1 "):
        PreconditionedSharpness(steps=1)
    with pytest.raises(InvalidInput, match="size=0"):
        BatchSharpness(size=0)
    with pytest.raises(InvalidInput, match="batches=1"):
        BatchSharpness(batches=1)
    with pytest.raises(InvalidInput, match="passes=3"):
        CriticalSharpness(passes=3)
    with pytest.raises(InvalidInput, match="tolerance=0"):
        CriticalSharpness(tolerance=0.0)
    with pytest.raises(NotApplicable, match="larger than the 30"):
        BatchSharpness(size=31)(make_moment(make_model()))
    with pytest.raises(NotApplicable, match="no optimizer is known"):
        PreconditionedSharpness()(make_moment(make_model()))


def test_the_critical_sharpness_counts_the_penalty_of_weight_decay() -> None:
    model = torch.nn.Linear(1, 1, bias=False).double()
    torch.nn.init.ones_(model.weight)
    zeros = torch.zeros(4, 1, dtype=torch.float64)
    subject = Subject.from_module(model, torch.ones_like(zeros), zeros, loss="mse", weight_decay=3.0)
    moment = Moment(subject, None, torch.Generator(), {})
    curved = curvature.hvp(subject, {"weight": torch.ones(1, 1, dtype=torch.float64)})["weight"]
    assert CriticalSharpness(tolerance=1e-8)(moment).value == pytest.approx(float(curved))


def test_the_critical_sharpness_is_refused_where_the_loss_changes_by_less_than_its_rounding() -> None:
    """Near a minimum whose loss is 1 the crossing was one of the rounding, with a standard error of 0."""
    inputs, targets = torch.ones(64, 1), torch.tensor([[1.0], [-1.0]]).repeat(32, 1)

    def found(weight: float, dtype: torch.dtype) -> Estimate:
        model = torch.nn.Linear(1, 1, bias=False).to(dtype)
        torch.nn.init.constant_(model.weight, weight)
        subject = Subject.from_module(model, inputs.to(dtype), targets.to(dtype), loss="mse")
        return CriticalSharpness()(Moment(subject, None, torch.Generator(), {}))

    assert found(1e-2, torch.float32).value == pytest.approx(found(1e-2, torch.float64).value, rel=0.02)
    assert found(1e-5, torch.float64).converged
    rough = found(5e-4, torch.float32)
    assert (rough.converged, rough.stderr) == (False, None)
    with pytest.raises(NotApplicable, match="less than its rounding in float32"):
        found(1e-5, torch.float32)
