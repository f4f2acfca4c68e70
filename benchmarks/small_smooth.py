"""The trace of small smooth networks: the default, which is exact where samples would take longer, and the definition.

python -m benchmarks.small_smooth

Random weights and data, float32, one thread. Prints a Markdown table of the better of two calls each, in processor
seconds. The first call of each network, which captures its graph, is not among them.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from sharpbench import Subject, measure
from sharpbench.report.escape import markdown_table

CLASSES = 10


class Last(nn.Module):
    """A recurrent network whose last output is classified."""

    def __init__(self, layer: type[nn.RNNBase], inputs: int, width: int) -> None:
        super().__init__()
        self.cells, self.head = layer(inputs, width, batch_first=True), nn.Linear(width, CLASSES)

    def forward(self, steps: Tensor) -> Tensor:
        logits: Tensor = self.head(self.cells(steps)[0][:, -1])
        return logits


class Encoder(nn.Module):
    """One transformer layer, whose outputs are averaged and classified."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(width, 2, 2 * width, dropout=0.0, activation="gelu", batch_first=True)
        self.head = nn.Linear(width, CLASSES)

    def forward(self, positions: Tensor) -> Tensor:
        logits: Tensor = self.head(self.layer(positions).mean(1))
        return logits


def perceptron() -> nn.Module:
    return nn.Sequential(nn.Linear(20, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, CLASSES))


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "LSTM, 12 steps": (lambda: Last(nn.LSTM, 8, 24), (16, 12, 8)),
    "GRU, 12 steps": (lambda: Last(nn.GRU, 8, 24), (16, 12, 8)),
    "transformer layer, 10 positions": (lambda: Encoder(16), (32, 10, 16)),
    "tanh perceptron": (perceptron, (64, 20)),
}
"""Name -> how the network is made, and the shape of its data."""


def timed(words: str, subject: Subject) -> tuple[float, float, str]:
    """Processor seconds, value and method."""
    seconds = []
    for _ in range(2):
        start = time.process_time()
        found = measure(words, subject.fresh())
        seconds.append(time.process_time() - start)
    return min(seconds), found.value, str(found.details["method"])


def main() -> None:
    """Print the table."""
    torch.set_num_threads(1)
    rows = []
    for name, (make, shape) in NETWORKS.items():
        torch.manual_seed(0)
        network = make().eval()
        subject = Subject.from_module(network, torch.randn(shape), torch.randint(CLASSES, shape[:1]))
        measure("ggn-trace", subject)
        seconds, value, method = timed("trace", subject)
        naive, wanted, _ = timed("trace[method=naive]", subject)
        size = str(sum(each.numel() for each in network.parameters()))
        numbers = (f"{seconds:.2f}", f"{naive:.2f}", f"{abs(value / wanted - 1):.0e}")
        rows.append([name, size, str(shape[0]), method, *numbers])
    head = ["network", "parameters", "examples", "method of `trace`", "s", "naive, s", "difference"]
    print(markdown_table(head, rows, {1, 2, 4, 5, 6}))


if __name__ == "__main__":
    main()
