"""asv: seconds, peak memory and exactness of the exact trace and diagonal, on the paper's networks."""

from __future__ import annotations

import torch

from sharpbench.curvature import exact_diagonal, exact_traces
from sharpbench.models import MODELS
from sharpbench.subject import Subject


def subject_of(network: str, examples: int) -> Subject:
    """The network at its initial weights on random images."""
    torch.manual_seed(0)
    model = next(each for each in MODELS if each.name == network)().build((1, 28, 28), 10)
    x, y = torch.rand(examples, 1, 28, 28) * 2 - 1, torch.randint(0, 10, (examples,))
    return Subject.from_module(model, x, y)


class Exact:
    """One call on a fresh subject; the graph is captured in setup."""

    version = "1"
    params = (["mlp", "small-mlp", "lenet", "small-cnn"], [256])
    param_names = ("network", "examples")
    timeout = 300

    def setup(self, network: str, examples: int) -> None:
        torch.set_num_threads(1)
        self.subject = subject_of(network, examples)
        exact_traces(self.subject)

    def time_traces(self, network: str, examples: int) -> None:
        exact_traces(self.subject.fresh())

    def time_diagonal(self, network: str, examples: int) -> None:
        exact_diagonal(self.subject.fresh())

    def peakmem_traces(self, network: str, examples: int) -> None:
        exact_traces(self.subject.fresh())

    def track_error(self, network: str, examples: int) -> float:
        """The relative error of the float32 trace against float64 at the same weights."""
        exact = sum(exact_traces(self.subject.to(dtype=torch.float64)).values())
        return abs(sum(exact_traces(self.subject.fresh()).values()) / exact - 1)
