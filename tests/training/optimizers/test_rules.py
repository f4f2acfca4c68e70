"""Update rules against plain transcriptions of the papers' rules: one network, one flat vector, plain autograd."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from sharpbench.training.optimizers import (
    Adam,
    AdamW,
    Asam,
    FriendlySam,
    MSam,
    Optimizer,
    Sam,
    SamPa,
    Sgd,
    Stack,
    Step,
    stack_constants,
)
from sharpbench.training.optimizers.sgd import sgd_step

SHAPES = {"conv.weight": (3, 2, 2, 2), "conv.bias": (3,), "linear.weight": (4, 3), "linear.bias": (4,), "scale": ()}
SIZE, STEPS, BATCH = 24 + 3 + 12 + 4 + 1, 12, 10
NETWORKS = 3
RATES, DECAYS = (0.1, 0.03, 0.2), (0.0, 1e-2, 0.3)

GENERATOR = torch.Generator().manual_seed(7)
START = torch.randn(NETWORKS, SIZE, generator=GENERATOR, dtype=torch.float64)
FEATURES = torch.randn(STEPS, NETWORKS, BATCH, SIZE, generator=GENERATOR, dtype=torch.float64)
LABELS = torch.randn(STEPS, NETWORKS, BATCH, generator=GENERATOR, dtype=torch.float64)

Slope = Callable[[Tensor], Tensor]


def loss(theta: Tensor, features: Tensor, labels: Tensor) -> Tensor:
    """The mean over examples of a loss that is neither convex nor symmetric."""
    score = features @ theta + 0.1 * (features.square() @ theta.square())
    return (torch.tanh(score) - labels).square().mean()


def slope(theta: Tensor, features: Tensor, labels: Tensor) -> Tensor:
    """Its gradient by plain autograd."""
    leaf = theta.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(leaf, features, labels), leaf)
    return gradient


def stack(flat: Tensor) -> Stack:
    """Flat vectors [m, SIZE] as a stack."""
    parts = flat.split([torch.Size(shape).numel() for shape in SHAPES.values()], dim=1)
    return {name: part.reshape(-1, *SHAPES[name]).clone() for name, part in zip(SHAPES, parts, strict=True)}


def flat(values: Stack) -> Tensor:
    return torch.cat([value.reshape(len(value), -1) for value in values.values()], dim=1)


class Batch:
    """optimizers.Gradient of the problem above for some of the networks, at one step."""

    size = BATCH

    def __init__(self, networks: tuple[int, ...], step: int) -> None:
        self.networks, self.step = networks, step
        self.clean: list[slice | None] = []

    def __call__(self, params: Stack, *, part: slice | None = None, clean: bool = True) -> Stack:
        if clean:
            self.clean.append(part)
        part = part or slice(0, BATCH)
        rows = [
            slope(theta, FEATURES[self.step, network, part], LABELS[self.step, network, part])
            for theta, network in zip(flat(params), self.networks, strict=True)
        ]
        return stack(torch.stack(rows))


def walked(optimizers: list[Optimizer], networks: tuple[int, ...] = (0, 1, 2)) -> list[Tensor]:
    """The flat parameters [m, SIZE] after each step."""
    params = stack(START[list(networks)])
    state = optimizers[0].initial(params)
    chosen = [optimizers[network] for network in networks]
    path = []
    for number in range(STEPS):
        before = {name: value.clone() for name, value in params.items()}
        held = {kind: {name: value.clone() for name, value in each.items()} for kind, each in state.items()}
        batch = Batch(networks, number)
        rate = torch.tensor([RATES[network] / (0.1 * number + 1) for network in networks], dtype=torch.float64)
        decay = torch.tensor([DECAYS[network] for network in networks], dtype=torch.float64)
        at = Step(number=number, rate=rate, weight_decay=decay, constants=stack_constants(chosen, rate))
        after, new = chosen[0].step(params, state, batch, at)
        assert all(torch.equal(params[name], value) for name, value in before.items())
        assert all(torch.equal(state[kind][name], each[name]) for kind, each in held.items() for name in each)
        assert covered(batch.clean) == list(range(BATCH))
        params, state = after, new
        path.append(flat(params))
    return path


def covered(parts: list[slice | None]) -> list[int]:
    """The examples that clean passes cover."""
    return [example for part in parts for example in range(BATCH)[part or slice(None)]]


def rate_at(network: int, number: int) -> float:
    return RATES[network] / (0.1 * number + 1)


def by_sgd(network: int, momentum: float, direction: Callable[[Tensor, int], Tensor]) -> Iterator[Tensor]:
    """theta_(t+1) = theta_t - rate (momentum v + direction + decay theta), the directions given."""
    theta, velocity = START[network].clone(), torch.zeros(SIZE, dtype=torch.float64)
    for number in range(STEPS):
        velocity = momentum * velocity + direction(theta, number) + DECAYS[network] * theta
        theta = theta - rate_at(network, number) * velocity
        yield theta


def plain_slope(network: int, number: int, part: slice = slice(None)) -> Slope:
    return lambda theta: slope(theta, FEATURES[number, network, part], LABELS[number, network, part])


def sgd(rule: Sgd, network: int) -> Iterator[Tensor]:
    return by_sgd(network, rule.momentum, lambda theta, number: plain_slope(network, number)(theta))


def sam(rule: Sam, network: int) -> Iterator[Tensor]:
    """Foret et al., Algorithm 1 and equation 2 with p = 2."""

    def direction(theta: Tensor, number: int) -> Tensor:
        at = plain_slope(network, number)
        return at(theta + rule.rho * at(theta) / at(theta).norm())

    return by_sgd(network, rule.momentum, direction)


def m_sam(rule: MSam, network: int) -> Iterator[Tensor]:
    """Micro-batches of `size` examples in order, each with its own ascent; the mean over examples."""

    def direction(theta: Tensor, number: int) -> Tensor:
        total = torch.zeros_like(theta)
        for start in range(0, BATCH, rule.size):
            stop = min(start + rule.size, BATCH)
            at = plain_slope(network, number, slice(start, stop))
            total += (stop - start) / BATCH * at(theta + rule.rho * at(theta) / at(theta).norm())
        return total

    return by_sgd(network, rule.momentum, direction)


def asam(rule: Asam, network: int) -> Iterator[Tensor]:
    """Kwon et al., Algorithm 1: e = rho T^2 g / |T g|, T a diagonal matrix that depends on theta."""

    def diagonal(theta: Tensor) -> Tensor:
        entries = []
        for name, value in stack(theta.unsqueeze(0)).items():
            weight = value[0]
            if name == "conv.weight" and rule.normalization == "filter":
                for row in weight:
                    entries += [row.flatten().norm() + rule.eta] * row.numel()
            elif name.endswith("weight") or rule.biases:
                entries += [entry.abs() + rule.eta for entry in weight.flatten()]
            else:
                entries += [torch.ones((), dtype=torch.float64)] * weight.numel()
        return torch.stack(entries)

    def direction(theta: Tensor, number: int) -> Tensor:
        at, scale = plain_slope(network, number), torch.diag(diagonal(theta))
        gradient = at(theta)
        return at(theta + rule.rho * scale @ scale @ gradient / (scale @ gradient).norm())

    return by_sgd(network, rule.momentum, direction)


def f_sam(rule: FriendlySam, network: int) -> Iterator[Tensor]:
    """Li et al., section 4 and their code: d = g - sigma m, m the mean before this step's gradient enters."""
    means: list[Tensor] = []

    def direction(theta: Tensor, number: int) -> Tensor:
        at = plain_slope(network, number)
        gradient = at(theta)
        if number == 0:
            noise = gradient
            means.append(gradient)
        else:
            noise = gradient - rule.sigma * means[-1]
            means.append(rule.smoothing * means[-1] + (1 - rule.smoothing) * gradient)
        return at(theta + rule.rho * noise / noise.norm())

    return by_sgd(network, rule.momentum, direction)


