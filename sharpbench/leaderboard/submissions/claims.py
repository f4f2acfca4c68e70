"""Hashes of what a record claims, and of the cells and networks that claims are about."""

from __future__ import annotations

from collections.abc import Mapping

from sharpbench.analysis.population import normalize_numbers, setting_key
from sharpbench.core.fields import Scalar
from sharpbench.core.record import Record
from sharpbench.files import content_hash
from sharpbench.leaderboard.submissions.tolerance import RETRAINED

CELL_FIELDS = (
    *("value", "stderr", "stderr_examples", "low", "high"),
    *("probes", "converged", "exact", "oracle"),
)
NETWORK_FIELDS = (
    *("train_loss", "train_accuracy", "test_loss", "test_accuracy", "gap"),
    *("fitted", "diverged", "steps", "epochs", "parameter_norm"),
)
COUNT_FIELDS = ("examples", "available", "test_examples")
ENVIRONMENT_FIELDS = ("torch", "threads", "processor")
"""Fields of the environment that comparisons use."""


def hash_cell_claim(record: Record) -> str:
    """The hash of a cell with every number that `verify` compares or that a comparison depends on."""
    numbers = normalize_numbers({name: getattr(record, name) for name in CELL_FIELDS})
    factors = normalize_numbers(record.invariance)
    under = _select_fields(record.data, COUNT_FIELDS), _select_fields(record.environment, ENVIRONMENT_FIELDS)
    return content_hash([record.key, numbers, factors, *under, hash_network_claim(record)])


def hash_network_claim(record: Record) -> str:
    """The hash of a network with its claimed truth."""
    return content_hash(
        [hash_network(record), _select_fields(record.truth, NETWORK_FIELDS), record.data.get("test_examples")]
    )


def hash_cell(record: Record) -> str:
    """The hash of a cell without its claims: the same for every version of its measure and every value."""
    setting = record.seed, record.dtype, record.data.get("examples")
    return content_hash([hash_network(record), record.label, normalize_numbers(record.configuration), *setting])


def hash_network(record: Record) -> str:
    """The hash of a network without its claims: its recipe, data and kind of device."""
    return content_hash([normalize_numbers(record.recipe), record.data.get("sha256"), record.device])


def population_name(record: Record) -> str:
    """The claimed population of the record's network: 'model on data set'."""
    return f"{record.data.get('population')} on {record.recipe.get('dataset')}"


RowKey = tuple[str, ...]


def row_key(record: Record) -> RowKey:
    """The row of a board that a record belongs to: label, population, device, data, precision, examples and seed."""
    where = record.device, str(record.data.get("sha256"))
    return record.label, population_name(record), *where, *setting_key(record)


def population_family(population: str) -> str:
    """The population without the fields of its model, because the submitter chooses the name of a population."""
    model, _, dataset = population.rpartition(" on ")
    return f"{model.partition('[')[0]} on {dataset}"


def contradicts(one: Record, other: Record) -> bool:
    """Whether two records of a cell have different values on the same network, by more than rounding."""
    if hash_network_claim(one) != hash_network_claim(other) or one.value is None or other.value is None:
        return False
    return abs(one.value - other.value) > RETRAINED * max(abs(one.value), abs(other.value))


def network_position(record: Record) -> tuple[str, int]:
    """The population and the place of the record's network in its run; the place is 0 where it was not recorded."""
    place = record.data.get("position")
    return str(record.data.get("population")), place if isinstance(place, int) else 0


def _select_fields(mapping: Mapping[str, Scalar], names: tuple[str, ...]) -> dict[str, Scalar]:
    return normalize_numbers({name: mapping.get(name) for name in names})
