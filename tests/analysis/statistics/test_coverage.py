"""How often intervals hold the expected value in simulated populations, unequal cells and ties among them."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from benchmarks.coverage import (
    NEEDED,
    Coverage,
    format_tables,
    list_shortfalls,
    load_pieces,
    main,
    simulate,
    simulate_equal_measures,
)
from benchmarks.simulated import DESIGNS, LAWS, Design

TRIALS = 50
LAWS_OF_UNEQUAL_CELLS = ("independent", "strong", "ties", "reversed in half")


def assert_covered(found: Coverage, trials: int) -> None:
    assert found.covered is not None
    assert found.covered >= NEEDED - 3 * math.sqrt(NEEDED * (1 - NEEDED) / trials / found.intervals)


@pytest.mark.parametrize(
    ("design", "statistic"), [("5+30", "within"), ("5+20+20", "within"), ("2x2 of 3+3+20+20", "Psi"), ("5x5", "tau")]
)
def test_intervals_cover_in_unequal_cells(design: str, statistic: str) -> None:
    for law in LAWS_OF_UNEQUAL_CELLS:
        found = simulate(DESIGNS[design], law, trials=TRIALS, statistics=[statistic])[statistic]
        assert_covered(found, TRIALS)
        assert found.width is not None
        assert found.width < 1.6  # of the 2 that are possible


def test_a_measure_that_fails_on_a_tenth_is_covered() -> None:
    found = simulate(DESIGNS["5x5"], "fails on a tenth", trials=TRIALS, statistics=["tau", "within"])
    for each in found.values():
        assert_covered(each, TRIALS)


@pytest.mark.parametrize(("sizes", "within"), [((5, 30), True), ((5, 20, 20), True), ((3, 3, 20), False)])
def test_equal_measures_are_rarely_told_apart_in_unequal_cells(sizes: tuple[int, ...], within: bool) -> None:
    apart, covered = simulate_equal_measures(Design(sizes), 4, trials=TRIALS, within=within)
    assert apart <= 0.06 + 2 * math.sqrt(0.06 * 0.94 / TRIALS)
    assert covered >= NEEDED - 2 * math.sqrt(NEEDED * (1 - NEEDED) / TRIALS)


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("design", [name for name in DESIGNS if name not in {"6x50", "20+280"}])
def test_intervals_cover_93_percent_of_every_law(design: str) -> None:
    for law in LAWS:
        for found in simulate(DESIGNS[design], law, trials=300, seed=1).values():
            if found.covered is not None:
                assert_covered(found, 300)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("measures", [3, 8])
@pytest.mark.parametrize("sizes", [(5, 30), (5, 15), (5, 20, 20), (5,) * 5])
def test_equal_measures_are_told_apart_on_few_boards(sizes: tuple[int, ...], measures: int) -> None:
    apart, _ = simulate_equal_measures(Design(sizes), measures, trials=400, within=True)
    assert apart <= 0.06


def test_parts_and_pieces_are_resumed_and_put_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["8", "--trials", "3", "--results", str(tmp_path / "coverage.jsonl")]
    with pytest.raises(SystemExit, match="stopped after --seconds; the same command goes on"):
        main([*words, "--seconds", "-1"])
    with pytest.raises(SystemExit, match="the other parts are not finished"):
        main([*words, "--part", "1/2"])
    half = (tmp_path / "coverage.jsonl").read_text()
    main([*words, "--part", "2/2"])
    whole = (tmp_path / "coverage.jsonl").read_text()
    assert whole.startswith(half)
    assert len(load_pieces(tmp_path / "coverage.jsonl", 3)) == len(LAWS)
    main(words)  # nothing is left to do
    assert (tmp_path / "coverage.jsonl").read_text() == whole
    one, other = (line for line in capsys.readouterr().out.splitlines() if line.startswith("8  tau "))
    assert one == other


def test_the_tables_show_dashes_and_shortfalls() -> None:
    row = {
        "tau": {"strong": (0.95, 0.5, 1.0), "ties": (0.9, 0.7, 1.0)},
        **{name: {"strong": (None, None, 0.0)} for name in ("within", "Spearman", "Psi", "information")},
        **{name: {"strong": (None, None, 0.0)} for name in ("worst sign", "mean sign")},
    }
    assert list(list_shortfalls({"5x5": row})) == ["5x5, tau, ties: 90.0 %"]
    page = format_tables({"5x5": row}, [("5 + 30", "tau", 3, 0.01, 0.97)], 500)
    assert "| 5x5 | 90.0 / 92.5 (0.60) | - | - | - | - | - | - |" in page
    assert "- 5x5, tau, ties: 90.0 %" in page
    assert "| 5 + 30 | tau | 3 | 1.0 % | 97.0 % |" in page
