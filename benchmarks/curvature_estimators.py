"""Estimators of a trace: error, coverage of the intervals, and curvlinops on the same probes.

    python benchmarks/curvature_estimators.py [--trials 500] [--products 60] [--examples 64]

small-mlp, trained on digits for a moment, float64, one thread; the truth is the exact engine's (the network is
certified, so that both matrices have the same trace). curvlinops gets the same probes as we do: `difference`
is the largest difference between both estimates, relative to the truth; `seconds` are medians of one estimate.
It is left out if it is not installed (pip install curvlinops-for-pytorch).
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sharpbench import Estimate, Subject
from sharpbench.curvature import exact_traces, hutchinson_trace, hutchpp_trace, xtrace
from sharpbench.curvature.trace_estimators import draw_signs
from sharpbench.datasets import Digits
from sharpbench.models import SmallMlp

ESTIMATORS: dict[str, Callable[..., Estimate]] = {
    "hutchinson_trace": hutchinson_trace,
    "hutchpp_trace": hutchpp_trace,
    "xtrace": xtrace,
}
PROBES = {"hutchinson_trace": 1.0, "hutchpp_trace": 2 / 3, "xtrace": 1 / 2}
"""Random vectors per product, by algorithm."""


def trained(examples: int) -> tuple[nn.Module, Tensor, Tensor]:
    """small-mlp after 100 steps on digits, in float64."""
    torch.manual_seed(0)
    data = Digits().load(None)
    x, y = data.train_inputs[:examples].double(), data.train_targets[:examples]
    model = SmallMlp().build((1, 28, 28), 10).double()
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    for _ in range(100):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
    return model, x, y


class Peer:
    """curvlinops' estimators on its own products of the same network, given our probes."""

    def __init__(self, model: nn.Module, x: Tensor, y: Tensor, kind: str) -> None:
        from curvlinops import GGNLinearOperator, HessianLinearOperator

        operator = {"hessian": HessianLinearOperator, "gauss-newton": GGNLinearOperator}[kind]
        params = [value for value in model.parameters() if value.requires_grad]
        self.matrix = operator(model, nn.CrossEntropyLoss(), params, [(x, y)], check_deterministic=False)

    def estimate(self, name: str, products: int, probes: Tensor) -> float:
        import curvlinops

        given = iter(probes)
        module = {
            "hutchinson_trace": curvlinops.trace.hutchinson,
            "hutchpp_trace": curvlinops.trace.meyer2020hutch,
            "xtrace": curvlinops.trace.epperly2024xtrace,
        }[name]
        before, module.random_vector = module.random_vector, lambda *arguments: next(given)
        try:
            return float(getattr(module, name)(self.matrix, num_matvecs=products))
        finally:
            module.random_vector = before


@dataclass(frozen=True)
class Comparison:
    """What all rows share: the network, the true trace, and the numbers of trials and products."""

    subject: Subject
    truth: float
    trials: int
    products: int


def row(name: str, kind: str, peer: Peer | None, compared: Comparison) -> str:
    """One line of the table."""
    subject, truth, trials, products = compared.subject, compared.truth, compared.trials, compared.products
    estimator = ESTIMATORS[name]
    hits, errors, theirs, differences = [], [], [], []
    seconds: dict[str, list[float]] = {"ours": [], "theirs": []}
    for trial in range(trials):
        start = time.perf_counter()
        found = estimator(subject, samples=products, generator=torch.Generator().manual_seed(trial), kind=kind)
        seconds["ours"].append(time.perf_counter() - start)
        if found.interval is not None:
            hits.append(found.interval[0] <= truth <= found.interval[1])
        errors.append(found.value / truth - 1)
        if peer is not None and trial < 50:
            like = torch.empty(subject.size, dtype=torch.float64)
            probes = draw_signs(like, round(products * PROBES[name]), torch.Generator().manual_seed(trial))
            start = time.perf_counter()
            value = peer.estimate(name, products, probes)
            seconds["theirs"].append(time.perf_counter() - start)
            theirs.append(value / truth - 1)
            differences.append(abs(value - found.value) / truth)

    def spread(values: Sequence[float]) -> float:
        return statistics.fmean(value**2 for value in values) ** 0.5

    against = (
        f"{spread(theirs):.2e} | {max(differences):.0e} | {statistics.median(seconds['theirs']):.3f}"
        if theirs
        else "- | - | -"
    )
    covered = f"{100 * statistics.fmean(hits):.1f} %" if hits else "-"
    return (
        f"| {name} | {kind} | {products} | {spread(errors):.2e} | {covered} "
        f"| {statistics.median(seconds['ours']):.3f} | {against} |"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=500)
    parser.add_argument("--products", type=int, default=60)
    parser.add_argument("--examples", type=int, default=64)
    options = parser.parse_args(arguments)
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    model, x, y = trained(options.examples)
    subject = Subject.from_module(model, x, y)
    truth = sum(exact_traces(subject).values())
    compared = Comparison(subject, truth, options.trials, options.products)
    print(f"torch {torch.__version__}, {options.examples} examples, trace {truth:.6g}, {options.trials} trials")
    print("| estimator | matrix | products | relative error | covered | seconds | curvlinops' error | difference "
          "| its seconds |")  # fmt: skip
    print("|---|---|---|---|---|---|---|---|---|")
    for kind in ("gauss-newton", "hessian"):
        peer = Peer(model, x, y, kind) if importlib.util.find_spec("curvlinops") is not None else None
        for name in ESTIMATORS:
            print(row(name, kind, peer, compared), flush=True)


if __name__ == "__main__":
    main()
