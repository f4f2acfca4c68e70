"""How often the intervals of the protocol hold: simulated populations by design, law and statistic.

    python benchmarks/coverage.py                     # 2,000 trials, and the tables of docs/protocol.md; two hours
    python benchmarks/coverage.py --trials 200 5x5    # one design, only on the terminal
    python benchmarks/coverage.py --part 1/2          # every second piece, next to a process with --part 2/2

A piece is one law in one design, or one board of equal measures. Finished pieces are lines of --results, so an
interrupted run, or one that --seconds ended, goes on where it stopped. The page is written when all pieces are there.
"""

from __future__ import annotations

import json
import math
import time
import zlib
from argparse import ArgumentParser
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.simulated import DESIGNS, LAWS, Design, Draw, draw_population
from sharpbench.analysis.statistics import (
    MIN_SPEARMAN_NETWORKS,
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


def _outcome(found: Tau | Information) -> Outcome | None:
    value, interval = found.value, found.interval
    return None if value is None else (value, interval)


def _spearman(each: Draw) -> tuple[Outcome | None]:
    if each.units is None and len(each.x) < MIN_SPEARMAN_NETWORKS:
        return (None,)
    return (_outcome(spearman_correlation(each.x, each.y, each.cells, each.units)),)


def _psi(each: Draw) -> tuple[Outcome | None]:
    # Where configurations are drawn, Psi's interval speaks of these configurations, not of its expectation over draws.
    return (_outcome(granulated_tau(each.x, each.y, each.axes).overall) if each.units is None else None,)


def _signs(each: Draw) -> tuple[Outcome | None, Outcome | None]:
    found = environment_sign_error(each.x, 0.3 * each.y, each.axes, examples=2000)
    if found.worst is None or found.mean is None:
        return None, None
    return (found.worst, found.worst_interval), (found.mean, found.mean_interval)


MEASURED: Mapping[tuple[str, ...], Callable[[Draw], tuple[Outcome | None, ...]]] = {
    ("tau",): lambda each: (_outcome(marginal_tau(each.x, each.y, each.cells, each.units)),),
    ("within",): lambda each: (_outcome(within_tau(each.x, each.y, each.cells, each.units)),),
    ("Spearman",): _spearman,
    ("Psi",): _psi,
    ("information",): lambda each: (
        _outcome(conditional_information(each.x, each.y, each.axes, each.units, permutations=0)),
    ),
    ("worst sign", "mean sign"): _signs,
}
STATISTICS = tuple(name for names in MEASURED for name in names)


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
    design: Design, law: str, *, trials: int, seed: int = 0, statistics: Sequence[str] = STATISTICS
) -> dict[str, Coverage]:
    """The coverage of each statistic in the same simulated populations."""
    rng = np.random.default_rng([seed, zlib.crc32(f"{design.sizes} {design.shape} {law}".encode())])
    found: dict[str, list[Outcome]] = {name: [] for name in statistics}
    for _ in range(trials):
        population = draw_population(design, law, rng)
        for names, measure in MEASURED.items():
            if found.keys() & names:
                for name, outcome in zip(names, measure(population), strict=True):
                    if outcome is not None and name in found:
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
MEASURES = (3, 8)
"""How many equal measures a board has."""
NEEDED = 0.93
MOST_APART = 0.06
PAGE = Path(__file__).parents[1] / "docs" / "protocol.md"
MARKS = "<!-- coverage -->", "<!-- end of coverage -->"
Row = dict[str, dict[str, tuple[float | None, float | None, float]]]
"""Statistic -> law -> coverage, mean width and share of populations with an interval."""
Piece = tuple[str, str] | tuple[tuple[int, ...], bool, int]
"""A design and a law, or the cells of a board of equal measures, whether it is within cells, and how many they are."""


def list_pieces(designs: Sequence[str]) -> list[Piece]:
    """What is simulated for the designs; for all of them also the boards of equal measures."""
    found: list[Piece] = [(name, law) for name in designs for law in LAWS]
    if len(designs) == len(DESIGNS):
        for sizes in BOARDS:
            for within in (True, False)[min(sizes) < MIN_WITHIN_CELL :]:
                found += [(sizes, within, measures) for measures in MEASURES]
    return found


