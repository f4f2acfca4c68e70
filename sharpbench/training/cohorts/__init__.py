"""Cohorts by name: the families of networks on which measures are compared; COHORTS is the catalogue."""

from sharpbench.training.cohorts.grid import Axis, Grid
from sharpbench.training.cohorts.hyperparameters import Hyperparameters
from sharpbench.training.cohorts.label_noise import LabelNoise, LabelNoiseMnist, LabelNoisePaper
from sharpbench.training.cohorts.mnist1d import Mnist1dThousand
from sharpbench.training.cohorts.optimizers import Optimizers
from sharpbench.training.cohorts.toml import SUFFIX, TomlCohort, read_cohort

COHORTS = (LabelNoise, LabelNoiseMnist, LabelNoisePaper, Hyperparameters, Optimizers, Mnist1dThousand)

__all__ = [
    "COHORTS",
    "SUFFIX",
    "Axis",
    "Grid",
    "Hyperparameters",
    "LabelNoise",
    "LabelNoiseMnist",
    "LabelNoisePaper",
    "Mnist1dThousand",
    "Optimizers",
    "TomlCohort",
    "read_cohort",
]
