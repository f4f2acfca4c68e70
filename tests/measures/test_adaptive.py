"""Adaptive sharpness (Andriushchenko et al. 2023) against its definition, its limits and what it must not see."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import pytest
import torch
from sharpbench_measures.adaptive import normalised
from torch import Tensor, nn

from sharpbench import InvalidInput, Subject, measure
from sharpbench.core.evaluate import parse_measure
from sharpbench.core.loss import MSE
from sharpbench.curvature import dense_hessian
from sharpbench.runner.invariance import invariance_factors
from tests.measures.conftest import tiny_subject

Tiny = Callable[..., Subject]


def flat(params: dict[str, Tensor]) -> Tensor:
    return torch.cat([value.flatten() for value in params.values()])


def at(subject: Subject, vector: Tensor) -> dict[str, Tensor]:
    pieces = vector.split([value.numel() for value in subject.params.values()])
    return {name: piece.reshape(subject.params[name].shape) for name, piece in zip(subject.params, pieces, strict=True)}


def loss(subject: Subject, vector: Tensor, some: slice = slice(None), *, normalise: bool = False) -> Tensor:
    """The mean cross entropy of some examples at the weights `vector`, of centred logits of norm 1 or of plain ones."""
    logits = torch.func.functional_call(subject.module, at(subject, vector), (subject.inputs[some],))
    if normalise:
        logits = torch.stack([(f - f.mean()) / (f - f.mean()).norm().clamp_min(1e-10) for f in logits])
    return nn.functional.cross_entropy(logits, subject.targets[some])


def naive_worst(subject: Subject, *, rho: float, norm: str, steps: int, size: int, normalise: bool) -> float:
    """Auto-PGD of Croce and Hein 2020 in the coordinates e / |theta|, for each micro-batch, by their algorithm."""
    theta = flat(subject.params)
    c, count, total = theta.abs(), len(subject.inputs), 0.0
    marks = {100: (22, 41, 57, 70, 80, 87, 93, 99), 20: (5, 9, 12, 14, 16, 18, 19, 20)}[steps]

    def into(u: Tensor) -> Tensor:
        return u.clamp(-rho, rho) if norm == "linf" else u * min(1.0, rho / max(float(u.norm()), 1e-300))

    for start in range(0, count, size):
        some = slice(start, start + size)

        def evaluate(u: Tensor, some: slice = some) -> tuple[float, Tensor]:
            u = u.clone().requires_grad_()
            value = loss(subject, theta + c * u, some, normalise=normalise)
            (slope,) = torch.autograd.grad(value, u)
            return float(value.detach()), slope.sign() if norm == "linf" else slope / slope.norm()

        u = torch.zeros_like(theta)
        value, uphill = evaluate(u)
        values, best, eta, kept, last = [value], (value, u), 2 * rho, True, 0
        old, new = u, into(u + eta * uphill)
        for k in range(steps):
            value, uphill = evaluate(new)
            values.append(value)
            if value > best[0]:
                best = (value, new)
            if k in marks:
                rises = sum(values[i + 1] > values[i] for i in range(last, k))
                halved = rises < 0.75 * (k - last) or (kept and max(values[: last + 1]) == max(values[: k + 1]))
                last, kept = k, not halved
                if halved:
                    eta, new = eta / 2, best[1]
                    uphill = evaluate(new)[1]
            z = into(new + eta * uphill)
            old, new = new, into(new + 0.75 * (z - new) + 0.25 * (new - old))
        total += (best[0] - values[0]) * len(subject.inputs[some]) / count
    return total


@pytest.mark.parametrize(
    ("kind", "norm", "logits"),
    [
        *(("mlp", norm, logits) for norm in ("l2", "linf") for logits in ("plain", "normalised")),
        *(("conv", "l2", "normalised"), ("conv", "linf", "plain")),
        *(("attention", "l2", "plain"), ("attention", "linf", "normalised")),
    ],
)
def test_the_worst_case_is_auto_pgd(tiny: Tiny, kind: str, norm: str, logits: str) -> None:
    subject = tiny(kind)
    rho = 0.3 if norm == "l2" else 0.02
    for size in (4, 128) if kind == "mlp" else (4,):
        found = measure(f"adaptive[norm={norm},rho={rho},logits={logits},micro_batch={size}]", subject)
        wanted = naive_worst(subject, rho=rho, norm=norm, steps=20, size=size, normalise=logits == "normalised")
        assert found.value == pytest.approx(wanted, rel=1e-6)
        assert found.value > 0
        assert found.stderr is None


@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize("logits", ["plain", "normalised"])
def test_the_average_is_that_of_its_draws(tiny: Tiny, norm: str, logits: str) -> None:
    subject = tiny("conv")
    theta = flat(subject.params)
    generator = torch.Generator().manual_seed(5)
    drawn = []
    for _ in range(20):
        if norm == "l2":
            z = torch.randn((1, len(theta)), generator=generator, dtype=torch.float64)[0]
        else:
            z = 2 * torch.rand(len(theta), generator=generator, dtype=torch.float64) - 1
        moved = loss(subject, theta + 0.3 * theta.abs() * z, normalise=logits == "normalised")
        drawn.append(float(moved - loss(subject, theta, normalise=logits == "normalised")))
    word = f"adaptive[case=average,norm={norm},logits={logits},rho=0.3]"
    found = measure(word, subject, seed=5)
    assert found.value == pytest.approx(sum(drawn) / 20, rel=1e-10)
    assert found.stderr == pytest.approx(float(torch.tensor(drawn, dtype=torch.float64).std()) / 20**0.5, rel=1e-10)
    assert found.interval is not None
    assert found.interval[0] < found.value < found.interval[1]
    assert found.probes == 20
    assert parse_measure(word).exact(subject) is None
    assert measure(word.replace("rho", "micro_batch=2,rho"), subject, seed=5).value == found.value


def test_its_intervals_cover(tiny: Tiny) -> None:
    subject = tiny()
    truth = measure("adaptive[case=average,samples=4000,rho=0.3]", subject, seed=10**6).value
    covered = 0
    for seed in range(60):
        found = measure("adaptive[case=average,rho=0.3]", subject, seed=seed)
        assert found.interval is not None
        covered += found.interval[0] <= truth <= found.interval[1]
    assert covered >= 51  # of 60 at 93 %, less two and a half standard deviations


@cache
def second_derivatives(kind: str, logits: str) -> Tensor:
    """The diagonal of the Hessian, every entry of a plain function of the weights."""
    subject = tiny_subject(kind)
    dense = torch.func.hessian(lambda vector: loss(subject, vector, normalise=logits == "normalised"))
    found: Tensor = dense(flat(subject.params)).diagonal()
    return found


@pytest.mark.parametrize("kind", ["mlp", "conv"])
@pytest.mark.parametrize(
    ("norm", "variance", "scaling"), [("l2", 1.0, "element"), ("linf", 1 / 3, "filter"), ("linf", 1 / 3, "none")]
)
@pytest.mark.parametrize("logits", ["plain", "normalised"])
def test_the_closed_form_is_that_of_the_hessians_diagonal(
    tiny: Tiny, kind: str, norm: str, variance: float, scaling: str, logits: str
) -> None:
    """(rho^2 / 2) sum c^2 H_jj, or / 6, with every second derivative taken of a plain function of the weights."""
    subject = tiny(kind)
    c = []
    for value in subject.params.values():
        for row in value:
            filters = scaling == "filter" and value.ndim == 4
            c += [row.norm() if filters else abs(entry) if scaling != "none" else 1.0 for entry in row.flatten()]
    wanted = 0.2**2 / 2 * variance * float((torch.tensor(c).square() * second_derivatives(kind, logits)).sum())
    word = f"adaptive[case=average-closed,norm={norm},scaling={scaling},logits={logits},rho=0.2]"
    found = measure(word, subject)
    assert found.value == pytest.approx(wanted, rel=1e-9)
    assert found.details["matrix"] == "hessian"
    assert parse_measure(word).exact(subject) == pytest.approx(wanted, rel=1e-9)


def test_the_closed_form_is_the_limit_of_the_average(tiny: Tiny) -> None:
    """On a network whose kinks are far away: rho 1e-5 of each weight."""
    subject = tiny()
    for norm in ("l2", "linf"):
        small = measure(f"adaptive[case=average,norm={norm},rho=1e-5,samples=1000]", subject)
        slope = torch.func.grad(lambda vector: loss(subject, vector))(flat(subject.params))
        generator = torch.Generator().manual_seed(0)
        first = 0.0
        for _ in range(1000):
            if norm == "l2":
                z = torch.randn((1, subject.size), generator=generator, dtype=torch.float64)[0]
            else:
                z = 2 * torch.rand(subject.size, generator=generator, dtype=torch.float64) - 1
            first += 1e-5 * float((slope * flat(subject.params).abs()) @ z) / 1000
        closed = measure(f"adaptive[case=average-closed,norm={norm},rho=1e-5]", subject).value
        assert small.value - first == pytest.approx(closed, rel=0.2)


def test_the_closed_form_of_smooth_networks_is_gauss_newtons(tiny: Tiny) -> None:
    subject = tiny("gelu")
    found = measure("adaptive[case=average-closed,scaling=none,rho=1]", subject)
    assert found.details["matrix"] == "gauss-newton"
    assert parse_measure("adaptive[case=average-closed]").exact(subject) is None
    assert found.value == pytest.approx(measure("ggn-trace", subject).value / 2, rel=1e-12)
    assert abs(found.value / (float(dense_hessian(subject).trace()) / 2) - 1) > 1e-3


@pytest.mark.parametrize("kind", ["mlp", "attention"])
@pytest.mark.parametrize(
    "word",
    [
        "adaptive[steps=4]",
        "adaptive[steps=4,norm=linf]",
        "adaptive[steps=4,scaling=none]",
        "adaptive[steps=4,scaling=none,norm=linf]",
        "adaptive[steps=4,logits=normalised]",
        "adaptive[case=average]",
        "adaptive[case=average,scaling=none]",
        "adaptive[case=average-closed]",
        "adaptive[case=average-closed,scaling=none]",
        "adaptive[case=average-closed,logits=normalised]",
    ],
)
def test_it_is_as_invariant_as_it_says(rewritable: Tiny, kind: str, word: str) -> None:
    said = parse_measure(word).invariances()
    for rewrite, factor in invariance_factors(parse_measure(word), rewritable(kind)).items():
        within = factor is not None and factor < 1 + 1e-6
        assert within == (rewrite in said), (rewrite, factor)


@pytest.mark.parametrize("case", ["worst,steps=4", "average", "average-closed", "worst,steps=4,scaling=filter"])
def test_normalised_logits_have_no_scale(tiny: Tiny, case: str) -> None:
    """A factor on the last layer, which the neighbourhood follows, or behind it."""
    subject = tiny("conv")
    larger = subject.with_params(
        {name: value * (7 if name.startswith("5") else 1) for name, value in subject.params.items()}
    )
    behind = Subject.from_module(Times(subject.module), subject.inputs, subject.targets, batch_size=4)
    word = f"adaptive[case={case},logits=normalised]"
    assert "logit-scale" in parse_measure(word).invariances()
    assert "logit-scale" not in parse_measure(word.replace("normalised", "plain")).invariances()
    assert "logit-scale" not in parse_measure("adaptive[logits=normalised,scaling=none]").invariances()
    for other in (larger, behind):
        assert measure(word, other).value == pytest.approx(measure(word, subject).value, rel=1e-6)
        plain = word.replace("normalised", "plain")
        assert abs(measure(plain, other).value / measure(plain, subject).value - 1) > 0.1


def test_normalised_logits_have_mean_0_and_norm_1(tiny: Tiny) -> None:
    """Seen by a criterion that also sees shifts; logits that are all equal become 0."""
    subject = tiny()
    logits = torch.tensor([[1.0, 2.0, 6.0], [4.0, 4.0, 4.0]], dtype=torch.float64)
    seen = normalised(replace(subject, criterion=MSE)).criterion
    root = 14**0.5
    targets = torch.zeros(2, 3, dtype=torch.float64)
    targets[0] = torch.tensor([-2.0, -1.0, 3.0]) / root
    assert seen(logits, targets).tolist() == pytest.approx([0, 0], abs=1e-15)
    assert (seen.kind, seen.name) == ("custom", "mse of normalised logits")
    slope = torch.func.grad(lambda outputs: seen(outputs, targets + 1).sum())(logits)
    assert bool(torch.isfinite(slope).all())


class Times(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, inputs: Tensor) -> Tensor:
        return 7 * self.inner(inputs)


def test_weights_that_are_zero_do_not_lift_the_bound(tiny: Tiny) -> None:
    """Frozen and counted; the others stay in the ball, so that more radius gives more."""
    subject = tiny()
    zero = subject.with_params({**subject.params, "0.bias": torch.zeros(6, dtype=torch.float64)})
    for word in ("adaptive", "adaptive[case=average]", "adaptive[case=average-closed]"):
        found = measure(word, zero)
        assert found.details["frozen"] == 6
    values = [measure(f"adaptive[rho={rho}]", zero).value for rho in (0.01, 0.1, 1.0)]
    assert values[0] < values[1] < values[2] < 50 * values[1]
    wanted = naive_worst(zero, rho=0.1, norm="l2", steps=20, size=9, normalise=False)
    assert values[1] == pytest.approx(wanted, rel=1e-6)


def test_radii_have_the_papers_defaults(tiny: Tiny) -> None:
    subject = tiny()
    radii = {
        "adaptive": 0.5,
        "adaptive[norm=linf]": 0.002,
        "adaptive[norm=linf,scaling=none]": 0.001,
        "adaptive[case=average]": 0.1,
        "adaptive[case=average,norm=linf]": 0.2,
        "adaptive[rho=0.07]": 0.07,
    }
    for word, radius in radii.items():
        assert measure(word, subject).details["rho"] == radius


def test_batch_sizes_precision_seeds_and_order(tiny: Tiny) -> None:
    for word in ("adaptive[steps=6]", "adaptive[case=average]", "adaptive[case=average-closed]"):
        value = measure(word, tiny("conv")).value
        assert measure(word, tiny("conv")).value == value
        assert (measure(word, tiny("conv"), seed=1).value != value) == (word == "adaptive[case=average]")
        for size in (1, 9):
            assert measure(word, tiny("conv", batch_size=size)).value == pytest.approx(value, rel=1e-9)
        subject = tiny("conv")
        other = Subject.from_module(subject.module, subject.inputs.flip(0), subject.targets.flip(0))
        assert measure(word, other).value == pytest.approx(value, rel=1e-9)
        assert measure(word, subject.to(dtype=torch.float32)).value == pytest.approx(value, rel=1e-3)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("adaptive[rho=0]", r"rho=0\.0 must be above 0 and finite"),
        ("adaptive[steps=0]", "steps=0 must be from 1"),
        ("adaptive[samples=1]", "samples=1 must be at least 2"),
        ("adaptive[micro_batch=-3]", "micro_batch=-3 must be at least 1"),
    ],
)
def test_hyperparameters_have_bounds(word: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        parse_measure(word)
