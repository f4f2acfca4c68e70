"""Friendly SAM (Li, Zhou, He, Cheng, Huang 2024): whether SAM is better without the mean gradient, at small scale."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sharpbench.models.paper import SmallCnn, SmallMlp
from sharpbench.replays.optimizer_comparison import GeneralizationReplay, Tasks
from sharpbench.training.optimizers import FriendlySam, Optimizer, Sam, Sgd

SGD, SAM, SAM_WITH_LARGER_RADIUS, FRIENDLY_SAM = Sgd(), Sam(), Sam(rho=0.2), FriendlySam()


@dataclass(frozen=True)
class FriendlySam2024(GeneralizationReplay):
    """Compares SGD, SAM at its default radius, SAM at F-SAM's radius, and F-SAM."""

    name: ClassVar[str] = "friendly-sam-2024"
    title: ClassVar[str] = "Friendly SAM, replayed at small scale"
    source: ClassVar[str] = "Li, Zhou, He, Cheng, Huang 2024, Friendly Sharpness-Aware Minimization, arXiv 2403.12350"
    optimizers: ClassVar[tuple[Optimizer, ...]] = (SGD, SAM, SAM_WITH_LARGER_RADIUS, FRIENDLY_SAM)
    pairs: ClassVar[tuple[tuple[Optimizer, Optimizer], ...]] = (
        (SAM, SGD),
        (SAM_WITH_LARGER_RADIUS, SGD),
        (FRIENDLY_SAM, SGD),
        (FRIENDLY_SAM, SAM),
        (FRIENDLY_SAM, SAM_WITH_LARGER_RADIUS),
    )
    tasks: ClassVar[Tasks] = ((0.0, (SmallMlp(), SmallCnn())), (0.2, (SmallMlp(),)))
    size: ClassVar[str] = "small-mlp and small-cnn, and small-mlp with 20 % of label noise"
    remark: ClassVar[str] = (
        "rho is 0.05 for SAM, and 0.2 for F-SAM with sigma 1 and smoothing 0.9, as in its authors' code. SAM with "
        "rho 0.2 is included so that the radius does not explain a difference. F-SAM's authors find it above SAM."
    )
