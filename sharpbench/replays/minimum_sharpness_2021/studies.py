"""The studies of the replay: traces by three algorithms, and approximate diagonals over their samples."""

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
from sharpbench.files import Workspace
from sharpbench.replays.study import Row, StudiedNetwork, Study, open_network
from sharpbench.runner.cost import time_call


def double_backward_entries(subject: Subject, chosen: Tensor) -> Tensor:
    """Entries H_jj of the Hessian's diagonal, by one additional backward pass per entry: [k].

    The gradient of the mean loss is computed once with its graph and differentiated again for every entry.

    Args:
        subject: the network.
        chosen: the indices of the entries, [k], into all parameters in their order.
    """
    params = {name: value.detach().clone().requires_grad_() for name, value in subject.params.items()}
    names = list(params)
    ends = torch.tensor([params[name].numel() for name in names]).cumsum(0)
    gradients = torch.autograd.grad(subject.loss(params), list(params.values()), create_graph=True)
    entries = []
    for index in chosen.tolist():
        block = int(torch.searchsorted(ends, index, right=True))
        offset = index - (int(ends[block - 1]) if block else 0)
        derivative = gradients[block].flatten()[offset]
        (second,) = torch.autograd.grad(derivative, params[names[block]], retain_graph=True)
        entries.append(second.flatten()[offset])
    return torch.stack(entries)


BATCH_SIZES = (4, 16, 64)
"""Batch sizes that are tried with the authors' algorithm, which is timed at the fastest."""
CPU = torch.device("cpu")
TIMED_CALLS = 3
"""The number of timed calls, of which the fastest counts."""


@dataclass(frozen=True, kw_only=True)
class TraceStudy(Study):
    """The Hessian's trace on `examples` training images at the weights of trained networks.

    For each network one row of kind `network`: the trace by the exact engine in float64; relative errors of that engine
    and of the authors' algorithm in float32; seconds of both, and of double backward for all parameters, scaled up from
    `entries` random parameters. For each of those parameters one row of kind `entry`: H_jj by double backward and by
    the engine, in float64.
    """

    name: ClassVar[str] = "traces"
    examples: int
    entries: int

    def rows(self, workspace: Workspace) -> Iterator[Row]:
        """See Study."""
        for recipe in self.recipes:
            yield from self._measure_network(open_network(recipe, workspace), workspace.device)

    def _measure_network(self, network: StudiedNetwork, device: str) -> Iterator[Row]:
        model = network.recipe.model.name
        single = network.subject(self.examples, dtype=torch.float32, device=device)
        double = network.subject(self.examples, dtype=torch.float64, device=device)
        chosen = torch.randperm(double.size, generator=torch.Generator().manual_seed(0))[: self.entries]
        diagonal = torch.cat([value.flatten() for value in exact_diagonal(double).values()])[chosen.to(device)]
        naive = double_backward_entries(double, chosen)
        for index, exact, second in zip(chosen.tolist(), diagonal.tolist(), naive.tolist(), strict=True):
            yield {"kind": "entry", "model": model, "parameter": index, "exact": exact, "naive": second}
        assert isinstance(single.inputs, torch.Tensor)  # data sets hold one tensor
        assert isinstance(double.inputs, torch.Tensor)
        inputs, inputs64 = single.inputs, double.inputs
        module, module64 = network.module.to(device), copy.deepcopy(network.module).double().to(device)
        value = sum(exact_traces(double).values())
        batch, paper = _best_batch_size(lambda size: per_example_traces(module, inputs, batch_size=size), self.examples)
        values = {
            "exact": sum(exact_traces(single).values()),
            "paper": sum(per_example_traces(module, inputs, batch_size=batch).values()),
            "paper_double": sum(per_example_traces(module64, inputs64, batch_size=batch).values()),
        }
        yield {
            "kind": "network",
            "model": model,
            "parameters": double.size,
            "examples": self.examples,
            "entries": len(chosen),
            "trace": value,
            **{f"error_{name}": abs(found - value) / value for name, found in values.items()},
            "seconds_exact": min(
                time_call(lambda: exact_traces(single.fresh()), torch.device(device)) for _ in range(TIMED_CALLS)
            ),
            "seconds_paper": paper,
            "batch_paper": batch,
            "seconds_naive": time_call(lambda: double_backward_entries(single, chosen), torch.device(device))
            * double.size
            / len(chosen),
        }


def _best_batch_size(call: Callable[[int], object], examples: int) -> tuple[int, float]:
    """The batch size at which `call` is fastest, and its seconds, the smallest of TIMED_CALLS calls.

    An additional first call is not timed.
    """
    sizes = [size for size in BATCH_SIZES if size <= examples] or [examples]
    call(sizes[0])
    seconds = {size: time_call(lambda size=size: call(size), CPU) for size in sizes}  # type: ignore[misc]
    batch = min(seconds, key=seconds.__getitem__)
    return batch, min(seconds[batch], *(time_call(lambda: call(batch), CPU) for _ in range(TIMED_CALLS - 1)))


RADIUS = 1e-5
KINDS = ("arxiv", "icml")


@dataclass(frozen=True, kw_only=True)
class DiagonalStudy(Study):
    """Errors of the two published approximations of the Hessian's diagonal, over increasing numbers of samples.

    Each network is at its trained weights, on `examples` training images. A row has:
    error: |D' - D| / |D| over all parameters, where D' is the estimate in float64 from the first samples of one stream.
    negative: the share of entries below 0.
    seconds: the time of all these samples.
    value: normalized sharpness from the estimate over that from D, only at the largest number of samples, else None.
    """

    name: ClassVar[str] = "diagonals"
    examples: int
    samples: tuple[int, ...]

    def rows(self, workspace: Workspace) -> Iterator[Row]:
        """See Study."""
        for recipe in self.recipes:
            network = open_network(recipe, workspace)
            subject = network.subject(self.examples, dtype=torch.float64, device=workspace.device)
            exact = _flatten(exact_diagonal(subject))
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
                    total, taken = total + (count - taken) * _flatten(more), count
                    estimate = total / count
                    last = count == self.samples[-1]
                    yield {
                        "model": recipe.model.name,
                        "kind": kind,
                        "samples": count,
                        "error": float((estimate - exact).norm() / exact.norm()),
                        "negative": float((estimate < 0).double().mean()),
                        "seconds": seconds,
                        "value": _normalized_sharpness(subject, kind, count) / reference if last else None,
                    }


def _normalized_sharpness(subject: Subject, kind: str, samples: int) -> float:
    return float(measure(f"normalized[diagonal={kind},samples={samples},radius={RADIUS}]", subject).value)


def _flatten(diagonal: dict[str, Tensor]) -> Tensor:
    return torch.cat([value.flatten() for value in diagonal.values()])
