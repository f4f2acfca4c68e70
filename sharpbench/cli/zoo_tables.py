"""Tables and JSON rows of the trained networks in the cache, by population and one by one."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from sharpbench.analysis.population import MeasuredNetwork, finite_or_none
from sharpbench.cli.tables import ColumnKind, ruled_table
from sharpbench.core.fields import Scalar
from sharpbench.report.format import MISSING, format_memory, format_number, format_reasons, plain_text
from sharpbench.training.zoo import ZooEntry

KEY_DIGITS = 12
"""Of a key's digits; `zoo show` accepts fewer if they are enough to tell networks apart."""


@dataclass(frozen=True, slots=True)
class Shelf:
    """The networks of one model, with any parameters, on one data set and device. size: bytes of all weights."""

    model: str
    dataset: str
    data: str
    device: str
    networks: int
    configurations: int
    fitted: int
    exclusions: dict[str, int]
    size: int

    def row(self) -> dict[str, Any]:
        """The shelf as a JSON object."""
        return {name: getattr(self, name) for name in self.__slots__}


def network_of(entry: ZooEntry) -> MeasuredNetwork:
    """The entry as a network of a leaderboard."""
    return MeasuredNetwork(entry.key, {} if entry.origin is None else entry.origin.recipe, entry.result)


def model_name(word: str) -> str:
    """A word without its parameters in brackets."""
    return word.partition("[")[0]


def shelves(entries: Sequence[ZooEntry]) -> list[Shelf]:
    """The entries by data set, model and device."""
    groups: dict[tuple[str, str, str, str], list[ZooEntry]] = {}
    for entry in entries:
        origin = entry.origin
        recipe = {} if origin is None else origin.recipe
        model, dataset = (str(recipe.get(name, MISSING)) for name in ("model", "dataset"))
        place = dataset, model_name(model), *(("", "") if origin is None else (str(origin.data), str(origin.device)))
        groups.setdefault(place, []).append(entry)
    return [_shelf(place, group) for place, group in sorted(groups.items())]


def _shelf(place: tuple[str, str, str, str], entries: Sequence[ZooEntry]) -> Shelf:
    dataset, model, data, device = place
    networks = [network_of(entry) for entry in entries]
    reasons = Counter(network.exclusion for network in networks)
    fitted = reasons.pop(None, 0)
    return Shelf(
        model=model,
        dataset=dataset,
        data=data,
        device=device,
        networks=len(entries),
        configurations=len({network.cell for network in networks}),
        fitted=fitted,
        exclusions={str(reason): count for reason, count in sorted(reasons.items(), key=str)},
        size=sum(entry.size for entry in entries),
    )


def network_row(entry: ZooEntry) -> dict[str, Any]:
    """The entry as a JSON object."""
    origin = None if entry.origin is None else entry.origin.row()
    return {"key": entry.key, "bytes": entry.size, "origin": origin, "truth": dict(entry.result)}


def show_shelves(entries: Sequence[ZooEntry], others: int, console: Console) -> None:
    """Print one row per population, and the totals."""
    columns: dict[str, ColumnKind] = {
        "model": "name", "data": "name", "device": "name",
        "n": "number", "configs": "number", "fitted": "number", "excluded": "text", "size": "number",
    }  # fmt: skip
    table = ruled_table("trained networks", columns)
    for each in shelves(entries):
        texts = (
            each.model, each.dataset, each.device, str(each.networks), str(each.configurations), str(each.fitted),
            format_reasons(each.exclusions) or MISSING, format_memory(each.size),
        )  # fmt: skip
        table.add_row(*(Text(plain_text(text, 60)) for text in texts))
    console.print(table)
    _show_totals(entries, others, console)


def show_networks(entries: Sequence[ZooEntry], others: int, console: Console) -> None:
    """Print one row per network with the fields in which the recipes differ, then the fields they share."""
    networks = sorted(map(network_of, entries), key=_sort_key)
    columns: dict[str, ColumnKind] = {
        "key": "name", "model": "name", "recipe": "text", "gate": "text", "gap": "number",
    }  # fmt: skip
    table = ruled_table("trained networks", columns)
    varied = _varied_fields(networks)
    for network in networks:
        recipe = ", ".join(f"{name} {_text(network.recipe.get(name))}" for name in varied)
        model = str(network.recipe.get("model", MISSING))
        texts = [
            network.key[:KEY_DIGITS],
            model,
            recipe,
            network.exclusion or "fitted",
            format_number(network.outcome),
        ]
        table.add_row(*(Text(plain_text(text, 200)) for text in texts))
    console.print(table)
    shared = [name for name in (networks[0].recipe if networks else {}) if name not in (*varied, "model")]
    line = ", ".join(f"{name} {_text(networks[0].recipe[name])}" for name in shared)
    console.print(Text(plain_text(f"all: {line}", 400), style="dim"))
    _show_totals(entries, others, console)


def _sort_key(network: MeasuredNetwork) -> tuple[str, str, float]:
    """Order by model, then configuration, then seed."""
    return str(network.recipe.get("model")), network.cell, finite_or_none(network.recipe.get("seed")) or 0.0


def _varied_fields(networks: Sequence[MeasuredNetwork]) -> list[str]:
    """The fields in which recipes differ, without the model, which has its own column."""
    names = list(dict.fromkeys(name for network in networks for name in network.recipe))
    return [name for name in names if name != "model" and len({network.recipe.get(name) for network in networks}) > 1]


def show_network(entry: ZooEntry, sound: bool, console: Console) -> None:
    """Print the recipe of one network, the result of its training, and the state of its entry."""
    recipe = {} if entry.origin is None else entry.origin.recipe
    rest: dict[str, Scalar] = {
        "bytes": entry.size,
        "weights": "sound" if sound else "damaged; trained again when needed",
    }
    if entry.origin is not None:
        rest |= {"data": entry.origin.data, "device": entry.origin.device}
    console.print(Text(entry.key, style="bold"), soft_wrap=True)
    for heading, values in {"recipe": recipe, "truth": entry.result, "entry": rest}.items():
        console.print(Text(heading, style="bold"))
        table = Table.grid(padding=(0, 2))
        for name, value in values.items():
            table.add_row(Text("  " + plain_text(str(name), 40), style="dim"), Text(plain_text(_text(value), 80)))
        console.print(table)


def _text(value: Scalar) -> str:
    if isinstance(value, float):
        return format_number(finite_or_none(value))
    return MISSING if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _show_totals(entries: Sequence[ZooEntry], others: int, console: Console) -> None:
    fitted = sum(network_of(entry).counts for entry in entries)
    size = format_memory(sum(entry.size for entry in entries))
    console.print(f"{len(entries)} networks, {fitted} fitted, {size}")
    if others:
        console.print(f"{others} more are damaged or of another version; they are trained again when needed")


def rows_json(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as one JSON array of objects."""
    return json.dumps(rows, indent=1)
