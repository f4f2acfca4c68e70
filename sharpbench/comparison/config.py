"""Settings: what is compared, on which networks, and how; and who takes part."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from sharpbench.comparison.measurement import GRADIENT, ORACLE
from sharpbench.core.fields import Scalar
from sharpbench.core.measure import Measure, Quantity
from sharpbench.core.registry import available
from sharpbench.core.spec import format_spec, parse_spec
from sharpbench.datasets.dataset import Dataset
from sharpbench.errors import InvalidInput, short
from sharpbench.models.file import File
from sharpbench.models.model import Model
from sharpbench.runner.single_network import LARGEST

Compared = Quantity | Literal["diagonal"]
COMPARED: tuple[str, ...] = (*get_args(Quantity), "diagonal")
BATCHES = (16, 64, 256, 1024)


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What is compared, and how.

    examples: n. weights: 'trained', 'random', or a file of weights. batches: the sizes that are searched, of which
    those above n count as n. timeout: seconds that a call may take.
    """

    quantity: Compared
    models: tuple[Model, ...]
    measures: tuple[Measure, ...]
    dataset: Dataset
    examples: int = 1024
    weights: str = "trained"
    dtype: str = "float32"
    device: str = "cpu"
    threads: int = 1
    repeats: int = 7
    batches: tuple[int, ...] = BATCHES
    timeout: float = 120.0
    seed: int = 0

    def __post_init__(self) -> None:
        _check_quantity(self.quantity)
        if self.dtype not in ("float32", "float64"):
            raise InvalidInput(f"dtype '{short(self.dtype)}' is none of float32, float64")
        bounds = (("n", self.examples, LARGEST), ("threads", self.threads, 1024), ("repeats", self.repeats, 1000))
        for name, value, most in bounds:
            if not 1 <= value <= most:
                raise InvalidInput(f"{name}={value} must be from 1 to {most}")
        if not self.batches or not all(1 <= size <= LARGEST for size in self.batches):
            raise InvalidInput(f"batches={short(str(list(self.batches)))} must be whole numbers from 1 to {LARGEST}")
        if not (math.isfinite(self.timeout) and self.timeout > 0):
            raise InvalidInput(f"timeout={self.timeout} must be a number of seconds above 0")
        if not 0 <= self.seed < 2**63:
            raise InvalidInput(f"seed={self.seed} must be from 0 to {2**63 - 1}")
        for measure in self.measures:
            if format_spec(measure) in (GRADIENT, ORACLE):
                raise InvalidInput(f"measure '{format_spec(measure)}' has the name of a row that is none; rename it")
            if not _takes_part(type(measure), self.quantity):
                raise InvalidInput(
                    f"measure '{format_spec(measure)}' does not compute {_named(self.quantity)}; those that do: "
                    f"{', '.join(_offered(self.quantity)) or 'none that is installed'}"
                )

    @property
    def sizes(self) -> tuple[int, ...]:
        """The batch sizes that are searched, rising, none above n."""
        return tuple(sorted({min(size, self.examples) for size in self.batches}))

    def row(self) -> dict[str, Scalar]:
        """What the rows of one network share, as JSON scalars; neither model nor measures."""
        return {
            "dataset": format_spec(self.dataset),
            "examples": self.examples,
            "dtype": self.dtype,
            "device": self.device,
            "threads": self.threads,
            "repeats": self.repeats,
            "batches": ",".join(map(str, self.sizes)),
            "timeout": float(self.timeout),
            "seed": self.seed,
        }


def contestants(quantity: str, plugins: Sequence[Path] = ()) -> tuple[Measure, ...]:
    """Every installed measure of the quantity, with each of its contests; of a diagonal those that have one."""
    _check_quantity(quantity)
    offered = available("measures", plugins).classes
    chosen: list[Measure] = []
    for name in _offered(quantity, plugins):
        words = [f"{name}[{contest}]" if contest else name for contest in offered[name].contests]
        chosen += [parse_spec(word, offered, kind="measure") for word in words]
    if not chosen:
        raise InvalidInput(f"no installed measure computes {_named(quantity)}; name a file with --plugin")
    return tuple(dict.fromkeys(chosen))


def model_word(model: Model) -> str:
    """The network as it is typed."""
    return f"{model.path}:{model.factory}" if isinstance(model, File) else format_spec(model)


def _offered(quantity: str, plugins: Sequence[Path] = ()) -> list[str]:
    return [name for name, cls in available("measures", plugins).classes.items() if _takes_part(cls, quantity)]


def _takes_part(cls: type[Measure], quantity: str) -> bool:
    if quantity == "diagonal":
        return cls.quantity == "trace" and cls.diagonal_entries is not Measure.diagonal_entries
    return cls.quantity == quantity


def _check_quantity(quantity: str) -> None:
    if quantity not in COMPARED:
        raise InvalidInput(f"quantity '{short(quantity)}' is none of {', '.join(COMPARED)}")


def _named(quantity: str) -> str:
    return "the diagonal of the Hessian" if quantity == "diagonal" else f"quantity '{quantity}'"
