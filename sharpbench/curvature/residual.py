"""The residual R = H - G of networks that are not piecewise affine: its trace and diagonal, from joint probes.

R = (1/n) sum_i sum_c (dl/df_ic) D^2 f_ic is the Hessian of (1/n) sum_i s_i . f_i(theta), the slopes s_i = dl/df_i held
fixed. R v is a product with it: R is never formed and nothing is subtracted. One random sign vector v goes through all
parameters without a certificate at once; part b of v^T R v is v_b^T (R v)_b.

The examples are split into groups of similar slopes, and each group g has its own probes: the products of all groups
cost as much as one over all examples, and vectors that are independent between groups average out. The number of
probes of a group is chosen by its measured standard deviation (Neyman 1934).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from sharpbench.core.batch import Inputs
from sharpbench.core.subject import Params, Subject
from sharpbench.curvature.confidence import RunningMoments
from sharpbench.curvature.derivative_methods import DerivativeMethod
from sharpbench.curvature.products import flatten, map_vectors, unflatten
from sharpbench.curvature.shared_vectors import SharedVectors, share_vectors
from sharpbench.curvature.soundness import sound_method
from sharpbench.curvature.strata import Stratum
from sharpbench.curvature.trace_estimators import draw_signs

GROUPS = 16
"""Groups into which up to GROUPS * MAX_EXAMPLES examples are split. More have less variance, but a vector's fixed cost,
some passes over the parameters, then exceeds that of multiplying it."""
MAX_EXAMPLES = 32
"""Examples in one batch of products, which share it with several vectors. Larger groups take several batches and so
save nothing: more examples are split into groups of this size."""
MAX_GROUPS = 64
"""Groups of however many examples."""
MAX_UNITS = 64
"""Unit vectors that are formed at once."""
NORMS_PER_OCTAVE = 16
"""Steps in which norms of slopes are told apart, so that their rounding does not decide about a group."""


_Summary = Callable[[Params, Params], Tensor]
"""What is kept of a vector and its product."""


@dataclass(frozen=True, slots=True, eq=False)
class Residual:
    """R in the blocks of some parameters, or D R D with D = diag(scale), as a sum over groups of examples.

    subject: the examples, with the slopes [n, C] of their losses by the logits in place of targets. block: these
    parameters. groups: the examples in groups, likewise. vectors: how many are multiplied at once with those of a
    group; no others exist meanwhile. units: the same with all examples, MAX_EXAMPLES in a batch at most.
    """

    subject: Subject
    block: Params
    scale: Params
    method: DerivativeMethod
    groups: tuple[Subject, ...]
    vectors: SharedVectors
    units: SharedVectors

    @property
    def size(self) -> int:
        """The number of rows of R."""
        return sum(value.numel() for value in self.block.values())

    @property
    def exact_calls(self) -> int:
        """Calls with many vectors at once that `diagonal` takes where memory allows it; a round of samples takes one
        for each group. It depends on the network and the number of examples, not on batches or what is free."""
        return math.ceil(self.size / max(1, self.units.wanted)) * math.ceil(self.subject.n / MAX_EXAMPLES)

    @property
    def exact_cost(self) -> float:
        """The products of samples, each over all examples, that take as long as the exact diagonal. That has fewer of
        them than rows where calls have a long fixed time: it shares a call among more examples."""
        exact, sampled = self.units.time_each(), self.vectors.time_each()
        return self.size * exact / sampled

    def strata(self, generator: torch.Generator) -> list[Stratum]:
        """A source of independent samples of the parts of tr R_g [m, parameters], for each group g: their sum is tr R.

        A sample costs the group's share of a product over all examples.
        """
        return [Stratum(share, partial(self._draw_parts, group, share, generator)) for group, share in self._shares()]

    def diagonal(self) -> Params:
        """The exact diagonal of D R D by parameter, by one product with every unit vector."""
        found = []
        batches = replace(self.subject, batch_size=min(self.subject.batch_size, MAX_EXAMPLES))
        for places in torch.arange(self.size).split(min(MAX_UNITS, self.units.step)):
            units = self._like().new_zeros(len(places), self.size)
            units[torch.arange(len(places)), places] = 1
            found.append(self._map(units, _parts, batches, self.units).sum(1))
        return unflatten(self.block, torch.cat(found))

    def sample_diagonal(self, samples: int, generator: torch.Generator) -> tuple[Params, Params]:
        """The mean over `samples` probes per group of v * (D R D v), by parameter, and its variance."""
        mean, variance = torch.zeros_like(self._like()), torch.zeros_like(self._like())
        for group, share in self._shares():
            found = RunningMoments(mean)
            for probes in self._probes(samples, generator):
                for entries in self._map(probes, _entries, group):  # one vector at a time: all in float64 need room
                    found.add(entries.double())
            mean += share * found.mean
            variance += share**2 / samples * found.variance
        return unflatten(self.block, mean), unflatten(self.block, variance)

    def forms_by_example(self, places: Tensor, probes: Tensor) -> Tensor:
        """v^T D R_i D v [len(places), m] for the examples i at some places and flat vectors v [m, size]."""

        def one(place: Tensor) -> Tensor:
            product = self._product(*self.subject.pick(place[None]), _parts)
            return map_vectors(product, probes, min(self.vectors.together, len(probes))).sum(1)

        with self.method.operators():
            return map_vectors(one, places, self.vectors.together and max(1, self.vectors.together // len(probes)))

    def draw_forms(self, places: Tensor, count: int, generator: torch.Generator) -> Tensor:
        """The same [len(places), count] along random sign vectors."""
        return torch.cat([self.forms_by_example(places, each).cpu() for each in self._probes(count, generator)], 1)

    def _draw_parts(self, group: Subject, share: float, generator: torch.Generator, count: int) -> Tensor:
        parts = [self._map(each, _parts, group).cpu() for each in self._probes(count, generator)]
        return share * torch.cat(parts)

    def _probes(self, count: int, generator: torch.Generator) -> Iterator[Tensor]:
        """Random sign vectors, as many at a time as are multiplied at once: a round's together may not fit in memory.
        They are the same ones however they are divided."""
        like, step = self._like(), self.vectors.step
        for start in range(0, count, step):
            yield draw_signs(like, min(step, count - start), generator)

    def _map(self, probes: Tensor, of: _Summary, group: Subject, shared: SharedVectors | None = None) -> Tensor:
        """of(v, D R D v) for every row v of `probes`, of one group's mean. shared: instead of `vectors`."""
        together = (shared or self.vectors).together

        def batch(inputs: Inputs, slopes: Tensor) -> Tensor:
            with self.method.operators():
                return map_vectors(self._product(inputs, slopes, of), probes, together)

        return group.mean(batch)

    def _product(self, inputs: Inputs, slopes: Tensor, of: _Summary) -> Callable[[Tensor], Tensor]:
        """What maps a flat v to of(D v, R D v), R that of the mean over these examples."""
        network = self.method.network(self.subject)

        def weighted(params: Params) -> Tensor:
            total: Tensor = (slopes * network({**self.subject.params, **params}, inputs)).sum() / len(slopes)
            return total

        def product(flat: Tensor) -> Tensor:
            vector = unflatten(self.block, flat)
            scaled = {name: value * self.scale[name] for name, value in vector.items()} if self.scale else vector
            return of(scaled, self.method.hvp(weighted, self.block, scaled))

        return product

    def _shares(self) -> list[tuple[Subject, float]]:
        """The groups, with their shares of the examples."""
        return [(group, group.n / self.subject.n) for group in self.groups]

    def _like(self) -> Tensor:
        """A tensor of the device and type of the flat vectors, whose values do not matter."""
        return torch.cat([value.new_empty(0) for value in self.block.values()]).new_empty(self.size)


