"""What the page of the four questions filters: networks, costs, invariances, outcomes, and the evidence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sharpbench.analysis.population import GAP
from sharpbench.analysis.statistics import Tau
from sharpbench.core.measure import REWRITE_KINDS
from sharpbench.leaderboard.board import Leaderboard
from sharpbench.leaderboard.evidence import Evidence, has_positive_interval, list_evidence
from sharpbench.leaderboard.site.addresses import measure_address, population_address
from sharpbench.report.board_verdict import CRITERIA, describe_verdict
from sharpbench.report.format import format_number, format_tau, plain_text

MAX_NAME_CHARS = 80
MAX_TITLE_CHARS = 160


def question_data(leaderboard: Leaderboard) -> dict[str, Any]:
    """The data of the page's script.

    Returns:
        populations: of each judged board its address, title, model, the tau that ranks in words, and the verdict.
        evidence: of each measure on a board the place in `populations`, its name and page, rank, cost as number and
            text, what leaves it unchanged, and outcome -> [number, text, whether the measure predicts it]. The number
            is the tau that ranks for the gap, and Psi for every other outcome.
        kinds: the kinds of rewrites of the evidence.
        outcomes: those of the evidence, the gap first.
    """
    found = list_evidence(leaderboard)
    psis = _psis_by_outcome(leaderboard)
    indices = list(dict.fromkeys(one.index for one in found))
    places = {index: place for place, index in enumerate(indices)}
    boards = [leaderboard.boards[index] for index in indices]
    return {
        "populations": [
            {
                "slug": board.slug,
                "page": population_address(board),
                "title": plain_text(board.title, MAX_TITLE_CHARS),
                "model": plain_text(board.population.model, MAX_NAME_CHARS),
                "by": CRITERIA[board.scores[0].ranked_by],
                "verdict": describe_verdict(board.scores),
            }
            for board in boards
        ],
        "evidence": [
            {
                "at": places[one.index],
                "name": plain_text(one.score.name, MAX_NAME_CHARS),
                "page": measure_address(one.measure),
                "rank": one.score.rank,
                "cost": one.cost,
                "price": format_number(one.cost),
                "kinds": list(one.invariant),
                "by": {
                    plain_text(outcome, MAX_NAME_CHARS): entry
                    for outcome, entry in _entries(one, psis.get((one.board.slug, one.score.name), {})).items()
                },
            }
            for one in found
        ],
        "kinds": [kind for kind in REWRITE_KINDS if any(kind in one.invariant for one in found)],
        "outcomes": [GAP, *sorted({plain_text(name, MAX_NAME_CHARS) for psi in psis.values() for name in psi} - {GAP})],
    }


def _psis_by_outcome(leaderboard: Leaderboard) -> dict[tuple[str, str], dict[str, Tau]]:
    """Address of a board and name of a measure -> outcome -> Psi."""
    slugs = [board.slug for board in leaderboard.own_boards]
    found: dict[tuple[str, str], dict[str, Tau]] = {}
    for score in leaderboard.headline.scores:
        for (index, outcome), psi in score.parts.items():
            found.setdefault((slugs[index], score.name), {})[outcome] = psi
    return found


def _entries(one: Evidence, psis: Mapping[str, Tau]) -> dict[str, tuple[float, str, bool]]:
    """Outcome -> number, text, and whether the measure predicts it; outcomes without a number are left out."""
    found = {} if one.tau.value is None else {GAP: (one.tau.value, format_tau(one.tau), one.predicts)}
    for outcome, psi in psis.items():
        if outcome != GAP and psi.value is not None:
            predicts = not one.score.partial and has_positive_interval(psi)
            found[outcome] = (psi.value, format_tau(psi), predicts)
    return found
