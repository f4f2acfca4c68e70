"""How often the intervals of the protocol hold: simulated populations by design, law and statistic.

    python benchmarks/coverage.py                     # 2,000 trials, and the tables of docs/protocol.md; hours
    python benchmarks/coverage.py --trials 200 5x5    # one design, only on the terminal

One core is enough. A finished design is kept in --results, so an interrupted run goes on where it stopped.
"""

from __future__ import annotations

import json
import math
import zlib
from argparse import ArgumentParser
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from benchmarks.simulated import DESIGNS, LAWS, Design, Draw, draw_population
from sharpbench.analysis.statistics import (
    MIN_WITHIN_CELL,
    Information,
    Interval,
    Tau,
    conditional_information,
    environment_sign_error,
    granulated_tau,
    marginal_tau,
    paired_difference,
    shared_ranks,
    spearman_correlation,
    within_tau,
)

ROUNDING = 1e-9
Outcome = tuple[float, Interval | None]


def _signs(each: Draw, which: Literal["worst", "mean"]) -> Outcome | None:
    found = environment_sign_error(each.x, 0.3 * each.y, each.axes, examples=2000)
    value, interval = (found.worst, found.worst_interval) if which == "worst" else (found.mean, found.mean_interval)
    return None if value is None else (value, interval)


def _outcome(found: Tau | Information) -> Outcome | None:
    value, interval = found.value, found.interval
    return None if value is None else (value, interval)


