"""PyHessian's class `hessian` on this package's engine: change the import, and the rest of a script stays.

>>> import torch
>>> from sharpbench.compat.pyhessian import hessian
>>> model = torch.nn.Linear(3, 2)
>>> zeros = torch.nn.init.zeros_(model.weight), torch.nn.init.zeros_(model.bias)
>>> batch = torch.tensor([[1.0, 2.0, 2.0]]), torch.tensor([0])
>>> found = hessian(model, torch.nn.CrossEntropyLoss(), data=batch, cuda=False)
>>> values, vectors = found.eigenvalues()
>>> [round(value, 4) for value in values], [tuple(part.shape) for part in vectors[0]]
([5.0], [(2, 3), (2,)])
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from sharpbench.core.batch import map_tensors
from sharpbench.core.loader import read_loader
from sharpbench.core.measure import NotApplicable
from sharpbench.core.precision import own_types
from sharpbench.core.random_state import random_state_kept
from sharpbench.core.subject import Subject
from sharpbench.curvature import find_eigenpairs, linear_operator, mean_of, unflatten
from sharpbench.curvature.spectral_density import lanczos_quadratures
from sharpbench.curvature.trace_estimators import draw_probes
from sharpbench.errors import InvalidInput

MIN_SAMPLES = 30
"""Samples of a trace before its interval is looked at: an interval of fewer covers less than it states."""


class hessian:  # noqa: N801  # PyHessian's name
    """The Hessian of the mean loss of a network, by the calls and return forms of PyHessian 0.1.

    What differs: the network is left as it is (no gradients, its mode stays), its weights are those at the time of this
    call, losses are of all examples also where a loader's last batch is smaller, and random vectors come from `seed`.

    Args:
        model: the network; it is measured in eval mode, by its parameters that require gradients.
        criterion: a loss of torch.nn with the reduction 'mean', or a callable that returns losses [B].
        data: one batch (inputs, targets); or
        dataloader: an iterable of batches, which is read once.
        cuda: compute on a GPU.
        seed: of the random vectors, the same at each call.

    Raises:
        InvalidInput: where not exactly one of data and dataloader is given, or they do not fit the network.

    Source: Yao, Gholami, Keutzer, Mahoney 2020, PyHessian: Neural Networks Through the Lens of the Hessian.
    """

    def __init__(
        self,
        model: nn.Module,
        criterion: nn.Module | Callable[[Tensor, Tensor], Tensor],
        data: tuple[Any, Tensor] | None = None,
        dataloader: Iterable[object] | None = None,
        cuda: bool = True,
        *,
        seed: int = 0,
    ) -> None:
        if (data is None) == (dataloader is None):
            raise InvalidInput("give data, one batch (inputs, targets), or dataloader, and not both")
        if cuda and not torch.cuda.is_available():
            raise InvalidInput("cuda=True, and there is no GPU; use cuda=False")
        if not isinstance(model, nn.Module):
            raise InvalidInput(f"the model is a {type(model).__name__}; expected a torch.nn.Module")
        inputs, targets = read_loader([data] if dataloader is None else dataloader)
        place = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
        subject = Subject.from_module(
            model, map_tensors(lambda each: each.to(place), inputs), targets.to(place), loss=criterion
        )
        self._subject = subject.to(device="cuda" if cuda else "cpu")
        self._seed = seed

    def eigenvalues(
        self, maxIter: int = 100, tol: float = 1e-3, top_n: int = 1
    ) -> tuple[list[float], list[list[Tensor]]]:
        """The `top_n` eigenvalues of the largest modulus, in that order, and their vectors as lists of tensors.

        Block Lanczos instead of power iteration with deflation.

        Args:
            maxIter: for each eigenvalue as many products at most, as in PyHessian, and at least 10.
            tol: bound on |H v - value v|, relative to the largest modulus; PyHessian's is on the last change.
            top_n: how many.
        Raises:
            NotApplicable: where second derivatives of the network are right by no method, or the products do not
                suffice.

        Cost: at most maxIter * top_n products, each about four gradients.
        """
        with random_state_kept(self._subject.module), own_types():
            found = find_eigenpairs(
                linear_operator(self._subject),
                generator=self._draws(),
                count=top_n,
                tolerance=tol,
                steps=min(1000, max(10, maxIter * top_n)),
                magnitude=True,
            )
        if not found.converged:
            raise NotApplicable(
                f"{found.products} products leave residuals up to {float(found.residuals.max()):.1e}; raise maxIter "
                "or tol"
            )
        vectors = [list(unflatten(self._subject.params, vector).values()) for vector in found.vectors.T]
        return found.values.tolist(), vectors

    def trace(self, maxIter: int = 100, tol: float = 1e-3) -> list[float]:
        """Samples v^T H v over random sign vectors v, whose mean estimates the trace.

        They end where both ends of the 95 % interval of their mean are within `tol` of it, at MIN_SAMPLES at the
        earliest; PyHessian's end at the first small change of the mean, which bounds no error. The exact trace of most
        networks takes less: `sharpbench.measure("trace", subject)`.

        Args:
            maxIter: the largest number of samples.
            tol: relative to the mean.
        Raises:
            InvalidInput: where maxIter is below 1.
            NotApplicable: as `eigenvalues`.

        Cost: one product, about four gradients, per sample.
        """
        if maxIter < 1:
            raise InvalidInput(f"maxIter={maxIter} must be at least 1")
        found: list[float] = []
        with random_state_kept(self._subject.module), own_types():
            operator, draws = linear_operator(self._subject), self._draws()
            while len(found) < maxIter:
                count = min(operator.together, maxIter - len(found))
                probes = draw_probes(operator.like.new_empty(operator.size), count, draws)
                found += (probes.double() * (operator @ probes.T).T.double()).sum(1).tolist()
                if len(found) >= MIN_SAMPLES and mean_of([torch.tensor(found, dtype=torch.float64)]).within(tol):
                    break
        return found

    def density(self, iter: int = 100, n_v: int = 1) -> tuple[list[list[float]], list[list[float]]]:
        """The spectral density as eigenvalues and weights, a list of `iter` numbers for each of `n_v` random vectors.

        Stochastic Lanczos quadrature, with full reorthogonalisation. Of a network with fewer than `iter` parameters
        there are as many numbers as parameters.

        Raises InvalidInput where `iter` or `n_v` is below 1, and NotApplicable as `eigenvalues`.

        Cost: iter * n_v products, each about four gradients.
        """
        if iter < 1 or n_v < 1:
            raise InvalidInput(f"iter={iter} and n_v={n_v} must be at least 1")
        with random_state_kept(self._subject.module), own_types():
            operator = linear_operator(self._subject)
            starts = draw_probes(operator.like.new_empty(operator.size), n_v, self._draws())
            nodes, weights = lanczos_quadratures(operator, starts, min(iter, operator.size))
        return nodes.tolist(), weights.tolist()

    def _draws(self) -> torch.Generator:
        return torch.Generator().manual_seed(self._seed)
