"""What a landscape is, and what its plane holds of the trace, in words."""

from __future__ import annotations

from sharpbench.landscapes.loss_grid import LossGrid

BALANCES = {
    "unit": "at the network of the same function whose trace is least over rescalings of single units",
    "layer": "at the network of the same function whose trace is least over rescalings of layers",
    "none": "at the weights as they are, so that a rescaled copy of the network may give another picture",
}


def describe_landscape(found: LossGrid) -> list[str]:
    """What the landscape is, in lines of plain text."""
    losses = found.losses[found.losses.isfinite()]
    points = " x ".join(str(len(axis)) for axis in found.grid)
    span = f"{losses.min():.4g} to {losses.max():.4g}" if len(losses) else "not finite"
    lines = [
        f"Loss on {points} points, mean over {found.examples:,} examples, from {span}.",
        f"Directions: {found.options.directions}, drawn {BALANCES[found.options.balance]}.",
    ]
    lost = found.losses.numel() - len(losses)
    if lost:
        lines.append(f"The loss is not finite at {lost} points, which are left empty.")
    share = found.share
    if share is not None:
        what = "plane" if found.options.dimensions == 2 else "line"
        each = "not stated, as the trace or the curvature along the directions is not above 0"
        if share.share is not None:
            each = f"{_percent(share.share)} of it"
        lines.append(
            f"Trace of the Hessian {share.trace:.4g}; the {what} holds {share.held:.4g}, {each}. A uniformly random "
            f"{what} holds {_percent(share.expected)} on average."
        )
    lines += [f"{fact[:1].upper()}{fact[1:]}." for fact in found.facts]
    if len(found.marks) > 1 and max(mark.distance for mark in found.marks) > 0:
        lines.append(
            f"Largest distance of a checkpoint from the plane {max(mark.distance for mark in found.marks):.3g}."
        )
    return lines


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"
