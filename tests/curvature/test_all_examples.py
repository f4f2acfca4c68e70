"""Networks that treat one example of many otherwise: a branch, a derivative or a neighbour that few examples show."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from benchmarks.layers import Net
from sharpbench import NotApplicable, Subject, curvature, measure
from sharpbench.curvature import all_examples, hessian_trace

EXAMPLES, RARE, BATCH = 150, 105, 32
"""RARE is none of the 2, 4, 8, 16, 32, 64 or 128 examples that are spread over EXAMPLES."""
BOUND = 3.0
"""Hidden values exceed it on the rare example only."""


class Clipped(torch.autograd.Function):
    """Passes everything on, and slopes only where the values are small."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return slopes[0] * (x.abs() <= BOUND)


def subject_of(middle: Callable[[Tensor], Tensor], dtype: torch.dtype = torch.float64, **options: Any) -> Subject:
    torch.manual_seed(0)
    net = Net(lambda net, x: net.b(middle(net.a(x))), a=nn.Linear(2, 3), b=nn.Linear(3, 2)).to(dtype)
    net.a.weight.data.abs_()
    inputs = torch.rand(EXAMPLES, 2, dtype=torch.float64) - 0.5
    inputs[RARE] = 20.0
    return Subject.from_module(net, inputs.to(dtype), torch.arange(EXAMPLES) % 2, **{"batch_size": BATCH, **options})


def silenced_by_others(x: Tensor) -> Tensor:
    return x.relu() * (1 - 0.5 * (x.amax(0) > BOUND).to(x))


def added_above_a_mean(x: Tensor) -> Tensor:
    """Of operators that are verified, and without a comparison."""
    return x.relu() + ((x * x).mean() - 2).relu()


def branching_on_a_shape(x: Tensor) -> Tensor:
    return x.tanh() if len((x > BOUND).nonzero()) else x.relu()


def hooked(x: Tensor) -> Tensor:
    hidden = x.relu()
    if hidden.requires_grad:
        hidden.register_hook(lambda slope: torch.where(x > BOUND, slope / 2, slope))
    return hidden


@pytest.mark.parametrize("middle", [silenced_by_others, added_above_a_mean, branching_on_a_shape])
@pytest.mark.parametrize("spec", ["trace", "trace[method=naive]", "fisher-rao"])
def test_an_example_that_changes_those_in_its_batch_is_found(spec: str, middle: Callable[[Tensor], Tensor]) -> None:
    with pytest.raises(NotApplicable, match="mixes the examples of a batch"):
        measure(spec, subject_of(middle))


def test_a_batch_of_all_examples_is_halved() -> None:
    with pytest.raises(NotApplicable, match="mixes the examples of a batch"):
        measure("trace", subject_of(silenced_by_others, batch_size=EXAMPLES))


def test_a_loss_that_mixes_examples_where_one_is_large_is_found() -> None:
    def losses(logits: Tensor, targets: Tensor) -> Tensor:
        single = nn.functional.cross_entropy(logits, targets, reduction="none")
        return single * (1 + (logits.abs().amax() > BOUND))

    with pytest.raises(NotApplicable, match="the loss 'losses' mixes the examples of a batch"):
        measure("trace", subject_of(torch.relu, loss=losses))


def test_a_derivative_that_one_example_has_is_taken_from_the_module(monkeypatch: pytest.MonkeyPatch) -> None:
    # several plain passes for each example, which is nothing of this test
    monkeypatch.setattr(hessian_trace, "_example_stderr", lambda *given: None)
    subject = subject_of(Clipped.apply)
    found = measure("trace[precision=1e-6]", subject)  # exact, as samples would take more products
    graph_says = float(sum(curvature.exact_traces(subject_of(lambda x: x * 1.0)).values()))
    assert (found.details["gradient"], found.details["certified"]) == ("surrogate", 0)
    assert abs(found.value / graph_says - 1) > 1e-6
    assert found.value == pytest.approx(measure("ggn-trace", subject).value, rel=1e-12)


def test_a_hook_that_changes_one_gradient_is_refused() -> None:
    with pytest.raises(NotApplicable, match="a hook changes it"):
        measure("trace", subject_of(hooked))


def test_decisions_near_a_tie_are_no_fault() -> None:
    """In float32 an example may round otherwise in another batch; in float64 it does not."""
    subject = subject_of(lambda x: (x * 1e6).round() / 1e6, dtype=torch.float32)
    all_examples.check_batches(subject)


def test_ordinary_networks_are_evaluated_no_further(monkeypatch: pytest.MonkeyPatch) -> None:
    subject = subject_of(torch.relu)
    assert subject.operators.uniform
    seen = list[int]()
    inside = all_examples._module_logits
    monkeypatch.setattr(
        all_examples, "_module_logits", lambda subject, inputs: (seen.append(len(inputs)), inside(subject, inputs))[1]
    )
    assert measure("trace", subject).details["certified"] == 1
    assert seen == [2]


def test_all_examples_take_three_forward_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    subject = subject_of(lambda x: torch.where(x > 0, x, 0.1 * x))
    assert not subject.operators.uniform
    seen = list[int]()
    inside = all_examples._module_logits
    monkeypatch.setattr(
        all_examples, "_module_logits", lambda subject, inputs: (seen.append(len(inputs)), inside(subject, inputs))[1]
    )
    measure("trace", subject)
    measure("ggn-trace", subject.fresh())
    assert sum(seen) == 2 * EXAMPLES  # the third is the graph's
