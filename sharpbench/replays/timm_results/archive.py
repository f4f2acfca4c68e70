"""The accuracies that timm publishes for its pretrained models on six test sets, as package data.

Source: Wightman, PyTorch Image Models (timm), results/*.csv of github.com/huggingface/pytorch-image-models,
Apache-2.0.
"""

from __future__ import annotations

import hashlib
import io
import re
from importlib.resources import files

import pandas as pd

from sharpbench.errors import InvalidInput

FILE_NAME = "timm_results.csv"
SHA256 = "c4e9e5709426938b4c4119ecf40d09e4a666318b5619f53bf3e3642a309f4aa4"
"""SHA-256 of the packaged file."""
COLUMNS = {
    "model": "timm's name of the model and its weights",
    "img_size": "pixels per side of the test images",
    "param_count": "parameters, in millions",
    "imagenet": "top-1 accuracy in per cent on the 50,000 validation images of ImageNet",
    "real": "on the same images with the labels of Beyer et al. 2020, ImageNet-ReaL",
    "v2": "on ImageNet-V2, matched frequency (Recht et al. 2019)",
    "sketch": "on ImageNet-Sketch (Wang et al. 2019)",
    "a_clean": "on the validation images of the 200 classes of ImageNet-A",
    "a": "on ImageNet-A (Hendrycks et al. 2021), images that a ResNet-50 mistakes",
    "r_clean": "on the validation images of the 200 classes of ImageNet-R",
    "r": "on ImageNet-R (Hendrycks et al. 2021), renditions",
}
SHIFTS = {
    "v2": ("imagenet", "v2"),
    "real": ("imagenet", "real"),
    "sketch": ("imagenet", "sketch"),
    "a": ("a_clean", "a"),
    "r": ("r_clean", "r"),
}
"""Test set -> the columns whose difference is the drop of accuracy: of the same classes before, and on the set."""
FAMILY_PATTERN = re.compile(r"(?:tf_|legacy_|cs|dm_|gc)?([a-z]+)")


def read_timm_results() -> pd.DataFrame:
    """One row per model and resolution: COLUMNS, `family`, and for each of SHIFTS `drop_NAME`, in percentage points.

    A family is the first word of the model's name without version: models of one family resemble each other.

    Raises:
        InvalidInput: if the packaged file has been changed.

    >>> read_timm_results().query("model == 'resnet50.a1_in1k' and img_size == 224")["drop_v2"].round(2).tolist()
    [11.91]
    """
    content = (files("sharpbench.replays.timm_results") / "data" / FILE_NAME).read_bytes()
    if (found := hashlib.sha256(content).hexdigest()) != SHA256:
        raise InvalidInput(
            f"{FILE_NAME} of this installation has SHA-256 {found}, not {SHA256}; install sharpbench again"
        )
    table = pd.read_csv(io.BytesIO(content))
    drops = {f"drop_{name}": table[before] - table[after] for name, (before, after) in SHIFTS.items()}
    return table.assign(family=table["model"].map(_family), **drops)


def _family(model: str) -> str:
    found = FAMILY_PATTERN.match(model)
    return found[1] if found else model
