"""The trace of the Hessian of an encoder of MiniLM's size with a small head, to 2 %.

    python benchmarks/encoder.py [--examples 64] [--length 32] [--precision 0.02]

22.7 million parameters: `transformers`' BertModel with 6 layers, 384 wide, 12 heads, 30,522 tokens, from its
configuration with random weights, on random tokens with an attention mask; the mean of the last layer goes into a
linear head of two classes. Prints the seconds of one gradient, of `ggn-trace` and of `trace`, with their standard
errors, and the peak of memory. The threads are those of OMP_NUM_THREADS.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sharpbench import Subject, measure
from sharpbench.curvature import exact_traces
from sharpbench.environment import import_torchvision


class Classifier(nn.Module):
    """Logits [B, 2] of tokens [B, T] and their mask."""

    def __init__(self) -> None:
        super().__init__()
        import_torchvision()  # where it does not fit torch, transformers cannot be imported before it
        from transformers import BertConfig, BertModel  # only this benchmark needs it

        sizes = {"num_hidden_layers": 6, "hidden_size": 384, "num_attention_heads": 12, "intermediate_size": 1536}
        self.encoder = BertModel(BertConfig(**sizes), add_pooling_layer=False)
        self.head = nn.Linear(384, 2)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        states = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        kept = attention_mask[:, :, None].to(states)
        logits: Tensor = self.head((states * kept).sum(1) / kept.sum(1))
        return logits


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a line for each measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=64)
    parser.add_argument("--length", type=int, default=32)
    parser.add_argument("--precision", type=float, default=0.02)
    parser.add_argument("--measures", default="ggn-trace,trace")
    options = parser.parse_args(arguments)
    torch.manual_seed(0)
    shape = options.examples, options.length
    tokens = torch.randint(1000, 30_000, shape)
    ends = torch.randint(options.length // 2, options.length + 1, (options.examples, 1))
    mask = (torch.arange(options.length) < ends).long()
    model = Classifier()
    subject = Subject.from_module(
        model, {"input_ids": tokens, "attention_mask": mask}, torch.randint(2, (options.examples,))
    )
    torch.func.grad(subject.loss)(subject.params)
    start = time.perf_counter()
    torch.func.grad(subject.loss)(subject.params)
    gradient = time.perf_counter() - start
    start = time.perf_counter()
    exact_traces(subject)
    print(f"capture, checks and the first exact traces: {time.perf_counter() - start:.1f} s", flush=True)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {subject.size:,} parameters", flush=True)
    print(f"one gradient of {options.examples} examples: {gradient:.1f} s", flush=True)
    for word in options.measures.split(","):
        spec = f"trace[precision={options.precision}]" if word == "trace" else word
        start = time.perf_counter()
        found = measure(spec, subject.fresh())
        seconds = time.perf_counter() - start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        interval = "" if found.interval is None else f", interval {found.interval[0]:.5g} to {found.interval[1]:.5g}"
        print(
            f"{spec}: {found.value:.5g}, standard error {found.stderr}{interval}, converged {found.converged}, "
            f"{found.probes} probes, {seconds:.0f} s, {seconds / gradient:.1f} gradients, peak {peak:.2f} GiB",
            flush=True,
        )


if __name__ == "__main__":
    main()
