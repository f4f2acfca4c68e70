"""The final values of the 220 networks that the authors of Minimum Sharpness published, as package data.

Source: Ibayashi, Hamaguchi, Imaizumi 2021, Minimum Sharpness: Scale-invariant Parameter-robustness of Neural Networks,
arXiv 2106.12612, the archive published with their code.
"""

from __future__ import annotations

import hashlib
import io
from importlib.resources import files

import pandas as pd

from sharpbench.errors import InvalidInput

FILE_NAME = "minimum_sharpness_2021.csv"
SHA256 = "dbb6b78a449c0a2f96647119bd691efae9cb30088f210b2026d01947e6eef793"
"""SHA-256 of the packaged file."""
COLUMNS = {
    "model": "MLP (784-512-128-512-10) or LeNet, both with biases",
    "trial": "which of the ten networks of this model and ratio, from 0",
    "label_noise": "the share of the training labels that are random",
    "minimum_sharpness": "as the authors' solver leaves it, above the minimum",
    "normalized_sharpness": "of the arXiv version with the exact diagonal, by the same solver, far above its minimum",
    "train_accuracy": "on the 60,000 training images with their noisy labels",
    "test_accuracy": "on the 10,000 test images",
    "train_loss": "mean cross entropy on the training images, natural logarithm",
    "test_loss": "mean cross entropy on the test images",
}
MIN_FITTED_ACCURACY = 0.99
"""The training accuracy from which an archived network counts as fitted; the others are at chance, 0.11."""
MODEL_NAMES = {"MLP": "mlp", "LeNet": "lenet"}
"""The authors' names of models, and ours."""


def read_archive() -> pd.DataFrame:
    """One row per network: COLUMNS with our names of models, and the columns `gap` and `fitted`.

    gap is training accuracy - test accuracy; fitted is a training accuracy of at least MIN_FITTED_ACCURACY.

    Raises:
        InvalidInput: if the packaged file has been changed.

    >>> len(read_archive())
    220
    """
    content = (files("sharpbench.replays.minimum_sharpness_2021") / "data" / FILE_NAME).read_bytes()
    if (found := hashlib.sha256(content).hexdigest()) != SHA256:
        raise InvalidInput(
            f"{FILE_NAME} of this installation has SHA-256 {found}, not {SHA256}; install sharpbench again"
        )
    table = pd.read_csv(io.BytesIO(content))
    return table.assign(
        model=table["model"].map(MODEL_NAMES),
        gap=table["train_accuracy"] - table["test_accuracy"],
        fitted=table["train_accuracy"] >= MIN_FITTED_ACCURACY,
    )
