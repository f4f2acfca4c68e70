"""A group in words: sparse generators, counted units, and a verification that would show a false element."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sharpbench import InvalidInput
from sharpbench.symmetry import describe
from sharpbench.symmetry.describe import sparse_basis


class Block(nn.Module):
    """A residual block with norms, and attention of one head."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.conv2, self.bn2 = nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)
        self.qkv, self.proj = nn.Linear(4, 12), nn.Linear(4, 4)
        self.head = nn.Linear(4, 2)
        nn.init.zeros_(self.bn2.weight)

    def forward(self, inputs: Tensor) -> Tensor:
        image = self.bn2(self.conv2(self.bn1(self.conv1(inputs)).relu()))
        query, key, value = self.qkv(image.flatten(2).transpose(1, 2)).chunk(3, dim=2)
        return self.head(self.proj((query @ key.transpose(1, 2)).softmax(2) @ value).relu().mean(1))


@cache
def block() -> Block:
    """Made once, with its graph. Of some weights all hidden units are dead, and nothing changes at all."""
    torch.manual_seed(0)
    return Block()


def described(model: nn.Module, scope: str, shape: tuple[int, ...] = (2, 3, 4, 4)) -> object:
    torch.manual_seed(0)
    return describe(model, torch.randn(shape), scope=scope, generator=torch.Generator().manual_seed(0))


def test_layers_in_words() -> None:
    found = described(block(), "layer")
    assert found.generators == (
        "bn1 against conv2",
        "bn2 against qkv.weight[0:4], qkv.weight[4:8], qkv.weight[8:12]",
        "qkv[0:4] against qkv[4:8]",
        "qkv[8:12] against proj.weight",
        "proj against head.weight",
    )
    assert found.dimension == 5
    assert found.pinned == ()
    assert 0 < found.change < 1e-13


def test_units_are_counted() -> None:
    found = described(block(), "unit")
    assert found.generators == (
        "4 x bn1 against conv2",
        "4 x bn2 against qkv.weight",
        "4 x qkv against qkv",
        "4 x qkv against proj.weight",
        "4 x proj against head.weight",
    )
    assert found.dimension == 20


def test_powers_other_than_one() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Linear(3, 4), nn.Linear(4, 2)

        def forward(self, inputs: Tensor) -> Tensor:
            return self.two(self.one(inputs).relu().square())

    assert described(Twice(), "layer", (2, 3)).generators == ("one against two.weight^2",)


def test_the_mode_and_the_weights_stay() -> None:
    model = Block().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    described(model, "layer")
    assert all(part.training for part in model.modules())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_false_element_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a wrong rule, the change is not rounding: also behind a norm whose scale starts at 0."""
    from sharpbench.symmetry.rules import table

    model = nn.Sequential(nn.Linear(5, 6), nn.LayerNorm(6), nn.GELU(), nn.Linear(6, 3))
    nn.init.zeros_(model[1].weight)
    monkeypatch.setitem(table.RULES, "gelu", table.homogeneous_rule)
    with pytest.raises(InvalidInput, match=r"rescalings of scope=layer change the outputs by .*, above 1\.5e-08: on"):
        described(model, "layer", (2, 5))


def rank(rows: NDArray[np.float64]) -> int:
    """The rank of a matrix of small fractions: singular values that come from rounding are far below 1e-8."""
    return int(np.linalg.matrix_rank(rows, tol=1e-8))


@pytest.mark.parametrize("first_seed", range(0, 300, 60))
def test_a_sparse_basis_spans_the_same_space_and_has_exact_entries(first_seed: int) -> None:
    for seed in range(first_seed, first_seed + 60):
        rng = np.random.default_rng(seed)
        sparse = (rng.random((5, 12)) < 0.3) * rng.choice([-1.0, 1.0], (5, 12))
        sparse[:, :5] = np.eye(5)
        mixed = np.linalg.qr((rng.normal(size=(5, 5)) @ sparse).T)[0]
        found = sparse_basis(mixed)
        assert rank(np.vstack((found, sparse))) == len(found) == rank(sparse), seed
        assert np.count_nonzero(found) <= np.count_nonzero(sparse), seed
        shares = np.linalg.solve(found @ found.T, found @ sparse.T)  # of each vector of the basis in the sparse rows
        assert np.abs(shares.T @ found - sparse).max() < 1e-12, seed
        assert np.array_equal(found * 12, np.rint(found * 12)), (seed, found)


def test_fractions_of_a_basis_are_exact() -> None:
    sparse = np.array([[1.0, 0.0, 1 / 3, -2.5, 0.0], [0.0, 1.0, -7 / 11, 0.0, 1 / 13]])
    mixed = np.linalg.qr((np.array([[0.3, -1.7], [2.1, 0.4]]) @ sparse).T)[0]
    found = sparse_basis(mixed)
    assert np.array_equal(found[:, :4], sparse[:, :4])
    assert found[1, 4] == pytest.approx(1 / 13, rel=1e-12)
