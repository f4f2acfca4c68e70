"""Random networks of random operators: whatever is found leaves the function, and units hold what layers have."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sharpbench.symmetry import RescalingGroup, rescaling_group
from sharpbench.symmetry.float64_check import Float64Check

WIDE = 6
UNARY: tuple[Callable[[Tensor], Tensor], ...] = (
    torch.relu,
    lambda x: F.leaky_relu(x, 0.3),
    F.gelu,
    lambda x: x.roll(1, 1),
    lambda x: x.flip(1),
    lambda x: torch.cat((x[:, 3:], x[:, :3]), 1),
    lambda x: x.unflatten(1, (2, 3)).transpose(1, 2).flatten(1),
    lambda x: x.unflatten(1, (3, 2)).cumsum(2).flatten(1),
    lambda x: x.unflatten(1, (3, 2)).softmax(1).flatten(1),
    lambda x: x - x.mean(1, keepdim=True),
    lambda x: x * x[:, :1],
    lambda x: x * x.abs().sqrt(),
    lambda x: x.repeat(1, 2)[:, ::2],
    lambda x: F.pad(x[:, 1:-1], (1, 1)),
    lambda x: x.clamp(max=0.5),
    lambda x: torch.stack((x[:, :3], x[:, 3:]), 2).flatten(1),
    lambda x: x / (1 + x.square().sum(1, keepdim=True)),
)
BINARY: tuple[Callable[[Tensor, Tensor], Tensor], ...] = (
    torch.add,
    torch.mul,
    torch.maximum,
    lambda x, y: x * y.sigmoid(),
    lambda x, y: torch.cat((x, y), 1)[:, 3:9],
    lambda x, y: (x.unflatten(1, (3, 2)) @ y.unflatten(1, (2, 3))).flatten(1)[:, :WIDE],
    lambda x, y: torch.where(torch.arange(WIDE) > 2, x, y),
)


class Random(nn.Module):
    """Layers, norms and operators drawn at random; each step reads one or two of the tensors before it."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        rng = np.random.default_rng(seed)
        self.first = nn.Linear(5, WIDE)
        self.layers = nn.ModuleList(nn.Linear(WIDE, WIDE, bias=bool(rng.integers(2))) for _ in range(4))
        self.norms = nn.ModuleList((nn.LayerNorm(WIDE), nn.BatchNorm1d(WIDE)))
        self.gain = nn.Parameter(torch.randn(WIDE))
        self.head = nn.Linear(WIDE, 3)
        self.steps = [
            (
                str(rng.choice(["layer", "layer", "unary", "unary", "binary", "norm", "gain"])),
                *rng.integers(1000, size=3),
            )
            for _ in range(9)
        ]

    def forward(self, inputs: Tensor) -> Tensor:
        held = [self.first(inputs)]
        for kind, which, one, other in self.steps:
            x, y = held[-1 - one % min(2, len(held))], held[other % len(held)]
            if kind == "layer":
                held.append(self.layers[which % 4](x))  # the same layer may come twice
            elif kind == "unary":
                held.append(UNARY[which % len(UNARY)](x))
            elif kind == "binary":
                held.append(BINARY[which % len(BINARY)](x, y))
            else:
                held.append(self.norms[which % 2](x) if kind == "norm" else self.gain * x)
        return self.head(held[-1])


@pytest.mark.parametrize("start", [0, *(pytest.param(start, marks=pytest.mark.slow) for start in range(10, 60, 10))])
def test_no_random_network_has_a_false_element(start: int) -> None:
    free = 0
    for seed in range(start, start + 10):
        torch.manual_seed(seed)
        model = Random(seed).eval()
        trial = Float64Check.of(model, torch.randn(3, 5), generator=torch.Generator().manual_seed(seed))
        layer, unit = (rescaling_group(model, trial.inputs, scope=scope) for scope in ("layer", "unit"))
        assert layer.unknown_operators == unit.unknown_operators == ()
        assert unit.dimension >= layer.dimension
        free += unit.dimension
        for group in (layer, unit):
            change = group.verify(trial.outputs, trial.state, generator=torch.Generator().manual_seed(1), elements=2)
            assert change < 1e-9, (seed, group.scope)
        _holds(unit, layer)
    assert free > 10


def _holds(unit: RescalingGroup, layer: RescalingGroup) -> None:
    """Every element of the group of layers is one of the group of units."""
    if layer.dimension == 0:
        return
    logs = layer.log_scales(layer.random_element(torch.Generator().manual_seed(4)))
    basis, rows, wanted = unit.basis.toarray(), [], []
    for name, arrays in unit.basis_rows.items():
        shape = np.broadcast_shapes(logs[name].shape, *(array.shape for array in arrays))
        total = sum(np.broadcast_to(basis[array], (*shape, unit.dimension)) for array in arrays)
        rows.append(total.reshape(-1, unit.dimension))
        wanted.append(np.broadcast_to(logs[name], shape).ravel())
    A, b = np.concatenate(rows), np.concatenate(wanted)
    u = np.linalg.lstsq(A, b, rcond=None)[0]
    np.testing.assert_allclose(A @ u, b, atol=1e-9)
