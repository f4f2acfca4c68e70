"""How the values of a measure go with the gaps of the networks, by every statistic of the protocol."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from sharpbench.analysis.population import MeasuredNetwork, MeasuredPopulation, cell_codes
from sharpbench.analysis.statistics import (
    Granulated,
    Information,
    SignError,
    Tau,
    conditional_information,
    environment_sign_error,
    granulated_tau,
    marginal_tau,
    spearman_correlation,
    within_tau,
)
from sharpbench.analysis.statistics.jackknife import Integers
from sharpbench.core.fields import Scalar
from sharpbench.core.spec import split_specs

NON_AXES = ("seed", "dataset", "model")
NO_TEST_SIZE = "the records do not say, or disagree, on how many test examples the gaps were found"


@dataclass(frozen=True, slots=True)
class Correlations:
    """Each statistic of docs/protocol.md; one without a value has a reason.

    Args:
        drawn: What the intervals of marginal, within, spearman and information draw again: networks at the same
            configurations, or configurations with their networks.
    """

    marginal: Tau
    within: Tau
    spearman: Tau
    granulated: Granulated
    information: Information
    signs: SignError
    drawn: Literal["networks", "configurations"]


def correlate(population: MeasuredPopulation, values: Mapping[str, float]) -> Correlations:
    """All statistics of `values`, given by the key of the network, over the networks that have a value and fitted."""
    networks = [network for network in population.counted if network.key in values]
    measured, gaps = [values[network.key] for network in networks], [network.gap or 0.0 for network in networks]
    codes, together, axes = (
        cell_codes(networks),
        resampling_units(population, networks),
        varied_hyperparameters(networks),
    )
    examples = count_test_examples(population)
    return Correlations(
        marginal_tau(measured, gaps, codes, together),
        within_tau(measured, gaps, codes, together),
        spearman_correlation(measured, gaps, codes, together),
        granulated_tau(measured, gaps, axes),
        conditional_information(measured, gaps, axes, together),
        SignError(None, None, None, None, None, NO_TEST_SIZE, len(networks))
        if examples is None
        else environment_sign_error(measured, gaps, axes, examples=examples),
        "networks" if together is None else "configurations",
    )


def resampling_units(population: MeasuredPopulation, networks: Sequence[MeasuredNetwork]) -> Integers | None:
    """The configuration of each network where the cohort drew configurations; None where only networks are drawn."""
    return cell_codes(networks) if population.design == "random" else None


def count_test_examples(population: MeasuredPopulation) -> int | None:
    """The number of test examples behind the accuracies; None where the records do not agree on it."""
    sizes = {record.data.get("test_examples") for row in population.rows for record in row.records.values()}
    number = sizes.pop() if len(sizes) == 1 else None
    return number if isinstance(number, int) and not isinstance(number, bool) and number > 0 else None


def varied_hyperparameters(networks: Sequence[MeasuredNetwork]) -> dict[str, list[Scalar]]:
    """Each field of the recipes except the seed, and of the models, by network; None where it has its default."""
    rows = [{**_of_model(network), **_of_recipe(network)} for network in networks]
    return {name: [row.get(name) for row in rows] for name in dict.fromkeys(name for row in rows for name in row)}


def _of_recipe(network: MeasuredNetwork) -> dict[str, Scalar]:
    return {name: value for name, value in network.recipe.items() if name not in NON_AXES}


def _of_model(network: MeasuredNetwork) -> dict[str, Scalar]:
    """The name of a model, and the fields in the brackets of its spec."""
    name, _, rest = str(network.recipe.get("model")).partition("[")
    parts = [part.partition("=") for part in split_specs(rest.removesuffix("]"))]
    return {"model": name, **{field: value for field, _, value in parts}}
