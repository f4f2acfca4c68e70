"""MNIST-1D: signals of 40 numbers in ten classes, generated here and not downloaded.

Source: Greydanus and Kobak, "Scaling Down Deep Learning with MNIST-1D", 2024, arXiv:2011.14439. The ten templates and
the constants are those of the package `mnist1d` 0.0.2.post1 (Apache-2.0), whose default data set this reproduces.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, final

import numpy as np
import torch
from numpy.typing import NDArray

from sharpbench.core.fields import check_fields
from sharpbench.datasets.dataset import Data, Dataset, content_sha256
from sharpbench.errors import InvalidInput

Floats = NDArray[np.float64]
TEMPLATES = np.array(
    [
        [5, 6, 6.5, 6.75, 7, 7, 7, 7, 6.75, 6.5, 6, 5],
        [5, 3, 3, 3.4, 3.8, 4.2, 4.6, 5, 5.4, 5.8, 5, 5],
        [5, 6, 6.5, 6.5, 6, 5.25, 4.75, 4, 3.5, 3.5, 4, 5],
        [5, 6, 6.5, 6.5, 6, 5, 5, 6, 6.5, 6.5, 6, 5],
        [5, 4.4, 3.8, 3.2, 2.6, 2.6, 5, 5, 5, 5, 5, 5],
        [5, 3, 3, 3, 3, 5, 6, 6.5, 6.5, 6, 4.5, 5],
        [5, 4, 3.5, 3.25, 3, 3, 3, 3, 3.25, 3.5, 4, 5],
        [5, 7, 7, 6.6, 6.2, 5.8, 5.4, 5, 4.6, 4.2, 5, 5],
        [5, 4, 3.5, 3.5, 4, 5, 5, 4, 3.5, 3.5, 4, 5],
        [5, 4, 3.5, 3.5, 4, 5, 5, 5, 5, 4.7, 4.3, 5],
    ]
)
"""[class, 12] The shape of each digit."""
TEMPLATE_SCALE = 6.0
MIN_PADDING, MAX_PADDING = 36, 60
"""Zeros that are added behind a template, drawn from this range."""
PADDED_LENGTH = TEMPLATES.shape[1] + MAX_PADDING
MAX_TRANSLATION = 48
SCALE_RANGE, SHEAR_RANGE = 0.4, 0.75
CORRELATED_NOISE, INDEPENDENT_NOISE, SMOOTHING = 0.25, 0.02, 2.0
LENGTH = 40
PER_CLASS, TRAIN_SIZE, TEST_SIZE = 500, 4000, 1000
"""The standard data set: 500 signals of each class, 4,000 to train on and 1,000 to test on."""
SEED, FURTHER_SEED = 42, 43
"""The package's seed, and that of test examples beyond the standard 1,000."""
NOTHING = 1e-8
"""Added to a template, so that only padding is exactly 0."""
GRID = 2.0**-16
"""Values are rounded to multiples of it, so that every machine gets the same bits."""
MAX_TEST_SIZE = 100_000
STANDARD_SHA256 = "961b9e044ee951a1f8e6a99d618392380b6bbf70a6132db8454bfe31467c77da"
"""`content_sha256` of the standard training and test examples."""


