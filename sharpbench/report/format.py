"""Numbers and names as readers see them, the same in the terminal, on pages and in plots."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sharpbench.analysis.scores import Score
    from sharpbench.analysis.statistics import Information, Interval, Null, Tau

MISSING = "-"


@dataclass(frozen=True, slots=True)
class OutcomeLabel:
    """The outcome that measures are judged by, as boards and figures show it.

    Args:
        name: Of the outcome.
        meaning: What it is made of, in words.
    """

    name: str = "gap"
    meaning: str = "training accuracy - test accuracy"

    @property
    def title(self) -> str:
        """The name in words."""
        return "generalization gap" if self.name == "gap" else self.name


ACCURACY_GAP = OutcomeLabel()
"""The outcome of our own networks where none is chosen."""


def format_correlation(value: float) -> str:
    """Two decimals; never -0.00."""
    return f"{round(value, 2) + 0.0:.2f}"


def format_tau(tau: Tau) -> str:
    """The value with its interval if there is one; a dash where there is no value."""
    return MISSING if tau.value is None else format_correlation(tau.value) + format_interval(tau.interval)


def format_interval(interval: Interval | None) -> str:
    """' [low, high]'; empty where there is no interval."""
    return "" if interval is None else f" [{format_correlation(interval.low)}, {format_correlation(interval.high)}]"


def format_information(found: Information) -> str:
    """K, with `n.s.` where chance explains it, else with `rev.` where measure and gap have opposite orders."""
    if found.value is None:
        return MISSING
    if found.by_chance:
        return f"{format_correlation(found.value)} n.s."
    return format_correlation(found.value) + (" rev." if found.direction < 0 else "")


def format_null(null: Null | None) -> str:
    """'0.19, chance 0.29, p 0.12 given label_noise', of the set that chance explains best."""
    if null is None:
        return MISSING
    given = f" given {', '.join(null.given)}" if null.given else ""
    return (
        f"{format_correlation(null.share)}, chance {format_correlation(null.chance)}, p {format_number(null.p)}{given}"
    )


def format_share(value: float | None) -> str:
    """Two decimals; a dash where there is no value."""
    return MISSING if value is None else format_correlation(value)


def format_number(value: float | None) -> str:
    """Three significant digits; numbers from 1000 in full."""
    if value is None:
        return MISSING
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def format_percentage(value: float | None) -> str:
    """A share in percent, three significant digits: '0.375%'; '0' for 0, a dash for None."""
    return "0" if value == 0 else MISSING if value is None else f"{format_number(100 * value)}%"


def format_error(value: float) -> str:
    """One decimal and an exponent; '0' for 0."""
    return f"{value:.1e}" if value else "0"


def format_largest_error(score: Score) -> str:
    """The largest relative error, with a star where the oracle is not the definition."""
    if score.exactness is None:
        return MISSING
    short = f"{score.exactness.largest:.0e}" if score.exactness.largest else "0"
    return short + ("" if score.exactness.oracle == "definition" else "*")


MAX_UNCHANGED_FACTOR = 1e-6
"""Distance of a factor of change from 1 that is rounding."""


def format_factor(changes: Mapping[str, float | None], kind: str) -> str:
    """The largest factor of change under a kind of rewrite: '1' for no change, 'sign' for a change of sign."""
    if kind not in changes:
        return MISSING
    value = changes[kind]
    if value is None:
        return "sign"
    return "1" if value <= 1 + MAX_UNCHANGED_FACTOR else f"{value:.3g}" if value >= 1.005 else f"1+{value - 1:.0e}"


def format_memory(size: float | None) -> str:
    """Bytes in the unit that gives a short number."""
    if size is None:
        return MISSING
    for unit in ("B", "kB", "MB", "GB"):
        if abs(size) < 999.5:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"


def format_duration(seconds: float) -> str:
    """'12 s', '3 min 20 s', '5 h 2 min', '3 d 4 h'."""
    whole = round(seconds)
    for unit, size, below, part in (("d", 86400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1)):
        if whole >= size:
            rest = whole % size // part
            return f"{whole // size} {unit}" + (f" {rest} {below}" if rest else "")
    return f"{whole} s"


def format_rank(score: Score) -> str:
    """The rank; a dash for rows without one."""
    return MISSING if score.rank is None else str(score.rank)


def plain_text(text: str, length: int) -> str:
    """`text` on one line, without control characters or marks of direction, cut to `length` characters."""
    printable = "".join(character if character.isprintable() else " " for character in text[: 4 * length])
    short = " ".join(printable.split())
    cut = len(short) > length or len(text) > 4 * length
    return short[: length - 1].rstrip() + "…" if cut else short


def format_reasons(exclusions: Mapping[str, int]) -> str:
    """'2 budget ended, 1 diverged'."""
    return ", ".join(f"{count} {reason}" for reason, count in exclusions.items())
