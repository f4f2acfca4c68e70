"""Optimisers as values: bounds, words, and where they are offered."""

from __future__ import annotations

from typing import Any

import pytest

from sharpbench.core.registry import plugin_error
from sharpbench.core.spec import format_spec, parse_specs
from sharpbench.errors import InvalidInput
from sharpbench.training.optimizers import OPTIMIZERS, Adam, AdamW, Asam, FriendlySam, MSam, Optimizer, Sam, SamPa, Sgd

OFFERED = {cls.name: cls for cls in OPTIMIZERS}


@pytest.mark.parametrize(
    ("cls", "values", "message"),
    [
        (Sgd, {"momentum": 1.0}, r"optimizer 'sgd': momentum=1.0 must be from 0 to below 1"),
        (Sam, {"momentum": -0.1}, r"optimizer 'sam': momentum=-0.1 must be from 0 to below 1"),
        (Sam, {"rho": -1.0}, r"optimizer 'sam': rho=-1.0 must be at least 0"),
        (MSam, {"size": 0}, r"optimizer 'm-sam': size=0 must be at least 1"),
        (MSam, {"size": 1.5}, r"optimizer 'm-sam': size=1.5 is not a whole number"),
        (Asam, {"eta": -0.5}, r"optimizer 'asam': eta=-0.5 must be at least 0"),
        (Asam, {"rho": float("nan")}, r"optimizer 'asam': rho=nan is not finite"),
        (Asam, {"normalization": "filters"}, r"normalization=filters is none of element, filter; did you mean 'filt"),
        (Asam, {"biases": 1}, r"optimizer 'asam': biases=1 is neither true nor false"),
        (FriendlySam, {"sigma": -1.0}, r"optimizer 'f-sam': sigma=-1.0 must be at least 0"),
        (FriendlySam, {"smoothing": 1.0}, r"optimizer 'f-sam': smoothing=1.0 must be from 0 to below 1"),
        (SamPa, {"weight": 1.1}, r"optimizer 'sampa': weight=1.1 must be from 0 to 1"),
        (Adam, {"beta1": 1.0}, r"optimizer 'adam': beta1=1.0 must be from 0 to below 1"),
        (AdamW, {"beta2": -1.0}, r"optimizer 'adamw': beta2=-1.0 must be from 0 to below 1"),
        (Adam, {"epsilon": 0.0}, r"optimizer 'adam': epsilon=0.0 must be above 0"),
    ],
)
def test_fields_have_bounds(cls: type[Optimizer], values: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        cls(**values)


def test_words_and_objects_are_the_same() -> None:
    words = "sgd,sam[rho=0.1],asam[normalization=filter,biases=true],m-sam[size=8],f-sam,sampa,adam,adamw[beta1=0.5]"
    chosen = parse_specs(words, OFFERED, kind="optimizer")
    assert [type(each) for each in chosen] == [Sgd, Sam, Asam, MSam, FriendlySam, SamPa, Adam, AdamW]
    assert ",".join(format_spec(each) for each in chosen) == words


@pytest.mark.parametrize("cls", OPTIMIZERS, ids=lambda cls: cls.name)
def test_each_can_be_offered(cls: type[Optimizer]) -> None:
    assert plugin_error("optimizers", cls) is None
    assert OFFERED[cls.name] is cls
