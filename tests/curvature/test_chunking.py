"""Chunks: chosen from a predicted peak, refused where nothing fits, and near what is held."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch
from sharpbench_measures import Trace
from torch import nn

from sharpbench import plan, run
from sharpbench.core.subject import Subject
from sharpbench.curvature import chunking, exact_diagonal, exact_traces, predicted_bytes
from sharpbench.curvature.vjp import layerwise_network
from sharpbench.models import PAPER_MODELS, SmallMlp


def subject_of(model: nn.Module, count: int = 64, classes: int = 10) -> Subject:
    torch.manual_seed(0)
    return Subject.from_module(model, torch.randn(count, 1, 28, 28), torch.arange(count) % classes)


@cache
def small() -> Subject:
    """Captured once; nothing changes it."""
    return subject_of(SmallMlp().build((1, 28, 28), 10), count=100)


@pytest.mark.parametrize("name", ["lenet", "small-cnn", "mlp"])
def test_the_peak_is_near_the_predicted_one(name: str, allocated: Callable[[Callable[[], object]], int]) -> None:
    subject = subject_of(next(each for each in PAPER_MODELS if each.name == name)().build((1, 28, 28), 10))
    exact_traces(subject.fresh())
    held = allocated(lambda: (exact_traces(subject.fresh()), exact_diagonal(subject.fresh())))
    assert 0.3 * predicted_bytes(subject) < held < 1.2 * predicted_bytes(subject)


def test_chunks_are_equal_and_within_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = layerwise_network(small())
    each = chunking._example(whole, 9)
    monkeypatch.setattr(chunking, "FEW_BYTES", 1)
    monkeypatch.setattr(chunking, "CACHE_BYTES", 40 * each)
    assert (chunking.choose_chunk(whole, 9).examples, chunking.choose_chunk(whole, 9).columns) == (34, 9)
    monkeypatch.setattr(chunking, "CACHE_BYTES", 1)
    monkeypatch.setattr(chunking, "FEW_BYTES", 100 * each)
    assert chunking.choose_chunk(whole, 9).examples == 25  # at most 32, in equal parts
    monkeypatch.setattr(chunking, "FEW_BYTES", 1)
    assert (chunking.choose_chunk(whole, 9).examples, chunking.choose_chunk(whole, 9).columns) == (1, 9)
    monkeypatch.setattr(chunking, "MOST_BYTES", chunking._example(whole, 4))
    assert (chunking.choose_chunk(whole, 9).examples, chunking.choose_chunk(whole, 9).columns) == (1, 3)


def test_what_cannot_fit_is_said_before_it_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    subject = small().fresh()
    monkeypatch.setattr(chunking, "free_bytes", lambda device: 1 << 20)
    with pytest.raises(MemoryError, match=r"one example takes \d+ MiB and 1 MiB are free on cpu; use smaller"):
        exact_traces(subject)


def test_a_cell_that_cannot_fit_is_recorded_as_such(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    cells = plan([Trace()], [SmallMlp()], cohort="label-noise[ratios=2,seeds=2,train_size=64]")
    monkeypatch.setattr(chunking, "free_bytes", lambda device: 1 << 10)
    records = list(run(cells[:1], cache_dir=tmp_path))
    assert [record.status for record in records] == ["oom"]
    assert "are free on cpu" in str(records[0].reason)


def test_where_the_free_memory_is_unknown_chunks_are_chosen_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunking, "free_bytes", lambda device: None)
    assert chunking.choose_chunk(layerwise_network(small().take(slice(64))), 9).examples == 64
