"""Baselines: what any measure should beat, from the covariates of the networks; shown, never ranked."""

from __future__ import annotations

import zlib
from collections.abc import Mapping

import numpy as np

from sharpbench.report.population import Network, Population, finite

BASELINES = ("label noise", "training loss", "parameter norm", "random")


def baseline_values(population: Population, *, seed: int) -> Mapping[str, dict[str, float]]:
    """Each baseline's value by the key of the network, for the networks that passed the gate and have one.

    random: uniform, drawn from `seed` and the names of model and data set, so that other populations change nothing.
    """
    counted = population.counted
    place = zlib.crc32(f"{population.dataset}\n{population.model}".encode())
    drawn = np.random.default_rng([seed, place]).random(len(counted))
    columns = {name: {network.key: _covariate(name, network) for network in counted} for name in BASELINES[:-1]}
    columns[BASELINES[-1]] = {network.key: float(value) for network, value in zip(counted, drawn, strict=True)}
    return {
        name: {key: value for key, value in column.items() if value is not None} for name, column in columns.items()
    }


def _covariate(name: str, network: Network) -> float | None:
    if name == "label noise":
        return finite(network.recipe.get("label_noise"))
    return finite(network.truth.get("train_loss" if name == "training loss" else "parameter_norm"))
