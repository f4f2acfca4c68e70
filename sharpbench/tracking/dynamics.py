"""Measures of the dynamics of training: what each says of one step, with the optimizer and what earlier steps left."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from sharpbench.core.fields import check_fields
from sharpbench.core.measure import Estimate, NotApplicable
from sharpbench.core.subject import Params, Subject
from sharpbench.curvature import (
    FollowedEigenvalue,
    LinearOperator,
    check_lanczos,
    flatten,
    follow_eigenvalue,
    gradient_method,
    held_operator,
    hvp,
    linear_operator,
    perturbed_loss,
    scaled_operator,
)
from sharpbench.errors import InvalidInput
from sharpbench.tracking.optimizer import OptimizerReader

NEAR, FAR = 1.1, 2.0
"""Factors of the search for the critical step: the first from a known one, and the largest."""
MAX_ROUNDING = 0.5
"""The largest rounding of the loss, relative to the slope times the critical step, that leaves a value. The error of
the value was a tenth of it in linear networks."""


@dataclass(slots=True, eq=False)
class Moment:
    """What a measure of the dynamics may look at: the network at this step, its optimizer, and earlier results.

    memory: what each measure left for its next call, by the measure. generator: the only randomness, on the CPU.
    """

    subject: Subject
    reader: OptimizerReader | None
    generator: torch.Generator
    memory: dict[DynamicsMeasure, Any]
    _found: dict[str, Any] = field(default_factory=dict, init=False)

    def _once(self, name: str, make: Callable[[], Any]) -> Any:
        if name not in self._found:
            self._found[name] = make()
        return self._found[name]

    @property
    def gradient(self) -> Params:
        """The gradient of the loss of the tracked examples, computed once a moment."""
        gradient, _ = self._once("gradient", self._differentiate)
        return dict(gradient)

    @property
    def loss(self) -> float:
        """The loss of the tracked examples."""
        return float(self._once("gradient", self._differentiate)[1])

    def _differentiate(self) -> tuple[Params, Tensor]:
        method = gradient_method(self.subject)
        with method.operators():
            return method.gradient_and_value(self.subject.loss, self.subject.params)

    @property
    def hessian(self) -> LinearOperator:
        """Products with the Hessian, whose first backward pass all measures of the moment share."""
        operator: LinearOperator = self._once("hessian", lambda: held_operator(self.subject))
        return operator

    def require_reader(self) -> OptimizerReader:
        """The optimizer. Raises NotApplicable where none was given."""
        if self.reader is None:
            raise NotApplicable("no optimizer is known; give optimizer= to the tracker")
        return self.reader


@dataclass(frozen=True)
class DynamicsMeasure(ABC):
    """A measure of one step of training, as a frozen value whose fields are its options.

    name: what users type. title: one line. cost: of one call, in gradients over the tracked examples.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    cost: ClassVar[str]

    def __post_init__(self) -> None:
        check_fields(self)

    @abstractmethod
    def __call__(self, moment: Moment) -> Estimate:
        """The Estimate at this moment. Raises NotApplicable where there is none."""


def _follow(
    measure: DynamicsMeasure, operator: LinearOperator, moment: Moment, *, tolerance: float, steps: int
) -> Estimate:
    """The largest eigenvalue of the operator, from what the measure's last call left."""
    before: FollowedEigenvalue | None = moment.memory.get(measure)
    if not math.isfinite(moment.loss):
        raise NotApplicable(f"the loss is {moment.loss}")
    found = follow_eigenvalue(operator, before, generator=moment.generator, tolerance=tolerance, steps=steps)
    if not math.isfinite(found.value):
        raise NotApplicable("products with the Hessian are not finite")
    moment.memory[measure] = found
    details = {"products": found.products, "residual": found.residual, "start": "warm" if found.warm else "cold"}
    return Estimate(found.value, stderr=0.0 if found.converged else None, converged=found.converged, details=details)


@dataclass(frozen=True)
class FollowedTopEigenvalue(DynamicsMeasure):
    """lambda_max of the Hessian or Gauss-Newton matrix, by Lanczos from the eigenvector of the last call.

    Full-batch gradient descent settles where it is 2 / eta.

    Source: Cohen, Kaur, Li, Kolter, Talwalkar 2021, Gradient Descent on Neural Networks Typically Occurs at the Edge
    of Stability, arXiv 2103.00065.
    """

    name: ClassVar[str] = "top-eigenvalue"
    title: ClassVar[str] = "largest eigenvalue of the Hessian, from the last eigenvector"
    cost: ClassVar[str] = "2 gradients, and 2 for each of about 3 to 8 products"
    matrix: Literal["hessian", "gauss-newton"] = "hessian"
    tolerance: float = 0.01
    steps: int = 100

    def __post_init__(self) -> None:
        super().__post_init__()
        check_lanczos(self.tolerance, self.steps)

    def __call__(self, moment: Moment) -> Estimate:
        """See DynamicsMeasure; details: the products, the residual, and whether the start was warm."""
        hessian = self.matrix == "hessian"
        operator = moment.hessian if hessian else linear_operator(moment.subject, self.matrix)
        return _follow(self, operator, moment, tolerance=self.tolerance, steps=self.steps)


