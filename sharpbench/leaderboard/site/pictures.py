"""The pictures of the site as places of marks, which a template draws as SVG in the colours of the page."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

from sharpbench.analysis.headline import Headline
from sharpbench.analysis.row_ranks import find_told_apart
from sharpbench.analysis.scores import Score
from sharpbench.analysis.statistics import Tau, arrange_lanes, join_names
from sharpbench.leaderboard.board import Board
from sharpbench.leaderboard.evidence import Evidence, ranking_statistic
from sharpbench.report.format import format_number, format_tau, plain_text
from sharpbench.report.plots import pareto_front

WIDTH = 460.0
"""Of a picture, in units of its view box, in which text is 12 high."""
ROW_HEIGHT, TOP, BOTTOM = 20.0, 8.0, 40.0
NAME_WIDTH, BAR_WIDTH, CHAR_WIDTH = 196.0, 7.0, 6.6
MAX_NAME_CHARS = 28
COST_HEIGHT, COST_LEFT, COST_RIGHT = 320.0, 52.0, 444.0
MAX_LABEL_CHARS = 28
NEAR_LABEL, MAX_LABEL_SHIFT = 18, 140
"""Shifts of a label: up to the first it needs no line to its mark."""
TAU_TICKS = (-1.0, -0.5, 0.0, 0.5, 1.0)
Runs = Sequence[tuple[int, int]]
"""First and last index of runs of rows."""
MIN_DECADES = 0.5
"""The least length of the axis of costs."""


@dataclass(frozen=True, slots=True)
class IntervalRow:
    """One tau with its interval: the places of mark and line; `state` is how the mark is filled."""

    name: str
    y: float
    x: float
    low: float | None
    high: float | None
    state: str
    text: str


@dataclass(frozen=True, slots=True)
class IntervalPicture:
    """Tau with intervals, one row per measure, and bars that join measures which cannot be told apart.

    Args:
        bars: x, upper and lower end of each bar.
        left_out: The number of measures that the picture does not show.
    """

    title: str
    axis: str
    height: float
    ticks: tuple[tuple[str, float], ...]
    rows: tuple[IntervalRow, ...]
    bars: tuple[tuple[float, float, float], ...]
    left_out: int

    @property
    def names_end(self) -> float:
        """The right end of the names."""
        return NAME_WIDTH - 8

    @property
    def middle(self) -> float:
        """The middle of the axis."""
        return (self.ticks[0][1] + self.ticks[-1][1]) / 2


def draw_intervals(board: Board, most: int | None = None) -> IntervalPicture:
    """The measures of a board in the order of their tau, the first `most`, and the baselines below."""
    known = [score for score in board.scores if ranking_statistic(score).value is not None and not score.partial]
    measures = sorted((score for score in known if score.kind == "measure"), key=_descending)
    shown = measures[:most]
    baselines = sorted((score for score in known if score.kind == "baseline"), key=_descending)
    bars = _join_rows(board, shown)
    right = _right_end(bars)
    rows = tuple(_interval_row(score, index, right) for index, score in enumerate([*shown, *baselines]))
    within = board.scores[0].ranked_by == "within"
    return IntervalPicture(
        title=plain_text(board.title, 120),
        axis="Kendall's tau with the gap, within cells" if within else "Kendall's tau with the gap, all networks",
        height=TOP + ROW_HEIGHT * len(rows) + BOTTOM,
        ticks=tuple((f"{tick:g}", _tau_place(tick, right)) for tick in TAU_TICKS),
        rows=rows,
        bars=_place_bars(bars, right),
        left_out=len(measures) - len(shown),
    )


def draw_scores(headline: Headline, baselines: Collection[str]) -> IntervalPicture:
    """The headline scores that exist, the highest first; the axis ends at the quarter above all intervals."""
    known = headline.known
    ends = [end for score in known if (found := score.tau.interval) is not None for end in (found.low, found.high)]
    right = _right_end(headline.joined)
    reach = math.ceil(4 * max(map(abs, ends), default=1.0)) / 4
    return IntervalPicture(
        title=f"{len(headline.entering)} populations",
        axis="headline score: mean Psi",
        height=TOP + ROW_HEIGHT * len(known) + BOTTOM,
        ticks=tuple((f"{tick * reach:g}", _tau_place(tick, right)) for tick in TAU_TICKS),
        rows=tuple(
            _place_interval(
                (score.name, "score", score.name in baselines),
                score.tau,
                index,
                lambda value: _tau_place(value / reach, right),
            )
            for index, score in enumerate(known)
        ),
        bars=_place_bars(headline.joined, right),
        left_out=len(headline.scores) - len(known),
    )


def _descending(score: Score) -> tuple[float, str]:
    return -(ranking_statistic(score).value or 0.0), score.name


def _row_place(index: int) -> float:
    return TOP + ROW_HEIGHT * (index + 0.5)


def _tau_place(tau: float, right: float) -> float:
    return round(NAME_WIDTH + (tau + 1) / 2 * (right - NAME_WIDTH), 1)


def _interval_row(score: Score, index: int, right: float) -> IntervalRow:
    what = score.name, "tau", score.kind == "baseline"
    return _place_interval(what, ranking_statistic(score), index, lambda value: _tau_place(value, right))


def _place_interval(what: tuple[str, str, bool], tau: Tau, index: int, place: Callable[[float], float]) -> IntervalRow:
    """A row of a picture; what: its name, what its number is called, and whether it is a baseline."""
    name, kind, baseline = what
    above = tau.interval is not None and tau.interval.low > 0
    return IntervalRow(
        name=plain_text(name, MAX_NAME_CHARS),
        y=_row_place(index),
        x=place(tau.value or 0.0),
        low=None if tau.interval is None else place(tau.interval.low),
        high=None if tau.interval is None else place(tau.interval.high),
        state="baseline" if baseline else "above" if above else "unclear",
        text=f"{plain_text(name, 80)}: {kind} {format_tau(tau)}",
    )


def _join_rows(board: Board, shown: Sequence[Score]) -> Runs:
    """The runs of rows that are not told apart, see `join_names`."""
    names = {(score.label, score.setting): score.name for score in board.measured if score.rank is not None}
    apart = find_told_apart(board.population, names, board.scores[0].ranked_by) if len(names) > 1 else frozenset()
    return join_names([None if score.rank is None else score.name for score in shown], apart)


def _right_end(runs: Runs) -> float:
    """The right end of the axis, left of the bars of these runs."""
    return WIDTH - 12 - BAR_WIDTH * (2 + max(arrange_lanes(runs), default=-1))


def _place_bars(runs: Runs, right: float) -> tuple[tuple[float, float, float], ...]:
    """x, upper and lower end of the bar of each run of rows."""
    return tuple(
        (right + 10 + BAR_WIDTH * lane, _row_place(first) - 5, _row_place(last) + 5)
        for lane, (first, last) in zip(arrange_lanes(runs), runs, strict=True)
    )


@dataclass(frozen=True, slots=True)
class CostLabel:
    """A name next to a mark: its place, and where a line to the mark ends if the name is too far to need none."""

    name: str
    x: float
    y: float
    anchor: str
    line_end: float | None


@dataclass(frozen=True, slots=True)
class CostMark:
    """One measure: its place, and its name if it is on the front."""

    x: float
    y: float
    best: bool
    text: str
    label: CostLabel | None


@dataclass(frozen=True, slots=True)
class CostPicture:
    """Tau against cost, and the line of the measures that no cheaper one reaches."""

    title: str
    axis: str
    height: float
    x_ticks: tuple[tuple[str, float], ...]
    y_ticks: tuple[tuple[str, float], ...]
    line: str
    marks: tuple[CostMark, ...]


def draw_costs(found: Sequence[Evidence]) -> CostPicture | None:
    """Tau against cost of the evidence of one board; None where fewer than two measures have a cost there."""
    known = [one for one in found if one.cost and one.tau.value is not None and not one.score.partial]
    if len(known) < 2:
        return None
    front = pareto_front(known, lambda one: (one.cost or 0.0, -(one.tau.value or 0.0)))
    logs = [math.log10(one.cost or 1.0) for one in known]
    middle, half = (min(logs) + max(logs)) / 2, max(max(logs) - min(logs), MIN_DECADES) * 0.56
    taus = [one.tau.value or 0.0 for one in known]
    low, high = math.floor(min(*taus, 0.0) * 5) / 5, math.ceil(max(*taus, 0.2) * 5) / 5

    def across(cost: float) -> float:
        return round(COST_LEFT + (math.log10(cost) - middle + half) / (2 * half) * (COST_RIGHT - COST_LEFT), 1)

    def down(tau: float) -> float:
        return round(COST_HEIGHT - BOTTOM - (tau - low) / (high - low) * (COST_HEIGHT - BOTTOM - 2 * TOP), 1)

    places = [(across(one.cost or 1.0), down(one.tau.value or 0.0)) for one in known]
    labels = place_labels(known, front, places)
    marks = tuple(
        CostMark(
            x,
            y,
            one in front,
            f"{_short(one, 80)}: {format_number(one.cost)} gradients, tau {format_tau(one.tau)}",
            labels.get(index),
        )
        for index, (one, (x, y)) in enumerate(zip(known, places, strict=True))
    )
    steps = [(across(one.cost or 1.0), down(one.tau.value or 0.0)) for one in front]
    decades = range(math.ceil(middle - half), math.floor(middle + half) + 1)
    board, within = found[0].board, found[0].score.ranked_by == "within"
    return CostPicture(
        title=plain_text(board.title, 120),
        axis="tau within cells" if within else "tau, all networks",
        height=COST_HEIGHT,
        x_ticks=tuple((f"{10.0**power:g}", across(10.0**power)) for power in decades),
        y_ticks=tuple((f"{step / 5:g}", down(step / 5)) for step in range(round(low * 5), round(high * 5) + 1)),
        line=_step_line(steps),
        marks=marks,
    )


def _short(one: Evidence, length: int) -> str:
    return plain_text(one.score.name, length)


def _step_line(steps: Sequence[tuple[float, float]]) -> str:
    """A path that keeps its height until the next step, and to the right end."""
    path = f"M{steps[0][0]} {steps[0][1]}"
    return path + "".join(f"H{x}V{y}" for x, y in steps[1:]) + f"H{COST_RIGHT}"


def place_labels(
    known: Sequence[Evidence], front: Sequence[Evidence], places: Sequence[tuple[float, float]]
) -> dict[int, CostLabel]:
    """Index -> label of each measure of the front, where it covers no mark and no other label."""
    taken = [(x - 6, y - 6, x + 6, y + 6) for x, y in places]
    found: dict[int, CostLabel] = {}
    for index, one in enumerate(known):
        if one not in front:
            continue
        name, (x, y) = _short(one, MAX_LABEL_CHARS), places[index]
        long = CHAR_WIDTH * len(name)
        for anchor, left, shift in _label_shifts(long):
            box = (x + left, y + shift - 11, x + left + long, y + shift + 3)
            if box[0] < COST_LEFT or box[2] > WIDTH or box[1] < 0 or box[3] > COST_HEIGHT - BOTTOM:
                continue
            if all(box[2] < other[0] or box[0] > other[2] or box[3] < other[1] or box[1] > other[3] for other in taken):
                taken.append(box)
                line_end = None if -NEAR_LABEL <= shift <= NEAR_LABEL else box[1] if shift > 0 else box[3]
                right = long if anchor == "end" else 0
                found[index] = CostLabel(name, round(x + left + right, 1), y + shift, anchor, line_end)
                break
    return found


def _label_shifts(long: float) -> Iterator[tuple[str, float, float]]:
    """Anchor, left end and shift down of a label of that length, next to its mark first, then ever further away."""
    yield from (("start", 9, 4), ("end", -9 - long, 4))
    for shift in range(0, MAX_LABEL_SHIFT, 14):
        for down in (-10 - shift, NEAR_LABEL + shift):
            yield from (("start", 2 if not shift else -4, down), ("end", -long if not shift else 4 - long, down))
