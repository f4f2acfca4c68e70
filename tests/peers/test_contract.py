"""What the contract suite says of each library: an adapter keeps the contract, what a library gets wrong it finds."""

from __future__ import annotations

import pytest
from sharpbench_peers import MEASURES

from sharpbench.testing.suite import examine
from tests.peers.conftest import peer

FAILS = {
    "paper-trace": {"oracle": "smooth"},  # the Gauss-Newton matrix, which is not the Hessian there
    "asdl-trace": {"oracle": "attention"},  # layer norm and linear layers on tokens
}
"""Measure -> the checks that it fails, and the network on which it does."""


@pytest.mark.slow
@pytest.mark.parametrize("name", [each.name for each in MEASURES])
def test_the_contract_suite_finds_what_a_library_gets_wrong_and_nothing_else(name: str) -> None:
    failed = {check.name: check.detail for check in examine(peer(name)) if check.outcome == "failed"}
    assert failed.keys() == FAILS.get(name, {}).keys(), failed
    for check, case in FAILS.get(name, {}).items():
        assert failed[check].startswith(f"{case}: ")
