"""Each library, called through its adapter, says what its definition says, and leaves nothing behind."""

from __future__ import annotations

import copy
import math
import random
import sys
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from sharpbench_peers import MEASURES, AsdlTrace, BackpackTrace, CurvlinopsTrace, PyHessianTrace
from sharpbench_peers.curvlinops import LIBRARY, _activation_bytes, _fitting_batches
from sharpbench_peers.handover import _prepared, handover
from sharpbench_peers.library import Library
from torch import Tensor, nn

from benchmarks.layers import network
from sharpbench import InvalidInput, Measure, NotApplicable, Subject
from sharpbench.core.spec import format_spec
from sharpbench.curvature import dense_ggn, reference_diagonal
from tests.peers.conftest import OFFERED, peer, seeded, subject

EXACT = ("paper-trace", "backpack-trace", "backpack-trace[matrix=gauss-newton]", "nngeometry-trace", "asdl-trace")
SAMPLED = (
    "curvlinops-trace[samples=10]",
    "curvlinops-trace[method=hutchpp,samples=9]",
    "curvlinops-trace[method=xtrace,samples=10]",
    "curvlinops-trace[matrix=gauss-newton,samples=10]",
    "eigenthings-trace[samples=10]",
    "eigenthings-trace[matrix=gauss-newton,method=hutchpp,samples=9]",
    "pyhessian-trace[samples=10,tolerance=0]",
    "backpack-trace[matrix=gauss-newton,method=monte-carlo,samples=3]",
    "asdl-trace[method=monte-carlo]",
)
EIGENVALUES = {
    "curvlinops-top-eigenvalue": 1e-9,
    "curvlinops-top-eigenvalue[matrix=gauss-newton]": 1e-9,
    "eigenthings-top-eigenvalue": 1e-6,
    "eigenthings-top-eigenvalue[method=power,steps=300]": 1e-4,
    "pyhessian-top-eigenvalue": 2e-2,
}
ALL = (*EXACT, *SAMPLED, *EIGENVALUES)
EACH = tuple({words.partition("[")[0]: words for words in reversed(ALL)}.values())
"""One of each measure, the first in ALL."""


@pytest.mark.parametrize("batch_size", [9, 4])
@pytest.mark.parametrize("kind", ["chain", "functional"])
@pytest.mark.parametrize("words", EXACT)
def test_what_claims_to_be_exact_is_our_reference(words: str, kind: str, batch_size: int) -> None:
    """Ragged batches included: they count by their size."""
    measure, on = peer(words), subject(kind, batch_size=batch_size)
    found, truth = measure(on, generator=seeded()), measure.exact(on)
    assert found.stderr == 0.0
    assert found.probes == 0
    assert truth is not None
    assert math.isclose(found.value, truth, rel_tol=1e-10)


@pytest.mark.parametrize("words", EXACT[1:])
def test_under_mean_squared_error_too(words: str) -> None:
    measure, on = peer(words), subject("chain", "mse")
    assert math.isclose(measure(on, generator=seeded()).value, measure.exact(on) or 0.0, rel_tol=1e-10)


@pytest.mark.parametrize("words", EXACT)
def test_in_float32_to_its_digits(words: str) -> None:
    measure, on = peer(words), subject("functional")
    found = measure(on.to(dtype=torch.float32), generator=seeded())
    assert math.isclose(found.value, measure.exact(on) or 0.0, rel_tol=1e-4)


@pytest.mark.parametrize(
    "words", ["paper-trace", "nngeometry-trace", "asdl-trace", "backpack-trace[matrix=gauss-newton]"]
)
def test_what_is_no_hessian_on_smooth_networks_is_the_gauss_newton_matrix(words: str) -> None:
    on = subject("smooth")
    found = peer(words)(on, generator=seeded()).value
    assert math.isclose(found, float(dense_ggn(on).trace()), rel_tol=1e-10)
    assert not math.isclose(found, sum(float(each.sum()) for each in reference_diagonal(on).values()), rel_tol=1e-2)


@pytest.mark.parametrize("words", SAMPLED)
def test_what_draws_is_right_in_the_mean(words: str) -> None:
    """Within 5 standard errors over 8 seeds, on batches of one size."""
    measure, on = peer(words), subject("chain", batch_size=3)
    drawn = [measure(on, generator=seeded(seed)) for seed in range(8)]
    values = np.array([each.value for each in drawn])
    assert values.std() > 0
    assert abs(values.mean() - (measure.exact(on) or 0.0)) < 5 * values.std(ddof=1) / len(values) ** 0.5
    assert all(each.stderr is None and each.probes > 0 for each in drawn)
    assert measure(on, generator=seeded()).value == drawn[0].value


