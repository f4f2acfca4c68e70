"""Estimate and Measure: what a plugin may say, and what it must define."""

from __future__ import annotations

import dataclasses
import math
import random
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch import nn

from sharpbench import Estimate, InvalidInput, Measure, NotApplicable, Subject, measure
from sharpbench.core.random_state import random_state_kept


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_an_estimate_has_a_finite_value(value: float) -> None:
    with pytest.raises(ValueError, match=f"value must be finite, got {value}; raise NotApplicable instead"):
        Estimate(value)


@pytest.mark.parametrize("ends", [(2.0, 1.0), (1.0,), (0.0, 1.0, 2.0)])
def test_an_interval_has_two_ends_in_order(ends: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="interval must be its low and high end, got"):
        Estimate(1.5, interval=ends)


def test_a_number_of_probes_is_not_negative() -> None:
    with pytest.raises(ValueError, match="probes must be at least 0, got -5"):
        Estimate(1.0, probes=-5)


@pytest.mark.parametrize("stderr", [-1e-300, -1.0, math.nan])
def test_a_standard_error_is_no_less_than_nothing(stderr: float) -> None:
    with pytest.raises(ValueError, match=r"stderr must be .*got"):
        Estimate(1.0, stderr=stderr)


@pytest.mark.parametrize(
    "said",
    [
        {"stderr": math.inf},
        {"interval": (math.nan, 1.0)},
        {"interval": (-math.inf, 1.0)},
        {"parts": {"weight": math.nan}},
        {"details": {"gap": math.inf}},
        {"details": {"eigenvalues": [1.0, 2.0]}},
    ],
    ids=str,
)
def test_an_estimate_holds_only_what_a_record_can(said: dict[str, Any]) -> None:
    """What JSON cannot hold must be refused where the measure says it: at the record it would end the whole run."""
    with pytest.raises(ValueError, match=next(iter(said))):
        Estimate(1.0, **said)


def test_an_estimate_is_a_table_and_a_page_that_no_name_can_change() -> None:
    hostile = "<script>alert(1)</script>"
    estimate = Estimate(
        5.0, stderr=0.5, interval=(4.0, 6.0), parts={hostile: 3.0, "bias": 2.0}, parts_stderr={"bias": 0.25},
        probes=7, converged=False, details={"method": hostile},
    )  # fmt: skip
    frame = estimate.to_frame()
    assert list(frame.index) == ["value", hostile, "bias"]
    assert frame.loc["value"].tolist()[:4] == [5.0, 0.5, 4.0, 6.0]
    assert frame["stderr"].isna().tolist() == [False, True, False]
    assert frame["stderr_examples"].isna().all()
    page = estimate._repr_html_()
    assert "<script" not in page
    assert page.count("&lt;script") == 2
    assert "probes: 7" in page
    assert "did not reach its tolerance" in page
    assert "stderr_examples" not in page
    latex = Estimate(5.0, stderr=0.5, parts={"out_weight&": 3.14159}).to_latex()
    assert "value & 5 & 0.5 \\\\\n" in latex
    assert "out\\_weight\\& & 3.142 & - \\\\\n" in latex
    exact = Estimate(1.0)._repr_html_()
    assert "tolerance" not in exact
    assert "probes" not in exact


def test_an_estimate_says_exact_by_default_and_unknown_where_told() -> None:
    assert Estimate(-1.0) == Estimate(
        value=-1.0, stderr=0.0, interval=None, parts={}, probes=0, converged=True, details={}
    )
    assert Estimate(0.0, stderr=None).stderr is None
    one, other = Estimate(1.0), Estimate(1.0)
    assert one.parts is not other.parts
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.value = 2.0  # type: ignore[misc]


class Draw(Measure):
    """Its value is its only draw."""

    name, title, source = "draw", "a draw", "tests"

    def __call__(self, subject: Subject, *, generator: torch.Generator) -> Estimate:
        assert generator.device.type == "cpu"
        return Estimate(float(torch.rand((), generator=generator)))

    def exact(self, subject: Subject) -> float | None:
        return None

    def invariances(self) -> frozenset[Any]:
        return frozenset()


