"""How the values of a measure go with the gaps of the networks, by every statistic of the protocol."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from sharpbench.analysis.population import GAP, MeasuredNetwork, MeasuredPopulation, cell_codes
from sharpbench.analysis.statistics import (
    Granulated,
    Information,
    SignError,
    Tau,
    environment_sign_error,
    granulated_tau,
    kendall_tau,
    marginal_tau,
    spearman_correlation,
    within_tau,
)
from sharpbench.analysis.statistics.granulated import granulated_values
from sharpbench.analysis.statistics.jackknife import Floats, Integers
from sharpbench.analysis.statistics.mutual_information import ConditionedPairs
from sharpbench.analysis.statistics.rank_correlation import within_value
from sharpbench.analysis.statistics.spearman import spearman_value
from sharpbench.analysis.statistics.value_noise import draw_values, known_variance, noise_variance, widen_tau
from sharpbench.core.fields import Scalar
from sharpbench.core.spec import split_specs

NON_AXES = ("seed", "dataset", "model")
NO_BOUND = "the error of this outcome has no bound: sign errors are found for the accuracy gap"
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


class Correlator:
    """Every statistic of any number of measures of one population; what the measures share is found once."""

    def __init__(self, population: MeasuredPopulation) -> None:
        self._population = population
        self._examples = count_test_examples(population) if population.outcome == GAP else None
        self._no_signs = NO_TEST_SIZE if population.outcome == GAP else NO_BOUND
        self._whole = _ComparedNetworks.of(population, population.counted)

    def correlate(self, values: Mapping[str, float], errors: Mapping[str, float] | None = None) -> Correlations:
        """All statistics of `values`, given by the key of the network, over the networks that have one and fitted.

        errors: the standard errors of the values over the draw of their examples, by the key of the network, where
            they are known. They enter the intervals of the rank correlations.
        """
        chosen = [network for network in self._whole.networks if network.key in values]
        complete = len(chosen) == len(self._whole.networks)
        compared = self._whole if complete else _ComparedNetworks.of(self._population, chosen)
        measured, gaps, codes, together = (
            [values[network.key] for network in chosen],
            compared.gaps,
            compared.codes,
            compared.together,
        )
        found = Correlations(
            marginal_tau(measured, gaps, codes, together),
            within_tau(measured, gaps, codes, together),
            spearman_correlation(measured, gaps, codes, together),
            granulated_tau(measured, gaps, compared.axes),
            compared.pairs.information(measured),
            SignError(None, None, None, None, None, self._no_signs, len(chosen))
            if self._examples is None
            else environment_sign_error(measured, gaps, compared.axes, examples=self._examples),
            "networks" if together is None else "configurations",
        )
        known = np.array([(errors or {}).get(network.key, 0.0) for network in chosen])
        if found.marginal.value is None or not known.any():
            return found
        return _widen(found, np.array(measured), known, compared)


@dataclass(frozen=True, slots=True, eq=False)
class _ComparedNetworks:
    """Networks that have a value, in the order of the population, and what their statistics need except the values."""

    networks: Sequence[MeasuredNetwork]
    gaps: Floats
    codes: Integers
    together: Integers | None
    axes: Mapping[str, Sequence[Scalar]]
    pairs: ConditionedPairs

    @staticmethod
    def of(population: MeasuredPopulation, networks: Sequence[MeasuredNetwork]) -> _ComparedNetworks:
        gaps = np.array([network.outcome or 0.0 for network in networks])
        axes, together = varied_hyperparameters(networks), resampling_units(population, networks)
        pairs = ConditionedPairs(gaps, axes, together)
        return _ComparedNetworks(networks, gaps, cell_codes(networks), together, axes, pairs)


def _widen(found: Correlations, x: Floats, errors: Floats, compared: _ComparedNetworks) -> Correlations:
    """The same statistics; intervals of the rank correlations also hold the errors of the values x."""
    y, codes, axes = compared.gaps, compared.codes, compared.axes
    drawn = [granulated_values(each, y, axes) for each in draw_values(x, errors)]
    psi = found.granulated
    return replace(
        found,
        marginal=widen_tau(found.marginal, noise_variance(lambda each: kendall_tau(each, y), x, errors)),
        within=widen_tau(found.within, noise_variance(lambda each: within_value(each, y, codes), x, errors)),
        spearman=widen_tau(found.spearman, noise_variance(lambda each: spearman_value(each, y), x, errors)),
        granulated=Granulated(
            widen_tau(psi.overall, known_variance(overall for overall, _ in drawn)),
            {
                name: widen_tau(tau, known_variance(by_axis.get(name) for _, by_axis in drawn))
                for name, tau in psi.axes.items()
            },
        ),
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
