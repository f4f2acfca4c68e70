"""The contract of a measure: Measure, Estimate, NotApplicable.

A measure is a frozen dataclass. Its class variables say what it is, its fields are its hyperparameters,
calling it on a Subject gives an Estimate, and `exact` says what the value should have been. Nothing here
imports torch, so that a plugin can be listed without it.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import wraps
from typing import TYPE_CHECKING, ClassVar, Literal

from sharpbench.core.fields import Scalar, check_fields, is_scalar

if TYPE_CHECKING:
    import torch

    from sharpbench.core.subject import Subject


Invariance = Literal["layer", "unit", "element", "permutation", "attention-rotation", "logit-scale"]
"""Function-preserving rewrites under which a measure may claim not to change.

layer: one positive scale a parameter tensor; unit: one a channel or hidden unit; element: any diagonal
rescaling that preserves the function; permutation: of hidden units; attention-rotation: of the query-key
space of a head; logit-scale: a positive factor on the logits (the one that does change the function).
"""

Dependence = Literal["dataset-size", "micro-batches"]
"""What a value depends on by definition, and so need not be independent of: how many examples there are
(duplicating the data set changes it), and how they are split into micro-batches."""


Quantity = Literal["trace", "top-eigenvalue"]
"""Of the Hessian of the mean loss: what `sharpbench compare` sets the measures that compute it side by side by."""


class NotApplicable(Exception):
    """Raised by a measure that has no value for a subject; the message says why. The one way to skip."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a measure says of a subject.

    value: the number; finite (a measure without a value raises NotApplicable instead).
    stderr: its standard error; 0.0 means exact up to rounding, None means unknown.
    interval: a 95 % confidence interval (low, high), where the method gives one.
    parts: the value by parameter (or by layer), summing to it where that makes sense.
    probes: how many random vectors were drawn.
    converged: whether an iteration inside reached its tolerance.
    details: JSON scalars that enter the record unchanged (method, optimality gap, dropped rows, ...).
    """

    value: float
    stderr: float | None = 0.0
    interval: tuple[float, float] | None = None
    parts: Mapping[str, float] = field(default_factory=dict)
    probes: int = 0
    converged: bool = True
    details: Mapping[str, Scalar] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not math.isfinite(self.value):
            raise ValueError(f"an estimate's value must be finite, got {self.value}; raise NotApplicable instead")
        if self.stderr is not None and not 0 <= self.stderr < math.inf:
            raise ValueError(f"an estimate's stderr must be finite and at least 0, or None, got {self.stderr}")
        numbers = {"interval": list(self.interval or ()), "parts": list(self.parts.values())}
        for name, values in numbers.items():
            if not all(math.isfinite(value) for value in values):
                raise ValueError(f"an estimate's {name} must be finite, got {values!s:.80}")
        for key, held in self.details.items():
            if not is_scalar(held):
                raise ValueError(f"an estimate's details must be finite JSON scalars, got {key}={held!r:.80}")


@dataclass(frozen=True)
class Measure(ABC):
    """The contract of a plugin: a frozen value that maps a Subject to an Estimate.

    Class variables
        name: what users type; lower case, words joined by hyphens.
        title: one line for tables and pages.
        source: the paper, with the number of the defining equation.
        version: raise it by hand when the value for the same subject changes; part of every record's key.
        depends: what the value depends on by definition (see `Dependence`).
        oracle_limit: above so many parameters `exact` is the engine itself in float64, a check of rounding alone;
            records mark it so. None: `exact` is independent of the fast path for every network.
        definition: the formula, one line of plain text.
        reduction: what is averaged or summed over what, and which logarithm.
        included: which of the parameters under measurement count.
        cost: of one call, in gradients (one forward and backward pass over all examples).
        bibtex: the entry, or entries, to cite.
    The last five are for `sharpbench info` and the generated pages; '' leaves them unsaid.
        quantity: what the value is, where other measures compute, or estimate, the same; `sharpbench compare` sets
            them side by side. A matrix that agrees with the Hessian on some networks alone is no obstacle.
        contests: the hyperparameters, as they stand between brackets, with which the measure takes part there.
    Fields of the subclass are its hyperparameters: `name[field=value]` on the command line. Values that are not of
    their annotations raise InvalidInput before the `__post_init__` of the subclass, which checks their bounds.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    source: ClassVar[str]
    version: ClassVar[int] = 1
    depends: ClassVar[frozenset[Dependence]] = frozenset()
    oracle_limit: ClassVar[int | None] = None
    definition: ClassVar[str] = ""
    reduction: ClassVar[str] = ""
    included: ClassVar[str] = ""
    cost: ClassVar[str] = ""
    bibtex: ClassVar[str] = ""
    quantity: ClassVar[Quantity | None] = None
    contests: ClassVar[tuple[str, ...]] = ("",)

    def __init_subclass__(cls) -> None:
        """A `__post_init__` of the subclass's own follows the check of the annotations, which it would replace."""
        super().__init_subclass__()
        if bounds := cls.__dict__.get("__post_init__"):

            @wraps(bounds)
            def checked(self: Measure) -> None:
                check_fields(self)
                bounds(self)

            cls.__post_init__ = checked  # type: ignore[method-assign]

    def __post_init__(self) -> None:
        check_fields(self)

    @abstractmethod
    def __call__(self, subject: Subject, *, generator: torch.Generator) -> Estimate:
        """The measure's estimate on `subject`; `generator` (on the CPU) is the only randomness."""

    @abstractmethod
    def exact(self, subject: Subject) -> float | None:
        """What the value should be, by the slowest and most obvious way there is; None where there is none."""

    @abstractmethod
    def invariances(self) -> frozenset[Invariance]:
        """The rewrites that leave the value unchanged; may depend on the hyperparameters."""

    def prepare(self, subject: Subject) -> None:  # noqa: B027 - optional, and by default nothing
        """What people do once a network, not once a measurement: before a timed call on this very subject; optional.

        An adapter of another library makes here the copy of the network that the library may write to, and wraps it.
        Not timed, and no value depends on it. What the call refuses is refused there alone, not here.
        """

    def diagonal_entries(self, subject: Subject, *, generator: torch.Generator) -> dict[str, torch.Tensor]:
        """The diagonal of the matrix whose trace the value is, by parameter and shaped like it; optional."""
        raise NotApplicable(f"{self.name} has no diagonal")