def residual(subject: Subject, names: tuple[str, ...], scale: Params | None = None) -> Residual:
    """The residual in the blocks of these parameters; with a scale, a tensor for each, D R D.

    Cost: about a forward pass, for the slopes.
    """
    method = sound_method(subject)
    network = method.network(subject)

    def slopes_of(inputs: Inputs, targets: Tensor) -> Tensor:
        with torch.enable_grad():  # some networks differentiate inside
            outputs = network(subject.params, inputs).detach()
        found: Tensor = torch.func.grad(lambda given: subject.criterion(given, targets).sum())(outputs)
        return found

    slopes = subject.by_example(slopes_of)
    size = group_size(len(slopes))
    processes = 1 if subject.process_group is None else subject.process_group.size
    batch = min(subject.batch_size, MAX_EXAMPLES, math.ceil(size / processes))
    norms = slopes.reshape(len(slopes), -1).double().norm(dim=1).cpu()
    steps = (norms.clamp_min(torch.finfo(torch.float64).tiny).log2() * NORMS_PER_OCTAVE).round()
    with_slopes = replace(subject, targets=slopes)
    picked = (with_slopes.pick(places) for places in steps.argsort(descending=True, stable=True).split(size))
    groups = [replace(subject, inputs=inputs, targets=some, batch_size=batch) for inputs, some in picked]
    block = {name: subject.params[name] for name in names}
    vectors, units = (
        share_vectors(subject, block, examples=min(examples, MAX_EXAMPLES), scaled=bool(scale))
        for examples in (size, len(slopes))
    )
    return Residual(with_slopes, block, scale or {}, method, tuple(groups), vectors, units)


def group_size(examples: int) -> int:
    """How many examples a group has."""
    return max(min(math.ceil(examples / GROUPS), MAX_EXAMPLES), math.ceil(examples / MAX_GROUPS))


def _parts(vector: Params, product: Params) -> Tensor:
    """v_b^T (R v)_b by parameter."""
    return torch.stack([(vector[name] * product[name]).sum().double() for name in vector])


def _entries(vector: Params, product: Params) -> Tensor:
    """v * (R v), entry by entry."""
    return flatten({name: vector[name] * product[name] for name in vector})
