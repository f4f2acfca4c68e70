"""Landscapes: equal for rescaled networks, right at each point, resumable, and the network left as it is."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sharpbench import InvalidInput, LandscapeOptions, Subject, measure_landscape
from sharpbench.curvature import dense_hessian, displaced_losses, flatten
from sharpbench.landscapes import landscape as room
from sharpbench.landscapes.checkpoints import make_checkpoints
from sharpbench.landscapes.landscape import Landscape, iterate_landscape
from sharpbench.landscapes.plane import filter_normalized, make_plane
from sharpbench.landscapes.rows import ROWS

BLOBS = torch.Generator().manual_seed(5)
INPUTS = torch.randn(24, 4, generator=BLOBS, dtype=torch.float64)
TARGETS = torch.randint(3, (24,), generator=BLOBS)


def make_network(seed: int = 0) -> nn.Sequential:
    """ReLU layers; the last hidden unit of the first is never active."""
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3)).double()
    with torch.no_grad():
        network[0].bias[-1] = -40.0
    return network


def rescaled(network: nn.Sequential, seed: int = 1) -> nn.Sequential:
    """The same function with each hidden unit rescaled by a random factor."""
    other, draws = copy.deepcopy(network), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for before, after in ((0, 2), (2, 4)):
            factors = torch.randn(len(other[before].bias), generator=draws, dtype=torch.float64).exp()
            other[before].weight.mul_(factors[:, None])
            other[before].bias.mul_(factors)
            other[after].weight.div_(factors)
    return other


def loss_of(network: nn.Module) -> float:
    with torch.no_grad():
        return float(nn.functional.cross_entropy(network(INPUTS), TARGETS))


def subject_of(network: nn.Module) -> Subject:
    return Subject.from_module(network, INPUTS, TARGETS)


@cache
def usual() -> Subject:
    """That of `make_network()`, captured once; nothing changes it."""
    return subject_of(make_network())


@cache
def usual_rescaled() -> Subject:
    return subject_of(rescaled(make_network()))


@pytest.mark.parametrize("directions", ["random", "eigenvectors"])
def test_rescaled_networks_give_the_same_picture_at_the_balanced_network_only(directions: Any) -> None:
    pair = [usual(), usual_rescaled()]
    options = LandscapeOptions(directions=directions, points=7)
    one, two = (measure_landscape(subject, options) for subject in pair)
    torch.testing.assert_close(one.losses, two.losses, rtol=0, atol=1e-6)
    assert one.grid[0] == pytest.approx(two.grid[0], rel=1e-6)
    assert one.share is not None
    assert two.share is not None
    assert one.share.share == pytest.approx(two.share.share, rel=1e-6)
    plain = LandscapeOptions(directions=directions, points=7, balance="none")
    one, two = (measure_landscape(subject, plain) for subject in pair)
    assert float((one.losses - two.losses).abs().max()) > 1e-2


@pytest.mark.parametrize(("directions", "count"), [("between", 2), ("trajectory", 4)])
def test_each_checkpoint_is_balanced_by_itself(directions: Any, count: int) -> None:
    networks = [make_network(seed) for seed in range(count)]
    options = LandscapeOptions(directions=directions, points=5)
    subject = usual()
    one = measure_landscape(subject, options, checkpoints=[each.state_dict() for each in networks])
    others = [rescaled(each, seed).state_dict() for seed, each in enumerate(networks)]
    two = measure_landscape(subject, options, checkpoints=others)
    torch.testing.assert_close(one.losses, two.losses, rtol=0, atol=1e-6)
    assert [mark.name for mark in one.marks] == [str(place + 1) for place in range(count)]


def test_every_point_is_the_loss_of_the_moved_network_and_the_network_stays() -> None:
    network = make_network()
    subject, options = subject_of(network), LandscapeOptions(points=5, balance="none", span=0.5)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    state = torch.random.get_rng_state()
    found = measure_landscape(subject, options)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(parameter.grad is None for parameter in network.parameters())
    plane = make_plane(make_checkpoints({"net": subject}), options)
    for row, column in ((0, 0), (2, 2), (1, 4)):
        moved = flatten(subject.params) + plane.grid[0][column] * plane.axes[0] + plane.grid[1][row] * plane.axes[1]
        other = copy.deepcopy(network)
        nn.utils.vector_to_parameters(moved, other.parameters())
        assert float(found.losses[row, column]) == pytest.approx(loss_of(other), rel=1e-12)


def test_filters_keep_the_norms_of_the_weights_and_biases_stay() -> None:
    weights = {"conv": torch.randn(3, 2, 2, 2), "bias": torch.ones(3), "zero": torch.zeros(2, 2)}
    moved = filter_normalized(weights, torch.randn(24 + 3 + 4))
    filters = moved[:24].reshape(3, 8)
    torch.testing.assert_close(filters.norm(dim=1).float(), weights["conv"].flatten(1).norm(dim=1))
    assert not moved[24:].any()


@pytest.mark.parametrize("dimensions", [1, 2])
def test_the_share_is_that_of_the_dense_hessian(dimensions: Any) -> None:
    subject = usual()
    options = LandscapeOptions(points=3, dimensions=dimensions, balance="none")
    found = measure_landscape(subject, options).share
    assert found is not None
    axes = make_plane(make_checkpoints({"net": subject}), options).axes
    basis = torch.linalg.qr(torch.stack(axes, 1))[0]
    dense = dense_hessian(subject)
    assert found.held == pytest.approx(float((basis.T @ dense @ basis).trace()), rel=1e-9)
    assert found.trace == pytest.approx(float(dense.trace()), rel=0.05)
    assert found.expected == pytest.approx(dimensions / subject.size)


def test_the_eigenvector_line_rises_by_one_where_the_model_does() -> None:
    subject = usual()
    options = LandscapeOptions(points=3, dimensions=1, directions="eigenvectors", balance="none")
    found = measure_landscape(subject, options)
    largest = float(torch.linalg.eigvalsh(dense_hessian(subject))[-1])
    assert found.grid[0] == pytest.approx([-math.sqrt(2 / largest), 0.0, math.sqrt(2 / largest)], rel=1e-6)
    assert found.facts[0].startswith("eigenvalues ")


def test_a_line_between_two_networks_has_their_losses_at_0_and_1() -> None:
    networks = [make_network(seed) for seed in (0, 1)]
    options = LandscapeOptions(directions="between", dimensions=1, points=5)
    found = measure_landscape(usual(), options, checkpoints=[each.state_dict() for each in networks])
    assert found.grid[0] == pytest.approx([-0.5, 0, 0.5, 1, 1.5])
    for place, network in ((1, networks[0]), (3, networks[1])):
        assert float(found.losses[place]) == pytest.approx(loss_of(network))


def test_running_statistics_move_with_the_weights() -> None:
    states = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        network = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 3)).double()
        network(INPUTS + seed)
        states.append(network.eval().state_dict())
    options = LandscapeOptions(directions="between", dimensions=1, points=5, balance="none")
    found = measure_landscape(subject_of(network), options, checkpoints=states)
    network.load_state_dict(states[1])
    assert float(found.losses[3]) == pytest.approx(loss_of(network))


def test_rows_of_other_code_with_the_same_weights_are_not_taken(tmp_path: Path) -> None:
    options = LandscapeOptions(dimensions=1, points=3, balance="none")
    first = make_network()
    other = copy.deepcopy(first)
    for name, module in list(other.named_children()):
        if isinstance(module, nn.ReLU):
            setattr(other, name, nn.Tanh())
    losses = [measure_landscape(subject_of(each), options, folder=tmp_path).losses for each in (first, other)]
    assert torch.equal(losses[1], measure_landscape(subject_of(other), options).losses)
    assert not torch.allclose(losses[0], losses[1])


def test_an_interrupted_grid_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    subject, options = usual(), LandscapeOptions(points=5, balance="none")
    whole = measure_landscape(subject, options)
    rows: list[int] = []

    def counted(*given: Any) -> Tensor:
        rows.append(1)
        return displaced_losses(*given)

    monkeypatch.setattr(room, "displaced_losses", counted)
    steps: Iterator[str | Landscape] = iterate_landscape({subject.name: subject}, options, folder=tmp_path)
    for step in steps:
        if step == "row 4 of 5":
            break
    steps.close()  # type: ignore[attr-defined]  # of a generator
    assert len(rows) == 3
    with (tmp_path / ROWS).open("a") as file:
        file.write('{"key":"torn')
    found = measure_landscape(subject, options, folder=tmp_path)
    assert len(rows) == 5
    assert torch.equal(found.losses, whole.losses)
    measure_landscape(subject, LandscapeOptions(points=5, balance="none", seed=1), folder=tmp_path)
    assert len(rows) == 10
    measure_landscape(subject, options, folder=tmp_path)
    assert len(rows) == 10
    (tmp_path / ROWS).write_text("nonsense\n")
    with pytest.raises(InvalidInput, match="line 1: not a row of a landscape"):
        measure_landscape(subject, options, folder=tmp_path)


def test_rows_of_another_network_with_the_same_weights_are_not_taken(tmp_path: Path) -> None:
    options = LandscapeOptions(dimensions=1, points=3, balance="none")
    network, other = make_network(), make_network()
    other[1] = nn.Tanh()
    for each in (network, other):
        nn.init.zeros_(each[4].weight)  # at these weights both networks have the same losses
    first = measure_landscape(subject_of(network), options, folder=tmp_path)
    found = measure_landscape(subject_of(other), options, folder=tmp_path)
    assert torch.equal(found.losses, measure_landscape(subject_of(other), options).losses)
    assert torch.equal(measure_landscape(subject_of(network), options, folder=tmp_path).losses, first.losses)
    (tmp_path / ROWS).write_text(f'{{"key":"x","row":0,"losses":[1{"0" * 400}]}}\n', encoding="utf-8")
    with pytest.raises(InvalidInput, match="line 1: not a row of a landscape"):
        measure_landscape(subject_of(other), options, folder=tmp_path)


def test_losses_that_are_not_finite_are_left_empty() -> None:
    class Squared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(4, 3)

        def forward(self, inputs: Tensor) -> Tensor:
            return self.linear(inputs).exp().exp()

    torch.manual_seed(0)
    subject = Subject.from_module(Squared(), INPUTS.float(), TARGETS)
    found = measure_landscape(subject, LandscapeOptions(points=3, span=40.0, balance="none"))
    assert not bool(found.losses.isfinite().all())
    assert bool(found.losses[1, 1].isfinite())
    assert "NaN" not in found.to_html()


def test_weight_decay_is_part_of_the_loss() -> None:
    network = make_network()
    subject = Subject.from_module(network, INPUTS, TARGETS, weight_decay=0.1)
    found = measure_landscape(subject, LandscapeOptions(points=3, dimensions=1, balance="none"))
    assert float(found.losses[1]) == pytest.approx(float(subject.loss(subject.params)), rel=1e-12)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"directions": "up"}, "directions='up' is unknown; use random, eigenvectors, between, trajectory"),
        ({"balance": "full"}, "balance='full' is unknown; use unit, layer, none"),
        ({"dimensions": 3}, "dimensions=3 must be 1 or 2"),
        ({"points": 2}, "points=2 along an axis must be from 3 to 1001"),
        ({"span": 0.0}, "span=0.0 must be above 0"),
        ({"span": 1.0, "directions": "trajectory"}, "span=1.0 has no effect on directions=trajectory"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        LandscapeOptions(**options)


def test_checkpoints_that_do_not_fit_are_refused() -> None:
    subject, state = usual(), make_network().state_dict()
    between = LandscapeOptions(directions="between", points=3)
    with pytest.raises(InvalidInput, match="directions=between takes two checkpoints, not 1"):
        measure_landscape(subject, between)
    with pytest.raises(InvalidInput, match="directions=trajectory takes three or more checkpoints, not 2"):
        measure_landscape(subject, LandscapeOptions(directions="trajectory"), checkpoints=[state, state])
    with pytest.raises(InvalidInput, match="'1' and '2' are the same network"):
        measure_landscape(subject, between, checkpoints=[state, state])
    with pytest.raises(InvalidInput, match=r"the 3 checkpoints are all the same; use others"):
        measure_landscape(subject, LandscapeOptions(directions="trajectory", points=3), checkpoints=[state] * 3)
    with pytest.raises(InvalidInput, match=r"checkpoint 'b' has no tensor '0.weight' of shape \[6, 4\]"):
        measure_landscape(subject, between, checkpoints={"a": state, "b": {}})
    broken = {name: value * math.nan for name, value in state.items()}
    with pytest.raises(InvalidInput, match=r"checkpoint 'b': 0\.weight has values that are not finite"):
        measure_landscape(subject, between, checkpoints={"a": state, "b": broken})


def test_a_minimum_that_is_not_attained_names_the_remedy() -> None:
    network = make_network()
    nn.init.zeros_(network[4].weight)
    with pytest.raises(InvalidInput, match=r"no balanced network at 'Sequential': .*; or draw with balance=none"):
        measure_landscape(subject_of(network), LandscapeOptions(points=3))


def test_a_network_whose_derivatives_are_refused_can_be_drawn_by_random_directions() -> None:
    class Reversed(nn.Module):
        """Its backward pass is the derivative of no function."""

        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(4, 5), nn.Linear(5, 3)

        def forward(self, inputs: Tensor) -> Tensor:
            hidden = self.first(inputs)
            if hidden.requires_grad:
                hidden.register_hook(lambda gradient: -gradient)
            return self.last(hidden.relu())

    torch.manual_seed(0)
    subject = Subject.from_module(Reversed().double(), INPUTS, TARGETS)
    with pytest.raises(InvalidInput, match="no balanced network at 'Reversed': "):
        measure_landscape(subject, LandscapeOptions(points=3))
    with pytest.raises(InvalidInput, match=r"no eigenvectors: .*; use directions=random"):
        measure_landscape(subject, LandscapeOptions(points=3, directions="eigenvectors", balance="none"))
    found = measure_landscape(subject, LandscapeOptions(points=3, balance="none"))
    assert found.share is None
    assert found.facts[0].startswith("the share of the trace is not known: ")
