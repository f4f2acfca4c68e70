"""The pages of measures: what they hold, and that the published ones are those of the classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sharpbench import InvalidInput
from sharpbench.core.catalog import list_installed
from sharpbench.report.measure_pages import INDEX, NOTICE, index_page, measure_page, measure_pages, pages_folder

PUBLISHED = Path(__file__).parents[2] / "docs" / "measures"

ROW: dict[str, Any] = {
    "name": "odd",
    "title": "a | b",
    "source": "<script>",
    "package": "elsewhere",
    "parameters": [{"name": "flag", "default": True, "type": "bool"}],
    "invariances": [],
    "depends": ["dataset-size"],
    "version": 3,
    "family": "norm",
    "definition": "sum_j |theta_j|",
    "reduction": "",
    "included": "",
    "cost": "",
    "oracle": "By hand.",
    "oracle_limit": 20_000,
    "docstring": "Text with\n```\na fence\n```",
    "bibtex": "@misc{a}",
}


def test_the_published_pages_are_those_of_the_classes() -> None:
    rows = [row for row in list_installed("measures") if row["package"] == "sharpbench"]
    assert pages_folder(PUBLISHED).find_stale(measure_pages(rows)) == {}, "`make docs` writes them"


def test_a_page_holds_what_the_class_says_and_no_markup_of_its_own() -> None:
    text = measure_page(ROW)
    assert text.startswith(f"{NOTICE}\n\n# odd\n\na \\| b\n")
    for said in ("sum\\_j \\|theta\\_j\\|", "&lt;script&gt;", "| version ", "| dataset-size", "| true ", "@misc{a}"):
        assert said in text
    assert "By hand. Above 20,000 parameters it checks only rounding." in text
    assert text.count("not stated") == 3
    assert "````text\nText with\n```\na fence\n```\n````" in text


def test_what_is_not_said_has_no_section() -> None:
    text = measure_page({**ROW, "parameters": [], "docstring": "", "bibtex": "", "oracle_limit": None})
    assert "##" not in text
    assert "| By hand. " in text


def test_the_index_links_every_page() -> None:
    assert "| [`odd`](odd.md) | a \\| b" in index_page([ROW])
    assert set(measure_pages([ROW, {**ROW, "name": "even"}])) == {INDEX, "odd.md", "even.md"}


def test_writing_makes_a_folder_current_and_says_what_was_not(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "pages"
    wanted = measure_pages([ROW])
    pages = pages_folder(folder)
    assert pages.find_stale(wanted) == pages.update(wanted) == {INDEX: "is missing", "odd.md": "is missing"}
    assert pages.find_stale(wanted) == pages.update(wanted) == {}
    (folder / "odd.md").write_text(f"{NOTICE}\nchanged", encoding="utf-8")
    (folder / "gone.md").write_text(f"{NOTICE}\nof a measure that is gone", encoding="utf-8")
    (folder / "guide.md").write_text("written by hand", encoding="utf-8")
    assert pages.find_stale(wanted) == {"gone.md": "is stale", "odd.md": "differs"}
    assert list(pages.update(wanted)) == ["gone.md", "odd.md"]
    assert {path.name for path in folder.iterdir()} == {INDEX, "odd.md", "guide.md"}


def test_what_was_written_by_hand_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / INDEX).write_text("my own", encoding="utf-8")
    with pytest.raises(InvalidInput, match=r"README.md was not generated and would be overwritten; move it"):
        pages_folder(tmp_path).update(measure_pages([ROW]))
    assert [path.name for path in tmp_path.iterdir()] == [INDEX]


def test_a_folder_that_cannot_be_made_is_bad_input(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(InvalidInput, match=r"cannot write into .*file/pages: .*; name another folder"):
        pages_folder(tmp_path / "file" / "pages").update(measure_pages([ROW]))
