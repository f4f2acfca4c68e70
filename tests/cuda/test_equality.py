"""On CUDA every measure gives the value that it gives on the CPU. `make gpu` runs these tests; others skip them.

With $SHARPBENCH_TEST_DEVICE=cpu the same comparisons are made on the CPU, of float32 with float64; with `simulated` on
a device that refuses to mix tensors of two devices (see simulated_device.py).
"""

from __future__ import annotations

import functools
import math

import pytest
import torch
from torch import Tensor, nn

from sharpbench import NotApplicable, Subject, measure
from sharpbench.core.registry import available
from sharpbench.testing.cases import make_cases

pytestmark = pytest.mark.cuda

NETWORKS = ("biases", "convolution", "residual and batch norm", "smooth", "attention")
MEASURES = sorted(
    name for name, cls in available("measures").classes.items() if cls.__module__.startswith("sharpbench_measures.")
)
METHODS = (
    *("trace[method=hutchinson,samples=4]", "trace[method=hutchpp,samples=9]", "trace[method=xtrace,samples=8]"),
    *("ggn-trace[method=sketch,top=1]", "trace[precision=0.1]", "normalized[diagonal=icml]", "minimum[scope=unit]"),
)
"""Other ways of the measures, each on one network."""
FLOAT64_BOUND = 1e-6
"""Relative, of the value in float64: probes are drawn on the CPU, so only rounding differs."""
FLOAT32_BOUND = 2e-2
"""Relative, of the value in float32 from the one in float64 on the CPU: searches amplify rounding."""
FLOOR = 1e-6
"""Below this a value is compared absolutely: some are sums that cancel."""


RECURRENT = {"LSTM": nn.LSTM, "GRU": nn.GRU, "RNN": nn.RNN}
OF_RECURRENT = ("gradient-norm", "ggn-trace", "top-eigenvalue", "sam")
"""First and second derivatives, by examples and of their mean."""


class Recurrent(nn.Module):
    """Two layers, or one of both directions with packed sequences."""

    def __init__(self, layer: type[nn.RNNBase], packed: bool) -> None:
        super().__init__()
        self.packed = packed
        self.cells = layer(2, 3, num_layers=1 if packed else 2, bidirectional=packed, batch_first=True)
        self.head = nn.Linear(6 if packed else 3, 3)

    def forward(self, steps: Tensor) -> Tensor:
        if not self.packed:
            result: Tensor = self.head(self.cells(steps)[0][:, -1])
            return result
        lengths = torch.full((len(steps),), steps.shape[1])
        packed = self.cells(nn.utils.rnn.pack_padded_sequence(steps, lengths, batch_first=True))[0]
        last: Tensor = self.head(nn.utils.rnn.pad_packed_sequence(packed, batch_first=True)[0][:, -1])
        return last


@functools.cache
def recurrent_subject(layer: str, packed: bool) -> Subject:
    torch.manual_seed(0)
    network = Recurrent(RECURRENT[layer], packed).double()
    return Subject.from_module(network, torch.randn(8, 4, 2, dtype=torch.float64), torch.arange(8) % 3)


@functools.cache
def subject_of(network: str) -> Subject:
    return next(case.subject for case in make_cases() if case.name == network)


@functools.cache
def reference(network: str, name: str) -> float | str:
    """The value in float64 on the CPU, or why there is none."""
    return value_of(name, subject_of(network))


def value_of(name: str, subject: Subject) -> float | str:
    try:
        return measure(name, subject).value
    except NotApplicable:
        return "not applicable"


@pytest.mark.parametrize("name", MEASURES)
@pytest.mark.parametrize("network", NETWORKS)
def test_values_are_those_of_the_cpu(network: str, name: str, device: str) -> None:
    wanted, subject = reference(network, name), subject_of(network)
    for dtype, bound in ((torch.float64, FLOAT64_BOUND), (torch.float32, FLOAT32_BOUND)):
        found = value_of(name, subject.to(dtype=dtype, device=device))
        if isinstance(wanted, str) or isinstance(found, str):
            assert found == wanted
        else:
            assert math.isclose(found, wanted, rel_tol=bound, abs_tol=FLOOR), (dtype, found, wanted)


@pytest.mark.parametrize("name", METHODS)
def test_values_of_other_methods_are_those_of_the_cpu(name: str, device: str) -> None:
    found, wanted = value_of(name, subject_of("biases").to(device=device)), reference("biases", name)
    assert found == pytest.approx(wanted, rel=FLOAT64_BOUND, abs=FLOOR)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("layer", RECURRENT)
def test_recurrent_networks_have_the_values_of_the_cpu(layer: str, packed: bool, device: str) -> None:
    """cuDNN's layers have no gradient in eval mode, and no second derivative."""
    subject = recurrent_subject(layer, packed)
    for name in OF_RECURRENT:
        found, wanted = value_of(name, subject.to(device=device)), value_of(name, subject)
        assert found == pytest.approx(wanted, rel=FLOAT64_BOUND, abs=FLOOR), name


@pytest.mark.parametrize("name", ["trace", "trace[method=hutchinson,samples=4]", "adaptive", "top-eigenvalue"])
def test_the_same_seed_gives_the_same_value(name: str, device: str) -> None:
    subject = subject_of("smooth").to(dtype=torch.float32, device=device)
    first, second = (measure(name, subject.fresh(), seed=3).value for _ in range(2))
    assert math.isclose(first, second, rel_tol=1e-5)  # sums of parallel threads come in any order
    if "samples" in name:
        assert measure(name, subject.fresh(), seed=4).value != first
