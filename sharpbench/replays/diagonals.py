"""Diagonals: how far both published approximations of the Hessian's diagonal are from it, over their samples."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sharpbench.core.evaluate import measure
from sharpbench.core.subject import Subject
from sharpbench.curvature import difference_diagonal, exact_diagonal
from sharpbench.replays.study import Place, Row, Study
from sharpbench.replays.trained import trained

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
            network = trained(recipe, place)
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