@pytest.mark.parametrize("words", EIGENVALUES)
def test_eigenvalues(words: str) -> None:
    measure, on = peer(words), subject("functional", batch_size=3)
    assert math.isclose(measure(on, generator=seeded()).value, measure.exact(on) or 0.0, rel_tol=EIGENVALUES[words])


def test_a_power_iteration_is_asked_for_the_largest_modulus() -> None:
    """Where that is negative, so is the truth."""
    measure, on = peer("eigenthings-top-eigenvalue[method=power,steps=2000]"), subject("chain", "mse", batch_size=9)
    far = replace(on, targets=on.targets * 50)  # so far off that the Hessian's second part rules
    truth = measure.exact(far)
    assert truth is not None
    assert abs(truth) >= (OFFERED["eigenthings-top-eigenvalue"]().exact(far) or 0.0)
    assert math.isclose(measure(far, generator=seeded()).value, truth, rel_tol=1e-3)


DIAGONALS = {
    "backpack-trace": "hessian",
    "backpack-trace[matrix=gauss-newton]": "gauss-newton",
    "nngeometry-trace": "gauss-newton",
    "asdl-trace": "gauss-newton",
}


@pytest.mark.parametrize("words", DIAGONALS)
def test_diagonals_are_by_parameter(words: str) -> None:
    on = subject("functional")
    found = peer(words).diagonal_entries(on, generator=seeded())
    truth = reference_diagonal(on)
    if DIAGONALS[words] == "gauss-newton":
        pieces = dense_ggn(on).diagonal().split([value.numel() for value in on.params.values()])
        truth = {name: piece.reshape(on.params[name].shape) for name, piece in zip(on.params, pieces, strict=True)}
    assert list(found) == list(on.params)
    for name, value in truth.items():
        torch.testing.assert_close(found[name], value, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("method", ["hutchinson", "xtrace"])
def test_estimates_of_a_diagonal(method: str) -> None:
    """The mean over seeds comes nearer to the truth, and the parts are the subject's."""
    measure, on = peer(f"curvlinops-trace[method={method},samples=20]"), subject("chain")
    drawn = [measure.diagonal_entries(on, generator=seeded(seed)) for seed in range(8)]
    truth = reference_diagonal(on)
    assert {name: value.shape for name, value in drawn[0].items()} == {k: v.shape for k, v in truth.items()}
    flat = torch.stack([torch.cat([each[name].flatten() for name in truth]) for each in drawn])
    true = torch.cat([value.flatten() for value in truth.values()])
    assert (flat.mean(0) - true).norm() < 0.5 * (flat[0] - true).norm()


def test_curvlinops_is_given_batches_that_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same examples in their order, and the same value; as they are where they fit."""
    measure, on = peer("curvlinops-trace[samples=10]"), subject("functional", batch_size=9)
    with handover(on, LIBRARY, generator=seeded()) as given:
        assert [len(x) for x, _ in _fitting_batches(given, 10)] == [9]
        monkeypatch.setattr("sharpbench_peers.curvlinops.MAX_ACTIVATION_BYTES", 20 * _activation_bytes(given))
        split = _fitting_batches(given, 10)
        assert [len(x) for x, _ in split] == [2, 2, 2, 2, 1]
        assert torch.equal(torch.cat([x for x, _ in split]), on.inputs)
    smaller = measure(on, generator=seeded()).value
    monkeypatch.undo()
    assert math.isclose(smaller, measure(on, generator=seeded()).value, rel_tol=1e-12)


def test_there_is_no_diagonal_by_hutchpp() -> None:
    with pytest.raises(NotApplicable, match="no diagonal by method=hutchpp"):
        peer("curvlinops-trace[method=hutchpp,samples=9]").diagonal_entries(subject("chain"), generator=seeded())


@pytest.fixture
def watched() -> Iterator[Subject]:
    """A subject in training mode with gradients and a hook, at other weights than its module; compared afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Dropout(0.5), nn.Linear(6, 4))
        inputs = torch.randn(9, 5)
    for value in module.parameters():
        value.grad = torch.ones_like(value)
    module[0].register_forward_hook(lambda *_: None)
    module.train()
    plain = Subject.from_module(module, inputs, torch.arange(9) % 4, batch_size=4).to(dtype=torch.float64)
    on = plain.with_params({name: value * 1.5 for name, value in plain.params.items()})
    held = [copy.deepcopy(module.state_dict()), {**on.params}, inputs.clone()]
    values = {name: value.clone() for name, value in on.params.items()}
    attributes = [set(vars(part)) for part in module.modules()]
    hooks = [(len(p._forward_hooks), len(p._backward_hooks), len(p._forward_pre_hooks)) for p in module.modules()]
    yield on
    assert all(part.training for part in module.modules())
    assert [set(vars(part)) for part in module.modules()] == attributes
    assert hooks == [
        (len(p._forward_hooks), len(p._backward_hooks), len(p._forward_pre_hooks)) for p in module.modules()
    ]
    for value in module.parameters():
        assert value.grad is not None
        assert bool((value.grad == 1).all())
        assert set(vars(value)) == set()
    for (name, now), before in zip(module.state_dict().items(), held[0].values(), strict=True):
        assert torch.equal(now, before), name
    assert all(torch.equal(on.params[name], value) and on.params[name].grad is None for name, value in values.items())
    assert torch.equal(on.inputs, held[2].double())
    assert not on.inputs.requires_grad


