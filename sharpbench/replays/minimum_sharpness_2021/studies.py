"""Traces: the exact trace against the authors' algorithm and against double backward, in accuracy and in seconds."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sharpbench.core.evaluate import measure
from sharpbench.core.subject import Subject
from sharpbench.curvature import difference_diagonal, exact_diagonal, exact_traces, per_example_traces
from sharpbench.replays.study import Place, Row, StudiedNetwork, Study, open_network

# Naive: entries of the Hessian's diagonal by double backward, a pass each; what exact traces are compared with.


def naive_entries(subject: Subject, chosen: Tensor) -> Tensor:
    """H_jj for the indices `chosen` [k] into all parameters laid end to end, float like the subject: [k].

    The gradient of the mean loss is taken once with its graph, then differentiated again for every index.
    """
    params = {name: value.detach().clone().requires_grad_() for name, value in subject.params.items()}
    names = list(params)
    starts = torch.tensor([params[name].numel() for name in names]).cumsum(0)
    slopes = torch.autograd.grad(subject.loss(params), list(params.values()), create_graph=True)
    entries = []
    for index in chosen.tolist():
        place = int(torch.searchsorted(starts, index, right=True))
        inside = index - (int(starts[place - 1]) if place else 0)
        slope = slopes[place].flatten()[inside]
        (second,) = torch.autograd.grad(slope, params[names[place]], retain_graph=True)
        entries.append(second.flatten()[inside])
    return torch.stack(entries)


BATCHES = (4, 16, 64)
"""Batch sizes of which the authors' algorithm is given its best."""
CALLS = 3
"""Of which the fastest counts."""


@dataclass(frozen=True, kw_only=True)
class Traces(Study):
    """The Hessian's trace on `examples` training images at the weights of trained networks.

    A row of kind `network` for each: the trace by the exact engine in float64; relative errors of that engine and of
    the authors' algorithm in float32; seconds of both, and of double backward for all parameters, scaled up from
    `entries` of them drawn at random without replacement. A row of kind `entry` for each of those: H_jj by double
    backward and by the engine, in float64.
    """

    name: ClassVar[str] = "traces"
    examples: int
    entries: int

    def rows(self, place: Place) -> Iterator[Row]:
        """See Study."""
        for recipe in self.recipes:
            yield from self._network(open_network(recipe, place), place.device)

    def _network(self, network: StudiedNetwork, device: str) -> Iterator[Row]:
        model = network.recipe.model.name
        single = network.subject(self.examples, dtype=torch.float32, device=device)
        double = network.subject(self.examples, dtype=torch.float64, device=device)
        chosen = torch.randperm(double.size, generator=torch.Generator().manual_seed(0))[: self.entries]
        diagonal = torch.cat([value.flatten() for value in exact_diagonal(double).values()])[chosen.to(device)]
        naive = naive_entries(double, chosen)
        for index, exact, second in zip(chosen.tolist(), diagonal.tolist(), naive.tolist(), strict=True):
            yield {"kind": "entry", "model": model, "parameter": index, "exact": exact, "naive": second}
        module, doubled = network.module.to(device), copy.deepcopy(network.module).double().to(device)
        value = sum(exact_traces(double).values())
        batch, paper = _best(lambda size: per_example_traces(module, single.inputs, batch_size=size), self.examples)
        values = {
            "exact": sum(exact_traces(single).values()),
            "paper": sum(per_example_traces(module, single.inputs, batch_size=batch).values()),
            "paper_double": sum(per_example_traces(doubled, double.inputs, batch_size=batch).values()),
        }
        yield {
            "kind": "network",
            "model": model,
            "parameters": double.size,
            "examples": self.examples,
            "entries": len(chosen),
            "trace": value,
            **{f"error_{name}": abs(found - value) / value for name, found in values.items()},
            "seconds_exact": min(_timed(lambda: exact_traces(single.fresh()), device) for _ in range(CALLS)),
            "seconds_paper": paper,
            "batch_paper": batch,
            "seconds_naive": _timed(lambda: naive_entries(single, chosen), device) * double.size / len(chosen),
        }


def _best(call: Callable[[int], object], examples: int) -> tuple[int, float]:
    """The batch size at which `call` is fastest, and its seconds there, the best of CALLS.

    The first call warms up and is not counted.
    """
    sizes = [size for size in BATCHES if size <= examples] or [examples]
    call(sizes[0])
    seconds = {size: _timed(lambda size=size: call(size), "cpu") for size in sizes}  # type: ignore[misc]
    batch = min(seconds, key=seconds.__getitem__)
    return batch, min(seconds[batch], *(_timed(lambda: call(batch), "cpu") for _ in range(CALLS - 1)))


def _timed(call: Callable[[], object], device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    call()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


# Diagonals: how far both published approximations of the Hessian's diagonal are from it, over their samples.

RADIUS = 1e-5
KINDS = ("arxiv", "icml")


@dataclass(frozen=True, kw_only=True)
class Diagonals(Study):
    """Errors over rising numbers of `samples`, on `examples` training images at the weights of trained networks.

    error: |D' - D| / |D| over all parameters, D' the estimate, float64, of so many samples of one stream of draws.
    negative: the share of entries below 0. seconds: of the samples together. value: normalized sharpness from as many
    samples over that from D, at the largest number alone, elsewhere None.
    """

    name: ClassVar[str] = "diagonals"
    examples: int
    samples: tuple[int, ...]

    def rows(self, place: Place) -> Iterator[Row]:
        """See Study."""
        for recipe in self.recipes:
            network = open_network(recipe, place)
            subject = network.subject(self.examples, dtype=torch.float64, device=place.device)
            exact = _flat(exact_diagonal(subject))
            reference = measure("normalized", subject).value
            for kind in KINDS:
                generator = torch.Generator().manual_seed(0)
                total, taken, seconds = torch.zeros_like(exact), 0, 0.0
                for count in self.samples:
                    start = time.perf_counter()
                    more = difference_diagonal(
                        subject,
                        samples=count - taken,
                        radius=RADIUS,
                        relative=kind == "icml",
                        generator=generator,
                    )
                    seconds += time.perf_counter() - start
                    total, taken = total + (count - taken) * _flat(more), count
                    estimate = total / count
                    last = count == self.samples[-1]
                    yield {
                        "model": recipe.model.name,
                        "kind": kind,
                        "samples": count,
                        "error": float((estimate - exact).norm() / exact.norm()),
                        "negative": float((estimate < 0).double().mean()),
                        "seconds": seconds,
                        "value": _normalized(subject, kind, count) / reference if last else None,
                    }


def _normalized(subject: Subject, kind: str, samples: int) -> float:
    return measure(f"normalized[diagonal={kind},samples={samples},radius={RADIUS}]", subject).value


def _flat(diagonal: dict[str, Tensor]) -> Tensor:
    return torch.cat([value.flatten() for value in diagonal.values()])
