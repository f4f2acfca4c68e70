"""The page that answers which measure to use: for each population and invariance the cheapest and the strongest."""

from __future__ import annotations

from markupsafe import Markup

from sharpbench.core.measure import REWRITE_KINDS
from sharpbench.leaderboard.board import Leaderboard
from sharpbench.leaderboard.evidence import Evidence, choose_cheapest, choose_strongest, list_evidence
from sharpbench.leaderboard.pages.links import escape_title, link_measure
from sharpbench.report.board_verdict import describe_verdict
from sharpbench.report.escape import escape_cell, markdown_table
from sharpbench.report.format import MISSING, format_number, format_tau
from sharpbench.report.page import Page, Section

PAGE_NAME = "which.md"
INTRODUCTION = (
    "Four questions decide: which published networks are like yours, how many gradients may a measure cost, which "
    "rewrites of a network must leave it unchanged, and what should it predict? The tables answer the first and the "
    "third, for the generalization gap; [outcomes](outcomes.md) has Psi with every other outcome. A measure *predicts "
    "the gap* where the 95 % interval of the tau that ranks the population is above 0 and the measure has a value on "
    "every network that counts.\n\n"
    "*cheapest*: of the measures that predict the gap and were timed, the one of the lowest cost, in gradients "
    "(forward and backward passes over the data). Where this population was not timed without other work, the cost "
    "is the largest of the other populations. *highest tau*: of the measures that predict the gap, also those that "
    "were not timed. Differences of tau may be chance: the ranks on the page of [correlations](correlation.md) say "
    "which measures can be told apart. Tau over all networks also counts what the hyperparameters do to the gap, so it "
    "is higher than tau within cells.\n\n"
    "The interactive board asks all four questions: `make site`, or `sharpbench publish --site DIR`."
)
NONE_PREDICTS = "No measure predicts the gap here."
ANY = "nothing required"


def page(leaderboard: Leaderboard) -> Page:
    """One section per population that has correlations."""
    found: dict[int, list[Evidence]] = {}
    for one in list_evidence(leaderboard):
        found.setdefault(one.index, []).append(one)
    sections = [_section(leaderboard, evidence) for evidence in found.values()]
    return Page("Which measure should I use?", (Section("", (INTRODUCTION,)), *sections))


def _section(leaderboard: Leaderboard, found: list[Evidence]) -> Section:
    board = found[0].board
    verdict = str(escape_cell(describe_verdict(board.scores), 1000))
    if not any(one.predicts for one in found):
        return Section(escape_title(board), (f"{verdict} {NONE_PREDICTS}",))
    kinds = [kind for kind in REWRITE_KINDS if any(kind in one.invariant for one in found)]
    rows = [_row(leaderboard, ANY, found)]
    rows += [_row(leaderboard, kind, [one for one in found if kind in one.invariant]) for kind in kinds]
    header = ["unchanged by", "cheapest", "gradients", "its tau", "highest tau", "tau"]
    return Section(escape_title(board), (verdict, markdown_table(header, rows, {2, 3, 5})))


def _row(leaderboard: Leaderboard, kind: str, found: list[Evidence]) -> list[str]:
    cheap, strong = choose_cheapest(found), choose_strongest(found)
    first = [_link(leaderboard, cheap), format_number(cheap.cost) if cheap else MISSING, _tau(cheap)]
    return [kind, *first, _link(leaderboard, strong), _tau(strong)]


def _link(leaderboard: Leaderboard, one: Evidence | None) -> Markup:
    if one is None:
        return Markup(MISSING)
    return link_measure(one.measure, one.score.name, leaderboard.mark([(one.board, one.score)]))


def _tau(one: Evidence | None) -> str:
    return MISSING if one is None else str(escape_cell(format_tau(one.tau)))
