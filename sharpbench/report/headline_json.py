"""The headline scores as JSON: next to the boards of a run, and among the downloads of the site."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sharpbench.analysis.headline import Headline, score_headline
from sharpbench.analysis.population import MeasuredPopulation
from sharpbench.analysis.statistics import Tau
from sharpbench.report.format import plain_text

HEADLINE = "headline.json"
"""The name in an output folder."""
MAX_TEXT_CHARS = 200


def list_headline_scores(headline: Headline, names: Mapping[int, str]) -> list[dict[str, Any]]:
    """One row per headline score, with its interval, rank, the reason where it has none, and its parts.

    names: Index of a population that has a Psi -> its name.
    """
    shown = {index: plain_text(names[index], MAX_TEXT_CHARS) for index in headline.populations}
    return [
        {
            "name": plain_text(score.name, MAX_TEXT_CHARS),
            "kind": score.kind,
            "rank": score.rank,
            "populations": [shown[index] for index in headline.entering],
            **dict(tau_fields("score", score.tau)),
            "reason": None if score.tau.reason is None else plain_text(score.tau.reason, MAX_TEXT_CHARS),
            "parts": [
                {
                    "population": shown[index],
                    "outcome": plain_text(outcome, MAX_TEXT_CHARS),
                    **dict(tau_fields("psi", tau)),
                }
                for (index, outcome), tau in score.parts.items()
            ],
        }
        for score in headline.scores
    ]


def headline_json(populations: Sequence[MeasuredPopulation]) -> str | None:
    """The headline scores over these populations; None where none of them enters."""
    titles = [f"{each.model} on {each.dataset}" for each in populations]
    headline = score_headline(populations, titles)
    if not headline.entering:
        return None
    return format_rows(list_headline_scores(headline, dict(enumerate(titles))))


def tau_fields(name: str, tau: Tau) -> Iterator[tuple[str, float | None]]:
    """The value and the ends of the interval, under the name."""
    yield name, tau.value
    yield f"{name}_low", None if tau.interval is None else tau.interval.low
    yield f"{name}_high", None if tau.interval is None else tau.interval.high


def format_rows(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows as a JSON array, null for what is missing."""
    return json.dumps(rows, allow_nan=False, ensure_ascii=True, indent=0) + "\n"
