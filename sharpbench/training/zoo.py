"""Trained networks on disk, each a folder of safetensors and JSON named by the network's key.

torch is imported only to read or write weights, so that entries are listed quickly.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sharpbench.core.curve import Curve, curve_error
from sharpbench.core.fields import Scalar
from sharpbench.errors import InvalidInput
from sharpbench.files import atomic_folder, atomic_write, check_plain_file, content_hash

if TYPE_CHECKING:
    from torch import Tensor

WEIGHTS, RESULT = "weights.safetensors", "result.json"
FORMAT = 2
"""The version of the entries. Raise it when their content or the training changes: older entries are then unused."""


@dataclass(frozen=True, slots=True)
class Origin:
    """What determined a network: the row of its recipe, the SHA-256 of the data's content, the kind of device."""

    recipe: Mapping[str, Scalar]
    data: str
    device: str

    @property
    def key(self) -> str:
        """The key of the network in the zoo: a SHA-256 of all fields."""
        return content_hash({"recipe": content_hash(dict(self.recipe)), "data": self.data, "device": self.device})

    def row(self) -> dict[str, Any]:
        """All fields as a JSON object."""
        return {"recipe": dict(self.recipe), "data": self.data, "device": self.device}


@dataclass(frozen=True, slots=True)
class ZooEntry:
    """The JSON of an entry, not verified: the hash is checked when the weights are read.

    Attributes:
        key: the key of the network (see `network_key`).
        origin: what determined the network; None where it was stored without.
        result: the row of its TrainingResult.
        size: bytes of the weights.
    """

    key: str
    origin: Origin | None
    result: Mapping[str, Scalar]
    size: int


class Zoo:
    """The trained networks in the subfolder `shelf` of a folder; another shelf holds the checkpoints of trainings.

    An entry appears by one rename when it is complete. It is used only if weights, result and origin have the hash
    that its JSON states, so an interrupted training or a damaged file never counts as a result.
    """

    def __init__(self, folder: Path, *, shelf: str = "networks") -> None:
        self.folder = folder / shelf

    def holds(self, key: str) -> bool:
        """Whether there is an entry `key` that can be reached; it is not read."""
        return os.path.exists(self.folder / key / RESULT)  # False where the folder of another user is closed

    def load(self, key: str) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Weights and result of the entry `key`, or None where it is missing or damaged."""
        import safetensors.torch

        found = self._read_verified(key)
        if found is None:
            return None
        packed, stored = found
        try:
            return safetensors.torch.load(packed), stored["result"]
        except (ValueError, KeyError, TypeError, safetensors.SafetensorError):
            return None

    def read_packed(self, key: str) -> bytes | None:
        """The weights of the entry as the bytes of a safetensors file, or None where it is missing or damaged."""
        found = self._read_verified(key)
        return None if found is None else found[0]

    def read_curve(self, key: str) -> Curve:
        """The training curve of the entry; empty where the entry has none, as those of earlier versions."""
        try:
            found = self._read_json(key).get("curve", {})
            return {} if curve_error(found) else dict(found)
        except (OSError, ValueError, AttributeError, RecursionError):
            return {}

    def entries(self) -> tuple[list[ZooEntry], int]:
        """All entries in the order of their keys, weights unread; and the number of damaged or outdated entries.

        Raises InvalidInput where the folder cannot be read.
        """
        try:
            keys = sorted(path.name for path in self.folder.iterdir() if not path.name.startswith("."))
        except FileNotFoundError:  # nothing was trained yet
            return [], 0
        except OSError as error:
            raise InvalidInput(
                f"cannot read {self.folder}: {error.strerror}; choose another folder with --cache-dir"
            ) from None
        found = [self._read_entry(key) for key in keys]
        return [each for each in found if each is not None], sum(each is None for each in found)

    def _read_entry(self, key: str) -> ZooEntry | None:
        try:
            stored = self._read_json(key)
            origin = None if stored["origin"] is None else Origin(**stored["origin"])
            described = isinstance(stored["result"], dict) and (origin is None or isinstance(origin.recipe, dict))
            if stored["format"] != FORMAT or not described:
                return None
            return ZooEntry(key, origin, stored["result"], (self.folder / key / WEIGHTS).stat().st_size)
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None

    def _read_json(self, key: str) -> Any:
        path = self.folder / key / RESULT
        check_plain_file(path)
        return json.loads(path.read_text(encoding="utf-8"))

    def _read_verified(self, key: str) -> tuple[bytes, Any] | None:
        """The bytes of the weights and the entry's JSON, or None where their hash is not the stated one."""
        try:
            stored = self._read_json(key)
            path = self.folder / key / WEIGHTS
            check_plain_file(path)
            weights = path.read_bytes()
            if stored["format"] != FORMAT or stored["sha256"] != _hash_entry(
                weights, stored["result"], stored["origin"]
            ):
                return None
            if stored["origin"] is not None and Origin(**stored["origin"]).key != key:
                return None  # copied from under another key
            return weights, stored
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None

    def check_writable(self) -> None:
        """Raise InvalidInput where the folder cannot be written, which is better known before a training than after."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.folder):
                pass
        except OSError as error:
            raise InvalidInput(
                f"cannot write {self.folder}: {error.strerror}; choose another folder with --cache-dir"
            ) from None

    def save(
        self,
        key: str,
        weights: Mapping[str, Tensor],
        result: Mapping[str, Any],
        *,
        origin: Origin | None = None,
        curve: Curve | None = None,
    ) -> None:
        """Store an entry, replacing one with the same key.

        If two processes save the same entry at the same time, either may win: they hold the same network.

        Args:
            key: the key of the network (see `network_key`).
            weights: the state dict.
            result: a JSON object, for networks the row of their TrainingResult.
            origin: what determined the network.
            curve: its training curve.

        Raises:
            InvalidInput: where the folder cannot be written.
        """
        import safetensors.torch

        packed = safetensors.torch.save({name: value.clone().contiguous() for name, value in weights.items()})
        content = {"origin": None if origin is None else origin.row(), "result": dict(result)}
        stored = {"format": FORMAT, "sha256": _hash_entry(packed, content["result"], content["origin"]), **content}
        if curve:  # outside the hash, so that earlier versions use the entry
            stored["curve"] = dict(curve)
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
    """The hash that identifies the content of an entry: of weights, result and origin."""
    return hashlib.sha256(weights + json.dumps([result, origin], sort_keys=True).encode()).hexdigest()
