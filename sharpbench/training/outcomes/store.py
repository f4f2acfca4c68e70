"""The outcomes of trained networks on disk: each is found once, and kept next to the network in the cache."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sharpbench.core.fields import is_finite
from sharpbench.datasets.dataset import Data, content_sha256
from sharpbench.errors import InvalidInput
from sharpbench.files import atomic_write, check_plain_file
from sharpbench.training.examples import initial_module
from sharpbench.training.network import TrainedNetwork
from sharpbench.training.outcomes.catalogue import OUTCOMES
from sharpbench.training.outcomes.outcome import JudgedNetwork

FOLDER = "outcomes"
"""The folder in the cache, with one JSON file per network."""


class OutcomeStore:
    """The outcomes of networks in a cache.

    A stored value counts for the weights that it was found at, and for the version of its outcome. A file that is
    damaged counts as missing.
    """

    def __init__(self, cache: Path) -> None:
        """Args: the folder of the cache."""
        self._folder = cache / FOLDER

    def obtain(
        self, key: str, network: TrainedNetwork, data: Data, names: Sequence[str], *, device: str
    ) -> dict[str, float | None]:
        """The outcomes `names` of a network, those that are not stored found and stored.

        Args:
            key: the key of the network in the zoo.
            network: the trained network.
            data: its data set.
            names: of the catalogue.
            device: where outcomes are found.

        Returns:
            The outcomes by name, in the order of `names`; None for one that is not finite.

        Raises:
            InvalidInput: where the cache cannot be written.
        """
        weights = content_sha256(network.weights[name] for name in sorted(network.weights))
        values = self._read(key, weights)
        if missing := [name for name in names if name not in values]:
            judged = judge_network(network, data, device)
            found = {name: OUTCOMES[name].find(judged) for name in missing}
            values |= {name: value if math.isfinite(value) else None for name, value in found.items()}
            self._write(key, weights, values)
        return {name: values[name] for name in names}

    def lacks(self, key: str, names: Sequence[str]) -> bool:
        """Whether some outcome of the network is not stored for any weights."""
        found = self._read(key, None)
        return any(name not in found for name in names)

    def _read(self, key: str, weights: str | None) -> dict[str, float | None]:
        """The stored values that still count; weights: the hash of those of the network, None for any."""
        path = self._folder / f"{key}.json"
        try:
            check_plain_file(path)
            stored: Any = json.loads(path.read_text(encoding="utf-8"))
            if weights is not None and stored["weights"] != weights:
                return {}
            current = {name: each.version for name, each in OUTCOMES.items()}
            return {
                name: each["value"]
                for name, each in stored["outcomes"].items()
                if each["version"] == current.get(name) and (each["value"] is None or is_finite(each["value"]))
            }
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return {}

    def _write(self, key: str, weights: str, values: dict[str, float | None]) -> None:
        rows = {name: {"version": OUTCOMES[name].version, "value": value} for name, value in values.items()}
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            text = json.dumps({"weights": weights, "outcomes": rows}, indent=1, allow_nan=False)
            atomic_write(self._folder / f"{key}.json", text)
        except OSError as error:
            raise InvalidInput(
                f"cannot write {self._folder}: {error.strerror}; choose another folder with --cache-dir"
            ) from None


def judge_network(network: TrainedNetwork, data: Data, device: str) -> JudgedNetwork:
    """The network in eval mode, and its data, on the device."""
    module = initial_module(network.recipe, data.shape, data.classes)
    module.load_state_dict(network.weights)
    return JudgedNetwork(
        module=module.to(device).eval(),
        recipe=network.recipe,
        result=network.result,
        data=Data(
            train_inputs=data.train_inputs.to(device),
            train_targets=data.train_targets.to(device),
            test_inputs=data.test_inputs.to(device),
            test_targets=data.test_targets.to(device),
            classes=data.classes,
            images=data.images,
        ),
        inputs=network.inputs.to(device),
        targets=network.targets.to(device),
    )
