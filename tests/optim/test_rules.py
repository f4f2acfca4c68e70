"""Each optimiser against plain transcriptions: one flat vector, plain autograd, the formulas as they are printed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sharpbench.optim import ASAM, GSAM, MSAM, SAM, FriendlySAM, SAMPa, SharpnessAware

STEPS, BATCH = 4, 12
GENERATOR = torch.Generator().manual_seed(3)
X = torch.randn(STEPS, BATCH, 2, 4, 4, generator=GENERATOR, dtype=torch.float64)
Y = torch.randn(STEPS, BATCH, 2, generator=GENERATOR, dtype=torch.float64)
RATE, MOMENTUM, DECAY = 0.05, 0.9, 0.01

Slope = Callable[[Tensor], Tensor]
Direction = Callable[[Tensor, int], Tensor]


def network() -> nn.Module:
    """A convolution, a norm without statistics and a linear layer, so that all kinds of names and dimensions occur."""
    torch.manual_seed(0)
    layers = nn.Conv2d(2, 3, 3), nn.GroupNorm(1, 3), nn.Tanh(), nn.Flatten(), nn.Linear(12, 2)
    return nn.Sequential(*layers).double()


def mean_loss(model: nn.Module, number: int, part: slice = slice(None)) -> Tensor:
    return (model(X[number, part]) - Y[number, part]).square().sum(1).mean()


def flat(values: Iterator[Tensor] | list[Tensor]) -> Tensor:
    return torch.cat([value.detach().flatten() for value in values])


def slope_of(model: nn.Module, number: int, part: slice = slice(None)) -> Slope:
    """The gradient as a function of the flat parameters."""

    def slope(theta: Tensor) -> Tensor:
        named = dict(model.named_parameters())
        pieces = theta.split([value.numel() for value in named.values()])
        leaves = {
            name: piece.reshape(named[name].shape).clone().requires_grad_()
            for name, piece in zip(named, pieces, strict=True)
        }
        outputs = torch.func.functional_call(model, leaves, (X[number, part],))
        loss = (outputs - Y[number, part]).square().sum(1).mean()
        return flat(list(torch.autograd.grad(loss, list(leaves.values()))))

    return slope


def by_sgd(direction: Direction) -> Iterator[Tensor]:
    """SGD with momentum and weight decay, the directions given."""
    theta = flat(network().parameters())
    velocity = torch.zeros_like(theta)
    for number in range(STEPS):
        velocity = MOMENTUM * velocity + direction(theta, number) + DECAY * theta
        theta = theta - RATE * velocity
        yield theta


def by_adam(direction: Direction) -> Iterator[Tensor]:
    """Adam as Kingma and Ba print it, weight decay in the gradient, the directions given."""
    theta = flat(network().parameters())
    mean, square = torch.zeros_like(theta), torch.zeros_like(theta)
    for number in range(1, STEPS + 1):
        gradient = direction(theta, number - 1) + DECAY * theta
        mean = 0.9 * mean + 0.1 * gradient
        square = 0.999 * square + 0.001 * gradient**2
        theta = theta - 0.01 * (mean / (1 - 0.9**number)) / ((square / (1 - 0.999**number)).sqrt() + 1e-8)
        yield theta


def sam(rho: float = 0.05, epsilon: float = 0.0) -> Direction:
    """Foret et al., Algorithm 1; github.com/davda54/sam has epsilon 1e-12."""

    def direction(theta: Tensor, number: int) -> Tensor:
        slope = slope_of(network(), number)
        gradient = slope(theta)
        return slope(theta + gradient * (rho / (gradient.norm() + epsilon)))

    return direction


def asam(layers: str, normalization: str = "element", rho: float = 0.5, eta: float = 0.01) -> Direction:
    """Kwon et al., Algorithm 1. layers="authors" is their class: T = |w| + eta where the name has "weight"."""

    def diagonal(theta: Tensor) -> Tensor:
        entries, start = [], 0
        for name, value in network().named_parameters():
            weight = theta[start : start + value.numel()].reshape(value.shape)
            start += value.numel()
            chosen = {"authors": "weight" in name, "matrices": value.dim() > 1, "all": True}[layers]
            if chosen and normalization == "filter" and value.dim() > 2:
                for row in weight:
                    entries += [row.square().sum().sqrt() + eta] * row.numel()
            else:
                entries += [entry.abs() + eta if chosen else torch.tensor(1.0).double() for entry in weight.flatten()]
        return torch.stack(entries)

    def direction(theta: Tensor, number: int) -> Tensor:
        slope, scale = slope_of(network(), number), torch.diag(diagonal(theta))
        gradient = slope(theta)
        return slope(theta + rho * scale @ scale @ gradient / ((scale @ gradient).norm() + 1e-16))

    return direction


def m_sam(size: int, rho: float = 0.05) -> Direction:
    def direction(theta: Tensor, number: int) -> Tensor:
        total = torch.zeros_like(theta)
        for start in range(0, BATCH, size):
            slope = slope_of(network(), number, slice(start, start + size))
            gradient = slope(theta)
            total += slope(theta + rho * gradient / gradient.norm()) * size / BATCH
        return total

    return direction


def friendly(rho: float = 0.2, sigma: float = 1.0, smoothing: float = 0.9) -> Direction:
    """Li et al. and their class: the mean of earlier steps in the direction; 1e-12 next to the norm."""
    means: list[Tensor] = []

    def direction(theta: Tensor, number: int) -> Tensor:
        slope = slope_of(network(), number)
        gradient = slope(theta)
        if not means:
            noise = gradient
            means.append(gradient)
        else:
            noise = gradient - sigma * means[-1]
            means.append(smoothing * means[-1] + (1 - smoothing) * gradient)
        return slope(theta + rho * noise / (noise.norm() + 1e-12))

    return direction


def gsam(rho: float = 0.05, alpha: float = 0.4) -> Direction:
    """Zhuang et al., Algorithm 1: the gradient is split along the one above, by the cosine of their angle."""

    def direction(theta: Tensor, number: int) -> Tensor:
        slope = slope_of(network(), number)
        gradient = slope(theta)
        above = slope(theta + rho * gradient / gradient.norm())
        cosine = gradient @ above / (gradient.norm() * above.norm())
        parallel = cosine * gradient.norm() * above / above.norm()
        return above - alpha * (gradient - parallel)

    return direction


def sampa(rho: float = 0.1, weight: float = 0.2) -> Iterator[Tensor]:
    """Xie et al., Algorithm 1, as their code has it: the perturbed gradient of the batch before."""
    theta = flat(network().parameters())
    velocity, auxiliary = torch.zeros_like(theta), torch.zeros_like(theta)
    for number in range(STEPS):
        above, y = theta, theta
        if number:
            above = theta + rho * auxiliary / auxiliary.norm()
            y = theta - RATE * (auxiliary + DECAY * theta + MOMENTUM * velocity)
        perturbed = slope_of(network(), max(number - 1, 0))(above)
        auxiliary = slope_of(network(), number)(y)
        velocity = MOMENTUM * velocity + (1 - weight) * perturbed + weight * auxiliary + DECAY * theta
        theta = theta - RATE * velocity
        yield theta


def sgd(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=RATE, momentum=MOMENTUM, weight_decay=DECAY)


def adam(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.Adam(model.parameters(), lr=0.01, weight_decay=DECAY)


def closures(model: nn.Module, number: int, parts: int) -> list[Callable[[], Tensor]]:
    """The passes of one batch in equal parts, with the gradients of the mean as their sum."""

    def closure(part: slice) -> Tensor:
        loss = mean_loss(model, number, part) / parts
        loss.backward()
        return loss.detach()

    size = BATCH // parts
    return [lambda part=slice(start, start + size): closure(part) for start in range(0, BATCH, size)]


def in_closures(optimizer: SharpnessAware, model: nn.Module, parts: int) -> Iterator[Tensor]:
    for number in range(STEPS):
        each = closures(model, number, parts)
        expected = mean_loss(model, number).detach()
        loss = optimizer.step(each) if isinstance(optimizer, MSAM) else optimizer.step(each[0])
        if not isinstance(optimizer, SAMPa):  # whose loss is that at y
            torch.testing.assert_close(loss, expected)
        yield flat(model.parameters())


def in_two_steps(optimizer: SharpnessAware, model: nn.Module, parts: int) -> Iterator[Tensor]:
    for number in range(STEPS):
        if isinstance(optimizer, SAMPa):
            optimizer.lookahead()
        for closure in closures(model, number, parts):
            closure()
            optimizer.first_step()
            closure()
            if isinstance(optimizer, MSAM):
                optimizer.accumulate()
        optimizer.second_step()
        yield flat(model.parameters())


CASES: dict[str, tuple[Callable[[], Iterator[Tensor]], Callable[[nn.Module], SharpnessAware], int]] = {
    "sam": (lambda: by_sgd(sam(0.3)), lambda model: SAM(sgd(model), model, rho=0.3), 1),
    "sam-adam": (lambda: by_adam(sam(0.3)), lambda model: SAM(adam(model), model, rho=0.3), 1),
    "sam-davda54": (lambda: by_sgd(sam(epsilon=1e-12)), lambda model: SAM(sgd(model), model), 1),
    "asam-samsung": (lambda: by_sgd(asam("authors")), lambda model: ASAM(sgd(model), model), 1),
    "asam-adam": (lambda: by_adam(asam("authors")), lambda model: ASAM(adam(model), model), 1),
    "asam-matrices": (lambda: by_sgd(asam("matrices")), lambda model: ASAM(sgd(model), model, layers="matrices"), 1),
    "asam-all": (lambda: by_sgd(asam("all", eta=0.0)), lambda model: ASAM(sgd(model), None, layers="all", eta=0.0), 1),
    "asam-filter": (
        lambda: by_sgd(asam("authors", "filter")),
        lambda model: ASAM(sgd(model), model, normalization="filter"),
        1,
    ),
    "m-sam": (lambda: by_sgd(m_sam(3)), lambda model: MSAM(sgd(model), model), 4),
    "m-sam-adam": (lambda: by_adam(m_sam(4)), lambda model: MSAM(adam(model), model), 3),
    "f-sam-authors": (lambda: by_sgd(friendly()), lambda model: FriendlySAM(sgd(model), model), 1),
    "f-sam-adam": (
        lambda: by_adam(friendly(sigma=0.4, smoothing=0.6)),
        lambda model: FriendlySAM(adam(model), model, sigma=0.4, smoothing=0.6),
        1,
    ),
    "gsam": (lambda: by_sgd(gsam(0.3)), lambda model: GSAM(sgd(model), model, rho=0.3), 1),
    "gsam-adam": (lambda: by_adam(gsam(alpha=0.1)), lambda model: GSAM(adam(model), model, gsam_alpha=0.1), 1),
    "sampa": (sampa, lambda model: SAMPa(sgd(model), model), 1),
    "sampa-weight": (lambda: sampa(0.3, 0.7), lambda model: SAMPa(sgd(model), model, rho=0.3, weight=0.7), 1),
}


@pytest.mark.parametrize("style", [in_closures, in_two_steps])
@pytest.mark.parametrize("case", CASES)
def test_each_step_is_the_papers(
    case: str, style: Callable[[SharpnessAware, nn.Module, int], Iterator[Tensor]]
) -> None:
    transcription, make, parts = CASES[case]
    model = network()
    path = list(style(make(model), model, parts))
    expected = list(transcription())
    for ours, theirs in zip(path, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    assert not torch.equal(path[0], path[1])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (lambda model: GSAM(sgd(model), model, gsam_alpha=0.0), lambda model: SAM(sgd(model), model)),
        (lambda model: FriendlySAM(sgd(model), model, rho=0.05, sigma=0.0), lambda model: SAM(sgd(model), model)),
        (lambda model: SAM(sgd(model), model, rho=0.0), lambda model: ASAM(sgd(model), model, rho=0.0)),
        (lambda model: MSAM(sgd(model), model), lambda model: SAM(sgd(model), model)),
    ],
)
def test_special_cases(one: Callable[[nn.Module], Any], other: Callable[[nn.Module], Any]) -> None:
    first, second = network(), network()
    paths = zip(in_closures(one(first), first, 1), in_closures(other(second), second, 1), strict=True)
    for ours, theirs in paths:
        torch.testing.assert_close(ours, theirs, rtol=1e-14, atol=1e-14)


def test_options_of_groups_and_one_norm_over_all() -> None:
    """The rho of each group, over the norm of all groups, as in github.com/davda54/sam."""
    model = network()
    groups = [{"params": list(model[0].parameters()), "rho": 0.4}, {"params": list(model[1:].parameters()), "lr": 0.02}]
    optimizer = SAM(torch.optim.SGD(groups, lr=0.1), model, rho=0.1)
    theta, split = flat(model.parameters()), sum(value.numel() for value in model[0].parameters())
    slope = slope_of(network(), 0)
    gradient = slope(theta)
    radii = torch.cat([torch.ones(split).double() * 0.4, torch.ones(theta.numel() - split).double() * 0.1])
    rates = torch.cat([torch.ones(split).double() * 0.1, torch.ones(theta.numel() - split).double() * 0.02])
    expected = theta - rates * slope(theta + radii * gradient / gradient.norm())
    optimizer.step(closures(model, 0, 1)[0])
    torch.testing.assert_close(flat(model.parameters()), expected, rtol=1e-12, atol=1e-12)
