"""ASAM (Kwon, Kim, Park, Choi 2021): whether it generalizes better than SAM and SGD, at small scale."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sharpbench.models.paper import Mlp, SmallCnn
from sharpbench.replays.optimizer_comparison import GeneralizationReplay, Tasks
from sharpbench.training.optimizers import Asam, Optimizer, Sam, Sgd

SGD, SAM, ASAM, ASAM_BY_FILTER = Sgd(), Sam(), Asam(), Asam(normalization="filter")


@dataclass(frozen=True)
class Asam2021(GeneralizationReplay):
    """Compares SGD, SAM, ASAM by entry and ASAM by filter, at the papers' default radii."""

    name: ClassVar[str] = "asam-2021"
    title: ClassVar[str] = "ASAM, replayed at small scale"
    source: ClassVar[str] = (
        "Kwon, Kim, Park, Choi 2021, ASAM: Adaptive Sharpness-Aware Minimization for Scale-Invariant Learning of Deep "
        "Neural Networks, arXiv 2102.11600"
    )
    optimizers: ClassVar[tuple[Optimizer, ...]] = (SGD, SAM, ASAM, ASAM_BY_FILTER)
    pairs: ClassVar[tuple[tuple[Optimizer, Optimizer], ...]] = (
        (SAM, SGD),
        (ASAM, SGD),
        (ASAM, SAM),
        (ASAM_BY_FILTER, SGD),
        (ASAM_BY_FILTER, SAM),
        (ASAM_BY_FILTER, ASAM),
    )
    tasks: ClassVar[Tasks] = ((0.0, (Mlp(), SmallCnn())), (0.2, (Mlp(),)))
    size: ClassVar[str] = "mlp and small-cnn, and mlp with 20 % of label noise"
    remark: ClassVar[str] = (
        "rho is 0.05 for SAM and 0.5 for ASAM with eta 0.01: the papers' values for CIFAR-10, where ASAM's authors "
        "find ASAM above SAM above SGD. The perceptron has no filters: there, ASAM by filter is ASAM by entry with "
        "other seeds, and differences between the two are chance."
    )
