"""The engine as a whole: criteria, precision, cancellation, and a model that is left as it was."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sharpbench.core.subject import Subject
from sharpbench.curvature import (
    chunking,
    dense_ggn,
    dense_hessian,
    exact_diagonal,
    exact_traces,
    ggnvp,
    hvp,
    reference_diagonal,
    reference_traces,
    squared_gradients,
    unused_parameters,
)
from sharpbench.curvature.reference import parameter_blocks
from sharpbench.curvature.vjp import LayerVjps, LayerwiseNetwork, Root
from sharpbench.errors import InvalidInput
from sharpbench.models import SmallMlp


@cache
def network() -> nn.Module:
    """Captured once; nothing changes it."""
    torch.manual_seed(0)
    layers = (nn.Conv2d(1, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(27, 4), nn.ReLU(), nn.Linear(4, 3))
    return nn.Sequential(*layers).double()


def subject_of(model: nn.Module, criterion: object = "cross_entropy", count: int = 7) -> Subject:
    generator = torch.Generator().manual_seed(1)
    dtype = next(model.parameters()).dtype
    x = torch.randn(count, 1, 4, 4, generator=generator, dtype=torch.float64).to(dtype)
    y = torch.randint(0, 3, (count,), generator=generator)
    if criterion == "mse":
        y = F.one_hot(y, 3).to(dtype)
    return Subject.from_module(model, x, y, batch_size=3, loss=criterion)  # type: ignore[arg-type]


def focal(logits: Tensor, targets: Tensor) -> Tensor:
    """Not convex in the logits: its Hessian has negative eigenvalues."""
    losses = F.cross_entropy(logits, targets, reduction="none")
    return (1 - (-losses).exp()) ** 2 * losses


def smooth(logits: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(logits, targets, reduction="none", label_smoothing=0.1)


@pytest.mark.parametrize("criterion", ["cross_entropy", "mse", focal, smooth])
def test_every_criterion(criterion: str | Callable[[Tensor, Tensor], Tensor]) -> None:
    subject = subject_of(network(), criterion)
    dense, diagonal, traces = dense_ggn(subject).diagonal(), exact_diagonal(subject), exact_traces(subject)
    hessian = reference_diagonal(subject)
    rounding = 1e-14 * float(dense.abs().max())
    for name, where in parameter_blocks(subject).items():
        torch.testing.assert_close(diagonal[name].flatten(), dense[where], rtol=1e-12, atol=rounding)
        torch.testing.assert_close(diagonal[name], hessian[name], rtol=1e-12, atol=rounding)
        assert traces[name] == pytest.approx(float(dense[where].sum()), rel=1e-12)
    assert reference_traces(subject) == pytest.approx(traces, rel=1e-12)


def test_two_classes_take_one_column() -> None:
    torch.manual_seed(0)
    model = nn.Linear(5, 2).double()
    x = torch.randn(4, 5, dtype=torch.float64)
    subject = Subject.from_module(model, x, torch.tensor([0, 1, 1, 0]))
    p = model(x).detach().softmax(1)[:, 0]
    closed = (p * (1 - p) * x.square().sum(1) * 2).mean()
    assert exact_traces(subject)["weight"] == pytest.approx(float(closed), rel=1e-12)


@pytest.mark.parametrize("size", [1, 2, 7, 100])
def test_chunks_do_not_matter(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    subject = subject_of(network())
    wanted = exact_traces(subject)
    monkeypatch.setattr(
        chunking, "choose_chunk", lambda network, columns: chunking.ChunkSize(size, size if size < 3 else 2, 0)
    )
    assert exact_traces(subject.fresh()) == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize("offset", [0.0, 10.0, 1000.0])
def test_gram_form_and_its_cancellation(offset: float) -> None:
    generator = torch.Generator().manual_seed(0)
    patches = torch.randn(3, 2, 300, 9, generator=generator, dtype=torch.float64) + offset
    slopes = torch.randn(3, 2, 4, 50, 9, generator=generator, dtype=torch.float64)
    slopes = slopes - (slopes.mean(4, keepdim=True) if offset else 0)  # positions that cancel
    patches, slopes = patches.float(), slopes.float()
    exact = (slopes.double().flatten(2, 3) @ patches.double().transpose(2, 3)).square().sum((1, 2, 3))
    assert 9 * (300 + 200) * squared_gradients.GRAM_COST < 200 * 300  # the Gram form is the cheaper one
    torch.testing.assert_close(squared_gradients.weight_trace(patches, slopes).double(), exact, rtol=2e-6, atol=0)


def perceptron() -> nn.Module:
    return SmallMlp().build((1, 28, 28), 10)


def convolutions() -> nn.Module:
    """small-cnn with average pools: max pools of ties choose differently in the two precisions."""
    first = (nn.Conv2d(1, 20, 5), nn.ReLU(), nn.AvgPool2d(2))
    second = (nn.Conv2d(20, 20, 5), nn.ReLU(), nn.AvgPool2d(2))
    return nn.Sequential(*first, *second, nn.Flatten(), nn.Linear(320, 10))


@pytest.mark.parametrize("build", [perceptron, pytest.param(convolutions, marks=pytest.mark.slow)])
@pytest.mark.parametrize("loss", [1e-3, 1e-4])
def test_confident_networks_in_float32(build: Callable[[], nn.Module], loss: float) -> None:
    """float32 close to float64 where the paper's subtraction is off by 1e-3, and never negative."""
    torch.manual_seed(2)
    module = build()
    x = torch.randn(40, 1, 28, 28)
    y = torch.arange(40) % 10
    optimizer = torch.optim.Adam(module.parameters(), 2e-3)
    for _ in range(1000):
        optimizer.zero_grad()
        current = F.cross_entropy(module(x), y)
        if current < loss:
            break
        current.backward()
        optimizer.step()
    assert current.item() < loss
    subject = Subject.from_module(module, x, y)
    wanted = exact_diagonal(subject.to(dtype=torch.float64))
    traces, diagonal = exact_traces(subject), exact_diagonal(subject)
    total = sum(float(value.sum()) for value in wanted.values())
    assert sum(traces.values()) == pytest.approx(total, rel=1e-5)
    for name, value in wanted.items():
        assert float(diagonal[name].min()) >= 0
        error = torch.linalg.vector_norm(diagonal[name] - value) / torch.linalg.vector_norm(value)
        assert float(error) < 1e-5, name


