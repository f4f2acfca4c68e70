"""The least trace of real networks, layer-wise and per unit: attained, ordered, unchanged by the group."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sharpbench import InvalidInput, NotApplicable, Subject, measure
from sharpbench.core.evaluate import parse_measure
from sharpbench.curvature import exact_diagonal
from sharpbench.models import PAPER_MODELS
from sharpbench.symmetry import group_of, minimum_trace, rescaling_group


class Residual(nn.Module):
    """Convolutions, one of them grouped, a norm, a sum of two branches."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Conv2d(3, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.two = nn.Conv2d(6, 4, 1)
        self.deep = nn.Conv2d(4, 8, 3, padding=1, groups=4)
        self.three = nn.Conv2d(8, 6, 3, padding=1, bias=False)
        self.head = nn.Linear(6, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        stem = self.one(inputs)
        branch = self.three(self.deep(self.two(stem).relu()).relu())
        return self.head((self.norm(stem) + branch).relu().mean((2, 3)))


class Transformer(nn.Module):
    """Attention of two heads with fused projections, and a ReLU block."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(5)
        self.qkv, self.out = nn.Linear(5, 18), nn.Linear(6, 5)
        self.one, self.two = nn.Linear(5, 7), nn.Linear(7, 4)
        self.head = nn.Linear(4, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        query, key, value = self.qkv(self.norm(inputs)).unflatten(2, (3, 2, 3)).permute(2, 0, 3, 1, 4).unbind(0)
        mixed = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        return self.head(self.two(self.one(inputs + self.out(mixed)).relu()).mean(1))


@cache
def residual() -> Subject:
    torch.manual_seed(0)
    net = Residual().double()
    net.norm.running_mean.normal_()
    return Subject.from_module(net, torch.randn(9, 3, 6, 6, dtype=torch.float64), torch.randint(3, (9,)))


@cache
def transformer() -> Subject:
    torch.manual_seed(0)
    net = Transformer().double()
    return Subject.from_module(net, torch.randn(9, 7, 5, dtype=torch.float64), torch.randint(3, (9,)))


@cache
def plain(index: int) -> Subject:
    torch.manual_seed(index)
    module = PAPER_MODELS[index]().build((1, 12, 12), 4).double()
    return Subject.from_module(module, torch.randn(9, 1, 12, 12, dtype=torch.float64), torch.randint(4, (9,)))


SUBJECTS = {
    "small-mlp": lambda: plain(next(i for i, model in enumerate(PAPER_MODELS) if model.name == "small-mlp")),
    "residual": residual,
    "transformer": transformer,
}


@pytest.fixture(params=SUBJECTS.values(), ids=SUBJECTS)
def subject(request: pytest.FixtureRequest) -> Subject:
    made: Subject = request.param()
    return made


def trace(subject: Subject) -> float:
    return sum(float(value.sum()) for value in subject.once(exact_diagonal).values())


def test_units_are_below_layers_and_layers_below_the_trace(subject: Subject) -> None:
    layer, unit = measure("minimum", subject), measure("minimum[scope=unit]", subject)
    assert unit.value < layer.value < trace(subject)
    assert layer.details["gap"] <= 1e-12
    assert unit.details["gradient"] <= 1e-12
    for estimate in (layer, unit):
        assert estimate.converged
        assert estimate.details["attained"] is True
        assert estimate.details["function_change"] < 1e-11
        assert sum(estimate.parts.values()) == pytest.approx(estimate.value, rel=1e-12)
        assert set(estimate.parts) == set(subject.params)


@pytest.mark.parametrize("scope", ["layer", "unit"])
def test_the_rescaled_network_has_the_minimum_for_its_trace(subject: Subject, scope: str) -> None:
    group = group_of(subject.graph, scope=scope)
    diagonal = {name: value.numpy() for name, value in exact_diagonal(subject).items()}
    solved = minimum_trace(group, diagonal)
    moved = subject.with_params(group.apply(subject.params, solved.u))
    assert trace(moved) == pytest.approx(solved.value, rel=1e-10)
    one, other = (each.apply(each.params, each.inputs) for each in (subject, moved))
    torch.testing.assert_close(one, other, rtol=0, atol=1e-11 * float(one.abs().max()))


def test_random_elements_change_what_they_should(subject: Subject) -> None:
    values = {scope: measure(f"minimum[scope={scope}]", subject).value for scope in ("layer", "unit")}
    for scope in ("layer", "unit"):
        group = group_of(subject.graph, scope=scope)
        element = group.random_element(torch.Generator().manual_seed(5), spread=2.0)
        moved = subject.with_params(group.apply(subject.params, element))
        assert abs(trace(moved) / trace(subject) - 1) > 0.02
        assert measure("minimum[scope=unit]", moved).value == pytest.approx(values["unit"], rel=1e-9)
        layers = measure("minimum", moved).value
        assert (layers == pytest.approx(values["layer"], rel=1e-9)) == (scope == "layer")


def test_no_random_element_is_better(subject: Subject) -> None:
    value = measure("minimum[scope=unit]", subject).value
    group = group_of(subject.graph, scope="unit")
    for seed in range(8):
        element = group.random_element(torch.Generator().manual_seed(seed), spread=0.3)
        assert trace(subject.with_params(group.apply(subject.params, element))) > value


def test_a_dead_unit_is_no_obstacle() -> None:
    subject = plain(0)
    params = {name: value.clone() for name, value in subject.params.items()}
    params["layer0.bias"][3] = -1e4
    estimate = measure("minimum[scope=unit]", subject.with_params(params))
    assert np.isfinite(estimate.value)
    assert estimate.details["attained"] is True
    assert estimate.converged


def test_a_head_of_zeros_lets_all_before_it_vanish() -> None:
    subject = plain(next(i for i, model in enumerate(PAPER_MODELS) if model.name == "small-mlp"))
    last = max(name for name in subject.params if name.endswith("weight"))
    params = {**subject.params, last: torch.zeros_like(subject.params[last])}
    for scope in ("layer", "unit"):
        estimate = measure(f"minimum[scope={scope}]", subject.with_params(params))
        assert estimate.details["attained"] is False or "weight" not in str(estimate.details["vanishing"])
        assert estimate.value < trace(subject.with_params(params)) * (1 + 1e-12)


@pytest.mark.parametrize("scope", ["layer", "unit"])
def test_parameters_of_one_entry_have_the_closed_form(scope: str) -> None:
    layers = [nn.Linear(1, 1, bias=False) for _ in range(3)]
    for layer, weight in zip(layers, (0.5, 2.0, 3.0), strict=True):
        nn.init.constant_(layer.weight, weight)
    module = nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2]).double()
    inputs = torch.rand(8, 1, dtype=torch.float64) + 0.1
    subject = Subject.from_module(module, inputs, inputs, loss="mse")
    squares = 2 * inputs.square().mean()  # of the output's derivative by each weight, times 2
    traces = [squares * (3.0 / weight) ** 2 for weight in (0.5, 2.0, 3.0)]
    expected = 3 * float(torch.stack(traces).prod()) ** (1 / 3)
    assert measure(f"minimum[scope={scope}]", subject).value == pytest.approx(expected, rel=1e-9)


class Gains(nn.Module):
    """A scalar gain, and one of shape [1], that can be rescaled against each other."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Parameter(torch.tensor(0.7)), nn.Parameter(torch.tensor([1.3]))

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = (inputs * self.one).relu() * self.two
        return torch.cat((hidden, inputs - hidden), 1)


def test_scalar_parameters_have_one_scale_in_both_scopes() -> None:
    inputs = torch.linspace(-1, 2, 8, dtype=torch.float64)[:, None]
    subject = Subject.from_module(Gains().double(), inputs, torch.arange(8) % 2)
    one, two = (float(value.sum()) for value in exact_diagonal(subject).values())
    for scope in ("layer", "unit"):
        expected = 2 * (one * two) ** 0.5
        assert measure(f"minimum[scope={scope}]", subject).value == pytest.approx(expected, rel=1e-9)


def test_the_oracle_agrees_with_the_fast_path() -> None:
    subject = residual()
    chosen = parse_measure("minimum[scope=unit]")
    assert chosen.exact(subject) == pytest.approx(measure(chosen, subject).value, rel=1e-9)
    assert chosen.invariances() == {"layer", "unit", "permutation"}


@pytest.mark.parametrize("scope", ["layer", "unit"])
def test_a_diagonal_must_be_finite(scope: str) -> None:
    module = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    group = rescaling_group(module, torch.randn(2, 3), scope=scope)
    diagonal = {name: np.ones(value.shape) for name, value in module.named_parameters()}
    diagonal["2.bias"][1] = np.nan
    with pytest.raises(InvalidInput, match=r"the diagonal of 2.bias must be finite, and 1 of 2 are not: nan"):
        minimum_trace(group, diagonal)


@pytest.mark.parametrize("scope", ["layer", "unit"])
def test_negative_curvature_is_refused_and_not_set_to_0(scope: str) -> None:
    subject = residual()

    def bent(outputs: Tensor, targets: Tensor) -> Tensor:
        return 0.1 * outputs[:, 0] ** 2 - outputs[:, 1] ** 2

    other = Subject.from_module(subject.module, subject.inputs, subject.targets, loss=bent)
    with pytest.raises(NotApplicable, match=r"no minimum over rescalings: .* .* not convex in the outputs"):
        measure(f"minimum[scope={scope}]", other)


def test_negative_entries_by_rounding_count_as_0() -> None:
    net = nn.Sequential(nn.Linear(2, 1, bias=False), nn.ReLU(), nn.Linear(1, 1, bias=False)).double()
    group = rescaling_group(net, torch.ones(1, 2, dtype=torch.float64), scope="unit")
    diagonal = {"0.weight": np.array([[1.0, -1e-12]]), "2.weight": np.array([[4.0]])}
    assert minimum_trace(group, diagonal).value == pytest.approx(4.0, rel=1e-9)
    diagonal["0.weight"][0, 1] = -1e-3
    with pytest.raises(InvalidInput, match=r"the diagonal of 0\.weight must not be negative, and 1 of 2 are"):
        minimum_trace(group, diagonal)
