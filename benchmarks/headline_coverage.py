"""How often the interval of the headline score holds: three populations with four outcomes each, drawn again and again.

    python benchmarks/headline_coverage.py                # 300 draws of each law, and the table of docs/protocol.md
    python benchmarks/headline_coverage.py --trials 20    # only on the terminal

The outcomes of a population have most of their noise in common: the second adds noise to the first, the third is the
first in steps, and the fourth is unlike them. Two measures that differ only in noise of one distribution are equal.
"""

from __future__ import annotations

import zlib
from argparse import ArgumentParser
from pathlib import Path

import numpy as np

from benchmarks.simulated import DESIGNS, LAWS, draw_population
from sharpbench.analysis.statistics.mean_psi import OutcomePairs, average_populations, interval_of
from sharpbench.analysis.statistics.rank_correlation import TauEstimates
from sharpbench.analysis.statistics.ranking import rank_estimates
from sharpbench.files import atomic_write

POPULATIONS = ("3x3 of 5", "2x2x2 of 4", "8x3")
TRIALS = 300
PAGE = Path(__file__).parents[1] / "docs" / "protocol.md"
MARKS = ("<!-- headline coverage -->\n", "<!-- end of headline coverage -->\n")


def draw_scores(law: str, rng: np.random.Generator) -> TauEstimates:
    """The scores of a measure and of two that are equally good."""
    found = []
    for name in POPULATIONS:
        each = draw_population(DESIGNS[name], law, rng)
        noise = rng.standard_normal((4, len(each.y)))
        spread, own = float(each.y.std()) or 1.0, float(each.x.std()) or 1.0
        steps = np.round(each.y / (0.5 * spread))
        outcomes = [each.y, each.y + 0.5 * spread * noise[0], steps, noise[1]]
        equals = [each.x + 0.5 * own * noise[2], each.x + 0.5 * own * noise[3]]
        found.append(OutcomePairs(outcomes, [0.25] * 4, each.axes).estimate([each.x, *equals], [0.0] * 3))
    return average_populations(found)


def cover_law(law: str, trials: int) -> tuple[float, float, float]:
    """How often the interval holds the mean over all draws, its mean width, and how often equal measures differ."""
    rng = np.random.default_rng(zlib.crc32(law.encode()))
    drawn = [draw_scores(law, rng) for _ in range(trials)]
    intervals = [interval_of(each, 0) for each in drawn]
    expected = float(np.mean([each.values[0] for each in drawn]))
    # measures that are equal to each other, so the first is not compared
    apart = np.mean([len(set(rank_estimates(_equals(each), [0, 1], 2).ranks)) > 1 for each in drawn])
    covered = np.mean([expected in each for each in intervals])
    return float(covered), float(np.mean([each.high - each.low for each in intervals])), float(apart)


def _equals(each: TauEstimates) -> TauEstimates:
    jackknife = type(each.jackknife)(each.jackknife.single[1:], each.jackknife.excess[:, 1:, 1:], each.jackknife.cells)
    return TauEstimates(each.values[1:], jackknife, each.weights[1:], each.untied[1:], each.entering[1:])


def main() -> None:
    """Print the table, and write it into the page where all draws were made."""
    parser = ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--trials", type=int, default=TRIALS, help="draws of each law")
    trials = parser.parse_args().trials
    lines = ["| law | covered | mean width | equal measures told apart |", "|---|---|---|---|"]
    for law in LAWS:
        covered, width, apart = cover_law(law, trials)
        lines.append(f"| {law} | {100 * covered:.1f} % | {width:.2f} | {100 * apart:.1f} % |")
        print(lines[-1], flush=True)
    if trials == TRIALS:
        text = PAGE.read_text(encoding="utf-8")
        before, _, rest = text.partition(MARKS[0])
        _, _, after = rest.partition(MARKS[1])
        atomic_write(PAGE, f"{before}{MARKS[0]}" + "\n".join(lines) + f"\n{MARKS[1]}{after}")


if __name__ == "__main__":
    main()
