"""Verdict: who is the fastest, computed from results and said in a line."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from sharpbench.comparison.result import TARGET, Ratio, Result, Standing, ratio


def verdicts(standing: Standing) -> list[str]:
    """Of the exact ones, and of all that reach the target error, ours against the best of the others."""
    if all(each.error is None for each in standing.results):
        return ["Who is right cannot be told: no error is known."]
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
    others = [pair for pair in known if not pair[1].ours]
    if ours is None:
        best = min(others, key=lambda pair: pair[0], default=None)
        return (
            f"None of ours is {what}: none has a value that is right{'' if best is None else f'; {_best(best)} has'}."
        )
    if not others:
        return f"Ours ({ours[1].name}) is {what}: no other contestant is right."
    longer, other = min(((_longer(ours, pair), pair) for pair in others), key=lambda each: each[0].value)
    few = "" if longer.interval is not None else _why(ours, other)
    low, high = longer.interval or (longer.value, longer.value)
    if low > 1:
        return f"Ours ({ours[1].name}) is {what}: the next, {_best(other)}, takes {_times(longer)} its time{few}."
    if high >= 1 and longer.interval is not None:
        return (
            f"Whether ours ({ours[1].name}) is {what} cannot be told: {_best(other)} takes {_times(longer)} its time."
        )
    return f"Ours ({ours[1].name}) is NOT {what}: {_best(other)} takes {_times(longer)} its time{few}."


def _longer(ours: tuple[float, Result], other: tuple[float, Result]) -> Ratio:
    """The other's time over ours; with an interval where neither is extrapolated, as that of an error is unknown."""
    if any(seconds > each.seconds for seconds, each in (ours, other)):
        return Ratio(other[0] / ours[0], None)
    return ratio(other[1], ours[1])


def _why(ours: tuple[float, Result], other: tuple[float, Result]) -> str:
    """Why a ratio has no interval."""
    if any(seconds > each.seconds for seconds, each in (ours, other)):
        return ""  # which `_best` says
    count = len(ours[1].timed.keys() & other[1].timed.keys())
    return f"; too few rounds in common for an interval, {count}"


def _best(pair: tuple[float, Result]) -> str:
    return pair[1].name + (", extrapolated" if pair[0] > pair[1].seconds else "")


def _times(longer: Ratio) -> str:
    """The ratio, and its interval in brackets."""
    text = f"{_digits(longer.value)}x"
    if longer.interval is None:
        return text
    return f"{text} ({' to '.join(map(_digits, longer.interval))})"


def _digits(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2g}" if value >= 10 else f"{value:.2f}"
