"""The page of a comparison is a pure function of its rows; what it says of them is computed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib import style
from rich.console import Console

from sharpbench.analysis.costs import relative_error
from sharpbench.comparison.measurement import Measurement, read_measurements
from sharpbench.comparison.page import command_line, comparison_page, results_table, write_verdicts
from sharpbench.comparison.plot import draw_results, pareto_results
from sharpbench.comparison.results import (
    BUILT_IN_PACKAGE,
    ContestantResult,
    NetworkResult,
    network_results,
    paired_ratio,
)
from sharpbench.errors import InvalidInput
from sharpbench.report.page import render_body, show_page
from sharpbench.report.plots import FIGURE_STYLE, render_svg

SETTINGS = {"examples": 8, "dataset": "digits", "weights": "random", "parameters": 10, "loss": 2.0}


def row(contestant: str, number: int, **fields: object) -> Measurement:
    usual = {
        "match": "0" * 64,
        "network": "lenet",
        "quantity": "trace",
        "contestant": contestant,
        "role": "measure",
        "package": BUILT_IN_PACKAGE if contestant.startswith("trace") else "others",
        "round": number,
        "settings": SETTINGS,
        "environment": {"torch": "2"},
    }
    return Measurement(**{**usual, **fields})  # type: ignore[arg-type]


def rounds(contestant: str, seconds: Sequence[float], errors: Sequence[float], **fields: object) -> list[Measurement]:
    timed = zip(seconds, errors, strict=True)
    start = row(contestant, 0, batch=4, libraries={} if contestant.startswith("trace") else {"peerlib": "1.2"})
    return [
        start,
        *(
            row(contestant, number, seconds=second, error=error, value=1.0, batch=4, **fields)
            for number, (second, error) in enumerate(timed, start=1)
        ),
    ]


def rows(ours: float = 1.0, other: float = 2.0) -> list[Measurement]:
    """One network: ours, another exact one, one that is wrong, and a sampled one with an error of 3 %."""
    oracle = row("oracle", 0, role="oracle", value=1.0, note="definition", details={"gauss-newton": 1.0})
    return [
        oracle,
        *rounds("gradient", [0.5, 0.5, 0.5], [0.0] * 3, role="gradient"),
        *rounds("trace", [ours, 2 * ours, 0.5 * ours], [1e-7] * 3),
        *rounds("peer", [other] * 3, [2e-7] * 3),
        *rounds("wrong", [0.1] * 3, [0.05] * 3),
        *rounds("noisy", [0.2, 0.2], [0.03, 0.03], stochastic=True),
        row("lost", 0, status="failed", reason="[x](http://y) | <b>"),
    ]


def of(measurements: Sequence[Measurement]) -> NetworkResult:
    (found,) = network_results(measurements)
    return found


def test_medians_ratios_and_what_one_percent_costs() -> None:
    frame = results_table(of(rows())).set_index("contestant")
    assert list(frame.index) == ["gradient", "wrong", "trace (ours)", "peer", "noisy"]
    assert frame.loc["trace (ours)", ["seconds", "over ours", "gradients", "spread"]].tolist() == [
        "1",
        "1",
        "2",
        "150%",
    ]
    assert frame.loc["peer", ["over ours", "gradients", "to 1 %"]].tolist() == ["2", "4", "2"]
    assert frame.loc["wrong", ["error", "to 1 %"]].tolist() == ["5.0e-02", "-"]
    assert frame.loc["noisy", ["error", "rounds", "to 1 %", "drawn"]].tolist() == ["3.0e-02", "2", "≈1.8?", "sampled"]


def test_verdicts_follow_the_figures() -> None:
    assert write_verdicts(of(rows())) == [
        "Ours (trace) is the fastest exact one: the next, peer, takes 2.00x its time; "
        "too few rounds in common for an interval, 3.",
        "Ours (trace) is the fastest to 1 % error, against the sampled ones: "
        "the next, noisy, extrapolated, takes 1.80x its time.",
    ]
    slow = write_verdicts(of(rows(ours=4.0)))
    assert slow[0] == (
        "Ours (trace) is NOT the fastest exact one: peer takes 0.50x its time; "
        "too few rounds in common for an interval, 3."
    )
    assert slow[1].startswith("Ours (trace) is NOT the fastest to 1 % error")
    others = [each for each in rows() if each.contestant != "trace"]
    assert (
        write_verdicts(of(others))[0]
        == "None of ours is the fastest exact one: none has a value that is right; peer has."
    )
    alone = [each for each in rows() if each.contestant not in ("peer", "noisy")]
    assert write_verdicts(of(alone))[0] == "Ours (trace) is the fastest exact one: no other contestant is right."


def test_with_rounds_enough_ratios_are_of_pairs_and_have_an_interval() -> None:
    """Both drift by a factor of 4; from round to round the other takes 1.5 to 1.7 times as long."""
    drift = [1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 1.2]
    factors = [1.5, 1.7, 1.6, 1.6, 1.55, 1.65, 1.6]
    ours = rounds("trace", drift, [1e-7] * 7)
    other = rounds("peer", [one * by for one, by in zip(drift, factors, strict=True)], [1e-7] * 7)
    found = of([*ours, *other])
    peer, trace = sorted(found.results, key=lambda each: each.name)
    ratio = paired_ratio(peer, trace)
    assert ratio.value == pytest.approx(1.6)
    assert ratio.interval == pytest.approx((1.5, 1.7))
    assert results_table(found).set_index("contestant").loc["peer", "over ours"] == "1.6"
    assert write_verdicts(found)[0] == (
        "Ours (trace) is the fastest exact one: the next, peer, takes 1.60x (1.50 to 1.70) its time."
    )
    told = write_verdicts(of([*ours, *rounds("peer", [1.01 * each for each in reversed(drift)], [1e-7] * 7)]))[0]
    assert told.startswith("Whether ours (trace) is the fastest exact one cannot be told: peer takes 1.01x (0.3")
    slow = write_verdicts(of([*ours, *rounds("peer", [0.5 * each for each in drift], [1e-7] * 7)]))[0]
    assert slow == "Ours (trace) is NOT the fastest exact one: peer takes 0.50x (0.50 to 0.50) its time."
    busy = [replace(each, contended=each.round in (2, 3)) for each in ours]
    assert paired_ratio(peer, of(busy).results[0]).interval is None  # five pairs are left


def test_the_interval_of_a_ratio_covers() -> None:
    rng = np.random.default_rng(0)
    covered, plain = 0, of(rounds("trace", [1.0], [0.0])).results[0]
    for _ in range(400):
        unit, other = (dict(enumerate(rng.lognormal(mean, 0.3, 9))) for mean in (0.0, 0.5))
        low, high = paired_ratio(replace(plain, timed=other), replace(plain, timed=unit)).interval or (0.0, 0.0)
        covered += low <= np.exp(0.5) <= high
    assert 0.93 < covered / 400 < 0.99  # 1 - 20 / 2^9 = 0.96, three standard errors are 0.03


def test_the_next_is_the_one_of_the_least_ratio() -> None:
    """As the table has it; of the least median seconds may be another, where both were slow in other rounds."""
    drift = [1.0, 1.0, 1.0, 3.0, 3.0, 3.0, 3.0]
    ours = rounds("trace", drift, [1e-7] * 7)
    near = rounds("near", [1.4 * each for each in drift], [1e-7] * 7)
    early = rounds("early", [3.0, 3.0, 3.0, 4.8, 4.8, 4.8, 4.1], [1e-7] * 7)
    found = of([*ours, *near, *early])
    assert "the next, near, takes 1.40x" in write_verdicts(found)[0]
    assert min(each.seconds for each in found.results if each.name == "near") == pytest.approx(4.2)


def drawn(values: Sequence[float]) -> NetworkResult:
    """A sampled contestant that says these of a truth of 1."""
    oracle = row("oracle", 0, role="oracle", value=1.0, note="definition")
    measurements = rounds("noisy", [1.0] * len(values), [abs(value - 1) for value in values], stochastic=True)
    said = [each if each.round == 0 else replace(each, value=values[each.round - 1]) for each in measurements]
    return of([oracle, *said])


def test_what_averages_to_something_else_is_not_extrapolated() -> None:
    off = [0.82, 0.86, 0.85, 0.84, 0.88, 0.85, 0.83]
    assert results_table(drawn(off)).iloc[0]["to 1 %"] == "-"
    assert results_table(drawn([value + 0.15 for value in off])).iloc[0]["to 1 %"].startswith("≈")
    assert results_table(drawn(off[:2])).iloc[0]["to 1 %"].endswith("?")  # two draws tell nothing


def test_few_draws_that_came_near_are_marked() -> None:
    assert results_table(drawn([1.001])).iloc[0]["to 1 %"] == "1?"
    assert results_table(drawn([1.001] * 6)).iloc[0]["to 1 %"] == "1"


def test_an_unbiased_mean_is_seldom_called_biased() -> None:
    rng = np.random.default_rng(0)
    called = sum(results_table(drawn(rng.normal(1, 0.1, 7).tolist())).iloc[0]["to 1 %"] == "-" for _ in range(150))
    assert called <= 6  # 1.5 expected


def test_the_command_names_who_took_part() -> None:
    assert command_line(rows()).endswith("--measures 'lost,noisy,peer,trace,wrong'")
    assert "<" not in command_line([replace(each, contestant=each.contestant + "'<b>") for each in rows()])


def test_contended_rounds_are_left_out_where_there_are_others() -> None:
    measurements = rounds("trace", [1.0, 9.0, 9.0], [0.0] * 3)
    busy = [replace(each, contended=each.seconds == 9.0) for each in measurements]
    assert of(busy).results[0].seconds == 1.0
    every = [replace(each, contended=each.round > 0) for each in measurements]
    assert of(every).results[0].seconds == 9.0
    assert results_table(of(every)).iloc[0]["seconds"] == "9!"


def test_a_new_preparation_begins_anew() -> None:
    failed = row("trace", 1, status="failed", reason="once")
    measurements = [*rounds("trace", [5.0], [0.0]), failed, *rounds("trace", [1.0], [0.0])]
    assert [result.seconds for result in of(measurements).results] == [1.0]
    assert not of(measurements).failures
    (lost,) = of([*measurements, row("trace", 2, status="timeout", reason="late")]).failures
    assert lost == ("trace", "timeout", "late")


def test_the_page_is_a_pure_function_and_harmless(tmp_path: Path) -> None:
    measurements = [replace(each, network="<b>|x") for each in rows()]
    text = render_body(comparison_page(measurements))
    assert text == render_body(comparison_page(list(measurements)))
    assert "<b>" not in text
    assert "[x](" not in text
    assert "peerlib 1.2" in text
    assert "by the definition" in text
    assert "](comparison-b-x-" in text
    said = command_line([replace(each, network="a --> <b>") for each in measurements])
    assert ">" not in said
    assert "--n 8 --dataset digits --weights random" in said
    prepared = {**measurements[0].settings, "mean": "0.5,0.4", "std": "0.2"}
    said = command_line([replace(each, settings=prepared) for each in measurements])
    assert "--weights random --mean 0.5,0.4 --std 0.2" in said
    console = Console(record=True, width=200)
    show_page(comparison_page(measurements), console)
    shown = console.export_text()
    assert "<b>|x" in shown
    assert "Ours (trace) is the fastest exact one" in shown


def test_two_comparisons_of_one_network_have_a_picture_each() -> None:
    measurements = [*rows(), *(replace(each, match="1" * 64) for each in rows())]
    text = render_body(comparison_page(measurements))
    assert "(comparison-lenet-00000000.svg)" in text
    assert "(comparison-lenet-11111111.svg)" in text


def test_the_oracle_says_what_it_is() -> None:
    engine = [replace(each, note="float64 engine") if each.role == "oracle" else each for each in rows()]
    assert "2.0e-07*" in results_table(of(engine))["error"].tolist()
    assert "the exact engine itself" in render_body(comparison_page(engine))
    apart = {"gauss-newton": 3.0, "operators": "gelu"}
    other = [replace(each, details=apart) if each.role == "oracle" else each for each in rows()]
    assert "Gauss-Newton trace, which is different because of gelu, is 3" in render_body(comparison_page(other))
    none = [
        replace(each, value=None, status="skipped", reason="too large") if each.role == "oracle" else each
        for each in rows()
    ]
    assert "Oracle: -: too large" in render_body(comparison_page(none))


def test_the_front_is_of_those_that_none_surpasses_and_pictures_are_equal() -> None:
    found = of(rows())
    assert [each.name for each in pareto_results(found.results)] == ["wrong", "noisy", "trace"]
    with style.context(["default", FIGURE_STYLE]):
        assert render_svg(draw_results(found)) == render_svg(draw_results(of(rows())))


def test_of_eigenvalues_all_that_are_right_are_compared() -> None:
    measurements = [replace(each, quantity="top-eigenvalue", stochastic=False) for each in rows()]
    (said,) = write_verdicts(of(measurements))
    assert said.startswith("Ours (trace) is the fastest that is right to 1 %: the next, peer, takes 2.00x its time;")


def test_repetitions_of_an_iteration_are_not_extrapolated() -> None:
    """The mean of power iterations that stop too early is as wrong as each."""
    measurements = [replace(each, quantity="top-eigenvalue") for each in rows()]
    frame = results_table(of(measurements)).set_index("contestant")
    assert frame.loc["noisy", ["error", "to 1 %"]].tolist() == ["3.0e-02", "-"]


def test_without_an_error_nobody_is_called_wrong() -> None:
    measurements = [replace(each, error=None) for each in rows()]
    assert write_verdicts(of(measurements)) == ["Who is right cannot be told: no error is known."]


def test_of_a_truth_of_zero_zero_is_right() -> None:
    assert relative_error(0.0, 0.0) == 0.0
    assert relative_error(1e-9, 0.0) is None
    assert relative_error(-3.0, -2.0) == 0.5


def test_a_line_that_is_no_row_is_named(tmp_path: Path) -> None:
    path = tmp_path / "comparison.jsonl"
    good = rows()[0].to_json()
    path.write_text(f"{good}\n{good.replace('1.0', '1e999', 1)}\n")
    with pytest.raises(InvalidInput, match=r"comparison.jsonl:2: not a row of a comparison"):
        list(read_measurements(path))
    for broken in ("[]", '{"match":1}', good.replace('"round":0', '"round":"0"'), good.replace('"ok"', '"fine"')):
        path.write_text(broken + "\n")
        with pytest.raises(InvalidInput, match=r":1: not a row of a comparison"):
            list(read_measurements(path))
    path.write_text(rounds("trace", [0.5], [0.0])[1].to_json().replace('"seconds":0.5', '"seconds":0.0') + "\n")
    with pytest.raises(InvalidInput, match=r"field 'seconds' holds 0.0; expected a number above 0"):
        list(read_measurements(path))


def test_to_target_needs_an_error() -> None:
    result = of(rows()).results[0]
    assert isinstance(result, ContestantResult)
    assert replace(result, error=None).seconds_to_target is None
    assert replace(result, error=0.02, stochastic=True).seconds_to_target == pytest.approx(4 * result.seconds)
    assert replace(result, error=0.002, stochastic=True).seconds_to_target == result.seconds
