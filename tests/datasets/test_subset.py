"""Which examples are taken, and how images reach a network's own transform."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from sharpbench.datasets import Data, Dataset, Digits, Subset, dataset
from sharpbench.datasets.dataset import gather_examples, in_colour
from sharpbench.errors import InvalidInput


@dataclass(frozen=True)
class Vectors(Dataset):
    """Five vectors, no test split."""

    name: ClassVar[str] = "vectors"
    title: ClassVar[str] = "five vectors"
    source: ClassVar[str] = "none"

    def load(self, folder: Path | None) -> Data:
        """See Dataset.load."""
        inputs = torch.arange(10.0).reshape(5, 2)
        return Data(inputs, torch.tensor([0, 1, 0, 1, 0]), inputs[:0], torch.empty(0, dtype=torch.int64), classes=2)


def test_all_examples_are_taken_in_their_order() -> None:
    taken = Vectors().examples(None, Subset())
    assert torch.equal(taken.inputs, torch.arange(10.0).reshape(5, 2))
    assert taken.targets.tolist() == [0, 1, 0, 1, 0]
    assert (taken.classes, taken.available) == (2, 5)


def test_a_limit_draws_without_replacement_by_its_seed() -> None:
    draws = {tuple(Subset(limit=3, seed=seed).indices(5).tolist()) for seed in range(30)}
    assert len(draws) > 5
    for draw in draws:
        assert len(set(draw)) == 3
        assert list(draw) == sorted(draw)
    assert Subset(limit=3, seed=7).indices(5).tolist() == Subset(limit=3, seed=7).indices(5).tolist()


def test_inputs_and_targets_are_drawn_together() -> None:
    taken = Vectors().examples(None, Subset(limit=2, seed=3))
    for row, target in zip(taken.inputs, taken.targets, strict=True):
        assert int(row[0]) // 2 % 2 == int(target)


def test_the_hash_is_that_of_the_chosen_examples() -> None:
    whole = Vectors().examples(None, Subset())
    assert whole.sha256() == Vectors().examples(None, Subset(limit=5)).sha256()
    assert whole.sha256() != Vectors().examples(None, Subset(limit=4)).sha256()


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        (lambda: Subset(split="valid"), "split 'valid' is none of train, test"),  # type: ignore[arg-type]
        (lambda: Subset(limit=0), "limit=0 must be at least 1"),
        (lambda: Subset(seed=-1), "subset seed -1 must be from 0"),
        (lambda: Subset(seed=2**64), "subset seed 18446744073709551616 must be from 0"),
        (lambda: Subset(limit=6).indices(5), "limit=6 exceeds the 5 train examples; choose fewer"),
        (lambda: Vectors().examples(None, Subset(split="test")), "the test split of this data set holds no example"),
        (
            lambda: Vectors().examples(None, Subset(), lambda images: images),
            "dataset 'vectors' holds arrays of shape .2. and not images, .* choose another network",
        ),
    ],
)
def test_what_cannot_be_taken_is_said(wrong: object, line: str) -> None:
    with pytest.raises(InvalidInput, match=line):
        wrong()  # type: ignore[operator]


def test_a_transform_of_a_model_is_given_images_in_colour() -> None:
    seen: list[Image.Image] = []

    def transform(image: Image.Image) -> Tensor:
        seen.append(image)
        return torch.from_numpy(np.array(image)).permute(2, 0, 1).float()

    taken = Digits().examples(None, Subset(limit=7), in_colour(transform))
    plain = Digits().examples(None, Subset(limit=7))
    assert len(seen) == 7
    assert all(image.mode == "RGB" and image.size == (28, 28) for image in seen)
    assert torch.equal(taken.inputs[:, 1], ((plain.inputs[:, 0] + 1) * 127.5).round())
    assert torch.equal(taken.targets, plain.targets)


def test_inputs_that_do_not_fit_are_refused_before_they_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset, "free_bytes", lambda device: 2**30)
    batch = torch.zeros(1, 3, 256, 256)
    with pytest.raises(InvalidInput, match=r"2,000 inputs of 3x256x256 take 1.5 GiB where 1.0 GiB are free; measure"):
        gather_examples(iter([batch]), 2000)
    assert gather_examples(iter([batch, batch]), 2).shape == (2, 3, 256, 256)
