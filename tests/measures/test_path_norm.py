"""The path norm against sums over single paths."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor, nn

from sharpbench import NotApplicable, Subject, measure
from sharpbench.core.evaluate import parse_measure


def path_by_path(subject: Subject) -> float:
    """The products of squared weights along every path of a perceptron, from inputs and from biases."""
    weights = [value.square() for name, value in subject.params.items() if name.endswith("weight")]
    biases = [value.square() for name, value in subject.params.items() if name.endswith("bias")]
    widths = [weights[0].shape[1], *(len(weight) for weight in weights)]
    total = 0.0
    for start in range(len(weights) + 1):
        for path in itertools.product(*(range(width) for width in widths[start:])):
            product = 1.0 if start == 0 else float(biases[start - 1][path[0]])
            for layer, (one, other) in enumerate(itertools.pairwise(path), start):
                product *= float(weights[layer][other, one])
            total += product
    return total


def test_of_a_perceptron_path_by_path(chain: Subject) -> None:
    truth = path_by_path(chain)
    assert measure("path-norm[squared=true]", chain).value == pytest.approx(truth, rel=1e-10)
    assert measure("path-norm", chain).value == pytest.approx(math.sqrt(truth), rel=1e-10)
    for word in ("path-norm", "path-norm[squared=true]"):
        assert parse_measure(word).exact(chain) == pytest.approx(measure(word, chain).value, rel=1e-12)


def test_without_biases_it_is_a_product_of_matrices() -> None:
    torch.manual_seed(0)
    layers = [nn.Linear(4, 7, bias=False), nn.Linear(7, 3, bias=False)]
    subject = Subject.from_module(
        nn.Sequential(layers[0], nn.ReLU(), layers[1]).double(), torch.randn(2, 4).double(), torch.arange(2)
    )
    first, second = (layer.weight.detach().square() for layer in layers)
    assert measure("path-norm[squared=true]", subject).value == pytest.approx(float((second @ first).sum()), rel=1e-12)


def test_of_convolutions_with_a_folded_batch_norm(conv: Subject) -> None:
    """The network with the norm folded by hand, squared weights, on ones."""
    held = {**conv.params, **conv.constants}
    scale = held["1.weight"] / (held["1.running_var"] + 1e-5).sqrt()
    shift = held["1.bias"] - held["1.running_mean"] * scale
    x = torch.ones(1, 1, 8, 8, dtype=torch.float64)
    x = nn.functional.conv2d(x, (held["0.weight"] * scale[:, None, None, None]).square(), shift.square())
    x = nn.functional.conv2d(nn.functional.max_pool2d(x, 2), held["4.weight"].square(), held["4.bias"].square())
    truth = float((held["7.weight"].square() @ x.flatten() + held["7.bias"].square()).sum())
    assert measure("path-norm[squared=true]", conv).value == pytest.approx(truth, rel=1e-10)
    assert parse_measure("path-norm").exact(conv) is None


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inside, self.norm, self.head = nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(x + self.norm(self.inside(x).relu()))
        return logits


def test_of_branches_and_of_a_batch_norm_of_its_own() -> None:
    """1 + W^2 1 + ..., and a norm that follows an activation with its squared scale and shift."""
    torch.manual_seed(0)
    module = Residual().double()
    for value in (module.norm.weight, module.norm.bias, module.norm.running_mean, module.norm.running_var):
        assert value is not None
        nn.init.uniform_(value, 0.5, 2.0)
    subject = Subject.from_module(module, torch.randn(3, 4, dtype=torch.float64), torch.arange(3))
    held = {**subject.params, **subject.constants}
    scale = held["norm.weight"] / (held["norm.running_var"] + 1e-5).sqrt()
    shift = held["norm.bias"] - held["norm.running_mean"] * scale
    inside = held["inside.weight"].square().sum(1) + held["inside.bias"].square()
    x = 1 + scale.square() * inside + shift.square()
    truth = float((held["head.weight"].square() @ x + held["head.bias"].square()).sum())
    assert measure("path-norm[squared=true]", subject).value == pytest.approx(truth, rel=1e-12)


def test_all_weights_count_measured_or_not(chain: Subject) -> None:
    head = Subject.from_module(chain.module, chain.inputs, chain.targets, parameters=["4.bias"])
    assert measure("path-norm", head).value == measure("path-norm", chain).value
    assert parse_measure("path-norm").exact(head) == pytest.approx(measure("path-norm", chain).value, rel=1e-12)


def test_of_weights_of_zero(chain: Subject) -> None:
    nothing = chain.with_params({name: torch.zeros_like(value) for name, value in chain.params.items()})
    assert measure("path-norm", nothing).value == 0.0


def test_invariances(chain: Subject, conv: Subject, invariances_are_true) -> None:  # type: ignore[no-untyped-def]
    invariances_are_true(parse_measure("path-norm"), chain, conv)


def test_examples_do_not_matter(conv: Subject, examples_do_not_matter) -> None:  # type: ignore[no-untyped-def]
    examples_do_not_matter(parse_measure("path-norm"), conv)


def test_what_has_no_paths_is_refused(smooth: Subject, attention: Subject) -> None:
    with pytest.raises(
        NotApplicable, match=r"no paths: aten\.gelu\.default is neither a layer nor positively homogeneous"
    ):
        measure("path-norm", smooth)
    with pytest.raises(NotApplicable, match="no paths: "):
        measure("path-norm", attention)
