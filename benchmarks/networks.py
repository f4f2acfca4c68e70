"""Subjects to measure: the paper's networks with initial weights, on seeded random inputs, with one thread."""

from __future__ import annotations

from importlib import import_module


def subject(model: str, *, examples: int, dtype: str = "float32"):
    """The named network on `examples` random images and labels. Skips commits that do not have it."""
    try:
        import torch

        from sharpbench import Subject
        from sharpbench.models import MODELS
    except ImportError as error:
        raise NotImplementedError(str(error)) from error
    torch.set_num_threads(1)
    torch.manual_seed(0)
    module = {each.name: each for each in MODELS}[model]().build((1, 28, 28), 10)
    inputs, targets = torch.randn(examples, 1, 28, 28), torch.randint(10, (examples,))
    return Subject.from_module(module, inputs, targets).to(dtype=getattr(torch, dtype))


def find_cost():
    """The function that counts a call's gradients and peak, which commits before 28 November 2026 have elsewhere."""
    for module, name in (("sharpbench.runner.cost", "measure_cost"), ("sharpbench.timing", "cost")):
        try:
            return getattr(import_module(module), name)
        except ImportError:
            continue
    raise NotImplementedError("this commit counts no gradients")


def gated(error: float, bound: float) -> float:
    """The error, if it is at most `bound`; else the benchmark fails, and with it `asv run`."""
    if not error <= bound:
        raise ValueError(f"relative error {error:.1e} is above {bound:.0e}")
    return error
