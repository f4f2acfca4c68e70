"""The rescaling group: of the right dimension, and never a false element."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sharpbench import InvalidInput
from sharpbench.models import PAPER_MODELS
from sharpbench.models.model import Model
from sharpbench.symmetry import describe, find_rewrites, rescaling_group

NETWORKS = [model(bias=bias) for model in PAPER_MODELS for bias in (True, False)]


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
    module = model.build((1, 16, 16), 10).double().eval()
    inputs = torch.randn(2, 1, 16, 16, dtype=torch.float64)
    group = rescaling_group(module, inputs)
    weights = [name for name in group.names if name.endswith("weight")]
    assert group.dimension == len(weights) - 1
    assert group.unknown_operators == ()
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


INPUTS = torch.randn(4, 5, generator=torch.Generator().manual_seed(0))


def small() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 3))


def test_wrong_arguments_are_one_line() -> None:
    model = small()
    group = rescaling_group(model, INPUTS)
    params = {name: value.detach() for name, value in model.named_parameters()}
    with pytest.raises(InvalidInput, match=r"u has shape \[7\]; expected \[1\], a number a dimension"):
        group.apply(params, np.zeros(7))
    with pytest.raises(InvalidInput, match=r"scope='bogus' is not a scope; use 'layer' or 'unit'"):
        rescaling_group(model, INPUTS, scope="bogus")
    with pytest.raises(InvalidInput, match=r"parameters=\['nosuch'\] are not in the network, which has 0.weight"):
        rescaling_group(model, INPUTS, parameters=["0.weight", "nosuch"])
    normed = nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6))
    with pytest.raises(InvalidInput, match=r"parameters=\['1.running_mean'\] are not in the network"):
        rescaling_group(normed, INPUTS, parameters=["1.running_mean"])


def test_a_scale_that_overflows_is_refused() -> None:
    group = rescaling_group(small(), INPUTS, scope="unit")
    params = {name: value.detach() for name, value in small().named_parameters()}
    with pytest.raises(InvalidInput, match=r"0\.\w+ times exp\(100\) overflows torch.float32; use a smaller u"):
        group.apply(params, np.full(6, 100.0) * np.sign(group.basis[0].sum()))


def test_a_second_name_will_do() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.same, self.head = nn.Linear(5, 6), nn.Linear(5, 6), nn.Linear(6, 3)
            self.same.weight = self.one.weight

        def forward(self, inputs: Tensor) -> Tensor:
            return self.head(self.one(inputs).relu() + self.same(inputs).relu())

    model = Twice()
    group = rescaling_group(model, INPUTS, parameters=["same.weight", "one.bias", "same.bias", "head.weight"])
    assert (group.dimension, "one.weight" in group.names) == (1, True)
    for scope in ("layer", "unit"):
        group = rescaling_group(model, INPUTS, scope=scope)
        state = {name: value.clone() for name, value in model.state_dict().items()}  # names share no memory
        moved = group.apply(state, group.random_element(torch.Generator().manual_seed(0)))
        assert torch.equal(moved["one.weight"], moved["same.weight"])
        assert not torch.equal(moved["one.weight"], state["one.weight"])


def shared(how: str) -> nn.Module:
    sizes = ((5, 5), (5, 5), (5, 4), (4, 3))
    model = nn.Sequential(*(part for size in sizes for part in (nn.Linear(*size), nn.ReLU())))
    if how == "frozen alias":
        model[2].weight = nn.Parameter(model[0].weight.data, requires_grad=False)
    elif how == "data":
        model[2].weight.data = model[0].weight.data
    elif how == "view":
        both = torch.randn(6, 5)
        model[0].weight.data, model[2].weight.data = both[:5], both[1:]
    else:
        model[2].register_buffer("kept", model[0].weight.data)
        model[2].forward = lambda x: nn.functional.linear(x, model[2].kept, model[2].bias)
    return model


@pytest.mark.parametrize("how", ["frozen alias", "data", "view", "buffer"])
def test_what_shares_memory_stays(how: str) -> None:
    torch.manual_seed(0)
    model = shared(how)
    before, state = model(INPUTS), {name: value.clone() for name, value in model.state_dict().items()}
    for kind in ("layer", "unit", "permutation"):
        model.load_state_dict(state)
        generator = torch.Generator().manual_seed(0)
        moved = find_rewrites(model, INPUTS, kind, generator=generator)(model.state_dict(), generator=generator)
        assert torch.equal(moved["0.weight"], model[0].weight)
        assert not torch.equal(moved["4.weight"], model[4].weight)
        model.load_state_dict(moved)
        torch.testing.assert_close(model(INPUTS), before, rtol=1e-4, atol=1e-5)


def test_neighbours_in_memory_are_free() -> None:
    model, both = small(), torch.randn(48)
    model[0].weight.data, model[2].weight.data = both[:30].view(6, 5), both[30:].view(3, 6)
    assert rescaling_group(model, INPUTS).dimension == 1


class ByBatch(nn.Module):
    """A network whose function of one example is not that of several."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(5, 6), nn.Linear(6, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.one(inputs)
        return self.two(hidden.relu() if len(inputs) == 1 else hidden.tanh())


def test_the_group_is_held_against_all_examples() -> None:
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    with pytest.raises(InvalidInput, match=r"change the outputs by .* it must treat all examples of a batch alike"):
        describe(ByBatch(), INPUTS, generator=generator)
    assert describe(ByBatch(), INPUTS[:1], generator=generator).dimension == 1
    assert find_rewrites(ByBatch(), INPUTS, "unit", generator=generator).trivial
