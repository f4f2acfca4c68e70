"""Cell: one measure on one trained network; the key by which its record is found again; shards of cells."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal, get_args

from sharpbench.core.example_groups import check_groups
from sharpbench.core.fields import Scalar
from sharpbench.core.measure import Measure
from sharpbench.core.record import Design, Record, Scalars
from sharpbench.core.spec import to_config
from sharpbench.errors import InvalidInput, shorten
from sharpbench.files import content_hash
from sharpbench.training.recipe import Recipe, network_key

if TYPE_CHECKING:
    from sharpbench.runner.foreign.network import ForeignNetwork

Precision = Literal["float32", "float64"]
MAX_SEED = 2**64 - 1
MAX_SHARDS = 10**6
CHECK_FIELDS = {"timing": "timed", "oracle": "compared", "invariance": "rewritten"}
"""The name of a check, as records state it -> its field of Checks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationSetting:
    """How measures are evaluated: the seed of their random numbers, the precision, and the device ('cpu' or 'cuda').

    Raises InvalidInput for a seed or a precision that there is not.
    """

    seed: int = 0
    dtype: Precision = "float32"
    device: str = "cpu"

    def __post_init__(self) -> None:
        if not 0 <= self.seed <= MAX_SEED:
            raise InvalidInput(f"seed={self.seed} must be from 0 to {MAX_SEED}")
        if self.dtype not in get_args(Precision):
            raise InvalidInput(f"dtype '{shorten(str(self.dtype))}' is none of {', '.join(get_args(Precision))}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Checks:
    """What is found in addition to the value.

    Attributes:
        timed: its standalone cost.
        compared: the value of the measure's oracle.
        rewritten: its change under rewrites of the weights that keep the function.
        jackknife: the number of groups of examples from which a measure that states no standard error over examples
            gets one; None: it gets none.

    Raises InvalidInput for a number of groups that there is not.
    """

    timed: bool = False
    compared: bool = False
    rewritten: bool = False
    jackknife: int | None = None

    def __post_init__(self) -> None:
        if self.jackknife is not None:
            check_groups(self.jackknife)

    @property
    def names(self) -> tuple[str, ...]:
        """The checks that are made, as records name them."""
        return tuple(name for name, field_name in CHECK_FIELDS.items() if getattr(self, field_name))

    def with_names(self, names: Collection[str]) -> Checks:
        """The same number of groups with these checks."""
        return replace(self, **{field_name: name in names for name, field_name in CHECK_FIELDS.items()})


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One measure on one trained network.

    Population, design, position, checks, outcomes, `with_curve` and `measured` are not part of the key: they do not
    change the value.

    Attributes:
        measure: what is measured.
        recipe: how the network is trained; or the network, where it was trained elsewhere.
        population: the model as it was named, of which the cohort may have varied fields; its networks are judged
            together.
        design: how the configurations of the population were chosen.
        position: of the network in its population, from 0; it fixes which networks train together.
        data_sha256: the hash of the content of the data set.
        examples: the number of training examples of the subject; None: all that the network was trained on.
        setting: seed, precision and device of the evaluation.
        checks: what else is found in addition to the value.
        outcomes: the names of the outcomes of the network that the record states in addition to its training result.
        with_curve: whether the record states the training curve, as one record of each network does.
        measured: the record of the value, to which checks and outcomes are added; None where the value is measured.
    """

    measure: Measure
    recipe: Recipe | ForeignNetwork
    population: str
    design: Design
    position: int
    data_sha256: str
    examples: int | None
    setting: EvaluationSetting
    checks: Checks
    outcomes: tuple[str, ...] = ()
    with_curve: bool = False
    measured: Record | None = field(default=None, repr=False, compare=False)
    _key: str = field(default="", init=False, repr=False, compare=False)

    @property
    def network_key(self) -> str:
        """The hash by which the zoo finds the network, or of the content of a network that was trained elsewhere."""
        if isinstance(self.recipe, Recipe):
            return network_key(self.recipe, self.data_sha256, self.setting.device)
        return self.recipe.key(self.data_sha256, self.setting.device)

    @property
    def trained_recipe(self) -> Recipe:
        """The recipe of a network that is trained here. Raises TypeError for one that was trained elsewhere."""
        if not isinstance(self.recipe, Recipe):
            raise TypeError(f"{self.recipe.title} was trained elsewhere")
        return self.recipe

    @property
    def network(self) -> str:
        """The same text for cells that share a subject."""
        return f"{self.network_key} {self.examples} {self.setting.dtype}"

    @property
    def key(self) -> str:
        """The hash by which the record of the cell is found again."""
        if not self._key:
            recipe = self.recipe.row() if isinstance(self.recipe, Recipe) else self.recipe.content
            content = KeyContent.of_measure(
                self.measure, recipe=recipe, data_sha256=self.data_sha256, setting=self.setting
            )
            object.__setattr__(self, "_key", content.key(examples=self.examples))
        return self._key


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyContent:
    """What the value of a record depends on. Its hash, with the choice of the examples, is the record's key.

    Attributes:
        version: of the measure, which raises it when its values change.
        recipe: how the network came to be, as it is in the record.
    """

    measure: str
    version: int
    configuration: Scalars
    recipe: Scalars
    data_sha256: Scalar
    seed: int
    dtype: str
    device: str

    @staticmethod
    def of_measure(measure: Measure, *, recipe: Scalars, data_sha256: Scalar, setting: EvaluationSetting) -> KeyContent:
        """The content of the key of a measure on a network."""
        return KeyContent(
            measure=measure.name,
            version=measure.version,
            configuration=to_config(measure),
            recipe=recipe,
            data_sha256=data_sha256,
            seed=setting.seed,
            dtype=setting.dtype,
            device=setting.device,
        )

    @staticmethod
    def of_record(record: Record, *, version: int) -> KeyContent:
        """The content of the key of a record, which does not hold the version of its measure."""
        return KeyContent(
            measure=record.measure,
            version=version,
            configuration=record.configuration,
            recipe=record.recipe,
            data_sha256=record.data.get("sha256"),
            seed=record.seed,
            dtype=record.dtype,
            device=record.device,
        )

    def key(self, **further: object) -> str:
        """The key. further: what else the record depends on; of a cell its `examples`."""
        return content_hash(
            {
                "measure": self.measure,
                "version": self.version,
                "configuration": self.configuration,
                "recipe": self.recipe,
                "data": self.data_sha256,
                "seed": self.seed,
                "dtype": self.dtype,
                "device": self.device,
                **further,
            }
        )


@dataclass(frozen=True, slots=True)
class Shard:
    """The `index`-th of `count` parts of the cells of a run, counted from 1; the cells of a network are in one part.

    The hash of the network decides which: further measures or networks never move a network to another part.
    """

    index: int
    count: int

    def __post_init__(self) -> None:
        if not 1 <= self.count <= MAX_SHARDS:
            raise InvalidInput(f"shard {self.index}/{self.count} must be from 1/1 to {MAX_SHARDS}/{MAX_SHARDS}")
        if not 1 <= self.index <= self.count:
            bounds = f"from 1/{self.count} to {self.count}/{self.count}"
            raise InvalidInput(f"shard {self.index}/{self.count} must be {bounds}")

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    @staticmethod
    def parse(text: str) -> Shard:
        """The shard that a text such as '3/8' names."""
        found = re.fullmatch(r"([0-9]{1,7})/([0-9]{1,7})", text)
        if found is None:
            raise InvalidInput(f"shard '{shorten(text)}' is not a part of a whole; write 3/8 for the third of eight")
        return Shard(int(found[1]), int(found[2]))

    def holds(self, cell: Cell) -> bool:
        """Whether the cell is in this part."""
        return int(cell.network_key, 16) % self.count == self.index - 1
