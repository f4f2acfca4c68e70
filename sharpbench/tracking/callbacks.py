"""The tracker as a callback of Lightning and of the Hugging Face Trainer, which are imported where one is made."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from sharpbench.errors import InvalidInput
from sharpbench.tracking.tracker import Tracker

LIGHTNING = ("lightning.pytorch", "pytorch_lightning")
"""The two names under which Lightning is installed."""


def lightning_callback(tracker: Tracker) -> Any:
    """A callback of Lightning's Trainer that calls the tracker after each training batch, with the global step.

    Raises:
        InvalidInput: where Lightning is not installed.
    """
    base = _find_class(LIGHTNING, "Callback", "lightning")

    def on_train_batch_end(self: Any, trainer: Any, *args: Any, **kwargs: Any) -> None:
        tracker.step(trainer.global_step)

    return type("SharpnessCallback", (base,), {"on_train_batch_end": on_train_batch_end})()


def trainer_callback(tracker: Tracker) -> Any:
    """A callback of the Hugging Face Trainer that calls the tracker after each step of its optimizer.

    Raises:
        InvalidInput: where transformers is not installed.
    """
    base = _find_class(("transformers",), "TrainerCallback", "transformers")

    def on_step_end(self: Any, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        tracker.step(state.global_step)

    return type("SharpnessCallback", (base,), {"on_step_end": on_step_end})()


def _find_class(modules: tuple[str, ...], name: str, package: str) -> Any:
    for module in modules:
        try:
            return getattr(import_module(module), name)
        except ImportError:
            continue
    raise InvalidInput(f"{package} is not installed; pip install {package}")
