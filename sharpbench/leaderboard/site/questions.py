"""What the page of the four questions filters: networks, costs, invariances, populations, and the evidence."""

from __future__ import annotations

from typing import Any

from sharpbench.core.measure import REWRITE_KINDS
from sharpbench.leaderboard.board import Leaderboard
from sharpbench.leaderboard.evidence import list_evidence
from sharpbench.leaderboard.site.addresses import measure_address, population_address
from sharpbench.report.board_verdict import CRITERIA, describe_verdict
from sharpbench.report.format import format_number, format_tau, plain_text

MAX_NAME_CHARS = 80
MAX_TITLE_CHARS = 160


def question_data(leaderboard: Leaderboard) -> dict[str, Any]:
    """The data of the page's script.

    Returns:
        populations: of each judged board its address, title, model, the tau that ranks in words, and the verdict.
        evidence: of each measure on a board the place in `populations`, its name and page, tau as number and text,
            whether it predicts the gap, rank, cost as number and text, and what leaves it unchanged.
        kinds: the kinds of rewrites of the evidence.
    """
    found = list_evidence(leaderboard)
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
                "tau": one.tau.value,
                "text": format_tau(one.tau),
                "predicts": one.predicts,
                "rank": one.score.rank,
                "cost": one.cost,
                "price": format_number(one.cost),
                "kinds": list(one.invariant),
            }
            for one in found
        ],
        "kinds": [kind for kind in REWRITE_KINDS if any(kind in one.invariant for one in found)],
    }
