"""Sentences that say which contestant is the fastest, computed from the results on one network."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from sharpbench.comparison.results import TARGET_ERROR, ContestantResult, NetworkResult, TimeRatio, paired_ratio

Timed = tuple[float, ContestantResult]
"""The seconds that count for a verdict, and the result that they belong to."""


def write_verdicts(found: NetworkResult) -> list[str]:
    """Our fastest contestant against the best other one: among exact ones, and among all that reach the target error.

    Eigenvalues are computed by iterations, so that there is one verdict for all contestants that are right to 1 %.
    """
    if all(result.error is None for result in found.results):
        return ["Who is right cannot be told: no error is known."]
    if found.quantity == "top-eigenvalue":
        right = [result for result in found.results if result.error is not None and result.error <= TARGET_ERROR]
        return [_write_verdict("the fastest that is right to 1 %", right, lambda result: result.seconds)]
    exact = [result for result in found.results if result.exact]
    sampled = [result for result in found.results if result.built_in or result.stochastic]
    return [
        _write_verdict("the fastest exact one", exact, lambda result: result.seconds),
        _write_verdict(
            "the fastest to 1 % error, against the sampled ones", sampled, lambda result: result.seconds_to_target
        ),
    ]


def _write_verdict(
    title: str, results: Iterable[ContestantResult], seconds: Callable[[ContestantResult], float | None]
) -> str:
    timed = [(taken, result) for result in results if (taken := seconds(result)) is not None]
    ours = min((pair for pair in timed if pair[1].built_in), key=lambda pair: pair[0], default=None)
    others = [pair for pair in timed if not pair[1].built_in]
    if ours is None:
        best = min(others, key=lambda pair: pair[0], default=None)
        other_has = "" if best is None else f"; {_name_text(best)} has"
        return f"None of ours is {title}: none has a value that is right{other_has}."
    if not others:
        return f"Ours ({ours[1].name}) is {title}: no other contestant is right."
    ratio, other = min(((_time_ratio(ours, pair), pair) for pair in others), key=lambda found: found[0].value)
    few_rounds = "" if ratio.interval is not None else _few_rounds_text(ours, other)
    name, takes = _name_text(other), f"takes {_ratio_text(ratio)} its time"
    low, high = ratio.interval or (ratio.value, ratio.value)
    if low > 1:
        return f"Ours ({ours[1].name}) is {title}: the next, {name}, {takes}{few_rounds}."
    if high >= 1 and ratio.interval is not None:
        return f"Whether ours ({ours[1].name}) is {title} cannot be told: {name} {takes}."
    return f"Ours ({ours[1].name}) is NOT {title}: {name} {takes}{few_rounds}."


def _time_ratio(ours: Timed, other: Timed) -> TimeRatio:
    """The other's time over ours; without an interval if one is extrapolated, as its error's interval is unknown."""
    if _is_extrapolated(ours) or _is_extrapolated(other):
        return TimeRatio(other[0] / ours[0], None)
    return paired_ratio(other[1], ours[1])


def _few_rounds_text(ours: Timed, other: Timed) -> str:
    """The reason why a ratio has no interval; empty if the name already says "extrapolated"."""
    if _is_extrapolated(ours) or _is_extrapolated(other):
        return ""
    count = len(ours[1].timed.keys() & other[1].timed.keys())
    return f"; too few rounds in common for an interval, {count}"


def _is_extrapolated(pair: Timed) -> bool:
    seconds, result = pair
    return seconds > result.seconds


def _name_text(pair: Timed) -> str:
    return pair[1].name + (", extrapolated" if _is_extrapolated(pair) else "")


def _ratio_text(ratio: TimeRatio) -> str:
    """The ratio, and its interval in brackets."""
    text = f"{_format_factor(ratio.value)}x"
    if ratio.interval is None:
        return text
    return f"{text} ({' to '.join(map(_format_factor, ratio.interval))})"


def _format_factor(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2g}" if value >= 10 else f"{value:.2f}"
