"""Accuracy of `doctor`: predicted and measured seconds and memory.

    python benchmarks/forecast.py [--networks lenet,timm:test_resnet] [--measures trace,minimum] [--threads 1]

Each measure on all examples of the embedded digits that a row names, random weights; the prediction first, then one
standalone call as `run` times it. Prints one row per measure, and the median and the largest factor between the two.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence

from sharpbench import measure
from sharpbench.core.spec import format_spec, parse_spec
from sharpbench.datasets import Digits, Subset
from sharpbench.models import MODELS
from sharpbench.runner.cost import median_seconds, peak_bytes, predict_cost
from sharpbench.runner.plan import select_measures
from sharpbench.runner.single_network import NetworkEvaluation, load_subject

NETWORKS = (
    "small-mlp:1437,mlp:1437,lenet:1437,small-cnn:1437,timm:test_resnet:64,timm:test_vit:64,timm:test_convnext:64"
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", default=NETWORKS, help="name:examples, by commas")
    parser.add_argument("--measures", default="ggn-trace,fisher-rao,normalized,minimum")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(arguments)
    offered = {model.name: model for model in MODELS}
    print("| network | examples | measure | predicted s | s | predicted MB | MB |\n|---|---|---|---|---|---|---|")
    factors: dict[str, list[float]] = {"seconds": [], "memory": []}
    for word in options.networks.split(","):
        name, _, examples = word.rpartition(":")
        evaluation = NetworkEvaluation(
            model=parse_spec(name, offered, kind="model"),
            measures=select_measures(options.measures),
            dataset=Digits(),
            subset=Subset(limit=int(examples)),
        )
        subject = load_subject(evaluation, data_dir=None, threads=options.threads)
        for chosen in evaluation.measures:
            predicted = predict_cost(chosen, subject)
            if predicted.seconds is None:
                print(f"| {name} | {examples} | {format_spec(chosen)} | {predicted.status}: {predicted.reason} | | | |")
                continue
            seconds = median_seconds(
                lambda chosen=chosen, subject=subject: measure(chosen, subject.fresh()), subject.device
            )
            held = peak_bytes(lambda chosen=chosen, subject=subject: measure(chosen, subject.fresh()), subject.device)
            factors["seconds"].append(max(predicted.seconds / seconds, seconds / predicted.seconds))
            if predicted.bytes and held:
                factors["memory"].append(max(predicted.bytes / held, held / predicted.bytes))
            print(
                f"| {name} | {examples} | {format_spec(chosen)} | {predicted.seconds:.3g} | {seconds:.3g} "
                f"| {(predicted.bytes or 0) / 1e6:.0f} | {(held or 0) / 1e6:.0f} |",
                flush=True,
            )
    for what, found in factors.items():
        if found:
            print(
                f"\n{what}: off by a factor of {statistics.median(found):.2f} in the median, {max(found):.2f} at most"
            )


if __name__ == "__main__":
    main()
