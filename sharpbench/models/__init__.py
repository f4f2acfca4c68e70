"""Networks by name; MODELS is the catalogue, in the order of `sharpbench list`."""

from sharpbench.models.model import Model
from sharpbench.models.paper import PAPER_MODELS, LeNet, Mlp, SmallCnn, SmallMlp
from sharpbench.models.timm import Timm

MODELS = (*PAPER_MODELS, Timm)

__all__ = ["MODELS", "PAPER_MODELS", "LeNet", "Mlp", "Model", "SmallCnn", "SmallMlp", "Timm"]
