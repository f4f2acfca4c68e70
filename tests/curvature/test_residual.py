"""Probes of the residual against dense matrices: forms, parts, scales, diagonals, groups and batches."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sharpbench.core.subject import Subject
from sharpbench.curvature import (
    certificate,
    dense_ggn,
    dense_hessian,
    flatten,
    hessian_diagonal,
    reference_traces,
    trace_estimate,
)
from sharpbench.curvature.hessian_trace import BUDGET, MAX_EXACT_CALLS
from sharpbench.curvature.reference import parameter_blocks
from sharpbench.curvature.residual import Residual, group_size, residual
from sharpbench.curvature.strata import Stratum, sample_strata
from sharpbench.curvature.trace_estimators import draw_signs

NAMES = ("0.weight", "2.weight", "3.bias")


@cache
def smooth(count: int = 9, batch: int = 4) -> Subject:
    """Captured once; nothing changes it."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 6), nn.GELU(), nn.LayerNorm(6), nn.Linear(6, 3)).double()
    x = torch.randn(count, 5, dtype=torch.float64)
    return Subject.from_module(model, x, torch.arange(count) % 3, batch_size=batch)


def dense(subject: Subject, names: tuple[str, ...] = NAMES) -> Tensor:
    """H - G in the blocks of these parameters."""
    blocks = parameter_blocks(subject)
    rows = torch.cat([torch.arange(subject.size)[blocks[name]] for name in names])
    return (dense_hessian(subject) - dense_ggn(subject))[rows][:, rows]


def of_groups(rest: Residual, subject: Subject, names: tuple[str, ...] = NAMES) -> list[Tensor]:
    """The dense residual of every group, times its share of the examples."""
    found = []
    for group in rest.groups:
        places = (subject.inputs[:, None] == group.inputs[None]).all(2).nonzero()[:, 0]
        own = replace(subject, inputs=subject.inputs[places], targets=subject.targets[places])
        found.append(dense(own, names) * len(places) / len(subject.inputs))
    return found


@pytest.mark.parametrize("count", [3, 19])  # the last group of 19 is smaller
@pytest.mark.parametrize("scaled", [False, True])
def test_parts_are_those_of_the_dense_residual_of_each_group(count: int, scaled: bool) -> None:
    subject = smooth(count)
    rest = residual(subject, NAMES, subject.params if scaled else None)
    scale = flatten(rest.block) if scaled else torch.ones(rest.size, dtype=torch.float64)
    assert len(rest.groups) == (3 if count == 3 else 10)
    sizes = [value.numel() for value in rest.block.values()]
    total = torch.zeros_like(dense(subject))
    for matrix, stratum in zip(of_groups(rest, subject), rest.strata(torch.Generator().manual_seed(3)), strict=True):
        probes = scale * draw_signs(scale, 6, torch.Generator().manual_seed(3))
        wanted = torch.stack([each.sum(1) for each in (probes * (probes @ matrix)).split(sizes, 1)], 1)
        generator = stratum.draw.args[-1]  # type: ignore[attr-defined]  # a partial function
        generator.manual_seed(3)
        torch.testing.assert_close(stratum.draw(6), wanted, rtol=1e-10, atol=1e-13)
        total += matrix
    torch.testing.assert_close(total, dense(subject), rtol=1e-10, atol=1e-13)
    torch.testing.assert_close(
        flatten(rest.diagonal()), total.diagonal() * scale.square(), rtol=1e-10, atol=1e-13, check_dtype=False
    )


def test_groups_are_of_one_batch_while_these_are_few() -> None:
    counts = [1, 16, 17, 128, 512, 513, 1024, 2048, 2049, 10_000]
    sizes = [group_size(count) for count in counts]
    assert sizes == [1, 1, 2, 8, 32, 32, 32, 32, 33, 157]
    assert [math.ceil(count / size) for count, size in zip(counts, sizes, strict=True)] == (
        [1, 16, 9, 16, 16, 17, 32, 64, 63, 64]
    )


