"""Verdict: who is the fastest, computed from results and said in a line."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from sharpbench.comparison.result import TARGET, Result, Standing


def verdicts(standing: Standing) -> list[str]:
    """Of the exact ones, and of all that reach the target error, ours against the best of the others."""
    if standing.quantity == "top-eigenvalue":  # all of them iterate
        right = [each for each in standing.results if each.error is not None and each.error <= TARGET]
        return [_said("the fastest that is right to 1 %", right, lambda each: each.seconds)]
    exact = [each for each in standing.results if each.exact]
    sampled = [each for each in standing.results if each.ours or each.stochastic]
    return [
        _said("the fastest exact one", exact, lambda each: each.seconds),
        _said("the fastest to 1 % error, against the sampled ones", sampled, lambda each: each.to_target),
    ]


def _said(what: str, results: Iterable[Result], seconds: Callable[[Result], float | None]) -> str:
    known = [(taken, each) for each in results if (taken := seconds(each)) is not None]
    ours = min((pair for pair in known if pair[1].ours), key=lambda pair: pair[0], default=None)
    other = min((pair for pair in known if not pair[1].ours), key=lambda pair: pair[0], default=None)
    if ours is None:
        return f"None of ours is {what}: none is right{'' if other is None else f'; {_best(other)} is'}."
    if other is None:
        return f"Ours ({ours[1].name}) is {what}: no other contestant is right."
    ratio = other[0] / ours[0]
    if ratio > 1:
        return f"Ours ({ours[1].name}) is {what}: the next, {_best(other)}, takes {_times(ratio)} its time."
    return f"Ours ({ours[1].name}) is NOT {what}: {_best(other)} takes {_times(ratio)} its time."


def _best(pair: tuple[float, Result]) -> str:
    return pair[1].name + (", extrapolated" if pair[0] > pair[1].seconds else "")


def _times(ratio: float) -> str:
    return f"{ratio:,.0f}x" if ratio >= 100 else f"{ratio:.2g}x" if ratio >= 10 else f"{ratio:.2f}x"
