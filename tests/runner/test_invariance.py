"""By how much measures change under rewrites that keep the function: what is invariant, what is not, what has none."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from sharpbench_measures import Minimum, Trace
from torch import Tensor, nn

from sharpbench import Measure, NotApplicable, Subject, plan, run
from sharpbench.core.evaluate import parse_measure
from sharpbench.core.measure import Estimate, Invariance
from sharpbench.models import SmallMlp
from sharpbench.runner.invariance import REWRITES_PER_KIND, invariance_factors, rewrite_subjects


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.qkv, self.head = nn.Linear(3, 4), nn.Linear(4, 12), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:  # [B, T, 3]
        x = self.embed(x)
        q, k, v = self.qkv(x).reshape(*x.shape[:2], 3, 2, 2).permute(2, 0, 3, 1, 4)
        y = nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return self.head(y.mean(1))


class Untraceable(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) if float(x.sum().item()) < 1e9 else x


def subject(module: nn.Module, *shape: int) -> Subject:
    torch.manual_seed(0)
    return Subject.from_module(module.double(), torch.randn(9, *shape, dtype=torch.float64), torch.arange(9) % 3)


@pytest.fixture(scope="module")
def chain() -> Subject:
    torch.manual_seed(1)
    return subject(nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 3)), 5)


def test_rewrites_keep_the_function_and_move_the_weights(chain: Subject) -> None:
    found = rewrite_subjects(chain)
    assert set(found) == {"layer", "unit", "permutation"}
    before = chain.apply(chain.params, chain.inputs)
    for others in found.values():
        assert len(others) == REWRITES_PER_KIND
        for other in others:
            torch.testing.assert_close(other.apply(other.params, other.inputs), before, rtol=1e-11, atol=1e-12)
            assert not torch.allclose(other.params["2.weight"], chain.params["2.weight"])


@pytest.mark.parametrize("word", ["trace", "fisher-rao", "normalized", "minimum", "minimum[scope=unit]", "ggn-trace"])
def test_measures_are_as_invariant_as_they_say(word: str, chain: Subject) -> None:
    found = invariance_factors(parse_measure(word), chain)
    said = parse_measure(word).invariances()
    for kind, factor in found.items():
        assert factor is not None
        # trace[method=auto] samples on other networks, so that it does not say that permutations leave it
        assert (factor < 1 + 1e-8) == (kind in said or (word == "trace" and kind == "permutation")), (kind, factor)


def test_attention_has_rotations() -> None:
    torch.manual_seed(0)
    found = invariance_factors(parse_measure("ggn-trace"), subject(Attention(), 5, 3))
    assert set(found) >= {"layer", "unit", "attention-rotation"}
    assert found["layer"] is not None
    assert found["layer"] > 1.01


def test_the_subject_may_be_of_another_type_than_the_module() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(1, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(12, 3))
    single = Subject.from_module(module, torch.randn(9, 1, 3, 3), torch.arange(9) % 3)
    found = invariance_factors(parse_measure("minimum"), single.to(dtype=torch.float64))
    assert found["layer"] == pytest.approx(1, abs=1e-9)
    assert (found["unit"] or 0) > 1.01


def test_a_network_without_a_graph_has_none() -> None:
    assert invariance_factors(parse_measure("trace"), subject(Untraceable(), 5)) == {}


@pytest.mark.parametrize("scope", ["layer", "unit"])
def test_what_is_not_measured_stays(scope: str, chain: Subject) -> None:
    """Frozen, or left out: the minimum is over rescalings of the others, and unchanged by those."""
    torch.manual_seed(1)
    module = nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 3)).double()
    module[2].weight.requires_grad_(False)
    part = Subject.from_module(module, chain.inputs, chain.targets, parameters=["0.weight", "2.bias", "4.weight"])
    for some in (Subject.from_module(module, chain.inputs, chain.targets), part):
        found = invariance_factors(Minimum(scope=scope), some)
        assert found.get(scope, 1.0) == pytest.approx(1, abs=1e-9)
        assert found["permutation"] == pytest.approx(1, abs=1e-9)
        for kind in {"layer", "unit"} & set(found):
            for other in rewrite_subjects(some)[kind]:
                assert all(torch.equal(value, some.constants[name]) for name, value in other.constants.items())


def test_a_head_of_zeros_changes_by_factors(chain: Subject) -> None:
    head = {name: torch.zeros_like(chain.params[name]) for name in ("4.weight", "4.bias")}
    found = invariance_factors(Minimum(), chain.with_params({**chain.params, **head}))
    assert found == {"layer": pytest.approx(1), "unit": pytest.approx(1), "permutation": pytest.approx(1)}


@dataclass(frozen=True)
class Signed(Measure):
    """The first weight: it has no factor where it changes its sign, and none where it is 0."""

    name: ClassVar[str] = "signed"
    title: ClassVar[str] = "first weight of the second layer"
    source: ClassVar[str] = "tests"
    fails: bool = False

    def __call__(self, subject: Subject, *, generator: torch.Generator) -> Estimate:
        weight = subject.params["2.weight"]
        if self.fails and float(weight.flatten()[0]) != Signed.first:
            raise NotApplicable("not here")
        return Estimate(float(weight.flatten()[0]))

    first: ClassVar[float] = 0.0

    def exact(self, subject: Subject) -> float | None:
        return None

    def invariances(self) -> frozenset[Invariance]:
        return frozenset()


def test_what_has_no_factor(chain: Subject) -> None:
    Signed.first = float(chain.params["2.weight"].flatten()[0])
    moved = [float(other.params["2.weight"].flatten()[0]) for other in rewrite_subjects(chain)["permutation"]]
    assert (invariance_factors(Signed(), chain)["permutation"] is None) == any(
        value * Signed.first < 0 for value in moved
    )
    assert invariance_factors(Signed(), chain)["layer"] == pytest.approx(
        max(
            max(value / Signed.first, Signed.first / value)
            for value in (float(other.params["2.weight"].flatten()[0]) for other in rewrite_subjects(chain)["layer"])
        )
    )
    assert invariance_factors(Signed(fails=True), chain) == {"layer": None, "unit": None, "permutation": None}
    zero = chain.with_params({**chain.params, "2.weight": torch.zeros_like(chain.params["2.weight"])})
    assert invariance_factors(Signed(), zero)["layer"] == 1.0


@pytest.mark.slow
def test_records_hold_it_for_as_many_networks_as_asked(tmp_path: Path) -> None:
    cells = plan(
        [Trace(), Minimum()], [SmallMlp()], cohort="label-noise[ratios=2,seeds=2,train_size=64]", invariance=1, timing=0
    )
    found = list(run(cells[:4], cache_dir=tmp_path))
    assert [bool(record.invariance) for record in found] == [True, True, False, False]
    trace, minimum = (record.invariance for record in found[:2])
    assert minimum["layer"] == pytest.approx(1, abs=1e-7)
    assert (trace["layer"] or 0) > 1.01
    assert (minimum["unit"] or 0) > 1.001
