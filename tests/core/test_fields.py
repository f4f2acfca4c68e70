"""Fields of a frozen dataclass: checked against their annotations, and filled from a strict row."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import pytest

from sharpbench.core.fields import Scalar, check_fields, check_names, from_row, is_finite, is_scalar, type_error
from sharpbench.errors import InvalidInput


@dataclass(frozen=True, kw_only=True)
class Row:
    name: ClassVar[str] = "row"
    text: str = ""
    whole: int = 0
    number: float = 0.0
    flag: bool = False
    option: Literal["a", "b", 3] = "a"
    limit: int | None = None
    any_scalar: Scalar = None
    scalars: Mapping[str, Scalar] = field(default_factory=dict)
    numbers: Mapping[str, float] = field(default_factory=dict)
    other: object = None


SOUND: list[dict[str, Any]] = [
    {},
    {"text": "x", "whole": -3, "number": 2, "flag": True, "option": 3, "limit": 7, "any_scalar": False},
    {"scalars": {"a": None, "b": "x", "c": 1.5, "d": True}, "numbers": {"a": 1, "b": 2.5}, "other": [object()]},
]
WRONG: list[tuple[dict[str, Any], str]] = [
    ({"text": None}, "text=None is not text"),
    ({"whole": 1.0}, "whole=1.0 is not a whole number"),
    ({"whole": True}, "whole=True is not a whole number"),
    ({"number": "1"}, "number='1' is not a number"),
    ({"number": True}, "number=True is not a number"),
    ({"number": math.nan}, "number=nan is not finite"),
    ({"flag": 1}, "flag=1 is neither true nor false"),
    ({"option": "c"}, "option='c' is none of a, b, 3"),
    ({"option": 3.0}, "option=3.0 is none of a, b, 3"),
    ({"limit": "x"}, "limit='x' is not a whole number"),
    ({"any_scalar": [1]}, "any_scalar=[1] is not text, a finite number, true, false or none"),
    ({"any_scalar": math.inf}, "any_scalar=inf is not finite"),
    ({"scalars": [1]}, "scalars=[1] is not a dictionary"),
    ({"scalars": {3: 1}}, "scalars={3: 1} has the key 3, which is not text"),
    ({"scalars": {"a": {}}}, "has a={}, which is not text, a finite number, true, false or none"),
    ({"numbers": {"a": "1"}}, "has a='1', which is not a number"),
    ({"numbers": {"a": True}}, "has a=True, which is not a number"),
    ({"numbers": {"a": math.inf}}, "has a=inf, which is not finite"),
]


@pytest.mark.parametrize("given", SOUND, ids=lambda given: "-".join(given) or "nothing")
def test_values_of_their_annotations_pass(given: dict[str, Any]) -> None:
    assert type_error(Row(**given)) == ""
    check_fields(Row(**given))


@pytest.mark.parametrize(("given", "message"), WRONG, ids=str)
def test_any_other_value_is_named_with_its_field(given: dict[str, Any], message: str) -> None:
    assert message in type_error(Row(**given))
    with pytest.raises(InvalidInput, match=f"kind 'row': {next(iter(given))}="):
        check_fields(Row(**given), kind="kind")


def test_an_integer_beyond_the_largest_float_is_too_large() -> None:
    assert type_error(Row(number=10**400)).endswith("is too large")
    assert type_error(Row(whole=10**400)).endswith("is too large")
    assert type_error(Row(scalars={"a": 10**400})).endswith("is too large")
    assert not is_finite(10**400)
    assert not is_scalar(10**400)


@dataclass(frozen=True)
class Pair:
    first: int
    second: int = 0


def test_a_row_becomes_a_value_if_it_has_exactly_its_fields() -> None:
    assert from_row(Pair, {"second": 2, "first": 1}) == Pair(1, 2)
    for row, named in (({"first": 1}, "second"), ({"first": 1, "second": 2, "third": 3}, "third"), ([1, 2], "list")):
        with pytest.raises(InvalidInput, match=f"^missing or unknown fields: {named}; mend it$"):
            from_row(Pair, row, remedy="mend it")
    with pytest.raises(InvalidInput, match=r"^missing or unknown fields: a, b, c, d, e$"):
        check_names({}, "abcdefgh")
