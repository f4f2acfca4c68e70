"""sharpbench.compat.pyhessian: the calls of PyHessian's README, on a small network, against dense matrices."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sharpbench import InvalidInput, NotApplicable, Subject
from sharpbench.compat.pyhessian import hessian
from sharpbench.curvature import dense_hessian

BATCH_SIZE = 16


def make_model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 2, 3, stride=2), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(8, 4)
    ).double()


def make_data() -> tuple[Tensor, Tensor]:
    draws = torch.Generator().manual_seed(1)
    return torch.randn(40, 1, 6, 6, dtype=torch.float64, generator=draws), torch.randint(4, (40,), generator=draws)


def get_params(model_orig: nn.Module, model_perb: nn.Module, direction: list[Tensor], alpha: float) -> nn.Module:
    """As in PyHessian's tutorial: the weights moved along a direction."""
    for m_orig, m_perb, d in zip(model_orig.parameters(), model_perb.parameters(), direction, strict=True):
        m_perb.data = m_orig.data + alpha * d
    return model_perb


def test_the_readme_as_it_is_written() -> None:
    model, criterion = make_model(), nn.CrossEntropyLoss()
    inputs, targets = make_data()
    dense = dense_hessian(Subject.from_module(model, inputs, targets))
    values = torch.linalg.eigvalsh(dense)
    wanted = values[values.abs().argsort(descending=True)][:2]

    hessian_comp = hessian(model, criterion, data=(inputs, targets), cuda=False)
    top_eigenvalues, top_eigenvector = hessian_comp.eigenvalues()
    assert isinstance(top_eigenvalues, list)
    assert top_eigenvalues[-1] == pytest.approx(float(wanted[0]), rel=1e-4)
    top_eigenvalues, top_eigenvector = hessian_comp.eigenvalues(top_n=2)
    assert top_eigenvalues == pytest.approx(wanted.tolist(), rel=1e-3)
    assert [part.shape for part in top_eigenvector[1]] == [each.shape for each in model.parameters()]

    model_perb = copy.deepcopy(model)
    curve = []
    for lam in np.linspace(-1e-3, 1e-3, 3):
        model_perb = get_params(model, model_perb, top_eigenvector[0], lam)
        with torch.no_grad():
            curve.append(criterion(model_perb.eval()(inputs), targets).item())
    second_difference = (curve[0] - 2 * curve[1] + curve[2]) / 1e-3**2
    assert second_difference == pytest.approx(float(wanted[0]), rel=0.05)

    trace = hessian_comp.trace(maxIter=200, tol=0.05)
    assert isinstance(trace[0], float)
    assert abs(np.mean(trace) - float(dense.trace())) < 4 * np.std(trace) / len(trace) ** 0.5

    density_eigen, density_weight = hessian_comp.density(iter=200, n_v=3)
    eigenvalues, weights = np.asarray(density_eigen), np.asarray(density_weight)
    assert eigenvalues.shape == weights.shape == (3, len(dense))
    assert weights.sum(1) == pytest.approx(np.ones(3))
    means = len(dense) * (eigenvalues * weights).sum(1)  # sign vectors: of one, v^T H v
    assert means == pytest.approx(trace[:3], rel=1e-6)


def test_the_network_stays_as_it_was() -> None:
    model = make_model().train()
    before = copy.deepcopy(model.state_dict())
    hessian(model, nn.CrossEntropyLoss(), data=make_data(), cuda=False).trace(maxIter=2)
    assert model.training
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_loader_is_all_of_its_examples() -> None:
    model, (inputs, targets) = make_model(), make_data()
    loader = [(inputs[start : start + BATCH_SIZE], targets[start : start + BATCH_SIZE]) for start in (0, 16, 32)]
    of_loader = hessian(model, nn.CrossEntropyLoss(), dataloader=loader, cuda=False)
    of_batch = hessian(model, nn.CrossEntropyLoss(), data=(inputs, targets), cuda=False)
    assert of_loader.eigenvalues()[0] == pytest.approx(of_batch.eigenvalues()[0], rel=1e-9)


@pytest.mark.filterwarnings("ignore:Using backward")
def test_the_value_is_pyhessians() -> None:
    library: Any = pytest.importorskip("pyhessian")
    torch.manual_seed(0)
    theirs = library.hessian(make_model(), nn.CrossEntropyLoss(), data=make_data(), cuda=False)
    ours = hessian(make_model(), nn.CrossEntropyLoss(), data=make_data(), cuda=False)
    assert ours.eigenvalues()[0] == pytest.approx(theirs.eigenvalues(maxIter=200, tol=1e-5)[0], rel=1e-2)


def test_arguments_that_do_not_fit_are_refused() -> None:
    model, data = make_model(), make_data()
    with pytest.raises(InvalidInput, match="give data, one batch"):
        hessian(model, nn.CrossEntropyLoss(), cuda=False)
    with pytest.raises(InvalidInput, match="give data, one batch"):
        hessian(model, nn.CrossEntropyLoss(), data=data, dataloader=[data], cuda=False)
    with pytest.raises(InvalidInput, match="the model is a int; expected"):
        hessian(3, nn.CrossEntropyLoss(), data=data, cuda=False)  # type: ignore[arg-type]
    if not torch.cuda.is_available():
        with pytest.raises(InvalidInput, match="there is no GPU; use cuda=False"):
            hessian(model, nn.CrossEntropyLoss(), data=data)
    found = hessian(model, nn.CrossEntropyLoss(), data=data, cuda=False)
    with pytest.raises(InvalidInput, match="maxIter=0 must be at least 1"):
        found.trace(maxIter=0)
    with pytest.raises(InvalidInput, match="iter=0 and n_v=1 must be at least 1"):
        found.density(iter=0)
    with pytest.raises(NotApplicable, match="raise maxIter or tol"):
        found.eigenvalues(maxIter=1, tol=1e-12, top_n=3)
