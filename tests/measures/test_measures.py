"""What the built-in measures state besides values: estimates that converge, refusals, records of what was done."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from torch import Tensor, nn

from sharpbench import InvalidInput, NotApplicable, Subject, measure
from sharpbench.core.evaluate import parse_measure
from sharpbench.curvature import DENSE_LIMIT, dense_ggn
from sharpbench.symmetry.rules import table
from tests.losses import CASES


def small(activation: nn.Module, *, wide: int = 6) -> Subject:
    """A perceptron; made once for each kind of activation, so that its graph is captured once."""
    return perceptron(type(activation), wide).fresh()


@cache
def perceptron(activation: type[nn.Module], wide: int = 6) -> Subject:
    """12 examples in ragged batches."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(5, wide), activation(), nn.Linear(wide, 3)).double()
    return Subject.from_module(module, torch.randn(12, 5, dtype=torch.float64), torch.randint(3, (12,)), batch_size=5)


@pytest.mark.parametrize("diagonal", ["arxiv", "icml"])
def test_estimated_diagonals_converge_to_the_exact_one(diagonal: str) -> None:
    """With 5,000 directions the value is near; with a hundred times fewer it is further off, on average over seeds."""
    subject = small(nn.ReLU())
    exact = measure("normalized", subject).value
    many = measure(f"normalized[diagonal={diagonal},samples=5000,radius=1e-6]", subject)
    assert many.value == pytest.approx(exact, rel=0.1)
    assert many.probes == 5000
    assert many.stderr is None

    def error(samples: int) -> float:
        word = f"normalized[diagonal={diagonal},samples={samples},radius=1e-6]"
        return sum(abs(measure(word, subject, seed=seed).value - exact) for seed in range(5))

    assert error(1000) < error(10)


def test_estimated_diagonals_count_their_negative_entries() -> None:
    subject = small(nn.ReLU())
    assert measure("normalized[diagonal=arxiv,samples=2]", subject).details["negative"] > 0
    assert measure("normalized", subject).details["negative"] == 0


def test_estimates_repeat_under_a_seed_and_differ_between_seeds() -> None:
    subject = small(nn.ReLU())
    for word in ("trace[method=hutchinson,samples=10]", "normalized[diagonal=icml,samples=3]"):
        assert measure(word, subject, seed=1).value == measure(word, subject, seed=1).value
        assert measure(word, subject, seed=1).value != measure(word, subject, seed=2).value


def test_relative_steps_are_invariant_to_unit_rescalings_and_absolute_ones_are_not() -> None:
    subject = small(nn.ReLU())
    scale = torch.rand(6, dtype=torch.float64) * 4 + 0.2
    rescaled = subject.with_params(
        {
            "0.weight": subject.params["0.weight"] * scale[:, None],
            "0.bias": subject.params["0.bias"] * scale,
            "2.weight": subject.params["2.weight"] / scale,
            "2.bias": subject.params["2.bias"],
        }
    )
    for word, tolerance in (
        ("normalized", 1e-9),
        ("normalized[diagonal=icml,samples=20]", 1e-4),
        ("fisher-rao", 1e-10),
    ):
        assert measure(word, rescaled).value == pytest.approx(measure(word, subject).value, rel=tolerance)
    for word in ("trace", "minimum", "normalized[diagonal=arxiv,samples=20]"):
        assert abs(measure(word, rescaled).value / measure(word, subject).value - 1) > 1e-3


def test_dead_units_are_left_out_and_counted() -> None:
    """Its row and the column that reads it can be driven to 0; the rest is that of the network without the unit."""
    subject = small(nn.ReLU())
    params = {key: value.clone() for key, value in subject.params.items()}
    params["0.bias"][2] = -1e3
    dead = subject.with_params(params)
    estimate = measure("normalized", dead)
    assert estimate.details["attained"] is False
    assert estimate.details["dropped"] == 5 + 3
    assert estimate.details["dropped_in"] == "0.weight, 2.weight"
    alive = [0, 1, 3, 4, 5]
    module = nn.Sequential(nn.Linear(5, 5), nn.ReLU(), nn.Linear(5, 3)).double()
    without = Subject.from_module(module, subject.inputs, subject.targets).with_params(
        {
            "0.weight": params["0.weight"][alive],
            "0.bias": params["0.bias"][alive],
            "2.weight": params["2.weight"][:, alive],
            "2.bias": params["2.bias"],
        }
    )
    assert estimate.value == pytest.approx(measure("normalized", without).value, rel=1e-10)


