"""PlanOptions: how the networks of a plan are measured, and on how many of them values are checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from sharpbench.environment import resolve_device
from sharpbench.errors import InvalidInput
from sharpbench.runner.cell import Checks, EvaluationSetting, Precision

LEAST = {"examples": 1, "timing": 0, "oracle": 0, "invariance": 0}
"""The least number that a field of PlanOptions may be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanOptions:
    """How the networks of a plan are measured.

    Attributes:
        seed: of the random numbers of the measures.
        dtype: the precision in which measures are evaluated.
        device: 'auto', 'cpu' or 'cuda'.
        examples: the number of training examples of each network that is measured on; None: all.
        timing: on how many networks of each model the standalone cost is measured.
        oracle: on how many the value is compared with the measure's oracle.
        invariance: on how many the change under rewrites of the same function is found.
        data_dir: the folder of data sets; None is $SHARPBENCH_DATA.
        plugins: Python files whose measures, models and so on can be named too.

    Raises:
        InvalidInput: for numbers and a precision that there are not.

    >>> options = sharpbench.PlanOptions(device="cpu", examples=100, oracle=0, invariance=0)
    >>> cells = sharpbench.plan("trace", "small-mlp", options, cohort="label-noise[ratios=2,seeds=1]")
    >>> [cell.checks.names for cell in cells]
    [('timing',), ()]
    """

    seed: int = 0
    dtype: Precision = "float32"
    device: str = "auto"
    examples: int | None = None
    timing: int = 1
    oracle: int = 1
    invariance: int = 1
    data_dir: Path | str | None = None
    plugins: Sequence[Path] = ()

    def __post_init__(self) -> None:
        for name, least in LEAST.items():
            value = getattr(self, name)
            if value is not None and value < least:
                raise InvalidInput(f"{name}={value} must be at least {least}")
        EvaluationSetting(seed=self.seed, dtype=self.dtype)  # it checks both

    def resolve_setting(self) -> EvaluationSetting:
        """How measures are evaluated, on the device found. Raises InvalidInput for a device that there is not."""
        return EvaluationSetting(seed=self.seed, dtype=self.dtype, device=resolve_device(self.device))

    def checks_at(self, position: int) -> Checks:
        """What is found of the network at `position` in its population in addition to the value."""
        return Checks(
            timed=position < self.timing, compared=position < self.oracle, rewritten=position < self.invariance
        )


class PlanKeywords(TypedDict, total=False):
    """The fields of PlanOptions as keywords of `plan`."""

    seed: int
    dtype: Precision
    device: str
    examples: int | None
    timing: int
    oracle: int
    invariance: int
    data_dir: Path | str | None
    plugins: Sequence[Path]
