"""The rows of a landscape in a file of JSON lines, written as they come, so that an interrupted grid is resumed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from sharpbench.core.batch import named_tensors
from sharpbench.core.jsonl import format_json, parse_json, read_lines
from sharpbench.core.precision import own_types
from sharpbench.core.random_state import random_state_kept
from sharpbench.core.subject import Subject
from sharpbench.curvature import displaced_losses, draw_directions
from sharpbench.datasets.dataset import content_sha256
from sharpbench.errors import InvalidInput
from sharpbench.files import content_hash
from sharpbench.landscapes.checkpoints import Checkpoints
from sharpbench.landscapes.options import LandscapeOptions

VERSION = 2
"""Of how a landscape is computed: rows of another version are not taken."""
ROWS = "landscape.jsonl"
KEY_CHANGE = 0.1
"""Standard deviation of the change of the weights at which losses tell networks of equal weights apart."""


@dataclass(frozen=True, slots=True)
class LandscapeRow:
    """The losses along the first axis at one coordinate of the second; of a line, the loss of one point.

    key: of the landscape, a hash of its weights, examples and options. row: counted from 0. losses: None where the loss
    is not finite.
    """

    key: str
    row: int
    losses: tuple[float | None, ...]

    def to_json(self) -> str:
        """One line of JSON."""
        return format_json({"key": self.key, "row": self.row, "losses": list(self.losses)})


def make_row(key: str, row: int, losses: Sequence[float]) -> LandscapeRow:
    """The row of these losses."""
    return LandscapeRow(key, row, tuple(loss if math.isfinite(loss) else None for loss in losses))


def landscape_key(given: Checkpoints, options: LandscapeOptions) -> str:
    """The hash of everything that a landscape depends on, but for the libraries and the machine.

    The code of the network and of a callable loss is in it by the mean losses at each of the weights and near them.
    """
    first = given.subjects[0]
    tensors = [each.cpu() for each in named_tensors(first.inputs).values()]
    weights = [
        content_sha256(value.detach().cpu() for value in (*subject.params.values(), *subject.constants.values()))
        for subject in given.subjects
    ]
    parts: Mapping[str, object] = {
        "version": VERSION,
        "options": options.key_fields(),
        "weights": weights,
        "parameters": list(first.params),
        "means": [_mean_losses(subject) for subject in given.subjects],
        "data": content_sha256((*tensors, first.targets.cpu())),
        "loss": [first.criterion.kind, repr(first.criterion.form), first.criterion.weight_decay],
        "device": first.device.type,
        "type": str(next(iter(first.params.values())).dtype),
    }
    return content_hash(parts)


def _mean_losses(subject: Subject) -> list[str]:
    """The mean losses at the weights and at weights that are changed at random, where networks of other code differ
    also if their last layer is 0; to as many digits as rounding leaves alike on the same machine."""
    like = next(iter(subject.params.values()))
    changes = draw_directions(subject, 1, torch.Generator().manual_seed(0))
    places = (like.new_zeros(subject.size), *(KEY_CHANGE * change.to(like) for change in changes))
    with random_state_kept(subject.module), own_types():
        return [f"{loss:.4g}" for loss in displaced_losses(subject, places).tolist()]


def read_rows(path: Path, key: str, *, count: int, width: int) -> dict[int, tuple[float, ...]]:
    """The rows of the landscape `key` that the file holds, by number; those of other landscapes are skipped.

    Raises InvalidInput for a file that is not one of rows.
    """
    found: dict[int, tuple[float, ...]] = {}
    for number, line in read_lines(path, whole=True):
        try:
            row = parse_json(line.decode())
            given, place, losses = row["key"], row["row"], row["losses"]
            values = tuple(math.nan if loss is None else float(loss) for loss in losses)
        except (ValueError, KeyError, TypeError, OverflowError):
            raise InvalidInput(f"{path}, line {number}: not a row of a landscape; choose another --output") from None
        if given != key:
            continue
        if not (isinstance(place, int) and 0 <= place < count and len(values) == width):
            raise InvalidInput(f"{path}, line {number}: not a row of this landscape; choose another --output")
        found[place] = values
    return found


def as_tensor(rows: Mapping[int, tuple[float, ...]]) -> torch.Tensor:
    """The losses [rows, points], NaN where they are not finite."""
    return torch.tensor([rows[place] for place in sorted(rows)], dtype=torch.float64)
