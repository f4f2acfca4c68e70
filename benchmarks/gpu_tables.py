"""The rows of docs/performance.md on a device, each written as soon as it is measured (see gpu.py).

python -m benchmarks.gpu_tables tables --device cuda --output FOLDER
python -m benchmarks.gpu_tables training --device cuda --output FOLDER
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sharpbench import Subject, measure
from sharpbench.curvature import gradient_method
from sharpbench.environment import apply_settings
from sharpbench.models import PAPER_MODELS, Timm
from sharpbench.report.escape import markdown_table
from sharpbench.runner.cost import measure_cost, median_seconds

BATCHES = (64, 256, 1024, 4096)
"""Batch sizes of which the gradient is given its best."""


@dataclass(frozen=True)
class Row:
    """A network and what is measured on it."""

    network: str
    examples: int
    classes: int
    measure: str


PAPER_ROWS = tuple(Row(name, 10_000, 10, "trace") for name in ("mlp", "small-mlp", "small-cnn", "lenet"))
LARGE_ROWS = tuple(
    Row(name, examples, classes, each)
    for classes, examples in ((10, 16), (1000, 4))
    for name, each in (("resnet18", "trace"), ("vit_tiny_patch16_224", "ggn-trace"), ("resnet50", "trace"))
)
TINY_ROWS = (Row("small-mlp", 32, 10, "trace"), Row("test_resnet", 2, 3, "ggn-trace"))


def make_module(row: Row) -> tuple[nn.Module, tuple[int, ...]]:
    """The network with random weights, and the shape of one input."""
    torch.manual_seed(0)
    for model in PAPER_MODELS:
        if model.name == row.network:
            return model().build((1, 28, 28), row.classes), (1, 28, 28)
    model = Timm(row.network)
    assert model.input_shape is not None
    shape = (3, 32, 32) if row.network.startswith("test_") else model.input_shape
    return model.build(shape, row.classes), shape


def warm_up(device: str) -> None:
    """Load what the first products and convolutions on a device load, so that no row pays for it."""
    images = torch.ones(2, 1, 4, 4, device=device, requires_grad=True)
    nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(8, 2)).to(device)(images).sum().backward()
    if device == "cuda":
        torch.cuda.synchronize()


def measure_row(row: Row, device: str) -> dict[str, Any]:
    """Seconds, gradients and peak bytes of one measure on one network."""
    module, shape = make_module(row)
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(row.examples, *shape, generator=generator)
    targets = torch.randint(row.classes, (row.examples,), generator=generator)
    start = time.perf_counter()
    subject = Subject.from_module(module.to(device), inputs.to(device), targets.to(device))
    estimate = measure(row.measure, subject)
    first = time.perf_counter() - start
    cost = measure_cost(lambda fresh: measure(row.measure, fresh), subject)
    sizes = {min(size, subject.n) for size in (*BATCHES, subject.batch_size)}
    seconds, batch = min(_gradient_seconds(subject, size, device) for size in sorted(sizes))
    return {
        "value": estimate.value,
        "stderr": estimate.stderr,
        "first_seconds": first,
        "seconds": cost.seconds,
        "gradient_seconds": seconds,
        "gradient_batch": batch,
        "gradients": cost.seconds / seconds,
        "peak_bytes": cost.peak_bytes,
    }


def _gradient_seconds(subject: Subject, size: int, device: str) -> tuple[float, int]:
    other = replace(subject, batch_size=size)
    method = gradient_method(subject)
    taken = median_seconds(lambda: method.gradient_and_value(other.loss, other.params), torch.device(device))
    return taken, other.batch_size


def table_rows(device: str, *, tiny: bool) -> Iterator[dict[str, Any]]:
    """Each row; one without a figure states why, and does not end the others."""
    warm_up(device)
    for row in TINY_ROWS if tiny else (*PAPER_ROWS, *LARGE_ROWS):
        try:
            found = measure_row(row, device)
        except Exception as error:  # out of memory, without timm, or whatever the device raises
            found = {"reason": f"{type(error).__name__}: {error}"[:300]}
        if device == "cuda":
            torch.cuda.empty_cache()
        yield {**asdict(row), "device": device, **found}


def training_rows(device: str, *, tiny: bool) -> Iterator[dict[str, Any]]:
    """Milliseconds per step and network: 64 together, one by itself, and one by torch.optim."""
    from benchmarks.training import measure_training
    from sharpbench.datasets import Digits

    data = Digits().load(None)
    count, repeats = (2, 1) if tiny else (64, 3)
    for name in ("small-mlp",) if tiny else ("small-mlp", "mlp", "small-cnn", "lenet"):
        times = measure_training(name, data, device=device, batch=128, count=count, repeats=repeats)
        yield {"network": name, "networks": count, "batch": 128, "device": device, **times}


def write_rows(rows: Iterator[dict[str, Any]], path: Path) -> list[dict[str, Any]]:
    """The rows, each appended to the file before the next is measured."""
    found = []
    with path.open("w", encoding="utf-8") as stream:
        for row in rows:
            stream.write(json.dumps(row) + "\n")
            stream.flush()
            print(row, flush=True)
            found.append(row)
    return found


def to_markdown(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as a table."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    cells = [[_show(row.get(name)) for name in names] for row in rows]
    return markdown_table(names, cells, set(range(1, len(names)))) + "\n"


def _show(value: object) -> str:
    return "-" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the rows of one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", choices=["tables", "training"])
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--output", type=Path, required=True)
    given = parser.parse_args(arguments)
    apply_settings(given.device, 1)
    rows = table_rows if given.table == "tables" else training_rows
    found = write_rows(rows(given.device, tiny=given.tiny), given.output / f"{given.table}.jsonl")
    (given.output / f"{given.table}.md").write_text(to_markdown(found), encoding="utf-8")
    if any("reason" in row for row in found):
        sys.exit("a row has no figure: see its reason")


if __name__ == "__main__":
    main()
