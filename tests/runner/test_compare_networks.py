"""Networks compared on the same examples: against hand computations, rescaled networks, and through the front door."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from scipy.stats import ttest_rel
from torch import nn

import sharpbench
from sharpbench import Estimate, InvalidInput, Measure, NetworkComparisonOptions, NotApplicable, Subject
from sharpbench.report.network_comparison import NetworkComparison
from tests.commands import given, refused

EXAMPLES = 40
FEW = NetworkComparisonOptions(groups=4)


@dataclass(frozen=True)
class MeanLoss(Measure):
    """The mean loss, which is linear in the losses of the examples."""

    name = "mean-loss"
    title = "mean loss"
    source = "none"
    fails: bool = False

    def __call__(self, subject: Subject, *, generator: torch.Generator) -> Estimate:
        if self.fails:
            raise NotApplicable("it is asked to fail")
        return Estimate(float(subject.loss(subject.params)))

    def exact(self, subject: Subject) -> float | None:
        return None

    def invariances(self) -> frozenset[sharpbench.Invariance]:
        return frozenset({"layer"})


def data() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(EXAMPLES, 4, generator=generator, dtype=torch.float64)
    return inputs, (inputs[:, 0] > 0).long()


def network(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2)).double()


def rescaled(module: nn.Module, factor: float) -> nn.Module:
    moved = copy.deepcopy(module)
    with torch.no_grad():
        for name, value in moved.named_parameters():
            value *= 1 / factor if name == "2.weight" else factor if name.startswith("0.") else 1
    return moved


def subjects(networks: Mapping[str, nn.Module]) -> dict[str, Subject]:
    return {name: Subject.from_module(each, *data()) for name, each in networks.items()}


def test_a_mean_over_examples_has_the_paired_interval_of_its_differences() -> None:
    pair = subjects({"a": network(0), "b": network(1)})
    found = sharpbench.compare_networks(MeanLoss(), pair, options=NetworkComparisonOptions(groups=EXAMPLES))
    losses = [each.criterion(each.apply(each.params, data()[0]), data()[1]).detach().numpy() for each in pair.values()]
    expected = ttest_rel(*losses).confidence_interval(0.95)
    (each,) = found.differences
    assert each.given.difference == pytest.approx(losses[0].mean() - losses[1].mean(), rel=1e-12)
    assert each.given.interval is not None
    assert each.given.interval.low == pytest.approx(expected.low, rel=1e-6)
    assert each.given.interval.high == pytest.approx(expected.high, rel=1e-6)
    assert each.balanced is None
    assert found.fits["a"]["loss"] == pytest.approx(losses[0].mean(), rel=1e-12)


def test_a_rescaling_explains_the_trace_and_nothing_of_minimum_sharpness() -> None:
    module = network(0)
    pair = subjects({"a": module, "b": rescaled(module, 5.0)})
    found = sharpbench.compare_networks("trace,minimum", pair, options=FEW)
    trace, minimum = found.differences
    assert trace.flatter == "a"
    assert trace.explained is True
    assert trace.balanced is not None
    assert trace.balanced.first == pytest.approx(minimum.given.first, rel=1e-6)
    assert trace.balanced.sign == 0
    assert (minimum.flatter, minimum.explained, minimum.balanced) == (None, None, None)
    assert found.verdict == (
        "a and b: a is flatter by trace; noise explains the difference by minimum; a rescaling explains that by trace."
    )
    rows = found.to_frame()
    assert rows["explained"].tolist() == [True, None]
    assert math.isnan(rows["balanced low"][1])
    assert json.loads(found.to_json())["differences"][0]["flatter"] == "a"
    assert max(map(len, str(found).splitlines())) <= 80
    assert "<pre" in found._repr_html_()
    assert "trace & a & b &" in found.to_latex()


def test_all_pairs_of_several_networks_and_reasons_are_shown() -> None:
    several = subjects({"a": network(0), "<b>": network(1), "c": network(2)})
    found = sharpbench.compare_networks(
        [MeanLoss(fails=True), "trace"], several, options=NetworkComparisonOptions(groups=3)
    )
    assert [(each.first, each.second) for each in found.differences[3:]] == [("a", "<b>"), ("a", "c"), ("<b>", "c")]
    assert {each.given.reason for each in found.differences[:3]} == {"it is asked to fail"}
    assert "mean-loss[fails=true]: it is asked to fail" in str(found)
    page = found.to_markdown()
    assert "&lt;b&gt;" in page
    assert "<b>" not in page


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"b": None}, "1 networks; give 2 to 10"),
        ({"b": slice(1, None)}, "'b' has other examples than 'a': 39 and 40"),
    ],
)
def test_networks_that_cannot_be_compared_are_refused(change: dict[str, slice | None], message: str) -> None:
    pair = subjects({"a": network(0), "b": network(1)})
    kept = {name: pair[name].take(change.get(name) or slice(None)) for name in pair if change.get(name, 0) is not None}
    with pytest.raises(InvalidInput, match=message):
        sharpbench.compare_networks("trace", kept)
    with pytest.raises(InvalidInput, match="scope 'element' is unknown"):
        NetworkComparisonOptions(scope="element")  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="groups=41 exceeds the 40 examples; use at most"):
        sharpbench.compare_networks("trace", pair, options=NetworkComparisonOptions(groups=41))


def test_the_command_prints_what_python_gives(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(
        "from torch import nn\ndef make(): return nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2))\n"
    )
    inputs, targets = data()
    np.savez(tmp_path / "x.npz", inputs=inputs.float().numpy(), targets=targets.numpy())
    for name, module in {"a": network(0), "b": rescaled(network(0), 5.0)}.items():
        safetensors.torch.save_file(module.float().state_dict(), tmp_path / f"{name}.safetensors")
    words = ("compare-networks", "a.safetensors", "b.safetensors", "--dataset", "npz:x.npz", "--groups", "4")
    done = given(*words, "--model", "net.py:make", "--measures", "trace", "--json", "--output", "c.md", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(done.stdout)["differences"]
    assert (row["flatter"], row["explained"]) == ("a.safetensors", True)
    assert "explains that by trace" in (tmp_path / "c.md").read_text(encoding="utf-8")
    refused(given(*words, *("--model", "net.py:make") * 3, cwd=tmp_path), "3 --model and 2 weights; give --model once")
    one = ("compare-networks", "?.safetensors", "a.safetensors", "--model", "net.py:make", "--dataset", "npz:x.npz")
    refused(given(*one, cwd=tmp_path), "'?.safetensors' names several files; name one network each")
    unlike = given(*words, "--model", "net.py:make", "--expect-accuracy", "0.999", cwd=tmp_path)
    refused(unlike, "a.safetensors", "99.9")
    again = ("compare-networks", "a.safetensors", "a.safetensors", "--model", "net.py:make")
    refused(given(*again, cwd=tmp_path), "the same network is given twice")


def test_a_comparison_without_intervals_says_so() -> None:
    pair = subjects({"a": network(0), "b": network(1)})
    found: NetworkComparison = sharpbench.compare_networks([MeanLoss(fails=True)], pair)
    assert found.verdict == "a and b: no measure has an interval."
