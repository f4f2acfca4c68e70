"""Networks by name."""

from sharpbench.models.model import Model
from sharpbench.models.paper import LeNet, Mlp, SmallCnn, SmallMlp

MODELS = (Mlp, LeNet, SmallMlp, SmallCnn)

__all__ = ["MODELS", "LeNet", "Mlp", "Model", "SmallCnn", "SmallMlp"]
