"""Handwritten digits that come with the package.

Source: Alpaydin and Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository, 1998,
doi:10.24432/C50P49, CC BY 4.0 (its test part, 1,797 images of 8x8 with 17 levels). digits.csv.gz is the file that
scikit-learn ships: importing scikit-learn for it took a quarter of the time in which a run starts.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, final

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from sharpbench.datasets.dataset import Data, Dataset, scale_pixels

_FILE = Path(__file__).with_name("digits.csv.gz")


@final
@dataclass(frozen=True)
class Digits(Dataset):
    """1,797 handwritten digits: inputs [1,437 and 360, 1, 28, 28], pixels scaled to -1..1; ten classes."""

    name: ClassVar[str] = "digits"
    title: ClassVar[str] = "1,797 handwritten digits, 8x8 enlarged to 1x28x28; no file needed"
    source: ClassVar[str] = "Alpaydin and Kaynak, UCI Machine Learning Repository, 1998, doi:10.24432/C50P49"

    def load(self, folder: Path | None) -> Data:
        """The digits, split by class into 1,437 to train and 360 to test; `folder` is unused."""
        inputs, targets = _enlarged_digits()
        test = _choose_test(targets)
        return Data(
            train_inputs=inputs[~test],
            train_targets=targets[~test],
            test_inputs=inputs[test],
            test_targets=targets[test],
            classes=10,
            images=True,
        )


def read_digits() -> tuple[Tensor, Tensor]:
    """The images as they were published, int64 [1797, 8, 8] with levels 0 to 16, and their classes, int64 [1797].

    >>> images, targets = read_digits()
    >>> int(images.max()), targets[:5].tolist()
    (16, [0, 1, 2, 3, 4])
    """
    rows = torch.from_numpy(np.loadtxt(_FILE, delimiter=",", dtype=np.int64))  # [1797, 65]: pixels, then the class
    return rows[:, :-1].reshape(-1, 8, 8), rows[:, -1]


@functools.cache
def _enlarged_digits() -> tuple[Tensor, Tensor]:
    """Inputs [1797, 1, 28, 28] and classes, which callers copy from. One process often loads them again: held, 6 MB."""
    images, targets = read_digits()
    return scale_pixels(_enlarge(images)), targets


def _enlarge(images: Tensor) -> Tensor:
    """Images [n, 8, 8] of levels 0..16 as [n, 1, 28, 28] of 0..1, bilinear with pixel centres aligned.

    The points lie on fourteenths of a pixel, so 14 * 14 times the result is a whole number. Rounding to it makes the
    data, and therefore its hash, equal bit by bit on every machine and torch version.
    """
    enlarged = F.interpolate(images.double().unsqueeze(1), size=(28, 28), mode="bilinear", align_corners=False)
    return ((14 * 14 * enlarged).round() / (14 * 14 * 16)).to(torch.float32)


def _choose_test(targets: Tensor) -> Tensor:
    """The mask [n] of the test examples: every fifth in the order of the classes.

    This is stratified to within one example per class, and does not depend on a library's random numbers.
    """
    held_out = torch.zeros(len(targets), dtype=torch.bool)
    held_out[targets.argsort(stable=True)[::5]] = True
    return held_out
