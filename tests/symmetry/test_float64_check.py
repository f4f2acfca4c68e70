"""Trial: float64 throughout, at weights that hide nothing, without touching the model."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from sharpbench import InvalidInput
from sharpbench.symmetry.float64_check import Float64Check, relative_change, rounding_bound


class Casting(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer, self.norm = nn.Linear(3, 3), nn.BatchNorm1d(3)
        self.scale = nn.Parameter(torch.zeros(3))

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.layer(inputs).float().to(torch.float32).to(dtype=torch.float32)
        return self.norm(self.scale * hidden.type_as(inputs))


def test_casts_to_float32_are_no_loss_and_zeros_are_perturbed() -> None:
    torch.manual_seed(0)
    model = Casting().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    trial = Float64Check.of(model, torch.randn(4, 3), generator=torch.Generator().manual_seed(0))
    assert trial.state["scale"].abs().min() > 0
    outputs = trial.outputs({})
    layer = trial.inputs @ trial.state["layer.weight"].T + trial.state["layer.bias"]
    expected = nn.functional.batch_norm(
        trial.state["scale"] * layer,
        trial.state["norm.running_mean"],
        trial.state["norm.running_var"],
        trial.state["norm.weight"],
        trial.state["norm.bias"],
    )
    torch.testing.assert_close(outputs, expected, rtol=1e-12, atol=1e-13)
    assert trial.change({}) == 0.0
    assert trial.change({"scale": 2 * trial.state["scale"]}) > 0.01
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


class Made(nn.Module):
    """Makes its own tensors, of the default type and of float32."""

    def __init__(self, kind: str = "tensor") -> None:
        super().__init__()
        self.layer, self.kind = nn.Linear(3, 3), kind

    def forward(self, inputs: Tensor) -> object:
        if self.kind == "apart":
            return inputs @ torch.eye(3).half()
        hidden = self.layer(inputs) @ torch.linspace(0, 1, 9).view(3, 3) + torch.eye(3, dtype=torch.float32)[0]
        return {"tensor": hidden, "pair": (hidden, inputs), "named": {"logits": hidden}}[self.kind]


def trial_of(model: nn.Module, inputs: Tensor) -> Float64Check:
    return Float64Check.of(model, inputs, generator=torch.Generator().manual_seed(0))


def test_tensors_made_on_the_way_are_of_float64() -> None:
    trial = trial_of(Made(), torch.randn(4, 3))
    layer = trial.inputs @ trial.state["layer.weight"].T + trial.state["layer.bias"]
    made = torch.linspace(0, 1, 9, dtype=torch.float64).view(3, 3)
    expected = layer @ made + torch.tensor([1.0, 0, 0], dtype=torch.float64)
    torch.testing.assert_close(trial.outputs({}), expected, rtol=1e-12, atol=1e-13)
    assert torch.get_default_dtype() == torch.float32


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("pair", "Made returns a tuple; wrap it so that it returns one tensor"),
        ("named", "Made returns a dict; wrap it"),
        ("apart", "Made does not run in float64: .*dtype"),
    ],
)
def test_what_cannot_be_tried_is_one_line(kind: str, expected: str) -> None:
    with pytest.raises(InvalidInput, match=expected):
        trial_of(Made(kind), torch.randn(4, 3)).outputs({})
    assert torch.get_default_dtype() == torch.float32


def test_weights_and_inputs_must_be_finite() -> None:
    model, inputs = Made(), torch.randn(4, 3)
    with pytest.raises(InvalidInput, match=r"inputs are not finite: inputs holds 1 NaN or infinite of 12 entries"):
        trial_of(model, torch.tensor([[math.inf, *range(11)]]).view(4, 3))
    with torch.no_grad():
        model.layer.weight[0, 0] = math.nan
    with pytest.raises(
        InvalidInput, match=r"weights are not finite: layer.weight holds 1 NaN or infinite of 9 entries"
    ):
        trial_of(model, inputs)


def test_complex_and_whole_weights() -> None:
    model = nn.Module()
    model.phases = nn.Parameter(torch.randn(4, dtype=torch.complex64))
    model.counts = nn.Parameter(torch.arange(3), requires_grad=False)
    state = trial_of(model, torch.randn(1, 2)).state
    assert state["phases"].dtype == torch.complex128
    assert torch.equal(state["counts"], torch.arange(3))


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ([1.0, -4.0], [1.0, -3.0], 0.25),
        ([0.0, 0.0], [0.0, 0.0], 0.0),
        ([0.0, 0.0], [0.0, 1e-300], math.inf),
        ([-math.inf, 2.0], [-math.inf, 3.0], 0.5),
        ([-math.inf, 2.0], [0.0, 2.0], math.inf),
        ([1.0, 2.0], [math.nan, 2.0], math.inf),
        ([], [], 0.0),
    ],
)
def test_relative_changes(before: list[float], after: list[float], expected: float) -> None:
    one, other = (torch.tensor(values, dtype=torch.float64) for values in (before, after))
    assert relative_change(one, other) == expected


def test_rounding_is_that_of_the_coarsest_type() -> None:
    some = [torch.zeros(1, dtype=dtype) for dtype in (torch.float64, torch.float32, torch.int64)]
    assert rounding_bound(some) == pytest.approx(2**-11.5)
    assert rounding_bound(some[:1]) == 2**-26
    assert rounding_bound(some[2:]) == 0.0