def test_products_are_the_dense_matrices() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 4), nn.Tanh(), nn.Linear(4, 3)).double()
    subject = subject_of(model)
    generator = torch.Generator().manual_seed(0)
    vector = {k: torch.randn(v.shape, generator=generator, dtype=v.dtype) for k, v in subject.params.items()}
    flat = torch.cat([value.flatten() for value in vector.values()])
    for product, dense in ((hvp, dense_hessian), (ggnvp, dense_ggn)):
        found = torch.cat([value.flatten() for value in product(subject, vector).values()])
        torch.testing.assert_close(found, dense(subject) @ flat, rtol=1e-12, atol=1e-14)


def test_dense_matrices_have_a_limit() -> None:
    subject = subject_of(nn.Sequential(nn.Flatten(), nn.Linear(16, 300), nn.Linear(300, 3)))
    with pytest.raises(InvalidInput, match=r"6003 parameters is above the limit of 4000"):
        dense_hessian(subject)


class Fails(nn.Module):
    """Raises for more than one example at a time under vmap."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(16, 3)
        self.register_buffer("calls", torch.zeros(1))
        self.armed = False

    def forward(self, x: Tensor) -> Tensor:
        if self.armed:
            raise ValueError("armed")
        return self.layer(x.flatten(1))


def state_of(model: nn.Module) -> tuple[object, ...]:
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    return (
        {name: value.detach().clone() for name, value in tensors.items()},
        {name: (id(value), value._version, id(value.grad)) for name, value in tensors.items()},
        [module.training for module in model.modules()],
        [(len(m._forward_hooks), len(m._backward_hooks), len(m._forward_pre_hooks)) for m in model.modules()],
        [sorted(module.__dict__) for module in model.modules()],
    )


@pytest.mark.parametrize("fails", [False, True])
def test_the_model_is_as_it_was(fails: bool) -> None:
    torch.manual_seed(0)
    model = Fails() if fails else nn.Sequential(nn.Conv2d(1, 2, 2), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(18, 3))
    model.register_forward_hook(lambda module, args, output: None)
    subject = subject_of(model)
    model.train()
    for value in model.parameters():
        value.grad = torch.ones_like(value)
    before = state_of(model)
    if fails:
        model.armed = True  # type: ignore[assignment]
        with pytest.raises(ValueError, match="armed"):
            exact_traces(subject)
        model.armed = False  # type: ignore[assignment]
    else:
        exact_traces(subject)
        exact_diagonal(subject)
    after = state_of(model)
    assert before[1:] == after[1:]
    for name, value in before[0].items():  # type: ignore[attr-defined]
        assert torch.equal(value, after[0][name])  # type: ignore[index]


def test_unused_parameters_are_named() -> None:
    class Unused(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(16, 3)
            self.spare = nn.Linear(2, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x.flatten(1))

    subject = subject_of(Unused().double())
    assert unused_parameters(subject) == ("spare.weight", "spare.bias")
    assert exact_traces(subject)["spare.weight"] == 0.0


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ],
)
def test_a_chunk_that_does_not_fit_is_halved(error: RuntimeError, monkeypatch: pytest.MonkeyPatch) -> None:
    subject = subject_of(network())
    wanted = exact_traces(subject)
    pull, room, sizes = LayerwiseNetwork.pull, 2, []

    def limited(self: LayerwiseNetwork, inputs: Tensor, aids: Tensor, root: Root, columns: slice) -> LayerVjps:
        sizes.append((len(inputs), columns.stop - columns.start))
        if len(inputs) * (columns.stop - columns.start) > room:
            raise error
        return pull(self, inputs, aids, root, columns)

    monkeypatch.setattr(LayerwiseNetwork, "pull", limited)
    assert exact_traces(subject.fresh()) == pytest.approx(wanted, rel=1e-12)
    assert sizes == [(7, 2), (4, 2), (2, 2)] + [(1, 2)] * 7
    room, sizes[:] = 1, []
    assert exact_traces(subject.fresh()) == pytest.approx(wanted, rel=1e-12)
    assert sizes == [(7, 2), (4, 2), (2, 2), (1, 2)] + [(1, 1)] * 14
    room = 0
    with pytest.raises(RuntimeError, match=r"memory|ALLOC_FAILED"):
        exact_traces(subject.fresh())


def test_any_other_error_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: object, *arguments: object) -> object:
        raise RuntimeError("something else")

    monkeypatch.setattr(LayerwiseNetwork, "pull", broken)
    with pytest.raises(RuntimeError, match="something else"):
        exact_traces(subject_of(network()))
