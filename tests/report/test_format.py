"""Numbers and names as readers see them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from sharpbench.analysis.scores import score_records
from sharpbench.analysis.statistics import Information, Interval, Null, Tau
from sharpbench.core.record import Record
from sharpbench.report.columns import board_notes
from sharpbench.report.format import (
    format_correlation,
    format_error,
    format_information,
    format_interval,
    format_memory,
    format_null,
    format_number,
    format_tau,
    plain_text,
)


def test_numbers() -> None:
    assert [format_correlation(value) for value in (0.864, -0.001, 1.0, -0.5)] == ["0.86", "0.00", "1.00", "-0.50"]
    assert [format_number(value) for value in (None, 0.01234, 2.5, 12345.6, 0.0)] == [
        "-",
        "0.0123",
        "2.5",
        "12,346",
        "0",
    ]
    assert [format_error(value) for value in (0.0, 3.14e-10, 0.5)] == ["0", "3.1e-10", "5.0e-01"]
    assert [format_memory(size) for size in (None, 0, 999, 1000, 999_600, 12.3e6, 5e9, 7e12, 8e15)] == [
        "-", "0 B", "999 B", "1 kB", "1 MB", "12.3 MB", "5 GB", "7 TB", "8e+03 TB",
    ]  # fmt: skip


def test_mutual_information_says_when_it_is_chance_and_when_the_order_is_opposite() -> None:
    null = Null(("lr", "width"), 0.25, 0.02, 0.001)
    known = Information(0.125, None, None, 9, (), -1, null)
    assert format_information(known) == "0.12 rev."
    assert format_information(replace(known, direction=1)) == "0.12"
    assert format_information(replace(known, null=replace(null, p=0.051))) == "0.12 n.s."
    assert format_information(replace(known, null=None, direction=0)) == "0.12"
    assert format_null(null) == "0.25, chance 0.02, p 0.001 given lr, width"
    assert format_null(replace(null, given=())) == "0.25, chance 0.02, p 0.001"
    assert format_null(None) == "-"
    assert format_information(Information(None, None, "constant", 9)) == "-"
    assert format_interval(Interval(0.0, 0.5)) == " [0.00, 0.50]"
    assert format_interval(None) == ""


def test_a_tau_without_an_interval_or_a_value() -> None:
    assert format_tau(Tau(0.5, Interval(-0.25, 0.751), None, 9, 3)) == "0.50 [-0.25, 0.75]"
    assert format_tau(Tau(0.5, None, "too few", 9, 3)) == "0.50"
    assert format_tau(Tau(None, None, "constant", 9, 3)) == "-"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("one\ntwo\r\n\tthree", "one two three"),
        ("\x1b[31mred\x07\x00", "[31mred"),
        ("\u202ereversed\u2028line\ud800", "reversed line"),
        ("0123456789" * 1000, "0123456789012345678…"),
        (" " * 10_000, ""),
        ("", ""),
    ],
)
def test_plain_is_one_short_line_that_cannot_steer_a_terminal(text: str, expected: str) -> None:
    found = plain_text(text, 20)
    assert found.replace("…", "") == expected.replace("…", "")
    assert len(found) <= 20
    assert found.isprintable()


def test_notes_group_the_names_by_what_is_missing(records: Callable[..., list[Record]]) -> None:
    scores = [row for row in score_records(records(seeds=3)) if row.kind == "measure"]
    assert board_notes(scores) == [
        (
            "no interval of tau within: the smallest cell holds 3 networks, an interval needs 5",
            ["good", "confounded", "useless"],
        ),
        (
            "no interval of mutual information: 15 networks in 5 cells, an interval needs 20",
            ["good", "confounded", "useless"],
        ),
        (
            "no sign error: none of 10 environments has 12 effective pairs whose gaps 1000 test examples tell apart",
            ["good", "confounded", "useless"],
        ),
        ("no interval of Spearman: 15 networks, an interval needs 50", ["good", "confounded", "useless"]),
    ]
