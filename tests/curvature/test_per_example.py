"""The authors' algorithm and double backward, against the exact traces and the definition, in float64."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sharpbench import Subject
from sharpbench.curvature import exact_traces, per_example_traces, reference_diagonal
from sharpbench.errors import InvalidInput
from sharpbench.replays.minimum_sharpness_2021.studies import double_backward_entries


def perceptron(bias: bool) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(36, 5, bias=bias), nn.ReLU(), nn.Linear(5, 3, bias=bias))


def in_place() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(36, 5), nn.ReLU(inplace=True), nn.Linear(5, 3))


def convolutional() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 3, 3, padding=1, stride=2, dilation=2),
        nn.ReLU(),
        nn.Conv2d(3, 2, 2),
        nn.Flatten(),
        nn.Linear(2, 3),
    )


@pytest.fixture(scope="module", params=["with biases", "without", "convolutional", "in place"])
def subject(request: pytest.FixtureRequest) -> Subject:
    torch.manual_seed(0)
    kinds = {"convolutional": convolutional, "in place": in_place}
    model = kinds[request.param]() if request.param in kinds else perceptron(request.param == "with biases")
    inputs = torch.randn(7, 1, 6, 6, dtype=torch.float64)
    return Subject.from_module(model.double(), inputs, torch.randint(0, 3, (7,)), batch_size=3)


@pytest.mark.parametrize("batch_size", [1, 3, 7, 100])
def test_traces_are_exact_whatever_the_batches(subject: Subject, batch_size: int) -> None:
    expected = exact_traces(subject)
    found = per_example_traces(subject.module, subject.inputs, batch_size=batch_size)
    assert set(found) == set(expected)
    for name, trace in expected.items():
        assert found[name] == pytest.approx(trace, rel=1e-12)


def test_the_module_is_left_without_hooks_and_gradients(subject: Subject) -> None:
    per_example_traces(subject.module, subject.inputs, batch_size=4)
    assert all(value.grad is None for value in subject.module.parameters())
    assert not any(layer._forward_hooks for layer in subject.module.modules())


def test_naive_entries_are_the_diagonal_by_definition(subject: Subject) -> None:
    chosen = torch.randperm(subject.size, generator=torch.Generator().manual_seed(0))
    found = double_backward_entries(subject, chosen)
    expected = torch.cat([value.flatten() for value in reference_diagonal(subject).values()])[chosen]
    assert torch.allclose(found, expected, rtol=1e-11, atol=1e-14)
    assert not found.requires_grad


@pytest.mark.parametrize(
    "layer",
    [nn.Conv2d(2, 2, 3, groups=2), nn.Conv2d(2, 2, 3, padding="same"), nn.Conv2d(2, 2, 3, padding_mode="circular")],
)
def test_convolutions_that_it_cannot_unfold_are_refused(layer: nn.Module) -> None:
    model = nn.Sequential(layer, nn.Flatten(), nn.LazyLinear(2))
    inputs = torch.randn(2, 2, 5, 5)
    model(inputs)
    with pytest.raises(InvalidInput, match="in groups, or not padded by a number of zeros; use exact_traces"):
        per_example_traces(model, inputs, batch_size=2)
