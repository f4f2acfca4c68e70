"""The minimum over scales and matrices together, against a generic optimiser and under random moves."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from sharpbench_measures.minimum import Minimum
from torch import Tensor, nn

import sharpbench
from sharpbench import NotApplicable, Subject, curvature, symmetry
from sharpbench.curvature.reference import parameter_blocks
from sharpbench.errors import InvalidInput
from sharpbench.symmetry import FullGroup
from sharpbench.symmetry.minimum.full import FullMinimum
from tests.symmetry.test_linear_blocks import (
    HEADS,
    WIDTH,
    Attention,
    Chain,
    Cross,
    Fused,
    Lora,
    MultiQuery,
    Nonlinear,
    Rotary,
)

CASES: list[Callable[[], nn.Module]] = [Attention, Fused, MultiQuery, Rotary]
CHAINED: list[Callable[[], nn.Module]] = [Lora, Chain, Cross]
"""Networks in which two blocks act on different axes of one parameter, or might."""


class Narrow(nn.Sequential):
    """Three linear layers so narrow that the minimum is attained."""

    def __init__(self) -> None:
        super().__init__(nn.Flatten(), nn.Linear(40, 2), nn.Linear(2, 2), nn.Linear(2, 3))


@cache
def make(kind: Callable[[], nn.Module]) -> tuple[Subject, FullGroup]:
    """A network with its group, made once."""
    torch.manual_seed(0)
    model, inputs = kind().double().eval(), torch.randn(12, 5, WIDTH, dtype=torch.float64)
    with torch.no_grad():
        for value in model.parameters():
            value.add_(0.3 * torch.randn_like(value))
    subject = Subject.from_module(model, inputs, torch.arange(12) % 3)
    return subject, symmetry.full_group(model, inputs, generator=torch.Generator().manual_seed(1))


@cache
def solve(kind: Callable[[], nn.Module]) -> FullMinimum:
    """The minimum of `make(kind)`."""
    return symmetry.minimise_full(*make(kind))


def trace(subject: Subject) -> float:
    return sum(curvature.exact_traces(subject).values())


@pytest.mark.parametrize("kind", CASES + CHAINED)
def test_the_network_at_the_minimum_has_its_trace_and_the_same_function(kind: Callable[[], nn.Module]) -> None:
    (subject, group), solved = make(kind), solve(kind)
    assert solved.converged
    assert solved.gap < 1e-9
    moved = subject.with_params(solved.params)
    # where directions vanish, the weights of the others grow to 1e7 and 1e13, and few digits are left
    assert trace(moved) == pytest.approx(solved.value, rel=1e-4 if solved.vanishing else 1e-10)
    change = subject.apply(subject.params, subject.inputs) - subject.apply(solved.params, subject.inputs)
    assert change.abs().max() < (1e-7 if solved.vanishing else 1e-10)
    units = symmetry.minimum_trace(group.units, symmetry.diagonal_for(group.units, subject))
    assert solved.value < units.value * (1 - 1e-4)


@pytest.mark.parametrize("kind", [Fused, MultiQuery, Rotary, *CHAINED])
def test_it_does_not_change_under_the_group(kind: Callable[[], nn.Module]) -> None:
    (subject, group), before = make(kind), solve(kind).value
    moved = subject.with_params(group.random_move(subject.params, torch.Generator().manual_seed(5)))
    assert trace(moved) > before
    assert trace(moved) != pytest.approx(trace(subject), rel=1e-2)
    assert symmetry.minimise_full(moved, group).value == pytest.approx(before, rel=1e-7)


@pytest.mark.parametrize("kind", [MultiQuery, Narrow])
def test_a_generic_optimiser_over_matrices_and_scales_finds_the_same_value(kind: Callable[[], nn.Module]) -> None:
    """BFGS over the entries of all matrices' exponents and the scales, on the dense Gauss-Newton matrix of the moved
    network's definition: the trace of T^-T G T^-1 for the linear map T of the weights."""
    subject, group = make(kind)
    dense = curvature.dense_ggn(subject)
    blocks, sizes = parameter_blocks(subject), [block.units for block in group.blocks]

    def inverse_map(z: Tensor) -> Tensor:
        """T^-1 as a matrix: what the inverse move does to each unit vector of the weights."""
        columns = torch.eye(subject.size, dtype=torch.float64)
        state = {
            name: columns[blocks[name]].reshape(*value.shape, subject.size) for name, value in subject.params.items()
        }
        at = 0
        for block, size in zip(group.blocks, sizes, strict=True):
            matrix = torch.linalg.matrix_exp(z[at : at + size**2].reshape(size, size))
            at += size**2
            for each in block.occurrences:
                factor = matrix.T if each.inverse else torch.linalg.inv(matrix)
                rows = state[each.parameter].movedim(each.axis, 0)
                for places in each.indices.T:
                    index = torch.from_numpy(places.copy())
                    rows = rows.index_copy(0, index, torch.tensordot(factor, rows[index], dims=1))
                state[each.parameter] = rows.movedim(0, each.axis)
        logs = torch.from_numpy(group.units.basis.toarray()) @ z[at:]
        for name, arrays in group.units.basis_rows.items():
            total = sum(logs[torch.from_numpy(array.copy())] for array in arrays)
            state[name] = state[name] * torch.exp(-torch.as_tensor(total))[..., None]
        return torch.cat([state[name].reshape(-1, subject.size) for name in subject.params])

    def objective(z: np.ndarray) -> tuple[float, np.ndarray]:
        point = torch.from_numpy(z).requires_grad_()
        turned = inverse_map(point)
        value = (turned * (dense @ turned)).sum()
        (slope,) = torch.autograd.grad(value, point)
        return float(value.detach()), slope.numpy()

    start = np.zeros(sum(size**2 for size in sizes) + group.units.dimension)
    found = minimize(objective, start, jac=True, method="BFGS", options={"gtol": 1e-9, "maxiter": 2000})
    assert solve(kind).value == pytest.approx(found.fun, rel=1e-8)