def sampa(rule: SamPa, network: int) -> Iterator[Tensor]:
    """Xie et al., Algorithm 1 as their code has it: the perturbed gradient of the batch before, that at y of this."""
    theta, velocity = START[network].clone(), torch.zeros(SIZE, dtype=torch.float64)
    at_auxiliary = torch.zeros(SIZE, dtype=torch.float64)
    for number in range(STEPS):
        rate, decay = rate_at(network, number), DECAYS[network]
        previous = plain_slope(network, max(number - 1, 0))
        above, auxiliary = theta, theta
        if number:
            above = theta + rule.rho * at_auxiliary / at_auxiliary.norm()
            auxiliary = theta - rate * (at_auxiliary + decay * theta + rule.momentum * velocity)
        perturbed = previous(above)
        at_auxiliary = plain_slope(network, number)(auxiliary)
        velocity = rule.momentum * velocity + (1 - rule.weight) * perturbed + rule.weight * at_auxiliary + decay * theta
        theta = theta - rate * velocity
        yield theta


def by_torch(cls: type[torch.optim.Optimizer], network: int, **options: object) -> Iterator[Tensor]:
    theta = START[network].clone().requires_grad_()
    optimizer = cls([theta], lr=0.0, weight_decay=DECAYS[network], **options)  # type: ignore[call-arg]
    for number in range(STEPS):
        optimizer.param_groups[0]["lr"] = rate_at(network, number)
        theta.grad = plain_slope(network, number)(theta.detach())
        optimizer.step()
        yield theta.detach().clone()


