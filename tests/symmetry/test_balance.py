"""balance: the same function, the least trace."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from sharpbench import InvalidInput, Subject, measure
from sharpbench.curvature import exact_traces
from sharpbench.symmetry import balance
from sharpbench.symmetry.minimum import terms, units
from sharpbench.symmetry.rules import table


class Small(nn.Module):
    """A norm, a residual sum, and a weight under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.norm = nn.Linear(5, 6), nn.BatchNorm1d(6)
        self.two = nn.Linear(6, 6, bias=False)
        self.again = nn.Linear(6, 6, bias=False)
        self.again.weight = self.two.weight
        self.head = nn.Linear(6, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.norm(self.one(inputs)).relu()
        return self.head(self.again(self.two(hidden).relu()).relu())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("scope", ["layer", "unit"])
def test_the_function_stays_and_the_trace_is_the_minimum(scope: str, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    model = Small().to(dtype)
    model.norm.running_mean.normal_()
    inputs, targets = torch.randn(20, 5, dtype=dtype), torch.randint(3, (20,))
    subject = Subject.from_module(model, inputs, targets)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = balance(Subject.from_module(model, inputs, targets), scope=scope)
    assert list(state) == list(before)
    assert all(value.dtype == before[name].dtype for name, value in state.items())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(state["two.weight"], state["again.weight"])
    assert not torch.equal(state["two.weight"], before["two.weight"])

    tolerance = 1e-9 if dtype == torch.float64 else 1e-4
    old = model.eval()(inputs)
    model.load_state_dict(state)
    torch.testing.assert_close(model(inputs), old, rtol=tolerance, atol=tolerance)
    moved = Subject.from_module(model, inputs, targets)
    trace = sum(exact_traces(moved).values())
    assert trace == pytest.approx(measure(f"minimum[scope={scope}]", subject).value, rel=tolerance)
    assert trace < 0.99 * sum(exact_traces(subject).values())
    again = measure(f"minimum[scope={scope}]", moved)
    assert again.value == pytest.approx(trace, rel=tolerance)


def test_a_minimum_that_is_not_attained_is_said() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 3)).double()
    nn.init.zeros_(model[4].weight)
    inputs, targets = torch.randn(9, 5, dtype=torch.float64), torch.randint(3, (9,))
    with pytest.raises(InvalidInput, match=r"no network attains the minimum\[scope=layer\].*driving 4.weight to 0"):
        balance(Subject.from_module(model, inputs, targets))


def test_parameters_that_are_left_out_stay() -> None:
    torch.manual_seed(0)
    model = Small().double()
    inputs, targets = torch.randn(9, 5, dtype=torch.float64), torch.randint(3, (9,))
    state = balance(Subject.from_module(model, inputs, targets, parameters=["two.weight", "head.weight"]))
    assert torch.equal(state["norm.weight"], model.norm.weight)
    assert not torch.equal(state["head.weight"], model.head.weight)


class Squares(nn.Module):
    def forward(self, inputs: Tensor) -> Tensor:
        return inputs.relu().square()


def test_what_is_not_known_or_not_found_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 4), Squares(), nn.Linear(4, 3)).double()
    inputs, targets = torch.randn(9, 5, dtype=torch.float64), torch.randint(3, (9,))
    monkeypatch.setattr(terms, "MAX_PROGRAMME_TERMS", 1)
    with pytest.raises(InvalidInput, match=r"whether a network attains the minimum\[scope=unit\] is not known"):
        balance(Subject.from_module(model, inputs, targets), scope="unit")
    monkeypatch.undo()
    assert balance(Subject.from_module(model, inputs, targets), scope="unit")
    monkeypatch.setattr(units, "MAX_STEPS", 1)
    with pytest.raises(InvalidInput, match=r"the minimum\[scope=unit\] was not found: after 1 steps the relative grad"):
        balance(Subject.from_module(model, inputs, targets), scope="unit")


def test_false_groups_and_shared_memory_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 5), nn.GELU(), nn.Linear(5, 5))
    inputs, targets = torch.randn(9, 5), torch.randint(5, (9,))
    monkeypatch.setitem(table.RULES, "gelu", table.homogeneous_rule)
    with pytest.raises(InvalidInput, match=r"rescalings of scope=layer change the outputs by .*, above 3\.5e-04"):
        balance(Subject.from_module(model, inputs, targets))
    model[2].weight.data = model[0].weight.data
    with pytest.raises(InvalidInput, match=r"0.weight, 2.weight share memory; make them one parameter, or copies"):
        balance(Subject.from_module(model, inputs, targets))
