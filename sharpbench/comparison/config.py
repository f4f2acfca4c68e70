"""Settings of a comparison, and the measures that take part in it by default."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from sharpbench.comparison.measurement import GRADIENT, ORACLE
from sharpbench.core.fields import Scalar
from sharpbench.core.measure import Measure, Quantity
from sharpbench.core.registry import available
from sharpbench.core.spec import format_spec, parse_spec
from sharpbench.datasets.dataset import Dataset
from sharpbench.errors import InvalidInput, shorten
from sharpbench.files import Workspace
from sharpbench.models.file import File
from sharpbench.models.model import Model
from sharpbench.runner.network_evaluation import MAX_COUNT
from sharpbench.runner.preparation import Preparation

ComparedQuantity = Quantity | Literal["diagonal"]
COMPARED_QUANTITIES: tuple[str, ...] = (*get_args(Quantity), "diagonal")
BATCH_SIZES = (16, 64, 256, 1024)


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What is compared, on which networks, and how.

    Args:
        quantity: the quantity that all measures compute.
        models: the networks.
        measures: the contestants.
        dataset: where the examples come from.
        examples: the number of examples n.
        weights: "trained", "random", or a file of weights.
        preparation: how the examples become inputs; only the default for "trained", whose networks fix it.
        dtype: "float32" or "float64".
        device: "cpu" or "cuda".
        threads: threads of torch.
        repeats: the number of rounds.
        batches: the batch sizes that are searched; sizes above n are treated as n.
        timeout: seconds that one call may take.
        seed: seed of the random probes, of random weights and of the order within rounds.

    Raises:
        InvalidInput: for a value out of bounds, or a measure that does not compute the quantity.
    """

    quantity: ComparedQuantity
    models: tuple[Model, ...]
    measures: tuple[Measure, ...]
    dataset: Dataset
    examples: int = 1024
    weights: str = "trained"
    preparation: Preparation = field(default_factory=Preparation)
    dtype: str = "float32"
    device: str = "cpu"
    threads: int = 1
    repeats: int = 7
    batches: tuple[int, ...] = BATCH_SIZES
    timeout: float = 120.0
    seed: int = 0

    def __post_init__(self) -> None:
        _check_quantity(self.quantity)
        if self.dtype not in ("float32", "float64"):
            raise InvalidInput(f"dtype '{shorten(self.dtype)}' is none of float32, float64")
        bounds = (("n", self.examples, MAX_COUNT), ("threads", self.threads, 1024), ("repeats", self.repeats, 1000))
        for name, value, upper in bounds:
            if not 1 <= value <= upper:
                raise InvalidInput(f"{name}={value} must be from 1 to {upper}")
        if not self.batches or not all(1 <= size <= MAX_COUNT for size in self.batches):
            raise InvalidInput(
                f"batches={shorten(str(list(self.batches)))} must be whole numbers from 1 to {MAX_COUNT}"
            )
        if not (math.isfinite(self.timeout) and self.timeout > 0):
            raise InvalidInput(f"timeout={self.timeout} must be a number of seconds above 0")
        if self.weights == "trained" and self.preparation != Preparation():
            raise InvalidInput(
                "mean, std and transform are for networks trained elsewhere; give --weights random or a file"
            )
        if not 0 <= self.seed < 2**63:
            raise InvalidInput(f"seed={self.seed} must be from 0 to {2**63 - 1}")
        for measure in self.measures:
            spec = format_spec(measure)
            if spec in (GRADIENT, ORACLE):
                raise InvalidInput(f"measure '{spec}' has the name of a row that is not a measure; rename it")
            if not _computes(type(measure), self.quantity):
                raise InvalidInput(
                    f"measure '{spec}' does not compute {_quantity_text(self.quantity)}; those that do: "
                    f"{', '.join(_measure_names(self.quantity)) or 'none that is installed'}"
                )

    @property
    def sizes(self) -> tuple[int, ...]:
        """The batch sizes that are searched: ascending, at most n."""
        return tuple(sorted({min(size, self.examples) for size in self.batches}))

    def to_settings(self) -> dict[str, Scalar]:
        """The settings that all rows of one network share, as JSON scalars; without model and measures."""
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
            **_preparation_settings(self.preparation),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What the process of a contestant is started with.

    Attributes:
        measure: the spec of the measure; None for the gradient.
        quantity: the quantity that is compared.
        model: the model as it is written on the command line.
        file: the file of the network's state and examples.
        outputs: the number of outputs of the network.
        dtype: the precision in which the contestant computes.
    """

    measure: str | None
    quantity: str
    model: str
    file: Path
    outputs: int
    dtype: str
    workspace: Workspace


def find_contestants(quantity: str, plugins: Sequence[Path] = ()) -> tuple[Measure, ...]:
    """Every installed measure of a quantity, in each configuration that its `contests` list.

    Args:
        quantity: one of COMPARED_QUANTITIES. For "diagonal" these are the measures of the trace that have one.
        plugins: files of plugins whose measures also take part.

    Raises:
        InvalidInput: for an unknown quantity, or one that no installed measure computes.

    >>> {measure.quantity for measure in find_contestants("top-eigenvalue")}
    {'top-eigenvalue'}
    """
    _check_quantity(quantity)
    classes = available("measures", plugins).classes
    found: list[Measure] = []
    for name in _measure_names(quantity, plugins):
        specs = [f"{name}[{contest}]" if contest else name for contest in classes[name].contests]
        found += [parse_spec(spec, classes, kind="measure") for spec in specs]
    if not found:
        raise InvalidInput(f"no installed measure computes {_quantity_text(quantity)}; name a file with --plugin")
    return tuple(dict.fromkeys(found))


def format_model(model: Model) -> str:
    """The model as it is written on the command line."""
    return f"{model.path}:{model.factory}" if isinstance(model, File) else format_spec(model)


def _preparation_settings(preparation: Preparation) -> dict[str, Scalar]:
    """How inputs are prepared, as its options are typed; nothing for the default."""
    typed = {"mean": ",".join(f"{each:g}" for each in preparation.mean)}
    typed["std"] = ",".join(f"{each:g}" for each in preparation.std)
    typed["transform"] = preparation.transform or ""
    return {**preparation.key_fields(), **{name: text for name, text in typed.items() if text}}


def _measure_names(quantity: str, plugins: Sequence[Path] = ()) -> list[str]:
    return [name for name, cls in available("measures", plugins).classes.items() if _computes(cls, quantity)]


def _computes(cls: type[Measure], quantity: str) -> bool:
    if quantity == "diagonal":
        return cls.quantity == "trace" and cls.diagonal_entries is not Measure.diagonal_entries
    return cls.quantity == quantity


def _check_quantity(quantity: str) -> None:
    if quantity not in COMPARED_QUANTITIES:
        raise InvalidInput(f"quantity '{shorten(quantity)}' is none of {', '.join(COMPARED_QUANTITIES)}")


def _quantity_text(quantity: str) -> str:
    return "the diagonal of the Hessian" if quantity == "diagonal" else f"quantity '{quantity}'"
