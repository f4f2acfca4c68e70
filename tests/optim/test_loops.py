"""Training loops as users write them: accumulation, autocast, GradScaler, running statistics, states, errors."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sharpbench.errors import InvalidInput
from sharpbench.optim import ASAM, GSAM, MSAM, SAM, FriendlySAM, SAMPa, SharpnessAware

BATCH = 16
Make = Callable[[nn.Module], SharpnessAware]


def network(dtype: torch.dtype = torch.float32) -> nn.Module:
    """A convolution with batch norm, on images of 8 x 8."""
    torch.manual_seed(0)
    layers = nn.Conv2d(1, 4, 3, 2), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(36, 5)
    return nn.Sequential(*layers).to(dtype)


def batches(count: int, dtype: torch.dtype = torch.float32) -> Iterator[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    for _ in range(count):
        images = torch.randn(BATCH, 1, 8, 8, generator=generator, dtype=torch.float64)
        yield images.to(dtype), torch.randint(5, (BATCH,), generator=generator)


def sgd(model: nn.Module, **options: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-3, **options)


MAKERS: dict[str, Make] = {
    "SAM": lambda model: SAM(sgd(model), model),
    "ASAM": lambda model: ASAM(sgd(model), model),
    "MSAM": lambda model: MSAM(sgd(model), model),
    "FriendlySAM": lambda model: FriendlySAM(sgd(model), model),
    "GSAM": lambda model: GSAM(sgd(model), model),
    "SAMPa": lambda model: SAMPa(sgd(model), model),
}
every = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)


def closure_of(
    model: nn.Module, batch: tuple[Tensor, Tensor], scale: Callable[[Tensor], Tensor] = lambda loss: loss
) -> Any:
    def closure() -> Tensor:
        loss = F.cross_entropy(model(batch[0]), batch[1])
        scale(loss).backward()
        return loss.detach()

    return closure


def train(optimizer: SharpnessAware, model: nn.Module, count: int = 3) -> None:
    dtype = next(model.parameters()).dtype
    for batch in batches(count, dtype):
        optimizer.step(closure_of(model, batch))


def weights(model: nn.Module) -> list[Tensor]:
    return [value.detach().clone() for value in model.parameters()]


def tensors_of(optimizer: SharpnessAware) -> list[Any]:
    state = optimizer.state_dict()
    return [state["state"], state["base"]["state"]]


def assert_equal(one: Any, other: Any) -> None:
    torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True)


def relative_distance(one: nn.Module, other: nn.Module) -> float:
    pairs = list(zip(weights(one), weights(other), strict=True))
    start = weights(network(pairs[0][0].dtype))
    moved = sum((b - c).square().sum() for (_, b), c in zip(pairs, start, strict=True))
    return float((sum((a - b).square().sum() for a, b in pairs) / moved).sqrt())


@every
def test_running_statistics_are_those_of_the_clean_pass(make: Make) -> None:
    model, (batch,) = network(), batches(1)
    expected = network()
    expected(batch[0])
    make(model).step(closure_of(model, batch))
    assert_equal(dict(model.named_buffers()), dict(expected.named_buffers()))
    assert int(model[1].num_batches_tracked) == 1


@every
def test_an_exception_in_a_closure_leaves_the_network_as_it_was(make: Make) -> None:
    model, other = network(), network()
    optimizer, undisturbed = make(model), make(other)
    train(optimizer, model, 2)
    train(undisturbed, other, 2)
    (batch,) = batches(1)
    before, calls = weights(model), []

    def closure() -> None:
        closure_of(model, batch)()
        calls.append(1)
        if len(calls) == 2:
            assert any(not torch.equal(a, b) for a, b in zip(before, weights(model), strict=True))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        optimizer.step(closure)
    assert_equal(weights(model), before)
    assert int(model[1].num_batches_tracked) == 3  # of the clean pass only
    for pair in zip(batches(2), batches(2), strict=True):  # goes on as if nothing had been
        optimizer.step(closure_of(model, pair[0]))
        undisturbed.step(closure_of(other, pair[1]))
    assert_equal(weights(model), weights(other))


@every
def test_a_state_that_is_loaded_goes_on_bit_by_bit(make: Make) -> None:
    model = network()
    optimizer = make(model)
    train(optimizer, model)
    again = copy.deepcopy(model)
    loaded = make(again)
    loaded.load_state_dict(pickle.loads(pickle.dumps(optimizer.state_dict())))
    assert loaded.param_groups is loaded.base.param_groups
    train(optimizer, model)
    train(loaded, again)
    assert_equal(model.state_dict(), again.state_dict())
    assert_equal(tensors_of(optimizer), tensors_of(loaded))


@every
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair))])
def test_copies_of_network_and_optimiser_belong_together(make: Make, copied: Callable[[Any], Any]) -> None:
    model = network()
    optimizer = make(model)
    train(optimizer, model)
    other, its = copied((model, optimizer))
    train(its, other)
    train(optimizer, model)
    assert_equal(model.state_dict(), other.state_dict())


def accumulated(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Callable[[], Tensor]:
    """The passes of one batch in four micro-batches."""

    def closure() -> Tensor:
        losses = []
        for images, labels in zip(batch[0].chunk(4), batch[1].chunk(4), strict=True):
            loss = F.cross_entropy(model(images), labels) / 4
            loss.backward()
            losses.append(loss.detach())
        return torch.stack(losses).sum()

    return closure


def without_norm(dtype: torch.dtype) -> nn.Module:
    """Batch norm sees micro-batches, so accumulation is not the same with it."""
    model = network(dtype)
    model[1] = nn.Identity()
    return model


@pytest.mark.parametrize("name", [name for name in MAKERS if name != "MSAM"])
def test_accumulation_gives_the_weights_of_the_plain_loop(name: str) -> None:
    plain, model = without_norm(torch.float64), without_norm(torch.float64)
    one, other = MAKERS[name](plain), MAKERS[name](model)
    for batch in batches(5, torch.float64):
        one.step(closure_of(plain, batch))
        other.step(accumulated(model, batch))
    torch.testing.assert_close(weights(model), weights(plain), rtol=1e-11, atol=1e-12)


@every
def test_autocast_follows_the_plain_loop(make: Make) -> None:
    """The rounding of bfloat16 moves the weights by a small part of their way, 5 percent here."""
    plain, model, around = network(), network(), network()
    train(make(plain), plain, 8)
    optimizer, outer = make(model), make(around)
    for batch in batches(8):

        def closure(batch: tuple[Tensor, Tensor] = batch) -> Tensor:
            with torch.autocast("cpu", torch.bfloat16):
                loss = F.cross_entropy(model(batch[0]), batch[1])
            loss.backward()
            return loss

        optimizer.step(closure)
    assert 0 < relative_distance(model, plain) < 0.05
    with torch.autocast("cpu", torch.bfloat16):  # it keeps casts of the weights, which a step must clear
        for batch in batches(8):
            outer.step(closure_of(around, batch))
    assert_equal(weights(around), weights(model))


def scaled_loop(optimizer: SharpnessAware, model: nn.Module, style: str, poison: dict[int, int]) -> float:
    """The last scale after four steps with GradScaler.

    poison: for a step, the pass (0 or 1) whose loss is infinite.
    """
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    for number, batch in enumerate(batches(4, torch.float64)):
        calls = [0]

        def scale(loss: Tensor, number: int = number, calls: list[int] = calls) -> Tensor:
            infinite = poison.get(number) == calls[0]
            calls[0] += 1
            scaled: Tensor = scaler.scale(loss) * (float("inf") if infinite else 1)
            return scaled

        closure = closure_of(model, batch, scale)
        if style == "closure":
            optimizer.step(closure, scaler=scaler)
        else:
            if isinstance(optimizer, SAMPa):
                optimizer.lookahead()
            closure()
            optimizer.first_step(scaler=scaler)
            closure()
            if isinstance(optimizer, GSAM | MSAM):
                optimizer.restore()
            if style == "unscaled" and not isinstance(optimizer, SAMPa):
                scaler.unscale_(optimizer)
                nn.utils.clip_grad_norm_(model.parameters(), 1e9)
            scaler.step(optimizer)
            optimizer.zero_grad()
        scaler.update()
    return scaler.get_scale()


@every
@pytest.mark.parametrize("style", ["closure", "two steps", "unscaled"])
def test_a_scaler_gives_the_same_weights(make: Make, style: str) -> None:
    plain, model = network(torch.float64), network(torch.float64)
    train(make(plain), plain, 4)
    assert scaled_loop(make(model), model, style, {}) == 2.0**10
    torch.testing.assert_close(weights(model), weights(plain), rtol=1e-12, atol=1e-13)


@every
@pytest.mark.parametrize("style", ["closure", "two steps"])
@pytest.mark.parametrize("which", [0, 1])
def test_a_step_that_the_scaler_skips_leaves_no_trace(make: Make, style: str, which: int) -> None:
    plain, model = network(torch.float64), network(torch.float64)
    one, other = make(plain), make(model)
    for number, batch in enumerate(batches(4, torch.float64)):
        if number != 2:
            one.step(closure_of(plain, batch))
    assert scaled_loop(other, model, style, {2: which}) == 2.0**9
    torch.testing.assert_close(weights(model), weights(plain), rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(tensors_of(other), tensors_of(one), rtol=1e-12, atol=1e-13)


@every
def test_no_gradient_of_zeros_moves_or_breaks_anything(make: Make) -> None:
    model = nn.Linear(3, 2)
    optimizer, before = make(model), weights(model)
    for group in optimizer.param_groups:
        group["weight_decay"] = 0.0

    def closure() -> None:
        (model(torch.ones(4, 3)).sum() * 0).backward()

    for _ in range(3):
        assert optimizer.step(closure) is None
    assert_equal(weights(model), before)


@every
def test_parameters_without_gradients_and_sparse_gradients(make: Make) -> None:
    """Frozen parameters stay, unused ones have no part in the norm; a sparse gradient is that of its dense form."""

    class Words(nn.Module):
        def __init__(self, sparse: bool) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.embedding = nn.Embedding(9, 4, sparse=sparse)
            self.head, self.frozen, self.unused = nn.Linear(4, 3), nn.Linear(3, 3), nn.Linear(3, 3)
            self.frozen.requires_grad_(False)

        def forward(self, ids: Tensor) -> Tensor:
            out: Tensor = self.frozen(self.head(self.embedding(ids).mean(1)))
            return out

    ids, labels = torch.randint(9, (8, 5), generator=torch.Generator().manual_seed(2)), torch.arange(8) % 3
    found = []
    for sparse in (False, True):
        model = Words(sparse)
        optimizer = make(model)
        for group in optimizer.param_groups:
            group["weight_decay"] = 0.0  # refused by torch.optim.SGD for sparse gradients
        kept = weights(model.frozen) + weights(model.unused)
        for _ in range(3):
            optimizer.step(closure_of(model, (ids, labels)))
        assert_equal(weights(model.frozen) + weights(model.unused), kept)
        found.append(weights(model))
    torch.testing.assert_close(found[0], found[1])


def test_nan_without_a_scaler_is_the_base_optimisers_nan_and_buffers_come_back() -> None:
    model = nn.Linear(2, 1)
    SAM(sgd(model), model).step(lambda: (model(torch.ones(1, 2)) * float("nan")).sum().backward())
    assert all(bool(value.isnan().any()) for value in weights(model))


def test_gradients_are_clipped_between_the_steps() -> None:
    """As clip_grad_norm_ on the gradient of the step, which restore() leaves."""
    for make in MAKERS.values():
        model, (batch,) = network(), batches(1)
        optimizer = make(model)
        if isinstance(optimizer, SAMPa):
            continue  # its step is taken by first_step()
        closure, before = closure_of(model, batch), weights(model)
        closure()
        optimizer.first_step()
        closure()
        optimizer.restore()
        assert_equal(weights(model), before)
        norm = nn.utils.clip_grad_norm_(model.parameters(), 1e-3)
        assert norm > 1e-3
        for group in optimizer.param_groups:
            group["weight_decay"] = 0.0
        optimizer.step()
        moved = sum((a - b).square().sum() for a, b in zip(weights(model), before, strict=True)) ** 0.5
        assert float(moved) == pytest.approx(0.1 * 1e-3, rel=1e-3)


def unfinished(make: Make = MAKERS["SAM"]) -> tuple[SharpnessAware, nn.Module, Any]:
    """At the end of an ascent."""
    model, (batch,) = network(), batches(1)
    optimizer, closure = make(model), closure_of(model, batch)
    closure()
    optimizer.first_step()
    return optimizer, model, closure


def test_errors_are_one_line_and_leave_the_weights() -> None:
    scaler = torch.amp.GradScaler("cpu")
    for wrong, reason in [
        (lambda optimizer: optimizer.first_step(), "SAM: first_step.. was called twice; call second_step.. or restore"),
        (
            lambda optimizer: scaler.step(optimizer),
            "SAM: scaler.step.optimizer. needs first_step.scaler=scaler. before",
        ),
    ]:
        optimizer, model, closure = unfinished()
        closure()
        scaler.scale(torch.ones(()))  # which initialises it
        with pytest.raises(InvalidInput, match=reason):
            wrong(optimizer)
        assert_equal(weights(model), weights(network()))
    optimizer, _, _ = unfinished()
    with pytest.raises(InvalidInput, match=r"SAM: state_dict\(\) within a step; call step\(\) or restore\(\) before"):
        optimizer.state_dict()
    with pytest.raises(InvalidInput, match=r"SAM: it is copied within a step"):
        copy.deepcopy(optimizer)


def test_calls_out_of_turn_are_refused_in_one_line() -> None:
    model = network()
    for name, make in MAKERS.items():
        with pytest.raises(
            InvalidInput, match=rf"^{name}.step\(\) needs a closure, or backward\(\) and first_step\(\)"
        ):
            make(model).step()
    with pytest.raises(
        InvalidInput, match=r"^SAM: no parameter has a gradient; call backward\(\) before first_step\(\)"
    ):
        MAKERS["SAM"](network()).first_step()
    with pytest.raises(InvalidInput, match=r"^SAMPa: call lookahead\(\) before backward\(\) and first_step\(\)"):
        MAKERS["SAMPa"](model).first_step()
    with pytest.raises(InvalidInput, match=r"^MSAM: accumulate\(\) needs backward\(\) and first_step\(\) before it"):
        MSAM(sgd(model), model).accumulate()
    with pytest.raises(
        InvalidInput, match=r"^SAM: the state has no key 'base'; load the state of another optimiser by"
    ):
        MAKERS["SAM"](model).load_state_dict(sgd(model).state_dict())


def test_calls_of_a_scaler_out_of_turn_are_refused_in_one_line() -> None:
    def begin(name: str, *, unscaled: bool = False) -> tuple[SharpnessAware, Any, torch.amp.GradScaler]:
        model, (batch,) = network(), batches(1)
        scaler, optimizer = torch.amp.GradScaler("cpu"), MAKERS[name](model)
        closure = closure_of(model, batch, scaler.scale)
        closure()
        if unscaled:
            scaler.unscale_(optimizer)
        optimizer.first_step(scaler=scaler)
        closure()
        return optimizer, closure, scaler

    with pytest.raises(
        InvalidInput, match=r"^SAM: scaler.unscale_\(\) was called before first_step\(\); remove the call"
    ):
        begin("SAM", unscaled=True)
    with pytest.raises(
        InvalidInput, match=r"^SAM: first_step\(\) had a scaler; call scaler.step\(optimizer\) in place"
    ):
        begin("SAM")[0].step()
    optimizer, closure, scaler = begin("GSAM")
    scaler.unscale_(optimizer)
    with pytest.raises(InvalidInput, match=r"^GSAM: call restore\(\) before scaler.unscale_\(optimizer\)"):
        scaler.step(optimizer)
    optimizer, closure, scaler = begin("MSAM")
    optimizer.accumulate()  # type: ignore[attr-defined]
    closure()
    with pytest.raises(InvalidInput, match=r"^MSAM: call restore\(\) before scaler.step\(optimizer\)"):
        scaler.step(optimizer)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda m: SAM(sgd(m), m, rho=-1.0), "SAM: rho=-1.0 must be a number, at least 0 and finite"),
        (lambda m: SAM(sgd(m), m, rho=float("nan")), "SAM: rho=nan must be a number, at least 0 and finite"),
        (lambda m: ASAM(sgd(m), m, eta="x"), "ASAM: eta='x' must be a number, at least 0 and finite"),
        (lambda m: ASAM(sgd(m), m, layers="some"), "ASAM: layers='some' is none of authors, matrices, all"),
        (lambda m: ASAM(sgd(m), None), "ASAM: layers=authors decides by the names of parameters, and one of a group"),
        (
            lambda m: FriendlySAM(sgd(m), m, smoothing=1.0),
            "FriendlySAM: smoothing=1.0 must be a number, from 0 to below 1",
        ),
        (lambda m: SAMPa(sgd(m), m, weight=1.5), "SAMPa: weight=1.5 must be a number, from 0 to 1"),
        (lambda m: GSAM(sgd(m), m, gsam_alpha=-0.1), "GSAM: gsam_alpha=-0.1 must be a number, at least 0 and finite"),
        (
            lambda m: SAM(torch.optim.LBFGS(m.parameters()), m),
            "base=LBFGS calls its closure itself, several times a step",
        ),
        (lambda m: SAM(sgd(m, maximize=True), m), "SAM: the ascent is of a loss; negate the loss in place of maximize"),
        (lambda m: SAM(torch.optim.Adadelta(m.parameters()), m), "base=Adadelta has an option 'rho' already"),
        (lambda m: SAM(SAM(sgd(m), m), m), "base=SAM must be an optimiser without an ascent"),
        (
            lambda m: SAM(torch.optim.SGD([{"params": m.parameters(), "rho": -2.0}], lr=0.1), m),
            "SAM: rho=-2.0 must be a number, at least 0 and finite",
        ),
    ],
)
def test_options_out_of_their_bounds_are_refused_in_one_line(make: Make, reason: str) -> None:
    with pytest.raises(InvalidInput, match=f"^{reason}"):
        make(network())


@every
def test_groups_that_are_added_and_schedules_reach_the_base_optimiser(make: Make) -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    optimizer = make(model)
    base = optimizer.base
    del base.param_groups[0]["params"][2:]
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=4)
    closure, before = closure_of(model, (torch.randn(6, 3), torch.arange(6) % 2)), weights(model[2])
    optimizer.step(closure)
    schedule.step()
    assert_equal(weights(model[2]), before)
    with pytest.raises(InvalidInput, match="rho=-1 must be a number"):
        optimizer.add_param_group({"params": model[2].parameters(), "rho": -1})
    assert len(base.param_groups) == 1
    optimizer.add_param_group({"params": model[2].parameters(), "rho": 0.3, "lr": 0.1})
    for _ in range(2):
        optimizer.step(closure)
    assert all(not torch.equal(one, other) for one, other in zip(weights(model[2]), before, strict=True))
    assert optimizer.param_groups is base.param_groups
    assert base.param_groups[0]["lr"] == schedule.get_last_lr()[0]


@every
def test_complex_parameters_are_pairs_of_real_numbers(make: Make) -> None:
    start = torch.randn(4, 2, 2, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    pairs, numbers = nn.Module(), nn.Module()
    pairs.weight, numbers.weight = nn.Parameter(start.clone()), nn.Parameter(torch.view_as_complex(start.clone()))
    one, other = make(pairs), make(numbers)
    for _ in range(3):
        one.step(lambda: (torch.view_as_complex(pairs.weight).abs() - 1).pow(4).sum().backward())
        other.step(lambda: (numbers.weight.abs() - 1).pow(4).sum().backward())
    torch.testing.assert_close(torch.view_as_real(numbers.weight), pairs.weight, rtol=1e-12, atol=1e-12)
