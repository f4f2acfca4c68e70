"""The commands that train a network or a population of the records again."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sharpbench.analysis.population import MeasuredNetwork
from sharpbench.core.fields import Scalar
from sharpbench.report.format import plain_text

NAMED = ("model", "dataset")
"""Fields of a recipe that are named on the command line."""
RECORDED = ("inputs", "code")
"""Fields that sharpbench sets."""
MAX_TEXT_CHARS = 200
"""Of a text of a recipe."""


@dataclass(frozen=True, slots=True)
class Training:
    """A cohort as a TOML file, and the words of `train` and `run` that take it."""

    cohort: str
    words: str


def train_again(networks: Sequence[MeasuredNetwork], file: str) -> Training | None:
    """What trains these networks again, in a file named `file`.

    None where the networks are not all combinations of the values of their fields, or fields of the model vary: then
    no single file describes them. None also for names and texts that no recipe of ours has.
    """
    recipes = [network.recipe for network in networks]
    if not all(_is_plain(recipe) for recipe in recipes):
        return None
    if len({tuple(recipe.get(name) for name in NAMED) for recipe in recipes}) != 1:
        return None
    names = [name for name in recipes[0] if name not in (*NAMED, *RECORDED)]
    values = {name: list(dict.fromkeys(recipe.get(name) for recipe in recipes)) for name in names}
    fixed = {name: found[0] for name, found in values.items() if len(found) == 1}
    axes = {name: found for name, found in values.items() if len(found) > 1}
    combinations = 1
    for found in axes.values():
        combinations *= len(found)
    if combinations != len(recipes) or any(None in found for found in axes.values()):
        return None
    lines = ["[fixed]", *(f"{name} = {_toml(value)}" for name, value in fixed.items() if value is not None)]
    if axes:
        lines += ["", "[axes]", *(f"{name} = [{', '.join(map(_toml, found))}]" for name, found in axes.items())]
    model, dataset = (shlex.quote(str(recipes[0].get(name))) for name in NAMED)
    return Training("\n".join(lines), f"--models {model} --dataset {dataset} --cohort {file}")


def _is_plain(recipe: Mapping[str, Scalar]) -> bool:
    """Whether the names are those of fields, and the texts are printable and short."""
    texts = [value for value in recipe.values() if isinstance(value, str)]
    return all(re.fullmatch("[a-z_]+", name) for name in recipe) and all(
        text.isprintable() and len(text) <= MAX_TEXT_CHARS for text in texts
    )


def _toml(value: Scalar) -> str:
    """A value as TOML holds it; JSON writes texts, numbers, true and false alike."""
    return json.dumps(value, ensure_ascii=False)


def open_network(collection: str, name: str | None) -> str | None:
    """The line of Python that opens the network of that name; None where a text is not as specs are written."""
    if name is None or len(name) > MAX_TEXT_CHARS or not re.fullmatch(r"[\w\[\]=,.:+-]+", name, re.ASCII):
        return None
    return f'network = sharpbench.load_network("{collection}/{name}")'


def run_measure(label: str, recipe: Mapping[str, Scalar]) -> str:
    """The command that measures networks like this one by the measure `label`."""
    model, dataset = (shlex.quote(plain_text(str(recipe.get(name)), MAX_TEXT_CHARS)) for name in NAMED)
    return f"sharpbench run --measures {shlex.quote(label)} --models {model} --dataset {dataset}"
