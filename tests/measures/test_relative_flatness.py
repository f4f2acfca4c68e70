"""Relative flatness (Petzka et al. 2021) against its definition, block by block, and its closed forms."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from sharpbench import NotApplicable, Subject, measure
from sharpbench.core.evaluate import parse_measure
from sharpbench.runner.invariance import invariance_factors

Tiny = Callable[..., Subject]
LAYERS = [("mlp", "0"), ("mlp", "2"), ("mlp", "4"), ("gelu", "0"), ("gelu", "2"), ("gelu", "4"), ("conv", "5")]
POSITIONS = [("attention", "embed"), ("attention", "qkv"), ("attention", "head")]


def naive(subject: Subject, name: str, standard: Tensor | None = None) -> float:
    """sum over pairs of rows of <w_s, w_s'> tr H_ss', each block cut out of the Hessian of the layer's weight.

    standard [in]: the features' standard deviations; the layer's W is then W diag(standard), at the same function.
    """
    weight = subject.params[name]
    scale = torch.ones(weight.shape[1], dtype=weight.dtype) if standard is None else standard

    def loss(scaled: Tensor) -> Tensor:
        logits = subject.apply({**subject.params, name: scaled / scale}, subject.inputs)
        return subject.criterion(logits, subject.targets).mean()

    scaled = weight * scale
    H = torch.func.hessian(loss)(scaled)
    return sum(
        float(scaled[s] @ scaled[t]) * float(H[s, :, t, :].trace())
        for s in range(len(scaled))
        for t in range(len(scaled))
    )


def features_of(subject: Subject, module: str) -> Tensor:
    """What a layer reads [n, ..., in], by a hook."""
    seen: list[Tensor] = []
    handle = subject.module.get_submodule(module).register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    subject.apply(subject.params, subject.inputs)
    handle.remove()
    return seen[0].detach()


@pytest.mark.parametrize(("kind", "layer"), LAYERS + POSITIONS)
def test_it_is_the_definition(tiny: Tiny, kind: str, layer: str) -> None:
    """Also where the network is smooth behind the layer, and where it is applied at several positions."""
    subject = tiny(kind)
    wanted = naive(subject, f"{layer}.weight")
    for word in (f"relative-flatness[layer={layer}]", f"relative-flatness[layer={layer}.weight]"):
        assert measure(word, subject).value == pytest.approx(wanted, rel=1e-9)
        assert parse_measure(word).exact(subject) == pytest.approx(wanted, rel=1e-9)


@pytest.mark.parametrize(("kind", "layer"), [*LAYERS, ("attention", "qkv"), ("attention", "head")])
def test_standardised_features(tiny: Tiny, kind: str, layer: str) -> None:
    """The definition at the layer W diag(sigma), which reads phi / sigma; no feature of these is constant."""
    subject = tiny(kind, seed=2, n=30)
    features = features_of(subject, layer).flatten(0, -2)
    assert float(features.std(0).min()) > 0
    wanted = naive(subject, f"{layer}.weight", features.std(0, unbiased=False))
    word = f"relative-flatness[layer={layer},standardise=true]"
    found = measure(word, subject)
    assert found.value == pytest.approx(wanted, rel=1e-9)
    assert found.details["constant"] == 0
    assert parse_measure(word).exact(subject) == pytest.approx(wanted, rel=1e-9)


@pytest.mark.parametrize("kind", ["mlp", "conv", "attention"])
def test_the_last_layer_has_a_closed_form(tiny: Tiny, kind: str) -> None:
    """mean of |phi|^2 Var_{k ~ p}(w_k), equal to the products with the Hessian behind the layer."""
    subject = tiny(kind)
    name = {"mlp": "4", "conv": "5", "attention": "head"}[kind]
    features, weight = features_of(subject, name), subject.params[f"{name}.weight"]
    total = 0.0
    for phi, f in zip(features, subject.apply(subject.params, subject.inputs), strict=True):
        if phi.ndim == 1:
            p = f.softmax(0)
            mean = sum(p[k] * weight[k] for k in range(3))
            total += float(phi @ phi * sum(p[k] * (weight[k] - mean).square().sum() for k in range(3)))
    found = measure("relative-flatness", subject)
    assert found.value == pytest.approx(total / 9, rel=1e-12)
    assert found.details == {"layer": f"{name}.weight", "method": "closed form", "constant": 0}

    def plain(logits: Tensor, targets: Tensor) -> Tensor:
        return nn.functional.cross_entropy(logits, targets, reduction="none")

    custom = Subject.from_module(subject.module, subject.inputs, subject.targets, loss=plain)
    other = measure("relative-flatness", custom)
    assert other.details["method"] == "hessian products"
    assert other.value == pytest.approx(total / 9, rel=1e-10)


def test_confident_networks_lose_no_digits_in_single_precision() -> None:
    """Probabilities of 1e-12: the variance is not a difference of two squares."""
    torch.manual_seed(0)
    module = nn.Linear(4, 3).double()
    inputs = torch.randn(6, 4, dtype=torch.float64)
    nn.init.zeros_(module.bias)
    module.bias.data[0] = 27.0
    subject = Subject.from_module(module, inputs, torch.zeros(6).long())
    single = measure("relative-flatness", subject.to(dtype=torch.float32)).value
    assert single == pytest.approx(measure("relative-flatness", subject).value, rel=1e-5)
    assert 0 < single < 1e-9


def test_least_squares_are_ridge_like() -> None:
    """|w|^2 tr H = 2 |w|^2 mean |x|^2 for one output."""
    torch.manual_seed(0)
    inputs = torch.randn(8, 4, dtype=torch.float64)
    module = nn.Linear(4, 1).double()
    subject = Subject.from_module(module, inputs, torch.randn(8, 1, dtype=torch.float64), loss="mse")
    wanted = 2 * float(subject.params["weight"].square().sum()) * float(inputs.square().sum(1).mean())
    assert measure("relative-flatness", subject).value == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize("kind", ["mlp", "conv", "attention"])
@pytest.mark.parametrize("standardise", ["false", "true"])
def test_it_is_as_invariant_as_it_says(rewritable: Tiny, kind: str, standardise: str) -> None:
    """Of the layer between two others, where single units are rescaled on both sides, or of the last."""
    layer = {"mlp": "2", "conv": "last", "attention": "last"}[kind]
    chosen = parse_measure(f"relative-flatness[layer={layer},standardise={standardise}]")
    said = chosen.invariances()
    assert ("unit" in said) == (standardise == "true")
    for rewrite, factor in invariance_factors(chosen, rewritable(kind, seed=2)).items():
        assert factor is not None
        assert (factor < 1 + 1e-6) == (rewrite in said), (rewrite, factor)


def test_dead_features_are_left_out_and_constant_ones_have_modulus_1(tiny: Tiny) -> None:
    subject = tiny(seed=2)
    dead = {name: value.clone() for name, value in subject.params.items()}
    dead["2.weight"][1], dead["2.bias"][1] = 0.0, -1.0
    found = measure("relative-flatness[standardise=true]", subject.with_params(dead))
    assert found.details["constant"] == 1
    louder = {**dead, "4.weight": dead["4.weight"].clone()}
    louder["4.weight"][:, 1] *= 100  # of a feature that is 0: not seen
    assert measure("relative-flatness[standardise=true]", subject.with_params(louder)).value == found.value
    assert (
        measure("relative-flatness", subject.with_params(louder)).value
        > measure("relative-flatness", subject.with_params(dead)).value
    )
    constant = {**dead, "2.bias": dead["2.bias"].clone()}
    constant["2.bias"][1] = 2.0
    at = subject.with_params(constant)
    assert measure("relative-flatness[standardise=true]", at).details["constant"] == 1
    spread = features_of(at, "4").std(0, unbiased=False)
    spread[1] = 2.0
    wanted = naive(at, "4.weight", spread)
    assert measure("relative-flatness[standardise=true]", at).value == pytest.approx(wanted, rel=1e-9)
    factors = torch.tensor([10.0, 0.7, 3.0, 0.1], dtype=torch.float64)
    rescaled = {name: value.clone() for name, value in constant.items()}
    rescaled["2.weight"] *= factors[:, None]
    rescaled["2.bias"] *= factors
    rescaled["4.weight"] /= factors
    assert measure("relative-flatness[standardise=true]", subject.with_params(rescaled)).value == pytest.approx(
        wanted, rel=1e-9
    )


def test_the_features_of_a_single_example_are_all_constant(tiny: Tiny) -> None:
    alone = tiny(n=1, seed=2)
    units = features_of(alone, "4")[0].abs()
    found = measure("relative-flatness[standardise=true]", alone)
    assert found.details["constant"] == len(units)
    dead = alone.params["4.weight"] * (units > 0)
    kept = alone.with_params({**alone.params, "4.weight": dead})
    assert found.value == pytest.approx(naive(kept, "4.weight", torch.where(units > 0, units, 1.0)), rel=1e-9)


def test_batch_sizes_order_duplicates_and_precision(tiny: Tiny) -> None:
    for word in ("relative-flatness[standardise=true]", "relative-flatness[layer=2]"):
        subject = tiny("gelu", seed=2)
        value = measure(word, subject).value
        for size in (1, 9):
            assert measure(word, tiny("gelu", seed=2, batch_size=size)).value == pytest.approx(value, rel=1e-12)
        other = Subject.from_module(
            subject.module, subject.inputs.repeat(2, 1).flip(0), subject.targets.repeat(2).flip(0), batch_size=5
        )
        assert measure(word, other).value == pytest.approx(value, rel=1e-12)
        assert measure(word, subject.to(dtype=torch.float32)).value == pytest.approx(value, rel=1e-4)


class Twice(nn.Module):
    """The last layer's weight enters twice."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(5, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(self.layer(x).relu())


