"""The user's own cohort: a TOML file with the axes of a grid, whose content and not path identifies the networks."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from sharpbench.core.fields import field_error, is_scalar
from sharpbench.core.record import Design
from sharpbench.core.spec import Inner, format_value
from sharpbench.datasets.dataset import Dataset
from sharpbench.errors import InvalidInput, shorten, suggest_names
from sharpbench.files import user_path
from sharpbench.models.model import Model
from sharpbench.training.cohorts.cohort import Cohort
from sharpbench.training.cohorts.grid import Axis, Grid
from sharpbench.training.recipe import RECORDED_FIELDS, Recipe, parse_recipe_field

MAX_FILE_BYTES = 2**16
"""The largest file that is read, far more than a cohort needs."""


@dataclass(frozen=True, eq=False)
class TomlDocument:
    """The text and content of a TOML file. path: as the user named it, for error messages."""

    path: str
    text: str
    content: Mapping[str, Any]

    @staticmethod
    def read(path: str) -> TomlDocument:
        """The document at `path`. Raises InvalidInput for a file that is missing, too large or not TOML."""
        location = user_path(path)
        if not location.is_file():
            raise InvalidInput(f"there is no file '{path}'; name a cohort, or a TOML file that describes one")
        try:
            with location.open("rb") as file:
                data = file.read(MAX_FILE_BYTES + 1)
            text = data.decode("utf-8-sig")  # editors of Windows begin files with a mark
        except OSError as error:
            raise InvalidInput(f"'{path}' cannot be read ({error.strerror}); name another file") from None
        except UnicodeDecodeError as error:
            line = data[: error.start].count(b"\n") + 1
            raise InvalidInput(f"{path}:{line}: not UTF-8, as TOML is; save the file as UTF-8") from None
        if len(data) > MAX_FILE_BYTES:
            raise InvalidInput(
                f"'{path}' holds more than {MAX_FILE_BYTES:,} bytes, too many for a description; name another file"
            )
        try:
            return TomlDocument(path, text, tomllib.loads(text))
        except (ValueError, RecursionError) as error:
            raise InvalidInput(_syntax_error(path, text, str(error))) from None

    def where(self, *keys: str) -> str:
        """'FILE:LINE: ', with the line in which a key begins. `keys`: its tables, outermost first, and the key.

        Parses about log2(statements) prefixes of the file.
        """
        begins = _statement_offsets(self.text)
        first, last = 0, len(begins)  # the first `last` statements contain the key, the first `first` do not
        while last - first > 1:
            middle = (first + last) // 2
            if _has_keys(tomllib.loads(self.text[: begins[middle]]), keys):
                last = middle
            else:
                first = middle
        return f"{self.path}:{self.text.count(NEW_LINE, 0, begins[first]) + 1}: "


@dataclass(frozen=True, eq=False)
class KeyPlace:
    """The place of a key, as text `TomlDocument.where`: it is looked for where a message needs it."""

    document: TomlDocument
    keys: tuple[str, ...]

    def __str__(self) -> str:
        return self.document.where(*self.keys)


NEW_LINE = "\n"
TOKEN_PATTERN = re.compile(
    r"""\"{3}(?:\\.|[^\\])*?"{3,5} | '{3}.*?'{3,5}  # texts of several lines may end in two quotes more
    | "(?:\\.|[^"\\])*" | '[^']*' | \#[^\n]* | [\[{] | [\]}] | \n | [^\s"'\#\[\]{}]+""",
    re.VERBOSE | re.DOTALL,
)
"""Texts, comments, brackets, ends of lines and other words of a valid TOML file."""


def _statement_offsets(text: str) -> list[int]:
    """Where each statement of valid TOML begins: a key with its value, of one or several lines, or a table's head."""
    begins: list[int] = []
    depth, inside = 0, False
    for token in TOKEN_PATTERN.finditer(text):
        kind = token[0][0]
        if kind == NEW_LINE:
            inside = depth > 0
        elif kind != "#":
            if not inside:
                begins.append(token.start())
            inside = True
            depth += (token[0] in ("[", "{")) - (token[0] in ("]", "}"))
    return begins


def _has_keys(content: Any, keys: tuple[str, ...]) -> bool:
    for key in keys:
        if not isinstance(content, Mapping) or key not in content:
            return False
        content = content[key]
    return True


def _syntax_error(path: str, text: str, message: str) -> str:
    """The message of tomllib, with file and line in front."""
    found = re.search(r" \(at line (\d+), column (\d+)\)", message)
    line = int(found[1]) if found else text.count("\n") + 1
    cause = message[: found.start()] if found else message.removesuffix(" (at end of document)")
    column = f" at column {found[2]}" if found else ""
    return f"{path}:{line}: not TOML{column}: {shorten(cause)}; write text in quotes and lists in brackets"


TABLE_NAMES = ("fixed", "axes", "model", "random")
SUFFIX = ".toml"


