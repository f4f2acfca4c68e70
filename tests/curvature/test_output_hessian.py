"""The square root of the output Hessian, in both precisions and for extreme probabilities."""

from __future__ import annotations

import pytest
import torch

from sharpbench.core.loss import CROSS_ENTROPY, MSE, PerExampleLoss, to_per_example_loss
from sharpbench.curvature.output_hessian import output_root, softmax_root


@pytest.mark.parametrize("classes", [2, 3, 10, 1000])
@pytest.mark.parametrize("spread", [0.0, 1.0, 20.0, 80.0])
@pytest.mark.parametrize(("dtype", "rounding"), [(torch.float64, 1e-14), (torch.float32, 4e-6)])
def test_softmax_root_is_a_root(classes: int, spread: float, dtype: torch.dtype, rounding: float) -> None:
    torch.manual_seed(1)
    logits = (torch.randn(classes, dtype=torch.float64) * spread).to(dtype)
    root = softmax_root(logits)
    assert root.shape == (classes, classes - 1)
    assert root.T.is_contiguous()  # a pullback reads its columns and would copy others
    exact = logits.double()
    p = exact.softmax(0)
    rest = torch.stack([p[torch.arange(classes) != j].sum() for j in range(classes)])  # 1 - p, without cancellation
    trace = (p * rest).sum()
    torch.testing.assert_close(root.double().square().sum(), trace, rtol=rounding, atol=0.0)
    dense = torch.diag(p * rest) - torch.outer(p, p) * (1 - torch.eye(classes))
    found = root.double() @ root.double().T
    torch.testing.assert_close(found, dense, rtol=0, atol=10 * rounding * float(dense.max()))


@pytest.mark.parametrize(
    "criterion", [CROSS_ENTROPY, MSE, to_per_example_loss(lambda f, y: (f**3).sum(1) + f[:, 0] * y)]
)
def test_output_root_of_every_criterion(criterion: PerExampleLoss) -> None:
    logits = torch.randn(4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    target = torch.ones(4, dtype=torch.float64) if criterion.kind == "mse" else torch.tensor(1)
    dense = torch.func.hessian(lambda f: criterion(f[None], target[None])[0])(logits)
    root, weights = output_root(criterion, logits, target)
    torch.testing.assert_close(root @ torch.diag(weights) @ root.T, dense, rtol=1e-13, atol=1e-13)