@pytest.mark.parametrize("words", ALL)
def test_nothing_is_left_behind(words: str, watched: Subject) -> None:
    """Module, gradients, hooks, modes, attributes, default type, generators; also where the library raises."""
    measure = peer(words)
    random.seed(7)
    np.random.seed(7)
    torch.manual_seed(7)
    states = random.getstate(), str(np.random.get_state()), torch.get_rng_state()
    truth = measure.exact(watched)
    found = measure(watched, generator=seeded()).value
    assert truth is not None
    assert abs(found - truth) < 2 * abs(truth)  # of the subject's weights, not the module's
    broken = replace(watched, inputs=watched.inputs[:, :3])
    with pytest.raises(NotApplicable, match="raises RuntimeError: mat1 and mat2 shapes cannot be multiplied"):
        measure(broken, generator=seeded())
    assert (random.getstate(), str(np.random.get_state())) == states[:2]
    assert torch.equal(torch.get_rng_state(), states[2])
    assert torch.get_default_dtype() == torch.float32
    assert torch.backends.mha.get_fastpath_enabled()
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("words", EXACT)
def test_a_second_call_says_the_same(words: str) -> None:
    measure, on = peer(words), subject("chain")
    assert measure(on, generator=seeded()).value == measure(on, generator=seeded(5)).value


