"""Every loss and every layout of outputs against a dense Hessian of torch's own loss of the whole batch, in float64."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from torch import Tensor

from sharpbench import Subject
from sharpbench.curvature import (
    adaptive_traces_by_example,
    dense_ggn,
    dense_hessian,
    draw_fisher_traces,
    draws_targets,
    exact_diagonal,
    exact_traces,
    example_stderr,
    flatten,
    has_sketch,
    output_root,
    sketched_diagonal,
    sketched_traces,
    traces_by_example,
)
from sharpbench.curvature import chunking as chunks
from sharpbench.curvature.vjp import LayerVjps, LayerwiseNetwork, Root, layerwise_network
from tests.losses import CASES

NAMES = list(CASES)
QUICK = ("weights and ignored", "smoothed pixels", "characters", "multi-label", "Huber [B]", "normal")
CAPTURED = [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in NAMES]
"""Capturing the graph of each network takes 5 s together."""


@cache
def subject_of(name: str) -> Subject:
    return CASES[name].subject()


@cache
def ggn(name: str) -> Tensor:
    return dense_ggn(subject_of(name))


def hessian_of(name: str) -> tuple[Tensor, Tensor]:
    """torch's loss of the whole batch, and its Hessian by two backward passes."""
    module, loss = CASES[name].whole_loss()
    weights = list(module.parameters())
    value = loss()
    slope = torch.cat([each.flatten() for each in torch.autograd.grad(value, weights, create_graph=True)])
    rows = [
        torch.autograd.grad(entry, weights, retain_graph=True, allow_unused=True, materialize_grads=True)
        if entry.requires_grad
        else [torch.zeros_like(weight) for weight in weights]
        for entry in slope
    ]
    return value.detach(), torch.stack([torch.cat([each.flatten() for each in row]) for row in rows])


