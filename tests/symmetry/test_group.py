"""The rescaling group: of the right dimension, and never a false element."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from sharpbench.models import MODELS
from sharpbench.models.model import Model
from sharpbench.symmetry import rescaling_group

NETWORKS = [model(bias=bias) for model in MODELS for bias in (True, False)]


def change(module: nn.Module, inputs: Tensor, elements: int = 3) -> float:
    """The largest relative change of the function under random elements, spread e^2."""
    group = rescaling_group(module, inputs)
    params = {name: value.detach() for name, value in module.named_parameters()}

    def function(values: dict[str, Tensor]) -> Tensor:
        return torch.func.functional_call(module, values, (inputs,))

    generator = torch.Generator().manual_seed(1)
    if group.dimension == 0:
        return 0.0
    return group.verify(function, params, generator=generator, elements=elements)


@pytest.mark.parametrize("model", NETWORKS, ids=lambda model: f"{model.name}-{model.bias}")
def test_chains_have_one_scale_less_than_layers(model: Model) -> None:
    torch.manual_seed(0)
    module = model.build((1, 28, 28), 10).double().eval()
    inputs = torch.randn(2, 1, 28, 28, dtype=torch.float64)
    group = rescaling_group(module, inputs)
    weights = [name for name in group.names if name.endswith("weight")]
    assert group.dimension == len(weights) - 1
    assert group.unknown == ()
    assert change(module, inputs) < 1e-11
    row = dict(zip(group.names, group.basis, strict=True))
    assert sum(row[name] for name in weights) == pytest.approx(0, abs=1e-12)
    if model.bias:
        assert row[weights[-1].replace("weight", "bias")] == pytest.approx(0, abs=1e-12)


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Linear(4, 4, bias=False)
        self.two = nn.Linear(4, 4, bias=False)
        self.two.weight = self.one.weight
        self.head = nn.Linear(4, 2, bias=False)
        self.idle = nn.Linear(3, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.head(self.two(self.one(inputs).relu()).relu())


def test_a_tied_weight_is_one_and_an_unused_one_none() -> None:
    group = rescaling_group(Tied().double(), torch.randn(2, 4, dtype=torch.float64))
    assert group.names == ("one.weight", "head.weight")
    assert group.dimension == 1
    assert group.basis[1] == pytest.approx(-2 * group.basis[0])
    assert change(Tied().double(), torch.randn(2, 4, dtype=torch.float64)) < 1e-12


def test_parameters_that_are_not_named_keep_their_scale() -> None:
    module = nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 3)).double()
    inputs = torch.randn(4, 5, dtype=torch.float64)
    group = rescaling_group(module, inputs, parameters={"2.weight", "2.bias", "4.weight", "4.bias"})
    assert set(group.names) == {"2.weight", "2.bias", "4.weight", "4.bias"}
    assert group.dimension == 1


def test_apply_keeps_keys_and_types() -> None:
    module = nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 3))
    group = rescaling_group(module, torch.randn(4, 5))
    params = {name: value.detach() for name, value in module.named_parameters()}
    rescaled = group.apply(params, group.random_element(torch.Generator().manual_seed(0)))
    assert list(rescaled) == list(params)
    assert all(
        rescaled[name].dtype == value.dtype and rescaled[name].shape == value.shape for name, value in params.items()
    )
    assert not torch.equal(rescaled["0.weight"], params["0.weight"])