def linear() -> Subject:
    return Subject.from_module(torch.nn.Linear(3, 2), torch.zeros(4, 3), torch.zeros(4).long())


def test_the_seed_is_the_only_randomness() -> None:
    subject = linear()
    state = torch.random.get_rng_state()
    assert measure(Draw(), subject, seed=1) == measure(Draw(), subject, seed=1)
    assert measure(Draw(), subject, seed=1) != measure(Draw(), subject, seed=2)
    assert measure(Draw(), subject) == measure(Draw(), subject, seed=0)
    expected = float(torch.rand((), generator=torch.Generator().manual_seed(1)))
    assert measure(Draw(), subject, seed=1).value == expected
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("given", [None, 3, Draw, ("parameter-norm", 3)], ids=repr)
def test_what_is_no_measure_is_refused(given: object) -> None:
    with pytest.raises(InvalidInput, match="is not a measure; give a Measure or its name"):
        measure(given, linear())  # type: ignore[arg-type]


def test_a_name_that_is_unknown_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"unknown measure 'trase'; did you mean 'trace'"):
        measure("trase", linear())


@pytest.mark.parametrize("missing", ["__call__", "exact", "invariances"])
def test_a_measure_must_define_all_three(missing: str) -> None:
    methods = {name: vars(Draw)[name] for name in ("__call__", "exact", "invariances") if name != missing}
    incomplete = type("Incomplete", (Measure,), {**methods, "name": "n", "title": "t", "source": "s"})
    with pytest.raises(TypeError, match=f"abstract.*'?{missing}"):
        incomplete()


def test_fields_hold_what_their_annotations_say_before_the_measures_own_check() -> None:
    @dataclass(frozen=True)
    class Plain(Draw):
        case: Literal["worst", "average"] = "worst"
        size: int | None = None

    @dataclass(frozen=True)
    class Bounded(Plain):
        factor: float = 1.0

        def __post_init__(self) -> None:
            if not self.factor > 0:
                raise InvalidInput(f"factor={self.factor} must be above 0")

    for cls in (Plain, Bounded):
        assert cls("average", 3) == cls(case="average", size=3)
        with pytest.raises(
            InvalidInput, match="measure 'draw': case=avrage is none of worst, average; did you mean 'average'"
        ):
            cls("avrage")  # type: ignore[arg-type]
        with pytest.raises(InvalidInput, match=r"measure 'draw': size=2\.5 is not a whole number"):
            cls(size=2.5)  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match=r"factor=0\.0 must be above 0"):
        Bounded(factor=0.0)
    assert Bounded(factor=1).factor == 1


def test_measures_are_frozen_values() -> None:
    @dataclass(frozen=True)
    class Scaled(Draw):
        name = "scaled"
        factor: float = 1.0

    assert Scaled(2.0) == Scaled(factor=2.0)
    assert hash(Scaled(2.0)) == hash(Scaled(2.0))
    assert Scaled(2.0) != Scaled(3.0)
    assert (Scaled.version, Scaled.depends) == (1, frozenset())
    with pytest.raises(dataclasses.FrozenInstanceError):
        Scaled().factor = 3.0  # type: ignore[misc]


