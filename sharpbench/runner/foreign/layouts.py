"""Model zoos that other programs wrote, as tables: one row per network, and how the columns are read."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sharpbench.analysis.table import Table
from sharpbench.core.fields import Scalar, is_scalar
from sharpbench.errors import InvalidInput, shorten
from sharpbench.files import check_plain_file

ACCURACY_GAP_COLUMNS = "train_accuracy - test_accuracy"
PARAMS_FILE, RESULTS_FILE, CHECKPOINT_FILE = "params.json", "result.json", "checkpoints"
RESULT_NAMES = {
    "train_acc": "train_accuracy",
    "test_acc": "test_accuracy",
    "train_loss": "train_loss",
    "test_loss": "test_loss",
}
"""The results of a model zoo -> our columns."""
NOT_TUNED = ("cuda", "dataset::dump", "seed", "training::checkpoint_dir", "training::data_path")
"""Entries of params.json that are not hyperparameters."""


@dataclass(frozen=True, slots=True, eq=False)
class FoundTable:
    """A table of networks, and how its columns are read where the user does not say otherwise.

    Attributes:
        defaults: keys of a population file with their values.
    """

    table: Table
    defaults: Mapping[str, object]


def holds_model_zoo(folder: Path) -> bool:
    """Whether a folder holds trials of Ray Tune, as model zoos do."""
    return folder.is_dir() and any((each / PARAMS_FILE).is_file() for each in folder.iterdir())


def read_model_zoo(folder: Path) -> FoundTable:
    """The networks of a model zoo as Schürholt et al. 2022 publish them, each at its last checkpoint.

    Each trial is a folder of Ray Tune: params.json, result.json with a line for each epoch, and
    checkpoint_000050/checkpoints with the state of the network after that epoch. Trials without a checkpoint whose
    epoch has a result are left out.

    Raises InvalidInput where no trial has both, and for files that are not JSON.
    """
    rows: list[dict[str, Scalar]] = []
    names: list[str] = []
    for trial in sorted(each for each in folder.iterdir() if (each / PARAMS_FILE).is_file()):
        results = _results_by_epoch(trial / RESULTS_FILE)
        epochs = {_epoch(path): path for path in trial.glob(f"checkpoint_*/{CHECKPOINT_FILE}") if path.is_file()}
        usable = [epoch for epoch in epochs if epoch in results]
        if not usable:
            continue
        last = max(usable)
        params = {name: value for name, value in _read_object(trial / PARAMS_FILE).items() if is_scalar(value)}
        found = {name: value for theirs, name in RESULT_NAMES.items() if is_scalar(value := results[last].get(theirs))}
        weights = str(epochs[last].relative_to(folder))
        rows.append({**params, **found, "epochs": last, "weights": weights})
        names.append(str(trial))
    if not rows:
        raise InvalidInput(
            f"no trial of '{folder}' has a {CHECKPOINT_FILE} file of an epoch that {RESULTS_FILE} lists; name the "
            "folder of a raw zoo"
        )
    columns = dict.fromkeys(column for row in rows for column in row)
    tuned = [name for name in columns if name not in (*RESULT_NAMES.values(), *NOT_TUNED, "epochs", "weights")]
    defaults = {"weights": "{weights}", "outcome": ACCURACY_GAP_COLUMNS, "by": _varying(rows, tuned)}
    table = Table(str(folder), {column: [row.get(column) for row in rows] for column in columns}, names)
    return FoundTable(table, defaults)


def _varying(rows: Sequence[Mapping[str, Scalar]], names: Sequence[str]) -> list[str]:
    """The columns in which the networks differ."""
    return [name for name in names if len({row.get(name) for row in rows}) > 1]


def _epoch(path: Path) -> int:
    """The epoch of 'checkpoint_000050/checkpoints'; -1 for another name."""
    number = path.parent.name.removeprefix("checkpoint_")
    return int(number) if number.isdecimal() else -1


def _results_by_epoch(path: Path) -> dict[int, dict[str, Any]]:
    """The results of the epochs, by their number; lines without a number are left out."""
    lines = enumerate(_read_text(path).splitlines(), 1)
    found = [_parse(line, f"{path}:{number}") for number, line in lines if line]
    return {epoch: result for result in found if isinstance(epoch := result.get("training_iteration"), int)}


def _read_object(path: Path) -> dict[str, Any]:
    return _parse(_read_text(path), str(path))


def _read_text(path: Path) -> str:
    check_plain_file(path)
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"'{path}' cannot be read ({shorten(str(error))}); fetch the folder again") from None


def _parse(text: str, where: str) -> dict[str, Any]:
    try:
        found = json.loads(text, parse_constant=lambda _: None)  # losses of diverged networks are NaN
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"{where}: not JSON ({shorten(str(error))}); fetch the folder again") from None
    if not isinstance(found, dict):
        raise InvalidInput(f"{where}: not an object of JSON but {type(found).__name__}; fetch the folder again")
    return found
