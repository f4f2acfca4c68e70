"""Archive: what the authors of Minimum Sharpness published of their 220 networks, as package data.

Source: Ibayashi, Hamaguchi, Imaizumi 2021, Minimum Sharpness: Scale-invariant Parameter-robustness of Neural Networks,
arXiv 2106.12612, the archive beside their code.
"""

from __future__ import annotations

import hashlib
import io
from importlib.resources import files

import pandas as pd

from sharpbench.errors import InvalidInput

FILE = "minimum_sharpness_2021.csv"
SHA256 = "dbb6b78a449c0a2f96647119bd691efae9cb30088f210b2026d01947e6eef793"
"""Of the packaged bytes."""
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
FITTED = 0.99
"""The training accuracy that the gate asks of an archived network; those below it are at chance, at 0.11."""
MODELS = {"MLP": "mlp", "LeNet": "lenet"}
"""Their names of networks, and ours."""


def archive() -> pd.DataFrame:
    """One row a network: COLUMNS with `model` by our name, and `gap` and `fitted`.

    gap: training accuracy - test accuracy. fitted: a training accuracy of at least FITTED.
    Raises InvalidInput where the packaged file is not the one that was published here.
    """
    content = (files("sharpbench.replays.minimum_sharpness_2021") / "data" / FILE).read_bytes()
    if (found := hashlib.sha256(content).hexdigest()) != SHA256:
        raise InvalidInput(f"{FILE} of this installation has SHA-256 {found}, not {SHA256}; install sharpbench again")
    table = pd.read_csv(io.BytesIO(content))
    return table.assign(
        model=table["model"].map(MODELS),
        gap=table["train_accuracy"] - table["test_accuracy"],
        fitted=table["train_accuracy"] >= FITTED,
    )
