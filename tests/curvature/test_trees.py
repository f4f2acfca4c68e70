"""Networks of several inputs, token ids and masks: every quantity against a dense Hessian of torch's own loss."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sharpbench import measure
from sharpbench.core.evaluate import parse_measure
from sharpbench.core.measure import NotApplicable
from sharpbench.core.subject import Subject
from sharpbench.curvature import dense_ggn, dense_hessian, exact_diagonal, exact_traces, flatten
from sharpbench.runner.invariance import invariance_factors
from sharpbench.symmetry import balance, describe

N, T, V, D, C = 6, 5, 7, 4, 3


class Attention(nn.Module):
    """Token ids and a mask of padding: two heads of attention, and the mean over the tokens that are there."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(V, D)
        self.mix = nn.Linear(D, 3 * D)
        self.head = nn.Linear(D, C)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        hidden = self.embed(input_ids)
        query, key, value = self.mix(hidden).unflatten(-1, (3, 2, -1)).permute(2, 0, 3, 1, 4)
        seen = attention_mask.bool()[:, None, None, :]
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=seen)
        hidden = hidden + attended.transpose(1, 2).flatten(-2)
        weight = attention_mask[..., None].to(hidden.dtype)
        return self.head((hidden * weight).sum(1) / weight.sum(1))


class TwoInputs(nn.Module):
    """An image and a vector, each with a layer that is rescaled against the next."""

    def __init__(self) -> None:
        super().__init__()
        self.image = nn.Conv2d(1, 2, 3)
        self.vector = nn.Linear(4, 3)
        self.head = nn.Linear(2 * 4 + 3, C)

    def forward(self, image: Tensor, vector: Tensor) -> Tensor:
        seen = F.relu(self.image(image)).flatten(1)
        return self.head(torch.cat((seen, F.relu(self.vector(vector))), 1))


