"""Training: the examples of a recipe, and the optimiser that fits a network to them."""

from sharpbench.training.examples import generator_for, permute_labels, training_examples
from sharpbench.training.sgd import Epoch, evaluate, initial_module, train

__all__ = [
    "Epoch",
    "evaluate",
    "generator_for",
    "initial_module",
    "permute_labels",
    "train",
    "training_examples",
]
