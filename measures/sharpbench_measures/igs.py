"""The decrease of the loss along a step of given length in the metric of the Fisher information."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sharpbench import Estimate, Inputs, InvalidInput, Invariance, Measure, NotApplicable, Params, Subject
from sharpbench.curvature import (
    MATRIX_LIMIT,
    check_lanczos,
    gradient_method,
    jvp,
    leading_eigenspace,
    linear_operator,
    map_vectors,
    output_root,
    plain_vjps,
    softmax_slopes,
    unflatten,
)


@dataclass(frozen=True)
class Igs(Measure):
    """tr(F^+ C), F the true and C the empirical Fisher matrix, F^+ the pseudo-inverse; biases included.

    Both are means over examples; sums give the same, as the factor cancels. With S the eigenvectors of F whose
    eigenvalue lambda_r is above `truncation` times the largest: sum_r v_r^T C v_r / lambda_r; details.rank is
    their number. Without truncation (0: all that are not rounding) a network that can fit any targets, rank
    n (C - 1), has the value sum_i (1 / p_i(y_i) - 1) = sum_i (exp(loss_i) - 1): a function of only the losses.

    The eigenvectors come by block Lanczos in at most `steps` products to residuals of `tolerance`; untruncated, by a
    singular value decomposition, only for small networks. Cost: at most `steps` products of F, some at a time, and two
    forward passes for each eigenvector; memory for one vector per product. Deviation: the paper's own factor in
    front, if any, is left out.
    """

    name: ClassVar[str] = "igs"
    title: ClassVar[str] = "information-geometric sharpness"
    family: ClassVar[str] = "rescaled curvature"
    source: ClassVar[str] = (
        "Jang, Lee, Park, Noh 2022, A Reparametrization-Invariant Sharpness Measure Based on Information Geometry"
    )
    definition: ClassVar[str] = "tr(F^+ C), eigenvalues of F below truncation * lambda_max left out"
    reduction: ClassVar[str] = "both matrices means over examples, which cancels: the value grows like a sum"
    version: ClassVar[int] = 2
    included: ClassVar[str] = "all parameters under measurement, biases included"
    cost: ClassVar[str] = "some 100 to 500 products of the Gauss-Newton matrix, 1 to 3 gradients each"
    bibtex: ClassVar[str] = """@inproceedings{jang2022reparametrization,
  title = {A Reparametrization-Invariant Sharpness Measure Based on Information Geometry},
  author = {Jang, Cheongjae and Lee, Sungyoon and Park, Frank C. and Noh, Yung-Kyun},
  booktitle = {Advances in Neural Information Processing Systems},
  year = {2022}
}"""
    truncation: float = 1e-2
    tolerance: float = 1e-8
    steps: int = 600

    def __post_init__(self) -> None:
        if not 0 <= self.truncation < 1:
            raise InvalidInput(f"truncation={self.truncation} of the spectrum must be at least 0 and below 1")
        check_lanczos(self.tolerance, self.steps)

    def __call__(self, subject: Subject, *, generator: torch.Generator) -> Estimate:
        """See Measure; only its start is random."""
        if subject.criterion.kind != "cross_entropy":
            raise NotApplicable(
                f"the Fisher information is defined here for cross_entropy, not for '{subject.criterion.title}'"
            )
        if self.truncation == 0:
            return self._untruncated(subject)
        operator = linear_operator(subject, "gauss-newton")
        found = leading_eigenspace(
            operator, generator=generator, share=self.truncation, tolerance=self.tolerance, steps=self.steps
        )
        if len(found.values) == 0:
            raise NotApplicable("the Fisher matrix is 0: the model is certain of every example")
        squares = _squared_slopes(subject, found.vectors, operator.together if operator.vmapped else 0).cpu()
        return Estimate(
            float((squares / found.values).sum()),
            stderr=0.0 if found.converged else None,
            converged=found.converged,
            details=self._details("lanczos", len(found.values), found.steps),
        )

    def _untruncated(self, subject: Subject) -> Estimate:
        rows = subject.n * (subject.classes - 1)
        if subject.size * rows > MATRIX_LIMIT**2:
            raise NotApplicable(
                f"{rows:,} x {subject.size:,} derivatives are too many to be decomposed; the bound is "
                f"{MATRIX_LIMIT**2:,}, use truncation > 0"
            )
        if rows == 0:
            raise NotApplicable("the Fisher matrix is 0: of a single class the model is certain")
        roots, slopes = _rows(subject)
        _, sizes, vectors = torch.linalg.svd(roots, full_matrices=False)
        kept = sizes > torch.finfo(sizes.dtype).eps * max(roots.shape) * sizes.max()
        if not bool(kept.any()):
            raise NotApplicable("the Fisher matrix is 0: the model is certain of every example")
        whitened = slopes @ vectors[kept].T / sizes[kept]
        return Estimate(float(whitened.double().square().sum()), details=self._details("svd", int(kept.sum()), 0))

    def _details(self, method: str, rank: int, steps: int) -> dict[str, str | int | float]:
        return {"method": method, "rank": rank, "steps": steps, "truncation": self.truncation}

    def exact(self, subject: Subject) -> float | None:
        """The definition with both matrices in full, from the gradients of every log-probability of every example."""
        if subject.criterion.kind != "cross_entropy" or subject.size > MATRIX_LIMIT:
            return None
        fisher = torch.zeros(subject.size, subject.size, dtype=torch.float64, device=subject.device)
        empirical = torch.zeros_like(fisher)
        for example, target in subject.split():

            def scores(params: Params, example: Inputs = example) -> Tensor:
                logits = subject.apply(params, example)
                classes = torch.arange(logits.shape[1], device=logits.device)
                return -subject.criterion(logits.expand(len(classes), -1), classes)

            found, pull = plain_vjps(scores, subject.params)
            rows = pull(torch.eye(len(found), dtype=found.dtype, device=found.device))
            gradients = torch.cat([rows[name].flatten(1) for name in subject.params], 1).double()  # [C, P]
            fisher += gradients.T @ (found.exp().double()[:, None] * gradients)
            empirical += torch.outer(gradients[int(target)], gradients[int(target)])
        bound = self.truncation or subject.size * torch.finfo(torch.float64).eps
        return float((torch.linalg.pinv(fisher, rtol=bound, hermitian=True) * empirical).sum())

    def invariances(self) -> frozenset[Invariance]:
        """Every linear rewrite without truncation; with it the orthogonal ones, which keep the eigenvalues."""
        orthogonal: frozenset[Invariance] = frozenset({"permutation", "attention-rotation"})
        return orthogonal | {"layer", "unit", "element", "attention-gl"} if self.truncation == 0 else orthogonal


def _squared_slopes(subject: Subject, vectors: Tensor, together: int) -> Tensor:
    """v^T C v = (1/n) sum_i (g_i^T v)^2 for every column v of vectors [P, r], in float64."""

    def batch(inputs: Inputs, targets: Tensor) -> Tensor:
        def form(vector: Tensor) -> Tensor:
            logits, along = jvp(subject, inputs, unflatten(subject.params, vector))
            slopes: Tensor = torch.func.grad(lambda outputs: subject.criterion(outputs, targets).sum())(logits)
            return (slopes * along).sum(1).double().square().mean()

        return map_vectors(form, vectors.T, together)

    forms: Tensor = subject.mean(batch)
    return forms


def _rows(subject: Subject) -> tuple[Tensor, Tensor]:
    """R [n (C - 1), P] with R^T R = n F, and the gradients [n, P] of the losses."""
    method = gradient_method(subject)
    roots, slopes = [], []
    for example, target in subject.split():

        def logits(params: dict[str, Tensor], example: Inputs = example) -> Tensor:
            return subject.apply(params, example)[0]

        outputs, pull = method.pullback(logits, subject.params)
        columns = output_root(subject.criterion, outputs, target[0])[0]
        slope = softmax_slopes(outputs, target)
        pulled = pull(torch.cat((columns, slope), 1).T)
        stacked = torch.cat([pulled[name].flatten(1) for name in subject.params], 1)
        roots.append(stacked[:-1])
        slopes.append(stacked[-1])
    return torch.cat(roots), torch.stack(slopes)