class Tied(nn.Module):
    """The embedding is also the output layer."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(V, D)
        self.hidden = nn.Linear(D, D)
        self.head = nn.Linear(D, V, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(torch.tanh(self.hidden(self.embed(ids).mean(1))))


def make(kind: type[nn.Module]) -> tuple[nn.Module, Any, Tensor]:
    torch.manual_seed(0)
    module = kind().double()
    draw = torch.Generator().manual_seed(1)
    ids = torch.randint(V, (N, T), generator=draw)
    if kind is Attention:
        mask = (torch.arange(T) < torch.tensor([5, 3, 4, 1, 2, 5])[:, None]).long()
        return module, {"input_ids": ids, "attention_mask": mask}, torch.arange(N) % C
    if kind is TwoInputs:
        image, vector = (torch.randn(N, *shape, generator=draw).double() for shape in ((1, 4, 4), (4,)))
        return module, (image, vector), torch.arange(N) % C
    return module, {"ids": ids}, torch.arange(N) % V


def dense(module: nn.Module, inputs: Any, targets: Tensor, names: list[str]) -> tuple[Tensor, Tensor, Tensor]:
    """The gradient, Hessian and Gauss-Newton matrix of F.cross_entropy on one batch, by torch.func on the module."""
    own = {name: value.detach() for name, value in module.named_parameters()}
    args, kwargs = ((), inputs) if isinstance(inputs, dict) else (inputs, {})
    sizes = [own[name].numel() for name in names]

    def logits(flat: Tensor) -> Tensor:
        pieces = zip(names, flat.split(sizes), strict=True)
        moved = {name: piece.reshape(own[name].shape) for name, piece in pieces}
        return torch.func.functional_call(module, {**own, **moved}, args, kwargs)

    flat = torch.cat([own[name].flatten() for name in names])
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        loss = lambda flat: F.cross_entropy(logits(flat), targets)  # noqa: E731
        gradient = torch.func.grad(loss)(flat)
        hessian = torch.autograd.functional.hessian(loss, flat)
        jacobian = torch.func.jacrev(logits)(flat)  # [n, C, P]
    p = logits(flat).softmax(1).detach()
    output = torch.diag_embed(p) - p[:, :, None] * p[:, None, :]
    return gradient, hessian, torch.einsum("ncp,ncd,ndq->pq", jacobian, output, jacobian) / len(targets)


@pytest.mark.parametrize(("kind", "batch_size"), [(Attention, 4), (TwoInputs, None), (Tied, 1)])
def test_curvature_of_trees_is_that_of_torchs_own_loss(kind: type[nn.Module], batch_size: int | None) -> None:
    module, inputs, targets = make(kind)
    subject = Subject.from_module(module, inputs, targets, batch_size=batch_size)
    gradient, hessian, ggn = dense(module, inputs, targets, list(subject.params))
    close = {"rtol": 1e-8, "atol": 1e-10}
    assert torch.allclose(dense_hessian(subject), hessian, **close)
    assert torch.allclose(dense_ggn(subject), ggn, **close)
    assert torch.allclose(flatten(exact_diagonal(subject)), ggn.diagonal(), **close)
    flat = flatten(subject.params)
    wanted = {
        "ggn-trace": ggn.trace(),
        "top-eigenvalue[tolerance=1e-9]": torch.linalg.eigvalsh(hessian)[-1],
        "fisher-rao": flat @ ggn @ flat,
        "gradient-norm": gradient.norm(),
    }
    for spec, value in wanted.items():
        assert measure(spec, subject).value == pytest.approx(float(value), rel=1e-8), spec
    for spec, value in {"trace": hessian.trace(), "hessian-frobenius[samples=10]": hessian.norm()}.items():
        found = measure(spec, subject)
        assert found.value == pytest.approx(float(value), abs=6 * (found.stderr or 0.0) + 1e-8), spec


def test_attention_is_computed_for_many_examples_at_once(capfd: pytest.CaptureFixture[str]) -> None:
    shown = torch._C._debug_only_are_vmap_fallback_warnings_enabled()  # type: ignore[attr-defined]
    torch._C._debug_only_display_vmap_fallback_warnings(True)  # type: ignore[attr-defined]
    try:
        exact_traces(Subject.from_module(*make(Attention)))
    finally:
        torch._C._debug_only_display_vmap_fallback_warnings(shown)  # type: ignore[attr-defined]
    assert "performance drop" not in capfd.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("kind", [Attention, TwoInputs])
def test_every_measure_has_a_value_or_a_reason_on_trees(kind: type[nn.Module]) -> None:
    subject = Subject.from_module(*make(kind), batch_size=4)
    refused = {}
    for spec in SPECS:
        try:
            assert math.isfinite(measure(spec, subject, jackknife=2).value)
        except NotApplicable as reason:
            refused[spec] = str(reason)
    assert refused.keys() <= {"path-norm", "margin", "igs", "relative-flatness", "pac-bayes"}, refused
    assert not any("\n" in reason for reason in refused.values())


SPECS = (
    *("trace", "minimum", "minimum[scope=unit]", "normalized", "sam", "asam", "average[samples=2]", "keskar"),
    *(
        "adaptive",
        "fisher-trace[fisher=monte-carlo,draws=2]",
        "path-norm",
        "margin",
        "relative-flatness",
        "pac-bayes",
    ),
    *("igs", "fisher-rao", "spectral-density", "gradient-norm"),
)


def test_the_rescaling_group_follows_several_inputs() -> None:
    module, inputs, targets = make(TwoInputs)
    found = describe(module, inputs, scope="unit", generator=torch.Generator().manual_seed(0))
    assert found.generators == ("2 x image against head.weight", "3 x vector against head.weight")
    subject = Subject.from_module(module, inputs, targets)
    least = measure("minimum", subject).value
    balanced = TwoInputs().double()
    balanced.load_state_dict(balance(subject))
    assert measure("trace", Subject.from_module(balanced, inputs, targets)).value == pytest.approx(least, rel=1e-6)
    factors = invariance_factors(parse_measure("minimum[scope=unit]"), subject)
    assert factors.keys() == {"layer", "unit", "permutation"}
    assert list(factors.values()) == pytest.approx([1, 1, 1], rel=1e-6)