def test_two_linear_layers_reach_the_nuclear_norm() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 3, bias=False), nn.Linear(3, 4, bias=False)).double()
    inputs = torch.randn(20, 5, dtype=torch.float64)
    subject = Subject.from_module(model, inputs, torch.arange(20) % 4)
    group = symmetry.full_group(model, inputs, generator=torch.Generator().manual_seed(0))
    sections = [curvature.Section("0.weight", 0, np.arange(3)), curvature.Section("1.weight", 1, np.arange(3))]
    a, b = (each.sum(0).numpy() for each in curvature.reference_partial_traces(subject, sections)[1])

    def root(matrix: np.ndarray) -> np.ndarray:
        values, vectors = np.linalg.eigh(matrix)
        return (vectors * np.sqrt(values)) @ vectors.T

    wanted = 2 * np.linalg.norm(root(a) @ root(b), ord="nuc")
    assert symmetry.minimise_full(subject, group).value == pytest.approx(wanted, rel=1e-10)


def test_a_block_without_curvature_on_one_side_vanishes_and_is_named() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 3, bias=False), nn.Linear(3, 4, bias=False)).double()
    with torch.no_grad():
        model[0].weight[2].zero_()
        model[1].weight[:, 2].zero_()
    inputs = torch.randn(20, 5, dtype=torch.float64)
    subject = Subject.from_module(model, inputs, torch.arange(20) % 4)
    group = symmetry.full_group(model, inputs, generator=torch.Generator().manual_seed(0))
    solved = symmetry.minimise_full(subject, group)
    twice = Subject.from_module(
        nn.Sequential(nn.Linear(5, 2, bias=False), nn.Linear(2, 4, bias=False)).double(), inputs, torch.arange(20) % 4
    ).with_params({"0.weight": subject.params["0.weight"][:2], "1.weight": subject.params["1.weight"][:, :2]})
    small = symmetry.full_group(twice.module, inputs, generator=torch.Generator().manual_seed(0))
    assert solved.value == pytest.approx(symmetry.minimise_full(twice, small).value, rel=1e-6)


def test_what_an_earlier_pass_drives_to_0_is_named() -> None:
    """Both pairs of a chain with a dead row in the middle: after the first passes nothing of it is left to see."""
    torch.manual_seed(0)
    model = nn.Sequential(*(nn.Linear(each, other, bias=False) for each, other in ((5, 3), (3, 3), (3, 4)))).double()
    with torch.no_grad():
        model[1].weight[0].zero_()
    inputs = torch.randn(20, 5, dtype=torch.float64)
    subject = Subject.from_module(model, inputs, torch.arange(20) % 4)
    solved = symmetry.minimise_full(subject, symmetry.full_group(model, inputs, generator=torch.Generator()))
    assert solved.passes > 2
    assert solved.vanishing
    for block in ("0.weight[0:3] and 1.weight[:, 0:3]", "1.weight[0:3] and 2.weight[:, 0:3]"):
        assert f"directions of {block}" in solved.vanishing


def test_a_shift_of_the_keys_bias_changes_neither_function_nor_trace() -> None:
    subject, _ = make(Attention)
    shift = torch.randn(WIDTH, generator=torch.Generator().manual_seed(0))
    moved = subject.with_params({**subject.params, "k.bias": subject.params["k.bias"] + shift})
    assert torch.allclose(moved.apply(moved.params, moved.inputs), subject.apply(subject.params, subject.inputs))
    traces, others = curvature.exact_traces(subject), curvature.exact_traces(moved)
    assert traces == pytest.approx(others, rel=1e-9, abs=1e-12)
    assert traces["k.bias"] == pytest.approx(0.0, abs=1e-12)


