"""The networks of one model on one data set, and the records of each measure on them.

Where a cohort varies fields of the model (width, depth), the population has the name of the model in the command.
A network is identified by its recipe, its data and the kind of its device: the same recipe on another device, or on
data of another content, gives another network with another gap. Networks of several devices or data are therefore
separate populations.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sharpbench.core.curve import Curve
from sharpbench.core.fields import Scalar, is_finite
from sharpbench.core.record import Record

if TYPE_CHECKING:
    from sharpbench.core.record import Design


GAP, LOSS_GAP = "gap", "loss-gap"
"""The outcomes that the training result of a network determines."""
OUTCOME_DECIMALS = 12
"""Of the outcomes of records. They are differences of fractions, of which equal ones may differ in their last digit."""
MIN_HASH_CHARS = 8
"""Characters of the hashes of data that are shown; more where hashes begin alike."""


@dataclass(frozen=True, slots=True)
class MeasuredNetwork:
    """One trained network; `key` is its recipe, the hash of its data and the kind of its device as text.

    Args:
        judged_by: The name of the outcome that measures are judged by.
        outcomes: The outcomes that records state in addition to the truth, by name.
        training_curve: Epoch -> mean training loss; empty where no record states it.

    Attributes:
        outcome: The outcome that measures are judged by; None where the records do not state it.
        exclusion: Why the gate excludes it; None where it passes.
    """

    key: str
    recipe: Mapping[str, Scalar]
    truth: Mapping[str, Scalar]
    judged_by: str = GAP
    outcomes: Mapping[str, float | None] = field(default_factory=dict)
    training_curve: Curve = field(default_factory=dict)
    outcome: float | None = field(init=False, repr=False, compare=False)  # found once, as every row needs both
    exclusion: str | None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "outcome", self._find_outcome())
        object.__setattr__(self, "exclusion", self._explain_exclusion())

    @property
    def counts(self) -> bool:
        """Whether it passes the gate: it fitted its training set, and its outcome is known."""
        return self.exclusion is None

    def _find_outcome(self) -> float | None:
        if self.judged_by == LOSS_GAP:
            train, test = (finite_or_none(self.truth.get(name)) for name in ("train_loss", "test_loss"))
            return None if train is None or test is None else test - train
        return finite_or_none(self.truth.get(GAP) if self.judged_by == GAP else self.outcomes.get(self.judged_by))

    def _explain_exclusion(self) -> str | None:
        if not self.truth:
            return "could not be trained"
        if self.truth.get("fitted") is not True:
            lost = self.truth.get("diverged") is True or finite_or_none(self.truth.get("train_loss", 0.0)) is None
            return "diverged" if lost else "budget ended"
        return None if self.outcome is not None else unknown_outcome(self.judged_by)

    @property
    def cell(self) -> str:
        """Its hyperparameters as text: the recipe without the seed."""
        return recipe_text({name: value for name, value in self.recipe.items() if name != "seed"})


@dataclass(frozen=True, slots=True)
class MeasureRow:
    """One measure on a population: one record per network, the successful one or else the latest.

    Args:
        setting: What distinguishes two rows of one label (precision, examples, seed); empty where there is only one.
    """

    label: str
    setting: str
    records: Mapping[str, Record]

    def value(self, network: MeasuredNetwork) -> float | None:
        """The measure's value on `network`, where it has one."""
        record = self.records.get(network.key)
        return finite_or_none(record.value) if record is not None and record.status == "ok" else None


@dataclass(frozen=True, slots=True)
class MeasuredPopulation:
    """All networks of one model on one data set and device, in the order of their keys, and one row per measure.

    Args:
        model: The name of the population; where the records hold several devices or contents of the data for it, also
            those of these networks, as in 'mlp (cuda)'.
        design: "random" where the cohort drew configurations at random.
        outcome: The name of the outcome that measures are judged by.
    """

    dataset: str
    model: str
    design: Design
    networks: tuple[MeasuredNetwork, ...]
    rows: tuple[MeasureRow, ...]
    outcome: str = GAP

    @property
    def counted(self) -> tuple[MeasuredNetwork, ...]:
        """The networks that passed the gate."""
        return tuple(network for network in self.networks if network.counts)

    @property
    def exclusions(self) -> dict[str, int]:
        """Reason of exclusion -> number of networks, the most frequent first."""
        reasons = Counter(network.exclusion for network in self.networks if network.exclusion is not None)
        return dict(sorted(reasons.items(), key=lambda each: (-each[1], each[0])))