def adam(rule: Adam, network: int) -> Iterator[Tensor]:
    cls = torch.optim.AdamW if isinstance(rule, AdamW) else torch.optim.Adam
    return by_torch(cls, network, betas=(rule.beta1, rule.beta2), eps=rule.epsilon)


def torch_sgd(rule: Sgd, network: int) -> Iterator[Tensor]:
    return by_torch(torch.optim.SGD, network, momentum=rule.momentum)


CASES: list[tuple[Callable[..., Iterator[Tensor]], list[Optimizer]]] = [
    (sgd, [Sgd(), Sgd(0.5), Sgd(0.0)]),
    (torch_sgd, [Sgd(), Sgd(0.5), Sgd(0.0)]),
    (sam, [Sam(), Sam(rho=0.5), Sam(0.0, rho=0.01)]),
    (m_sam, [MSam(size=4), MSam(rho=0.5, size=4), MSam(0.0, size=4)]),
    (asam, [Asam(), Asam(rho=0.1, eta=0.5), Asam(0.0, eta=0.0)]),
    (asam, [Asam(biases=True), Asam(rho=0.1, biases=True), Asam(0.0, biases=True)]),
    (asam, [Asam(normalization="filter"), Asam(eta=0.5, normalization="filter"), Asam(0.0, normalization="filter")]),
    (f_sam, [FriendlySam(), FriendlySam(sigma=0.3, smoothing=0.6), FriendlySam(0.0, rho=0.05)]),
    (sampa, [SamPa(), SamPa(0.5, rho=0.3, weight=0.0), SamPa(0.0, weight=1.0)]),
    (adam, [Adam(), Adam(0.5, 0.9), Adam(epsilon=1e-2)]),
    (adam, [AdamW(), AdamW(0.5, 0.9), AdamW(epsilon=1e-2)]),
]


def named(value: object) -> str | None:
    return value.__name__ if callable(value) else None


@pytest.mark.parametrize(("transcription", "rules"), CASES, ids=named)
def test_each_step_is_the_papers(transcription: Callable[..., Iterator[Tensor]], rules: list[Optimizer]) -> None:
    path = walked(rules)
    for network, rule in enumerate(rules):
        for number, theta in enumerate(transcription(rule, network)):
            torch.testing.assert_close(path[number][network], theta, rtol=1e-12, atol=1e-12)
    assert all(bool((after != before).any(1).all()) for before, after in pairwise(path))


