"""Optimisers by name, each as its paper defines it; OPTIMIZERS is the catalogue."""

from sharpbench.training.optimizers.adam import Adam, AdamW
from sharpbench.training.optimizers.optimizer import (
    Gradient,
    Optimizer,
    Stack,
    State,
    Step,
    expand_like,
    stack_constants,
)
from sharpbench.training.optimizers.sam import Asam, FriendlySam, MSam, Sam, SamPa
from sharpbench.training.optimizers.sgd import Sgd

OPTIMIZERS = (Sgd, Sam, Asam, MSam, FriendlySam, SamPa, Adam, AdamW)

__all__ = [
    "OPTIMIZERS",
    "Adam",
    "AdamW",
    "Asam",
    "FriendlySam",
    "Gradient",
    "MSam",
    "Optimizer",
    "Sam",
    "SamPa",
    "Sgd",
    "Stack",
    "State",
    "Step",
    "expand_like",
    "stack_constants",
]