def test_balanced_networks_differ_by_rotations_which_measures_of_single_weights_see() -> None:
    subject, group = make(Attention)
    balanced = subject.with_params(solve(Attention).params)
    params, draws = balanced.params, torch.Generator().manual_seed(0)
    for block in group.blocks:
        turn = torch.linalg.qr(torch.randn(4, 4, generator=draws, dtype=torch.float64))[0]
        params = block.apply(params, turn, turn.T)
    turned = balanced.with_params(params)
    assert trace(turned) == pytest.approx(trace(balanced), rel=1e-12)
    for word in ("normalized", "adaptive[steps=1]"):
        assert sharpbench.measure(word, turned).value != pytest.approx(
            sharpbench.measure(word, balanced).value, rel=1e-6
        )


def test_the_measure_states_its_group_and_is_below_the_other_scopes() -> None:
    subject, group = make(Attention)
    values = {scope: sharpbench.measure(f"minimum[scope={scope}]", subject) for scope in ("layer", "unit", "full")}
    assert values["full"].value < values["unit"].value < values["layer"].value
    details = values["full"].details
    assert details["blocks"] == f"{2 * HEADS} x GL(4)"
    assert details["dimension"] == group.dimension
    assert details["attained"] is True


def test_without_blocks_the_minimum_is_that_of_the_units() -> None:
    subject, group = make(Nonlinear)
    assert not group.blocks
    full, unit = (sharpbench.measure(f"minimum[scope={scope}]", subject) for scope in ("full", "unit"))
    assert full.value == pytest.approx(unit.value, rel=1e-12)


def test_negative_curvature_is_refused() -> None:
    subject, _ = make(Attention)

    def bent(outputs: Tensor, targets: Tensor) -> Tensor:
        return outputs[:, 0] ** 2 - outputs[:, 1] ** 2

    other = Subject.from_module(subject.module, subject.inputs, subject.targets, loss=bent)
    with pytest.raises(NotApplicable, match=r"no minimum over matrices: .* the loss is not convex in the outputs"):
        sharpbench.measure("minimum[scope=full]", other)


def test_the_measures_reference_uses_the_dense_matrix() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 3), nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 3)).double()
    inputs = torch.randn(20, 5, dtype=torch.float64)
    subject = Subject.from_module(model, inputs, torch.arange(20) % 3)
    chosen = Minimum(scope="full")
    assert chosen.exact(subject) == pytest.approx(sharpbench.measure(chosen, subject).value, rel=1e-9)


def test_the_balanced_network_has_the_least_trace_and_is_balanced_again_as_it_is() -> None:
    subject, _ = make.__wrapped__(Attention)
    subject.module.register_parameter("alias", subject.module.q.weight)
    tied = Subject.from_module(subject.module, subject.inputs, subject.targets)
    state = symmetry.balance(tied, scope="full")
    assert torch.equal(state["alias"], state["q.weight"])
    model = Attention().double().eval()
    model.load_state_dict({name: value for name, value in state.items() if name != "alias"})
    balanced = Subject.from_module(model, subject.inputs, subject.targets)
    least = sharpbench.measure("minimum[scope=full]", tied)
    assert trace(balanced) == pytest.approx(least.value, rel=1e-9)
    assert torch.allclose(model(subject.inputs), subject.module(subject.inputs), atol=1e-11)


def test_balance_refuses_a_minimum_that_is_not_attained() -> None:
    subject, _ = make(Cross)
    with pytest.raises(InvalidInput, match=r"no network attains the minimum\[scope=full\]: .* directions of"):
        symmetry.balance(subject, scope="full")


def test_parameters_without_dimensions_and_sparse_buffers_are_no_obstacle() -> None:
    class Sparse(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale, self.layer, self.head = nn.Parameter(torch.tensor(1.5)), nn.Linear(4, 4), nn.Linear(4, 3)
            self.register_buffer("edges", torch.eye(4).to_sparse())

        def forward(self, inputs: Tensor) -> Tensor:
            logits: Tensor = self.head((self.edges @ self.layer(inputs).T).T.relu() * self.scale)
            return logits

    torch.manual_seed(0)
    inputs, targets = torch.randn(8, 4, dtype=torch.float64), torch.arange(8) % 3
    subject = Subject.from_module(Sparse().double(), inputs, targets)
    full, unit = (sharpbench.measure(f"minimum[scope={scope}]", subject).value for scope in ("full", "unit"))
    assert full <= unit * (1 + 1e-9)