class DrawsUnused(nn.Module):
    """Draws in every forward pass, and uses what it draws in training mode only."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(5, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        dropped = float(torch.rand([])) + float(np.random.rand()) + random.random() < 0.3
        return x if self.training and dropped else self.linear(x)  # type: ignore[no-any-return]


def test_the_process_keeps_its_random_state_when_a_network_draws() -> None:
    subject = Subject.from_module(DrawsUnused().eval(), torch.randn(8, 5), torch.arange(8) % 3)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()  # type: ignore[index, union-attr]
    measure("gradient-norm", subject)
    after = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()  # type: ignore[index, union-attr]
    assert torch.equal(before[0], after[0])
    assert before[1:] == after[1:]


class DrawsOwn(nn.Linear):
    """Draws numbers that it does not use from its own generators: two attributes, a tuple and a dictionary."""

    def __init__(self) -> None:
        super().__init__(5, 3)
        self.torch, self.python = torch.Generator(), random.Random(0)
        self.numpy = np.random.default_rng(0), np.random.RandomState(0)
        self.more = {"pcg": np.random.Generator(np.random.PCG64DXSM(0))}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        torch.randn(3, generator=self.torch)
        self.python.random()
        for each in (*self.numpy, *self.more.values()):
            each.normal()
        logits: torch.Tensor = super().forward(x)
        return logits

    def state(self) -> str:
        numpy = [self.numpy[0].bit_generator.state, self.numpy[1].get_state(), self.more["pcg"].bit_generator.state]
        states = self.torch.get_state().tolist(), self.python.getstate(), numpy
        return repr(states)


def test_a_network_keeps_the_state_of_generators_of_its_own() -> None:
    network = nn.Sequential(DrawsOwn().eval())
    before = network[0].state()
    subject = Subject.from_module(network, torch.randn(8, 5), torch.arange(8) % 3)
    assert network[0].state() == before
    for name in ("gradient-norm", "trace"):
        measure(name, subject)
        assert network[0].state() == before
    network(torch.randn(1, 5))
    assert network[0].state() != before


@pytest.mark.parametrize("drawn", [0, 1])
def test_normal_numbers_that_numpy_keeps_are_kept(drawn: int) -> None:
    """numpy draws two at a time: where it keeps one, the next draw changes nothing but that."""
    np.random.seed(0)
    for _ in range(drawn):
        np.random.randn()
    before = np.random.get_state()
    with random_state_kept():
        np.random.randn()
    after = np.random.get_state()
    assert before[1].tolist() == after[1].tolist()  # type: ignore[index, union-attr]
    assert before[2:] == after[2:]  # type: ignore[index]


def test_other_generators_of_numpy_are_kept() -> None:
    default = np.random.get_bit_generator()
    np.random.set_bit_generator(np.random.PCG64(0))
    try:
        before = np.random.get_state(legacy=False)
        with random_state_kept():
            np.random.rand()
        assert np.random.get_state(legacy=False) == before
    finally:
        np.random.set_bit_generator(default)


def test_a_value_that_overflows_in_float32_only_says_so() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 3))
    large = Subject.from_module(model, torch.randn(8, 5) * 1e20, torch.arange(8) % 3)
    with pytest.raises(NotApplicable, match="numbers overflow in float32; use float64, or scale the inputs"):
        measure("ggn-trace", large)


@dataclass(frozen=True)
class FailsInFloat32(Draw):
    """A measure with a fault of its code, which shows in float32 only."""

    def __call__(self, subject: Subject, *, generator: torch.Generator) -> Estimate:
        if next(iter(subject.params.values())).dtype == torch.float32:
            raise ValueError("an unknown option")
        return Estimate(1.0)


def test_a_fault_of_a_measure_is_not_called_an_overflow() -> None:
    with pytest.raises(ValueError, match="an unknown option"):
        measure(FailsInFloat32(), linear().to(dtype=torch.float32))


class WritesInPlace(nn.Module):
    """Writes over what its own backward pass needs, so that it cannot be trained either."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(5, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden: torch.Tensor = self.linear(x).exp()
        return hidden.add_(1)


@pytest.mark.parametrize("name", ["trace", "gradient-norm", "sam", "asam", "keskar", "minimum"])
def test_a_network_that_torch_cannot_differentiate_is_refused_in_one_line(name: str) -> None:
    subject = Subject.from_module(WritesInPlace(), torch.randn(6, 5), torch.arange(6) % 3)
    with pytest.raises(NotApplicable, match=r"cannot be differentiated: .*inplace operation") as caught:
        measure(name, subject)
    assert "\n" not in str(caught.value)
