"""What the boards say of each measure where someone has to choose one: does it predict the gap, what does it cost."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sharpbench.analysis.scores import Score
from sharpbench.analysis.statistics import Tau
from sharpbench.core.measure import REWRITE_KINDS
from sharpbench.leaderboard.board import Board, Leaderboard
from sharpbench.report.board_verdict import CRITERIA
from sharpbench.report.format import format_factor, format_tau


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """One measure on the networks of one board.

    Args:
        index: The number of the board.
        measure: The name without hyperparameters.
        cost: In gradients, as timed without other work: on this board, else the largest of the other boards. None
            where it was not timed.
        invariant: The kinds of rewrites of the same function that left the value on this board unchanged.
    """

    board: Board
    index: int
    score: Score
    measure: str
    cost: float | None
    invariant: tuple[str, ...]

    @property
    def tau(self) -> Tau:
        """The tau by which the board ranks."""
        return ranking_statistic(self.score)

    @property
    def predicts(self) -> bool:
        """Whether it has a value on every network that counts, and the interval of its tau is above 0."""
        return not self.score.partial and has_positive_interval(self.tau)


def has_positive_interval(tau: Tau) -> bool:
    """Whether it has an interval, above 0."""
    return tau.interval is not None and tau.interval.low > 0


def ranking_statistic(score: Score) -> Tau:
    """The tau by which the board of `score` ranks, with its interval."""
    return score.within if score.ranked_by == "within" else score.marginal


def list_evidence(leaderboard: Leaderboard) -> tuple[Evidence, ...]:
    """The evidence of every measure on every board that has correlations, board by board, highest tau first."""
    costs: dict[str, list[float]] = {}
    for board in leaderboard.boards:
        for score in board.measured:
            if board.entry is None and score.gradients is not None and not score.only_contended:
                costs.setdefault(score.label, []).append(score.gradients)
    found = []
    for index, board in enumerate(leaderboard.boards):
        if board.judged:
            each = [_make_evidence(board, index, score, costs.get(score.label, [])) for score in board.measured]
            found += sorted(each, key=lambda one: (-_order(one), one.score.name))
    return tuple(found)


def _make_evidence(board: Board, index: int, score: Score, elsewhere: Sequence[float]) -> Evidence:
    timed = score.gradients is not None and not score.only_contended and board.entry is None
    cost = score.gradients if timed else max(elsewhere, default=None)
    kept = tuple(kind for kind in REWRITE_KINDS if format_factor(score.invariance, kind) == "1")
    return Evidence(board, index, score, board.measure(score), cost, kept)


def _order(one: Evidence) -> float:
    return -2.0 if one.tau.value is None else one.tau.value


def choose_cheapest(found: Iterable[Evidence]) -> Evidence | None:
    """The cheapest of the measures that predict the gap and were timed; of equal ones that with the highest tau."""
    known = [one for one in found if one.predicts and one.cost is not None]
    return min(known, key=lambda one: (one.cost or 0.0, -_order(one), one.score.name), default=None)


def choose_strongest(found: Iterable[Evidence]) -> Evidence | None:
    """The measure with the highest tau, of those that predict the gap."""
    return max((one for one in found if one.predicts), key=_order, default=None)


def describe_result(board: Board, score: Score) -> str:
    """One sentence: how the measure orders the networks of the board, by the tau that ranks there."""
    tau, by = ranking_statistic(score), CRITERIA[score.ranked_by]
    if tau.value is None:
        return f"No {by}: {tau.reason or 'it has no value on enough networks'}."
    ranked = sum(each.rank is not None for each in board.measured)
    place = f", rank {score.rank} of {ranked}" if score.rank is not None else ", not ranked"
    shown = f"{by} {format_tau(tau)}{place}"
    if tau.interval is None:
        return f"{shown[0].upper()}{shown[1:]}; without an interval nothing follows."
    if tau.interval.low > 0:
        return f"It orders the networks as the gap does: {shown}."
    if tau.interval.high < 0:
        return f"It orders the networks the wrong way round: {shown}."
    return f"It cannot be told from chance: {shown}."
