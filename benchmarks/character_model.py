"""The Gauss-Newton trace of a character model by a sketch, next to curvlinops and hessian-eigenthings at equal error.

    python benchmarks/character_model.py TEXT [--part ours,exact,curvlinops,eigenthings] [--sequences 256]

TEXT is a file such as Shakespeare's plays of nanoGPT's data (1.1 million characters). A GPT of 0.8 million parameters
(4 layers, 128 wide, 4 heads) is trained on it for `--steps` batches of 32 sequences of 64 characters, then measured on
`--sequences` others. One thread, float32, processor seconds, medians of `--repeats` calls.

ours: seconds, gradients, standard error of `ggn-trace[method=sketch,columns=2]`. exact: on `--exact` sequences, of
the loss at their last `--counted` characters, in float64, the relative difference between the exact trace and its
definition, sum_p tr J_p^T Lambda_p J_p with every row of the Jacobian. The libraries: products with random signs;
seconds of one, the spread of v^T G v between `--probes` of them, and what a standard error of 1 % takes.
"""

from __future__ import annotations

import argparse
import math
import resource
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from sharpbench import Subject, measure
from sharpbench.curvature import exact_traces

LENGTH, WIDTH, LAYERS, HEADS = 64, 128, 4, 4
BATCH = 16
"""Sequences of a batch, for gradients and for the libraries."""


class Block(nn.Module):
    """Causal attention and a perceptron, each after a norm and with a residual sum."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.qkv, self.project = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        parts = self.qkv(self.norm1(x)).unflatten(2, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(*parts, is_causal=True).transpose(1, 2).flatten(2)
        x = x + self.project(mixed)
        wide: Tensor = x + self.down(F.gelu(self.up(self.norm2(x))))
        return wide


class CharacterModel(nn.Module):
    """Logits [B, T, V] of the next characters."""

    def __init__(self, characters: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(characters, WIDTH)
        self.position = nn.Parameter(0.02 * torch.randn(LENGTH, WIDTH))
        self.blocks = nn.Sequential(*(Block() for _ in range(LAYERS)))
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, characters, bias=False)

    def forward(self, characters: Tensor) -> Tensor:
        logits: Tensor = self.head(self.norm(self.blocks(self.embedding(characters) + self.position)))
        return logits


class Flat(nn.Module):
    """The same logits as [B T, V], which the libraries take."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, characters: Tensor) -> Tensor:
        logits: Tensor = self.model(characters).flatten(0, 1)
        return logits


def draw_sequences(text: Tensor, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Characters and the next ones, [count, LENGTH] each."""
    starts = torch.randint(len(text) - LENGTH - 1, (count,), generator=torch.Generator().manual_seed(seed))
    rows = starts[:, None] + torch.arange(LENGTH + 1)
    return text[rows[:, :-1]], text[rows[:, 1:]]


def trained_model(text: Tensor, characters: int, steps: int) -> CharacterModel:
    """The model after `steps` steps of AdamW."""
    torch.manual_seed(0)
    model = CharacterModel(characters)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    loss = torch.tensor(math.nan)
    for step in range(steps):
        given, wanted = draw_sequences(text, 32, step + 1)
        loss = F.cross_entropy(model(given).flatten(0, 1), wanted.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    size = sum(each.numel() for each in model.parameters())
    print(f"{size:,} parameters, training loss {loss.item():.3f}", flush=True)
    return model.requires_grad_(True)


def median_seconds(call: Callable[[], object], repeats: int) -> float:
    """Median processor seconds of a call, which other processes do not lengthen much."""
    taken = []
    for _ in range(repeats):
        start = time.process_time()
        call()
        taken.append(time.process_time() - start)
    return statistics.median(taken)


def gradient_seconds(model: nn.Module, given: Tensor, wanted: Tensor, repeats: int) -> float:
    """Median seconds of one gradient of the loss on all sequences."""

    def gradient() -> None:
        model.zero_grad()
        for x, y in zip(given.split(BATCH), wanted.split(BATCH), strict=True):
            F.cross_entropy(model(x).flatten(0, 1), y.flatten()).backward()

    return median_seconds(gradient, repeats)


def print_ours(subject: Subject, gradient: float, repeats: int) -> None:
    """The sketch's row."""
    found = measure("ggn-trace[method=sketch,columns=2]", subject.fresh())
    seconds = median_seconds(lambda: measure("ggn-trace[method=sketch,columns=2]", subject.fresh()), repeats)
    low, high = found.interval or (math.nan, math.nan)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"ours: {found.value:.4f}, standard error {found.stderr / found.value:.2%}, interval "
        f"{low / found.value - 1:+.2%} to {high / found.value - 1:+.2%}, {seconds:.1f} s, {seconds / gradient:.2f} "
        f"gradients, peak {peak:.2f} GiB",
        flush=True,
    )


