"""InvalidInput: one line, whatever it quotes."""

from __future__ import annotations

import pickle

import pytest

from sharpbench.environment import resolve_device
from sharpbench.errors import InvalidInput, one_line, shorten, truncate


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain, Größe and 数 stay", "plain, Größe and 数 stay"),
        ("two\nlines\r\n", r"two\nlines\r\n"),
        ("\x1b[31mred\x00", r"\x1b[31mred\x00"),
        ("\u2028 \ud800", r"\u2028 \ud800"),
    ],
)
def test_a_message_is_one_line_that_prints(text: str, expected: str) -> None:
    error = InvalidInput(text)
    assert str(error) == one_line(text) == expected
    assert str(pickle.loads(pickle.dumps(error))) == expected
    assert isinstance(error, ValueError)


def test_what_is_cut_keeps_its_head_and_says_that_more_was_there() -> None:
    assert truncate("x" * 9, 9) == "x" * 9
    assert truncate("head " + "x" * 9, 9) == "head x..."
    assert truncate("\n" * 9, 9) == r"\n\n\n..."


def test_quoted_words_are_short() -> None:
    assert shorten("x" * 60) == "x" * 60
    assert shorten("x" * 61) == "x" * 57 + "..."
    assert shorten("\n" * 10_000) == r"\n" * 28 + "\\..."


def test_a_device_that_is_none_is_quoted_shortly() -> None:
    with pytest.raises(InvalidInput, match=r"^device 'g\\n(gpu)+\.\.\.' is none of auto, cpu, cuda$"):
        resolve_device("g\n" + "gpu" * 1000)


def test_a_long_message_loses_its_middle_and_keeps_its_remedy() -> None:
    text = str(InvalidInput(f"label '{'x' * 150_000}' is too long; shorten it"))
    assert 1900 < len(text) <= 2000
    assert text.startswith("label 'xxx")
    assert text.endswith("xxx' is too long; shorten it")
