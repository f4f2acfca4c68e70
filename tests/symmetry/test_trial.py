"""Trial: float64 throughout, at weights that hide nothing, without touching the model."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sharpbench.symmetry.trial import Trial


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
    trial = Trial.of(model, torch.randn(4, 3), generator=torch.Generator().manual_seed(0))
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
    torch.testing.assert_close(outputs, expected, rtol=1e-14, atol=1e-15)
    assert trial.change({}) == 0.0
    assert trial.change({"scale": 2 * trial.state["scale"]}) > 0.01
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
