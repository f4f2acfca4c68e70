"""Definitions of operators: torch's values, and the second derivatives that torch has wrong or not at all."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, weight_norm
from torch.utils import _pytree as pytree

from sharpbench import Subject
from sharpbench.core.definitions import DEFINITIONS, RECURRENT, differentiable_operators, step_by_step
from sharpbench.curvature import hvp, reference_traces

STEP = 1e-5


def old(layer: nn.Module, dim: int | None = 0) -> nn.Module:
    with pytest.warns(FutureWarning):
        return weight_norm(layer, dim=dim)


def differences(subject: Subject, name: str) -> float:
    """The trace of a parameter's block from differences of the gradient, entry by entry."""
    slope = torch.func.grad(subject.loss)
    flat = subject.params[name].flatten()

    def moved(index: int, step: float) -> Tensor:
        there = flat.clone()
        there[index] += step
        return slope({**subject.params, name: there.view_as(subject.params[name])})[name].flatten()[index]

    return sum(float(moved(index, STEP) - moved(index, -STEP)) / (2 * STEP) for index in range(flat.numel()))


@pytest.mark.parametrize("norm", [parametrizations.weight_norm, old])
@pytest.mark.parametrize("dim", [0, 1, None])
def test_second_derivatives_through_weight_norm_are_those_of_its_definition(
    norm: Callable[..., nn.Module], dim: int | None
) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(norm(nn.Linear(4, 5), dim=dim), nn.Tanh(), norm(nn.Linear(5, 3))).double()
    inputs, targets = torch.randn(7, 4, dtype=torch.float64), torch.randint(0, 3, (7,))
    subject = Subject.from_module(model, inputs, targets)
    with torch.no_grad():
        assert torch.equal(model(inputs[:1]).argmax(1), subject.apply(subject.params, inputs[:1]).argmax(1))
        torch.testing.assert_close(subject.apply(subject.params, inputs), model(inputs), rtol=1e-12, atol=1e-14)
    traces = reference_traces(subject)
    for name in subject.params:
        assert traces[name] == pytest.approx(differences(subject, name), rel=1e-6, abs=1e-9)
    one, other = ({key: torch.randn_like(value) for key, value in subject.params.items()} for _ in range(2))
    there, back = (
        sum(float((left[key] * right[key]).sum()) for key in left)
        for left, right in ((hvp(subject, one), other), (hvp(subject, other), one))
    )
    assert there == pytest.approx(back, rel=1e-9)


