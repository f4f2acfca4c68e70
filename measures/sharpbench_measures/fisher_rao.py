"""The norm of the weights in the metric of the Fisher information."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from sharpbench import Estimate, Inputs, Invariance, Measure, NotApplicable, Subject
from sharpbench.curvature import example_stderr, jvp, plain_vjps, quadratic_form


@dataclass(frozen=True)
class FisherRao(Measure):
    """theta^T F theta, the squared Fisher-Rao norm, mean over examples, biases included.

    With u_i = J_i theta, one forward-mode pass:
        true Fisher, cross entropy: (1/n) sum_i Var_{k ~ p_i}(u_ik) = (1/n) sum_i u_i^T (diag(p_i) - p_i p_i^T) u_i, p_i
            the softmax probabilities;
        true Fisher, mean squared error: (1/n) sum_i (2/C) |u_i|^2. The loss of an example, |f_i - y|^2 / C, is up to a
            constant the negative log-likelihood of a normal y with mean f_i and variance C/2 in each of the C outputs;
        true Fisher, any other likelihood in closed form (losses at many positions, binary, Poisson): (1/n) sum_i u_i^T
            Lambda_i u_i with the loss Hessian Lambda_i by the outputs, which is their Fisher information. Each position
            counts as it does in the loss. Class weights, pos_weight and losses that are no likelihood have none;
        empirical, any loss: (1/n) sum_i <d loss_i / d logits_i, u_i>^2, at the given targets.
    root=true reports the norm instead of its square. Cost: about two forward passes. The paper treats
    networks without biases, for which u_i = L logits_i with L weight layers; this is the definition itself
    and holds for any network.
    """

    name: ClassVar[str] = "fisher-rao"
    title: ClassVar[str] = "Fisher-Rao norm"
    family: ClassVar[str] = "Fisher information"
    source: ClassVar[str] = (
        "Liang, Poggio, Rakhlin, Stokes 2019, Fisher-Rao Metric, Geometry, and Complexity, eq. (1.4)"
    )
    definition: ClassVar[str] = (
        "theta^T F theta, F = (1/n) sum_i E_{y ~ p_i} [g_i(y) g_i(y)^T], g_i(y) = d log p_i(y) / d theta"
    )
    reduction: ClassVar[str] = "mean over examples, natural logarithm"
    included: ClassVar[str] = "all parameters under measurement, biases included"
    cost: ClassVar[str] = "1: about two forward passes"
    bibtex: ClassVar[str] = """\
@inproceedings{liang2019fisher,
  title     = {Fisher-Rao Metric, Geometry, and Complexity of Neural Networks},
  author    = {Liang, Tengyuan and Poggio, Tomaso and Rakhlin, Alexander and Stokes, James},
  booktitle = {International Conference on Artificial Intelligence and Statistics (AISTATS)},
  pages     = {888--896},
  year      = {2019}
}"""
    fisher: Literal["true", "empirical"] = "true"
    root: bool = False

    def __call__(self, subject: Subject, *, generator: torch.Generator) -> Estimate:
        """See Measure; deterministic."""
        reason = subject.criterion.describe_no_likelihood()
        if self.fisher == "true" and reason:
            raise NotApplicable(f"the Fisher information is that of a likelihood, and {reason}; use fisher=empirical")
        squares = subject.by_example(lambda inputs, targets: self._squares(subject, inputs, targets)).double().cpu()
        shares = subject.shares
        if shares is not None and self.fisher == "empirical":
            shares = 2 * shares  # squares of gradients have the square of the loss's divisor
        square, error = float(squares.mean()), example_stderr(squares, shares=shares)
        if not self.root:
            return Estimate(square, details={"fisher": self.fisher}, stderr_examples=error)
        value = math.sqrt(square)
        carried = error / (2 * value) if error is not None and value > 0 else None  # to first order
        return Estimate(value, details={"fisher": self.fisher}, stderr_examples=carried)

    def _squares(self, subject: Subject, inputs: Inputs, targets: Tensor) -> Tensor:
        """The quadratic form of each example's Fisher information [B]."""
        logits, along = jvp(subject, inputs, subject.params)  # J theta, [B, C]
        if self.fisher == "empirical":
            slope: Tensor = torch.func.grad(lambda outputs: subject.criterion(outputs, targets).sum())(logits)
            return (slope * along).flatten(1).sum(1).square()
        return quadratic_form(subject.criterion, logits, along, targets)

    def exact(self, subject: Subject) -> float | None:
        """The definition, with per-example gradients of every output in reverse mode."""
        if self.fisher == "true" and subject.criterion.describe_no_likelihood():
            return None

        each = [self._square_by_definition(subject, example, target[0]) for example, target in subject.split()]
        square = float(torch.stack(each).mean())
        return math.sqrt(square) if self.root else square

    def _square_by_definition(self, subject: Subject, example: Inputs, target: Tensor) -> Tensor:
        """<theta, gradient of log p(y)> by C backward passes, squared, in the mean over y, or at the given target.

        Of other likelihoods that is u^T Lambda u with the differentiated Hessian of the loss, as these are canonical.
        """
        logits, pull = plain_vjps(lambda params: subject.apply(params, example)[0].flatten(), subject.params)
        shape = subject.outputs
        gradients = pull(torch.eye(len(logits), dtype=logits.dtype, device=logits.device))
        along = torch.stack([gradients[key].flatten(1) @ value.flatten() for key, value in subject.params.items()]).sum(
            0
        )
        if self.fisher == "empirical":
            slope = torch.func.grad(lambda z: subject.criterion(z.reshape(1, *shape), target[None])[0])(logits)
            return torch.as_tensor(slope @ along).square()
        if subject.criterion.kind not in ("cross_entropy", "mse"):
            curvature = torch.func.hessian(lambda z: subject.criterion(z.reshape(1, *shape), target[None])[0])(logits)
            return torch.as_tensor(along @ curvature @ along)
        if subject.criterion.kind == "mse":
            return along.square().sum() / (len(along) / 2)
        probabilities, along = logits.softmax(0), along - along[logits.argmax()]
        scores = along - probabilities @ along  # [C]
        return torch.as_tensor(probabilities @ scores.square())

    def invariances(self) -> frozenset[Invariance]:
        """Every linear rewrite under which the weights transform covariantly."""
        return frozenset({"layer", "unit", "element", "permutation", "attention-rotation", "attention-gl"})
