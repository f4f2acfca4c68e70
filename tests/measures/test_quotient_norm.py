"""The quotient's spectral norm against dense matrices."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from sharpbench_measures.quotient_norm import tensor_norms
from torch import Tensor, nn

from sharpbench import Subject, measure
from sharpbench.core.evaluate import parse_measure

Dense = Callable[[Subject], Tensor]


def by_definition(subject: Subject, dense: Tensor) -> float:
    """max |lambda(D H D)| with every tensor's norm on its diagonal."""
    lengths = torch.cat([value.square().sum().sqrt().repeat(value.numel()) for value in subject.params.values()])
    return float(torch.linalg.eigvalsh(lengths[:, None] * dense * lengths).abs().max())


@pytest.mark.parametrize("name", ["chain", "conv", "smooth", "regression"])
def test_it_is_the_spectral_norm_of_the_scaled_matrix(
    name: str, request: pytest.FixtureRequest, hessian: Dense
) -> None:
    subject = request.getfixturevalue(name)
    truth = by_definition(subject, hessian(subject))
    assert measure("quotient-norm", subject).value == pytest.approx(truth, rel=1e-7)
    assert parse_measure("quotient-norm").exact(subject) == pytest.approx(truth, rel=1e-10)


def test_fused_tensors_count_as_their_parts(attention: Subject, hessian: Dense) -> None:
    lengths = {name: value.norm().expand_as(value) for name, value in attention.params.items()}
    for name in ("qkv.weight", "qkv.bias"):
        parts = attention.params[name].split(4)
        lengths[name] = torch.cat([part.norm().expand_as(part) for part in parts])
    flat = torch.cat([value.flatten() for value in lengths.values()])
    truth = float(torch.linalg.eigvalsh(flat[:, None] * hessian(attention) * flat).abs().max())
    assert measure("quotient-norm", attention).value == pytest.approx(truth, rel=1e-7)
    assert truth != pytest.approx(by_definition(attention, hessian(attention)), rel=1e-3)


class Untraceable(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.layer(x) if float(x.sum().item()) < 1e9 else x
        return logits


def test_without_a_graph_tensors_are_whole(hessian: Dense) -> None:
    torch.manual_seed(0)
    module = Untraceable().double()
    traced = Subject.from_module(module.layer, torch.randn(6, 5, dtype=torch.float64), torch.arange(6) % 3)
    found = parse_measure("quotient-norm").exact(traced)
    assert found == pytest.approx(by_definition(traced, hessian(traced)), rel=1e-10)
    hidden = Subject.from_module(module, traced.inputs, traced.targets)
    expected = torch.cat([value.norm().repeat(value.numel()) for value in hidden.params.values()])
    torch.testing.assert_close(tensor_norms(hidden), expected, rtol=1e-12, atol=0)


def test_tensors_of_zero_are_frozen(chain: Subject, hessian: Dense) -> None:
    pruned = chain.with_params({**chain.params, "2.bias": torch.zeros(4, dtype=torch.float64)})
    truth = by_definition(pruned, hessian(pruned))
    assert measure("quotient-norm", pruned).value == pytest.approx(truth, rel=1e-7)


def test_invariances(chain: Subject, attention: Subject, invariances_are_true) -> None:  # type: ignore[no-untyped-def]
    invariances_are_true(parse_measure("quotient-norm"), chain, attention)


def test_examples_do_not_matter(chain: Subject, examples_do_not_matter) -> None:  # type: ignore[no-untyped-def]
    examples_do_not_matter(parse_measure("quotient-norm"), chain)


def test_a_parameter_without_dimensions_is_a_tensor_of_one_entry(hessian: Dense) -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale, self.head = nn.Parameter(torch.tensor(1.5)), nn.Linear(4, 3)

        def forward(self, inputs: Tensor) -> Tensor:
            logits: Tensor = self.head(inputs) * self.scale
            return logits

    torch.manual_seed(0)
    subject = Subject.from_module(Scaled().double(), torch.randn(9, 4, dtype=torch.float64), torch.arange(9) % 3)
    truth = by_definition(subject, hessian(subject))
    assert measure("quotient-norm", subject).value == pytest.approx(truth, rel=1e-7)
