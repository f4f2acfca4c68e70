"""Catalogue: the replays by name."""

from __future__ import annotations

from sharpbench.errors import InvalidInput, near, short
from sharpbench.replays.asam_2021 import Asam2021
from sharpbench.replays.friendly_sam_2024 import FriendlySam2024
from sharpbench.replays.minimum_sharpness_2021.replay import MinimumSharpness2021
from sharpbench.replays.replay import Replay

REPLAYS: tuple[Replay, ...] = (MinimumSharpness2021(), Asam2021(), FriendlySam2024())


def parse_replay(name: str) -> Replay:
    """The replay of that name."""
    known = {replay.name: replay for replay in REPLAYS}
    if name not in known:
        raise InvalidInput(f"unknown replay '{short(name)}'; {near(name, known) or 'one of ' + ', '.join(known)}")
    return known[name]


def scale_of(replay: Replay, wanted: str | None) -> str:
    """The scale that is wanted, by default the replay's first."""
    if wanted is not None and wanted not in replay.scales:
        hint = near(wanted, replay.scales) or f"it has {', '.join(replay.scales)}"
        raise InvalidInput(f"replay '{replay.name}' has no scale '{short(wanted)}'; {hint}")
    return wanted or replay.scales[0]
