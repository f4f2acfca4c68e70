"""Adaptive sharpness of ASAM (Kwon et al. 2021) against its formula, and what its neighbourhood follows."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from sharpbench import InvalidInput, Subject, measure
from sharpbench.core.evaluate import parse_measure
from sharpbench.runner.invariance import invariance_factors

Tiny = Callable[..., Subject]


def naive(subject: Subject, *, rho: float, eta: float, norm: str, scaling: str, size: int = 9) -> float:
    """mean over micro-batches of L_M(theta + e) - L_M(theta), e = rho T^2 g / |T g| or rho T sign(g), by loops."""
    total, count = 0.0, len(subject.inputs)
    for start in range(0, count, size):
        x, y = subject.inputs[start : start + size], subject.targets[start : start + size]
        params = {name: value.clone().requires_grad_() for name, value in subject.params.items()}
        loss = nn.functional.cross_entropy(torch.func.functional_call(subject.module, params, (x,)), y)
        loss.backward()
        operator = {}
        for name, value in subject.params.items():
            operator[name] = value.abs() + eta
            if scaling == "filter" and value.ndim == 4:
                for index, weights in enumerate(value):
                    operator[name][index] = weights.norm() + eta
        slopes = {name: operator[name] * value.grad for name, value in params.items()}
        length = sum(float(slope.square().sum()) for slope in slopes.values()) ** 0.5
        steps = {
            name: operator[name] * (slope / length if norm == "l2" else slope.sign()) for name, slope in slopes.items()
        }
        moved = {name: value + rho * steps[name] for name, value in subject.params.items()}
        after = nn.functional.cross_entropy(torch.func.functional_call(subject.module, moved, (x,)), y)
        total += float(after - loss.detach()) * len(x) / count
    return total


@pytest.mark.parametrize("kind", ["mlp", "conv", "attention"])
@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize("scaling", ["element", "filter"])
@pytest.mark.parametrize("eta", [0.0, 0.05])
def test_one_step_is_the_formula(tiny: Tiny, kind: str, norm: str, scaling: str, eta: float) -> None:
    subject = tiny(kind)
    for size in (9, 4):
        word = f"asam[rho=0.2,eta={eta},norm={norm},scaling={scaling},micro_batch={size}]"
        wanted = naive(subject, rho=0.2, eta=eta, norm=norm, scaling=scaling, size=size)
        assert measure(word, subject).value == pytest.approx(wanted, rel=1e-11)
        assert parse_measure(word).exact(subject) == pytest.approx(wanted, rel=1e-11)
    assert parse_measure("asam[steps=2]").exact(subject) is None


@pytest.mark.parametrize("kind", ["mlp", "attention"])
@pytest.mark.parametrize(
    "word",
    ["asam", "asam[eta=0]", "asam[eta=0,norm=linf]", "asam[eta=0,steps=4]"],
)
def test_it_is_as_invariant_as_it_says(rewritable: Tiny, kind: str, word: str) -> None:
    said = parse_measure(word).invariances()
    for rewrite, factor in invariance_factors(parse_measure(word), rewritable(kind)).items():
        assert factor is not None
        assert (factor < 1 + 1e-6) == (rewrite in said), (rewrite, factor)


@pytest.mark.parametrize("word", ["asam[eta=0,scaling=filter]", "asam[eta=0,scaling=filter,steps=8]"])
def test_filters_follow_layers_and_not_units(rewritable: Tiny, word: str) -> None:
    found = invariance_factors(parse_measure(word), rewritable("conv"))
    assert parse_measure(word).invariances() == {"layer", "permutation"}
    assert found["layer"] == pytest.approx(1, abs=1e-6)
    assert found["permutation"] == pytest.approx(1, abs=1e-6)
    assert (found["unit"] or 0) > 1 + 1e-3


def test_weights_that_are_zero_are_frozen_and_counted(tiny: Tiny) -> None:
    """As if they were no parameters at all; with eta they move."""
    subject = tiny()
    params = {**subject.params, "0.bias": torch.zeros(6, dtype=torch.float64)}
    zero = subject.with_params(params)
    module = zero.module
    without = Subject.from_module(
        module, subject.inputs, subject.targets, parameters=[name for name in params if name != "0.bias"]
    )
    without.constants["0.bias"].zero_()
    for word in ("asam[eta=0]", "asam[eta=0,steps=8]", "asam[eta=0,norm=linf]"):
        found = measure(word, zero)
        assert found.details["frozen"] == 6
        assert found.value == pytest.approx(measure(word, without).value, rel=1e-10)
        assert measure(word.replace("eta=0", "eta=0.01"), zero).details["frozen"] == 0
    nothing = subject.with_params({name: torch.zeros_like(value) for name, value in params.items()})
    assert measure("asam[eta=0]", nothing).value == 0


def test_small_neighbourhoods_see_the_dual_norm(tiny: Tiny) -> None:
    """rho |c g|_2, and rho |c g|_1."""
    subject = tiny("conv")
    slope = torch.func.grad(subject.loss)(subject.params)
    scaled = torch.cat([(slope[name] * value.abs()).flatten() for name, value in subject.params.items()])
    for norm, wanted in (("l2", scaled.norm()), ("linf", scaled.abs().sum())):
        for steps in (1, 20):
            found = measure(f"asam[eta=0,rho=1e-6,norm={norm},steps={steps}]", subject)
            assert found.value == pytest.approx(1e-6 * float(wanted), rel=1e-3)


def test_batch_sizes_precision_and_order(tiny: Tiny) -> None:
    for word in ("asam", "asam[steps=8]", "asam[norm=linf,scaling=filter]"):
        value = measure(word, tiny("conv")).value
        for size in (1, 9):
            assert measure(word, tiny("conv", batch_size=size)).value == pytest.approx(value, rel=1e-9)
        subject = tiny("conv")
        other = Subject.from_module(subject.module, subject.inputs.flip(0), subject.targets.flip(0))
        assert measure(word, other).value == pytest.approx(value, rel=1e-9)
        assert measure(word, subject.to(dtype=torch.float32)).value == pytest.approx(value, rel=1e-4)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("asam[rho=0]", r"rho=0\.0 must be above 0 and finite"),
        ("asam[eta=-0.1]", r"eta=-0\.1 must be at least 0 and finite; 0 freezes the weights that are 0"),
        ("asam[steps=0]", "steps=0 must be from 1"),
        ("asam[micro_batch=0]", "micro_batch=0 must be at least 1"),
    ],
)
def test_hyperparameters_have_bounds(word: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        parse_measure(word)
