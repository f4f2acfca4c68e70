"""Subject: pure functions of detached weights, and a module that stays as it was."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sharpbench import InvalidInput, Subject

N, IN, C = 11, 6, 4


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(IN, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Dropout(0.5), nn.Linear(5, C)).double()


def data() -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    return torch.randn(N, IN, dtype=torch.float64), torch.randint(C, (N,))


def test_the_loss_is_the_mean_whatever_the_batches() -> None:
    module, (inputs, targets) = network(), data()
    whole = float(F.cross_entropy(module.eval()(inputs).detach(), targets))
    for batch_size in (None, 1, 2, 3, 4, 7, 10, 11, 50):
        subject = Subject.from_module(module, inputs, targets, batch_size=batch_size)
        assert float(subject.loss(subject.params)) == pytest.approx(whole, rel=1e-13)
    twice = Subject.from_module(module, inputs.repeat(2, 1), targets.repeat(2), batch_size=5)
    assert float(twice.loss(twice.params)) == pytest.approx(whole, rel=1e-13)
    means = subject.mean(lambda inputs, _: {"mean": inputs.mean(0)})
    torch.testing.assert_close(means["mean"], inputs.mean(0), rtol=1e-12, atol=1e-14)


def test_mse_is_the_mean_over_outputs_and_examples() -> None:
    module, (inputs, _) = network(), data()
    targets = torch.randn(N, C, dtype=torch.float64)
    subject = Subject.from_module(module, inputs, targets, criterion="mse", batch_size=4)
    assert float(subject.loss(subject.params)) == pytest.approx(
        float(F.mse_loss(module.eval()(inputs).detach(), targets))
    )


def test_the_module_stays_as_it_was_and_the_subject_too() -> None:
    module, (inputs, targets) = network(), data()
    module.train()
    module[3].eval()
    module(inputs).sum().backward()
    modes = [part.training for part in module.modules()]
    state = {key: value.clone() for key, value in module.state_dict().items()}
    gradients = {key: value.grad.clone() for key, value in module.named_parameters() if value.grad is not None}
    subject = Subject.from_module(module, inputs, targets, batch_size=3)
    torch.func.grad(subject.loss)(subject.params)
    with pytest.raises(RuntimeError):
        subject.apply(subject.params, inputs[:, :2])
    assert [part.training for part in module.modules()] == modes
    assert all(torch.equal(value, state[key]) for key, value in module.state_dict().items())
    assert all(torch.equal(value.grad, gradients[key]) for key, value in module.named_parameters())
    before = float(subject.loss(subject.params))
    with torch.no_grad():
        for value in (*module.parameters(), module[1].running_mean):
            value.add_(1.0)
    assert float(subject.loss(subject.params)) == before
    assert not any(value.requires_grad for value in subject.params.values())


def test_frozen_and_tied_and_chosen_parameters() -> None:
    module, (inputs, targets) = network(), data()
    module[0].weight.requires_grad_(False)
    subject = Subject.from_module(module, inputs, targets)
    assert subject.frozen == ("0.weight",)
    assert "0.weight" not in subject.params
    assert subject.size == sum(value.numel() for value in module.parameters()) - 30
    assert set(Subject.from_module(module, inputs, targets, parameters=["0.weight"]).params) == {"0.weight"}
    square = nn.Sequential(nn.Linear(IN, IN, bias=False), nn.Linear(IN, IN, bias=False)).double()
    square[1].weight = square[0].weight
    tied = Subject.from_module(square, inputs, targets)
    assert list(tied.params) == ["0.weight"]
    torch.testing.assert_close(
        tied.apply({"0.weight": 2 * tied.params["0.weight"]}, inputs), 4 * tied.apply(tied.params, inputs)
    )


def test_once_shares_and_fresh_does_not() -> None:
    subject = Subject.from_module(network(), *data())
    calls: list[Subject] = []

    def count(given: Subject) -> int:
        calls.append(given)
        return len(calls)

    assert [subject.once(count), subject.once(count)] == [1, 1]
    assert subject.fresh().once(count) == 2
    assert subject.with_params(subject.params).once(count) == 3


def test_class_indices_of_any_integer_type_will_do() -> None:
    module, (inputs, targets) = network(), data()
    wide = Subject.from_module(module, inputs, targets)
    narrow = Subject.from_module(module, inputs, targets.to(torch.int32))
    assert float(narrow.loss(narrow.params)) == float(wide.loss(wide.params))


def test_types_are_converted_together() -> None:
    subject = Subject.from_module(network(), *data()).to(dtype=torch.float32)
    assert {value.dtype for value in (*subject.params.values(), subject.inputs)} == {torch.float32}
    assert subject.targets.dtype == torch.int64
    assert subject.apply(subject.params, subject.inputs).dtype == torch.float32
    assert subject.classes == C


def test_one_example_and_two_classes_will_do() -> None:
    module = nn.Linear(IN, 2)
    subject = Subject.from_module(module, torch.randn(1, IN), torch.tensor([1]))
    assert float(subject.loss(subject.params)) > 0
    with pytest.raises(InvalidInput, match="criterion 'CrossEntropyLoss' returns shape"):
        Subject.from_module(module, torch.randn(1, IN), torch.tensor([1]), criterion=nn.CrossEntropyLoss())


def without_gradients() -> nn.Module:
    return network().requires_grad_(False)


def poisoned() -> nn.Module:
    module = network()
    with torch.no_grad():
        module[4].weight[1, 2] = float("nan")
    return module


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"inputs": torch.zeros(0, IN), "targets": torch.zeros(0).long()}, "hold no example"),
        ({"inputs": torch.zeros(3)}, "expected \\[n, ...\\], examples first"),
        ({"targets": torch.zeros(N - 1).long()}, "11 inputs and targets of shape \\[10\\] do not match"),
        ({"targets": torch.tensor(0)}, "do not match"),
        (
            {"targets": torch.full((N,), C)},
            "target 4 is out of range for a network of 4 outputs; targets go from 0 to 3",
        ),
        ({"targets": torch.full((N,), -1)}, "target -1 is out of range"),
        ({"targets": torch.zeros(N)}, "must be class indices"),
        ({"targets": torch.zeros(N, C), "criterion": "cross_entropy"}, "must be class indices"),
        ({"targets": torch.zeros(N, C - 1), "criterion": "mse"}, "targets for mse must be \\[n, 4\\]"),
        ({"criterion": "hinge"}, "criterion 'hinge' is unknown; use 'cross_entropy', 'mse' or a callable"),
        (
            {"criterion": F.cross_entropy},
            "criterion 'cross_entropy' returns shape \\[\\] for two examples; expected losses",
        ),
        ({"batch_size": 0}, "batch_size=0 must be at least 1"),
        ({"parameters": ["0.wieght"]}, "parameters=\\['0.wieght'\\] are not in the network"),
        ({"parameters": []}, "are not in the network"),
        ({"model": poisoned()}, "weights are not finite: 4.weight holds 1 NaN or infinite of 20 entries"),
        ({"inputs": torch.full((N, IN), float("inf"), dtype=torch.float64)}, "inputs are not finite"),
        ({"model": without_gradients()}, "no parameter of the network requires gradients"),
        ({"model": nn.Unflatten(1, (2, 3)).double()}, "no parameter of the network"),
        ({"model": nn.Sequential(network(), nn.Unflatten(1, (2, 2)))}, "returns a tensor of shape \\[1, 2, 2\\]"),
    ],
)
def test_what_does_not_fit_gets_one_line(arguments: dict[str, object], message: str) -> None:
    inputs, targets = data()
    given: dict[str, object] = {"model": network(), "inputs": inputs, "targets": targets, **arguments}
    with pytest.raises(InvalidInput, match=message) as raised:
        Subject.from_module(given.pop("model"), given.pop("inputs"), given.pop("targets"), **given)  # type: ignore[arg-type]
    assert "\n" not in str(raised.value)
