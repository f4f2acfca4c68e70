"""The terminal table: complete, compact, and deaf to markup in names."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from sharpbench.analysis.scores import Score, score_records
from sharpbench.core.record import Record
from sharpbench.report.console import show_boards

Make = Callable[..., Record]
MakeMany = Callable[..., list[Record]]


_scored: dict[str, Sequence[Score]] = {}


def score_once(records: list[Record]) -> Sequence[Score]:
    """The scores of the records; most tests show the same ones, which the intervals make slow to find."""
    content = "".join(each.to_json() for each in records)
    if content not in _scored:
        _scored[content] = score_records(records)
    return _scored[content]


def shown(records: list[Record], *, width: int = 120, terminal: bool = False, full: bool = True) -> str:
    file = io.StringIO()
    console = Console(file=file, width=width, force_terminal=terminal, color_system=None)
    show_boards(score_once(records), records, console, full=full)
    return file.getvalue()


def test_the_table_holds_the_rows(records: MakeMany) -> None:
    text = shown(records())
    line = next(line for line in text.splitlines() if " good " in line)
    assert line.split()[:3] == ["1", "good", "25"]
    assert line.split()[-3:] == ["0.91", "0.00", "25/25"]
    headings = [line.split() for line in text.splitlines() if "measure " in line]
    assert headings[0] == ["rank", "measure", "n", "tau", "within", "tau", "Psi", "MI", "worst", "ok"]
    assert headings[1] == ["measure", "Spearman", "mean", "90", "%", "worst", "along", "psi", "label_noise"]
    assert headings[2] == ["measure", "error", "stderr", "seconds", "change", "grads", "memory"]
    by_axis, costs = (line.split() for line in text.splitlines() if line.split()[:1] == ["good"])
    assert by_axis[-4:] == ["0.00", "0.00", "label_noise", "1.00"]
    assert costs == ["good", "3e-10", "-/-", "0.0123", "1/3.4", "2.5", "12.3", "MB"]
    for name in ("confounded", "useless", "label noise", "training loss", "parameter norm", "random"):
        assert name in text
    assert "mlp on digits" in text
    assert "25 networks, 0 excluded as not fitted; ranked by tau within cells" in text
    assert "environment: cores 2, processor P 1" in text


def test_the_full_board_states_its_power(records: MakeMany) -> None:
    line = "power: a difference of 0.57 would be told apart in 80 % of such populations"
    assert line in shown(records())
    assert "power" not in shown(records(), full=False)
    assert "power" not in shown(records(measures=("good",)))  # nothing is compared


@pytest.mark.parametrize("width", [80, 100])
def test_the_short_board_is_one_table_that_fits_a_narrow_terminal(width: int, records: MakeMany) -> None:
    text = shown(records(), width=width, terminal=True, full=False)
    lines = text.splitlines()
    assert max(map(len, lines)) <= width
    assert lines[1].split() == ["rank", "measure", "tau", "within", "tau", "invariant", "grads"]
    row = next(line.split() for line in lines if " good " in line)
    assert row[:2] == ["1", "good"]
    assert row[-2:] == ["layers", "2.50"]
    assert row[2] == "0.96"
    assert "environment" not in text
    assert "Of 3 ranked measures good ranks first by tau within cells." in " ".join(text.split())


def test_long_names_of_the_short_board_end_lines_behind_their_marks(record: Make) -> None:
    rng = np.random.default_rng(0)
    name = "a-measure-with-a-long-name[diagonal=icml,samples=20]"
    found = [
        record(measure=name, ratio=ratio, seed=seed, value=float(rng.random()), truth={"gap": float(rng.random())})
        for ratio in (0.0, 0.5, 1.0)
        for seed in range(5)
    ]
    lines = [line.strip() for line in shown(found, width=60, terminal=True, full=False).splitlines()]
    start = next(place for place, line in enumerate(lines) if " a-measure-" in line)
    assert "".join([lines[start].split()[1], *lines[start + 1 : start + 5]]).startswith(name[:39])
    assert all(line.endswith(("-", "[", ",")) for line in lines[start + 1 : start + 3])


@pytest.mark.parametrize("width", [114, 120])
def test_a_row_is_a_line_in_terminals_of_usual_width(width: int, records: MakeMany) -> None:
    lines = shown(records(), width=width, terminal=True).splitlines()
    assert max(map(len, lines)) <= width
    line = next(line for line in lines if "useless" in line)
    assert line.rstrip().endswith("25/25")
    assert any("parameter norm" in line for line in lines)
    assert "…" not in "".join(lines)


@pytest.mark.parametrize("width", [60, 80, 100])
def test_a_narrow_terminal_has_all_columns_in_further_tables(width: int, records: MakeMany) -> None:
    text = shown(records(), width=width, terminal=True)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    headings = " ".join(line for line in text.splitlines() if "measure " in line).split()
    for name in ("rank", "n", "tau", "within", "Psi", "MI", "worst", "ok", "Spearman", "mean", "along", "seconds"):
        assert name in headings
    rows = [line.split() for line in text.splitlines() if line.split()[:1] == ["good"]]
    assert ["25/25"] in [row[-1:] for row in rows]


def test_hyperparameters_that_do_not_fit_are_in_a_further_table(record: Make) -> None:
    rng = np.random.default_rng(0)
    found = [
        record(
            ratio=0.0,
            seed=seed,
            value=float(rng.random()),
            truth={"gap": float(rng.random())},
            recipe={f"parameter{axis}": (number >> axis) & 1 for axis in range(6)},
        )
        for number in range(64)
        for seed in range(3)
    ]
    text = shown(found, width=114, terminal=True)
    assert max(map(len, text.splitlines())) <= 114
    assert all(f"psi parameter{axis}" in text for axis in range(6))


def with_errors(records: list[Record], *, available: int) -> list[Record]:
    """Values that are exact on 512 of `available` examples, with a standard error of 2 % over the draw of these."""
    data = {"available": available}
    return [
        replace(each, stderr=0.0, stderr_examples=0.02 * abs(each.value or 0), data={**each.data, **data})
        for each in records
    ]


def test_standard_errors_over_examples_are_next_to_those_over_probes(records: MakeMany) -> None:
    text = shown(with_errors(records(), available=60_000))
    assert [line.split()[2] for line in text.splitlines() if line.split()[:1] == ["good"]][-1] == "0/2%"
    assert "measured on 512 of the 60,000 examples that each network was trained on, which are a draw" in text
    assert "; intervals of mutual information and sign errors are for these examples only" in text
    assert "over the draw of the examples (second; all: not stated, and no example was left out)" in text
    whole = shown(with_errors(records(), available=512))
    assert [line.split()[2] for line in whole.splitlines() if line.split()[:1] == ["good"]][-1] == "0/2%"
    where = "measured on all 512 examples that each network was trained on"
    assert f"{where}; errors over examples are for another draw of as many" in whole
    assert "for these examples only" not in whole
    unknown = [replace(each, stderr_examples=None) for each in with_errors(records(), available=512)]
    text = shown(unknown)
    assert [line.split()[2] for line in text.splitlines() if line.split()[:1] == ["good"]][-1] == "0/all"
    assert f"{where}\n" in text


def test_intervals_without_an_error_over_examples_say_so(records: MakeMany) -> None:
    drawn = with_errors(records(), available=60_000)
    note = "intervals are for these examples, as no error over their draw is stated"
    assert note not in shown(drawn)
    assert note in shown([replace(each, stderr_examples=None) for each in drawn])


def test_values_of_two_matrices_are_told_apart(records: MakeMany) -> None:
    matrices = {"good": "hessian", "useless": "gauss-newton"}
    found = [
        replace(each, details={"matrix": matrices[each.label]} if each.label in matrices else {}) for each in records()
    ]
    text = shown(found)
    assert "values of the Hessian: good" in text
    assert "values of the Gauss-Newton matrix: useless" in text
    assert "values of the" not in shown([each for each in found if each.label != "useless"])


def test_seconds_next_to_other_work_carry_a_mark(records: MakeMany) -> None:
    text = shown([replace(each, contended=each.label == "good") for each in records()])
    assert [line.split()[3] for line in text.splitlines() if line.split()[:1] == ["good"]][-1] == "0.0123!"
    assert "!: seconds and gradients of calls next to other work" in text
    assert "0.0123!" not in shown(records())


def test_a_file_gets_the_full_table(records: MakeMany) -> None:
    text = shown(records(), width=80)
    assert "\x1b" not in text
    assert next(line for line in text.splitlines() if " good " in line).rstrip().endswith("25/25")


def test_partial_rows_failures_and_missing_intervals_are_said(records: MakeMany) -> None:
    found = [
        replace(row, status="failed", value=None, reason=f"[bold]why {row.recipe['seed']}")
        if row.label == "good"
        else row
        for row in records(seeds=3)
    ]
    found[1] = replace(found[1], exact=found[1].value, oracle="float64 engine")
    text = shown(found)
    assert "good (partial)" in text
    assert "good, 5 failed: [bold]why 0" in text
    assert "no interval of tau within: the smallest cell holds 3 networks, an interval needs 5" in text
    assert "ranked by tau over all networks (cells too small for within)" in text
    assert "* against the float64 engine" in text


def test_seconds_of_different_environments_are_not_put_in_one_cell(record: Make) -> None:
    found = [record(ratio=0.1 * step, seconds=1.0, environment={"processor": f"P{step}"}) for step in range(3)]
    assert " differ " in shown(found)
    assert "environment: processor P2" in shown(found)


def test_hostile_names_are_shown_as_they_are_and_cut(record: Make) -> None:
    name = "[red]x[/red][/] \x1b[2J\nnext " + "y" * 10_000
    found = [record(name, ratio=ratio, value=ratio, model=name, environment={name: name}) for ratio in (0.0, 0.5)]
    found += [record(name, ratio=1.0, value=None, status="failed", reason=name * 50 + str(step)) for step in range(1)]
    text = shown(found)
    assert "[red]x[/red][/]" in text
    assert "\x1b" not in text
    assert len(text) < 10_000


def test_many_reasons_are_cut(records: MakeMany) -> None:
    found = [
        replace(row, status="failed", value=None, reason=f"reason {index}")
        for index, row in enumerate(records(seeds=3))
    ]
    assert "and 33 more reasons, in the records" in shown(found)


def test_nothing_prints_nothing() -> None:
    assert shown([]) == ""


@pytest.mark.parametrize(
    ("invariance", "gradients", "shown_as"),
    [
        ({"layer": 1.0, "unit": 1.0}, 0.003, ["units", "<0.01"]),
        ({"layer": 1.0, "unit": None}, 9.994, ["layers", "9.99"]),
        ({"layer": 1.2, "unit": 3.4}, 46.83, ["no", "46.8"]),
    ],
)
def test_the_short_board_says_what_a_measure_is_invariant_to_and_costs(
    invariance: dict[str, float | None], gradients: float, shown_as: list[str], records: MakeMany
) -> None:
    found = [replace(each, invariance=invariance, gradients=gradients) if each.seconds else each for each in records()]
    lines = shown(found, width=80, terminal=True, full=False).splitlines()
    assert next(line.split() for line in lines if " good " in line)[-2:] == shown_as


def test_a_column_without_values_and_its_footnote_are_left_out(records: MakeMany) -> None:
    text = shown([replace(each, invariance={}) for each in records()], width=80, terminal=True, full=False)
    assert "invariant" not in text
    assert "grads: time in forward and backward passes" in " ".join(text.split())
