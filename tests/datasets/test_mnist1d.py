"""MNIST-1D: the generated signals are those of the package, bit by bit on every machine."""

from __future__ import annotations

import pytest
import torch

from sharpbench.datasets import Mnist1d, mnist1d
from sharpbench.errors import InvalidInput

FIRST, LAST = (-0.33200567, -0.47191037, -0.77869708), (0.65987565, 0.87773435, 1.19315184)
"""What the package mnist1d 0.0.2.post1 gives: the first three training numbers, the last three test numbers."""


def test_the_signals_are_those_of_the_package() -> None:
    data = Mnist1d().load(None)
    assert data.train_inputs.shape == (4000, 1, 40)
    assert data.test_inputs.shape == (1000, 1, 40)
    assert (data.classes, data.images, data.shape) == (10, False, (1, 40))
    assert data.train_inputs[0, 0, :3].tolist() == pytest.approx(FIRST, abs=2**-17)
    assert data.test_inputs[-1, 0, -3:].tolist() == pytest.approx(LAST, abs=2**-17)
    assert data.train_targets[:8].tolist() == [2, 6, 4, 5, 6, 6, 6, 0]
    assert data.test_targets[-4:].tolist() == [5, 9, 6, 4]
    assert data.sha256() == mnist1d.STANDARD_SHA256
    together = torch.cat([data.train_targets, data.test_targets])
    assert together.bincount().tolist() == [500] * 10


def test_further_test_examples_leave_the_standard_ones_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mnist1d, "PER_CLASS", 100)
    monkeypatch.setattr(mnist1d, "TRAIN_SIZE", 0)
    monkeypatch.setattr(mnist1d, "content_sha256", lambda tensors: mnist1d.STANDARD_SHA256)
    standard, larger = Mnist1d().load(None), Mnist1d(test_size=1013).load(None)
    assert torch.equal(larger.test_inputs[:1000], standard.test_inputs)
    assert torch.equal(larger.test_targets[:1000], standard.test_targets)
    assert larger.test_inputs.shape == (1013, 1, 40)
    assert larger.test_targets.shape == (1013,)
    distances = torch.cdist(larger.test_inputs[1000:, 0], standard.test_inputs[:, 0])
    assert float(distances.min()) > 0.1


def test_other_examples_than_the_published_ones_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mnist1d, "PER_CLASS", 2)
    with pytest.raises(InvalidInput, match=r"have the hash .* where 961b9e044ee951a1\.\.\. is expected; install"):
        Mnist1d().load(None)


@pytest.mark.parametrize("size", [999, 100_001])
def test_sizes_of_the_test_split_have_bounds(size: int) -> None:
    with pytest.raises(InvalidInput, match=f"test_size={size} must be from 1,000 to 100,000"):
        Mnist1d(test_size=size)
