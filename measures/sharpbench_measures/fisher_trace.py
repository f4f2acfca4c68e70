"""Trace of the Fisher information, true, sampled or empirical."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch

from sharpbench import Estimate, Inputs, InvalidInput, Invariance, Measure, NotApplicable, Subject
from sharpbench.curvature import (
    DENSE_LIMIT,
    check_precision,
    check_samples,
    draw_fisher_traces,
    draws_targets,
    example_stderr,
    ggn_trace_estimate,
    gradient_traces_by_example,
    mean_estimate,
    mean_of,
    plain_gradient,
    reference_ggn_traces,
    traces_by_example,
)


@dataclass(frozen=True)
class FisherTrace(Measure):
    """tr F: the average decrease of the model's likelihood when the weights move; mean over examples.

    fisher:
        true: F = (1/n) sum_i E_{y ~ p_i} of the outer product of the gradient of log p_i(y); tr F is the trace of
            the Gauss-Newton matrix for cross entropy, and for mean squared error, as the negative log-likelihood of a
            normal y with variance C/2 in each of the C outputs; and for the other likelihoods in closed form, binary,
            Poisson and at many positions, each of which counts as it does in the loss. Not with class weights. Exact,
            labels unused, shared with `ggn-trace`.
        monte-carlo: the same with `draws` labels for each example drawn from the model; standard error and 95 %
            interval over the draws, given the examples. Cross entropy only, at one position or many, and the binary
            one; each position draws its label.
        empirical: (1/n) sum_i |g_i|^2 at the given targets, for any loss. A curvature only if the model is calibrated.
    precision: for fisher=true: a sketch of the output root in place of the exact value where it takes fewer passes to
        an interval whose ends are within this share of the value.
    Cost: at most C - 1 backward passes; `draws` backward passes; about two gradients.
    """

    name: ClassVar[str] = "fisher-trace"
    title: ClassVar[str] = "trace of the Fisher information"
    family: ClassVar[str] = "Fisher information"
    source: ClassVar[str] = (
        "Amari 1998, Natural Gradient Works Efficiently in Learning; Martens 2020, New Insights and Perspectives on "
        "the Natural Gradient Method; Kunstner, Balles, Hennig 2019, on the empirical Fisher"
    )
    definition: ClassVar[str] = (
        "tr F = (1/n) sum_i E_{y ~ p_i} |grad log p_i(y)|^2; at the given y_i for fisher=empirical"
    )
    reduction: ClassVar[str] = "mean over examples"
    included: ClassVar[str] = "all parameters under measurement, biases included"
    cost: ClassVar[str] = "C - 1 backward passes; `draws` for monte-carlo; about 2 gradients for empirical"
    bibtex: ClassVar[str] = """@article{martens2020new,
  title = {New Insights and Perspectives on the Natural Gradient Method},
  author = {Martens, James},
  journal = {Journal of Machine Learning Research},
  volume = {21},
  number = {146},
  pages = {1--76},
  year = {2020}
}"""
    oracle_limit: ClassVar[int | None] = DENSE_LIMIT
    fisher: Literal["true", "monte-carlo", "empirical"] = "true"
    draws: int = 16
    precision: float | None = None

    def __post_init__(self) -> None:
        check_samples(self.draws)
        if self.precision is not None:
            check_precision(self.precision)
            if self.fisher != "true":
                raise InvalidInput(f"precision={self.precision} goes with fisher=true, not {self.fisher}")

    def __call__(self, subject: Subject, *, generator: torch.Generator) -> Estimate:
        """See Measure; deterministic but for fisher=monte-carlo."""
        if self.fisher == "empirical":
            squares, shares = subject.once(gradient_traces_by_example), subject.shares
            found = mean_estimate(subject, squares, fisher=self.fisher)
            if shares is None:
                return found
            return replace(found, stderr_examples=example_stderr(squares.sum(1), shares=2 * shares))
        if reason := subject.criterion.describe_no_likelihood():
            raise NotApplicable(
                f"the Fisher information is that of a likelihood, and {reason}; use ggn-trace, or fisher=empirical"
            )
        if self.fisher == "monte-carlo" and not draws_targets(subject):
            raise NotApplicable(
                f"targets are drawn for cross entropy, also the binary one, not for '{subject.criterion.name}'; use "
                "fisher=true"
            )
        if self.fisher == "true" and self.precision is not None:
            found = ggn_trace_estimate(subject, generator=generator, precision=self.precision)
            return replace(found, details={**found.details, "fisher": self.fisher})
        if self.fisher == "true":
            return mean_estimate(subject, subject.once(traces_by_example), fisher=self.fisher)
        return self._sampled(subject, generator)

    def _sampled(self, subject: Subject, generator: torch.Generator) -> Estimate:
        drawn = draw_fisher_traces(subject, draws=self.draws, generator=generator)
        found = mean_of([drawn.by_parameter.sum(1)])
        return Estimate(
            found.value,
            stderr=found.stderr,
            stderr_examples=example_stderr(drawn.by_example.mean(0), noise=found.stderr, shares=subject.shares),
            interval=found.interval,
            parts=dict(zip(subject.params, drawn.by_parameter.mean(0).tolist(), strict=True)),
            probes=self.draws,
            details={"fisher": self.fisher},
        )

    def exact(self, subject: Subject) -> float | None:
        """One Jacobian-vector product per parameter; for fisher=empirical the gradients, example by example."""
        if self.fisher == "empirical":
            return sum(_squared_gradient(subject, example, target) for example, target in subject.split()) / subject.n
        if subject.criterion.describe_no_likelihood():
            return None
        if self.fisher == "monte-carlo" and not draws_targets(subject):
            return None
        return sum(reference_ggn_traces(subject).values())

    def invariances(self) -> frozenset[Invariance]:
        """Only orthogonal rewrites: a layer's block scales with the inverse square of its factor."""
        return frozenset({"permutation", "attention-rotation"})


def _squared_gradient(subject: Subject, example: Inputs, target: torch.Tensor) -> float:
    gradient = plain_gradient(
        lambda params: subject.criterion(subject.apply(params, example), target)[0], subject.params
    )
    return sum(float(value.square().sum()) for value in gradient.values())