def test_the_trace_of_a_smooth_network_is_the_hessians() -> None:
    """Exact Gauss-Newton plus the residual of the uncertified block."""
    subject = small(nn.GELU())
    truth = measure("trace[method=naive]", subject).value
    estimate = measure("trace[precision=0.2]", subject)
    assert estimate.stderr is not None
    assert estimate.stderr < 0.2 * truth
    assert abs(estimate.value - truth) <= 4 * estimate.stderr + 1e-5 * truth
    assert 0 < float(str(estimate.details["certified"])) < 1
    assert abs(measure("minimum", subject).value - truth) > 0.1 * truth
    assert measure("minimum", subject).details["matrix"] == "gauss-newton"
    assert measure("minimum", small(nn.ReLU())).details["matrix"] == "hessian"


def test_an_exact_trace_is_never_gauss_newtons_in_disguise() -> None:
    small_one = small(nn.GELU())
    assert measure("trace[method=exact]", small_one).details["method"] == "naive"
    assert measure("trace[method=exact]", small(nn.ReLU())).details["method"] == "exact"
    large = small(nn.GELU(), wide=DENSE_LIMIT // 8)
    with pytest.raises(NotApplicable, match=r"aten\.gelu\.default; use method=auto"):
        measure("trace[method=exact]", large)
    for word in ("trace", "minimum", "normalized"):
        assert parse_measure(word).exact(large) is None


def test_hutchinsons_interval_is_that_of_its_samples() -> None:
    subject = small(nn.ReLU())
    truth = measure("trace", subject).value
    estimate = measure("trace[method=hutchinson,samples=500]", subject)
    assert estimate.stderr is not None
    assert estimate.interval is not None
    assert abs(estimate.value - truth) < 4 * estimate.stderr
    assert estimate.interval[0] < estimate.value < estimate.interval[1]
    assert sum(estimate.parts.values()) == pytest.approx(estimate.value, rel=1e-10)


def test_naive_is_refused_where_it_would_take_hours() -> None:
    with pytest.raises(NotApplicable, match="too many for one Hessian-vector product each"):
        measure("trace[method=naive]", small(nn.ReLU(), wide=DENSE_LIMIT // 8))


def regression(activation: nn.Module, *, dtype: torch.dtype = torch.float64) -> Subject:
    subject = small(activation)
    targets = torch.randn(12, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return Subject.from_module(subject.module, subject.inputs, targets, loss="mse").to(dtype=dtype)


def scores_of_drawn_targets(subject: Subject) -> Tensor:
    """Gradients [n, 2 C, P] of torch's own mean squared error, each example at targets that have the first two moments
    of a normal distribution around its outputs with variance C / 2."""
    rows = []
    for example in subject.inputs.split(1):
        outputs = subject.apply(subject.params, example)[0].detach()
        offsets = torch.cat([torch.eye(len(outputs)), -torch.eye(len(outputs))]).double() * len(outputs) / 2**0.5
        for offset in offsets:
            gradient = torch.func.grad(
                lambda params, x=example, y=outputs + offset: nn.functional.mse_loss(subject.apply(params, x)[0], y)
            )(subject.params)
            rows.append(torch.cat([value.flatten() for value in gradient.values()]))
    return torch.stack(rows).unflatten(0, (len(subject.inputs), -1))


@pytest.mark.parametrize("activation", [nn.ReLU(), nn.Tanh()])
def test_fisher_information_of_squared_errors_is_that_of_the_normal_model(activation: nn.Module) -> None:
    subject = regression(activation)
    scores = scores_of_drawn_targets(subject)
    theta = torch.cat([value.flatten() for value in subject.params.values()])
    norm = float((scores @ theta).square().mean())
    assert measure("fisher-rao", subject).value == pytest.approx(norm, rel=1e-10)
    assert measure("fisher-rao[root=true]", subject).value == pytest.approx(norm**0.5, rel=1e-10)
    assert parse_measure("fisher-rao").exact(subject) == pytest.approx(norm, rel=1e-10)
    assert norm == pytest.approx(float(theta @ dense_ggn(subject) @ theta), rel=1e-10)
    trace = float(scores.square().sum(2).mean())
    assert measure("fisher-trace", subject).value == pytest.approx(trace, rel=1e-10)
    assert measure("fisher-rao", regression(activation, dtype=torch.float32)).value == pytest.approx(norm, rel=1e-5)


def test_empirical_fisher_rao_holds_for_any_loss() -> None:
    subject = regression(nn.Tanh())
    absolute = Subject.from_module(
        subject.module,
        subject.inputs,
        subject.targets,
        loss=lambda outputs, targets: (outputs - targets).abs().sum(1),
    )
    theta = torch.cat([value.flatten() for value in subject.params.values()])
    for each in (subject, absolute):
        slopes = [
            torch.func.grad(lambda params, x=x, y=y, s=each: s.criterion(s.apply(params, x), y)[0])(each.params)
            for x, y in zip(each.inputs.split(1), each.targets.split(1), strict=True)
        ]
        along = torch.stack([torch.cat([value.flatten() for value in slope.values()]) @ theta for slope in slopes])
        expected = pytest.approx(float(along.square().mean()), rel=1e-10)
        assert measure("fisher-rao[fisher=empirical]", each).value == expected
        assert parse_measure("fisher-rao[fisher=empirical]").exact(each) == expected


def test_fisher_rao_needs_a_likelihood() -> None:
    subject = small(nn.ReLU())
    other = Subject.from_module(
        subject.module,
        subject.inputs,
        subject.targets,
        loss=lambda logits, targets: logits.gather(1, targets[:, None])[:, 0].square(),
    )
    with pytest.raises(NotApplicable, match="none is known for '<lambda>'; use fisher=empirical"):
        measure("fisher-rao", other)
    assert parse_measure("fisher-rao").exact(other) is None


def test_normalized_needs_a_matrix() -> None:
    subject = small(nn.ReLU())
    biases = Subject.from_module(subject.module, subject.inputs, subject.targets, parameters=["0.bias", "2.bias"])
    with pytest.raises(NotApplicable, match="no parameter has rows and columns"):
        measure("normalized", biases)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("trace[samples=1]", "samples=1 must be at least 2"),
        ("trace[precision=0]", r"precision=0\.0 must be above 0"),
        ("trace[budget=7]", "budget=7 must be from 8"),
        ("trace[method=hutchinson,precision=0.1,samples=29]", "needs precision > 0 and samples >= 30"),
        ("trace[precision=0.1,method=xtrace]", "goes with method=auto or hutchinson, not xtrace"),
        ("trace[method=hutchpp,samples=5]", "samples=5 must be at least 6"),
        ("ggn-trace[method=xtrace,samples=3]", "samples=3 must be at least 4"),
        ("trace[samples=100000000000]", "at most 1,000,000"),
        ("ggn-trace[method=sketch,columns=100000000000]", "need top >= 1 and 2 <= columns <= 1000"),
        ("ggn-trace[samples=1]", "samples=1 must be at least 2"),
        ("ggn-trace[top=0]", "need top >= 1 and 2 <= columns <= 1000"),
        ("ggn-trace[columns=1]", "need top >= 1 and 2 <= columns <= 1000"),
        ("normalized[samples=0]", "samples=0 must be at least 1"),
        ("normalized[radius=0]", r"radius=0\.0 must be above 0"),
    ],
)
def test_hyperparameters_have_bounds(word: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        parse_measure(word)


class Asinh(nn.Module):
    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return inputs.asinh()


def test_minimum_names_what_it_pinned_and_verifies_the_rest() -> None:
    smooth = measure("minimum", small(Asinh()))
    assert smooth.details["pinned"] == "aten.asinh.default"
    assert smooth.details["dimension"] == 0
    affine = measure("minimum", small(nn.ReLU()))
    assert affine.details["dimension"] == 1
    assert 0 < float(str(affine.details["function_change"])) < 1e-12


@pytest.mark.parametrize("scope", ["layer", "unit"])
def test_minimum_of_a_head_of_zeros_is_the_trace_of_its_bias(scope: str) -> None:
    """All else can be driven to 0, and no output shows a rescaling: mean p (1 - p) at p = 1/3, for each of 3 biases."""
    subject = small(nn.ReLU())
    head = {name: torch.zeros_like(subject.params[name]) for name in ("2.weight", "2.bias")}
    zero = subject.with_params({**subject.params, **head})
    estimate = measure(f"minimum[scope={scope}]", zero)
    assert estimate.value == pytest.approx(3 * 2 / 9, rel=1e-12)
    assert estimate.details["attained"] is False
    assert "2.weight" in str(estimate.details["vanishing"])
    assert estimate.details["function_change"] == 0.0


def test_minimum_of_a_dead_network_is_that_of_its_last_bias() -> None:
    subject = small(nn.ReLU())
    dead = {**subject.params, "0.bias": subject.params["0.bias"] - 1e3, "2.bias": torch.zeros(3, dtype=torch.float64)}
    assert measure("minimum", subject.with_params(dead)).value == pytest.approx(2 / 3, rel=1e-12)


@pytest.mark.parametrize("scope", ["layer", "unit"])
def test_a_false_group_has_no_minimum(scope: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(table.RULES, "gelu", table.homogeneous_rule)
    with pytest.raises(
        NotApplicable, match=r"no rescaling group: rescalings of scope=\w+ change the outputs by .* size"
    ):
        measure(f"minimum[scope={scope}]", perceptron.__wrapped__(nn.GELU))  # a graph keeps its group


@pytest.mark.parametrize("activation", [nn.ReLU(), nn.GELU()])
def test_the_gauss_newton_trace_is_defined_for_every_network(activation: nn.Module) -> None:
    subject = small(activation)
    estimate = measure("ggn-trace", subject)
    dense = float(dense_ggn(subject).trace())
    assert estimate.value == pytest.approx(dense, rel=1e-12)
    assert parse_measure("ggn-trace").exact(subject) == pytest.approx(dense, rel=1e-12)
    hessian = measure("trace[method=naive]", subject).value
    assert (estimate.value == pytest.approx(hessian, rel=1e-10)) == isinstance(activation, nn.ReLU)


@pytest.mark.parametrize(
    "method", ["hutchinson,samples=400", "hutchpp,samples=30", "xtrace,samples=30", "sketch,top=1"]
)
def test_estimates_of_the_gauss_newton_trace(method: str) -> None:
    subject = small(nn.GELU())
    truth = measure("ggn-trace", subject).value
    estimate = measure(f"ggn-trace[method={method}]", subject)
    assert estimate.stderr is not None
    assert 0 < estimate.stderr < 0.3 * truth
    assert abs(estimate.value - truth) < 4 * estimate.stderr


@pytest.mark.parametrize("method", ["hutchpp", "xtrace"])
def test_projections_estimate_the_hessians_trace(method: str) -> None:
    subject = small(nn.GELU())
    truth = measure("trace[method=naive]", subject).value
    estimate = measure(f"trace[method={method},samples=30]", subject)
    assert estimate.stderr is not None
    assert abs(estimate.value - truth) < 4 * estimate.stderr
    assert estimate.probes == 30


@pytest.mark.slow
def test_a_precision_is_reached_or_said_to_be_missed() -> None:
    estimate = measure("trace[precision=0.05,method=hutchinson,samples=30]", small(nn.GELU()))
    assert estimate.converged
    assert estimate.interval is not None
    assert estimate.interval[1] - estimate.value <= 0.05 * estimate.value
    assert estimate.probes is not None
    assert estimate.probes > 30


@pytest.mark.parametrize("word", ["trace[method=xtrace]", "ggn-trace[method=hutchpp]"])
def test_projections_need_more_parameters_than_probes(word: str) -> None:
    with pytest.raises(NotApplicable, match=r"samples=100: .* probes for 21 parameters; .*; use fewer samples"):
        measure(word, small(nn.ReLU(), wide=2))


def test_a_sketch_needs_classes_to_leave_out() -> None:
    with pytest.raises(NotApplicable, match=r"of 3 outputs: needs at least top \+ 2 = 12 classes; use method=exact"):
        measure("ggn-trace[method=sketch]", small(nn.ReLU()))


def test_auto_is_exact_up_to_the_stated_number_of_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    subject = CASES["tied characters"].subject()
    exact = measure("ggn-trace", subject)
    found = measure("ggn-trace[method=auto]", subject)
    assert (found.value, found.details["method"], found.stderr) == (exact.value, "exact", 0.0)
    monkeypatch.setattr("sharpbench_measures.ggn_trace.MAX_EXACT_COLUMNS", 15)  # 4 positions of 5 characters have 16
    drawn = measure("ggn-trace[method=auto,columns=50]", subject)
    assert drawn.details["method"] == "sketch"
    assert drawn.stderr is not None
    assert abs(drawn.value - exact.value) < 4 * drawn.stderr
    diagonal = parse_measure("ggn-trace[method=auto]").diagonal_entries(subject, generator=torch.Generator())
    assert sum(float(each.sum()) for each in diagonal.values()) == pytest.approx(exact.value, rel=0.5)
    linear = CASES["L1"].subject()
    monkeypatch.setattr("sharpbench_measures.ggn_trace.MAX_EXACT_COLUMNS", -1)
    assert measure("ggn-trace[method=auto]", linear).details["method"] == "exact"  # it has no sketch
    with pytest.raises(NotApplicable, match="the loss 'L1Loss' has no sketch; use method=exact"):
        measure("ggn-trace[method=sketch]", linear)