@final
@dataclass(frozen=True)
class Mnist1d(Dataset):
    """5,000 signals: inputs [4,000 and 1,000, 1, 40] of mean 0 and standard deviation 1; ten classes.

    Args:
        test_size: the number of test examples. The first 1,000 are the standard ones; further ones are drawn from the
            same generator with another seed. More of them make the accuracy of a network more exact.
    """

    name: ClassVar[str] = "mnist1d"
    title: ClassVar[str] = "MNIST-1D, 5,000 generated signals of 40 numbers; no file needed"
    source: ClassVar[str] = "Greydanus, Kobak 2024, Scaling Down Deep Learning with MNIST-1D, arXiv:2011.14439"
    test_size: int = TEST_SIZE

    def __post_init__(self) -> None:
        check_fields(self, kind="dataset")
        if not TEST_SIZE <= self.test_size <= MAX_TEST_SIZE:
            raise InvalidInput(
                f"dataset 'mnist1d': test_size={self.test_size} must be from {TEST_SIZE:,} to {MAX_TEST_SIZE:,}"
            )

    def load(self, folder: Path | None) -> Data:
        """The signals; `folder` is unused. Takes about 0.3 s, and 0.1 s for each 2,000 further test examples.

        Raises InvalidInput where the standard examples are not bit by bit those of the published hash.
        """
        signals, targets = _generate(np.random.RandomState(SEED), PER_CLASS)
        mean, deviation = float(signals.mean()), float(signals.std())
        inputs, labels = _to_inputs(signals, mean, deviation), torch.from_numpy(targets)
        standard = (inputs[:TRAIN_SIZE], labels[:TRAIN_SIZE], inputs[TRAIN_SIZE:], labels[TRAIN_SIZE:])
        if (found := content_sha256(standard)) != STANDARD_SHA256:
            raise InvalidInput(
                f"dataset 'mnist1d': the generated examples have the hash {found[:16]}... where "
                f"{STANDARD_SHA256[:16]}... is expected; install the versions of numpy and scipy of constraints.txt"
            )
        train_inputs, train_targets, test_inputs, test_targets = standard
        if more := self.test_size - TEST_SIZE:
            classes = len(TEMPLATES)
            further, further_targets = _generate(np.random.RandomState(FURTHER_SEED), -(-more // classes))
            test_inputs = torch.cat([test_inputs, _to_inputs(further[:more], mean, deviation)])
            test_targets = torch.cat([test_targets, torch.from_numpy(further_targets[:more])])
        return Data(train_inputs, train_targets, test_inputs, test_targets, classes=len(TEMPLATES))


def _generate(generator: np.random.RandomState, per_class: int) -> tuple[Floats, NDArray[np.int64]]:
    """Signals [n, 40], not yet standardised, and their classes [n], in random order."""
    targets = np.repeat(np.arange(len(TEMPLATES), dtype=np.int64), per_class)
    signals = np.stack([_transform(template, generator) for template in _standardise_templates()[targets]])
    order = generator.permutation(len(targets))
    return signals[order], targets[order]


def _standardise_templates() -> Floats:
    """The templates with mean 0 and standard deviation 1, moved to begin at 0, and scaled."""
    centred = TEMPLATES - TEMPLATES.mean(1, keepdims=True)
    scaled = centred / centred.std(1, keepdims=True)
    templates: Floats = (scaled - scaled[:, :1]) / TEMPLATE_SCALE
    return templates


def _transform(template: Floats, generator: np.random.RandomState) -> Floats:
    """One signal [40]: the template padded, dilated, scaled, translated, with noise and shear, and subsampled.

    The random numbers are drawn in the order of the package.
    """
    from scipy.ndimage import gaussian_filter1d  # slow to import

    padding = MIN_PADDING + int(generator.rand() * (MAX_PADDING - MIN_PADDING + 1))
    signal = _resample(np.concatenate([template + NOTHING, np.zeros(padding)]), PADDED_LENGTH)
    signal = signal * (1 + SCALE_RANGE * (generator.rand() - 0.5))
    signal = np.roll(signal, generator.choice(MAX_TRANSLATION))
    noise = gaussian_filter1d(CORRELATED_NOISE * generator.randn(PADDED_LENGTH), SMOOTHING)
    signal = np.where(signal != 0, signal, noise) + INDEPENDENT_NOISE * generator.randn(PADDED_LENGTH)
    shear = SHEAR_RANGE * (generator.rand() - 0.5)
    return _resample(signal - shear * np.linspace(-0.5, 0.5, PADDED_LENGTH), LENGTH)


def _resample(signal: Floats, length: int) -> Floats:
    """The signal at `length` equally spaced places, by linear interpolation."""
    return np.interp(np.linspace(0, 1, length), np.linspace(0, 1, len(signal)), signal)


def _to_inputs(signals: Floats, mean: float, deviation: float) -> torch.Tensor:
    """Inputs [n, 1, 40]: the signals less `mean` over `deviation`, on the grid."""
    rounded = np.round((signals - mean) / deviation / GRID) * GRID
    return torch.from_numpy(rounded.astype(np.float32)).unsqueeze(1)
