"""Folders: what is given, else the environment, else the user's own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from sharpbench.files import cache_folder, data_folder

Folder = Callable[[Path | str | None], Path | None]
PLACES = [(data_folder, "SHARPBENCH_DATA"), (cache_folder, "SHARPBENCH_CACHE")]


@pytest.mark.parametrize(("folder", "variable"), PLACES)
def test_what_is_given_goes_before_the_environment(
    folder: Folder, variable: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(variable, str(tmp_path / "environment"))
    assert folder(tmp_path / "given") == tmp_path / "given"
    assert folder(str(tmp_path / "given")) == tmp_path / "given"
    assert folder(None) == tmp_path / "environment"
    assert not (tmp_path / "environment").exists()  # asking for a folder makes none


@pytest.mark.parametrize(("folder", "variable"), PLACES)
def test_the_home_folder_may_be_a_tilde(
    folder: Folder, variable: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv(variable, "~/there")
    assert folder(None) == tmp_path / "there"
    assert folder("~/here") == tmp_path / "here"


def test_without_either_there_is_no_data_and_the_users_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for unset in ("SHARPBENCH_DATA", "SHARPBENCH_CACHE"):
        monkeypatch.delenv(unset, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert data_folder(None) is None
    assert cache_folder(None) == tmp_path / "sharpbench"
    monkeypatch.setenv("SHARPBENCH_DATA", "")
    monkeypatch.setenv("SHARPBENCH_CACHE", "")
    assert data_folder(None) is None
    assert cache_folder(None) == tmp_path / "sharpbench"


def test_one_variable_is_not_the_other(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SHARPBENCH_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("SHARPBENCH_CACHE", str(tmp_path / "cache"))
    assert (data_folder(None), cache_folder(None)) == (tmp_path / "data", tmp_path / "cache")
