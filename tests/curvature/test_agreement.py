"""Kinds of networks and losses on which derivatives are known to go wrong, compared with the definition."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import pytest
import torch

from benchmarks.definition import Definition
from benchmarks.suite_layers import ALL_KINDS, SUITES
from benchmarks.unusual_layers import ISSUE, OTHERS, kind_subject
from sharpbench import measure

TYPES = (torch.float32, torch.float64)


@pytest.fixture(autouse=True)
def users_warnings() -> Iterator[None]:
    """As a user has them: a warning is no error."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def check(name: str, dtype: torch.dtype) -> None:
    truth = Definition(ALL_KINDS[name])
    subject = kind_subject(ALL_KINDS[name], dtype)
    spectrum = torch.linalg.eigvalsh((truth.hessian + truth.hessian.T) / 2)
    wanted = {
        "gradient-norm": float(truth.gradient.norm()),
        "trace[method=naive]": float(truth.hessian.trace()),
        "top-eigenvalue": float(spectrum[-1]),
        "hessian-frobenius[method=exact]": float(truth.hessian.norm()),
        "ggn-trace": float(truth.gauss_newton().trace()),
    }
    size = float(truth.hessian.norm())
    rtol, atol = (1e-3, 2e-4 * size) if dtype == torch.float32 else (1e-6, 1e-7 * size)
    for words, value in wanted.items():
        assert measure(words, subject).value == pytest.approx(value, rel=rtol, abs=atol), words
    found = measure("trace", subject)
    assert found.stderr is not None
    assert abs(found.value - wanted["trace[method=naive]"]) <= 5 * found.stderr + rtol * abs(found.value) + atol


@pytest.mark.parametrize("name", ISSUE)
def test_numbers_are_those_of_the_definition(name: str) -> None:
    check(name, torch.float64)


@pytest.mark.slow
@pytest.mark.parametrize("name", ISSUE)
def test_numbers_are_those_of_the_definition_in_float32(name: str) -> None:
    check(name, torch.float32)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("name", [*OTHERS, *SUITES])
def test_other_kinds_are_those_of_the_definition(name: str, dtype: torch.dtype) -> None:
    check(name, dtype)
