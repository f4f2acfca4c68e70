"""A population that was trained elsewhere: net.py, train.npz, six state dicts and their table, with its description."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import torch

NET = """
import torch

def make():
    return torch.nn.Sequential(torch.nn.Linear(4, 5), torch.nn.ReLU(), torch.nn.Linear(5, 3))
"""
DESCRIPTION = """
table = "networks.csv"
model = "net.py:make"
weights = "{file}"
dataset = "npz:train.npz"
outcome = "train_accuracy - test_accuracy"
by = ["rate"]
test_examples = 100
"""


def make_network(seed: int) -> torch.nn.Sequential:
    """The network of net.py."""
    torch.manual_seed(seed)
    return torch.nn.Sequential(torch.nn.Linear(4, 5), torch.nn.ReLU(), torch.nn.Linear(5, 3))


def write_population(folder: Path) -> Path:
    """The folder, which is made, with the description mine.toml."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    inputs, targets = rng.standard_normal((12, 4)).astype(np.float32), rng.integers(0, 3, 12)
    np.savez(folder / "train.npz", inputs=inputs, targets=targets)
    (folder / "net.py").write_text(NET, encoding="utf-8")
    (folder / "mine.toml").write_text(DESCRIPTION, encoding="utf-8")
    with (folder / "networks.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "rate", "seed", "train_accuracy", "test_accuracy"])
        for number in range(6):
            torch.save(make_network(number).state_dict(), folder / f"n{number}.pt")
            writer.writerow([f"n{number}.pt", (0.1, 0.2)[number // 3], number % 3, 0.25, 0.2 - 0.01 * number])
    return folder


def rewrite(path: Path, old: str, new: str) -> None:
    """Replace text in a file."""
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")
