"""Subject: pure functions of detached weights, and a module that stays as it was."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from sharpbench import InvalidInput, NotApplicable, Subject
from sharpbench.core import graph

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
    subject = Subject.from_module(module, inputs, targets, loss="mse", batch_size=4)
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


@pytest.mark.parametrize("kind", [InvalidInput, NotApplicable])
def test_why_there_is_no_fact_is_a_fact_that_fresh_subjects_share(kind: type[Exception]) -> None:
    subject = Subject.from_module(network(), *data())
    tried = 0

    def refuse(given: Subject) -> None:
        nonlocal tried
        tried += 1
        raise kind(f"refused, {given.n} examples")

    def fail(given: Subject) -> None:
        nonlocal tried
        tried += 1
        raise MemoryError(f"{given.n} examples do not fit now")

    for each in (subject, subject, subject.fresh()):
        with pytest.raises(kind, match="refused, 11 examples"):
            each.settled(refuse)
    assert tried == 1
    for _ in range(2):
        with pytest.raises(MemoryError, match="11 examples do not fit now"):
            subject.settled(fail)
    assert tried == 3  # what may pass is tried again
    with pytest.raises(kind, match="refused, 11 examples"):
        subject.with_params(subject.params).settled(refuse)
    assert tried == 4


class Branches(nn.Module):
    """torch.export follows no branch on values."""

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs[:, :C] if bool(inputs.sum() > -1e9) else inputs[:, 1 : C + 1]


def test_a_network_without_a_graph_is_captured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    module = nn.Sequential(nn.Linear(IN, IN), Branches()).double()
    subject = Subject.from_module(module, *data())
    attempts: list[nn.Module] = []
    capture = graph._capture
    monkeypatch.setattr(graph, "_capture", lambda *given: attempts.append(given[0]) or capture(*given))
    for _ in range(3):
        with pytest.raises(InvalidInput, match="cannot follow Sequential"):
            subject.fresh().graph  # noqa: B018
    assert len(attempts) == 1


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
    with pytest.raises(InvalidInput, match="loss 'cross_entropy' returns shape"):
        Subject.from_module(module, torch.randn(1, IN), torch.tensor([1]), loss=F.cross_entropy)


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
        ({"targets": torch.zeros(N, C), "loss": "cross_entropy"}, "must be at least 0 and sum to 1 over the classes"),
        ({"targets": torch.zeros(N, C - 1), "loss": "mse"}, "targets for mse must be \\[n, 4\\]"),
        ({"loss": "hinge"}, "loss 'hinge' is unknown; use 'cross_entropy', 'mse', 'bce', a loss of torch.nn"),
        (
            {"loss": F.cross_entropy},
            "loss 'cross_entropy' returns shape \\[\\] for two examples; expected losses",
        ),
        ({"batch_size": 0}, "batch_size=0 must be an integer of at least 1"),
        ({"parameters": ["0.wieght"]}, "parameters=\\['0.wieght'\\] are not in the network"),
        ({"parameters": []}, "are not in the network"),
        ({"model": poisoned()}, "weights are not finite: 4.weight holds 1 NaN or infinite of 20 entries"),
        ({"inputs": torch.full((N, IN), float("inf"), dtype=torch.float64)}, "inputs are not finite"),
        ({"model": without_gradients()}, "no parameter of the network requires gradients"),
        ({"model": nn.Unflatten(1, (2, 3)).double()}, "no parameter of the network"),
        (
            {"model": nn.Sequential(network(), nn.Unflatten(1, (2, 2)))},
            "outputs \\[B, 2, 2\\] and targets \\[n\\] do not fit cross_entropy",
        ),
    ],
)
def test_what_does_not_fit_gets_one_line(arguments: dict[str, object], message: str) -> None:
    inputs, targets = data()
    given: dict[str, object] = {"model": network(), "inputs": inputs, "targets": targets, **arguments}
    with pytest.raises(InvalidInput, match=message) as raised:
        Subject.from_module(given.pop("model"), given.pop("inputs"), given.pop("targets"), **given)  # type: ignore[arg-type]
    assert "\n" not in str(raised.value)


def ragged(targets: Tensor | None = None, criterion: str | None = None, *, batch_size: int | None = 4) -> Subject:
    module, (inputs, classes) = network(), data()
    return Subject.from_module(
        module, inputs, classes if targets is None else targets, loss=criterion, batch_size=batch_size
    )


@pytest.mark.parametrize("criterion", ["cross_entropy", "mse", "absolute"])
def test_gradients_of_ragged_batches_are_those_of_one(criterion: str) -> None:
    """Against autograd on the whole data set, in the module itself; 11 examples by 4: batches of 4, 4 and 3."""

    def absolute(logits: Tensor, targets: Tensor) -> Tensor:
        return (logits - targets).abs().sum(1) + logits.square().mean(1)

    module, (inputs, classes) = network().eval(), data()
    real = torch.randn(N, C, dtype=torch.float64)
    targets = classes if criterion == "cross_entropy" else real
    losses: dict[str, Callable[[Tensor], Tensor]] = {
        "cross_entropy": lambda logits: F.cross_entropy(logits, classes),
        "mse": lambda logits: F.mse_loss(logits, real),
        "absolute": lambda logits: absolute(logits, real).mean(),
    }
    whole = losses[criterion](module(inputs))
    names = [name for name, _ in module.named_parameters()]
    expected = dict(zip(names, torch.autograd.grad(whole, list(module.parameters())), strict=True))
    for batch_size in (1, 3, 4, 10, 11, 12):
        given = absolute if criterion == "absolute" else criterion
        subject = Subject.from_module(module, inputs, targets, loss=given, batch_size=batch_size)
        torch.testing.assert_close(subject.loss(subject.params), whole.detach(), rtol=1e-12, atol=0)
        gradients = torch.func.grad(subject.loss)(subject.params)
        assert gradients.keys() == expected.keys()
        for name, value in expected.items():
            torch.testing.assert_close(gradients[name], value, rtol=1e-12, atol=1e-14)


def test_batches_go_through_all_examples_once_and_in_order() -> None:
    subject = ragged()
    batches = list(subject.batches)
    assert [len(inputs) for inputs, _ in batches] == [4, 4, 3]
    assert torch.equal(torch.cat([inputs for inputs, _ in batches]), subject.inputs)
    assert torch.equal(torch.cat([targets for _, targets in batches]), subject.targets)
    counted = subject.mean(lambda inputs, _: torch.tensor(float(len(inputs))))
    assert float(counted) == pytest.approx((4 * 4 + 4 * 4 + 3 * 3) / 11)  # each batch by its size


def test_a_mean_of_a_tree_is_a_tree() -> None:
    subject = ragged()

    def both(inputs: Tensor, targets: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
        return {"a": (inputs.mean(0), targets.double().mean())}

    one, other = subject.mean(both)["a"]
    torch.testing.assert_close(one, subject.inputs.mean(0), rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(other, subject.targets.double().mean(), rtol=1e-12, atol=0)


@pytest.mark.parametrize("times", [2, 5])
@pytest.mark.parametrize("batch_size", [3, 11, None])
def test_duplicated_examples_change_nothing(times: int, batch_size: int | None) -> None:
    once = ragged(batch_size=batch_size)
    inputs, targets = data()
    many = Subject.from_module(network(), inputs.repeat(times, 1), targets.repeat(times), batch_size=batch_size)
    torch.testing.assert_close(many.loss(many.params), once.loss(once.params), rtol=1e-12, atol=0)
    for name, value in torch.func.grad(once.loss)(once.params).items():
        torch.testing.assert_close(torch.func.grad(many.loss)(many.params)[name], value, rtol=1e-11, atol=1e-14)


class Raises(nn.Module):
    def forward(self, inputs: Tensor) -> Tensor:
        if len(inputs) > 1:
            raise KeyError("in the middle")
        return inputs


def test_the_module_stays_as_it_was_when_the_network_raises_in_the_middle() -> None:
    module = nn.Sequential(network(), Raises()).train()
    module[0][1].eval()
    called: list[object] = []
    hook = module[0].register_forward_hook(lambda *given: called.append(given))
    modes = [part.training for part in module.modules()]
    subject = Subject.from_module(module, *data(), batch_size=1)
    state = {key: value.clone() for key, value in module.state_dict().items()}
    versions = [value._version for value in (*module.parameters(), *module.buffers())]
    with pytest.raises(KeyError, match="in the middle"):
        subject.apply(subject.params, subject.inputs)
    with pytest.raises(KeyError, match="in the middle"):
        torch.func.grad(lambda params: subject.apply(params, subject.inputs).sum())(subject.params)
    assert [part.training for part in module.modules()] == modes
    assert all(torch.equal(value, state[key]) for key, value in module.state_dict().items())
    assert [value._version for value in (*module.parameters(), *module.buffers())] == versions
    assert len(module[0]._forward_hooks) == 1
    assert called
    hook.remove()
    assert all(value.grad is None and value.requires_grad for value in module.parameters())


def test_training_the_module_afterwards_does_not_change_the_subject() -> None:
    module, (inputs, targets) = network(), data()
    subject = Subject.from_module(module, inputs, targets, batch_size=4)
    before = float(subject.loss(subject.params))
    optimizer = torch.optim.SGD(module.train().parameters(), lr=1.0, momentum=0.9)
    for _ in range(3):
        optimizer.zero_grad()
        F.cross_entropy(module(inputs), targets).backward()
        optimizer.step()
    assert float(subject.loss(subject.params)) == before
    later = Subject.from_module(module, inputs, targets, batch_size=4)
    assert float(later.loss(later.params)) != before


def test_initial_weights_are_copies_too() -> None:
    module = network()
    subject = Subject.from_module(module, *data(), initial=dict(module.named_parameters()), train_size=77)
    first = module[0].weight.detach().clone()
    with torch.no_grad():
        module[0].weight.zero_()
    assert subject.initial is not None
    assert torch.equal(subject.initial["0.weight"], first)
    assert not subject.initial["0.weight"].requires_grad
    assert subject.train_size == 77
    single = subject.to(dtype=torch.float32)
    assert single.initial is not None
    assert single.initial["0.weight"].dtype == torch.float32


def test_what_is_left_out_keeps_its_value() -> None:
    module, (inputs, targets) = network(), data()
    chosen = Subject.from_module(module, inputs, targets, parameters=["4.weight", "0.bias"])
    assert list(chosen.params) == ["0.bias", "4.weight"]  # in the order of the network
    assert set(chosen.params) | set(chosen.constants) == set(module.state_dict())
    assert not set(chosen.params) & set(chosen.constants)
    whole = Subject.from_module(module, inputs, targets)
    assert float(chosen.loss(chosen.params)) == float(whole.loss(whole.params))
    assert chosen.size == 5 + 20
    assert chosen.frozen == ()


def test_other_weights_are_detached() -> None:
    subject = ragged()
    doubled = {key: (2 * value).requires_grad_() for key, value in subject.params.items()}
    other = subject.with_params(doubled)
    assert not any(value.requires_grad for value in other.params.values())
    assert float(other.loss(other.params)) == float(subject.loss(doubled).detach())
    assert float(other.loss(other.params)) != float(subject.loss(subject.params))
    assert other.inputs is subject.inputs


def test_what_raises_once_is_not_shared() -> None:
    subject = ragged()
    calls: list[int] = []

    def fails_first(given: Subject) -> str:
        calls.append(1)
        if len(calls) == 1:
            raise RuntimeError("the first time")
        return "value"

    with pytest.raises(RuntimeError, match="the first time"):
        subject.once(fails_first)
    assert [subject.once(fails_first), subject.once(fails_first)] == ["value", "value"]
    assert len(calls) == 2


def test_doubles_of_single_weights_give_the_loss_of_the_module_in_double() -> None:
    module, (inputs, targets) = network().float(), data()
    single = Subject.from_module(module, inputs.float(), targets)
    double = single.to(dtype=torch.float64)
    expected = F.cross_entropy(module.double().eval()(inputs.float().double()), targets)
    torch.testing.assert_close(double.loss(double.params), expected.detach(), rtol=1e-13, atol=0)
    assert {value.dtype for value in double.constants.values() if value.is_floating_point()} == {torch.float64}
    assert double.constants["1.num_batches_tracked"].dtype == torch.int64
    assert single.params["0.weight"].dtype == torch.float32


def test_batches_are_chosen_by_what_one_example_keeps() -> None:
    """A hidden layer of 2^16 doubles keeps at least 2^19 bytes for its ReLU: at most 128 such examples in 64 MiB."""
    wide = nn.Sequential(nn.Linear(2, 2**16), nn.ReLU(), nn.Linear(2**16, 2)).double()
    subject = Subject.from_module(wide, torch.zeros(1000, 2, dtype=torch.float64), torch.zeros(1000).long())
    assert subject.batch_size in (16, 32, 64, 128)
    small, inputs, targets = nn.Linear(2, 2).double(), torch.zeros(7, 2, dtype=torch.float64), torch.zeros(7).long()
    assert Subject.from_module(small, inputs, targets).batch_size == 7
    assert Subject.from_module(small, inputs, targets, batch_size=100).batch_size == 100


@pytest.mark.parametrize("kind", ["uint8", "int8", "int16", "int32", "int64"])
def test_class_indices_may_be_any_integer(kind: str) -> None:
    inputs, targets = data()
    subject = Subject.from_module(network(), inputs, targets.to(getattr(torch, kind)), batch_size=4)
    assert float(subject.loss(subject.params)) == float(ragged().loss(ragged().params))


def test_a_loader_gives_the_same_subject_as_its_tensors() -> None:
    module = nn.Linear(4, 3)
    inputs, targets = torch.randn(10, 4), torch.randint(3, (10,))
    loader = DataLoader(TensorDataset(inputs, targets), batch_size=4)
    whole, some = Subject.from_loader(module, loader), Subject.from_loader(module, loader, limit=5)
    assert torch.equal(whole.inputs, inputs)
    assert torch.equal(whole.targets, targets)
    assert torch.equal(some.inputs, inputs[:5])
    assert torch.equal(some.targets, targets[:5])


@pytest.mark.parametrize(
    ("loader", "options", "line"),
    [
        ([], {}, "the loader gives no batch"),
        ([(torch.zeros(2, 4),)], {}, r"the loader gives a tuple; expected pairs \(inputs \[B, ...\]"),
        ([(torch.zeros(2, 4), [0, 1])], {}, "the loader's targets are a list; expected a tensor"),
        ([(torch.zeros(2, 4), torch.tensor(1))], {}, r"holds 2 inputs and targets of shape \[\]"),
        ([3, 4], {}, "the loader gives a int; expected"),
        (
            [(torch.zeros(2, 4), torch.zeros(2)), (torch.zeros(2, 5), torch.zeros(2))],
            {},
            "examples of different shapes",
        ),
        (3, {}, "the loader is a int; expected an iterable of batches"),
        ((torch.zeros(2, 4), torch.zeros(2)), {}, "the loader is one batch; give it to Subject.from_module"),
        (
            TensorDataset(torch.zeros(2, 4)),
            {},
            r"is a dataset \(TensorDataset\), which gives single examples; give torch",
        ),
        ([(torch.zeros(2, 4), torch.zeros(2))], {"limit": 2.5}, "limit=2.5 must be an integer"),
        ([(torch.zeros(2, 4), torch.zeros(2))], {"batch_size": 2.5}, "batch_size=2.5 must be an integer"),
        ([(torch.zeros(2, 4), torch.zeros(2))], {"weight_decay": "1"}, "weight_decay='1' must be a number"),
        ([(torch.zeros(2, 4), torch.zeros(2))], {"limit": 0}, "limit=0 must be an integer of at least 1"),
    ],
)
def test_loaders_of_another_form_are_refused(loader: Any, options: dict[str, Any], line: str) -> None:
    with pytest.raises(InvalidInput, match=line):
        Subject.from_loader(nn.Linear(4, 3), loader, **options)
