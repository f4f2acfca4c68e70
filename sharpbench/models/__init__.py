"""Networks by name; MODELS is the catalogue, in the order of `sharpbench list`."""

from sharpbench.models.hugging_face import HuggingFace
from sharpbench.models.model import Model
from sharpbench.models.paper import PAPER_MODELS, LeNet, Mlp, SmallCnn, SmallMlp
from sharpbench.models.signals import SIGNAL_MODELS, Cnn1d, Mlp1d, Transformer1d
from sharpbench.models.timm import Timm

MODELS = (*PAPER_MODELS, *SIGNAL_MODELS, Timm, HuggingFace)

__all__ = [
    "MODELS",
    "PAPER_MODELS",
    "SIGNAL_MODELS",
    "Cnn1d",
    "HuggingFace",
    "LeNet",
    "Mlp",
    "Mlp1d",
    "Model",
    "SmallCnn",
    "SmallMlp",
    "Timm",
    "Transformer1d",
]
