"""Half precision is computed in float32, and sums over many batches keep float32's digits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sharpbench import Estimate, InvalidInput, Invariance, Measure, Subject, measure
from sharpbench.core.precision import own_types, sum_trees
from sharpbench.curvature import certificate, exact_diagonal, exact_traces, hvp
from sharpbench.curvature.vjp import layerwise_network

N, IN, C = 40, 6, 3


class Casts(nn.Module):
    """A buffer and a plain tensor of half precision, and a norm that is computed in float32."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.norm, self.head = nn.Linear(IN, 8), nn.LayerNorm(8), nn.Linear(8, C)
        self.register_buffer("shift", torch.randn(8))
        self.mask = torch.tensor([1.0, 0.5] * 4)

    def forward(self, x: Tensor) -> Tensor:
        h = self.one(x.to(self.one.weight.dtype)) + self.shift
        h = F.layer_norm(h.float(), (8,), self.norm.weight.float(), self.norm.bias.float()).to(h.dtype)
        logits: Tensor = self.head(torch.tanh(h) * self.mask.to(h.dtype))
        return logits


class Demands(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.half())


def networks() -> dict[str, nn.Module]:
    torch.manual_seed(0)
    linear = nn.Sequential(nn.Linear(IN, 8), nn.ReLU(), nn.Linear(8, C))
    image = (nn.Unflatten(1, (1, 2, 3)), nn.Conv2d(1, 4, 2), nn.BatchNorm2d(4), nn.GELU(), nn.Flatten())
    return {"linear": linear, "image": nn.Sequential(*image, nn.Linear(8, C)), "casts": Casts()}


def pair(model: nn.Module, dtype: torch.dtype, **options: Any) -> tuple[Subject, Subject]:
    """The same numbers, as they come and as float64."""
    model = model.to(dtype)
    if isinstance(model, Casts):
        model.mask = model.mask.to(dtype)
    inputs = (30 * torch.randn(N, IN, generator=torch.Generator().manual_seed(1))).to(dtype)
    targets = torch.arange(N) % C
    half = Subject.from_module(model, inputs, targets, **options)
    return half, half.to(dtype=torch.float64)


@pytest.mark.parametrize(
    ("name", "dtype"),
    [("linear", torch.float16), ("image", torch.bfloat16), ("casts", torch.float16), ("casts", torch.bfloat16)],
)
def test_half_precision_gives_the_values_of_float64(name: str, dtype: torch.dtype) -> None:
    model = networks()[name].to(dtype)
    half, exact = pair(model, dtype)
    assert {value.dtype for value in half.params.values()} == {torch.float32}
    assert layerwise_network(half).graph is not None
    for words in ("trace", "top-eigenvalue", "hessian-frobenius", "fisher-rao", "sam", "average", "gradient-norm"):
        found, wanted = measure(words, half), measure(words, exact)
        assert found.value == pytest.approx(wanted.value, rel=2e-4), words
        kind = str(dtype).removeprefix("torch.")
        assert (found.details["weights"], found.details["computed_in"]) == (kind, "float32")
        assert wanted.details["computed_in"] == "float64"
    assert {value.dtype for value in model.parameters()} == {dtype}
    assert certificate(half)["head.weight" if name == "casts" else list(half.params)[-1]] == ()


def test_weights_of_float32_have_no_such_details() -> None:
    whole = Subject.from_module(networks()["linear"], torch.randn(N, IN), torch.arange(N) % C)
    assert not {"weights", "computed_in"} & set(measure("ggn-trace", whole).details)
    rounded = whole.to(dtype=torch.bfloat16)
    assert rounded.half == "bfloat16"
    for name, value in rounded.params.items():
        assert torch.equal(value, whole.params[name].bfloat16().float())


def test_code_that_converts_to_half_gets_one_line() -> None:
    message = r"float16 weights are computed in float32; forward must not convert to float16"
    with pytest.raises(InvalidInput, match=message) as raised:
        Subject.from_module(Demands(IN, C).half(), torch.randn(N, IN).half(), torch.arange(N) % C)
    assert "\n" not in str(raised.value)


def test_sums_keep_the_digits_of_float32() -> None:
    parts = [{"a": torch.full((2,), 0.1)}] * 20_000
    assert sum_trees(parts)["a"].tolist() == pytest.approx([2_000.0] * 2, rel=1e-7)
    total = torch.zeros(())
    for part in parts:
        total += part["a"][0]
    assert float(total) != pytest.approx(2_000.0, rel=5e-6)  # in float32
    assert sum_trees(parts)["a"].dtype == torch.float32


def test_many_batches_keep_the_digits_of_float32() -> None:
    """Equal examples: rounding goes the same way each time."""
    model, count = nn.Linear(1, 2), 2_000
    inputs, targets = torch.full((count, 1), 0.3), torch.zeros(count, dtype=torch.long)
    many = Subject.from_module(model, inputs, targets, batch_size=8)
    one = Subject.from_module(model, inputs[:1], targets[:1]).to(dtype=torch.float64)
    assert float(many.loss(many.params)) == pytest.approx(float(one.loss(one.params)), rel=1e-7)
    vector = {name: torch.ones_like(value) for name, value in one.params.items()}
    vector["weight"][0] = 2.0
    found, wanted = hvp(many, {name: value.float() for name, value in vector.items()}), hvp(one, vector)
    found_diagonal, wanted_diagonal = exact_diagonal(many), exact_diagonal(one)
    for name in wanted:
        torch.testing.assert_close(found[name].double(), wanted[name], rtol=3e-7, atol=1e-9)
        torch.testing.assert_close(found_diagonal[name].double(), wanted_diagonal[name], rtol=3e-5, atol=1e-9)
    assert exact_traces(many) == pytest.approx(exact_traces(one), rel=3e-7)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.enable_grad, torch.inference_mode])
def test_gradients_are_on_inside_and_as_before_afterwards(mode: Any) -> None:
    with mode():
        before = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
        with own_types():
            assert torch.is_grad_enabled()
            assert not torch.is_inference_mode_enabled()
            torch.set_grad_enabled(False)
        assert (torch.is_grad_enabled(), torch.is_inference_mode_enabled()) == before


@dataclass(frozen=True)
class Rounds(Measure):
    """1 where float32 products on this processor may be of fewer bits."""

    name: ClassVar[str] = "rounds"
    title: ClassVar[str] = "rounds"
    source: ClassVar[str] = "tests"

    def __call__(self, subject: Subject, *, generator: torch.Generator) -> Estimate:
        return Estimate(float(torch.backends.mkldnn.matmul.fp32_precision == "bf16"))

    def exact(self, subject: Subject) -> float | None:
        return None

    def invariances(self) -> frozenset[Invariance]:
        return frozenset()


def test_a_measure_computes_whole_products_whatever_the_caller_allows() -> None:
    """`set_float32_matmul_precision("medium")` rounds to bfloat16, also on a CPU that multiplies these faster."""
    subject = Subject.from_module(nn.Linear(3, 2), torch.randn(4, 3), torch.arange(4) % 2)
    torch.set_float32_matmul_precision("medium")
    try:
        assert measure(Rounds(), subject).value == 0.0
        assert torch.get_float32_matmul_precision() == "medium"
        assert torch.backends.mkldnn.matmul.fp32_precision == "bf16"
    finally:
        torch.set_float32_matmul_precision("highest")
