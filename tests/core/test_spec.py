"""Words to objects and back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sharpbench.core.spec import format_spec, parse_spec, parse_specs, split_specs, to_config
from sharpbench.errors import InvalidInput


@dataclass(frozen=True)
class Thing:
    name: ClassVar[str] = "thing"
    count: int = 3
    rate: float = 0.5
    flag: bool = True
    kind: Literal["one", "two"] = "one"
    limit: int | None = None
    word: str = "x"

    def __post_init__(self) -> None:
        if self.count < 0:
            raise ValueError(f"count={self.count} must be at least 0")


OFFERED: dict[str, type[Thing]] = {"thing": Thing, "another": Thing}


@given(
    st.builds(
        Thing,
        count=st.integers(0, 10**9),
        rate=st.floats(allow_nan=False, allow_infinity=False),
        flag=st.booleans(),
        kind=st.sampled_from(["one", "two"]),
        limit=st.none() | st.integers(),
        word=st.text(alphabet="abcdefghijklmnop-", min_size=1).filter(lambda text: text.strip() == text),
    )
)
def test_a_label_selects_what_it_names(thing: Thing) -> None:
    assert parse_spec(format_spec(thing), OFFERED, kind="measure") == thing


def test_words_are_split_outside_of_brackets() -> None:
    assert split_specs("a[b=1,c=d[e=2,f=3]], g ,,h") == ["a[b=1,c=d[e=2,f=3]]", "g", "h"]
    assert parse_specs("thing,thing[count=3],thing[count=4]", OFFERED, kind="measure") == (Thing(), Thing(count=4))
    assert format_spec(Thing()) == "thing"
    assert format_spec(Thing(flag=False, count=4)) == "thing[count=4,flag=false]"
    assert to_config(Thing()) == {
        "count": 3,
        "rate": 0.5,
        "flag": True,
        "kind": "one",
        "limit": None,
        "word": "x",
    }


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("thng", r"unknown measure 'thng'; did you mean 'thing'\?"),
        ("qqqqqqqq", "unknown measure 'qqqqqqqq'; `sharpbench list measures` shows all"),
        ("thing[cuont=1]", r"no parameter 'cuont'; did you mean 'count'\?"),
        ("thing[zzzz=1]", "no parameter 'zzzz'; it takes count, rate"),
        ("thing[count=1.5]", "count=1.5 is not a whole number"),
        ("thing[count=]", "count= is not a whole number"),
        ("thing[rate=fast]", "rate=fast is not a number"),
        ("thing[rate=nan]", "rate=nan is not finite"),
        ("thing[rate=-inf]", "rate=-inf is not finite"),
        ("thing[flag=1]", "flag=1 is neither true nor false"),
        ("thing[kind=tow]", r"kind=tow is none of one, two; did you mean 'two'"),
        ("thing[limit=x]", "limit=x is not a whole number"),
        ("thing[count=-1]", "count=-1 must be at least 0"),
        ("thing[count=1,count=2]", "gives 'count' twice"),
        ("thing[count]", "'count' is not parameter=value"),
        ("thing[count=1", "unbalanced brackets"),
        ("thing[count=1]]", "unbalanced brackets"),
        ("thing]", "unknown measure"),
        ("x" * 10_000, "unknown measure 'x+"),
    ],
)
def test_bad_words_get_one_short_line(word: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=message) as raised:
        parse_spec(word, OFFERED, kind="measure")
    assert len(str(raised.value)) < 400
    assert "\n" not in str(raised.value)


def test_nothing_is_no_selection() -> None:
    with pytest.raises(InvalidInput, match="no model is named; `sharpbench list models` shows them"):
        parse_specs(" , ", OFFERED, kind="model")


@dataclass(frozen=True)
class Needy:
    name: ClassVar[str] = "needy"
    required: int
    choice: Literal["a", "b"] | None = None
    number: float | None = 1.0
    whole: Literal[1, 2] = 1


NEEDY: dict[str, type[Needy]] = {"needy": Needy}


@given(st.integers(), st.sampled_from([None, "a", "b"]), st.none() | st.floats(allow_nan=False, allow_infinity=False))
def test_labels_of_optional_fields_come_back_too(
    required: int, choice: Literal["a", "b"] | None, number: float
) -> None:
    needy = Needy(required, choice, number, 2)
    assert parse_spec(format_spec(needy), NEEDY, kind="measure") == needy
    assert format_spec(needy).startswith(f"needy[required={required},")


@given(st.lists(st.integers(0, 5).map(Thing), min_size=1, max_size=6))
def test_several_come_back_in_their_order_each_once(things: list[Thing]) -> None:
    text = " , ".join(format_spec(thing) for thing in things)
    assert parse_specs(text, OFFERED, kind="measure") == tuple(dict.fromkeys(things))


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("thing[flag=FALSE]", Thing(flag=False)),
        ("thing[flag=True]", Thing()),
        ("thing[limit=None]", Thing()),
        ("thing[limit=-7]", Thing(limit=-7)),
        ("thing[rate=1e-3]", Thing(rate=1e-3)),
        ("thing[rate=2]", Thing(rate=2.0)),
        ("thing[]", Thing()),
        (" thing [ count = 4 , rate = 0.25 ] ", Thing(count=4, rate=0.25)),
        ("thing[kind=two,]", Thing(kind="two")),
    ],
)
def test_values_have_the_types_of_their_fields(word: str, expected: Thing) -> None:
    chosen = parse_spec(word.strip(), OFFERED, kind="measure")
    assert chosen == expected
    assert to_config(chosen) == to_config(expected)
    assert {key: type(value) for key, value in to_config(chosen).items()} == {
        key: type(value) for key, value in to_config(expected).items()
    }


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("needy", "measure 'needy': .*required"),
        ("needy[required=none]", "required=none is not a whole number"),
        ("needy[required=1,choice=c]", "choice=c is none of a, b"),
        ("needy[required=1,number=x]", "number=x is not a number"),
        ("needy[required=1,number=nan]", "number=nan is not finite"),
        ("needy[required=1,whole=3]", "whole=3 is none of 1, 2"),
        ("needy[required=1e3]", "required=1e3 is not a whole number"),
        ("needy[required=true]", "required=true is not a whole number"),
        ("needy[name=x]", r"no parameter 'name'"),
        ("needy[=1]", "no parameter ''"),
        ("", "unknown measure ''"),
        ("[required=1]", "unknown measure ''"),
    ],
)
def test_bad_values_of_every_type_are_refused(word: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        parse_spec(word, NEEDY, kind="measure")


@dataclass(frozen=True)
class Plain:
    name: ClassVar[str] = "plain"


def test_what_takes_no_parameters_says_so() -> None:
    with pytest.raises(InvalidInput, match="measure 'plain' has no parameter 'count'; it takes none"):
        parse_spec("plain[count=1]", {"plain": Plain}, kind="measure")


LONG = "x" * 10_000


@pytest.mark.parametrize(
    "word",
    [
        *(LONG, LONG + "[", LONG + "]", LONG + "[a]", LONG + "[a=1,a=2]", f"{LONG}[a=1]", f"thing[{LONG}]"),
        *(f"thing[{LONG}=1]", f"thing[count={LONG}]", f"thing[kind={LONG}]", f"thing[flag={LONG}]"),
        *(f"thing[{LONG}", f"thing[{LONG}=1,{LONG}=1]", f"thing[count={'1' * 10_000}]", f"thing[rate={LONG}]"),
        *(
            "two\nlines",
            "thing[two\nlines=1]",
            "thing[count=two\nlines]",
            "thing[kind=two\nlines]",
            "thing[\n",
            "\x1b[31m",
        ),
    ],
    ids=range(21),
)
def test_long_words_and_several_lines_get_one_short_line(word: str) -> None:
    with pytest.raises(InvalidInput) as raised:
        parse_spec(word, OFFERED, kind="measure")
    assert len(str(raised.value)) < 400
    assert str(raised.value).isprintable()