def measure_piece(piece: Piece, trials: int) -> dict[str, tuple[float | None, ...]]:
    """By statistic the coverage, mean width and share with an interval; of a board the shares that it is about."""
    if len(piece) == 3:
        sizes, within, measures = piece
        return {"board": simulate_equal_measures(Design(sizes), measures, trials=trials, within=within)}
    found = simulate(DESIGNS[piece[0]], piece[1], trials=trials)
    return {name: (each.covered, each.width, each.intervals) for name, each in found.items()}


def load_pieces(path: Path, trials: int) -> dict[str, dict[str, tuple[float | None, ...]]]:
    """The finished pieces of this number of trials, by their name."""
    lines = path.read_text().splitlines() if path.exists() else []
    entries = [json.loads(line) for line in lines]
    return {each["piece"]: each["found"] for each in entries if each["trials"] == trials}


def name_piece(piece: Piece) -> str:
    """Its name in --results."""
    return json.dumps(piece)


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


def list_boards_apart(boards: Sequence[tuple[str, str, int, float, float]]) -> Iterator[str]:
    """On which boards equal measures are told apart more often than allowed, one line each."""
    for sizes, by, count, apart, _ in boards:
        if apart > MOST_APART:
            yield f"{sizes}, {by}, {count} equal measures: told apart on {100 * apart:.1f} % of the boards"


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
        f"Below {100 * NEEDED:.0f} %, or equal measures told apart on more than {100 * MOST_APART:.0f} % of boards:",
        "",
        *([f"- {line}" for line in [*list_shortfalls(results), *list_boards_apart(boards)]] or ["- nothing"]),
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


def _parse_part(text: str) -> tuple[int, int]:
    number, count = map(int, text.split("/"))
    return number - 1, count


def main(arguments: Sequence[str] | None = None) -> None:
    parser = ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("designs", nargs="*", help=f"of {', '.join(DESIGNS)}; all, and the page, where none is named")
    parser.add_argument("--trials", type=int, default=TRIALS)
    parser.add_argument("--results", type=Path, default=Path("coverage.jsonl"))
    parser.add_argument(
        "--part", type=_parse_part, default=(0, 1), metavar="I/N", help="every N-th piece from the I-th"
    )
    parser.add_argument("--seconds", type=float, default=math.inf, help="no piece begins after these; exit status 1")
    chosen = parser.parse_args(arguments)
    began, (first, step) = time.monotonic(), chosen.part
    designs = chosen.designs or list(DESIGNS)
    pieces = list_pieces(designs)
    for piece in pieces[first::step]:
        if name_piece(piece) in load_pieces(chosen.results, chosen.trials):
            continue
        if time.monotonic() - began > chosen.seconds:
            raise SystemExit("stopped after --seconds; the same command goes on")
        line = {"piece": name_piece(piece), "trials": chosen.trials, "found": measure_piece(piece, chosen.trials)}
        with chosen.results.open("a") as file:
            file.write(json.dumps(line) + "\n")
    kept = load_pieces(chosen.results, chosen.trials)
    if any(name_piece(piece) not in kept for piece in pieces):
        raise SystemExit("the other parts are not finished")
    rows, boards = assemble(kept, pieces)
    if chosen.designs:
        for name, row in rows.items():
            print(name, *(f"{each} {format_cell(laws)}" for each, laws in row.items()), sep="  ")
        print(*list_shortfalls(rows), sep="\n")
        return
    before, rest = PAGE.read_text().split(MARKS[0])
    tables = format_tables(rows, boards, chosen.trials)
    PAGE.write_text(f"{before}{MARKS[0]}\n{tables}{MARKS[1]}{rest.split(MARKS[1])[1]}")


def assemble(
    kept: Mapping[str, dict[str, tuple[float | None, ...]]], pieces: Sequence[Piece]
) -> tuple[dict[str, Row], list[tuple[str, str, int, float, float]]]:
    """The rows by design, and the boards of equal measures, of finished pieces."""
    rows: dict[str, Row] = {}
    boards = []
    for piece in pieces:
        found = kept[name_piece(piece)]
        if len(piece) == 3:
            sizes, within, measures = piece
            apart, covered = (float(each or 0.0) for each in found["board"])
            by = "tau within cells" if within else "tau"
            boards.append((" + ".join(map(str, sizes)), by, measures, apart, covered))
            continue
        design, law = piece
        for statistic, (covered_share, width, intervals) in found.items():
            row = rows.setdefault(design, {}).setdefault(statistic, {})
            row[law] = (covered_share, width, float(intervals or 0.0))
    return rows, boards


if __name__ == "__main__":
    main()