class Untraceable(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) if float(x.sum().item()) < 1e9 else x


def test_what_has_no_linear_layer(tiny: Tiny) -> None:
    x, y = torch.randn(4, 5, dtype=torch.float64), torch.arange(4) % 3
    with pytest.raises(
        NotApplicable, match=r"'0' is not a linear layer of Sequential that is used once; it has 5\.weight"
    ):
        measure("relative-flatness[layer=0]", tiny("conv"))
    with pytest.raises(
        NotApplicable, match=r"'nowhere' is not a linear layer .*; it has 0\.weight, 2\.weight, 4\.weight"
    ):
        measure("relative-flatness[layer=nowhere]", tiny())
    with pytest.raises(NotApplicable, match="Twice does not end in a linear layer under measurement; it has none"):
        measure("relative-flatness", Subject.from_module(Twice().double(), x, y))
    with pytest.raises(NotApplicable, match="the graph of Untraceable cannot be captured"):
        measure("relative-flatness", Subject.from_module(Untraceable().double(), x, y))
    biases = Subject.from_module(tiny().module, x, y, parameters=["4.bias"])
    with pytest.raises(NotApplicable, match="Sequential does not end in a linear layer under measurement"):
        measure("relative-flatness", biases)
    assert parse_measure("relative-flatness").exact(Subject.from_module(nn.Linear(5, 401).double(), x, y)) is None


def test_operators_that_torch_cannot_vmap_are_taken_one_by_one() -> None:
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell, self.head = nn.LSTMCell(3, 4), nn.Linear(4, 3)

        def forward(self, inputs: Tensor) -> Tensor:
            start = inputs.new_zeros(len(inputs), 4)
            logits: Tensor = self.head(self.cell(inputs, (start, start))[0])
            return logits

    torch.manual_seed(0)
    inputs, targets = torch.randn(6, 3, dtype=torch.float64), torch.arange(6) % 3
    model = Recurrent().double()
    found = measure("relative-flatness", Subject.from_module(model, inputs, targets))
    head = Subject.from_module(model.head, model.cell(inputs, (torch.zeros(6, 4).double(),) * 2)[0].detach(), targets)
    assert found.value == pytest.approx(measure("relative-flatness", head).value, rel=1e-9)
