"""Networks with each layout of outputs and each loss of torch.nn, and torch's own loss of the whole batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sharpbench import Subject, with_class_axis
from sharpbench.core.loss import PerExampleLoss

WEIGHT = torch.tensor([1.0, 2.0, 0.5], dtype=torch.float64)


class Segmentation(nn.Module):
    """Logits [B, 3, H, W] of images [B, 2, H, W]."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(2, 3, 3, padding=1), nn.Conv2d(3, 3, 1)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.last(self.first(images).relu())
        return logits


class CausalModel(nn.Module):
    """Logits [B, T, V] of characters [B, T], each seeing those before it; tied: embedding and head share the weight."""

    def __init__(self, characters: int = 5, width: int = 4, *, tied: bool = False) -> None:
        super().__init__()
        self.embedding = nn.Embedding(characters, width)
        self.hidden = nn.Linear(width, width)
        self.head = nn.Linear(width, characters)
        if tied:
            self.head.weight = self.embedding.weight

    def forward(self, characters: Tensor) -> Tensor:
        seen = self.embedding(characters).cumsum(1)
        logits: Tensor = self.head(seen + self.hidden(seen).relu())
        return logits


class Scalar(nn.Module):
    """Outputs [B]."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = perceptron(1)

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.inner(inputs).squeeze(1)
        return outputs


class MeanAndVariance(nn.Module):
    """Outputs [B, 4]: two means, two variances."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = perceptron(4)

    def forward(self, inputs: Tensor) -> Tensor:
        mean, spread = self.inner(inputs).chunk(2, 1)
        return torch.cat((mean, F.softplus(spread)), 1)


def perceptron(outputs: int) -> nn.Sequential:
    """3 inputs, 5 hidden units."""
    return nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, outputs))


@dataclass(frozen=True)
class Case:
    """A loss as it is given, and torch's loss of the outputs and targets of all examples."""

    make: Callable[[], nn.Module]
    data: Callable[[], tuple[Tensor, Tensor]]
    loss: str | nn.Module | PerExampleLoss
    torch_loss: Callable[[Tensor, Tensor], Tensor]

    def subject(self, *, batch_size: int = 3) -> Subject:
        """The subject, in float64 at weights that do not depend on the global random state."""
        return Subject.from_module(self.module(), *self.data(), loss=self.loss, batch_size=batch_size)

    def module(self) -> nn.Module:
        """The network, at the same weights each time."""
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return self.make().double()

    def whole_loss(self) -> tuple[nn.Module, Callable[[], Tensor]]:
        """The network, and torch's loss of it on all examples as one batch."""
        module, (inputs, targets) = self.module(), self.data()
        return module, lambda: self.torch_loss(module(inputs), targets)


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(1)


def _images() -> Tensor:
    return torch.randn(4, 2, 3, 2, generator=_generator(), dtype=torch.float64)


def _pixels() -> tuple[Tensor, Tensor]:
    targets = torch.randint(0, 3, (4, 3, 2), generator=_generator())
    targets[0, 0], targets[2] = -100, -100
    return _images(), targets


def _shares() -> tuple[Tensor, Tensor]:
    return _images(), torch.randn(4, 3, 3, 2, generator=_generator(), dtype=torch.float64).softmax(1)


def _characters() -> tuple[Tensor, Tensor]:
    given = torch.randint(1, 5, (5, 4), generator=_generator())
    targets = given.roll(-1, 1)
    targets[1, 2:], targets[3] = 0, 0
    return given, targets


def _points() -> Tensor:
    return torch.randn(7, 3, generator=_generator(), dtype=torch.float64)


def _regression(*shape: int, positive: bool = False) -> Callable[[], tuple[Tensor, Tensor]]:
    targets = torch.randn(7, *shape, generator=_generator(), dtype=torch.float64)
    return lambda: (_points(), targets.abs() if positive else targets)


def _binary(*shape: int) -> Callable[[], tuple[Tensor, Tensor]]:
    return lambda: (_points(), (torch.rand(7, *shape, generator=_generator(), dtype=torch.float64) > 0.5).double())


def _labels() -> tuple[Tensor, Tensor]:
    return _points(), torch.tensor([0, 1, 2, 2, 1, 0, -100])


def _pointwise(loss: nn.Module, outputs: int | None, data: Callable[[], tuple[Tensor, Tensor]]) -> Case:
    return Case(Scalar if outputs is None else lambda: perceptron(outputs), data, loss, loss)


_NLL, _GAUSS, _NEXT = nn.NLLLoss(WEIGHT), nn.GaussianNLLLoss(full=True), nn.CrossEntropyLoss(ignore_index=0)
_SMOOTH = nn.CrossEntropyLoss(WEIGHT, label_smoothing=0.1)
_ENTRIES, _POSITIVE = torch.tensor([[1.0, 0.5, 2.0], [1.0, 3.0, 0.2]], dtype=torch.float64)
_MULTI = nn.BCEWithLogitsLoss(_ENTRIES, pos_weight=_POSITIVE)


def _of_characters(logits: Tensor, targets: Tensor) -> Tensor:
    found: Tensor = _NEXT(logits.flatten(0, 1), targets.flatten())
    return found


CASES = {
    "weights and ignored": Case(
        lambda: perceptron(3), _labels, nn.CrossEntropyLoss(WEIGHT), nn.CrossEntropyLoss(WEIGHT)
    ),
    "log-probabilities": Case(lambda: nn.Sequential(perceptron(3), nn.LogSoftmax(1)), _labels, _NLL, _NLL),
    "pixels": Case(Segmentation, _pixels, nn.CrossEntropyLoss(WEIGHT), nn.CrossEntropyLoss(WEIGHT)),
    "smoothed pixels": Case(Segmentation, _pixels, _SMOOTH, _SMOOTH),
    "shares of pixels": Case(Segmentation, _shares, with_class_axis(_SMOOTH, 1), _SMOOTH),
    "characters": Case(CausalModel, _characters, _NEXT, _of_characters),
    "tied characters": Case(lambda: CausalModel(tied=True), _characters, _NEXT, _of_characters),
    "multi-label": Case(lambda: perceptron(3), _binary(3), _MULTI, _MULTI),
    "binary": Case(Scalar, _binary(), "bce", nn.BCEWithLogitsLoss()),
    "squares [B]": _pointwise(nn.MSELoss(), None, _regression()),
    "squares of images": Case(
        Segmentation, lambda: (_images(), _images()[:, :1].repeat(1, 3, 1, 1)), "mse", nn.MSELoss()
    ),
    "Huber [B]": _pointwise(nn.HuberLoss(delta=0.4), None, _regression()),
    "Huber [B, k]": _pointwise(nn.HuberLoss(delta=0.4), 2, _regression(2)),
    "smooth L1": _pointwise(nn.SmoothL1Loss(beta=0.7), 2, _regression(2)),
    "L1": _pointwise(nn.L1Loss(), 2, _regression(2)),
    "Poisson": _pointwise(nn.PoissonNLLLoss(full=True), 2, _regression(2, positive=True)),
    "normal": Case(MeanAndVariance, _regression(2), _GAUSS, lambda z, y: _GAUSS(z[:, :2], y, z[:, 2:])),
}
