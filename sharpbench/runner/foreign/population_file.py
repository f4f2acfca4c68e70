"""The description of a population that was trained elsewhere: a TOML file, checked key by key."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sharpbench.analysis.table import Table, read_table
from sharpbench.analysis.table_population import TableColumns, TableOptions
from sharpbench.core.fields import field_error
from sharpbench.core.user_functions import FILE_AND_FUNCTION
from sharpbench.errors import InvalidInput, shorten, suggest_names
from sharpbench.runner.foreign.layouts import holds_model_zoo, read_model_zoo
from sharpbench.runner.network_table import PLACEHOLDER
from sharpbench.runner.preparation import Preparation
from sharpbench.training.cohorts.toml import SUFFIX, TomlDocument

TEXTS = ("model", "table", "weights", "dataset", "outcome", "seed", "design", "name", "split", "loss", "parameters")
TYPES: dict[str, Any] = {
    **dict.fromkeys((*TEXTS, "transform"), str),
    **dict.fromkeys(("classes", "test_examples"), int),
    **dict.fromkeys(("by",), list[str]),
    **dict.fromkeys(("mean", "std"), list[float]),
}
"""The keys of the file with the types of their values."""
REQUIRED = {
    "table": 'table = "networks.csv"',
    "model": 'model = "net.py:make"',
    "weights": 'weights = "{file}"',
    "dataset": 'dataset = "npz:train.npz"',
}
"""The keys that a file needs, each with an example."""
PATH_WORDS = ("npz", "imagefolder")
"""Data sets whose argument is a path."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PopulationFile:
    """Networks that were trained elsewhere: where they are, what is claimed of them, and on what they are measured.

    Attributes:
        path: the file, for messages.
        table: one row per network.
        folder: where the weights are sought: the folder of the table.
        model: the network, as `measure --model` takes it, with its path; values of columns are in braces.
        weights: the file of each row, see `find_sources`.
        dataset, split, loss, parameters, classes, preparation: as `measure` takes them.
        columns: the outcome, the hyperparameters and the seed.
        options: the design, the number of test examples and names in headings.
    """

    path: str
    table: Table
    folder: Path
    model: str
    weights: str
    dataset: str
    columns: TableColumns
    options: TableOptions
    split: str = "train"
    loss: str = "cross_entropy"
    parameters: str | None = None
    classes: int | None = None
    preparation: Preparation = field(default_factory=Preparation)


def find_population_file(path: str) -> str:
    """The TOML file that `path` is, or the only one in the folder that it is.

    Raises InvalidInput where there is none, or several.
    """
    location = Path(path).expanduser()
    if not location.is_dir():
        if location.is_file() and location.suffix == SUFFIX:
            return path
        fault = "is not a TOML file" if location.is_file() else "is neither a file nor a folder"
        raise InvalidInput(f"population '{shorten(path)}' {fault}; name a TOML file that says where networks are")
    found = sorted(each.name for each in location.glob(f"*{SUFFIX}"))
    if len(found) != 1:
        held = f"holds {len(found)} TOML files ({shorten(', '.join(found))})" if found else "holds no TOML file"
        raise InvalidInput(f"folder '{shorten(path)}' {held}; name the one that says where the networks are")
    return f"{path.rstrip('/')}/{found[0]}"


def read_population_file(path: str) -> PopulationFile:
    """The population that the TOML file at `path` describes. Its paths start in the folder of the file.

    Raises InvalidInput for a file that is not TOML, unknown or missing keys, values of another type, and a table that
    cannot be read. The message is one line with file, line, key and remedy.
    """
    document = TomlDocument.read(path)
    base = Path(path).expanduser().parent
    given = {name: _check_value(document, name, value) for name, value in document.content.items()}
    if "table" not in given:
        raise InvalidInput(f"{path}: no 'table'; add {REQUIRED['table']}, one row per network")
    location = base / Path(given["table"]).expanduser()
    zoo = read_model_zoo(location) if holds_model_zoo(location) else None
    if location.is_dir() and zoo is None:
        raise InvalidInput(
            f"{document.where('table')}folder '{given['table']}' is not a model zoo, whose folders hold params.json "
            "and result.json; name a table"
        )
    keys = {**(zoo.defaults if zoo else {}), **given}
    for name, example in REQUIRED.items():
        if name not in keys:
            raise InvalidInput(f"{path}: no '{name}'; add {example}")
    try:
        return PopulationFile(
            path=path,
            table=read_table(location) if zoo is None else zoo.table,
            folder=location.parent if zoo is None else location,
            model=_locate_model(keys["model"], base),
            weights=keys["weights"],
            dataset=_locate_dataset(keys["dataset"], base),
            columns=TableColumns(outcome=keys.get("outcome", "gap"), by=keys.get("by", ()), seed=keys.get("seed")),
            options=TableOptions(
                design=keys.get("design", "designed"),
                test_examples=keys.get("test_examples"),
                model=keys.get("name", Path(path).stem),
                dataset=keys["dataset"],
            ),
            preparation=Preparation(
                mean=keys.get("mean", ()), std=keys.get("std", ()), transform=_below(base, keys.get("transform"))
            ),
            **{name: keys[name] for name in ("split", "loss", "parameters", "classes") if name in keys},
        )
    except InvalidInput as error:
        raise InvalidInput(f"{path}: {error}") from None


def _check_value(document: TomlDocument, name: str, value: object) -> Any:
    """The value of a key. Raises InvalidInput for an unknown key and for a value of another type."""
    if name not in TYPES:
        hint = suggest_names(name, TYPES) or f"it takes {', '.join(TYPES)}"
        raise InvalidInput(f"{document.where(name)}a population has no '{shorten(name)}'; {hint}")
    kind = TYPES[name]
    if kind in (str, int):
        wrong, value = field_error(value, kind), value
    else:
        values = value if isinstance(value, list) else [value]
        inner = str if kind == list[str] else float
        wrong, value = next(filter(None, (field_error(each, inner) for each in values)), ""), tuple(values)
    if wrong:
        raise InvalidInput(f"{document.where(name)}{name}={shorten(str(value))} {wrong}")
    return value


def _locate_model(word: str, base: Path) -> str:
    """The word of a model with the path of 'net.py:make' below `base`."""
    return str(_below(base, word)) if FILE_AND_FUNCTION.fullmatch(PLACEHOLDER.sub("x", word)) else word


def _locate_dataset(word: str, base: Path) -> str:
    """The word of a data set with its path below `base`, where it has one."""
    kind, colon, rest = word.partition(":")
    if kind in PATH_WORDS and colon:
        return f"{kind}:{_below(base, rest)}"
    return str(_below(base, word)) if FILE_AND_FUNCTION.fullmatch(word) else word


def _below(base: Path, word: str | None) -> str | None:
    return None if word is None else str(base / Path(word).expanduser())
