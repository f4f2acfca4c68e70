"""Zoo: trained networks on disk, each a folder of safetensors and JSON under the hash of its recipe.

Nothing here imports torch before weights are asked for, so that what there is can be listed at once.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sharpbench.core.fields import Scalar
from sharpbench.errors import InvalidInput
from sharpbench.files import atomic_folder, atomic_write

if TYPE_CHECKING:
    from torch import Tensor

WEIGHTS, RESULT = "weights.safetensors", "result.json"
FORMAT = 2
"""Raise when what is stored, or how networks are trained, changes: older entries are then trained anew."""


@dataclass(frozen=True, slots=True)
class Origin:
    """What a network came of: the row of its recipe, the hash of the data's content, the device kind."""

    recipe: Mapping[str, Scalar]
    data: str
    device: str

    def row(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {"recipe": dict(self.recipe), "data": self.data, "device": self.device}


@dataclass(frozen=True, slots=True)
class ZooEntry:
    """What the JSON of an entry says. It is believed; the hash is looked at when weights are read.

    origin: None where whoever stored the network did not say. size: bytes of the weights.
    """

    key: str
    origin: Origin | None
    result: Mapping[str, Scalar]
    size: int


class Zoo:
    """The trained networks under one folder; on another `shelf` of it, the checkpoints of trainings.

    An entry appears by one rename when it is complete, and is believed only if weights, result and origin have the
    hash that its JSON states: an interrupted training or a half-written file is never taken for a result.
    """

    def __init__(self, folder: Path, *, shelf: str = "networks") -> None:
        self.folder = folder / shelf

    def load(self, key: str) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Weights and result of the entry `key`, or None where there is none that can be believed."""
        import safetensors.torch

        found = self._verified(key)
        if found is None:
            return None
        packed, stored = found
        try:
            return safetensors.torch.load(packed), stored["result"]
        except (ValueError, KeyError, TypeError, safetensors.SafetensorError):
            return None

    def packed(self, key: str) -> bytes | None:
        """The weights of the entry as a safetensors file holds them, or None where it cannot be believed."""
        found = self._verified(key)
        return None if found is None else found[0]

    def entries(self) -> tuple[list[ZooEntry], int]:
        """All entries by their keys, weights unread; and how many there are besides, of other formats or damaged."""
        try:
            keys = sorted(path.name for path in self.folder.iterdir() if not path.name.startswith("."))
        except (FileNotFoundError, NotADirectoryError):
            return [], 0
        except OSError as error:
            raise InvalidInput(
                f"cannot read {self.folder}: {error.strerror}; choose another folder with --cache-dir"
            ) from None
        found = [self._entry(key) for key in keys]
        return [each for each in found if each is not None], sum(each is None for each in found)

    def _entry(self, key: str) -> ZooEntry | None:
        try:
            stored = self._stored(key)
            origin = None if stored["origin"] is None else Origin(**stored["origin"])
            described = isinstance(stored["result"], dict) and (origin is None or isinstance(origin.recipe, dict))
            if stored["format"] != FORMAT or not described:
                return None
            return ZooEntry(key, origin, stored["result"], (self.folder / key / WEIGHTS).stat().st_size)
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None

    def _stored(self, key: str) -> Any:
        return json.loads((self.folder / key / RESULT).read_text(encoding="utf-8"))

    def _verified(self, key: str) -> tuple[bytes, Any] | None:
        """The bytes of the weights and what the JSON says, if their hash is what it states."""
        try:
            stored = self._stored(key)
            weights = (self.folder / key / WEIGHTS).read_bytes()
            if stored["format"] != FORMAT or stored["sha256"] != _hash_entry(
                weights, stored["result"], stored["origin"]
            ):
                return None
            return weights, stored
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None

    def save(
        self, key: str, weights: Mapping[str, Tensor], result: Mapping[str, Any], *, origin: Origin | None = None
    ) -> None:
        """Store an entry; one that stands there already, which `load` did not believe, is replaced.

        Of two processes that save the same entry at the same time either may win: they hold the same network.
        """
        import safetensors.torch

        packed = safetensors.torch.save({name: value.clone().contiguous() for name, value in weights.items()})
        said = {"origin": None if origin is None else origin.row(), "result": dict(result)}
        stored = {"format": FORMAT, "sha256": _hash_entry(packed, said["result"], said["origin"]), **said}
        try:
            with atomic_folder(self.folder / key, replace=True) as draft:
                atomic_write(draft / WEIGHTS, packed, durable=True)
                atomic_write(draft / RESULT, json.dumps(stored, indent=1), durable=True)
        except OSError as error:
            if self.load(key) is None:
                raise InvalidInput(
                    f"cannot write {self.folder}: {error.strerror}; choose another folder with --cache-dir"
                ) from None

    def remove(self, key: str) -> None:
        """Remove the entry, if there is one."""
        shutil.rmtree(self.folder / key, ignore_errors=True)


def _hash_entry(weights: bytes, result: object, origin: object) -> str:
    """The hash that vouches for an entry: of its weights, its result and its origin."""
    return hashlib.sha256(weights + json.dumps([result, origin], sort_keys=True).encode()).hexdigest()
