"""timm's published results: the packaged bytes, the drops, and what the page says of them."""

from __future__ import annotations

import hashlib
import re
from importlib.resources import files
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sharpbench.errors import InvalidInput
from sharpbench.replays.catalog import parse_replay
from sharpbench.replays.timm_results import archive as module
from sharpbench.replays.timm_results.archive import COLUMNS, FILE_NAME, SHA256, SHIFTS, read_timm_results
from sharpbench.replays.timm_results.replay import drop_tau, shift_table
from sharpbench.report.page import render_page

DATA = files("sharpbench.replays.timm_results") / "data"


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return read_timm_results()


def test_the_packaged_bytes_are_those_that_are_documented() -> None:
    content, page = (DATA / FILE_NAME).read_bytes(), (DATA / "README.md").read_text(encoding="utf-8")
    assert hashlib.sha256(content).hexdigest() == SHA256
    assert f"`{SHA256}`" in page
    assert list(COLUMNS) == content.decode().partition("\n")[0].split(",")
    assert [line.split("|")[1:3] for line in page.splitlines() if line.startswith("| `")] == [
        [f" `{name}` ", f" {meaning} "] for name, meaning in COLUMNS.items()
    ]


def test_a_changed_file_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / FILE_NAME).write_text("model\n", encoding="utf-8")
    monkeypatch.setattr(module, "files", lambda package: tmp_path)
    with pytest.raises(InvalidInput, match=f"{FILE_NAME} of this installation has SHA-256 .* install sharpbench again"):
        read_timm_results()


def test_rows_are_models_at_resolutions_and_families_are_words(table: pd.DataFrame) -> None:
    assert (len(table), table["model"].nunique(), table.isna().any(axis=1).sum()) == (1556, 1266, 1)
    assert not table.duplicated(["model", "img_size"]).any()
    families = table.set_index("model")["family"]
    for model, family in (("tf_efficientnet_b0.ns_jft_in1k", "efficientnet"), ("eva02_large_patch14_448", "eva")):
        assert families[next(name for name in families.index if name.startswith(model))] == family


def test_taus_are_those_of_going_through_the_pairs(table: pd.DataFrame) -> None:
    some = table.dropna().sample(60, random_state=0)
    for shift, (before, after) in SHIFTS.items():
        drop = (some[before] - some[after]).to_numpy()
        for name, column in (("param_count", "param_count"), ("top-1", before)):
            x = some[column].to_numpy()
            sign_x, sign_y = (np.sign(np.subtract.outer(each, each)) for each in (x, drop))
            expected = (sign_x * sign_y).sum() / np.sqrt(np.abs(sign_x).sum() * np.abs(sign_y).sum())
            assert drop_tau(some, shift, name).value == pytest.approx(expected, abs=1e-12)


def test_accuracy_before_the_shift_orders_the_drops_better_than_size(table: pd.DataFrame) -> None:
    """The page says so."""
    common = table[table["img_size"] == 224].dropna()
    for shift in SHIFTS:
        accuracy, size = drop_tau(common, shift, "top-1"), drop_tau(common, shift, "param_count")
        assert abs(accuracy.value or 0) > abs(size.value or 0)
        assert accuracy.interval is not None
        assert 0.0 not in accuracy.interval


def test_the_page_has_a_row_for_each_shift() -> None:
    replay = parse_replay("timm-results")
    assert replay.experiment("archive") is None
    page = render_page(replay.page("archive", (), {}), version="0", command="")
    assert page.count("| ImageNet-Sketch | ") == 2
    assert "1,556 rows" in page
    assert "Apache-2.0" in page


def test_the_example_of_the_documentation_gives_its_output(capsys: pytest.CaptureFixture[str]) -> None:
    page = (Path(__file__).parents[2] / "docs" / "replay.md").read_text(encoding="utf-8")
    code, expected = re.findall(r"```python\n(.*?)```\n\n```\n(.*?)```", page, re.DOTALL)[0]
    exec(code, {})
    assert capsys.readouterr().out == expected
    for row in shift_table(read_timm_results(), ("param_count", "img_size", "top-1")).to_numpy():
        assert f"| {' | '.join(row)} |" in page
