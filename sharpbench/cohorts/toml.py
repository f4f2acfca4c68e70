"""Cohorts of one's own: a TOML file with the axes of a grid. Its content identifies the networks, not its path."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from sharpbench.cohorts.document import Document
from sharpbench.cohorts.grid import Axis, Grid
from sharpbench.core.fields import fault, is_scalar
from sharpbench.core.spec import Inner, written
from sharpbench.datasets.data import Dataset
from sharpbench.errors import InvalidInput, near, short
from sharpbench.ingredient import ingredient
from sharpbench.models.model import Model
from sharpbench.recipe import Cohort, Design, Recipe

TABLES = ("fixed", "axes", "model", "random")
SUFFIX = ".toml"


@dataclass(frozen=True)
class TomlCohort(Cohort):
    """What a file describes: a grid, and the fields that all recipes share."""

    name: ClassVar[str] = "file"
    title: ClassVar[str] = "a cohort of your own, from a TOML file"
    source: ClassVar[str] = "the user"
    grid: Grid
    fixed: tuple[tuple[str, Any], ...]

    @property
    def design(self) -> Design:
        """See Cohort.design."""
        return self.grid.design

    def recipes(self, models: Sequence[Model], dataset: Dataset) -> tuple[Recipe, ...]:
        """See Cohort.recipes."""
        return tuple(self.grid.recipes(models, dataset, dict(self.fixed)))


def read_cohort(path: str, offered: Inner) -> TomlCohort:
    """The cohort that the TOML file at `path` describes.

    offered: what words in it may name. Raises InvalidInput, one line with file, line, key, value and bound.
    """
    document = Document.read(path)
    for name in document.content:
        if name not in TABLES:
            hint = near(name, TABLES) or f"it takes [{'], ['.join(TABLES)}]"
            raise InvalidInput(f"{document.where(name)}a cohort has no '{short(name)}'; {hint}")
    tables = {name: _table(document, name) for name in TABLES}
    fixed = {name: _value(document, "fixed", name, value, offered) for name, value in tables["fixed"].items()}
    axes = {name: _values(document, "axes", name, values, offered) for name, values in tables["axes"].items()}
    for name in axes:
        if name in fixed:
            raise InvalidInput(f"{document.where('axes', name)}'{name}' is fixed, too; leave it in one of the two")
    seeds = axes.pop("seed", (fixed.pop("seed", 0),))
    varied = [Axis(name, values, where=document.where("axes", name)) for name, values in axes.items()]
    varied += [_of_model(document, name, values) for name, values in tables["model"].items()]
    Axis("seed", seeds, where=document.where("axes", "seed") if "seed" in tables["axes"] else "")
    part = _random(document, tables["random"])
    try:
        grid = Grid(tuple(varied), seeds, **part)
    except InvalidInput as error:
        place = document.where("random", "networks") if "networks" in tables["random"] else f"{path}: "
        raise InvalidInput(f"{place}{error}") from None
    return TomlCohort(grid, tuple(sorted(fixed.items())))


def _table(document: Document, name: str) -> Mapping[str, Any]:
    table = document.content.get(name, {})
    if not isinstance(table, Mapping):
        raise InvalidInput(
            f"{document.where(name)}{name}={short(str(table))} is no table; write [{name}] above its keys"
        )
    return table


def _value(document: Document, table: str, name: str, value: object, offered: Inner) -> Any:
    try:
        if name in ("model", "dataset"):
            raise InvalidInput(f"'{name}' is named on the command line; leave it out")
        if isinstance(value, list | dict):
            raise InvalidInput(f"{name}={short(str(value))} is no single value; what varies stands in [axes]")
        return ingredient(name, value, offered)
    except InvalidInput as error:
        raise InvalidInput(f"{document.where(table, name)}{error}") from None


def _values(document: Document, table: str, name: str, values: object, offered: Inner) -> tuple[Any, ...]:
    return tuple(_value(document, table, name, value, offered) for value in _list(document, table, name, values))


def _list(document: Document, table: str, name: str, values: object) -> list[Any]:
    if not isinstance(values, list) or not values:
        shown = f"{short(name)}={short(str(values))}"
        raise InvalidInput(f"{document.where(table, name)}{shown} is no list of values; write {short(name)} = [1, 2]")
    return values


def _of_model(document: Document, name: str, values: object) -> Axis:
    """An axis of the models' fields; which they have is known when the models are."""
    where, listed = document.where("model", name), _list(document, "model", name, values)
    for value in listed:
        if not is_scalar(value):
            raise InvalidInput(f"{where}{short(name)}={short(str(value))} is no text, finite number or truth value")
    return Axis(name, tuple(listed), of_model=True, where=where)


def _random(document: Document, table: Mapping[str, Any]) -> dict[str, int]:
    """`networks` and `draw` of the grid."""
    names = {"networks": "networks", "seed": "draw"}
    for name, value in table.items():
        where = document.where("random", name)
        if name not in names:
            hint = near(name, names) or f"it takes {', '.join(names)}"
            raise InvalidInput(f"{where}[random] has no '{short(name)}'; {hint}")
        wrong = fault(value, int) or ("must be at least 1" if name == "networks" and value < 1 else "")
        if wrong:
            raise InvalidInput(f"{where}{name}={short(written(value))} {wrong}")
    if table and "networks" not in table:
        raise InvalidInput(f"{document.where('random')}[random] needs networks = 300, how many are drawn")
    return {names[name]: value for name, value in table.items()}