@pytest.mark.parametrize("words", EACH)
def test_what_is_prepared_is_used_by_the_next_call_alone(
    words: str, watched: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure = peer(words)
    plain = measure(watched, generator=seeded())
    measure.prepare(watched)
    with monkeypatch.context() as patch:
        patch.setattr("sharpbench_peers.handover.copy", None)  # no other copy is made
        assert measure(watched, generator=seeded()) == plain
    assert measure(watched, generator=seeded()) == plain  # again of its own copy
    broken = replace(watched, inputs=watched.inputs[:, :3])
    measure.prepare(broken)
    with pytest.raises(NotApplicable, match="raises RuntimeError: mat1 and mat2 shapes cannot be multiplied"):
        measure(broken, generator=seeded())


def test_backpack_prepares_its_own_form_of_a_network() -> None:
    measure, on = peer("backpack-trace"), subject("functional")
    plain = measure(on, generator=seeded())
    assert plain.details["form"] == "modules in a row"
    measure.prepare(on)
    prepared = _prepared[on]
    assert len(prepared) == 3
    assert measure(on, generator=seeded()) == plain
    assert not prepared


def test_backpack_prepares_its_converters_form_where_there_is_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither it nor the attempt at the first form is made in the call, which is timed."""
    measure, on = peer("backpack-trace[matrix=gauss-newton]"), network("residual")
    plain = measure(on, generator=seeded())
    assert plain.details["form"] == "converter"
    measure.prepare(on)
    with monkeypatch.context() as patch:
        patch.setattr("sharpbench_peers.backpack._extend", None)
        patch.setattr("sharpbench_peers.backpack.to_sequential", None)
        assert measure(on, generator=seeded()) == plain
    assert not _prepared[on]


@pytest.mark.parametrize("words", ["asdl-trace", "backpack-trace"])
def test_an_error_of_the_adapter_is_not_said_to_be_the_librarys(words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It fails aloud, where what a library refuses is skipped."""
    measure, on = peer(words), subject("chain")
    monkeypatch.setattr(f"{type(measure).__module__}.fisher_to_ggn", None, raising=False)
    monkeypatch.setattr(f"{type(measure).__module__}.EXTENSIONS", {}, raising=False)
    with pytest.raises((TypeError, KeyError)):
        measure(on, generator=seeded())


@pytest.mark.parametrize("measure", [cls() for cls in MEASURES], ids=format_spec)
def test_an_unknown_loss_is_not_handed_over(measure: Measure) -> None:
    on = Subject.from_module(nn.Linear(2, 3), torch.ones(2, 2), torch.tensor([0, 1]), loss=_own)
    with pytest.raises(NotApplicable, match="cross entropy"):
        measure(on, generator=seeded())


def test_what_torch_raises_below_an_adapter_is_a_refusal() -> None:
    on, library = subject("chain"), Library("torch", "torch", "torch")
    with (
        pytest.raises(NotApplicable, match="torch raises RuntimeError: mat1 and mat2"),
        handover(on, library, generator=seeded()) as given,
    ):
        given.module(torch.ones(1, 2, dtype=torch.float64))


def _own(logits: Tensor, targets: Tensor) -> Tensor:
    return logits.square().sum(1)


@pytest.mark.parametrize("measure", [cls() for cls in MEASURES if cls.name != "paper-trace"], ids=format_spec)
def test_an_absent_library_is_skipped_with_the_pip_line(measure: Measure, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even what it needs besides is requested first."""
    for name in [*sys.modules]:
        if name.partition(".")[0] in (
            "backpack",
            "curvlinops",
            "hessian_eigenthings",
            "pyhessian",
            "nngeometry",
            "asdl",
        ):
            monkeypatch.delitem(sys.modules, name)
    for name in ("backpack", "curvlinops", "hessian_eigenthings", "pyhessian", "nngeometry", "asdl"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(NotApplicable, match=r"cannot be imported .*; pip install 'sharpbench\[peers\]'$"):
        measure(subject("chain"), generator=seeded())


def test_parameters_left_out_are_left_out() -> None:
    """By those that can: their values are only of the parameters under measurement."""
    whole = subject("chain")
    part = Subject.from_module(
        whole.module, whole.inputs, whole.targets, batch_size=4, parameters=["2.weight", "2.bias"]
    )
    for words in ("backpack-trace", "asdl-trace"):
        measure = peer(words)
        assert math.isclose(measure(part, generator=seeded()).value, measure.exact(part) or 0.0, rel_tol=1e-10)


@pytest.mark.parametrize("cls", MEASURES, ids=lambda cls: cls.name)
def test_each_contest_is_a_measure_in_its_own_words(cls: type[Measure]) -> None:
    """As `sharpbench compare` will name it, and all that a page shows is said."""
    for words in cls.contests:
        assert peer(f"{cls.name}[{words}]" if words else cls.name) is not None
    assert cls.quantity == ("top-eigenvalue" if "eigenvalue" in cls.name else "trace")
    for said in ("definition", "reduction", "included", "cost", "bibtex"):
        assert getattr(cls, said), said
    assert len(cls.contests) == len({peer(f"{cls.name}[{words}]" if words else cls.name) for words in cls.contests})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: CurvlinopsTrace(method="hutchpp"), "samples=100 is not a multiple of 3, as method=hutchpp needs"),
        (lambda: CurvlinopsTrace(method="xtrace", samples=5), "samples=5 is not a multiple of 2"),
        (lambda: BackpackTrace(method="monte-carlo"), "method=monte-carlo requires matrix=gauss-newton, not hessian"),
        (lambda: PyHessianTrace(samples=0), "samples=0 must be from 1 to 100000"),
        (lambda: PyHessianTrace(tolerance=1.0), r"tolerance=1\.0 must be at least 0 and below 1"),
        (lambda: AsdlTrace(samples=-1), "samples=-1 must be from 1 to 100000"),
        (lambda: OFFERED["eigenthings-top-eigenvalue"](steps=1), "steps=1 must be from 2 to 10000"),  # type: ignore[call-arg]
    ],
)
def test_bad_hyperparameters_are_refused_by_name(make: object, message: str) -> None:
    assert callable(make)
    with pytest.raises(InvalidInput, match=message):
        make()


@pytest.mark.parametrize("words", EXACT[1:])
def test_a_diagonal_that_is_not_drawn_leaves_the_generator(words: str) -> None:
    """By which `sharpbench compare` tells it from an estimate."""
    generator, untouched = seeded(), seeded().get_state()
    peer(words).diagonal_entries(subject("chain"), generator=generator)
    assert torch.equal(generator.get_state(), untouched)


@pytest.mark.parametrize("words", ["asdl-trace[method=monte-carlo]", "curvlinops-trace[samples=10]"])
def test_a_diagonal_that_is_drawn_takes_from_the_generator(words: str) -> None:
    generator, untouched = seeded(), seeded().get_state()
    peer(words).diagonal_entries(subject("chain"), generator=generator)
    assert not torch.equal(generator.get_state(), untouched)
