"""Sketched output roots: exact where they must be, unbiased elsewhere, with bounds that hold."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sharpbench.core.subject import Subject
from sharpbench.curvature import chunking, dense_ggn, sketched_diagonal, sketched_traces
from sharpbench.curvature.output_hessian import sketched_root, softmax_root
from sharpbench.curvature.reference import parameter_blocks
from sharpbench.errors import InvalidInput

C = 7


@pytest.fixture(scope="module")
def subject() -> Subject:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, C)).double()
    return Subject.from_module(model, torch.randn(9, 4, dtype=torch.float64) * 3, torch.arange(9) % C)


@pytest.mark.parametrize("top", [1, 3, C - 2])
@pytest.mark.parametrize("scale", [0.1, 3.0, 60.0])
def test_the_columns_are_the_output_hessian(top: int, scale: float) -> None:
    """With the unit vectors as noise the random columns are the root of what the exact ones leave."""
    logits = torch.randn(C, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * scale
    root = sketched_root(logits, torch.eye(C, dtype=torch.float64), top)
    p = logits.softmax(0)
    torch.testing.assert_close(root @ root.T, torch.diag(p) - torch.outer(p, p), rtol=1e-12, atol=1e-14)
    exact = root[:, :top]
    assert float(torch.linalg.eigvalsh(softmax_root(logits) @ softmax_root(logits).T - exact @ exact.T)[0]) > -1e-13


def test_probabilities_that_vanish_give_numbers() -> None:
    logits = torch.tensor([0.0, -40.0, -90.0, -300.0, -1000.0])
    root = sketched_root(logits, torch.ones(5, 3), 2)
    assert bool(torch.isfinite(root).all())
    exact = sketched_root(logits.double(), torch.ones(5, 3, dtype=torch.float64), 2)
    torch.testing.assert_close(root[:, :2].double(), exact[:, :2], rtol=1e-5, atol=1e-30)


def test_unbiased_with_bounds_that_hold(subject: Subject) -> None:
    truth = dense_ggn(subject).diagonal()
    generator = torch.Generator().manual_seed(0)
    found = [sketched_traces(subject, generator=generator, top=2, columns=3) for _ in range(100)]
    values = torch.tensor([each.value for each in found])
    total = float(truth.sum())
    assert abs(float(values.mean()) - total) < 4 * float(values.std()) / 100**0.5
    assert float(torch.tensor([each.stderr for each in found]).square().mean().sqrt()) == pytest.approx(
        float(values.std()), rel=0.3
    )
    assert all(float(each.details["lower"]) <= total * (1 + 1e-12) for each in found)  # type: ignore[arg-type]
    assert sum(float(each.details["upper"]) >= total for each in found) >= 0.95 * 100  # type: ignore[arg-type]
    for name, where in parameter_blocks(subject).items():
        parts = torch.tensor([each.parts[name] for each in found])
        assert abs(float(parts.mean() - truth[where].sum())) < 4 * float(parts.std()) / 100**0.5
    assert found[0].value == pytest.approx(sum(found[0].parts.values()), rel=1e-12)


def test_the_diagonal_is_unbiased(subject: Subject) -> None:
    truth = dense_ggn(subject).diagonal()
    generator = torch.Generator().manual_seed(0)
    drawn = [sketched_diagonal(subject, generator=generator, top=2, columns=3) for _ in range(100)]
    values = torch.stack([torch.cat([value.flatten() for value in each.values.values()]) for each in drawn])
    stderr = torch.stack([torch.cat([value.flatten() for value in each.stderr.values()]) for each in drawn])
    assert float(values.min()) >= 0
    scores = (values.mean(0) - truth) / (values.std(0) / 100**0.5).clamp_min(1e-12)
    assert float(scores.abs().max()) < 4.5
    spread = stderr.square().mean(0).sqrt() / values.std(0).clamp_min(1e-12)
    assert 0.8 < float(spread[values.std(0) > 1e-9].median()) < 1.2


@pytest.mark.parametrize("chunk", [(9, 5), (4, 5), (1, 5), (1, 2), (1, 1)])
def test_chunks_do_not_matter(chunk: tuple[int, int], subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    wanted = sketched_traces(subject, generator=generator, top=2, columns=3)
    monkeypatch.setattr(chunking, "choose_chunk", lambda network, columns: chunking.ChunkSize(*chunk, 0))
    found = sketched_traces(subject, generator=generator.manual_seed(0), top=2, columns=3)
    assert found.value == pytest.approx(wanted.value, rel=1e-12)
    assert found.details["lower"] == pytest.approx(wanted.details["lower"], rel=1e-12)


@pytest.mark.slow
def test_intervals_cover(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunking, "choose_chunk", lambda network, columns: chunking.ChunkSize(1, columns, 0))
    truth = float(dense_ggn(subject).trace())
    generator = torch.Generator().manual_seed(1)
    hits = 0
    for _ in range(2000):
        low, high = sketched_traces(subject, generator=generator, top=1, columns=8).interval or (0, 0)
        hits += low <= truth <= high
    assert hits / 2000 >= 0.93


@pytest.mark.parametrize("options", [{"top": 0}, {"top": C - 1}, {"columns": 1}])
def test_what_has_no_sketch(options: dict[str, int], subject: Subject) -> None:
    with pytest.raises(InvalidInput, match="need 1 <= top <= 5 and columns >= 2"):
        sketched_traces(subject, generator=torch.Generator(), **{"top": 2, **options})
    linear = Subject.from_module(subject.module, subject.inputs, torch.zeros(9, C).double(), loss=torch.nn.L1Loss())
    with pytest.raises(InvalidInput, match="loss 'L1Loss' has no sketch"):
        sketched_traces(linear, generator=torch.Generator())