STATISTICS: Mapping[str, Callable[[Draw], Outcome | None]] = {
    "tau": lambda each: _outcome(marginal_tau(each.x, each.y, each.cells, each.units)),
    "within": lambda each: _outcome(within_tau(each.x, each.y, each.cells, each.units)),
    "Spearman": lambda each: _outcome(spearman_correlation(each.x, each.y, each.cells, each.units)),
    # Where configurations are drawn, Psi's interval speaks of these configurations, not of its expectation over draws.
    "Psi": lambda each: _outcome(granulated_tau(each.x, each.y, each.axes).overall) if each.units is None else None,
    "information": lambda each: _outcome(
        conditional_information(each.x, each.y, each.axes, each.units, permutations=0)
    ),
    "worst sign": lambda each: _signs(each, "worst"),
    "mean sign": lambda each: _signs(each, "mean"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """How often intervals of one statistic hold its expected value.

    Args:
        covered: Of the populations with an interval; None where fewer than a twentieth have one.
        width: The mean width of the intervals.
        intervals: The share of the populations that have an interval.
        expected: The mean of the values.
    """

    covered: float | None
    width: float | None
    intervals: float
    expected: float | None


def simulate(
    design: Design, law: str, *, trials: int, seed: int = 0, statistics: Sequence[str] = tuple(STATISTICS)
) -> dict[str, Coverage]:
    """The coverage of each statistic in the same simulated populations."""
    rng = np.random.default_rng([seed, zlib.crc32(f"{design.sizes} {design.shape} {law}".encode())])
    found: dict[str, list[Outcome]] = {name: [] for name in statistics}
    for _ in range(trials):
        population = draw_population(design, law, rng)
        for name in statistics:
            outcome = STATISTICS[name](population)
            if outcome is not None:
                found[name].append(outcome)
    return {name: _summarize(outcomes, trials) for name, outcomes in found.items()}


def _summarize(outcomes: Sequence[Outcome], trials: int) -> Coverage:
    expected = float(np.mean([value for value, _ in outcomes])) if outcomes else None
    ends = np.array([(each.low, each.high) for _, each in outcomes if each is not None])
    if expected is None or len(ends) < trials / 20:
        return Coverage(covered=None, width=None, intervals=len(ends) / trials, expected=expected)
    inside = (ends[:, 0] <= expected + ROUNDING) & (expected - ROUNDING <= ends[:, 1])
    return Coverage(
        covered=float(inside.mean()),
        width=float((ends[:, 1] - ends[:, 0]).mean()),
        intervals=len(ends) / trials,
        expected=expected,
    )


def simulate_equal_measures(
    design: Design, measures: int, *, trials: int, within: bool, seed: int = 0
) -> tuple[float, float]:
    """The share of boards of equally good measures that tell two apart, and the coverage of one paired difference."""
    rng = np.random.default_rng([seed, measures, zlib.crc32(f"{design.sizes}".encode())])
    apart, covered = [], []
    cells = design.cells
    for _ in range(trials):
        y = rng.standard_normal(len(cells))
        rows = [y + rng.standard_normal(len(cells)) for _ in range(measures)]
        apart.append(len({rank for rank in shared_ranks(rows, y, cells, within=within) if rank is not None}) > 1)
        difference = paired_difference(rows[0], rows[1], y, cells, within=within)
        if difference is not None:
            covered.append(0.0 in difference[1])
    return float(np.mean(apart)), float(np.mean(covered)) if covered else 1.0


TRIALS = 2000
BOARDS = ((5, 30), (5, 15), (5, 20, 20), (3, 3, 20), (5,) * 5, (8,) * 3)
"""Designs on which equal measures are compared, by cell."""
NEEDED = 0.93
PAGE = Path(__file__).parents[1] / "docs" / "protocol.md"
MARKS = "<!-- coverage -->", "<!-- end of coverage -->"
Row = dict[str, dict[str, tuple[float | None, float | None, float]]]
"""Statistic -> law -> coverage, mean width and share of populations with an interval."""


def measure_design(name: str, trials: int) -> Row:
    """The coverage of each statistic under each law."""
    found: Row = {}
    for law in LAWS:
        for statistic, each in simulate(DESIGNS[name], law, trials=trials).items():
            found.setdefault(statistic, {})[law] = (each.covered, each.width, each.intervals)
    return found


def format_cell(laws: Mapping[str, tuple[float | None, float | None, float]]) -> str:
    """Least / mean coverage in percent and the mean width, over the laws; a dash where there are no intervals."""
    known = [(covered, width) for covered, width, _ in laws.values() if covered is not None and width is not None]
    if not known:
        return "-"
    covered = [100 * each for each, _ in known]
    return f"{min(covered):.1f} / {sum(covered) / len(known):.1f} ({sum(width for _, width in known) / len(known):.2f})"


def list_shortfalls(results: Mapping[str, Row]) -> Iterator[str]:
    """Where intervals cover less often than needed, one line each."""
    for name, row in results.items():
        for statistic, laws in row.items():
            for law, (covered, _, _) in laws.items():
                if covered is not None and covered < NEEDED:
                    yield f"{name}, {statistic}, {law}: {100 * covered:.1f} %"


def format_tables(results: Mapping[str, Row], boards: Sequence[tuple[str, str, int, float, float]], trials: int) -> str:
    """The tables of docs/protocol.md."""
    scatter = 100 * math.sqrt(NEEDED * (1 - NEEDED) / trials)
    lines = [
        f"{len(LAWS)} laws, {trials:,} populations each. A cell holds the least and the mean coverage in percent over",
        "the laws, and in brackets the mean width of the intervals; a dash where there are none. A share scatters",
        f"by {scatter:.1f} points, so the least of {len(LAWS)} is somewhat too low.",
        "",
        f"| networks by cell | {' | '.join(STATISTICS)} |",
        f"|---|{'---|' * len(STATISTICS)}",
        *(f"| {name} | {' | '.join(format_cell(row[each]) for each in STATISTICS)} |" for name, row in results.items()),
        "",
        f"Below {100 * NEEDED:.0f} %:",
        "",
        *([f"- {line}" for line in list_shortfalls(results)] or ["- nothing"]),
        "",
        "Boards of equal measures on which two are told apart, and how often the interval of one difference holds 0:",
        "",
        "| networks by cell | ranked by | measures | told apart | difference covered |",
        "|---|---|---|---|---|",
        *(
            f"| {sizes} | {by} | {count} | {100 * apart:.1f} % | {100 * held:.1f} % |"
            for sizes, by, count, apart, held in boards
        ),
    ]
    return "\n".join(lines) + "\n"


def measure_boards(trials: int) -> list[tuple[str, str, int, float, float]]:
    """How often equal measures are told apart, by design, tau and number of measures."""
    found = []
    for sizes in BOARDS:
        for within in (True, False)[min(sizes) < MIN_WITHIN_CELL :]:
            for measures in (3, 8):
                apart, covered = simulate_equal_measures(Design(sizes), measures, trials=trials, within=within)
                by = "tau within cells" if within else "tau"
                found.append((" + ".join(map(str, sizes)), by, measures, apart, covered))
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    parser = ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("designs", nargs="*", help=f"of {', '.join(DESIGNS)}; all, and the page, where none is named")
    parser.add_argument("--trials", type=int, default=TRIALS)
    parser.add_argument("--results", type=Path, default=Path("coverage.json"))
    chosen = parser.parse_args(arguments)
    kept = json.loads(chosen.results.read_text()) if chosen.results.exists() else {}
    results = {}
    for name in chosen.designs or DESIGNS:
        key = f"{name} {chosen.trials}"
        if key not in kept:
            kept[key] = measure_design(name, chosen.trials)
            chosen.results.write_text(json.dumps(kept))
        results[name] = kept[key]
        print(name, *(f"{each} {format_cell(row)}" for each, row in results[name].items()), sep="  ", flush=True)
    if chosen.designs:
        print(*list_shortfalls(results), sep="\n")
        return
    tables = format_tables(results, measure_boards(chosen.trials), chosen.trials)
    before, rest = PAGE.read_text().split(MARKS[0])
    PAGE.write_text(f"{before}{MARKS[0]}\n{tables}{MARKS[1]}{rest.split(MARKS[1])[1]}")


if __name__ == "__main__":
    main()
