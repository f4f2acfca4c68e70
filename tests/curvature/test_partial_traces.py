"""Partial traces against the dense Gauss-Newton matrix, for every form in which a parameter enters."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sharpbench import Subject
from sharpbench.curvature import Section, exact_diagonal, partial_traces, reference_partial_traces, squared_gradients


class Mixed(nn.Module):
    """Convolutions of both directions, a linear layer over positions, one that is used twice, and loose parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.back = nn.Conv1d(2, 4, 2, groups=2), nn.ConvTranspose1d(4, 3, 2)
        self.line, self.twice = nn.Linear(3, 3), nn.Linear(3, 3)
        self.scale = nn.Parameter(torch.ones(3, 2))
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.back(self.conv(x).relu()).transpose(1, 2)
        x = self.twice(self.twice(self.line(x)).tanh()).tanh().mean(1)
        return self.head((x[:, :, None] * self.scale).flatten(1))


SECTIONS = [
    Section("conv.weight", 0, np.array([1, 3])),
    Section("back.weight", 1, np.array([0, 2])),
    Section("back.weight", 0, np.arange(3)),
    Section("line.weight", 1, np.array([2, 0])),
    Section("line.bias", 0, np.arange(1, 3)),
    Section("twice.weight", 0, np.arange(2)),
    Section("scale", 0, np.arange(3)),
    Section("head.weight", 1, np.arange(2, 6)),
]


class Factorised(nn.Module):
    """An embedding whose vectors enter through one linear layer only, as ALBERT's do."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.wide, self.head = nn.Embedding(7, 3), nn.Linear(3, 5, bias=False), nn.Linear(5, 3)

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.wide(self.table(ids)).tanh().mean(1))


@pytest.fixture(scope="module")
def subject() -> Subject:
    torch.manual_seed(0)
    return Subject.from_module(
        Mixed().double(), torch.randn(7, 2, 5, dtype=torch.float64), torch.arange(7) % 3, batch_size=3
    )


def test_partial_traces_are_those_of_the_dense_matrix(subject: Subject) -> None:
    diagonal, matrices = partial_traces(subject, SECTIONS)
    dense, slow = reference_partial_traces(subject, SECTIONS)
    for name, value in diagonal.items():
        assert torch.allclose(value, dense[name], rtol=1e-10, atol=1e-16)
    for fast, wanted in zip(matrices, slow, strict=True):
        assert fast.shape == wanted.shape
        assert torch.allclose(fast, wanted, rtol=1e-10, atol=1e-15)


def test_their_diagonal_is_that_of_the_matrix(subject: Subject) -> None:
    diagonal, (rows,) = partial_traces(subject, [SECTIONS[-1]])
    exact = exact_diagonal(subject)
    assert all(torch.allclose(diagonal[name], exact[name], rtol=1e-12, atol=0) for name in exact)
    assert torch.allclose(rows.diagonal(dim1=1, dim2=2), diagonal["head.weight"][:, 2:6], rtol=1e-12, atol=0)


def test_the_columns_of_an_embedding_are_a_section() -> None:
    torch.manual_seed(0)
    ids = torch.randint(7, (6, 4))
    other = Subject.from_module(Factorised().double(), ids, torch.arange(6) % 3)
    sections = [Section("table.weight", 1, np.arange(3)), Section("wide.weight", 1, np.arange(3))]
    diagonal, matrices = partial_traces(other, sections)
    dense, slow = reference_partial_traces(other, sections)
    assert all(torch.allclose(diagonal[name], dense[name], rtol=1e-10, atol=1e-15) for name in dense)
    assert all(torch.allclose(one, two, rtol=1e-10, atol=1e-15) for one, two in zip(matrices, slow, strict=True))


def test_a_loss_with_negative_curvature_counts_it(subject: Subject) -> None:
    def bent(outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs[:, 0] ** 2 - outputs[:, 1] ** 2 + outputs[:, 2] * outputs[:, 0]).to(outputs)

    other = Subject.from_module(subject.module, subject.inputs, subject.targets, loss=bent)
    fast, slow = partial_traces(other, SECTIONS)[1], reference_partial_traces(other, SECTIONS)[1]
    assert all(torch.allclose(one, two, rtol=1e-9, atol=1e-14) for one, two in zip(fast, slow, strict=True))


def test_as_many_gradients_are_multiplied_together_as_a_section_has_entries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise a product of few large gradients takes longer to be stored than to be computed."""
    monkeypatch.setattr(squared_gradients, "SLICE_BYTES", 1)
    patches, slopes = torch.randn(6, 1, 3, 2), torch.randn(6, 1, 2, 5, 2)  # 6 examples, 2 columns
    sizes = [len(rows) * rows.shape[2] // 5 for _, rows in squared_gradients.gradients(patches, slopes, together=4)]
    assert sizes == [4, 4, 4]
