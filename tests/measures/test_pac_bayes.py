"""PAC-Bayes measures (Jiang et al. 2020, eqs. 48, 49, 53, 56, 57, 61) from a sigma that does what it says."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import cache

import pytest
import torch
from sharpbench_measures.pac_bayes import estimate_at
from torch import Tensor, nn

from sharpbench import Estimate, InvalidInput, NotApplicable, Subject, measure
from sharpbench.core.evaluate import parse_measure
from sharpbench.curvature import NoiseTolerance
from sharpbench.runner.invariance import invariance_factors
from tests.measures.conftest import in_one_batch


@cache
def fitted(kind: str = "mlp") -> Subject:
    """A network that is right about most of its 60 examples, with its initial weights."""
    n = 60
    torch.manual_seed(0)
    if kind == "conv":
        module = nn.Sequential(nn.Conv2d(1, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(27, 3)).double()
        inputs = torch.randn(n, 1, 4, 4, dtype=torch.float64)
    else:
        module = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 3)).double()
        inputs = torch.randn(n, 5, dtype=torch.float64)
    targets = inputs.flatten(1)[:, :3].argmax(1)
    initial = {name: value.detach().clone() for name, value in module.named_parameters()}
    optimizer = torch.optim.Adam(module.parameters(), lr=0.05)
    for _ in range(60):
        optimizer.zero_grad()
        nn.functional.cross_entropy(module(inputs), targets).backward()
        optimizer.step()
    return Subject.from_module(module, inputs, targets, batch_size=25, initial=initial)


@pytest.fixture(scope="module")
def mlp() -> Subject:
    return fitted()


def flat(params: dict[str, Tensor]) -> Tensor:
    return torch.cat([value.flatten() for value in params.values()])


def accuracy(subject: Subject, vector: Tensor) -> float:
    pieces = vector.split([value.numel() for value in subject.params.values()])
    params = {name: p.reshape(subject.params[name].shape) for name, p in zip(subject.params, pieces, strict=True)}
    right = torch.func.functional_call(subject.module, params, (subject.inputs,)).argmax(1) == subject.targets
    return int(right.sum()) / len(subject.inputs)


def mean_drop(subject: Subject, sigma: float, *, seed: int, magnitude: bool, samples: int = 20) -> float:
    """accuracy(w) - the mean of accuracy(w + u), u of standard deviation sigma, or sqrt(sigma^2 w^2 + 1e-6)."""
    generator = torch.Generator().manual_seed(seed)
    w = flat(subject.params)
    total = 0.0
    for _ in range(samples):
        z = torch.randn((1, len(w)), generator=generator, dtype=torch.float64)[0]
        total += accuracy(subject, w + z * ((sigma * w) ** 2 + 1e-6).sqrt() if magnitude else w + sigma * z)
    return accuracy(subject, w) - total / samples


@pytest.mark.parametrize("kind", ["mlp", "conv"])
@pytest.mark.parametrize("magnitude", [False, True])
def test_sigma_is_where_the_accuracy_falls_by_the_drop(kind: str, magnitude: bool) -> None:
    """At most that at sigma, more a ten-thousandth above: sigma is a standard deviation, of these very draws."""
    subject = fitted(kind)
    found = measure(f"pac-bayes-flatness[magnitude={str(magnitude).lower()}]", subject, seed=3)
    sigma = float(str(found.details["sigma"]))
    assert found.value == pytest.approx(1 / sigma**2, rel=1e-12)
    drop = mean_drop(subject, sigma, seed=3, magnitude=magnitude)
    assert found.details["drop"] == pytest.approx(drop, abs=1e-12)
    assert found.details["accuracy"] == accuracy(subject, flat(subject.params)) > 0.9
    assert drop <= 0.1 + 1e-9 < mean_drop(subject, sigma * 1.0002, seed=3, magnitude=magnitude)


def bound(subject: Subject, sigma: float, *, variant: str, magnitude: bool) -> float:
    """Eqs. 48, 49, 56, 57, entry by entry; 60 examples."""
    w, w0 = flat(subject.params), flat({name: (subject.initial or {})[name] for name in subject.params})
    norm, omega = float((w if variant == "orig" else w - w0).norm()), len(w)
    if not magnitude:
        return norm**2 / (4 * sigma**2) + math.log(60 / sigma) + 10
    above = 1e-6 + (sigma**2 + 1) * norm**2 / omega
    total = sum(math.log(above / (1e-6 + sigma**2 * float(moved) ** 2)) for moved in w - w0)
    return total / 4 + math.log(60 / sigma) + 10


@pytest.mark.parametrize("variant", ["orig", "init"])
@pytest.mark.parametrize("magnitude", [False, True])
def test_the_bounds_are_their_formulas(mlp: Subject, variant: str, magnitude: bool) -> None:
    words = f"magnitude={str(magnitude).lower()}"
    found = measure(f"pac-bayes[variant={variant},{words}]", mlp)
    sigma = float(str(found.details["sigma"]))
    assert found.value == pytest.approx(bound(mlp, sigma, variant=variant, magnitude=magnitude), rel=1e-12)
    assert measure(f"pac-bayes-flatness[{words}]", mlp).details["sigma"] == sigma


def test_the_number_of_training_examples_enters_where_it_is_known(mlp: Subject) -> None:
    known = replace(mlp, train_size=6000)
    for word in ("pac-bayes[variant=init]", "pac-bayes[variant=orig,magnitude=true]"):
        assert measure(word, known).value == pytest.approx(measure(word, mlp).value + math.log(100), rel=1e-12)
        assert measure(word, known).details["train_size"] == 6000
    assert measure("pac-bayes-flatness", known).value == measure("pac-bayes-flatness", mlp).value
    assert parse_measure("pac-bayes").depends == {"dataset-size"}
    assert parse_measure("pac-bayes-flatness").depends == frozenset()


@pytest.mark.slow
def test_errors_are_those_of_the_draws(mlp: Subject) -> None:
    """Standard errors of 40 seeds agree with their spread, and intervals hold what 1,000 draws say."""
    truth = measure("pac-bayes-flatness[samples=1000]", mlp, seed=10**6).value
    found = [measure("pac-bayes-flatness", mlp, seed=seed) for seed in range(40)]
    spread = float(torch.tensor([each.value for each in found]).std())
    stated = sum(each.stderr or 0 for each in found) / 40
    assert 0.7 < stated / spread < 1.4
    covered = sum(each.interval is not None and each.interval[0] <= truth <= each.interval[1] for each in found)
    assert covered >= 34  # of 40 at 93 %, less two and a half standard deviations
    assert measure("pac-bayes-flatness[samples=4]", mlp).interval is None


@pytest.mark.parametrize("word", ["pac-bayes[variant=init]", "pac-bayes[variant=orig,magnitude=true]"])
def test_errors_of_bounds_follow_those_of_sigma(mlp: Subject, word: str) -> None:
    """The derivative of the formula by log sigma, times the standard error of that."""
    found: Estimate = measure(word, mlp)
    flatness = measure("pac-bayes-flatness[magnitude=true]" if "magnitude" in word else "pac-bayes-flatness", mlp)
    assert found.stderr is not None
    assert flatness.stderr is not None
    logarithm = flatness.stderr / (2 * flatness.value)
    sigma, chosen = float(str(found.details["sigma"])), parse_measure(word)
    variant, magnitude = ("orig", True) if "orig" in word else ("init", False)
    assert parse_measure("pac-bayes-flatness").exact(mlp) is chosen.exact(mlp) is None
    values = [bound(mlp, sigma * math.exp(step), variant=variant, magnitude=magnitude) for step in (1e-5, -1e-5)]
    assert found.stderr == pytest.approx(abs(values[0] - values[1]) / 2e-5 * logarithm, rel=1e-4)
    assert found.interval is not None
    assert found.interval[0] < found.value < found.interval[1]


def test_it_repeats_under_a_seed_whatever_the_batches_and_the_order() -> None:
    for word in ("pac-bayes-flatness", "pac-bayes-flatness[magnitude=true]"):
        value = measure(word, fitted("conv"), seed=1).value
        assert measure(word, fitted("conv").fresh(), seed=1).value == value
        assert measure(word, fitted("conv"), seed=2).value != value
        for size in (7, 60):
            assert measure(word, replace(fitted("conv"), batch_size=size), seed=1).value == value
        subject = fitted("conv")
        twice = Subject.from_module(
            subject.module, subject.inputs.flip(0).repeat(2, 1, 1, 1), subject.targets.flip(0).repeat(2)
        )
        assert measure(word, twice, seed=1).value == value
        assert measure(word, subject.to(dtype=torch.float32), seed=1).value == pytest.approx(value, rel=1e-2)


def test_a_larger_drop_takes_more_noise(mlp: Subject) -> None:
    values = [measure(f"pac-bayes-flatness[drop={drop}]", mlp).value for drop in (0.02, 0.1, 0.3)]
    assert values[0] > values[1] > values[2]


@pytest.mark.parametrize(
    "word", ["pac-bayes-flatness", "pac-bayes-flatness[magnitude=true,epsilon=0.3]", "pac-bayes[variant=init]"]
)
def test_every_rewrite_is_seen(mlp: Subject, word: str) -> None:
    assert parse_measure(word).invariances() == frozenset()
    for rewrite, factor in invariance_factors(parse_measure(word), in_one_batch(mlp)).items():
        assert factor is None or factor > 1 + 1e-6, rewrite
    assert parse_measure(word).exact(mlp) is None


def test_what_has_no_sigma(mlp: Subject) -> None:
    name, start = next(iter((mlp.initial or {}).items()))
    for word in ("pac-bayes[variant=init]", "pac-bayes[variant=orig,magnitude=true]"):
        with pytest.raises(NotApplicable, match="weights before training are not known; give initial="):
            measure(word, replace(mlp, initial=None))
        for wrong in ({}, {**(mlp.initial or {}), name: start[:1]}, {**(mlp.initial or {}), name: start.flatten()}):
            with pytest.raises(NotApplicable, match=f"the initial weights hold no {name} of shape "):
                measure(word, replace(mlp, initial=wrong))
    assert measure("pac-bayes[variant=orig]", replace(mlp, initial=None)).value > 0
    regression = Subject.from_module(mlp.module, mlp.inputs, torch.randn(60, 3, dtype=torch.float64), loss="mse")
    with pytest.raises(
        NotApplicable, match="no sigma: the targets are not one class an example, so that there is no accuracy to lose"
    ):
        measure("pac-bayes-flatness", regression)
    for drop in (0.7, 0.99):
        with pytest.raises(NotApplicable, match=rf"an accuracy of .* less {drop} is not above 0\.3333, .* 3 classes"):
            measure(f"pac-bayes-flatness[drop={drop}]", mlp)
    aside = Subject.from_module(Aside(mlp.module), mlp.inputs, mlp.targets, parameters=["aside"])
    with pytest.raises(NotApplicable, match=r"still costs no more than 0\.1 of the accuracy, .*; ask for another drop"):
        measure("pac-bayes-flatness", aside)
    with pytest.raises(NotApplicable, match=r"still costs more than 0\.1 of the accuracy, .*; ask for another drop"):
        measure("pac-bayes-flatness[magnitude=true,epsilon=100]", mlp)


class Aside(nn.Module):
    """With a parameter that nothing depends on."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner, self.aside = inner, nn.Parameter(torch.zeros(1, dtype=torch.float64))

    def forward(self, inputs: Tensor) -> Tensor:
        return self.inner(inputs)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("pac-bayes-flatness[drop=0]", r"drop=0\.0 must be above 0 and below 1; it is a share of the examples"),
        ("pac-bayes-flatness[drop=1]", r"drop=1\.0 must be above 0 and below 1"),
        ("pac-bayes-flatness[samples=1]", "samples=1 must be at least 2"),
        ("pac-bayes-flatness[epsilon=0]", r"epsilon=0\.0 must be above 0 and finite"),
    ],
)
def test_hyperparameters_have_bounds(word: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        parse_measure(word)


@pytest.mark.parametrize("value", [lambda s: (s - 1) ** 2, lambda s: -((s - 1) ** 2), lambda s: 1 / s])
def test_an_interval_holds_what_lies_between_its_ends(value: Callable[[float], float]) -> None:
    """A bound may have its minimum, or its maximum, between the ends of the interval of sigma."""
    found = NoiseTolerance(level=1.1, drop=0.1, accuracy=0.9, stderr=0.1, interval=(0.8, 1.25), evaluations=9)
    said = estimate_at(found, value, 20)
    assert said.interval is not None
    low, high = said.interval
    grid = [value(0.8 + 0.45 * step / 1000) for step in range(1001)]
    assert low <= said.value <= high
    assert low == pytest.approx(min(grid), abs=2e-4)
    assert high == pytest.approx(max(grid), abs=2e-4)
