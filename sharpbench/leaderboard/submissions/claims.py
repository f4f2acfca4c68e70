"""Claim: what a record states that can be found wrong, known by its content, whatever file holds it."""

from __future__ import annotations

from collections.abc import Mapping

from sharpbench.core.fields import Scalar
from sharpbench.core.record import Record
from sharpbench.files import content_hash
from sharpbench.leaderboard.submissions.tolerance import RETRAINED

CELL_FIELDS = ("value", "stderr", "low", "high", "probes", "converged", "exact", "oracle")
NETWORK_FIELDS = (
    *("train_loss", "train_accuracy", "test_loss", "test_accuracy", "gap"),
    *("fitted", "diverged", "steps", "epochs", "parameter_norm"),
)
COUNT_FIELDS = ("examples", "test_examples")
ENVIRONMENT_FIELDS = ("torch", "threads", "processor")
"""Of the environment, what comparisons look at."""


def hash_cell_claim(record: Record) -> str:
    """The hash of the cell with every number of it that is compared or that others are compared by."""
    numbers = _normalize_numbers({name: getattr(record, name) for name in CELL_FIELDS})
    factors = _normalize_numbers(record.invariance)
    under = _select_fields(record.data, COUNT_FIELDS), _select_fields(record.environment, ENVIRONMENT_FIELDS)
    return content_hash([record.key, numbers, factors, *under, hash_network_claim(record)])


def hash_network_claim(record: Record) -> str:
    """The hash of the network with what is said to have come of it."""
    return content_hash(
        [hash_network(record), _select_fields(record.truth, NETWORK_FIELDS), record.data.get("test_examples")]
    )


def hash_cell(record: Record) -> str:
    """The hash of the cell alone: the same in whatever version of its measure, and with whatever value."""
    setting = record.seed, record.dtype, record.data.get("examples")
    return content_hash([hash_network(record), record.label, _normalize_numbers(record.configuration), *setting])


def hash_network(record: Record) -> str:
    """The hash of the recipe, the data and the kind of device."""
    return content_hash([_normalize_numbers(record.recipe), record.data.get("sha256"), record.device])


def population_name(record: Record) -> str:
    """The population that the record's network is said to be part of, as text."""
    return f"{record.data.get('population')} on {record.recipe.get('dataset')}"


def population_family(population: str) -> str:
    """The population without the fields of its model: the name under which it was run is the submitter's to choose."""
    model, _, dataset = population.rpartition(" on ")
    return f"{model.partition('[')[0]} on {dataset}"


def contradicts(one: Record, other: Record) -> bool:
    """Whether two records of a cell state other values of one network, by more than rounding."""
    if hash_network_claim(one) != hash_network_claim(other) or one.value is None or other.value is None:
        return False
    return abs(one.value - other.value) > RETRAINED * max(abs(one.value), abs(other.value))


def network_position(record: Record) -> tuple[str, int]:
    """The place of the record's network in the plan of its run, 0 where an earlier version did not note it."""
    place = record.data.get("position")
    return str(record.data.get("population")), place if isinstance(place, int) else 0


def _select_fields(mapping: Mapping[str, Scalar], names: tuple[str, ...]) -> dict[str, Scalar]:
    return _normalize_numbers({name: mapping.get(name) for name in names})


def _normalize_numbers(mapping: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """Equal for equal numbers, however they are written: 2 and 2.0, 0.0 and -0.0."""
    return {
        name: float(value) + 0.0 if isinstance(value, int | float) and not isinstance(value, bool) else value
        for name, value in mapping.items()
    }
