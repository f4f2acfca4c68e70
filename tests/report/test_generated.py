"""Folders of generated files: what is out of date, and that files written by hand stay."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sharpbench import InvalidInput
from sharpbench.report.generated import GeneratedFolder, write_files

NOTICE = "<!-- generated -->"


def test_only_places_of_the_patterns_are_cleared(tmp_path: Path) -> None:
    folder = GeneratedFolder(tmp_path, NOTICE, ("*.md", "plots/*.svg"))
    wanted = {"a.md": f"{NOTICE}\na", "plots/a.svg": f"{NOTICE}\n<svg/>"}
    assert list(folder.update(wanted)) == ["a.md", "plots/a.svg"]
    for name in ("b.md", "plots/b.svg", "plots/b.md", "other/b.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(NOTICE)
    assert folder.find_stale(wanted) == {"b.md": "is stale", "plots/b.svg": "is stale"}
    folder.update(wanted)
    assert not (tmp_path / "b.md").exists()
    assert (tmp_path / "other" / "b.md").exists()


def test_a_file_written_by_hand_stays_and_nothing_else_is_written(tmp_path: Path) -> None:
    (tmp_path / "b.md").write_text("mine")
    folder = GeneratedFolder(tmp_path, NOTICE, ("*.md",))
    with pytest.raises(InvalidInput, match=r"b\.md was not generated and would be overwritten; move it, or choose"):
        folder.update({"a.md": NOTICE, "b.md": NOTICE})
    assert [path.name for path in tmp_path.iterdir()] == ["b.md"]
    (tmp_path / "b.md").unlink()
    os.mkfifo(tmp_path / "b.md")
    with pytest.raises(InvalidInput, match="is not a plain file"):
        folder.update({"b.md": NOTICE})


def test_text_that_is_not_utf8_and_bytes_are_written(tmp_path: Path) -> None:
    files = {"a.md": f"{NOTICE}\ud800", "deep/b.png": b"\x89PNG"}
    assert write_files(tmp_path, files, remedy="") == [tmp_path / "a.md", tmp_path / "deep" / "b.png"]
    assert (tmp_path / "a.md").read_text() == f"{NOTICE}\\ud800"
    assert (tmp_path / "deep" / "b.png").read_bytes() == b"\x89PNG"
    assert GeneratedFolder(tmp_path, NOTICE, ()).find_stale({"a.md": files["a.md"]}) == {}  # type: ignore[dict-item]
