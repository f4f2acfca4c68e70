"""The callbacks call the tracker with the trainer's step."""

from __future__ import annotations

import sys
import types
from pathlib import Path

import pytest
import torch

from sharpbench import InvalidInput, Tracker
from sharpbench.environment import import_torchvision
from sharpbench.tracking.callbacks import lightning_callback, trainer_callback


def make_tracker(every: int = 2) -> tuple[torch.nn.Module, Tracker]:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 3))
    batch = torch.randn(8, 4), torch.arange(8) % 3
    return model, Tracker(model, "cross_entropy", batch, measures="gradient-norm", every=every, budget=None)


def test_lightnings_callback(monkeypatch: pytest.MonkeyPatch) -> None:
    lightning = types.ModuleType("lightning.pytorch")
    lightning.Callback = type("Callback", (), {})  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "lightning", types.ModuleType("lightning"))
    monkeypatch.setitem(sys.modules, "lightning.pytorch", lightning)
    _, tracker = make_tracker()
    callback = lightning_callback(tracker)
    for step in range(1, 6):
        callback.on_train_batch_end(types.SimpleNamespace(global_step=step), None, None, None, 0)
    assert list(tracker.frame["step"]) == [1, 2, 4]


def test_a_library_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("lightning.pytorch", "pytorch_lightning", "transformers"):
        monkeypatch.setitem(sys.modules, name, None)
    _, tracker = make_tracker()
    with pytest.raises(InvalidInput, match="pip install lightning"):
        lightning_callback(tracker)
    with pytest.raises(InvalidInput, match="pip install transformers"):
        trainer_callback(tracker)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_in_lightning(tmp_path: Path) -> None:
    import_torchvision()  # where it does not fit torch, torchmetrics cannot be imported before it
    lightning = pytest.importorskip("lightning")
    model, tracker = make_tracker()

    class Network(lightning.LightningModule):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def training_step(self, batch: tuple[torch.Tensor, torch.Tensor], place: int) -> torch.Tensor:
            return torch.nn.functional.cross_entropy(self.model(batch[0]), batch[1])

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    data = torch.utils.data.TensorDataset(torch.randn(48, 4), torch.arange(48) % 3)
    trainer = lightning.Trainer(max_epochs=1, callbacks=[lightning_callback(tracker)], default_root_dir=tmp_path)
    trainer.fit(Network(), torch.utils.data.DataLoader(data, batch_size=8))
    assert list(tracker.frame["step"]) == [1, 2, 4, 6]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_in_the_trainer_of_hugging_face(tmp_path: Path) -> None:
    import_torchvision()  # where it does not fit torch, transformers cannot be imported before it
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    model, tracker = make_tracker()

    class Network(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, inputs: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
            logits = self.model(inputs)
            return {"loss": torch.nn.functional.cross_entropy(logits, labels), "logits": logits}

    examples = [{"inputs": torch.randn(4), "labels": torch.tensor(place % 3)} for place in range(48)]
    arguments = transformers.TrainingArguments(
        output_dir=str(tmp_path), max_steps=6, per_device_train_batch_size=8, report_to=[], use_cpu=True
    )
    trainer = transformers.Trainer(
        model=Network(), args=arguments, train_dataset=examples, callbacks=[trainer_callback(tracker)]
    )
    trainer.train()
    assert list(tracker.frame["step"]) == [1, 2, 4, 6]
    assert tracker.frame["gradient-norm"].nunique() == 4