def print_exact(model: nn.Module, given: Tensor, wanted: Tensor, counted: int) -> None:
    """Exact trace and definition in float64, of the loss at the last `counted` characters of some sequences."""
    targets = wanted.clone()
    targets[:, : LENGTH - counted] = -100  # what cross entropy ignores
    few = Subject.from_module(model, given, targets).to(dtype=torch.float64)
    start = time.process_time()
    engine = sum(exact_traces(few).values())
    seconds = time.process_time() - start
    start, total = time.process_time(), 0.0
    for example in few.inputs.split(1):
        logits, pull = torch.func.vjp(lambda params, x=example: few.apply(params, x)[0], few.params)[:2]
        for place in range(LENGTH - counted, LENGTH):
            p = logits[place].detach().softmax(0)
            units = torch.zeros(len(p), *logits.shape, dtype=p.dtype)
            units[:, place] = torch.eye(len(p), dtype=p.dtype)
            rows = torch.func.vmap(pull)(units)[0]
            jacobian = torch.cat([rows[name].flatten(1) for name in few.params], 1)
            total += float(((p.diag() - p.outer(p)) * (jacobian @ jacobian.T)).sum()) / counted
    definition = total / len(given)
    print(
        f"exact on {len(given)} sequences, {counted} characters each: {engine:.10f} in {seconds:.0f} s; by the "
        f"definition {definition:.10f} in {time.process_time() - start:.0f} s; relative difference "
        f"{abs(engine / definition - 1):.1e}",
        flush=True,
    )


def print_library(name: str, products: Callable[[Tensor], Tensor], size: int, probes: int, gradient: float) -> None:
    """Seconds of one product, and what a standard error of 1 % takes."""
    forms, taken = [], []
    for seed in range(probes):
        signs = torch.randint(2, (size,), generator=torch.Generator().manual_seed(seed)).mul(2).sub(1).float()
        start = time.process_time()
        forms.append(float(signs @ products(signs)))
        taken.append(time.process_time() - start)
    seconds, mean, spread = statistics.median(taken), statistics.mean(forms), statistics.stdev(forms)
    needed = max(1.0, (spread / mean / 0.01) ** 2)
    print(
        f"{name}: {mean:.4f}, one product {seconds:.1f} s ({seconds / gradient:.2f} gradients), spread "
        f"{spread / mean:.1%}; a standard error of 1 % takes {needed:.0f} products, {needed * seconds:.0f} s, "
        f"{needed * seconds / gradient:.0f} gradients",
        flush=True,
    )


def library_products(name: str, model: nn.Module, given: Tensor, wanted: Tensor) -> Callable[[Tensor], Tensor]:
    """Products with the Gauss-Newton matrix by a library."""
    flat, loss = Flat(model), nn.CrossEntropyLoss()
    batches = [(x, y.flatten()) for x, y in zip(given.split(BATCH), wanted.split(BATCH), strict=True)]
    if name == "curvlinops":
        import curvlinops  # only where this part is asked for

        parameters = list(flat.parameters())
        operator = curvlinops.GGNLinearOperator(flat, loss, parameters, batches, check_deterministic=False)
        return lambda vector: operator @ vector
    import hessian_eigenthings as library  # likewise

    found = library.GGNOperator(flat, batches, library.supervised_forward, library.supervised_loss_of_output(loss))
    return lambda vector: found.matvec(vector)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a line for each part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", type=Path)
    parser.add_argument("--part", default="ours,exact,curvlinops,eigenthings")
    parser.add_argument("--sequences", type=int, default=256)
    parser.add_argument("--exact", type=int, default=2)
    parser.add_argument("--counted", type=int, default=LENGTH)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--probes", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    letters = options.text.read_text(encoding="utf-8")
    alphabet = {letter: place for place, letter in enumerate(sorted(set(letters)))}
    text = torch.tensor([alphabet[letter] for letter in letters])
    model = trained_model(text, len(alphabet), options.steps)
    given, wanted = draw_sequences(text, options.sequences, 0)
    gradient = gradient_seconds(model, given, wanted, options.repeats)
    print(f"torch {torch.__version__}, {len(given)} sequences, one gradient {gradient:.2f} s", flush=True)
    parts = options.part.split(",")
    if "ours" in parts:
        print_ours(Subject.from_module(model, given, wanted), gradient, options.repeats)
    if "exact" in parts:
        print_exact(model, given[: options.exact], wanted[: options.exact], options.counted)
    for name in ("curvlinops", "eigenthings"):
        if name in parts:
            with sdpa_kernel(SDPBackend.MATH):  # the other back ends have no forward derivative
                products = library_products(name, model, given, wanted)
                size = sum(each.numel() for each in model.parameters())
                print_library(name, products, size, options.probes, gradient)


if __name__ == "__main__":
    main()