@pytest.mark.parametrize(("transcription", "rules"), CASES, ids=named)
def test_a_network_alone_takes_the_same_steps(transcription: object, rules: list[Optimizer]) -> None:
    path = walked(rules)
    for network in range(NETWORKS):
        for together, alone in zip(path, walked(rules, (network,)), strict=True):
            torch.testing.assert_close(alone[0], together[network], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Sam(rho=0.0), Sgd()),
        (MSam(size=BATCH), Sam()),
        (Asam(rho=0.0), Sgd()),
        (FriendlySam(rho=0.05, sigma=0.0), Sam()),
        (SamPa(rho=0.0, weight=1.0), SamPa(rho=3.0, weight=1.0)),
    ],
    ids=str,
)
def test_special_cases(one: Optimizer, other: Optimizer) -> None:
    for a, b in zip(walked([one] * NETWORKS), walked([other] * NETWORKS), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_with_sigma_one_the_order_of_mean_and_direction_is_no_matter() -> None:
    """g - m with g in m already is smoothing (g - m without): the same direction."""
    gradient, mean = FEATURES[0, 0, 0], FEATURES[0, 0, 1]
    later = gradient - (0.9 * mean + 0.1 * gradient)
    torch.testing.assert_close(later / later.norm(), (gradient - mean) / (gradient - mean).norm())


@pytest.mark.parametrize("rule", [Sam(), MSam(size=3), Asam(), FriendlySam(), SamPa()], ids=str)
def test_no_gradient_is_no_ascent_and_no_nan(rule: Optimizer) -> None:
    class Flat(Batch):
        def __call__(self, params: Stack, *, part: slice | None = None, clean: bool = True) -> Stack:
            return {name: torch.zeros_like(value) for name, value in params.items()}

    params = stack(START)
    state = rule.initial(params)
    like = torch.zeros(NETWORKS, dtype=torch.float64)
    for number in range(3):
        at = Step(number=number, rate=like + 0.1, weight_decay=like, constants=stack_constants([rule] * NETWORKS, like))
        after, state = rule.step(params, state, Flat((0, 1, 2), 0), at)
        assert all(torch.equal(after[name], value) for name, value in params.items())


def test_what_is_chosen_tells_groups_apart_and_what_is_a_number_does_not() -> None:
    assert Sam(rho=0.1).choices() == Sam(momentum=0.0).choices()
    assert Sam().choices() != Sgd().choices()
    assert Asam(biases=True).choices() != Asam().choices()
    assert MSam(size=4).choices() != MSam().choices()
    held = stack_constants([Asam(rho=0.1), Asam(eta=0.5)], torch.zeros(2, dtype=torch.float64))
    assert {name: value.tolist() for name, value in held.items()} == {
        "momentum": [0.9, 0.9],
        "rho": [0.1, 0.5],
        "eta": [0.01, 0.5],
    }


@pytest.mark.parametrize(
    "rule", [Sam(), Asam(), Asam(normalization="filter", biases=True), FriendlySam(), SamPa()], ids=str
)
def test_published_networks_have_these_bits(rule: Sam | Asam) -> None:
    """The rules are shared with sharpbench.optim; trained networks are kept, so each operation here is as it was."""
    asked: list[Stack] = []

    def gradient(params: Stack, *, part: slice | None = None, clean: bool = True) -> Stack:
        asked.append(params)
        return {name: torch.sin(3 * value) for name, value in params.items()}

    params, past = ({name: value.float() for name, value in stack(each).items()} for each in (START, START.flip(0)))
    rate = torch.tensor(RATES)
    constants = stack_constants([rule] * NETWORKS, rate)
    step = Step(number=1, rate=rate, weight_decay=torch.tensor(DECAYS), constants=constants)
    state = dict.fromkeys(rule.initial(params), past)
    new, after = rule.step(params, state, gradient, step)  # type: ignore[arg-type]

    def like(name: str, value: Tensor) -> Tensor:
        return constants[name].reshape(-1, *(1,) * (value.ndim - 1))

    clean = {name: torch.sin(3 * value) for name, value in asked[0].items()}
    direction = measured = clean
    origin = params
    if isinstance(rule, Asam):
        scales = {}
        for name, value in params.items():
            size = value.abs()
            if rule.normalization == "filter" and value.ndim > 3:
                norm = torch.linalg.vector_norm(value.flatten(2), dim=2)
                size = norm.reshape(*value.shape[:2], *(1,) * (value.ndim - 2))
            chosen = "weight" in name or rule.biases
            scales[name] = size + like("eta", size) if chosen else torch.ones_like(value)
        measured = {name: value * clean[name] for name, value in scales.items()}
        direction = {name: value * measured[name] for name, value in scales.items()}
    elif isinstance(rule, FriendlySam):
        direction = measured = {
            name: torch.addcmul(value, -like("sigma", value), past[name]) for name, value in clean.items()
        }
        share = {name: (1 - constants["smoothing"]).reshape(-1, *(1,) * (v.ndim - 1)) for name, v in clean.items()}
        for name, value in clean.items():
            assert torch.equal(after["mean"][name], torch.lerp(past[name], value, share[name]))
    elif isinstance(rule, SamPa):
        mixed = {name: torch.lerp(past[name], value, like("weight", value)) for name, value in clean.items()}
        origin = sgd_step(params, state, mixed, step)[0]
        assert all(torch.equal(new[name], value) for name, value in origin.items())
    parts = [torch.linalg.vector_norm(value.reshape(len(value), -1), dim=1) for value in measured.values()]
    length = constants["rho"] / torch.linalg.vector_norm(torch.stack(parts), dim=0).clamp_min(1e-12)
    for name, value in origin.items():
        expected = torch.addcmul(value, length.reshape(-1, *(1,) * (value.ndim - 1)), direction[name])
        assert torch.equal(asked[1][name], expected)
