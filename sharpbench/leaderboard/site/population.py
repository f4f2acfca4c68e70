"""What the pages of populations and of their networks show."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from sharpbench.analysis.correlations import varied_hyperparameters
from sharpbench.analysis.population import MeasuredNetwork, MeasureRow
from sharpbench.analysis.scores import Score
from sharpbench.core.fields import Scalar
from sharpbench.core.record import Record
from sharpbench.leaderboard.board import Board, Leaderboard
from sharpbench.leaderboard.evidence import list_evidence
from sharpbench.leaderboard.site.addresses import measure_address, network_address, population_address
from sharpbench.leaderboard.site.commands import open_network, train_again
from sharpbench.leaderboard.site.pictures import draw_costs, draw_intervals
from sharpbench.leaderboard.site.training_curve import draw_curve
from sharpbench.report.board_verdict import describe_power, describe_verdict
from sharpbench.report.columns import NAME, RANK, TAU, TAU_WITHIN, Column
from sharpbench.report.cost_columns import GRADIENTS, INVARIANT, LARGEST_ERROR
from sharpbench.report.format import MISSING, format_number, format_reasons, plain_text

MAX_TEXT_CHARS = 80
MAX_REASON_CHARS = 200
MAX_VALUES = 24
"""Values of an axis that are listed."""
COLUMNS: tuple[Column[Score], ...] = (NAME, RANK, TAU_WITHIN, TAU, INVARIANT, LARGEST_ERROR, GRADIENTS)
"""The board of a population: the columns of the terminal's, and the error."""
TRUTHS = ("gap", "train_accuracy", "test_accuracy")
"""What the list of networks shows of each; its page shows all."""


def population_values(leaderboard: Leaderboard, index: int) -> dict[str, Any]:
    """What the template of a population's page takes."""
    board = leaderboard.boards[index]
    networks = board.population.networks
    axes = _vary(networks)
    varying = {"seed", *axes, "model"}
    shared = {name: value for name, value in networks[0].recipe.items() if name not in varying}
    evidence = [one for one in list_evidence(leaderboard) if one.index == index]
    return {
        "slug": board.slug,
        "verdict": describe_verdict(board.scores),
        "power": describe_power(board.scores),
        "excluded": len(networks) - len(board.population.counted),
        "reasons": format_reasons(board.population.exclusions),
        "axes": [(_text(name), ", ".join(_distinct(values))) for name, values in axes.items()],
        "shared": [(_text(name), _text(value)) for name, value in shared.items()],
        "training": train_again(networks, "population.toml"),
        "labels": _labels(board),
        "columns": COLUMNS,
        "rows": [_board_row(board, score) for score in board.scores],
        "picture": draw_intervals(board),
        "costs": draw_costs(evidence) if evidence else None,
        "names": ["seed", *map(_text, axes), *(name.replace("_", " ") for name in TRUTHS), "excluded"],
        "networks": [
            {"address": network_address(board, network), "cells": _network_cells(network, place, axes)}
            for place, network in enumerate(networks)
        ],
    }


def network_values(board: Board, place: int) -> dict[str, Any]:
    """What the template of the page of the network with this place in its population takes."""
    network = board.population.networks[place]
    excluded = network.exclusion
    outcome = "It passed the gate." if excluded is None else f"The gate excludes it: {excluded}."
    return {
        "number": place + 1,
        "board": plain_text(board.title, 120),
        "population": population_address(board),
        "outcome": outcome,
        "recipe": [(_text(name), _text(value)) for name, value in network.recipe.items()],
        "truth": [(_text(name), _text(value)) for name, value in {**network.truth, **network.outcomes}.items()],
        "training": train_again([network], "network.toml"),
        "opening": open_network(board.collection, board.names.get(network.key)),
        "labels": _labels(board),
        "curve": draw_curve(network.training_curve),
        "rows": [_value_row(row, record) for row in board.population.rows if (record := row.records.get(network.key))],
    }


def _vary(networks: Sequence[MeasuredNetwork]) -> Mapping[str, Sequence[Scalar]]:
    """The hyperparameters that differ, except the seed."""
    found = varied_hyperparameters(networks)
    return {name: values for name, values in found.items() if name != "seed" and len(set(map(str, values))) > 1}


def _distinct(values: Sequence[Scalar]) -> list[str]:
    found = list(dict.fromkeys(_text(value) for value in values))
    return found if len(found) <= MAX_VALUES else [*found[:MAX_VALUES], f"and {len(found) - MAX_VALUES} more"]


def _text(value: object, digits: int = 6) -> str:
    if value is None:
        return "default"
    return format(value, f".{digits}g") if isinstance(value, float) else plain_text(str(value), MAX_TEXT_CHARS)


def _labels(board: Board) -> str:
    """The measures as `--measures` takes them, and the examples where not all were measured on."""
    labels = dict.fromkeys(plain_text(row.label, MAX_TEXT_CHARS) for row in board.population.rows)
    some = {record.data.get("examples") for record in board.records if _has_left_examples(record)}
    return shlex.quote(",".join(labels)) + (f" --examples {some.pop()}" if len(some) == 1 else "")


def _has_left_examples(record: Record) -> bool:
    measured, trained = record.data.get("examples"), record.recipe.get("train_size")
    return isinstance(measured, int) and isinstance(trained, int) and measured < trained


def _board_row(board: Board, score: Score) -> dict[str, Any]:
    return {
        "kind": score.kind,
        "address": None if score.kind == "baseline" else measure_address(board.measure(score)),
        "cells": [(plain_text(column.text(score), MAX_TEXT_CHARS), column.number) for column in COLUMNS],
    }


def _network_cells(network: MeasuredNetwork, place: int, axes: Mapping[str, Sequence[Scalar]]) -> list[str]:
    varied = [_text(values[place]) for values in axes.values()]
    known = [_text(network.truth[name], 4) if name in network.truth else MISSING for name in TRUTHS]
    return [_text(network.recipe.get("seed")), *varied, *known, network.exclusion or ""]


def _value_row(row: MeasureRow, record: Record) -> dict[str, Any]:
    interval = MISSING
    if record.stderr == 0.0:
        interval = "exact"
    elif record.low is not None and record.high is not None:
        interval = f"[{record.low:.6g}, {record.high:.6g}]"
    remark = "" if record.status == "ok" else f"{record.status}: {record.reason or 'no reason is recorded'}"
    if record.status == "ok" and not record.converged:
        remark = "its iteration did not converge"
    return {
        "name": plain_text(f"{row.label} ({row.setting})" if row.setting else row.label, MAX_TEXT_CHARS),
        "address": measure_address(record.measure),
        "value": MISSING if record.value is None else f"{record.value:.6g}",
        "interval": interval,
        "stderr": format_number(record.stderr_examples),
        "remark": plain_text(remark, MAX_REASON_CHARS),
    }
