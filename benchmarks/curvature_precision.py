"""float32 against float64 on confident networks: the engine, and the subtraction of the paper's algorithm.

    python benchmarks/curvature_precision.py [--networks small-mlp,mlp] [--data-dir FOLDER] [--examples 512]

Each network is trained (Adam, batches of 128) on that many images, MNIST if it is available, else digits,
until its training loss is below 1e-3 and again until it is below 1e-4; there the trace and the diagonal in float32
are compared with the engine's in float64 at the same weights. The paper's algorithm subtracts: `negative` counts the
entries of its diagonal that come out below 0. About three minutes for all four networks on one core.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sharpbench import InvalidInput, Subject
from sharpbench.curvature import exact_diagonal, exact_traces
from sharpbench.datasets import Digits, Mnist
from sharpbench.models import PAPER_MODELS

LOSSES = (1e-3, 1e-4)


def images(folder: Path | None, count: int) -> tuple[str, Tensor, Tensor]:
    """MNIST, or digits without it."""
    try:
        data, name = Mnist().load(folder), "mnist"
    except InvalidInput:
        data, name = Digits().load(folder), "digits"
    return name, data.train_inputs[:count], data.train_targets[:count]


def confident(model: nn.Module, x: Tensor, y: Tensor) -> Iterator[float]:
    """Trains in place; yields the loss whenever one of LOSSES is passed."""
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    for bound in LOSSES:
        while (loss := F.cross_entropy(model(x), y).item()) >= bound:
            for _ in range(5):
                some = torch.randperm(len(x))[:128]
                optimizer.zero_grad()
                F.cross_entropy(model(x[some]), y[some]).backward()
                optimizer.step()
        yield loss


def paper_diagonal(subject: Subject) -> dict[str, Tensor]:
    """Proposition 1 as its authors compute it: sum_k p_k |df_k|^2 - |d logsumexp|^2, example by example."""

    def gradients(example: Tensor) -> dict[str, Tensor]:
        def outputs(params: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
            logits = subject.apply(params, example[None])[0]
            return torch.cat((logits, logits.logsumexp(0)[None])), logits.softmax(0)

        rows, p = torch.func.jacrev(outputs, has_aux=True)(subject.params)
        signed = torch.cat((p, -p.new_ones(1)))
        return {name: torch.einsum("k,k...->...", signed, row.square()) for name, row in rows.items()}

    total = {name: torch.zeros_like(value) for name, value in subject.params.items()}
    for examples in subject.inputs.split(8):
        for name, values in torch.func.vmap(gradients)(examples).items():
            total[name] += values.sum(0) / subject.n
    return total


def row(name: str, loss: float, subject: Subject) -> str:
    """One line of the table."""
    wanted = exact_diagonal(subject.to(dtype=torch.float64))
    trace = sum(float(value.sum()) for value in wanted.values())
    ours, theirs = exact_diagonal(subject), paper_diagonal(subject)

    def off(found: dict[str, Tensor]) -> float:
        return max(float((found[key] - value).norm() / value.norm()) for key, value in wanted.items())

    negative = sum(int((value < 0).sum()) for value in theirs.values())
    least = min(float(value.min()) for value in ours.values())
    traced = abs(sum(exact_traces(subject).values()) / trace - 1)
    subtracted = abs(sum(float(value.double().sum()) for value in theirs.values()) / trace - 1)
    return (
        f"| {name} | {loss:.1e} | {trace:.3g} | {traced:.0e} | {off(ours):.0e} | {least:.1g} "
        f"| {subtracted:.0e} | {off(theirs):.0e} | {negative} |"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", default="small-mlp,mlp,small-cnn,lenet")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--examples", type=int, default=512)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    data, x, y = images(options.data_dir, options.examples)
    print(f"torch {torch.__version__}, {len(x)} images of {data}")
    print("| network | loss | trace | error | of the diagonal | least entry | subtraction's error | of its diagonal "
          "| negative |")  # fmt: skip
    print("|---|---|---|---|---|---|---|---|---|")
    for name in options.networks.split(","):
        torch.manual_seed(0)
        model = next(each for each in PAPER_MODELS if each.name == name)().build((1, 28, 28), 10)
        for loss in confident(model, x, y):
            print(row(name, loss, Subject.from_module(model, x, y)), flush=True)


if __name__ == "__main__":
    main()