IDS = torch.tensor([[0, 3, 1], [2, 3, 3], [5, 0, 4], [3, 3, 3]])
PAIRS: dict[str, Callable[[Tensor], Tensor]] = {
    "prelu": lambda x: F.prelu(x, torch.tensor(0.3, dtype=x.dtype)),
    "prelu of channels": lambda x: F.prelu(x.reshape(-1, 6, 1), x[0].abs()),
    "hardsigmoid": lambda x: F.hardsigmoid(2 * x),
    "cdist": lambda x: torch.cdist(x, x.flip(0) + 1),
    "cdist of other powers": lambda x: (
        torch.cdist(x[None], x[None] - 1, p=3.0) + torch.cdist(x[None], x[None] - 1, p=1)
    ),
    "cosine similarity": lambda x: F.cosine_similarity(x[:, None], x[None] + 1, dim=-1),
    "sinc": lambda x: torch.sinc(torch.cat((x, x / 100, x * 0))),
    "huber": lambda x: F.huber_loss(x, x.flip(0), reduction="none", delta=0.7),
    "multi margin": lambda x: F.multi_margin_loss(x, torch.tensor([0, 5, 2, 3]), reduction="none"),
    "multi margin, squared": lambda x: F.multi_margin_loss(x, torch.tensor([0, 5, 2, 3]), p=2, margin=0.5),
    "embedding": lambda x: F.embedding(IDS, x.t()),
    "embedding with padding": lambda x: F.embedding(IDS, x.t(), padding_idx=3),
    "embedding with padding from the end": lambda x: F.embedding(IDS, x.t(), padding_idx=-3),
    "bag": lambda x: F.embedding_bag(IDS, x.t(), mode="sum"),
    "bag of means": lambda x: F.embedding_bag(IDS, x.t(), mode="mean", padding_idx=3),
    "bag of maxima": lambda x: F.embedding_bag(IDS, x.t(), mode="max"),
    "bag with offsets": lambda x: F.embedding_bag(IDS.flatten(), x.t(), torch.tensor([0, 2, 2, 7]), mode="mean"),
    "weighted bag": lambda x: F.embedding_bag(IDS, x.t(), mode="sum", per_sample_weights=x[:, :3]),
    "cross entropy": lambda x: F.cross_entropy(x, torch.tensor([0, 5, 2, 3]), reduction="none"),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", PAIRS)
def test_definitions_have_torchs_values_and_gradients(name: str, dtype: torch.dtype) -> None:
    function, rtol = (
        PAIRS[name],
        1e-4 if dtype == torch.float32 else 1e-7,
    )  # torch divides by 6 in float32 in hardsigmoid's
    values = torch.randn(4, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(dtype)
    found = []
    for defined in (False, True):
        leaf = values.clone().requires_grad_()
        with differentiable_operators() if defined else nullcontext():
            result = function(leaf)
        weights = torch.linspace(-1, 1, result.numel(), dtype=dtype).reshape(result.shape)
        found.append((result.detach(), torch.autograd.grad((result * weights).sum(), leaf)[0]))
    for own, defined_ in zip(*found, strict=True):
        torch.testing.assert_close(defined_, own, rtol=rtol, atol=rtol)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", [name for name in PAIRS if "padding" not in name])  # differences move its row
def test_definitions_have_second_derivatives(name: str, dtype: torch.dtype) -> None:
    """Forward over reverse against differences of the gradient, in float64; and equal in float32."""
    function = PAIRS[name]
    generator = torch.Generator().manual_seed(0)
    values, vector = (torch.randn(4, 6, generator=generator, dtype=torch.float64) for _ in range(2))

    def total(x: Tensor) -> Tensor:
        with differentiable_operators():
            result = function(x)
        weights = torch.linspace(-1, 1, result.numel(), dtype=x.dtype).reshape(result.shape)
        return (result.sin() * weights).sum()

    gradient = torch.func.grad(total)
    step = 1e-6
    wanted = (gradient(values + step * vector) - gradient(values - step * vector)) / (2 * step)
    found = torch.func.jvp(gradient, (values.to(dtype),), (vector.to(dtype),))[1]
    atol = 1e-3 if dtype == torch.float32 else 1e-7
    torch.testing.assert_close(found.double(), wanted, rtol=atol, atol=atol * float(wanted.abs().max()))


def test_a_padding_row_is_a_constant_in_every_derivative() -> None:
    values = torch.randn(6, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def total(weight: Tensor) -> Tensor:
        with differentiable_operators():
            return F.embedding(IDS, weight, padding_idx=3).prod(1).sum()

    hessian = torch.func.jacfwd(torch.func.grad(total))(values).reshape(24, 24)
    torch.testing.assert_close(hessian, hessian.T)
    assert float(hessian.reshape(6, 4, 24)[3].abs().max()) == 0
    assert float(hessian.abs().max()) > 0


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    ("layer", "options"),
    [
        (nn.LSTM, {"num_layers": 2, "bidirectional": True}),
        (nn.LSTM, {"proj_size": 2}),
        (nn.GRU, {"bias": False}),
        (nn.RNN, {}),
        (nn.RNN, {"nonlinearity": "relu", "bidirectional": True}),
    ],
)
def test_recurrent_layers_step_by_step_are_torchs(
    layer: type[nn.RNNBase], options: dict[str, Any], packed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A GPU computes them so; here the CPU does."""
    torch.manual_seed(0)
    cells, steps = layer(2, 3, **options).double(), torch.randn(5, 4, 2, dtype=torch.float64)
    given = nn.utils.rnn.pack_padded_sequence(steps, torch.tensor([5, 4, 4, 1])) if packed else steps

    def results() -> list[Tensor]:
        outputs, state = cells(given)
        values = [outputs.data, *pytree.tree_leaves(state)]
        slopes = torch.autograd.grad(sum((value.sin().sum() for value in values), torch.zeros(())), cells.parameters())
        return [*values, *slopes]

    wanted, called = results(), []
    for function, operators in RECURRENT.items():

        def stepwise(*arguments: Any, operators: Any = operators) -> Any:
            called.append(operators)
            return step_by_step(operators)(*arguments)

        monkeypatch.setitem(DEFINITIONS, function, stepwise)
    with differentiable_operators():
        found = results()
    assert called
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-13)
