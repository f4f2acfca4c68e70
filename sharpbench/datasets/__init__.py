"""Data sets by name; DATASETS is the catalogue, in the order of `sharpbench list`."""

from sharpbench.datasets.cifar10_jpeg import Cifar10Jpeg
from sharpbench.datasets.dataset import Data, Dataset, Examples, Subset, scale_pixels
from sharpbench.datasets.digits import Digits, read_digits
from sharpbench.datasets.image_folder import ImageFolder
from sharpbench.datasets.mnist import Mnist
from sharpbench.datasets.mnist1d import Mnist1d
from sharpbench.datasets.npz import Npz
from sharpbench.datasets.torchvision import Cifar10, Cifar100, FashionMnist, Svhn

__all__ = [
    "DATASETS",
    "Cifar10",
    "Cifar10Jpeg",
    "Cifar100",
    "Data",
    "Dataset",
    "Digits",
    "Examples",
    "FashionMnist",
    "ImageFolder",
    "Mnist",
    "Mnist1d",
    "Npz",
    "Subset",
    "Svhn",
    "read_digits",
    "scale_pixels",
]

DATASETS: tuple[type[Dataset], ...] = (
    Digits,
    Mnist,
    Mnist1d,
    FashionMnist,
    Cifar10,
    Cifar10Jpeg,
    Cifar100,
    Svhn,
    ImageFolder,
    Npz,
)
