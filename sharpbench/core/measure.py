"""What a measure is: Measure, Estimate, NotApplicable, and the words for invariances, dependences and quantities.

A measure is a frozen dataclass. Its class variables describe it, its fields are its hyperparameters, calling it on a
Subject gives an Estimate, and `exact` gives what the value should have been. This module does not import torch, so that
plugins can be listed without it.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import wraps
from html import escape
from typing import TYPE_CHECKING, ClassVar, Literal, get_args

from sharpbench.core.fields import Scalar, check_fields, is_scalar

if TYPE_CHECKING:
    import pandas as pd
    import torch

    from sharpbench.core.subject import Subject


Invariance = Literal["layer", "unit", "element", "permutation", "attention-rotation", "attention-gl", "logit-scale"]
"""Function-preserving rewrites under which a measure may claim not to change.

layer: one positive scale per parameter tensor; unit: one per channel or hidden unit; element: any diagonal
rescaling that preserves the function; permutation: of hidden units; attention-rotation: of the query-key
space of a head; attention-gl: invertible matrices between queries and keys, values and output, or two linear
layers; logit-scale: a positive factor on the logits (the one that does change the function).
"""

RewriteKind = Literal["layer", "unit", "permutation", "attention-rotation", "attention-gl"]
REWRITE_KINDS: tuple[RewriteKind, ...] = get_args(RewriteKind)
"""Kinds of rewrites of the same function that can be made at random, in the order of their columns."""

Dependence = Literal["dataset-size", "micro-batches"]
"""What a value may depend on by definition: the number of examples (duplicating the data set changes it), and how they
are split into micro-batches."""


Quantity = Literal["trace", "top-eigenvalue"]
"""A quantity of the Hessian of the mean loss; `sharpbench compare` compares the measures that compute it."""


class NotApplicable(Exception):
    """Raised by a measure that has no value for a subject; the message states the reason. The cell is then skipped."""


MAX_SHOWN_PARTS = 20
"""Of an estimate in a notebook; the table leaves out those in the middle."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """The result of a measure on a subject.

    Attributes:
        value: a finite number; a measure without a value raises NotApplicable instead.
        stderr: the standard error of the value over random vectors, on these examples; 0.0 means exact up to rounding,
            None means unknown.
        interval: a 95 % confidence interval (low, high) over random vectors, where the method gives one.
        parts: the value by parameter or layer, summing to it where that makes sense.
        probes: the number of random vectors drawn.
        converged: whether iterations reached their tolerance.
        details: JSON scalars that are copied into the record (method, optimality gap, dropped rows, ...).
        stderr_examples: the standard error of the value over the draw of the examples: by how much it would differ on
            as many other examples of the same distribution. 0.0 means that it does not depend on them, None means
            unknown.
        parts_stderr: the standard errors of the parts over random vectors, where known.

    Raises:
        ValueError: for numbers that are not finite, an interval whose ends are not in order, a negative number of
            probes, and details that are not JSON scalars.

    >>> estimate = sharpbench.Estimate(5.0, stderr=0.5, probes=100)
    >>> estimate.value, estimate.stderr, estimate.stderr_examples
    (5.0, 0.5, None)
    """

    value: float
    stderr: float | None = 0.0
    interval: tuple[float, float] | None = None
    parts: Mapping[str, float] = field(default_factory=dict)
    probes: int = 0
    converged: bool = True
    details: Mapping[str, Scalar] = field(default_factory=dict)
    stderr_examples: float | None = None
    parts_stderr: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not math.isfinite(self.value):
            raise ValueError(f"an estimate's value must be finite, got {self.value}; raise NotApplicable instead")
        for name, error in (("stderr", self.stderr), ("stderr_examples", self.stderr_examples)):
            if error is not None and not 0 <= error < math.inf:
                raise ValueError(f"an estimate's {name} must be finite and at least 0, or None, got {error}")
        numbers = {
            "interval": list(self.interval or ()),
            "parts": list(self.parts.values()),
            "parts_stderr": list(self.parts_stderr.values()),
        }
        for name, values in numbers.items():
            if not all(math.isfinite(value) for value in values):
                raise ValueError(f"an estimate's {name} must be finite, got {values!s:.80}")
        if self.interval is not None and (len(self.interval) != 2 or self.interval[0] > self.interval[1]):
            raise ValueError(f"an estimate's interval must be its low and high end, got {self.interval!s:.80}")
        if self.probes < 0:
            raise ValueError(f"an estimate's probes must be at least 0, got {self.probes}")
        for key, held in self.details.items():
            if not is_scalar(held):
                raise ValueError(f"an estimate's details must be finite JSON scalars, got {key}={held!r:.80}")

    def to_frame(self) -> pd.DataFrame:
        """The value in the row 'value', then one row per part; an empty cell is not known, or not of this row.

        Columns: value, stderr, low and high (the ends of `interval`), stderr_examples.

        >>> sharpbench.Estimate(5.0, parts={"weight": 3.0, "bias": 2.0}).to_frame()["value"].to_dict()
        {'value': 5.0, 'weight': 3.0, 'bias': 2.0}
        """
        import pandas as pd

        low, high = self.interval or (None, None)
        whole = {"value": self.value, "stderr": self.stderr, "low": low, "high": high}
        rows = [{**whole, "stderr_examples": self.stderr_examples}]
        rows += [{"value": part, "stderr": self.parts_stderr.get(name)} for name, part in self.parts.items()]
        columns = [*whole, "stderr_examples"]
        return pd.DataFrame(rows, ["value", *self.parts], columns, dtype=float)

    def to_latex(self) -> str:
        r"""The table of `to_frame`, without empty columns, as LaTeX for the package booktabs; names are escaped.

        >>> print(sharpbench.Estimate(5.0, parts={"out_bias": 2.0}).to_latex().splitlines()[4:6])
        ['value & 5 & 0 \\\\', 'out\\_bias & 2 & - \\\\']
        """
        known = self.to_frame().dropna(axis=1, how="all")
        return known.to_latex(escape=True, na_rep="-", float_format="%.4g", column_format="l" + "r" * known.shape[1])

    def _repr_html_(self) -> str:
        """The table of `to_frame` and the details; names are escaped."""
        known = self.to_frame().dropna(axis=1, how="all")
        table = known.to_html(float_format="{:.5g}".format, na_rep="", max_rows=MAX_SHOWN_PARTS)
        stated = {"probes": self.probes} if self.probes else {}
        words = ", ".join(f"{key}: {held}" for key, held in {**stated, **self.details}.items())
        warning = "" if self.converged else "<p>The iteration did not reach its tolerance.</p>"
        return f"{table}<p>{escape(words)}</p>{warning}"


@dataclass(frozen=True)
class Measure(ABC):
    """The base class of measures: a frozen value that maps a Subject to an Estimate.

    Class variables:
        name: what users type; lower case, words joined by hyphens.
        title: one line for tables and pages.
        family: what kind of quantity the value is, in a few words; the site filters by it. Those of sharpbench are
            curvature, rescaled curvature, Fisher information, perturbation, PAC-Bayes, norm and reference.
        source: the paper, with the number of the defining equation.
        version: raise it by hand when the value for the same subject changes; it is part of every record's key.
        depends: what the value depends on by definition (see `Dependence`).
        oracle_limit: with more parameters than this, `exact` is the engine itself in float64, which tests rounding
            only; records state so. None: `exact` is independent of the fast path for every network.
        definition: the formula, one line of plain text.
        reduction: what is averaged or summed over what, and which logarithm.
        included: which of the measured parameters count.
        cost: of one call, in gradients (one forward and backward pass over all examples).
        bibtex: the entry, or entries, to cite.
        quantity: what the value is, where other measures compute or estimate the same; `sharpbench compare` compares
            them. A matrix that equals the Hessian only on some networks still counts as the Hessian.
        penalised: whether the value of a subject with weight decay holds the penalty; the others are not applicable.
        contests: the hyperparameters, as written between brackets, with which the measure takes part in comparisons.
    definition, reduction, included, cost and bibtex are for `sharpbench info` and the generated pages; '' omits them.

    Fields of the subclass are its hyperparameters, `name[field=value]` on the command line. Values that do not match
    their annotations raise InvalidInput before the subclass's `__post_init__` runs, which checks their bounds.

    >>> from dataclasses import dataclass
    >>> @dataclass(frozen=True)
    ... class WeightNorm(sharpbench.Measure):
    ...     name, title, source = "weight-norm", "sum of squared weights", "folklore"
    ...     def __call__(self, subject, *, generator):
    ...         return sharpbench.Estimate(sum(float(value.square().sum()) for value in subject.params.values()))
    ...     def exact(self, subject):
    ...         return None
    ...     def invariances(self):
    ...         return frozenset({"permutation"})
    >>> sharpbench.measure(WeightNorm(), subject).value
    0.0
    """

    name: ClassVar[str]
    title: ClassVar[str]
    family: ClassVar[str] = "other"
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
    penalised: ClassVar[bool] = False
    contests: ClassVar[tuple[str, ...]] = ("",)

    def __init_subclass__(cls) -> None:
        """Run the check of annotations before a `__post_init__` of the subclass, which would replace it."""
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
        """The Estimate on `subject`; `generator`, on the CPU, is the only source of randomness."""

    @abstractmethod
    def exact(self, subject: Subject) -> float | None:
        """The value that `subject` should have, by the slowest and most obvious method; None where there is none."""

    @abstractmethod
    def invariances(self) -> frozenset[Invariance]:
        """The rewrites that do not change the value; may depend on the hyperparameters."""

    def prepare(self, subject: Subject) -> None:  # noqa: B027 - optional, and by default nothing
        """Prepare for a timed call on this subject; optional, and nothing by default.

        For what users do once per network, not once per measurement: an adapter of another library copies the network
        here, which the library may change, and wraps it. It is not timed, and no value depends on it. What the call
        refuses, it refuses itself, not here.

        Args:
            subject: the one of the timed call.
        """

    def diagonal_entries(self, subject: Subject, *, generator: torch.Generator) -> dict[str, torch.Tensor]:
        """The diagonal, by parameter and shaped like it, of the matrix whose trace the value is; optional.

        Args:
            subject: as of the call.
            generator: on the CPU, the only source of randomness.

        Raises:
            NotApplicable: where the measure has no diagonal.
        """
        raise NotApplicable(f"{self.name} has no diagonal")
