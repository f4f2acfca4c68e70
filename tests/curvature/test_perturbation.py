"""Losses at moved weights, neighbourhoods and micro-batches, against loops over single examples."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from sharpbench.core.subject import Subject
from sharpbench.curvature import draw_directions, perturbation_scales, perturbed_loss, perturbed_means, products
from sharpbench.curvature.perturbation import Scaling, micro_batches


def subject_of(dtype: torch.dtype = torch.float64, batch_size: int = 3) -> Subject:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(1, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(27, 3)).to(dtype)
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(7, 1, 4, 4, generator=generator, dtype=torch.float64).to(dtype)
    return Subject.from_module(module, inputs, torch.arange(7) % 3, batch_size=batch_size)


def loss_at(subject: Subject, displacement: Tensor) -> float:
    """By torch's own parameter vector, one example at a time."""
    params, start = {}, 0
    for name, value in subject.params.items():
        params[name] = value + displacement[start : start + value.numel()].reshape(value.shape)
        start += value.numel()
    logits = [torch.func.functional_call(subject.module, params, (each[None],))[0] for each in subject.inputs]
    losses = [-each.log_softmax(0)[target] for each, target in zip(logits, subject.targets, strict=True)]
    return float(torch.stack(losses).mean())


@pytest.mark.parametrize("together", [1, 2, 64])
def test_means_at_moved_weights(monkeypatch: pytest.MonkeyPatch, together: int) -> None:
    monkeypatch.setattr(products, "MOST", together)
    subject = subject_of()
    rows = list(draw_directions(subject, 5, torch.Generator().manual_seed(0)))
    expected = torch.tensor([loss_at(subject, row) for row in rows], dtype=torch.float64)
    torch.testing.assert_close(perturbed_means(subject, iter(rows)), expected, rtol=1e-12, atol=0)
    single = torch.stack([perturbed_loss(subject, row) for row in rows])
    torch.testing.assert_close(single, expected, rtol=1e-12, atol=0)


def test_any_statistic_of_the_outputs() -> None:
    subject = subject_of()
    rows = list(draw_directions(subject, 3, torch.Generator().manual_seed(0)))
    right = perturbed_means(subject, rows, lambda logits, targets: (logits.argmax(1) == targets).to(logits.dtype))
    assert set((right * 7).round().tolist()) <= set(range(8))
    torch.testing.assert_close(right * 7, (right * 7).round())


def test_differences_of_small_losses_keep_their_digits() -> None:
    """In float32 the mean is formed in float64: a difference of 1e-7 of the loss is not lost."""
    doubled = subject_of()
    subject = doubled.to(dtype=torch.float32)
    step = 1e-4 * torch.ones(subject.size)
    zero = torch.zeros(subject.size)
    found = float(perturbed_loss(subject, step) - perturbed_loss(subject, zero))
    wanted = loss_at(doubled, step.double()) - loss_at(doubled, zero.double())
    assert perturbed_loss(subject, zero).dtype == torch.float64
    assert found == pytest.approx(wanted, rel=1e-2)


@pytest.mark.parametrize("distribution", ["gaussian", "uniform"])
def test_directions_are_the_same_in_every_precision_and_have_their_moments(distribution: str) -> None:
    def drawn(dtype: torch.dtype, count: int) -> Tensor:
        subject = subject_of(dtype)
        return torch.stack(list(draw_directions(subject, count, torch.Generator().manual_seed(0), distribution)))  # type: ignore[arg-type]

    wide = drawn(torch.float64, 400)
    assert torch.equal(drawn(torch.float32, 3), wide[:3].float())
    variance = 1.0 if distribution == "gaussian" else 1 / 3
    assert float(wide.mean()) == pytest.approx(0, abs=4 * (variance / wide.numel()) ** 0.5)
    assert float(wide.square().mean()) == pytest.approx(variance, rel=0.02)
    assert distribution == "gaussian" or float(wide.abs().max()) <= 1


@pytest.mark.parametrize("scaling", ["element", "filter", "none"])
def test_axes(scaling: Scaling) -> None:
    subject = subject_of()
    expected = []
    for value in subject.params.values():
        for index in range(len(value)):
            if scaling == "none":
                expected += [1.0] * value[index].numel()
            elif scaling == "filter" and value.ndim == 4:
                expected += [float(value[index].square().sum().sqrt()) + 0.25] * value[index].numel()
            else:
                expected += [abs(entry) + 0.25 for entry in value[index].flatten().tolist()]
    torch.testing.assert_close(
        perturbation_scales(subject.params, scaling, 0.25),
        torch.tensor(expected, dtype=torch.float64),
        rtol=1e-12,
        atol=0,
    )


def test_micro_batches_are_cut_in_order_whatever_the_batch_size() -> None:
    for batch_size in (1, 3, 7):
        subject = subject_of(batch_size=batch_size)
        parts = list(micro_batches(subject, 3))
        assert [share for share, _ in parts] == [3 / 7, 3 / 7, 1 / 7]
        assert torch.equal(torch.cat([part.inputs for _, part in parts]), subject.inputs)
        assert torch.equal(torch.cat([part.targets for _, part in parts]), subject.targets)
        total = sum(share * float(part.loss(part.params)) for share, part in parts)
        assert total == pytest.approx(float(subject.loss(subject.params)), rel=1e-12)
        whole = list(micro_batches(subject, None))
        assert len(whole) == 1
        assert whole[0][0] == 1
