"""The replays by name."""

from __future__ import annotations

from sharpbench.errors import InvalidInput, shorten, suggest_names
from sharpbench.replays.asam_2021 import Asam2021
from sharpbench.replays.edge_of_stability_2021 import EdgeOfStability2021
from sharpbench.replays.friendly_sam_2024 import FriendlySam2024
from sharpbench.replays.minimum_sharpness_2021.replay import MinimumSharpness2021
from sharpbench.replays.replay import Replay
from sharpbench.replays.timm_results.replay import TimmResults

REPLAYS: tuple[Replay, ...] = (
    MinimumSharpness2021(),
    Asam2021(),
    FriendlySam2024(),
    EdgeOfStability2021(),
    TimmResults(),
)


def parse_replay(name: str) -> Replay:
    """The replay with that name.

    Raises:
        InvalidInput: for an unknown name, with the nearest known ones.

    >>> parse_replay("asam-2021").title
    'ASAM, replayed at small scale'
    """
    known = {replay.name: replay for replay in REPLAYS}
    if name not in known:
        raise InvalidInput(
            f"unknown replay '{shorten(name)}'; {suggest_names(name, known) or 'one of ' + ', '.join(known)}"
        )
    return known[name]


def parse_scale(replay: Replay, scale: str | None) -> str:
    """The scale, if the replay has it; for None the replay's first.

    Raises:
        InvalidInput: for an unknown scale, with those that the replay has.

    >>> parse_scale(parse_replay("minimum-sharpness-2021"), None)
    'archive'
    """
    if scale is not None and scale not in replay.scales:
        hint = suggest_names(scale, replay.scales) or f"it has {', '.join(replay.scales)}"
        raise InvalidInput(f"replay '{replay.name}' has no scale '{shorten(scale)}'; {hint}")
    return scale or replay.scales[0]