@dataclass(frozen=True)
class PreconditionedSharpness(DynamicsMeasure):
    """lambda_max(P^-1/2 H P^-1/2) with the optimizer's preconditioner P, whose state is read.

    Full-batch Adam settles where it is (2 + 2 beta_1) / ((1 - beta_1) eta), which is 38 / eta for beta_1 = 0.9. With
    several learning rates, eta is the largest and P holds the ratios.

    Source: Cohen et al. 2022, Adaptive Gradient Methods at the Edge of Stability, arXiv 2207.14484.
    """

    name: ClassVar[str] = "preconditioned-sharpness"
    title: ClassVar[str] = "largest eigenvalue of the Hessian as the optimizer scales it"
    cost: ClassVar[str] = "2 gradients, and 2 for each of about 3 to 8 products"
    tolerance: float = 0.01
    steps: int = 100

    def __post_init__(self) -> None:
        super().__post_init__()
        check_lanczos(self.tolerance, self.steps)

    def __call__(self, moment: Moment) -> Estimate:
        """See DynamicsMeasure; details: those of the top eigenvalue, and the bound."""
        reader = moment.require_reader()
        scale = flatten(reader.inverse_preconditioner(moment.subject.params)).sqrt()
        found = _follow(
            self, scaled_operator(moment.hessian, scale), moment, tolerance=self.tolerance, steps=self.steps
        )
        return replace(found, details={**found.details, "bound": reader.bound})


@dataclass(frozen=True)
class GradientNorm(DynamicsMeasure):
    """|g|, the Euclidean norm of the gradient of the tracked examples' loss."""

    name: ClassVar[str] = "gradient-norm"
    title: ClassVar[str] = "norm of the gradient of the tracked examples' loss"
    cost: ClassVar[str] = "1 gradient"

    def __call__(self, moment: Moment) -> Estimate:
        """See DynamicsMeasure."""
        value = float(torch.linalg.vector_norm(flatten(moment.gradient).double()))
        if not math.isfinite(value):
            raise NotApplicable("the gradient is not finite")
        return Estimate(value, stderr=0.0)


@dataclass(frozen=True)
class BatchSharpness(DynamicsMeasure):
    """E_B[g_B^T H_B g_B / |g_B|^2] over random batches B of `size` tracked examples.

    g_B and H_B are of the mean loss of the batch. SGD without momentum settles where it is 2 / eta, with `size` that
    of its batches.

    Source: Andreyev, Beneventano 2024, Edge of Stochastic Stability, arXiv 2412.20553.
    """

    name: ClassVar[str] = "batch-sharpness"
    title: ClassVar[str] = "curvature of random batches along their gradients"
    cost: ClassVar[str] = "5 gradients of size * batches examples"
    size: int = 32
    batches: int = 16

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.size < 1:
            raise InvalidInput(f"size={self.size} examples of a batch must be at least 1")
        if self.batches < 2:
            raise InvalidInput(f"batches={self.batches} must be at least 2: their spread gives the standard error")

    def __call__(self, moment: Moment) -> Estimate:
        """See DynamicsMeasure; stderr is over the batches."""
        subject = moment.subject
        if self.size > subject.n:
            raise NotApplicable(f"a batch of {self.size} examples is larger than the {subject.n} that are tracked")
        quotients = [self._quotient(subject, moment.generator) for _ in range(self.batches)]
        found = [each for each in quotients if each is not None]
        if len(found) < 2:
            raise NotApplicable("the gradients of the batches are 0 or not finite")
        values = torch.tensor(found, dtype=torch.float64)
        return Estimate(float(values.mean()), stderr=float(values.std()) / math.sqrt(len(values)), probes=len(values))

    def _quotient(self, subject: Subject, generator: torch.Generator) -> float | None:
        """g^T H g / |g|^2 of one batch."""
        places = torch.randperm(subject.n, generator=generator)[: self.size]
        batch = subject.take(places)
        method = gradient_method(batch)
        with method.operators():
            gradient = method.gradient_and_value(batch.loss, batch.params)[0]
        along, curved = flatten(gradient).double(), flatten(hvp(batch, gradient)).double()
        value = float(along @ curved) / max(float(along @ along), 1e-300)
        return value if math.isfinite(value) and bool(along.any()) else None