@dataclass(frozen=True)
class TomlCohort(Cohort):
    """The cohort that a file describes: a grid, and the fields that all recipes share."""

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

    Args:
        path: the file.
        offered: the optimisers that the file may name (see `recipe.available_parts`).

    Raises:
        InvalidInput: for a file that is not a cohort. The message is one line with file, line, key, value and bound.
    """
    document = TomlDocument.read(path)
    for name in document.content:
        if name not in TABLE_NAMES:
            hint = suggest_names(name, TABLE_NAMES) or f"it takes [{'], ['.join(TABLE_NAMES)}]"
            raise InvalidInput(f"{document.where(name)}a cohort has no '{shorten(name)}'; {hint}")
    tables = {name: _get_table(document, name) for name in TABLE_NAMES}
    fixed = {name: _parse_value(document, "fixed", name, value, offered) for name, value in tables["fixed"].items()}
    axes = {name: _parse_values(document, "axes", name, values, offered) for name, values in tables["axes"].items()}
    for name in axes:
        if name in fixed:
            raise InvalidInput(
                f"{document.where('axes', name)}'{name}' is also in [fixed]; remove it from one of the two"
            )
    seeds = axes.pop("seed", (fixed.pop("seed", 0),))
    varied = [Axis(name, values, where=KeyPlace(document, ("axes", name))) for name, values in axes.items()]
    varied += [_parse_model_axis(document, name, values) for name, values in tables["model"].items()]
    Axis("seed", seeds, where=KeyPlace(document, ("axes", "seed")) if "seed" in tables["axes"] else "")
    part = _parse_random(document, tables["random"])
    try:
        grid = Grid(tuple(varied), seeds, **part)
    except InvalidInput as error:
        place = document.where("random", "networks") if "networks" in tables["random"] else f"{path}: "
        raise InvalidInput(f"{place}{error}") from None
    return TomlCohort(grid, tuple(sorted(fixed.items())))


def _get_table(document: TomlDocument, name: str) -> Mapping[str, Any]:
    table = document.content.get(name, {})
    if not isinstance(table, Mapping):
        raise InvalidInput(
            f"{document.where(name)}{name}={shorten(str(table))} is not a table; write [{name}] above its keys"
        )
    return table


def _parse_value(document: TomlDocument, table: str, name: str, value: object, offered: Inner) -> Any:
    try:
        if name in ("model", "dataset"):
            raise InvalidInput(f"'{name}' is named on the command line; leave it out")
        if name in RECORDED_FIELDS:
            raise InvalidInput(f"'{name}' is set by sharpbench; leave it out")
        if isinstance(value, list | dict):
            raise InvalidInput(
                f"{name}={shorten(str(value))} is not a single value; put a field that varies into [axes]"
            )
        return parse_recipe_field(name, value, offered)
    except InvalidInput as error:
        raise InvalidInput(f"{document.where(table, name)}{error}") from None


def _parse_values(document: TomlDocument, table: str, name: str, values: object, offered: Inner) -> tuple[Any, ...]:
    return tuple(
        _parse_value(document, table, name, value, offered) for value in _require_list(document, table, name, values)
    )


def _require_list(document: TomlDocument, table: str, name: str, values: object) -> list[Any]:
    if not isinstance(values, list) or not values:
        shown = f"{shorten(name)}={shorten(str(values))}"
        raise InvalidInput(
            f"{document.where(table, name)}{shown} is not a list of values; write {shorten(name)} = [1, 2]"
        )
    return values


def _parse_model_axis(document: TomlDocument, name: str, values: object) -> Axis:
    """An axis of a field of the models. Whether they have the field is checked in `Grid.recipes`."""
    where, listed = KeyPlace(document, ("model", name)), _require_list(document, "model", name, values)
    for value in listed:
        if not is_scalar(value):
            raise InvalidInput(
                f"{where}{shorten(name)}={shorten(str(value))} is not text, a finite number, true or false"
            )
    return Axis(name, tuple(listed), of_model=True, where=where)


def _parse_random(document: TomlDocument, table: Mapping[str, Any]) -> dict[str, int]:
    """The table [random] as the fields `networks` and `draw` of Grid."""
    names = {"networks": "networks", "seed": "draw"}
    for name, value in table.items():
        where = KeyPlace(document, ("random", name))
        if name not in names:
            hint = suggest_names(name, names) or f"it takes {', '.join(names)}"
            raise InvalidInput(f"{where}[random] has no '{shorten(name)}'; {hint}")
        wrong = field_error(value, int) or ("must be at least 1" if name == "networks" and value < 1 else "")
        if wrong:
            raise InvalidInput(f"{where}{name}={shorten(format_value(value))} {wrong}")
    if table and "networks" not in table:
        raise InvalidInput(f"{document.where('random')}[random] needs the number of networks to draw, networks = 300")
    return {names[name]: value for name, value in table.items()}