@pytest.mark.parametrize("name", NAMES)
def test_loss_and_hessian_are_torchs_on_the_whole_batch(name: str) -> None:
    subject = subject_of(name)
    value, hessian = hessian_of(name)
    torch.testing.assert_close(subject.loss(subject.params), value, rtol=1e-12, atol=0)
    torch.testing.assert_close(dense_hessian(subject), hessian, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("name", CAPTURED)
def test_the_exact_engine_gives_the_gauss_newton_matrix(name: str) -> None:
    subject, wanted = subject_of(name), ggn(name)
    assert sum(exact_traces(subject).values()) == pytest.approx(float(wanted.trace()), rel=1e-11, abs=1e-14)
    torch.testing.assert_close(flatten(exact_diagonal(subject)), wanted.diagonal(), rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("name", ["characters", "normal"])
def test_chunks_of_columns_change_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = traces_by_example(subject_of(name))
    monkeypatch.setattr(chunks, "choose_chunk", lambda network, columns: chunks.ChunkSize(1, 5, 0))
    torch.testing.assert_close(traces_by_example(subject_of(name)), wanted, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("name", ["smoothed pixels", "multi-label", "normal"])
def test_each_root_is_one_of_its_examples_output_hessian(name: str) -> None:
    subject = subject_of(name)
    with torch.no_grad():
        outputs = subject.apply(subject.params, subject.inputs)
    for each, target in zip(outputs[:3], subject.targets[:3], strict=True):

        def loss(flat: Tensor, each: Tensor = each, target: Tensor = target) -> Tensor:
            return subject.criterion(flat.reshape(1, *each.shape), target[None])[0]

        root, weights = output_root(subject.criterion, each, target)
        flat = root.reshape(each.numel(), -1)
        wanted = torch.func.hessian(loss)(each.flatten())
        torch.testing.assert_close(flat * weights @ flat.T, wanted, rtol=1e-10, atol=1e-13)


def test_ignored_positions_cost_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    subject = subject_of("characters")
    monkeypatch.setattr(chunks, "choose_chunk", lambda network, columns: chunks.ChunkSize(1, columns, 0))
    taken: list[int] = []
    pull = LayerwiseNetwork.pull

    def counting(self: LayerwiseNetwork, inputs: Tensor, aids: Tensor, root: Root, columns: slice) -> LayerVjps:
        taken.append(columns.stop - columns.start)
        return pull(self, inputs, aids, root, columns)

    monkeypatch.setattr(LayerwiseNetwork, "pull", counting)
    exact_traces(subject)
    assert taken == [16, 8, 16, 16]  # 4 positions of 5 characters; 2 ignored in the second example, all in the fourth


@pytest.mark.parametrize("name", ["pixels", "tied characters", "squares [B]", "multi-label"])
def test_sketches_are_unbiased_with_their_standard_errors(name: str) -> None:
    subject, wanted = subject_of(name), ggn(name)
    assert has_sketch(subject)
    many = sketched_traces(subject, generator=torch.Generator().manual_seed(0), columns=300)
    assert many.details["top"] == 0
    assert many.stderr is not None
    assert many.interval is not None
    assert abs(many.value - float(wanted.trace())) <= 4 * many.stderr + 1e-12
    assert many.interval[0] - 3 * many.stderr <= float(wanted.trace()) <= many.interval[1] + 3 * many.stderr
    found = sketched_diagonal(subject, generator=torch.Generator().manual_seed(1), columns=300)
    gaps = (flatten(found.values) - wanted.diagonal()).abs()
    assert float((gaps / (flatten(found.stderr) + 1e-12)).max()) < 5


@pytest.mark.parametrize("name", ["characters", "binary"])
def test_drawn_targets_give_the_gauss_newton_trace_on_average(name: str) -> None:
    assert draws_targets(subject_of(name))
    drawn = draw_fisher_traces(subject_of(name), draws=400, generator=torch.Generator().manual_seed(0))
    sums = drawn.by_parameter.sum(1)
    assert abs(float(sums.mean()) - float(ggn(name).trace())) < 4 * float(sums.std()) / 20


def test_the_standard_error_of_a_weighted_mean_is_that_of_a_ratio() -> None:
    """Against its definition: the spread of the values over many draws of examples."""
    generator = torch.Generator().manual_seed(0)
    counts = torch.randint(1, 9, (4000, 50), generator=generator).double()
    sums = counts * (3 + torch.randn(4000, 50, generator=generator, dtype=torch.float64) * 0.3)
    truth = float((sums.sum(1) / counts.sum(1)).std())
    found = [
        example_stderr(each / weights.mean(), shares=weights / weights.mean())
        for each, weights in zip(sums[:200], counts[:200], strict=True)
    ]
    assert sum(map(float, found)) / 200 == pytest.approx(truth, rel=0.05)  # type: ignore[arg-type]
    plain = example_stderr(sums[0] / counts[0].mean())
    assert plain is not None
    assert plain > 4 * truth


@pytest.mark.parametrize("padding", [None, 2])
def test_embeddings_are_layers_also_with_padding(padding: int | None) -> None:
    case = CASES["characters"]
    module = case.module()
    module.embedding = torch.nn.Embedding(5, 4, padding_idx=padding, dtype=torch.float64)
    subject = Subject.from_module(module, *case.data(), loss=case.loss, batch_size=3)
    assert layerwise_network(subject).loose == ()
    wanted = dense_ggn(subject).diagonal()
    torch.testing.assert_close(flatten(exact_diagonal(subject)), wanted, rtol=1e-10, atol=1e-14)
    assert sum(exact_traces(subject).values()) == pytest.approx(float(wanted.sum()), rel=1e-11)
    squares = flatten(subject.params).square() * wanted
    assert float(adaptive_traces_by_example(subject).sum(1).mean()) == pytest.approx(float(squares.sum()), rel=1e-10)


@pytest.mark.slow  # 15 s
@pytest.mark.parametrize("columns", [2, 4, 8])
def test_intervals_of_sketches_over_positions_cover(columns: int) -> None:
    subject = subject_of("characters")
    truth, generator = sum(exact_traces(subject).values()), torch.Generator().manual_seed(1)
    hits = 0
    for _ in range(700):
        low, high = sketched_traces(subject, generator=generator, columns=columns).interval or (0.0, 0.0)
        hits += low <= truth <= high
    assert hits / 700 >= 0.93
