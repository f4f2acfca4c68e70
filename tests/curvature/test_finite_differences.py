"""The diagonal from differences of gradients: against a loop, unbiased on a network whose kinks are far away."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from sharpbench import Subject
from sharpbench.curvature import difference_diagonal, reference_diagonal


@pytest.fixture(scope="module")
def subject() -> Subject:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3)).double()
    inputs, targets = torch.randn(6, 3, dtype=torch.float64), torch.randint(0, 3, (6,))
    return Subject.from_module(model, inputs, targets, batch_size=4)


def by_loop(subject: Subject, samples: int, radius: float, relative: bool, generator: torch.Generator) -> Tensor:
    """Direction after direction, drawn in the same order, gradients by torch.autograd."""

    def gradient(params: dict[str, Tensor]) -> list[Tensor]:
        leaves = {name: value.detach().clone().requires_grad_() for name, value in params.items()}
        return list(torch.autograd.grad(subject.loss(leaves), list(leaves.values())))

    drawn: dict[str, Tensor] = {}
    for name, value in subject.params.items():
        shape = (samples, *value.shape)
        signs = torch.randint(0, 2, shape, generator=generator).double() * 2 - 1 if relative else None
        drawn[name] = torch.randn(shape, generator=generator, dtype=torch.float64) if signs is None else signs
    total = [torch.zeros_like(value) for value in subject.params.values()]
    for k in range(samples):
        steps = {
            name: radius * drawn[name][k] * (value.abs() if relative else 1) for name, value in subject.params.items()
        }
        above = gradient({name: value + steps[name] for name, value in subject.params.items()})
        below = gradient({name: value - steps[name] for name, value in subject.params.items()})
        for index, name in enumerate(subject.params):
            total[index] += (above[index] - below[index]) / (2 * steps[name]) * (drawn[name][k] ** 2) / samples
    return torch.cat([value.flatten() for value in total])


@pytest.mark.parametrize("relative", [False, True])
def test_against_a_loop(subject: Subject, relative: bool) -> None:
    first, second = (torch.Generator().manual_seed(3) for _ in range(2))
    found = difference_diagonal(subject, samples=5, radius=1e-4, relative=relative, generator=first)
    assert {name: value.shape for name, value in found.items()} == {
        name: value.shape for name, value in subject.params.items()
    }
    expected = by_loop(subject, 5, 1e-4, relative, second)
    assert torch.allclose(torch.cat([value.flatten() for value in found.values()]), expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("relative", [False, True])
def test_its_mean_is_the_diagonal_within_its_scatter(subject: Subject, relative: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    draw: Callable[[], Tensor] = lambda: torch.cat(  # noqa: E731
        [
            value.flatten()
            for value in difference_diagonal(
                subject, samples=20, radius=1e-5, relative=relative, generator=generator
            ).values()
        ]
    )
    drawn = torch.stack([draw() for _ in range(80)])
    expected = torch.cat([value.flatten() for value in reference_diagonal(subject).values()])
    off = (drawn.mean(0) - expected).abs() / (drawn.std(0) / 80**0.5 + 1e-9)
    assert float(off.max()) < 4.5
    assert float((drawn.std(0) / expected.abs()).median()) > 0.1  # there is something to average


def test_weights_that_are_zero_take_no_relative_step(subject: Subject) -> None:
    params = {name: value.clone() for name, value in subject.params.items()}
    params["0.weight"][0, 0] = 0.0
    found = difference_diagonal(
        subject.with_params(params), samples=3, radius=1e-5, relative=True, generator=torch.Generator().manual_seed(0)
    )
    assert float(found["0.weight"][0, 0]) == 0.0
    assert all(bool(torch.isfinite(value).all()) for value in found.values())
