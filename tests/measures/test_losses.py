"""Each installed measure on each loss and layout of outputs: equal to its definition, or refused with a reason."""

from __future__ import annotations

from functools import cache

import pytest
import torch

from sharpbench import InvalidInput, Measure, NotApplicable, Subject, measure
from sharpbench.core.registry import available
from sharpbench.curvature import dense_ggn, dense_hessian, exact_diagonal, flatten, hessian_trace
from tests.losses import CASES

INSTALLED = [cls for cls in available("measures").classes.values() if cls.__module__.startswith("sharpbench_measures.")]
QUICK = ("ggn-trace", "fisher-rao", "minimum", "adaptive-trace")


@cache
def subject_of(name: str) -> Subject:
    return CASES[name].subject()


def check(case: str, cls: type[Measure]) -> None:
    subject = subject_of(case)
    try:
        found = measure(cls(), subject)
    except NotApplicable:
        return
    wanted = cls().exact(subject)
    if wanted is not None:
        bound = 1e-8 * max(1.0, abs(wanted)) + 5 * (found.stderr or 0.0)
        assert abs(found.value - wanted) <= bound, (cls.name, found.value, wanted)


@pytest.mark.parametrize("case", ["tied characters", "multi-label"])
@pytest.mark.parametrize("name", QUICK)
def test_values_are_those_of_the_definition_or_refused(case: str, name: str) -> None:
    check(case, next(cls for cls in INSTALLED if cls.name == name))


@pytest.mark.slow  # each loss and each measure: three minutes
@pytest.mark.parametrize("case", CASES)
def test_every_measure_is_right_on_every_loss_or_refuses_it(case: str) -> None:
    for cls in INSTALLED:
        check(case, cls)


def test_a_refusal_of_cross_entropy_over_positions_says_how_it_differs() -> None:
    positions = Subject.from_module(torch.nn.Embedding(3, 4), torch.tensor([[0, 1], [2, 0]]), torch.zeros(2, 2).long())
    with pytest.raises(NotApplicable, match="not for 'cross_entropy with other than one class per example'"):
        measure("igs", positions)


@pytest.mark.parametrize("case", ["multi-label", "normal"])
def test_losses_that_are_no_likelihoods_have_no_fisher_information(case: str) -> None:
    subject = subject_of(case)
    for word in ("fisher-rao", "fisher-trace"):
        with pytest.raises(NotApplicable, match=r"that of a likelihood, and .* use .*fisher=empirical"):
            measure(word, subject)
    gradients = [
        torch.func.grad(lambda params, x=x, y=y: subject.criterion(subject.apply(params, x), y)[0])(subject.params)
        for x, y in zip(subject.inputs.split(1), subject.targets.split(1), strict=True)
    ]
    along = [sum(float((each[name] * value).sum()) for name, value in subject.params.items()) for each in gradients]
    squares = sum(each**2 for each in along) / len(along)
    assert measure("fisher-rao[fisher=empirical]", subject).value == pytest.approx(squares, rel=1e-10)


@cache
def penalised_subject() -> Subject:
    case = CASES["characters"]
    return Subject.from_module(case.module(), *case.data(), loss=case.loss, weight_decay=0.3, batch_size=3)


def test_weight_decay_is_part_of_the_loss() -> None:
    subject, plain = penalised_subject(), subject_of("characters")
    weights = flatten(subject.params)
    penalty = 0.15 * float(weights.square().sum())
    assert float(subject.loss(subject.params)) == pytest.approx(float(plain.loss(plain.params)) + penalty, rel=1e-12)
    identity = 0.3 * torch.eye(len(weights), dtype=torch.float64)
    torch.testing.assert_close(dense_hessian(subject), dense_hessian(plain) + identity, rtol=1e-10, atol=1e-13)
    torch.testing.assert_close(dense_ggn(subject), dense_ggn(plain) + identity, rtol=1e-10, atol=1e-13)
    wanted = dense_ggn(subject).diagonal()
    torch.testing.assert_close(flatten(exact_diagonal(subject)), wanted, rtol=1e-10, atol=1e-13)
    found = measure("ggn-trace", subject)
    assert found.value == pytest.approx(float(wanted.sum()), rel=1e-11)
    assert found.details["weight_decay"] == 0.3
    assert found.stderr_examples == pytest.approx(measure("ggn-trace", plain).stderr_examples, rel=1e-9)
    drawn = measure("ggn-trace[method=sketch,columns=50]", subject)
    assert drawn.stderr is not None
    assert abs(drawn.value - found.value) < 4 * drawn.stderr
    assert drawn.details["lower"] == pytest.approx(0.3 * len(weights))
    top = measure("top-eigenvalue[matrix=gauss-newton]", subject)
    assert top.value == pytest.approx(float(torch.linalg.eigvalsh(dense_ggn(subject))[-1]), rel=1e-6)
    scaled = measure("adaptive-trace", subject)
    gap = scaled.value - measure("adaptive-trace", plain).value
    assert gap == pytest.approx(0.3 * float(weights.square().sum()), abs=5 * ((scaled.stderr or 0) + 1e-9))


def test_measures_of_the_data_only_refuse_weight_decay() -> None:
    subject = penalised_subject()
    for word in ("minimum", "fisher-rao", "keskar", "sam"):
        with pytest.raises(NotApplicable, match=f"'{word}' is of a loss without penalty, and .* weight_decay=0.3"):
            measure(word, subject)
    with pytest.raises(InvalidInput, match="weight_decay=-1 must be a number of at least 0"):
        Subject.from_module(subject.module, subject.inputs, subject.targets, weight_decay=-1)


def test_traces_of_many_columns_are_sketched(monkeypatch: pytest.MonkeyPatch) -> None:
    case = CASES["characters"]
    subject = Subject.from_module(case.module(), *(each.repeat(24, 1) for each in case.data()), loss=case.loss)
    wanted = float(dense_hessian(subject_of("characters")).trace())
    monkeypatch.setattr("sharpbench.curvature.ggn_precision.MAX_EXACT_COLUMNS", 15)
    monkeypatch.setattr("sharpbench.curvature.ggn_precision.PILOT_EXAMPLES", (4, 64))
    found = measure("trace[precision=0.5]", subject)
    assert found.details["method"] == "sketch"  # all blocks are certified
    assert found.stderr is not None
    assert abs(found.value - wanted) < 4 * found.stderr
    monkeypatch.setattr(hessian_trace, "certificate", lambda given: dict.fromkeys(given.params, ("gelu",)))
    for calls, rest in ((8, "diagonal"), (0, "probes")):
        monkeypatch.setattr(hessian_trace, "MAX_EXACT_CALLS", calls)
        both = measure("trace[precision=0.9]", subject.fresh())
        assert both.details["method"] == f"gauss-newton sketch + residual {rest}"
        assert (both.probes > both.details["columns"]) is (rest == "probes")
    assert both.stderr is not None
    assert abs(both.value - wanted) < 4 * both.stderr
    assert both.converged
    assert both.interval is not None
    assert both.interval[0] < wanted < both.interval[1]