def round_outcomes(outcomes: Mapping[str, float | None]) -> dict[str, float | None]:
    """The outcomes of a record, by name, to OUTCOME_DECIMALS, so that equal ones are tied.

    >>> round_outcomes({"quantised-8": 0.9 - 0.8, "pruned-50": 0.8 - 0.7, "shifted-blur": None})
    {'quantised-8': 0.1, 'pruned-50': 0.1, 'shifted-blur': None}
    """
    return {name: None if value is None else round(value, OUTCOME_DECIMALS) for name, value in outcomes.items()}


def unknown_outcome(name: str) -> str:
    """The reason of exclusion of a network that fitted and whose records do not state the outcome of that name."""
    return f"{name} unknown"


def group_populations(records: Sequence[Record], outcome: str = GAP) -> tuple[MeasuredPopulation, ...]:
    """The populations in `records`, by data set, model, device and content of the data, judged by `outcome`.

    A network with several records enters once. Records of `sharpbench measure`, which are not for a leaderboard
    (`data.leaderboard` false), are left out.
    """
    groups: dict[tuple[str, str], dict[tuple[str, str], list[Record]]] = {}
    for record in sorted(records, key=lambda each: each.time):  # of several records of a cell the latest counts
        if record.data.get("leaderboard") is False:
            continue
        model = record.data.get("population", record.recipe.get("model"))
        place = str(record.recipe.get("dataset")), str(model)
        groups.setdefault(place, {}).setdefault(_origin(record), []).append(record)
    return tuple(
        MeasuredPopulation(
            dataset, model + suffix, _design(group), _networks(group, outcome), tuple(_rows(group)), outcome
        )
        for (dataset, model), origins in sorted(groups.items())
        for suffix, group in zip(
            _origin_suffixes(sorted(origins)), (origins[each] for each in sorted(origins)), strict=True
        )
    )


def network_key(record: Record) -> str:
    """The network of a record as text: its recipe, the hash of its data and the kind of its device."""
    return " ".join((recipe_text(record.recipe), *_origin(record)))


def _origin(record: Record) -> tuple[str, str]:
    """The kind of device and the hash of the data of a network."""
    return record.device, str(record.data.get("sha256"))


def _origin_suffixes(origins: Sequence[tuple[str, str]]) -> list[str]:
    """What distinguishes each origin from the others, in brackets; empty for only one."""
    devices, data = ({origin[part] for origin in origins} for part in (0, 1))
    size = next(size for size in range(MIN_HASH_CHARS, 10**6) if len({each[:size] for each in data}) == len(data))
    texts = (
        ([device] if len(devices) > 1 else []) + ([f"data {sha256[:size]}"] if len(data) > 1 else [])
        for device, sha256 in origins
    )
    return [f" ({', '.join(words)})" if words else "" for words in texts]


def _design(records: Sequence[Record]) -> Design:
    return "random" if any(record.data.get("design") == "random" for record in records) else "designed"


def cell_codes(networks: Sequence[MeasuredNetwork]) -> NDArray[np.intp]:
    """[n] The index of each network's cell."""
    codes: NDArray[np.intp] = np.unique([network.cell for network in networks], return_inverse=True)[1].astype(np.intp)
    return codes