def test_large_networks_multiply_several_vectors_at_once_where_memory_allows_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = nn.Sequential(nn.Linear(1, 1_500_000), nn.GELU(), nn.Linear(1_500_000, 1))
    subject = Subject.from_module(model, torch.ones(1, 1), torch.ones(1, 1), loss="mse")
    for free, together in ((None, 8), (2**34, 8), (2**30, 3), (2**28, 1)):
        monkeypatch.setattr("sharpbench.curvature.shared_vectors.free_bytes", lambda device, free=free: free)
        vectors = residual(subject, ("0.weight",)).vectors
        assert vectors.together == together
        assert vectors.peak_bytes <= (3 * 2**29 if free is None else max(free // 4, 2 * vectors.bytes_each))
        # processes that divide the batches add up in step, whatever is free for each
        divided = residual(replace(subject, process_group=Alone()), ("0.weight",)).vectors
        assert divided.together == 8


class Alone:
    """A group of one process."""

    rank, size, broken = 0, 1, False

    def total(self, tree: Any) -> Any:
        return tree

    def finish(self) -> None:
        """Nothing to wait for."""


def test_batches_do_not_change_the_groups() -> None:
    found = [residual(replace(smooth(19), batch_size=size), NAMES) for size in (1, 7, 19)]
    for other in found[1:]:
        for one, two in zip(found[0].groups, other.groups, strict=True):
            assert torch.equal(one.inputs, two.inputs)


def with_vectors(rest: Residual, together: int) -> Residual:
    return replace(rest, vectors=replace(rest.vectors, together=together))


def test_values_do_not_depend_on_how_many_vectors_are_multiplied_at_once() -> None:
    subject = smooth(17, batch=17)  # 9 groups, all but one of two examples
    places = torch.arange(5)
    found = []
    for together in (0, 1, 3, 64):
        rest = with_vectors(residual(subject, NAMES[:2]), together)
        draws = torch.Generator().manual_seed(0)
        parts = rest.strata(draws)[0].draw(7)
        mean, variance = (flatten(each) for each in rest.sample_diagonal(7, draws))
        found.append((parts, mean, variance, rest.draw_forms(places, 7, draws), flatten(rest.diagonal())))
    for other in found[1:]:
        for one, two in zip(found[0], other, strict=True):
            torch.testing.assert_close(one, two, rtol=1e-10, atol=1e-14)


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer, self.head = nn.LSTM(4, 16, batch_first=True), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(x)[0][:, -1])


class Attention(nn.Module):
    """Two blocks of a small ViT: 16 patches of an image."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, 32, 8, stride=8)
        self.blocks = nn.Sequential(
            *(nn.TransformerEncoderLayer(32, 4, 64, 0.0, "gelu", batch_first=True) for _ in "ab")
        )
        self.head = nn.Linear(32, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(self.patches(x).flatten(2).transpose(1, 2)).mean(1))


NETWORKS = {
    "convolutions": (
        lambda: nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1), nn.Tanh(), nn.Conv2d(8, 8, 3, padding=1), nn.Tanh(), nn.Flatten(1),
            nn.Linear(8 * 16 * 16, 3),
        ),
        (1, 16, 16),
    ),
    "recurrent": (Recurrent, (12, 4)),
    "perceptron": (lambda: nn.Sequential(nn.Linear(300, 200), nn.GELU(), nn.Linear(200, 3)), (300,)),
    "attention": (Attention, (1, 32, 32)),
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "count", "scaled"),
    [
        ("convolutions", 16, False),
        ("convolutions", 32, True),
        ("recurrent", 32, False),
        ("perceptron", 16, True),
        ("attention", 16, False),
    ],
)
def test_what_is_held_is_predicted(
    name: str, count: int, scaled: bool, allocated: Callable[[Callable[[], object]], int]
) -> None:
    """However many vectors a round has: 6 of them, 2 at once."""
    torch.manual_seed(0)
    build, shape = NETWORKS[name]
    subject = Subject.from_module(build(), torch.randn(count, *shape), torch.arange(count) % 3)
    block = tuple(each for each, found in certificate(subject).items() if found)
    rest = with_vectors(residual(subject, block, subject.params if scaled else None), 2)
    rest = replace(rest, groups=rest.groups[:1])
    draws, predicted = torch.Generator().manual_seed(0), rest.vectors.peak_bytes
    assert 0.4 * predicted < allocated(lambda: rest.strata(draws)[0].draw(6)) < predicted
    assert allocated(lambda: rest.draw_forms(torch.arange(1), 6, draws)) < predicted
    sums = 8 * rest.size * torch.float64.itemsize  # of entries, their squares, and terms of them
    assert allocated(lambda: rest.sample_diagonal(6, draws)) < predicted + sums


def test_forms_by_example_are_those_of_an_explicit_loop() -> None:
    subject = smooth()
    rest = residual(subject, NAMES)
    probes = draw_signs(flatten(rest.block), 3, torch.Generator().manual_seed(0))
    places = torch.tensor([7, 0, 3])
    alone = [replace(subject, inputs=subject.inputs[i, None], targets=subject.targets[i, None]) for i in places]
    wanted = torch.stack([((probes @ dense(each)) * probes).sum(1) for each in alone])
    torch.testing.assert_close(rest.forms_by_example(places, probes), wanted, rtol=1e-9, atol=1e-12)


def test_the_sampled_diagonal_is_near_the_true_one_as_often_as_it_says() -> None:
    subject = smooth()
    truth = dense_hessian(subject).diagonal()
    found = hessian_diagonal(subject, samples=30, generator=torch.Generator().manual_seed(0))
    error, stderr = flatten(found.values) - truth, flatten(found.stderr)
    sampled = stderr > 0
    assert found.probes == 30 * 9
    assert float((error[~sampled]).abs().max()) < 1e-12  # the head is certified
    assert 0.85 < float((error[sampled].abs() < 2 * stderr[sampled]).double().mean()) <= 1


def test_the_trace_is_exact_where_samples_take_longer() -> None:
    """A call has a long fixed time here: samples take one for each group, the diagonal one for all of them."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(20, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 10))
    subject = Subject.from_module(model, torch.randn(64, 20), torch.arange(64) % 10)
    rest = residual(subject, tuple(name for name, found in subject.once(certificate).items() if found))
    assert rest.exact_calls > MAX_EXACT_CALLS
    assert rest.exact_cost < BUDGET < rest.size
    without = replace(rest, vectors=replace(rest.vectors, fixed=0.0), units=replace(rest.units, fixed=0.0))
    assert without.exact_cost == rest.size
    for size in (1, 16):  # what is sampled does not depend on how a subject is divided
        other = residual(replace(subject, batch_size=size), tuple(rest.block))
        assert (other.exact_cost, other.exact_calls) == (rest.exact_cost, rest.exact_calls)
    found = trace_estimate(subject, generator=torch.Generator().manual_seed(0), precision=0.01)
    assert (found.stderr, found.details["method"]) == (0.0, "gauss-newton + residual diagonal")
    assert found.value == pytest.approx(sum(reference_traces(subject).values()), rel=1e-4)


def test_a_diagonal_that_takes_fewer_products_is_exact() -> None:
    subject = smooth()
    found = hessian_diagonal(subject, samples=36, generator=torch.Generator().manual_seed(0))
    assert found.probes == 0
    torch.testing.assert_close(flatten(found.values), dense_hessian(subject).diagonal(), rtol=1e-10, atol=1e-13)


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "scaled"), [(0.15, False), (0.1, False), (0.15, True)])
def test_intervals_cover_the_true_trace(precision: float, scaled: bool) -> None:
    """500 trials with the dense residual of each group of a small network, whose parts are tested above."""
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(12, 14), nn.GELU(), nn.Linear(14, 13), nn.Tanh(), nn.Linear(13, 3)).double()
    for value in model.parameters():
        nn.init.normal_(value, std=2 * float(value.detach().std()))
    subject = Subject.from_module(model, torch.randn(48, 12, dtype=torch.float64), torch.arange(48) % 3)
    names = ("0.weight", "0.bias", "2.weight", "2.bias")
    rest = residual(subject, names, subject.params if scaled else None)
    scale = flatten(subject.params) if scaled else torch.ones(subject.size, dtype=torch.float64)
    truth = float((dense_hessian(subject).diagonal() * scale.square()).sum())
    known = float((dense_ggn(subject).diagonal() * scale.square()).sum())
    factors = scale[: rest.size]
    generator = torch.Generator().manual_seed(0)

    def stratum(matrix: Tensor, cost: float) -> Stratum:
        def draw(count: int) -> Tensor:
            probes = factors * draw_signs(factors, count, generator)
            return (probes * (probes @ matrix)).sum(1, keepdim=True)

        return Stratum(cost, draw)

    strata = [
        stratum(matrix, source.cost)
        for matrix, source in zip(of_groups(rest, subject, names), rest.strata(generator), strict=True)
    ]
    hits, errors, costs = 0, [], set()
    for _ in range(500):
        found = sample_strata(strata, known=known, precision=precision, budget=1e6)
        assert found.total.interval is not None
        hits += found.total.interval[0] <= truth <= found.total.interval[1]
        errors.append((found.total.value - truth) / found.total.stderr)
        costs.add(round(found.cost, 6))
    assert 0.93 <= hits / 500 <= 0.97
    assert abs(sum(errors)) / 500 < 4 / 500**0.5  # unbiased
    assert len(costs) > 10  # the number of probes depends on what was drawn
