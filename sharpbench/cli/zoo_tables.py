"""Tables of trained networks: populations, single networks, and all that is known of one."""

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
from sharpbench.core.fields import Scalar
from sharpbench.report.format import MISSING, format_memory, format_number, format_reasons, plain_text
from sharpbench.training.zoo import ZooEntry

KEY = 12
"""Digits of a key that are shown; as few as tell it apart will do for `zoo show`."""


@dataclass(frozen=True, slots=True)
class Shelf:
    """The networks of one model, whatever its fields, on one data set and device. size: bytes of all weights."""

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
        """As JSON."""
        return {name: getattr(self, name) for name in self.__slots__}


def network_of(entry: ZooEntry) -> MeasuredNetwork:
    """The entry as a leaderboard sees a network."""
    return MeasuredNetwork(entry.key, {} if entry.origin is None else entry.origin.recipe, entry.result)


def bare(word: str) -> str:
    """A word without what stands in brackets."""
    return word.partition("[")[0]


def shelves(entries: Sequence[ZooEntry]) -> list[Shelf]:
    """The entries by data set, model and device."""
    groups: dict[tuple[str, str, str, str], list[ZooEntry]] = {}
    for entry in entries:
        origin = entry.origin
        recipe = {} if origin is None else origin.recipe
        model, dataset = (str(recipe.get(name, MISSING)) for name in ("model", "dataset"))
        place = dataset, bare(model), *(("", "") if origin is None else (str(origin.data), str(origin.device)))
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
    """One entry as JSON."""
    origin = None if entry.origin is None else entry.origin.row()
    return {"key": entry.key, "bytes": entry.size, "origin": origin, "truth": dict(entry.result)}


def show_shelves(entries: Sequence[ZooEntry], others: int, console: Console) -> None:
    """A table of populations, and what there is in all."""
    table = _table({"model": 0, "data": 0, "device": 0, "n": 1, "configs": 1, "fitted": 1, "excluded": 0, "size": 1})
    for each in shelves(entries):
        texts = (
            each.model, each.dataset, each.device, str(each.networks), str(each.configurations), str(each.fitted),
            format_reasons(each.exclusions) or MISSING, format_memory(each.size),
        )  # fmt: skip
        table.add_row(*(Text(plain_text(text, 60)) for text in texts))
    console.print(table)
    _total(entries, others, console)


def show_networks(entries: Sequence[ZooEntry], others: int, console: Console) -> None:
    """A table with a row for each network; of the recipes, what they do not have in common."""
    networks = sorted(map(network_of, entries), key=_place)
    table = _table({"key": 0, "model": 0, "recipe": 0, "gate": 0, "gap": 1})
    varied = _varied(networks)
    for network in networks:
        recipe = ", ".join(f"{name} {_text(network.recipe.get(name))}" for name in varied)
        model = str(network.recipe.get("model", MISSING))
        texts = [network.key[:KEY], model, recipe, network.exclusion or "fitted", format_number(network.gap)]
        table.add_row(*(Text(plain_text(text, 200)) for text in texts))
    console.print(table)
    shared = [name for name in (networks[0].recipe if networks else {}) if name not in (*varied, "model")]
    line = ", ".join(f"{name} {_text(networks[0].recipe[name])}" for name in shared)
    console.print(Text(plain_text(f"all: {line}", 400), style="dim"))
    _total(entries, others, console)


def _place(network: MeasuredNetwork) -> tuple[str, str, float]:
    """Model by model, configuration by configuration, seed by seed."""
    return str(network.recipe.get("model")), network.cell, finite_or_none(network.recipe.get("seed")) or 0.0


def _table(columns: dict[str, int]) -> Table:
    """A table with these headings; 1: numbers, which stand at the right."""
    table = Table(title="trained networks", title_justify="left", title_style="bold")
    for heading, right in columns.items():
        whole = heading not in ("recipe", "excluded", "gate")
        table.add_column(heading, justify="right" if right else "left", overflow="fold", no_wrap=whole)
    return table


def _varied(networks: Sequence[MeasuredNetwork]) -> list[str]:
    """The fields in which recipes differ; the model, which has a column, is left out."""
    names = list(dict.fromkeys(name for network in networks for name in network.recipe))
    return [name for name in names if name != "model" and len({network.recipe.get(name) for network in networks}) > 1]


def show_network(entry: ZooEntry, sound: bool, console: Console) -> None:
    """All that is known of one network."""
    recipe = {} if entry.origin is None else entry.origin.recipe
    rest: dict[str, Scalar] = {"bytes": entry.size, "weights": "sound" if sound else "damaged: it is trained anew"}
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


def _total(entries: Sequence[ZooEntry], others: int, console: Console) -> None:
    fitted = sum(network_of(entry).counts for entry in entries)
    size = format_memory(sum(entry.size for entry in entries))
    console.print(f"{len(entries)} networks, {fitted} fitted, {size}")
    if others:
        console.print(f"{others} more of another version of sharpbench, or damaged: they are trained anew when needed")


def rows_json(rows: Sequence[dict[str, Any]]) -> str:
    """One JSON array of objects."""
    return json.dumps(rows, indent=1)