def finite_or_none(value: Scalar) -> float | None:
    """`value` as a float; None unless it is a finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not is_finite(value):
        return None
    return float(value)


def recipe_text(mapping: Mapping[str, Scalar]) -> str:
    """A recipe as text, equal for equal recipes: 0, 0.0 and -0.0 are one value."""
    return json.dumps(normalize_numbers(mapping), sort_keys=True)


def normalize_numbers(mapping: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """The mapping with numbers as floats, so that 2 and 2.0, or 0.0 and -0.0, are equal.

    An integer that no float equals, as a seed of 60 bits may be, stays what it is.
    """
    return {
        name: _as_float(value) if isinstance(value, int | float) and not isinstance(value, bool) else value
        for name, value in mapping.items()
    }


def _as_float(value: float) -> float:
    try:
        number = float(value) + 0.0
    except OverflowError:
        return value
    return number if number == value else value


def _networks(records: Sequence[Record], outcome: str) -> tuple[MeasuredNetwork, ...]:
    found: dict[str, MeasuredNetwork] = {}
    curves: dict[str, Curve] = {}
    for record in records:
        key = network_key(record)
        if record.training_curve:
            curves[key] = record.training_curve
        if key in found and record.truth and outcome not in record.outcomes and outcome in found[key].outcomes:
            continue  # of an earlier run, which did not find the outcome
        if record.truth or key not in found:
            found[key] = MeasuredNetwork(key, record.recipe, record.truth, outcome, record.outcomes)
    return tuple(_finish(found[key], curves.get(key, {})) for key in sorted(found))


def _finish(network: MeasuredNetwork, curve: Curve) -> MeasuredNetwork:
    """The network of records with its training curve, and with outcomes that are tied where they are equal."""
    gap = finite_or_none(network.truth.get(GAP))
    truth = network.truth if gap is None else {**network.truth, GAP: round(gap, OUTCOME_DECIMALS)}
    return replace(network, truth=truth, outcomes=round_outcomes(network.outcomes), training_curve=curve)


def _rows(records: Sequence[Record]) -> Iterator[MeasureRow]:
    settings = _setting_texts(records)
    rows: dict[tuple[str, str], dict[str, Record]] = {}
    for record in records:
        row = rows.setdefault((record.label, settings[record.label, setting_key(record)]), {})
        key = network_key(record)
        if record.status == "ok" or key not in row or row[key].status != "ok":
            row[key] = record
    for label, setting in sorted(rows):
        yield MeasureRow(label, setting, rows[label, setting])


SettingKey = tuple[str, str, str]
ALL_EXAMPLES = "all examples"


def setting_key(record: Record) -> SettingKey:
    """Precision, examples and seed, which distinguish the rows of one label on one population."""
    return record.dtype, _measured_on(record), f"seed {record.seed}"


def _measured_on(record: Record) -> str:
    """The examples as text; all training examples of each network are one choice, whatever their number."""
    examples = record.data.get("examples")
    if examples is None:
        return ""
    return ALL_EXAMPLES if examples == record.recipe.get("train_size") else _format_count(examples)


def _format_count(examples: Scalar) -> str:
    return f"{examples} examples"


def _setting_texts(records: Sequence[Record]) -> dict[tuple[str, SettingKey], str]:
    """Label and setting -> the parts in which the settings of all labels differ, as text."""
    groups: dict[tuple[str, str, int], list[Record]] = {}
    for record in records:
        groups.setdefault((record.label, record.dtype, record.seed), []).append(record)
    shared = _shared_limit(records)
    found = {}
    for group in groups.values():
        limit = shared or _shared_limit(group)
        for record in group:
            dtype, examples, seed = key = setting_key(record)
            found[record.label, key] = (dtype, limit if limit and examples == ALL_EXAMPLES else examples, seed)
    differing = [part for part in range(3) if len({setting[part] for setting in found.values()}) > 1]
    return {place: ", ".join(setting[part] for part in differing if setting[part]) for place, setting in found.items()}


def _shared_limit(records: Sequence[Record]) -> str | None:
    """N examples, if all were measured on at most N: on N drawn ones, or on all where there are no more."""
    counts = [(record.data.get("examples"), _measured_on(record) == ALL_EXAMPLES) for record in records]
    known = [(count, whole) for count, whole in counts if isinstance(count, int)]
    drawn = {count for count, whole in known if not whole}
    if len(drawn) != 1 or max(count for count, _ in known) > max(drawn):
        return None
    return _format_count(max(drawn))
