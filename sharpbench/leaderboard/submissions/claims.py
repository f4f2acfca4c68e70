"""Claim: what a record states that can be found wrong, known by its content, whatever file holds it."""

from __future__ import annotations

from collections.abc import Mapping

from sharpbench.core.fields import Scalar
from sharpbench.core.record import Record
from sharpbench.files import content_hash
from sharpbench.leaderboard.submissions.tolerance import RETRAINED

STATED = ("value", "stderr", "low", "high", "probes", "converged", "exact", "oracle")
TRUTH = (
    *("train_loss", "train_accuracy", "test_loss", "test_accuracy", "gap"),
    *("fitted", "diverged", "steps", "epochs", "parameter_norm"),
)
COUNTS = ("examples", "test_examples")
DRAWN = ("torch", "threads", "processor")
"""Of the environment, what comparisons look at."""


def of_cell(record: Record) -> str:
    """The hash of the cell with every number of it that is compared or that others are compared by."""
    stated = _plain({name: getattr(record, name) for name in STATED}), _plain(record.invariance)
    under = _chosen(record.data, COUNTS), _chosen(record.environment, DRAWN)
    return content_hash([record.key, *stated, *under, of_network(record)])


def of_network(record: Record) -> str:
    """The hash of the network with what is said to have come of it."""
    return content_hash([place_of_network(record), _chosen(record.truth, TRUTH), record.data.get("test_examples")])


def place_of_cell(record: Record) -> str:
    """The hash of the cell alone: the same in whatever version of its measure, and with whatever value."""
    setting = record.seed, record.dtype, record.data.get("examples")
    return content_hash([place_of_network(record), record.label, _plain(record.configuration), *setting])


def place_of_network(record: Record) -> str:
    """The hash of the recipe, the data and the kind of device."""
    return content_hash([_plain(record.recipe), record.data.get("sha256"), record.device])


def population(record: Record) -> str:
    """The population that the record's network is said to be part of, as text."""
    return f"{record.data.get('population')} on {record.recipe.get('dataset')}"


def family(population: str) -> str:
    """The population without the fields of its model: the name under which it was run is the submitter's to choose."""
    model, _, dataset = population.rpartition(" on ")
    return f"{model.partition('[')[0]} on {dataset}"


def contradict(one: Record, other: Record) -> bool:
    """Whether two records of a cell state other values of one network, by more than rounding."""
    if of_network(one) != of_network(other) or one.value is None or other.value is None:
        return False
    return abs(one.value - other.value) > RETRAINED * max(abs(one.value), abs(other.value))


def position(record: Record) -> tuple[str, int]:
    """The place of the record's network in the plan of its run, 0 where an earlier version did not note it."""
    place = record.data.get("position")
    return str(record.data.get("population")), place if isinstance(place, int) else 0


def _chosen(mapping: Mapping[str, Scalar], names: tuple[str, ...]) -> dict[str, Scalar]:
    return _plain({name: mapping.get(name) for name in names})


def _plain(mapping: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """Equal for equal numbers, however they are written: 2 and 2.0, 0.0 and -0.0."""
    return {
        name: float(value) + 0.0 if isinstance(value, int | float) and not isinstance(value, bool) else value
        for name, value in mapping.items()
    }