@dataclass(frozen=True)
class CriticalSharpness(DynamicsMeasure):
    """2 / eta_c, where eta_c is the step along the optimizer's update at which the loss exceeds the present one.

    The update is the one that the optimizer would make next with the gradient of the tracked examples; without an
    optimizer it is that gradient. eta_c is the first crossing that a search by factors of 2 meets, from the last
    eta_c or the learning rate; then the root is interpolated to `tolerance`. Near a minimum the rounding of the loss
    hides the crossing, and there is no value.

    Source: Kalra et al. 2026, A Scalable Measure of Loss Landscape Curvature, arXiv 2601.16979.
    """

    name: ClassVar[str] = "critical-sharpness"
    title: ClassVar[str] = "2 over the step along the update at which the loss begins to rise above its value"
    cost: ClassVar[str] = "1 gradient and about 4 to 11 forward passes"
    tolerance: float = 0.01
    passes: int = 40

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.tolerance < 1:
            raise InvalidInput(f"tolerance={self.tolerance} of eta_c must be above 0 and below 1")
        if not 4 <= self.passes <= 1000:
            raise InvalidInput(f"passes={self.passes} must be from 4 to 1000")

    def __call__(self, moment: Moment) -> Estimate:
        """See DynamicsMeasure; details: the forward passes."""
        subject, reader = moment.subject, moment.reader
        gradient = moment.gradient
        update = gradient if reader is None else reader.next_update(gradient, subject.params)
        along = flatten(update)
        slope = float(flatten(gradient).double() @ along.double())
        if not slope > 0 or not math.isfinite(slope):
            raise NotApplicable("the update does not lower the loss of the tracked examples to first order")
        with torch.no_grad():
            start = float(perturbed_loss(subject, torch.zeros_like(along)))

            def rise(step: float) -> float:
                """(L(theta - step d) - L(theta)) / step; a loss that is not finite counts as a rise."""
                value = (float(perturbed_loss(subject, along * -step)) - start) / step
                return value if math.isfinite(value) else math.inf

            known = moment.memory.get(self)
            guess = known or (reader.learning_rate if reader else None) or 1.0
            low, high, taken = self._bracket(rise, guess, NEAR if known else FAR)
            shift = 1.0
            while high[0] > low[0] * (1 + self.tolerance) and taken < self.passes:
                middle = taken % 3 == 0  # where the secant is slow, the bracket still becomes shorter
                step = (low[0] + high[0]) / 2 if middle else _interpolate(low, high, shift)
                value = rise(step)
                taken += 1
                shift = 1 + 0.7 * self.tolerance * (1 if value <= 0 else -1)
                low, high = ((step, value), high) if value <= 0 else (low, (step, value))
        critical = (low[0] + high[0]) / 2
        rounding = torch.finfo(along.dtype).eps * abs(start) / (slope * critical)
        if rounding > MAX_ROUNDING:
            raise NotApplicable(
                f"the loss changes along the update by less than its rounding in {str(along.dtype)[6:]}, as at a "
                "minimum; float64 weights resolve smaller gradients"
            )
        moment.memory[self] = critical
        converged = high[0] <= low[0] * (1 + self.tolerance) and rounding <= self.tolerance
        return Estimate(
            2 / critical, stderr=0.0 if converged else None, converged=converged, details={"passes": taken + 1}
        )

    def _bracket(
        self, rise: Callable[[float], float], guess: float, factor: float
    ) -> tuple[tuple[float, float], tuple[float, float], int]:
        """The last step without a rise and the first with one, each with its rise, and the passes taken.

        The factor between two steps grows from one to the next, up to FAR.
        """
        point = guess, rise(guess)
        up = point[1] <= 0
        for taken in range(2, self.passes):
            other = point[0] * (factor if up else 1 / factor)
            if not 1e-30 < other < 1e30:
                break
            following = other, rise(other)
            if (following[1] <= 0) != up:
                return (point, following, taken) if up else (following, point, taken)
            point, factor = following, min(factor**2, FAR)
        raised = "raises" if up else "lowers"
        raise NotApplicable(f"no step of {point[0]:g} to {guess:g} times the update {raised} the loss")


def _interpolate(low: tuple[float, float], high: tuple[float, float], shift: float) -> float:
    """A step between the two: that of the secant times `shift`, which puts it on the side that is still far away."""
    share = low[1] / (low[1] - high[1]) if math.isfinite(high[1]) and high[1] > low[1] else 0.5
    step = (low[0] + (high[0] - low[0]) * share) * shift
    margin = 0.02 * (high[0] - low[0])
    return min(max(step, low[0] + margin), high[0] - margin)


DYNAMICS: tuple[type[DynamicsMeasure], ...] = (
    FollowedTopEigenvalue,
    CriticalSharpness,
    BatchSharpness,
    PreconditionedSharpness,
    GradientNorm,
)
"""Each takes precedence over a measure of the registry with its name."""
