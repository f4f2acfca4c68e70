"""Data sets by name; DATASETS is the catalogue, in order."""

from sharpbench.datasets.data import Data, Dataset, pixels
from sharpbench.datasets.digits import Digits
from sharpbench.datasets.mnist import Mnist

__all__ = ["DATASETS", "Data", "Dataset", "Digits", "Mnist", "pixels"]

DATASETS: tuple[type[Dataset], ...] = (Digits, Mnist)
