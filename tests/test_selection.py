"""Words to objects and back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sharpbench.errors import InvalidInput
from sharpbench.selection import configuration, label, select, select_one, split


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
    assert select_one(label(thing), OFFERED, kind="measure") == thing


def test_words_are_split_outside_of_brackets() -> None:
    assert split("a[b=1,c=d[e=2,f=3]], g ,,h") == ["a[b=1,c=d[e=2,f=3]]", "g", "h"]
    assert select("thing,thing[count=3],thing[count=4]", OFFERED, kind="measure") == (Thing(), Thing(count=4))
    assert label(Thing()) == "thing"
    assert label(Thing(flag=False, count=4)) == "thing[count=4,flag=false]"
    assert configuration(Thing()) == {
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
        ("thing[count=1.5]", "count=1.5 is no whole number"),
        ("thing[count=]", "count= is no whole number"),
        ("thing[rate=fast]", "rate=fast is no number"),
        ("thing[rate=nan]", "rate=nan is not finite"),
        ("thing[rate=-inf]", "rate=-inf is not finite"),
        ("thing[flag=1]", "flag=1 is neither true nor false"),
        ("thing[kind=tow]", r"kind=tow is none of one, two; did you mean 'two'"),
        ("thing[limit=x]", "limit=x is no whole number"),
        ("thing[count=-1]", "count=-1 must be at least 0"),
        ("thing[count=1,count=2]", "gives 'count' twice"),
        ("thing[count]", "'count' is no parameter=value"),
        ("thing[count=1", "unbalanced brackets"),
        ("thing[count=1]]", "unbalanced brackets"),
        ("thing]", "unknown measure"),
        ("x" * 10_000, "unknown measure 'x+"),
    ],
)
def test_bad_words_get_one_short_line(word: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=message) as raised:
        select_one(word, OFFERED, kind="measure")
    assert len(str(raised.value)) < 400
    assert "\n" not in str(raised.value)


def test_nothing_is_no_selection() -> None:
    with pytest.raises(InvalidInput, match="no model is named; `sharpbench list models` shows them"):
        select(" , ", OFFERED, kind="model")
